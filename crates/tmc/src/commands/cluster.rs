//! `tmc cluster …`

use anyhow::{Context as _, Result, anyhow, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tmc_apimachinery::meta::meta;
use tmc_runtime::client::{ListParams, PatchKind};

use crate::cli::{ClusterCommand, Format, Global, RegisterArgs};
use crate::context::{Context, ensure, explain, wait_for};
use crate::{kubeconfig, output};

const WORKLOAD: &str = "workload.kcp.io";
const SCHEDULING: &str = "scheduling.kcp.io";
/// Namespace of Clusters and their Secrets.
const NAMESPACE: &str = "default";
/// Type of the Secret that holds a member's kubeconfig: never shown in a view.
const SECRET_TYPE: &str = "tmc.kcp.io/kubeconfig";

/// Runs a cluster command.
///
/// # Errors
/// A sentence for the person who typed it.
pub async fn run(global: &Global, command: &ClusterCommand) -> Result<String> {
    let context = Context::load(global)?;
    match command {
        ClusterCommand::Register(args) => {
            if !args.raw {
                bail!(
                    "registering with an account of its own in the member comes next; until then \
                     use --raw, which uploads the kubeconfig as it is (inline credentials only)"
                );
            }
            let text = upload(args)?;
            let registration = Registration {
                name: &args.name,
                kubeconfig: &text,
                location: args.location.as_deref(),
                labels: labels(&args.labels)?,
            };
            register(&context, &registration).await
        }
        ClusterCommand::List => list(&context, global.output).await,
    }
}

/// The kubeconfig to upload: as it is, with `--context` made current.
fn upload(args: &RegisterArgs) -> Result<String> {
    let file = &args.member_kubeconfig;
    let Some(wanted) = &args.context else {
        return std::fs::read_to_string(file)
            .with_context(|| format!("cannot read --member-kubeconfig {}", file.display()));
    };
    let mut document = kubeconfig::read(file)?;
    if kubeconfig::context(&document, wanted).is_none() {
        bail!("--context {wanted}: {} has no such context", file.display());
    }
    document["current-context"] = wanted.as_str().into();
    serde_saphyr::to_string(&document).context("cannot be written as YAML")
}

fn labels(pairs: &[String]) -> Result<Value> {
    let mut labels = serde_json::Map::new();
    for pair in pairs.iter().filter(|pair| !pair.is_empty()) {
        let (key, value) = pair
            .split_once('=')
            .ok_or_else(|| anyhow!("--labels {pair}: write key=value"))?;
        labels.insert(key.to_owned(), value.into());
    }
    Ok(Value::Object(labels))
}

/// A cluster to register.
pub struct Registration<'a> {
    /// Name of the Cluster.
    pub name: &'a str,
    /// Its kubeconfig.
    pub kubeconfig: &'a str,
    /// Location to make it part of.
    pub location: Option<&'a str>,
    /// Labels of its SyncTarget.
    pub labels: Value,
}

/// Makes Secret, Cluster and Location; returns when SyncTarget and Location exist.
///
/// # Errors
/// When the hub refuses one of them, or the kubeconfig.
pub async fn register(context: &Context, registration: &Registration<'_>) -> Result<String> {
    let name = registration.name;
    let here = &context.workspace;
    let secret_name = format!("{name}-kubeconfig");
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "type": SECRET_TYPE,
        "metadata": {"name": secret_name, "namespace": NAMESPACE},
        "data": {"kubeconfig": STANDARD.encode(registration.kubeconfig)},
    });
    let secrets = context.resource("", "v1", "secrets");
    ensure(&secrets, NAMESPACE, &secret)
        .await
        .map_err(|e| explain(e, here))?;
    let fresh = json!({"data": secret["data"]});
    secrets
        .patch(NAMESPACE, &secret_name, "", PatchKind::Merge, &fresh)
        .await
        .map_err(|e| explain(e, here))?;
    let mut labels = registration.labels.clone();
    if let Some(location) = registration.location {
        labels["location"] = location.into();
    }
    let cluster = json!({
        "apiVersion": format!("{WORKLOAD}/v1alpha1"), "kind": "Cluster",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"kubeconfigSecretRef": {"name": secret_name, "key": "kubeconfig"},
                 "labels": labels, "syncTargetTemplate": {"syncerConfig": {"mode": "Hosted"}}},
    });
    let clusters = context.resource(WORKLOAD, "v1alpha1", "clusters");
    ensure(&clusters, NAMESPACE, &cluster)
        .await
        .map_err(|e| explain(e, here))?;
    if let Some(location) = registration.location {
        ensure_location(context, location).await?;
    }
    let target = wait_for(30, || async {
        let found = clusters
            .get(NAMESPACE, name)
            .await
            .map_err(|e| explain(e, here))?;
        if output::condition(&found, "CredentialsValid") == "False" {
            bail!(
                "the kubeconfig is refused: {}",
                output::why(&found, "CredentialsValid")
            );
        }
        let target = found
            .pointer("/status/syncTargetRef/name")
            .and_then(Value::as_str);
        Ok(target.map(str::to_owned).ok_or_else(|| {
            format!(
                "cluster {name} has no SyncTarget yet ({})",
                output::why(&found, "Connected")
            )
        }))
    })
    .await?;
    wait_for_location(context, registration.location.unwrap_or("default")).await?;
    Ok(format!(
        "cluster {name} is registered in {here} as SyncTarget {target}"
    ))
}

async fn ensure_location(context: &Context, name: &str) -> Result<()> {
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

async fn wait_for_location(context: &Context, name: &str) -> Result<()> {
    let locations = context.resource(SCHEDULING, "v1alpha1", "locations");
    wait_for(30, || async {
        match locations.get("", name).await {
            Ok(_) => Ok(Ok(())),
            Err(error) if error.is_not_found() => {
                Ok(Err(format!("there is no Location {name} yet")))
            }
            Err(error) => Err(explain(error, &context.workspace)),
        }
    })
    .await
}

async fn list(context: &Context, format: Format) -> Result<String> {
    let clusters = context.resource(WORKLOAD, "v1alpha1", "clusters");
    let list = clusters
        .list("", &ListParams::default())
        .await
        .map_err(|e| explain(e, &context.workspace))?;
    let items = list["items"].as_array().map_or(&[][..], Vec::as_slice);
    let headers = ["NAME", "SYNCTARGET", "VERSION", "READY", "STATUS", "AGE"];
    output::objects(format, items, &headers, |cluster| {
        let text = |pointer: &str| {
            cluster
                .pointer(pointer)
                .and_then(Value::as_str)
                .unwrap_or("-")
                .to_owned()
        };
        let ready = output::condition(cluster, "Ready");
        vec![
            meta(cluster).name().to_owned(),
            text("/status/syncTargetRef/name"),
            text("/status/capabilities/kubernetesVersion"),
            ready.to_owned(),
            if ready == "True" {
                text("/status/phase")
            } else {
                output::why(cluster, "Ready")
            },
            output::age(cluster),
        ]
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_pairs() {
        let pairs = ["a=b".to_owned(), "c=".to_owned()];
        assert_eq!(labels(&pairs).expect("labels"), json!({"a": "b", "c": ""}));
        assert!(
            labels(&["a".to_owned()])
                .unwrap_err()
                .to_string()
                .contains("key=value")
        );
    }
}
