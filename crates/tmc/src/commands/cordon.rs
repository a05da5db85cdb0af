//! `tmc cordon`, `tmc uncordon`, `tmc drain`

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use jiff::Timestamp;
use serde_json::{Value, json};
use tmc_api::keys::{FORCE_DRAIN_ANNOTATION, deletion_annotation, state_label};
use tmc_api::scheduling::{Placement, condition};
use tmc_api::time::Time;
use tmc_apimachinery::meta::meta;
use tmc_runtime::client::ListParams;

use super::decision;
use super::member::{self, SCHEDULING};
use crate::cli::{DrainArgs, Global, MemberArgs};
use crate::context::{Context, Paths, explain};
use crate::output::{self, list, text};

/// What is wanted of a SyncTarget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    Cordon,
    Uncordon,
    Drain { force: bool },
}

impl Wish {
    fn done(self) -> &'static str {
        match self {
            Self::Cordon => "cordoned",
            Self::Uncordon => "uncordoned",
            Self::Drain { .. } => "draining",
        }
    }
}

/// The merge patch that makes a wish come true; none if it has already.
///
/// Cordoning moves nothing: only `evictAfter` does. Forcing means to wait for nothing and not to
/// spare the last copy; uncordoning takes all of it back.
fn patch(target: &Value, wish: Wish, now: Timestamp) -> Option<Value> {
    let spec = &target["spec"];
    let cordoned = spec["unschedulable"] == true;
    let draining = output::time(target, "/spec/evictAfter").is_some_and(|at| at <= now);
    let mark = meta(target).annotation(FORCE_DRAIN_ANNOTATION);
    let forced = mark == Some("true");
    let annotated = |value: Value| json!({"annotations": {FORCE_DRAIN_ANNOTATION: value}});
    Some(match wish {
        Wish::Cordon if !cordoned => json!({"spec": {"unschedulable": true}}),
        Wish::Uncordon if cordoned || !spec["evictAfter"].is_null() || mark.is_some() => {
            let mut patch = json!({"spec": {"unschedulable": false, "evictAfter": null}});
            if mark.is_some() {
                patch["metadata"] = annotated(Value::Null);
            }
            patch
        }
        Wish::Drain { force } if !cordoned || !draining || (force && !forced) => {
            let mut patch = json!({"spec": {"unschedulable": true}});
            if !draining {
                patch["spec"]["evictAfter"] = Time::new(now).to_string().into();
            }
            if force {
                patch["metadata"] = annotated("true".into());
            }
            patch
        }
        _ => return None,
    })
}

/// Places nothing new on a target.
///
/// # Errors
/// A sentence for the person who typed it.
pub async fn cordon(global: &Global, args: &MemberArgs) -> Result<String> {
    let context = Context::load(global)?;
    let (target, sentence) = apply(&context, &args.name, Wish::Cordon).await?;
    output::outcome(global.format(), &target, sentence)
}

/// Places workload on a target again.
///
/// # Errors
/// A sentence for the person who typed it.
pub async fn uncordon(global: &Global, args: &MemberArgs) -> Result<String> {
    let context = Context::load(global)?;
    let (target, sentence) = apply(&context, &args.name, Wish::Uncordon).await?;
    output::outcome(global.format(), &target, sentence)
}

/// Moves everything off a target and waits until nothing is left.
///
/// # Errors
/// When something is still there in the end: then what, and what holds it.
pub async fn drain(global: &Global, args: &DrainArgs) -> Result<String> {
    let context = Context::load(global)?;
    let wish = Wish::Drain { force: args.force };
    let (target, sentence) = apply(&context, &args.name, wish).await?;
    let name = meta(&target).name().to_owned();
    if args.timeout == 0 {
        return output::outcome(global.format(), &target, sentence);
    }
    output::step("drain", sentence);
    let Some(key) = meta(&target).label(tmc_api::keys::SYNC_TARGET_KEY_LABEL) else {
        bail!("the hub has not looked at {name} yet; run this again in a moment");
    };
    wait_until_empty(&context, key, args).await?;
    output::outcome(global.format(), &target, format!("{name} drained"))
}

/// Makes a wish come true; the SyncTarget then, and what happened in words.
async fn apply(context: &Context, typed: &str, wish: Wish) -> Result<(Value, String)> {
    let member = member::find(context, typed).await?;
    let target = member.target(context)?.clone();
    let name = meta(&target).name().to_owned();
    if meta(&target).is_being_deleted() && wish == Wish::Uncordon {
        bail!("{name} is being removed: it cannot be uncordoned any more");
    }
    let Some(patch) = patch(&target, wish, Timestamp::now()) else {
        return Ok((target, format!("{name} already {}", wish.done())));
    };
    let changed = member::targets(context)
        .merge("", &name, &patch)
        .await
        .map_err(|e| explain(e, &context.workspace))?;
    Ok((changed, format!("{name} {}", wish.done())))
}

/// A namespace whose objects a target still has.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Left {
    /// `workspace/namespace`.
    place: String,
    /// Why it is still there.
    why: String,
    /// Whether it is on its way out.
    leaving: bool,
    /// Whether it stays as things are: nothing that is waited for will change it.
    held: bool,
}

/// What is left on a target, from the namespaces that carry its label and the Placements that
/// picked it, all of the workspaces that may be seen.
fn left(namespaces: &[Value], placements: &[Value], key: &str) -> Vec<Left> {
    let marked = namespaces
        .iter()
        .filter(|namespace| meta(namespace).label(&state_label(key)).is_some());
    let mut all: Vec<Left> = marked
        .map(|namespace| {
            let meta = meta(namespace);
            let leaving = meta.annotation(&deletion_annotation(key));
            let (held, why) = match leaving {
                Some(_) => (
                    false,
                    "waits for the syncer to remove its copies".to_owned(),
                ),
                None => held_by(namespace, placements, key),
            };
            Left {
                place: format!("{}/{}", workspace_of(namespace), meta.name()),
                why,
                leaving: leaving.is_some(),
                held,
            }
        })
        .collect();
    all.sort();
    all
}

/// The workspace of an object as far as it tells: its path, else its logical cluster.
fn workspace_of(object: &Value) -> &str {
    let meta = meta(object);
    meta.annotation(tmc_api::keys::PATH_ANNOTATION)
        .unwrap_or_else(|| meta.cluster())
}

/// Which Placement keeps a namespace on a target, whether for good, and what it says.
fn held_by(namespace: &Value, placements: &[Value], key: &str) -> (bool, String) {
    let labels: BTreeMap<String, String> = meta(namespace).labels();
    let holds = |object: &&Value| {
        let same = meta(object).cluster() == meta(namespace).cluster();
        let picked = list(object, "/status/syncTargets");
        let selects = || {
            serde_json::from_value::<Placement>((*object).clone())
                .is_ok_and(|p| p.spec.selects_namespace(&labels).unwrap_or(false))
        };
        same && picked.iter().any(|target| target["key"] == key) && selects()
    };
    let Some(placement) = placements.iter().find(holds) else {
        return (
            false,
            "its Placement has let go of it; the hub is about to say so".to_owned(),
        );
    };
    let name = meta(placement).name();
    if let Some(leaving) = decision::leaving(placement, key).filter(|l| !l.held.is_empty()) {
        return (
            leaving.for_good,
            format!("kept by placement {name}: {}", leaving.held),
        );
    }
    let scheduled = output::find_condition(placement, condition::SCHEDULED);
    match scheduled.map_or("", |c| text(c, "/message")) {
        "" => (false, format!("placement {name} has it there still")),
        said => (
            false,
            format!("placement {name} has it there still: {said}"),
        ),
    }
}

/// Lists everywhere, or in the workspace alone where no more may be seen.
async fn everywhere(
    context: &Context,
    resource: (&str, &str, &str),
    labels: &str,
) -> Result<(Vec<Value>, bool)> {
    let (group, version, plural) = resource;
    let params = ListParams {
        labels: labels.to_owned(),
        ..ListParams::default()
    };
    let all = context.objects_in("*", group, version, plural);
    match all.list("", &params).await {
        Ok(found) => Ok((list(&found, "/items").to_vec(), true)),
        Err(error) if matches!(error.code(), Some(403 | 404)) => {
            let here = context.objects(group, version, plural);
            let found = here.list("", &params).await;
            let found = found.map_err(|e| explain(e, &context.workspace))?;
            Ok((list(&found, "/items").to_vec(), false))
        }
        Err(error) => Err(explain(error, "*")),
    }
}

async fn look(context: &Context, paths: &Paths, key: &str) -> Result<(Vec<Left>, bool)> {
    let label = state_label(key);
    let (mut namespaces, all) = everywhere(context, ("", "v1", "namespaces"), &label).await?;
    if namespaces.is_empty() {
        return Ok((Vec::new(), all));
    }
    let resource = (SCHEDULING, "v1alpha1", "placements");
    let (placements, _) = everywhere(context, resource, "").await?;
    paths.note(&mut namespaces);
    Ok((left(&namespaces, &placements, key), all))
}

/// How long it is waited for what is held to be let go: another cluster may be on its way.
const HOLD_PATIENCE: std::time::Duration = std::time::Duration::from_secs(10);
/// How often it is looked at.
const LOOK_EVERY: std::time::Duration = std::time::Duration::from_millis(250);

async fn wait_until_empty(context: &Context, key: &str, args: &DrainArgs) -> Result<()> {
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(args.timeout);
    let (mut said, mut since) = (Vec::new(), tokio::time::Instant::now());
    let paths = Paths::read(context).await;
    let mut warned = false;
    loop {
        let (left, all) = look(context, &paths, key).await?;
        if !all && !warned {
            warned = true;
            let here = &context.workspace;
            output::step(
                "drain",
                format!(
                    "you may see workspace {here} only: what others have there is not waited for"
                ),
            );
        }
        if left.is_empty() {
            return Ok(());
        }
        let stays =
            left.iter().all(|one| one.held) && left == said && since.elapsed() >= HOLD_PATIENCE;
        if stays || tokio::time::Instant::now() >= deadline {
            bail!(still_there(&left, args, &context.flag()));
        }
        if left != said {
            for one in &left {
                output::step("drain", format!("{}: {}", one.place, one.why));
            }
            (said, since) = (left, tokio::time::Instant::now());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// The error when time is up; `flag` leads to the cluster's workspace.
fn still_there(left: &[Left], args: &DrainArgs, flag: &str) -> String {
    let mut text = format!(
        "workload of {} is still on {}; it stays cordoned and goes on draining:",
        if left.len() == 1 {
            "1 namespace".to_owned()
        } else {
            format!("{} namespaces", left.len())
        },
        args.name
    );
    for one in left {
        text.push_str(&format!("\n  {}: {}", one.place, one.why));
    }
    text.push_str(match (left.iter().all(|one| one.leaving), args.force) {
        (true, _) => "\nlook whether its syncer works: tmc doctor",
        (false, false) => {
            "\nregister or uncordon another cluster of the Location, or let what no other can take \
             stop: --force"
        }
        (false, true) => "\nsee what the Placements say: tmc get placements",
    });
    text.push_str(&format!(
        "\nto stop draining: tmc {flag}uncordon {}",
        args.name
    ));
    text
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const NOW: &str = "2030-01-01T00:00:00Z";

    fn now() -> Timestamp {
        NOW.parse().expect("a time")
    }

    #[rstest]
    #[case::fresh(json!({"spec": {}}), Wish::Cordon, Some(json!({"spec": {"unschedulable": true}})))]
    #[case::again(json!({"spec": {"unschedulable": true}}), Wish::Cordon, None)]
    #[case::nothing_to_undo(json!({"spec": {}}), Wish::Uncordon, None)]
    #[case::cordoned(json!({"spec": {"unschedulable": true}}), Wish::Uncordon,
        Some(json!({"spec": {"unschedulable": false, "evictAfter": null}})))]
    #[case::drained_by_force(
        json!({"metadata": {"annotations": {"tmc.kcp.io/force-drain": "true"}},
            "spec": {"unschedulable": true, "evictAfter": NOW}}),
        Wish::Uncordon,
        Some(json!({"metadata": {"annotations": {"tmc.kcp.io/force-drain": null}},
            "spec": {"unschedulable": false, "evictAfter": null}})))]
    #[case::drain(json!({"spec": {}}), Wish::Drain { force: false },
        Some(json!({"spec": {"unschedulable": true, "evictAfter": NOW}})))]
    #[case::drain_of_cordoned(json!({"spec": {"unschedulable": true}}), Wish::Drain { force: false },
        Some(json!({"spec": {"unschedulable": true, "evictAfter": NOW}})))]
    #[case::draining(json!({"spec": {"unschedulable": true, "evictAfter": "2029-12-31T00:00:00Z"}}),
        Wish::Drain { force: false }, None)]
    #[case::planned_for_later(json!({"spec": {"unschedulable": true, "evictAfter": "2030-01-02T00:00:00Z"}}),
        Wish::Drain { force: false }, Some(json!({"spec": {"unschedulable": true, "evictAfter": NOW}})))]
    #[case::now_by_force(json!({"spec": {"unschedulable": true, "evictAfter": NOW}}), Wish::Drain { force: true },
        Some(json!({"metadata": {"annotations": {"tmc.kcp.io/force-drain": "true"}}, "spec": {"unschedulable": true}})))]
    fn a_wish_becomes_a_patch_once(
        #[case] mut target: Value,
        #[case] wish: Wish,
        #[case] expected: Option<Value>,
    ) {
        let made = patch(&target, wish, now());
        assert_eq!(made, expected);
        if let Some(made) = made {
            json_merge(&mut target, &made);
            assert_eq!(patch(&target, wish, now()), None, "a second time: {target}");
        }
    }

    fn json_merge(target: &mut Value, patch: &Value) {
        let Some(members) = patch.as_object() else {
            *target = patch.clone();
            return;
        };
        for (key, value) in members {
            if value.is_null() {
                target.as_object_mut().expect("an object").remove(key);
            } else {
                json_merge(&mut target[key], value);
            }
        }
    }

    fn namespace(name: &str, annotations: Value) -> Value {
        let mut all = json!({"kcp.io/cluster": "c1", "kcp.io/path": "root:shop"});
        json_merge(&mut all, &annotations);
        json!({"metadata": {"name": name, "labels": {"state.workload.kcp.io/K": "Sync"},
            "annotations": all}})
    }

    fn placement(cluster: &str, key: &str, held: Value) -> Value {
        json!({
            "apiVersion": "scheduling.kcp.io/v1alpha1", "kind": "Placement",
            "metadata": {"name": "p", "annotations": {"kcp.io/cluster": cluster}},
            "spec": {"namespaceSelector": {}},
            "status": {"phase": "Bound",
                "conditions": [{"type": "Scheduled", "status": "True", "message": "east: best of 2"}],
                "decisions": [{"key": key, "leaving": {"reason": "Draining", "held": held}}],
                "syncTargets": [{"key": key, "cluster": "r", "name": "east", "uid": "u"}]},
        })
    }

    #[test]
    fn what_is_left_says_where_it_is_and_what_holds_it() {
        let time = "2030-01-01T00:00:00Z";
        let leaving = namespace("a", json!({"deletion.internal.workload.kcp.io/K": time}));
        let kept = namespace("b", json!({}));
        let mut elsewhere = namespace("c", json!({}));
        elsewhere["metadata"]["labels"] = json!({"state.workload.kcp.io/OTHER": "Sync"});
        let placements = [
            placement("c2", "K", Value::Null),
            placement("c1", "OTHER", Value::Null),
            placement("c1", "K", "NoReplacement".into()),
        ];
        let found = left(&[kept, leaving, elsewhere], &placements, "K");
        let shown: Vec<String> = found
            .iter()
            .map(|l| format!("{}: {}", l.place, l.why))
            .collect();
        assert_eq!(
            shown,
            [
                "root:shop/a: waits for the syncer to remove its copies",
                "root:shop/b: kept by placement p: no other cluster is fit to take over",
            ]
        );
        assert_eq!((found[0].held, found[1].held), (false, true));
    }

    #[rstest]
    #[case(json!("NoReplacement"), true, "no other cluster is fit")]
    #[case(json!("PartitionGuard"), true, "lost at once")]
    #[case(json!("RateLimited"), false, "waits for its turn")]
    #[case(Value::Null, false, "east: best of 2")]
    fn what_holds_a_namespace_is_what_its_placement_says(
        #[case] held: Value,
        #[case] for_good: bool,
        #[case] says: &str,
    ) {
        let placements = [placement("c1", "K", held)];
        let found = left(&[namespace("b", json!({}))], &placements, "K").remove(0);
        assert_eq!(found.held, for_good);
        assert!(found.why.contains(says), "{}", found.why);
    }

    #[test]
    fn a_placement_that_let_go_is_not_blamed() {
        let found = left(&[namespace("b", json!({}))], &[], "K").remove(0);
        assert!(
            found.why.contains("has let go") && !found.held,
            "{}",
            found.why
        );
    }

    #[test]
    fn the_error_names_the_remedy_that_is_left() {
        let one = |leaving| Left {
            place: "root:a/b".into(),
            why: "w".into(),
            leaving,
            held: false,
        };
        let args = |force| DrainArgs {
            name: "east".into(),
            force,
            timeout: 9,
        };
        let said = |leaving, force| still_there(&[one(leaving)], &args(force), "--workspace w ");
        let text = said(false, false);
        assert!(
            text.starts_with("workload of 1 namespace is still on east"),
            "{text}"
        );
        assert!(text.contains("stop: --force\n"), "{text}");
        assert!(said(false, true).contains("tmc get placements\n"));
        assert!(said(true, false).contains("tmc doctor\n"));
        for text in [text, said(false, true), said(true, false)] {
            let undo = "\nto stop draining: tmc --workspace w uncordon east";
            assert!(text.ends_with(undo), "{text}");
        }
    }
}
