//! The CustomResourceDefinitions of our kinds on a Kubernetes API server.

use anyhow::{Result, anyhow, bail};
use serde_json::Value;
use tmc_api::{scheduling, workload};
use tmc_apimachinery::meta::meta;
use tmc_apimachinery::{ClusterName, GroupVersionResource};
use tmc_runtime::{Error, Hub, ResourceClient};

use super::discovery::serves;
use crate::context::wait_for;

/// Who owns the definitions, in server-side apply.
const MANAGER: &str = "tmc-controllers";
/// How long a definition may take to be established, in seconds.
const PATIENCE: u64 = 60;
/// Tries of one apply that meets another replica's.
const TRIES: usize = 5;

/// Those that mean something on a hub that is one workspace.
fn definitions() -> impl Iterator<Item = Value> {
    let here = [workload::GROUP, scheduling::GROUP];
    tmc_api::crd::crds()
        .into_iter()
        .filter(move |crd| here.iter().any(|group| crd["spec"]["group"] == *group))
}

fn resource_of(crd: &Value) -> GroupVersionResource {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let spec = &crd["spec"];
    let versions = spec["versions"].as_array().into_iter().flatten();
    let version = versions.map(|version| text(&version["name"])).next();
    GroupVersionResource::new(
        &text(&spec["group"]),
        &version.unwrap_or_default(),
        &text(&spec["names"]["plural"]),
    )
}

fn client(hub: &Hub) -> ResourceClient {
    let gvr = GroupVersionResource::new("apiextensions.k8s.io", "v1", "customresourcedefinitions");
    ResourceClient::new(hub.cluster(&ClusterName::new(ClusterName::ROOT)), gvr)
}

/// Applies the definitions (those of an older version of this program are changed in place, equal
/// ones are left alone) and waits until the hub serves them.
///
/// # Errors
/// Naming the definition that the hub refuses or does not establish.
pub async fn install(hub: &Hub) -> Result<()> {
    let client = client(hub);
    for crd in definitions() {
        let name = meta(&crd).name();
        apply(&client, &crd)
            .await
            .map_err(|error| anyhow!("the hub does not take the definition {name}: {error}"))?;
    }
    for crd in definitions() {
        let name = meta(&crd).name();
        wait_for(PATIENCE, || async {
            Ok(established(&client.get("", name).await?))
        })
        .await
        .map_err(|error| anyhow!("{name}: {error:#}"))?;
    }
    wait_for(PATIENCE, || async { missing(hub).await.map(served) }).await
}

async fn apply(client: &ResourceClient, crd: &Value) -> Result<(), Error> {
    for attempt in 1.. {
        match client.apply("", meta(crd).name(), MANAGER, crd).await {
            Err(error) if error.is_conflict() && attempt < TRIES => {}
            Err(error) => return Err(error),
            Ok(_) => break,
        }
    }
    Ok(())
}

fn established(crd: &Value) -> Result<(), String> {
    let conditions = crd.pointer("/status/conditions").and_then(Value::as_array);
    let is_true = |kind: &str| {
        conditions.is_some_and(|list| {
            list.iter()
                .any(|c| c["type"] == kind && c["status"] == "True")
        })
    };
    if is_true("Established") && is_true("NamesAccepted") {
        return Ok(());
    }
    let messages = conditions
        .into_iter()
        .flatten()
        .filter(|c| c["status"] == "False");
    let why: Vec<&str> = messages.filter_map(|c| c["message"].as_str()).collect();
    Err(format!("it is not established: {}", why.join("; ")))
}

async fn missing(hub: &Hub) -> Result<Vec<String>> {
    let root = hub.cluster(&ClusterName::new(ClusterName::ROOT));
    let mut missing = Vec::new();
    for crd in definitions() {
        if !serves(&root, &resource_of(&crd)).await? {
            missing.push(meta(&crd).name().to_owned());
        }
    }
    Ok(missing)
}

fn served(missing: Vec<String>) -> Result<(), String> {
    if missing.is_empty() {
        Ok(())
    } else {
        Err(format!("the hub does not serve {}", missing.join(", ")))
    }
}

/// Checks that the hub serves our kinds.
///
/// # Errors
/// Naming those it does not, and the remedy.
pub async fn check(hub: &Hub) -> Result<()> {
    match served(missing(hub).await?) {
        Ok(()) => Ok(()),
        Err(why) => bail!("{why}: run once with --install-crds"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_hub_of_one_workspace_gets_the_kinds_of_clusters_and_placement() {
        let names: Vec<String> = definitions()
            .map(|crd| resource_of(&crd).resource)
            .collect();
        for kind in ["synctargets", "clusters", "locations", "placements"] {
            assert!(names.iter().any(|name| name == kind), "{kind} of {names:?}");
        }
        assert!(!names.iter().any(|name| name == "workspaces"));
    }

    #[test]
    fn what_is_not_established_says_why() {
        let condition = |kind: &str, status: &str, why: &str| json!({"type": kind, "status": status, "message": why});
        let crd = |list: Value| json!({"status": {"conditions": list}});
        let good = crd(json!([
            condition("Established", "True", ""),
            condition("NamesAccepted", "True", "")
        ]));
        assert_eq!(established(&good), Ok(()));
        let taken = crd(json!([condition(
            "NamesAccepted",
            "False",
            "\"Cluster\" is in use"
        )]));
        assert!(
            established(&taken)
                .unwrap_err()
                .contains("\"Cluster\" is in use")
        );
        assert!(established(&json!({})).is_err());
    }
}
