//! `tmc cluster list` and `tmc cluster describe`

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use serde_json::{Value, json};
use tmc_apimachinery::meta::meta;
use tmc_runtime::client::ListParams;

use crate::cli::{Format, Global};
use crate::commands::freshness::Beats;
use crate::commands::get::schedulable;
use crate::commands::member::{self, Member, SCHEDULING};
use crate::context::{Context, explain};
use crate::output::{self, ago, cell, list, text};

/// Lists the registered clusters, External ones (SyncTargets without a Cluster) among them.
///
/// # Errors
/// When they may not be read.
pub(super) async fn all(context: &Context, format: Format) -> Result<String> {
    let here = &context.workspace;
    let params = ListParams::default();
    let clusters = member::clusters(context)
        .list("", &params)
        .await
        .map_err(|e| explain(e, here))?;
    let targets = member::targets(context)
        .list("", &params)
        .await
        .map_err(|e| explain(e, here))?;
    let targets = list(&targets, "/items");
    let clusters = list(&clusters, "/items");
    let led_to = |target: &&Value| {
        let uid = meta(target).uid();
        clusters
            .iter()
            .all(|c| text(c, "/status/syncTargetRef/uid") != uid)
    };
    let externals = targets.iter().filter(led_to);
    let rows: Vec<Value> = clusters.iter().chain(externals).cloned().collect();
    member::note_none(context, format, &rows);
    let headers = [
        "NAME",
        "VERSION",
        "MODE",
        "READY",
        "SYNCTARGET",
        "NODES",
        "AGE",
    ];
    output::objects(format, &rows, &headers, |object| row(object, targets))
}

/// The row of a Cluster, or of a SyncTarget that has none.
fn row(object: &Value, targets: &[Value]) -> Vec<String> {
    let uid = text(object, "/status/syncTargetRef/uid");
    let target = match object["kind"].as_str() {
        Some("SyncTarget") => Some(object),
        _ => targets
            .iter()
            .find(|t| !uid.is_empty() && meta(t).uid() == uid),
    };
    let mode = target.map_or_else(
        || cell(object, "/spec/syncTargetTemplate/syncerConfig/mode"),
        |target| cell(target, "/spec/syncerConfig/mode"),
    );
    vec![
        meta(object).name().to_owned(),
        cell(object, "/status/capabilities/kubernetesVersion"),
        mode,
        ready(object),
        target.map_or_else(|| "-".to_owned(), |target| meta(target).name().to_owned()),
        nodes(object),
        output::age(object),
    ]
}

/// `True`, or `False (Reason)`.
fn ready(object: &Value) -> String {
    let status = output::condition(object, "Ready");
    let reason = output::find_condition(object, "Ready").map_or("", |c| text(c, "/reason"));
    match (status, reason) {
        ("True", _) | (_, "") => status.to_owned(),
        _ => format!("{status} ({reason})"),
    }
}

/// `1/2`: ready ones of all.
fn nodes(cluster: &Value) -> String {
    let number = |pointer: &str| cluster.pointer(pointer).and_then(Value::as_u64);
    match number("/status/resourceSummary/nodes/total") {
        None => "-".to_owned(),
        Some(total) => {
            let ready = number("/status/resourceSummary/nodes/ready").unwrap_or(0);
            format!("{ready}/{total}")
        }
    }
}

/// Shows all that is known of one.
///
/// # Errors
/// When there is none of this name, or it may not be read.
pub(super) async fn one(context: &Context, global: &Global, name: &str) -> Result<String> {
    let member = member::find(context, name).await?;
    let objects: Vec<&Value> = member.cluster.iter().chain(&member.target).collect();
    match global.format() {
        Format::Table => {
            let now = Timestamp::now();
            let beats = Beats::read(context).await;
            let seen = member
                .target
                .as_ref()
                .map(|target| beats.last_seen(target, now));
            let around = Around {
                locations: locations(context, &member).await,
                last_seen: seen.unwrap_or_default(),
            };
            Ok(page(&context.workspace, &member, &around, now))
        }
        format => {
            let objects: Vec<Value> = objects.into_iter().cloned().collect();
            output::objects(format, &objects, &[], |_| Vec::new())
                .context("the cluster cannot be printed")
        }
    }
}

/// The Locations that the target is part of; none if they may not be read.
async fn locations(context: &Context, member: &Member) -> Vec<String> {
    let client = context.resource(SCHEDULING, "v1alpha1", "locations");
    let Ok(found) = client.list("", &ListParams::default()).await else {
        return Vec::new();
    };
    let labels = member
        .target
        .as_ref()
        .map(|t| meta(t).labels())
        .unwrap_or_default();
    let has = |location: &&Value| {
        serde_json::from_value::<tmc_api::scheduling::Location>((*location).clone())
            .is_ok_and(|location| location.spec.selects(&labels).unwrap_or(false))
    };
    let names = list(&found, "/items").iter().filter(has);
    names
        .map(|location| meta(location).name().to_owned())
        .collect()
}

/// What is known of a target beside itself.
#[derive(Default)]
struct Around {
    locations: Vec<String>,
    last_seen: String,
}

/// The page about a cluster: facts, then conditions.
fn page(workspace: &str, member: &Member, around: &Around, now: Timestamp) -> String {
    let mut facts = vec![("Workspace", workspace.to_owned())];
    let nothing = json!({});
    let cluster = member.cluster.as_ref().unwrap_or(&nothing);
    let target = member.target.as_ref().unwrap_or(&nothing);
    if member.cluster.is_some() {
        facts.extend(about_cluster(cluster, now));
    }
    if member.target.is_some() {
        facts.extend(about_target(target, around, now));
    }
    let width = facts.iter().map(|(name, _)| name.len()).max().unwrap_or(0) + 1;
    let mut lines: Vec<String> = facts
        .into_iter()
        .map(|(name, fact)| format!("{:<width$}   {fact}", format!("{name}:")))
        .collect();
    for (title, object) in [("Cluster", &member.cluster), ("SyncTarget", &member.target)] {
        if let Some(object) = object {
            lines.push(format!("\nConditions of the {title}:"));
            lines.push(conditions(object, now));
        }
    }
    lines.join("\n")
}

fn about_cluster(cluster: &Value, now: Timestamp) -> Vec<(&'static str, String)> {
    let found = meta(cluster);
    let secret = text(cluster, "/spec/kubeconfigSecretRef/name");
    let mut facts = vec![
        (
            "Cluster",
            format!("{} (namespace {})", found.name(), found.namespace()),
        ),
        (
            "Version",
            cell(cluster, "/status/capabilities/kubernetesVersion"),
        ),
        (
            "Nodes",
            match nodes(cluster).split_once('/') {
                Some((ready, total)) => format!("{ready} of {total} ready"),
                None => "not reported".to_owned(),
            },
        ),
        ("Credential", credential(cluster, secret, now)),
    ];
    let features: Vec<&str> = list(cluster, "/status/capabilities/features")
        .iter()
        .filter_map(Value::as_str)
        .collect();
    if !features.is_empty() {
        facts.push(("Features", features.join(", ")));
    }
    facts
}

fn credential(cluster: &Value, secret: &str, now: Timestamp) -> String {
    let kind = match text(cluster, "/status/credentials/kind") {
        "ClientCertificate" => "client certificate",
        "Token" => "token",
        _ => "not looked at yet,",
    };
    let end = output::time(cluster, "/status/credentials/expirationTime").map(|at| {
        let left = at.duration_since(now).as_secs();
        if left < 0 {
            format!(", ended {} ago", ago(at, now))
        } else {
            format!(
                ", ends in {}",
                tmc_apimachinery::table::human_duration(left)
            )
        }
    });
    format!("{kind} in Secret {secret}{}", end.unwrap_or_default())
}

fn about_target(target: &Value, around: &Around, now: Timestamp) -> Vec<(&'static str, String)> {
    let found = meta(target);
    let replicas = |pointer: &str| target.pointer(pointer).and_then(Value::as_i64).unwrap_or(0);
    let key = tmc_api::keys::SYNC_TARGET_KEY_LABEL;
    let mut facts = vec![
        ("SyncTarget", found.name().to_owned()),
        ("Key", found.label(key).unwrap_or("-").to_owned()),
        ("Phase", cell(target, "/status/phase")),
        ("Schedulable", schedulable(target, now).to_owned()),
        (
            "Syncer",
            format!(
                "{}, {} of {} replicas ready",
                cell(target, "/spec/syncerConfig/mode"),
                replicas("/status/syncerStatus/readyReplicas"),
                replicas("/status/syncerStatus/replicas"),
            ),
        ),
        (
            "Last seen",
            match around.last_seen.as_str() {
                "never" => "never".to_owned(),
                age => format!("{age} ago"),
            },
        ),
        (
            "Locations",
            if around.locations.is_empty() {
                "-".to_owned()
            } else {
                around.locations.join(", ")
            },
        ),
        ("Allocatable", amounts(target, "/status/allocatable")),
        ("Synced", synced(target, "Accepted")),
    ];
    for state in ["Pending", "Incompatible"] {
        let some = synced(target, state);
        if some != "-" {
            facts.push((
                if state == "Pending" {
                    "Not known yet"
                } else {
                    "Not served"
                },
                some,
            ));
        }
    }
    let taints: Vec<String> = list(target, "/spec/taints").iter().map(taint).collect();
    if !taints.is_empty() {
        facts.push(("Taints", taints.join(", ")));
    }
    facts
}

fn taint(taint: &Value) -> String {
    let value = match text(taint, "/value") {
        "" => String::new(),
        value => format!("={value}"),
    };
    format!("{}{value}:{}", text(taint, "/key"), text(taint, "/effect"))
}

/// `cpu 64, memory 256Gi, pods 1000`
fn amounts(object: &Value, pointer: &str) -> String {
    let map = object.pointer(pointer).and_then(Value::as_object);
    let parts: Vec<String> = map
        .into_iter()
        .flatten()
        .map(|(name, amount)| format!("{name} {}", amount.as_str().unwrap_or("?")))
        .collect();
    if parts.is_empty() {
        "not reported".to_owned()
    } else {
        parts.join(", ")
    }
}

fn synced(target: &Value, state: &str) -> String {
    let of_state = list(target, "/status/syncedResources")
        .iter()
        .filter(|r| r["state"] == state);
    let names: Vec<String> = of_state
        .map(|r| match text(r, "/group") {
            "" => text(r, "/resource").to_owned(),
            group => format!("{}.{group}", text(r, "/resource")),
        })
        .collect();
    if names.is_empty() {
        "-".to_owned()
    } else {
        names.join(", ")
    }
}

fn conditions(object: &Value, now: Timestamp) -> String {
    let rows: Vec<Vec<String>> = list(object, "/status/conditions")
        .iter()
        .map(|c| {
            let since = output::time(c, "/lastTransitionTime").map(|at| ago(at, now));
            vec![
                format!("  {}", text(c, "/type")),
                text(c, "/status").to_owned(),
                since.unwrap_or_else(|| "-".to_owned()),
                output::reason_and_message(c),
            ]
        })
        .collect();
    if rows.is_empty() {
        return "  none yet: the hub has not looked at it".to_owned();
    }
    output::table(&["  TYPE", "STATUS", "SINCE", "WHY"], &rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target() -> Value {
        json!({
            "kind": "SyncTarget",
            "metadata": {"name": "east-1", "uid": "u", "labels": {"internal.workload.kcp.io/key": "K"},
                "creationTimestamp": "2030-01-01T00:00:00Z"},
            "spec": {"syncerConfig": {"mode": "Hosted"}, "unschedulable": true,
                "taints": [{"key": "gpu", "value": "yes", "effect": "NoSchedule"}, {"key": "x", "effect": "NoExecute"}]},
            "status": {
                "phase": "Ready", "lastHeartbeatTime": "2030-01-01T00:09:50Z",
                "allocatable": {"cpu": "64", "memory": "256Gi"},
                "syncerStatus": {"replicas": 1, "readyReplicas": 1},
                "syncedResources": [
                    {"group": "apps", "resource": "deployments", "state": "Accepted"},
                    {"resource": "services", "state": "Accepted"},
                    {"group": "batch", "resource": "jobs", "state": "Incompatible"}],
                "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2030-01-01T00:01:00Z"}]},
        })
    }

    fn cluster() -> Value {
        json!({
            "kind": "Cluster", "metadata": {"name": "east", "namespace": "default"},
            "spec": {"kubeconfigSecretRef": {"name": "east-kubeconfig"}},
            "status": {
                "syncTargetRef": {"name": "east-1", "uid": "u"},
                "capabilities": {"kubernetesVersion": "v1.36.2", "features": ["RBAC"]},
                "credentials": {"kind": "Token", "expirationTime": "2030-01-01T20:10:00Z"},
                "resourceSummary": {"nodes": {"total": 2, "ready": 1}},
                "conditions": [{"type": "Connected", "status": "False", "reason": "ConnectionTimeout",
                    "message": "no answer within 5 s", "lastTransitionTime": "2030-01-01T00:05:00Z"}]},
        })
    }

    #[test]
    fn a_row_shows_cluster_and_target_together() {
        let row = row(&cluster(), &[target()]);
        assert_eq!(
            row[..6],
            ["east", "v1.36.2", "Hosted", "Unknown", "east-1", "1/2"]
        );
        let row = super::row(&target(), &[]);
        assert_eq!(row[..6], ["east-1", "-", "Hosted", "True", "east-1", "-"]);
    }

    #[test]
    fn a_page_tells_a_stranger_what_there_is() {
        let member = Member {
            cluster: Some(cluster()),
            target: Some(target()),
        };
        let now = "2030-01-01T00:10:00Z".parse().expect("a time");
        let around = Around {
            locations: vec!["eu".into()],
            last_seen: "10s".into(),
        };
        let page = page("root:compute", &member, &around, now);
        insta::assert_snapshot!(page, @r"
Workspace:     root:compute
Cluster:       east (namespace default)
Version:       v1.36.2
Nodes:         1 of 2 ready
Credential:    token in Secret east-kubeconfig, ends in 20h
Features:      RBAC
SyncTarget:    east-1
Key:           K
Phase:         Ready
Schedulable:   cordoned
Syncer:        Hosted, 1 of 1 replicas ready
Last seen:     10s ago
Locations:     eu
Allocatable:   cpu 64, memory 256Gi
Synced:        deployments.apps, services
Not served:    jobs.batch
Taints:        gpu=yes:NoSchedule, x:NoExecute

Conditions of the Cluster:
  TYPE        STATUS   SINCE   WHY
  Connected   False    5m      ConnectionTimeout: no answer within 5 s

Conditions of the SyncTarget:
  TYPE    STATUS   SINCE   WHY
  Ready   True     9m
");
    }

    #[test]
    fn a_cluster_that_nobody_looked_at_yet_says_so() {
        let bare = json!({"metadata": {"name": "new", "namespace": "default"},
            "spec": {"kubeconfigSecretRef": {"name": "new-kubeconfig"}}});
        let member = Member {
            cluster: Some(bare),
            target: None,
        };
        let now = "2030-01-01T00:10:00Z".parse().expect("a time");
        let page = page("root", &member, &Around::default(), now);
        assert!(
            page.contains("Credential:   not looked at yet, in Secret new-kubeconfig"),
            "{page}"
        );
        assert!(page.ends_with("the hub has not looked at it"), "{page}");
    }
}
