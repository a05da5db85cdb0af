//! The Leases on the hub: written, read, and swept up.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::{Value, json};
use tmc_apimachinery::{ClusterName, GroupVersionResource};
use tmc_controllers::beat_leases::{BEATS_ANNOTATION, BeatList, REPLICA_LABEL};
use tmc_runtime::client::DeleteParams;
use tmc_runtime::informer::Change;
use tmc_runtime::{ClusterKey, Error, Hub, Informer, ResourceClient, Store};
use tokio_util::sync::CancellationToken;

use super::super::NAMESPACE;
use super::super::reports::{REPORT_ANNOTATION, REPORT_OF_ANNOTATION, lease_name};
use super::Relay;

/// Who owns the Leases, in server-side apply.
const MANAGER: &str = "tmc-beats";
/// Most reports written in one go: a fleet that reconnects reports within minutes, not at once.
const REPORTS_AT_ONCE: usize = 50;
/// How often at most a Lease is written.
const PUBLISH_EVERY: Duration = Duration::from_secs(2);
/// How often the leader looks for Leases that were left behind, and how old those are.
const SWEEP_EVERY: Duration = Duration::from_secs(600);
const LEFT_BEHIND: SignedDuration = SignedDuration::from_hours(1);

/// A Lease, as far as it is read.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct LeaseView {
    metadata: LeaseMeta,
    spec: LeaseSpec,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct LeaseMeta {
    uid: String,
    labels: HashMap<String, String>,
    annotations: HashMap<String, String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct LeaseSpec {
    renew_time: Option<Timestamp>,
}

fn leases(hub: &Hub) -> ResourceClient {
    let gvr = GroupVersionResource::new("coordination.k8s.io", "v1", "leases");
    ResourceClient::new(hub.cluster(&ClusterName::new(ClusterName::ROOT)), gvr)
}

/// The Leases of all replicas, watched.
pub struct Leases(Store<LeaseView>);

impl Relay {
    /// Reads what the other replicas write, until `stop`.
    pub fn read_others(
        self: &Arc<Self>,
        hub: &Hub,
        replica: &str,
        stop: &CancellationToken,
    ) -> Leases {
        let (relay, own) = (Arc::clone(self), replica.to_owned());
        let informer =
            Informer::<LeaseView>::new(leases(hub), Some(ClusterName::new(ClusterName::ROOT)))
                .namespace(NAMESPACE)
                .labels(REPLICA_LABEL)
                .on_change(move |key: &ClusterKey, change| match change {
                    Change::Applied { new, .. }
                        if new.metadata.labels.get(REPLICA_LABEL) != Some(&own) =>
                    {
                        let annotations = &new.metadata.annotations;
                        if let Some(text) = annotations.get(BEATS_ANNOTATION) {
                            relay.read(&key.name, text);
                        }
                        let of = annotations.get(REPORT_OF_ANNOTATION);
                        if let (Some(text), Some(of)) = (annotations.get(REPORT_ANNOTATION), of) {
                            relay.read_report(of, text);
                        }
                    }
                    Change::Applied { .. } => {}
                    Change::Deleted(_) => {
                        relay.others.lock().leases.remove(&key.name);
                    }
                });
        Leases(informer.spawn(stop.clone()))
    }

    /// Writes what this replica hears while it does not lead, until `stop`; then takes its Leases
    /// away. The first one is made at once.
    pub async fn publish(self: Arc<Self>, hub: Hub, replica: String, stop: CancellationToken) {
        let client = leases(&hub);
        let mut made: HashSet<usize> = HashSet::from([0]);
        let mut first = Some((0, BeatList::default()));
        loop {
            let due = if self.leading.load(Ordering::SeqCst) {
                Vec::new()
            } else {
                self.mine.lock().take(Timestamp::now())
            };
            for (number, list) in first.take().into_iter().chain(due) {
                made.insert(number);
                if let Err(error) = write(&client, &replica, number, &list).await {
                    tracing::warn!(%error, "beats cannot be passed on");
                    self.mine.lock().put_back(number);
                }
            }
            if !self.leading.load(Ordering::SeqCst) {
                self.publish_reports(&client, &replica).await;
            }
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep(PUBLISH_EVERY) => {}
            }
        }
        let any = DeleteParams::default();
        for name in made.into_iter().map(|number| name(&replica, number)) {
            // What stays behind is swept by a leader.
            let gone = client.delete(NAMESPACE, &name, &any);
            let _ = tokio::time::timeout(PUBLISH_EVERY, gone).await;
        }
    }
}

impl Relay {
    async fn publish_reports(&self, client: &ResourceClient, replica: &str) {
        let due = self.reports.lock().due(Timestamp::now(), REPORTS_AT_ONCE);
        for (heard, text) in due {
            let name = lease_name(&heard);
            let annotations = json!({
                REPORT_ANNOTATION: text,
                REPORT_OF_ANNOTATION: format!("{}:{}", heard.key, heard.uid),
            });
            let now = Timestamp::now();
            let lease = lease(replica, &name, &annotations, now);
            match client.apply(NAMESPACE, &name, MANAGER, &lease).await {
                Ok(_) => self.reports.lock().written(&heard, &text, now),
                Err(error) => {
                    tracing::warn!(%error, "reports cannot be passed on");
                    return;
                }
            }
        }
    }
}

impl Leases {
    /// Takes away what replicas have left behind that are no more. Runs until it is dropped.
    pub async fn sweep(&self, hub: &Hub) {
        let client = leases(hub);
        loop {
            for (key, lease) in self.0.all() {
                if !is_left_behind(&lease, Timestamp::now()) {
                    continue;
                }
                let only = DeleteParams {
                    uid: Some(lease.metadata.uid.clone()),
                    ..DeleteParams::default()
                };
                if let Err(error) = client.delete(NAMESPACE, &key.name, &only).await {
                    tracing::debug!(lease = key.name, %error, "a Lease stays behind");
                }
            }
            tokio::time::sleep(SWEEP_EVERY).await;
        }
    }
}

fn is_left_behind(lease: &LeaseView, now: Timestamp) -> bool {
    let renewed = lease.spec.renew_time;
    renewed.is_some_and(|at| now.duration_since(at) > LEFT_BEHIND)
}

fn name(replica: &str, number: usize) -> String {
    format!("tmc-beats-{replica}-{number}")
}

async fn write(
    client: &ResourceClient,
    replica: &str,
    number: usize,
    list: &BeatList,
) -> std::result::Result<(), Error> {
    let text = list
        .encode()
        .map_err(|error| Error::Transport(error.to_string()))?;
    let name = name(replica, number);
    let lease = lease(
        replica,
        &name,
        &json!({BEATS_ANNOTATION: text}),
        Timestamp::now(),
    );
    client.apply(NAMESPACE, &name, MANAGER, &lease).await?;
    Ok(())
}

fn lease(replica: &str, name: &str, annotations: &Value, now: Timestamp) -> Value {
    json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {
            "namespace": NAMESPACE, "name": name,
            "labels": {REPLICA_LABEL: replica}, "annotations": annotations,
        },
        "spec": {
            "holderIdentity": replica,
            "renewTime": now.strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string(),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_behind_is_known_by_its_age() {
        let text = lease("a", "tmc-beats-a-0", &json!({}), Timestamp::now());
        let seen: LeaseView = serde_json::from_value(text).expect("a Lease");
        assert_eq!(seen.metadata.labels[REPLICA_LABEL], "a");
        assert!(!is_left_behind(&seen, Timestamp::now()));
        assert!(is_left_behind(
            &seen,
            Timestamp::now() + SignedDuration::from_hours(2)
        ));
        assert!(
            !is_left_behind(&LeaseView::default(), Timestamp::now()),
            "no age, no proof"
        );
    }
}
