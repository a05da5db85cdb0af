//! What a registration waits for, before it says that all went well.

use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use serde_json::Value;
use tmc_api::workload::condition::{CREDENTIALS_VALID, SYNCER_READY};
use tmc_api::workload::reason::SYNCER_DEPLOYMENT_FAILED;
use tmc_apimachinery::meta::meta;
use tokio::time::Instant;

use super::Talk;
use crate::commands::member::{self, NAMESPACE};
use crate::context::{Context, explain, wait_for};
use crate::output;

/// How many seconds the hub has for a step.
const PATIENCE: u64 = 30;
/// How long a verdict that was there before may be an earlier one, which the hub is about to correct.
const NEWS: Duration = Duration::from_secs(3);

/// A condition that is watched for a new verdict.
struct Verdict {
    kind: &'static str,
    /// As it was at first.
    before: Option<Value>,
    since: Instant,
}

impl Verdict {
    fn new(kind: &'static str, object: &Value) -> Self {
        Self {
            kind,
            before: output::find_condition(object, kind).cloned(),
            since: Instant::now(),
        }
    }

    /// Whether what an object says now is about this registration.
    fn is_news(&self, now: &Value) -> bool {
        let condition = output::find_condition(now, self.kind);
        condition != self.before.as_ref() || self.since.elapsed() >= NEWS
    }
}

/// Waits until the Cluster has led to a SyncTarget. A kubeconfig that the hub refuses ends it; that
/// an earlier one was refused does not.
pub(super) async fn target(context: &Context, name: &str, before: &Value) -> Result<Value> {
    let here = &context.workspace;
    let verdict = Verdict::new(CREDENTIALS_VALID, before);
    let found = wait_for(PATIENCE, || async {
        let found = member::clusters(context)
            .get(NAMESPACE, name)
            .await
            .map_err(|e| explain(e, here))?;
        if output::condition(&found, CREDENTIALS_VALID) == "False" && verdict.is_news(&found) {
            bail!(
                "the kubeconfig is refused: {}",
                output::why(&found, CREDENTIALS_VALID)
            );
        }
        let target = output::text(&found, "/status/syncTargetRef/name").to_owned();
        Ok(if target.is_empty() {
            let why = output::why(&found, "Connected");
            Err(format!("cluster {name} has no SyncTarget yet ({why})"))
        } else {
            Ok(target)
        })
    })
    .await?;
    member::targets(context)
        .get("", &found)
        .await
        .map_err(|e| explain(e, here))
}

/// How the installation of a syncer in its cluster stands.
#[derive(Debug, PartialEq, Eq)]
enum Installation {
    /// It is under way.
    Open,
    /// It is there; whether its pods are ready is another matter.
    Done,
    /// It cannot be; why.
    Failed(String),
}

impl Installation {
    fn of(target: &Value) -> Self {
        let Some(condition) = output::find_condition(target, SYNCER_READY) else {
            return Self::Open;
        };
        if condition["reason"] == SYNCER_DEPLOYMENT_FAILED {
            return Self::Failed(output::text(condition, "/message").to_owned());
        }
        match output::condition(target, SYNCER_READY) {
            "Unknown" => Self::Open,
            _ => Self::Done,
        }
    }
}

/// Waits until the hub has installed the syncer of a target in its cluster. That it cannot ends it.
/// A target of another mode has nothing to wait for.
pub(super) async fn installation(
    context: &Context,
    cluster: &str,
    target: Value,
    talk: Talk,
) -> Result<Value> {
    if target["spec"]["syncerConfig"]["mode"] != "Deployment" {
        return Ok(target);
    }
    let verdict = Verdict::new(SYNCER_READY, &target);
    let name = meta(&target).name();
    let now = wait_for(PATIENCE, || async {
        let now = member::targets(context)
            .get("", name)
            .await
            .map_err(|e| explain(e, &context.workspace))?;
        match Installation::of(&now) {
            Installation::Done => Ok(Ok(now)),
            Installation::Failed(why) if verdict.is_news(&now) => {
                Err(anyhow!(refusal(context, cluster, &why)))
            }
            Installation::Failed(_) | Installation::Open => {
                let why = output::why(&now, SYNCER_READY);
                Ok(Err(format!(
                    "the syncer of cluster {cluster} is not installed yet ({why})"
                )))
            }
        }
    })
    .await?;
    talk.step(format!("syncer installed in cluster {cluster}"));
    Ok(now)
}

/// That a cluster is registered in vain, and what to do.
fn refusal(context: &Context, cluster: &str, why: &str) -> String {
    let flag = context.flag();
    let how = if context.workspaces {
        "tmc start --external-url URL"
    } else {
        "tmc controllers --virtual-workspace-url URL"
    };
    words(cluster, &flag, how, why)
}

/// The same; `how` a hub is started with another URL.
fn words(cluster: &str, flag: &str, how: &str, why: &str) -> String {
    // The hub knows one cause that its own administrator has to do something about.
    let (why, remedy) = match why.split_once("; ") {
        Some((why, remedy)) if remedy.contains("--external-url") => (
            why,
            format!("start the hub with a URL that the cluster reaches: {how}"),
        ),
        _ => (
            why,
            format!("the hub tries again; see how it goes: tmc {flag}cluster describe {cluster}"),
        ),
    };
    format!(
        "cluster {cluster} is registered, but its syncer does not run there: {why}\n\
         {remedy}\n\
         or take the registration back: tmc {flag}cluster unregister {cluster}"
    )
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    fn target(condition: &Value) -> Value {
        json!({"status": {"conditions": [condition]}})
    }

    #[rstest]
    #[case::not_looked_at(json!({"type": "Ready", "status": "False"}), Installation::Open)]
    #[case::under_way(json!({"type": "SyncerReady", "status": "Unknown", "reason": "SyncerInstalling"}), Installation::Open)]
    #[case::pods_start(json!({"type": "SyncerReady", "status": "False", "reason": "SyncerUnhealthy"}), Installation::Done)]
    #[case::all_well(json!({"type": "SyncerReady", "status": "True"}), Installation::Done)]
    #[case::refused(json!({"type": "SyncerReady", "status": "False", "reason": "SyncerDeploymentFailed", "message": "no"}),
        Installation::Failed("no".into()))]
    fn a_syncer_is_installed_once_the_hub_knows_its_deployment(
        #[case] condition: Value,
        #[case] expected: Installation,
    ) {
        assert_eq!(Installation::of(&target(&condition)), expected);
    }

    #[tokio::test(start_paused = true)]
    async fn a_verdict_that_was_there_before_counts_only_after_a_while() {
        let old = target(&json!({"type": "SyncerReady", "status": "False", "message": "old"}));
        let new = target(&json!({"type": "SyncerReady", "status": "False", "message": "new"}));
        let verdict = Verdict::new(SYNCER_READY, &old);
        assert!(!verdict.is_news(&old));
        assert!(verdict.is_news(&new));
        tokio::time::advance(NEWS).await;
        assert!(verdict.is_news(&old));
    }

    #[test]
    fn a_hub_that_no_pod_reaches_is_told_to_start_with_another_url() {
        let hub = "the hub's URL is a loopback address, which no pod of the member reaches; start the hub with --external-url, or set spec.syncerConfig.mode to Hosted";
        let said = words(
            "far",
            "--workspace root:a ",
            "tmc start --external-url URL",
            hub,
        );
        assert_eq!(
            said,
            "cluster far is registered, but its syncer does not run there: the hub's URL is a \
             loopback address, which no pod of the member reaches\n\
             start the hub with a URL that the cluster reaches: tmc start --external-url URL\n\
             or take the registration back: tmc --workspace root:a cluster unregister far"
        );
    }

    #[test]
    fn another_failure_is_told_as_the_hub_tells_it() {
        let said = words("far", "", "x", "pods is forbidden; see the member");
        assert!(
            said.contains("not run there: pods is forbidden; see the member\n"),
            "{said}"
        );
        assert!(said.contains("tmc cluster describe far\n"), "{said}");
    }
}
