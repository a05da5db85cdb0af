//! Heartbeats with the agent's report of the member.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use tmc_apimachinery::GroupVersionResource;
use tmc_apimachinery::quantity::Quantity;
use tmc_runtime::client::{Error, ListParams, get_path, post_path};
use tmc_runtime::{Clock, Connection, ResourceClient};

use crate::discovery::served_apis;
use crate::mapping::Target;

/// Where the syncer endpoints are, below a target's root.
const ENDPOINTS: &str = "/apis/syncer.kcp.io/v1alpha1";

/// Speaks for one agent.
pub struct Session {
    upstream: kube::Client,
    downstream: Connection,
    target: Target,
    identity: String,
    sequence: u64,
    clock: Clock,
}

impl Session {
    /// A session of an agent that calls itself `identity`.
    pub fn new(
        upstream: &Connection,
        downstream: &Connection,
        target: &Target,
        identity: &str,
        clock: Clock,
    ) -> Self {
        Self {
            upstream: upstream.client(&target.view_path()),
            downstream: downstream.clone(),
            target: target.clone(),
            identity: identity.to_owned(),
            sequence: 0,
            clock,
        }
    }

    /// Sends one beat; returns how long to wait until the next.
    ///
    /// # Errors
    /// 409 when the SyncTarget has another uid by now: this agent has no business any more.
    pub async fn beat(&mut self, report: Option<&Value>) -> Result<Duration, Error> {
        self.sequence += 1;
        let mut body = json!({
            "apiVersion": "syncer.kcp.io/v1alpha1", "kind": "SyncerHeartbeat",
            "uid": self.target.uid, "identity": self.identity,
            "sequence": self.sequence, "sentAt": millis(self.clock.now()),
        });
        if let Some(report) = report {
            body["report"] = report.clone();
        }
        let answer = post_path(&self.upstream, &format!("{ENDPOINTS}/heartbeat"), &body).await?;
        let answer: Value = serde_json::from_slice(&answer)
            .map_err(|e| Error::Transport(format!("the heartbeat's answer is no JSON: {e}")))?;
        let next = answer["nextInterval"].as_str().and_then(parse_interval);
        Ok(next.unwrap_or(Duration::from_secs(10)))
    }

    /// The resources to sync.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn resources(&self) -> Result<Vec<GroupVersionResource>, Error> {
        let bytes = get_path(&self.upstream, &format!("{ENDPOINTS}/resources")).await?;
        let list: Value = serde_json::from_slice(&bytes)
            .map_err(|e| Error::Transport(format!("the resource list is no JSON: {e}")))?;
        let text = |item: &Value, key: &str| item[key].as_str().unwrap_or_default().to_owned();
        let items = list["items"].as_array().into_iter().flatten();
        let accepted = items.filter(|item| item["state"] == "Accepted");
        let mut all: Vec<_> = accepted
            .map(|item| {
                let (group, version) = (text(item, "group"), text(item, "version"));
                GroupVersionResource::new(&group, &version, &text(item, "resource"))
            })
            .collect();
        all.sort();
        all.dedup();
        Ok(all)
    }

    /// Looks at the member: its APIs, nodes and room.
    ///
    /// # Errors
    /// When the member cannot be asked for its APIs. Nodes that may not be read are left out.
    pub async fn report(&self) -> Result<Value, Error> {
        let client = self.downstream.base_client();
        let mut report = json!({
            "apis": served_apis(&client).await?, "observedAt": millis(self.clock.now()),
        });
        let nodes = ResourceClient::new(client, GroupVersionResource::new("", "v1", "nodes"));
        if let Ok(list) = nodes.list("", &ListParams::default()).await {
            let nodes = list["items"].as_array().map_or(&[][..], Vec::as_slice);
            let ready = nodes.iter().filter(|node| is_ready(node)).count();
            report["nodes"] = json!({"total": nodes.len(), "ready": ready});
            report["capacity"] = sum(nodes, "capacity");
            report["allocatable"] = sum(nodes, "allocatable");
        }
        Ok(report)
    }
}

fn is_ready(node: &Value) -> bool {
    let conditions = node["status"]["conditions"]
        .as_array()
        .into_iter()
        .flatten();
    conditions
        .into_iter()
        .any(|c| c["type"] == "Ready" && c["status"] == "True")
}

/// Sums a resource list over nodes, exactly.
fn sum(nodes: &[Value], list: &str) -> Value {
    let mut totals: BTreeMap<String, Quantity> = BTreeMap::new();
    for node in nodes {
        for (resource, text) in node["status"][list].as_object().into_iter().flatten() {
            let Some(Ok(quantity)) = text.as_str().map(str::parse::<Quantity>) else {
                continue;
            };
            let total = match totals.get(resource) {
                Some(total) => total.checked_add(quantity),
                None => Some(quantity),
            };
            if let Some(total) = total {
                totals.insert(resource.clone(), total);
            }
        }
    }
    totals
        .into_iter()
        .map(|(resource, total)| (resource, Value::from(total.to_string())))
        .collect()
}

fn millis(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}

/// A duration as the hub prints it: `10s`, `500ms`, `1m`.
fn parse_interval(text: &str) -> Option<Duration> {
    let unit = text.find(|c: char| c.is_ascii_alphabetic())?;
    let number: u64 = text[..unit].parse().ok()?;
    match &text[unit..] {
        "ms" => Some(Duration::from_millis(number)),
        "s" => Some(Duration::from_secs(number)),
        "m" | "m0s" => Some(Duration::from_secs(number * 60)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_summed_exactly_over_nodes() {
        let node = |cpu: &str| json!({"status": {"capacity": {"cpu": cpu, "memory": "1Gi"}}});
        let total = sum(&[node("1500m"), node("500m")], "capacity");
        assert_eq!(total, json!({"cpu": "2", "memory": "2Gi"}));
    }

    #[test]
    fn a_node_is_ready_when_it_says_so() {
        let node =
            |status: &str| json!({"status": {"conditions": [{"type": "Ready", "status": status}]}});
        assert!(is_ready(&node("True")));
        assert!(!is_ready(&node("Unknown")));
        assert!(!is_ready(&json!({})));
    }

    #[test]
    fn an_interval_is_read_in_the_hubs_units() {
        assert_eq!(parse_interval("10s"), Some(Duration::from_secs(10)));
        assert_eq!(parse_interval("250ms"), Some(Duration::from_millis(250)));
        assert_eq!(parse_interval("soon"), None);
    }
}
