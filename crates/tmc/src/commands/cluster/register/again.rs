//! A cluster that is registered already: what a second registration changes, and what it refuses.

use anyhow::{Result, bail};
use serde_json::{Map, Value, json};
use tmc_apimachinery::meta::meta;

use super::{Syncer, word};
use crate::cli::Mode;
use crate::commands::member::{self, Member, NAMESPACE};
use crate::context::{Context, Objects, explain};

/// What is asked for of the syncer; none where nothing is said.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked<'a> {
    pub(super) mode: Option<Mode>,
    pub(super) image: Option<&'a str>,
}

/// Fails if a Cluster of this name is there whose syncer is another than what is asked for: that is
/// changed on its SyncTarget, not by registering again. Returns how the syncer is to be.
///
/// # Errors
/// Then with the command that changes it; also when the Cluster may not be read.
pub(super) async fn check<'a>(
    context: &Context,
    name: &str,
    asked: Asked<'a>,
) -> Result<Syncer<'a>> {
    let here = &context.workspace;
    match member::clusters(context).get(NAMESPACE, name).await {
        // The hub's answer to the registration itself is the one to tell.
        Err(error) if error.is_not_found() || error.code() == Some(403) => {}
        Err(error) => return Err(explain(error, here)),
        Ok(_) => {
            let found = member::find(context, &format!("cluster/{name}")).await?;
            if let Some(why) = difference(&found, asked) {
                let place = if context.workspaces {
                    format!(" in workspace {here}")
                } else {
                    String::new()
                };
                bail!("cluster {name} is registered already{place}, {why}");
            }
        }
    }
    Ok(Syncer {
        mode: asked.mode.unwrap_or_default(),
        image: asked.image,
    })
}

/// In what the syncer of a registered cluster differs from what is asked for, and the command that
/// changes it.
fn difference(found: &Member, asked: Asked<'_>) -> Option<String> {
    // What a Cluster's template says counts until there is a SyncTarget.
    let config = match (&found.target, &found.cluster) {
        (Some(target), _) => &target["spec"]["syncerConfig"],
        (None, Some(cluster)) => &cluster["spec"]["syncTargetTemplate"]["syncerConfig"],
        (None, None) => return None,
    };
    let wanted = [("mode", asked.mode.map(word)), ("image", asked.image)];
    let wanted = wanted.map(|(field, value)| Some((field, value?)));
    let other: Map<String, Value> = wanted
        .into_iter()
        .flatten()
        .filter(|(field, value)| config[*field] != **value)
        .map(|(field, value)| (field.to_owned(), value.into()))
        .collect();
    let field = ["mode", "image"]
        .into_iter()
        .find(|field| other.contains_key(*field))?;
    let said = match config[field].as_str() {
        Some(now) => format!("with the syncer's {field} {now}"),
        None => format!("with the hub's own {field} of syncers"),
    };
    let Some(target) = &found.target else {
        return Some(format!("{said}, and has no SyncTarget yet to change it on"));
    };
    let patch = json!({"spec": {"syncerConfig": other}});
    Some(format!(
        "{said}; to change it: kubectl patch synctarget {} --type=merge -p '{patch}'",
        meta(target).name()
    ))
}

/// Gives what is registered already the labels that are asked for now, that of a Location among
/// them; others stay. The labels are those of the section `metadata` or `spec`.
///
/// # Errors
/// When the hub refuses them.
pub(super) async fn relabel(
    client: &Objects,
    context: &Context,
    object: Value,
    labels: &Value,
    section: &str,
) -> Result<Value> {
    let new = news(&object[section]["labels"], labels);
    if new.is_empty() {
        return Ok(object);
    }
    let patch = json!({section: {"labels": new}});
    let (namespace, name) = (meta(&object).namespace(), meta(&object).name());
    client
        .merge(namespace, name, &patch)
        .await
        .map_err(|e| explain(e, &context.workspace))
}

/// Those of the labels that are not there with the same value.
fn news(old: &Value, wanted: &Value) -> Map<String, Value> {
    let wanted = wanted.as_object().into_iter().flatten();
    wanted
        .filter(|(key, value)| old[key.as_str()] != **value)
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registered(config: Value) -> Member {
        Member {
            cluster: Some(json!({"metadata": {"name": "east"}})),
            target: Some(json!({"metadata": {"name": "east-1"}, "spec": {"syncerConfig": config}})),
        }
    }

    fn asked(mode: Option<Mode>, image: Option<&str>) -> Asked<'_> {
        Asked { mode, image }
    }

    #[test]
    fn another_mode_of_what_is_registered_is_named_with_the_command_that_changes_it() {
        let hosted = registered(json!({"mode": "Hosted"}));
        assert_eq!(difference(&hosted, asked(None, None)), None);
        assert_eq!(difference(&hosted, asked(Some(Mode::Hosted), None)), None);
        let deployed = difference(&hosted, asked(Some(Mode::Deployment), Some("r/tmc:1")));
        assert_eq!(
            deployed.expect("another"),
            "with the syncer's mode Hosted; to change it: kubectl patch synctarget east-1 --type=merge -p \
             '{\"spec\":{\"syncerConfig\":{\"image\":\"r/tmc:1\",\"mode\":\"Deployment\"}}}'"
        );
    }

    #[test]
    fn another_image_is_another_syncer_too() {
        let mode = Some(Mode::Deployment);
        let found = registered(json!({"mode": "Deployment", "image": "r/tmc:1"}));
        assert_eq!(difference(&found, asked(mode, Some("r/tmc:1"))), None);
        let other = difference(&found, asked(mode, Some("r/tmc:2"))).expect("another");
        assert!(
            other.starts_with("with the syncer's image r/tmc:1; "),
            "{other}"
        );
        assert!(
            other.ends_with(r#"'{"spec":{"syncerConfig":{"image":"r/tmc:2"}}}'"#),
            "{other}"
        );
        let none = registered(json!({"mode": "Deployment"}));
        let other = difference(&none, asked(mode, Some("r/tmc:2"))).expect("another");
        assert!(other.starts_with("with the hub's own image"), "{other}");
    }

    #[test]
    fn what_a_cluster_without_a_target_will_be_is_in_its_template() {
        let template = json!({"syncTargetTemplate": {"syncerConfig": {"mode": "Hosted"}}});
        let found = Member {
            cluster: Some(json!({"metadata": {"name": "east"}, "spec": template})),
            target: None,
        };
        assert_eq!(difference(&found, asked(Some(Mode::Hosted), None)), None);
        let other = difference(&found, asked(Some(Mode::Deployment), None));
        assert!(other.expect("another").contains("no SyncTarget yet"));
    }

    #[test]
    fn labels_that_are_there_are_not_written_again_and_others_stay() {
        let old = json!({"zone": "eu", "tier": "gold"});
        let wanted = json!({"zone": "us", "tier": "gold"});
        assert_eq!(Value::Object(news(&old, &wanted)), json!({"zone": "us"}));
        assert_eq!(news(&Value::Null, &json!({})), Map::new());
        assert_eq!(news(&Value::Null, &json!({"a": "b"})).len(), 1);
    }
}
