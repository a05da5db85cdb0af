//! `tmc cluster unregister`

use std::time::Duration;

use anyhow::{Result, bail};
use serde_json::{Value, json};
use tmc_apimachinery::meta::meta;
use tmc_runtime::client::DeleteParams;

use crate::cli::UnregisterArgs;
use crate::commands::member::{self, Member};
use crate::context::{Context, Objects, explain};
use crate::output::{self, list, text};

/// How often it is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Removes a registered cluster and waits until it is gone.
///
/// # Errors
/// When there is none of this name, it may not be removed, or something holds it in the end.
pub(super) async fn unregister(context: &Context, args: &UnregisterArgs) -> Result<String> {
    let member = member::find(context, &args.name).await?;
    let (client, object, kind) = root(context, &member)?;
    let (name, namespace) = (meta(object).name(), meta(object).namespace());
    let here = &context.workspace;
    if let Some(patch) = patch(object, args) {
        client
            .merge(namespace, name, &patch)
            .await
            .map_err(|e| explain(e, here))?;
    }
    let what = format!("{kind} {name}");
    if meta(object).is_being_deleted() {
        output::step("unregister", format!("{what} is being removed already"));
    } else {
        // Exactly this one: a new one of the same name is not ours to remove.
        let exactly = DeleteParams {
            uid: Some(meta(object).uid().to_owned()),
            ..DeleteParams::default()
        };
        match client.delete(namespace, name, &exactly).await {
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(explain(error, here)),
            Ok(()) => output::step("unregister", format!("{what}: removal requested")),
        }
    }
    output::step("unregister", promise(args));
    if args.timeout == 0 {
        return Ok(format!("{what} is being removed from {here}"));
    }
    wait(context, &client, object, &what, args).await?;
    Ok(format!(
        "{what} is unregistered from {here}{}",
        left_behind(&member, args)
    ))
}

/// What is deleted: the Cluster, which takes its SyncTarget along, or a SyncTarget without one.
fn root<'a>(context: &Context, member: &'a Member) -> Result<(Objects, &'a Value, &'static str)> {
    match (&member.cluster, &member.target) {
        (Some(cluster), _) => Ok((member::clusters(context), cluster, "cluster")),
        (None, Some(target)) => {
            let owner = text(target, "/spec/clusterRef/name");
            if !owner.is_empty() && !meta(target).is_being_deleted() {
                output::step(
                    "unregister",
                    format!(
                        "its Cluster {owner} is gone, or not yours to see; only the SyncTarget is removed"
                    ),
                );
            }
            Ok((member::targets(context), target, "synctarget"))
        }
        (None, None) => bail!("nothing is registered under this name"),
    }
}

/// The merge patch that says how to delete; none if the object says so already.
fn patch(object: &Value, args: &UnregisterArgs) -> Option<Value> {
    let said = |field: &str| object["spec"]["deletion"][field] == true;
    let mut deletion = json!({});
    for (field, wanted) in [
        ("force", args.force),
        ("keepWorkloads", args.keep_workloads),
    ] {
        // Nothing is taken back here: a removal that was forced once has already left things behind.
        if wanted && !said(field) {
            deletion[field] = true.into();
        }
    }
    let some = deletion
        .as_object()
        .is_some_and(|fields| !fields.is_empty());
    some.then(|| json!({"spec": {"deletion": deletion}}))
}

/// What is about to happen.
fn promise(args: &UnregisterArgs) -> &'static str {
    match (args.force, args.keep_workloads) {
        (false, false) => {
            "workload that another cluster can take moves, the rest stops; then its syncer goes, then \
             its credential"
        }
        (false, true) => "its workload goes on running there, no longer synced",
        (true, false) => {
            "forced: the hub forgets it now; if the cluster cannot be reached, its copies, its syncer \
             and its accounts stay behind there"
        }
        (true, true) => "forced: the hub forgets it now, and its workload goes on running there",
    }
}

/// What a forced removal may have left in the cluster, for whoever cleans up.
fn left_behind(member: &Member, args: &UnregisterArgs) -> String {
    let (Some(target), true) = (&member.target, args.force || args.keep_workloads) else {
        return String::new();
    };
    let key = meta(target)
        .label(tmc_api::keys::SYNC_TARGET_KEY_LABEL)
        .unwrap_or_default();
    format!(
        "\nwhat may be left in the cluster can be found there: \
         kubectl --kubeconfig <the cluster's> get namespaces -l {}={key}",
        tmc_api::keys::DOWNSTREAM_CLUSTER_LABEL
    )
}

async fn wait(
    context: &Context,
    client: &Objects,
    object: &Value,
    what: &str,
    args: &UnregisterArgs,
) -> Result<()> {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(args.timeout);
    let mut said = String::new();
    loop {
        let found = match client
            .get(meta(object).namespace(), meta(object).name())
            .await
        {
            Err(error) if error.is_not_found() => return Ok(()),
            Err(error) => return Err(explain(error, &context.workspace)),
            Ok(found) if meta(&found).uid() != meta(object).uid() => return Ok(()),
            Ok(found) => found,
        };
        let holds = holds(context, &found).await;
        if tokio::time::Instant::now() >= deadline {
            let remedy = if args.force {
                "the hub goes on; look at it: tmc doctor"
            } else {
                "the hub goes on; if the cluster is gone for good, run it again with --force"
            };
            bail!(
                "after {} s {what} is still there: {holds}\n{remedy}",
                args.timeout
            );
        }
        if holds != said {
            output::step("unregister", format!("waiting: {holds}"));
            said = holds;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// What holds a removal up, in words.
async fn holds(context: &Context, object: &Value) -> String {
    let target = text(object, "/status/syncTargetRef/name");
    if target.is_empty() {
        return why(object);
    }
    match member::targets(context).get("", target).await {
        Ok(target) => format!("SyncTarget {}: {}", meta(&target).name(), why(&target)),
        Err(_) => why(object),
    }
}

/// What an object that is being deleted says of it.
fn why(object: &Value) -> String {
    let condition = list(object, "/status/conditions")
        .iter()
        .find(|c| c["reason"] == "Terminating");
    let message = condition.map_or("", |c| text(c, "/message"));
    if !message.is_empty() {
        return message.to_owned();
    }
    match meta(object).finalizers().as_slice() {
        [] => "waits for the hub".to_owned(),
        finalizers => format!("waits for {}", finalizers.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(force: bool, keep_workloads: bool) -> UnregisterArgs {
        UnregisterArgs {
            name: "east".into(),
            force,
            keep_workloads,
            timeout: 9,
        }
    }

    #[test]
    fn how_to_delete_is_said_before_and_only_once() {
        let fresh = json!({"spec": {}});
        assert_eq!(patch(&fresh, &args(false, false)), None);
        let forced = json!({"spec": {"deletion": {"force": true}}});
        assert_eq!(patch(&fresh, &args(true, false)), Some(forced.clone()));
        assert_eq!(patch(&forced, &args(true, false)), None);
        assert_eq!(
            patch(&forced, &args(false, false)),
            None,
            "nothing is taken back"
        );
        let both = patch(&fresh, &args(true, true));
        assert_eq!(
            both,
            Some(json!({"spec": {"deletion": {"force": true, "keepWorkloads": true}}}))
        );
    }

    #[test]
    fn what_holds_a_removal_is_its_message_else_its_finalizers() {
        let object = json!({"metadata": {"finalizers": ["a/b"]}, "status": {"conditions": [
            {"type": "Ready", "reason": "Terminating", "message": "2 namespaces are left"}]}});
        assert_eq!(why(&object), "2 namespaces are left");
        assert_eq!(
            why(&json!({"metadata": {"finalizers": ["a/b"]}})),
            "waits for a/b"
        );
        assert_eq!(why(&json!({})), "waits for the hub");
    }

    #[test]
    fn a_forced_removal_says_where_to_look_for_what_is_left() {
        let target = json!({"metadata": {"labels": {"internal.workload.kcp.io/key": "K"}}});
        let member = Member {
            cluster: None,
            target: Some(target),
        };
        assert_eq!(left_behind(&member, &args(false, false)), "");
        let text = left_behind(&member, &args(true, false));
        assert!(
            text.ends_with("> get namespaces -l internal.workload.kcp.io/cluster=K"),
            "{text}"
        );
        assert!(
            text.contains("kubectl --kubeconfig <the cluster's> "),
            "{text}"
        );
        assert!(promise(&args(true, false)).contains("stay behind"));
        assert!(promise(&args(false, false)).contains("the rest stops"));
    }
}
