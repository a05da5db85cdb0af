//! The Locations that a registered target is part of.

use anyhow::Result;
use serde_json::{Value, json};
use tmc_api::keys::SKIP_DEFAULT_OBJECTS_ANNOTATION;
use tmc_api::scheduling::Location;
use tmc_apimachinery::meta::meta;
use tmc_runtime::client::ListParams;

use super::Talk;
use crate::commands::member::{SCHEDULING, WORKLOAD};
use crate::context::{Context, ensure, explain, wait_for};
use crate::output;

/// Makes a Location unless it is there.
pub(super) async fn ensure_location(context: &Context, name: &str) -> Result<()> {
    let location = json!({
        "apiVersion": format!("{SCHEDULING}/v1alpha1"), "kind": "Location",
        "metadata": {"name": name, "labels": {"location": name}},
        "spec": {
            "resource": {"group": WORKLOAD, "version": "v1alpha1", "resource": "synctargets"},
            "instanceSelector": {"matchLabels": {"location": name}},
        },
    });
    let locations = context.resource(SCHEDULING, "v1alpha1", "locations");
    ensure(&locations, "", &location)
        .await
        .map_err(|e| explain(e, &context.workspace))?;
    Ok(())
}

/// The Location that was asked for, else those that select the target; says which, or that there
/// is none.
pub(super) async fn told_locations(
    context: &Context,
    asked: Option<&str>,
    target: &Value,
    talk: Talk,
) -> Result<Vec<Value>> {
    let found = wait_for(30, || async {
        let all = locations(context).await?;
        let made = all.is_empty() && !skips_default(context).await;
        Ok(around(all, asked, target, made))
    })
    .await?;
    for location in &found.selecting {
        talk.step(format!("Location {}", meta(location).name()));
    }
    if found.selecting.is_empty() {
        talk.step(unselected(meta(target).name(), &found.others));
    }
    Ok(found.selecting)
}

/// The Locations of the workspace.
async fn locations(context: &Context) -> Result<Vec<Value>> {
    let found = context
        .resource(SCHEDULING, "v1alpha1", "locations")
        .list("", &ListParams::default())
        .await
        .map_err(|e| explain(e, &context.workspace))?;
    Ok(output::list(&found, "/items").to_vec())
}

/// Whether the workspace is one for which the hub makes no Location.
async fn skips_default(context: &Context) -> bool {
    let own = context.resource("core.kcp.io", "v1alpha1", "logicalclusters");
    let object = own.get("", "cluster").await.unwrap_or_default();
    meta(&object)
        .annotation(SKIP_DEFAULT_OBJECTS_ANNOTATION)
        .is_some()
}

/// The Locations of a workspace as a target sees them.
#[derive(Debug, PartialEq)]
struct Around {
    /// It is part of these.
    selecting: Vec<Value>,
    /// Names of the others.
    others: Vec<String>,
}

/// Which Locations a target is part of; why not known yet. The hub makes a first one only where
/// there is none (`made`).
fn around(
    all: Vec<Value>,
    asked: Option<&str>,
    target: &Value,
    made: bool,
) -> Result<Around, String> {
    let labels = meta(target).labels();
    let selects = |location: &Value| match asked {
        Some(name) => meta(location).name() == name,
        None => serde_json::from_value::<Location>(location.clone())
            .is_ok_and(|typed| typed.spec.selects(&labels).unwrap_or(false)),
    };
    let (selecting, others): (Vec<_>, Vec<_>) = all.into_iter().partition(selects);
    match asked {
        Some(name) if selecting.is_empty() => Err(format!("there is no Location {name} yet")),
        None if made => Err("there is no Location default yet".to_owned()),
        _ => Ok(Around {
            selecting,
            others: others.iter().map(|l| meta(l).name().to_owned()).collect(),
        }),
    }
}

/// That a target is part of no Location, and the remedy.
fn unselected(target: &str, others: &[String]) -> String {
    let there = if others.is_empty() {
        "there is none yet".to_owned()
    } else {
        format!("there are: {}", others.join(", "))
    };
    format!(
        "no Location selects SyncTarget {target}, so nothing is placed on it: register it again \
         with --location NAME ({there})"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn location(name: &str, selector: Value) -> Value {
        json!({"apiVersion": "scheduling.kcp.io/v1alpha1", "kind": "Location",
        "metadata": {"name": name}, "spec": {
            "resource": {"group": WORKLOAD, "version": "v1alpha1", "resource": "synctargets"},
            "instanceSelector": selector,
        }})
    }

    #[test]
    fn a_target_is_part_of_the_locations_that_select_it_whatever_their_names() {
        let eu = location("eu", json!({"matchLabels": {"zone": "eu"}}));
        let us = location("us", json!({"matchLabels": {"zone": "us"}}));
        let target = json!({"metadata": {"name": "east", "labels": {"zone": "eu"}}});
        let found = around(vec![eu.clone(), us.clone()], None, &target, false).expect("known");
        assert_eq!(found.selecting, std::slice::from_ref(&eu));
        assert_eq!(found.others, ["us"]);
        let asked = around(vec![eu, us.clone()], Some("us"), &target, false).expect("known");
        assert_eq!(asked.selecting, [us]);
    }

    #[test]
    fn a_target_that_no_location_selects_is_told_so_at_once_with_the_names() {
        let target = json!({"metadata": {"name": "east"}});
        let us = location("us", json!({"matchLabels": {"zone": "us"}}));
        let found = around(vec![us], None, &target, false).expect("known");
        assert!(found.selecting.is_empty());
        let said = unselected("east", &found.others);
        assert!(said.contains("--location NAME (there are: us)"), "{said}");
    }

    #[test]
    fn only_where_there_is_no_location_the_default_is_waited_for() {
        let target = json!({"metadata": {"name": "east"}});
        let waits = around(Vec::new(), None, &target, true).expect_err("not yet");
        assert!(waits.contains("default"), "{waits}");
        around(Vec::new(), None, &target, false).expect("the workspace does without");
        around(Vec::new(), Some("eu"), &target, false).expect_err("asked for");
    }
}
