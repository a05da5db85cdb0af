//! What an agent reports of its member: APIs, nodes, room, and what is requested of it.
//!
//! Pods and nodes are counted page by page and forgotten: an agent keeps no copy of them.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tmc_apimachinery::GroupVersionResource;
use tmc_apimachinery::quantity::Quantity;
use tmc_runtime::client::{Error, ListParams};
use tmc_runtime::{Clock, Connection, Pages, ResourceClient};

use crate::discovery::served_apis;

/// Objects of a page: nodes carry the names of their images, pods their history.
const PAGE: u32 = 50;
/// Pages that are read of one resource. What is not read to its end is not reported: a sum of a part
/// would look like room.
const MAX_PAGES: usize = 2_000;
/// Most resources that are summed, the first ones that are met: as many as the hub takes from a report.
const MAX_RESOURCES: usize = 64;
/// Longest name of a resource, in bytes: a DNS subdomain, a slash and a label.
const MAX_NAME: usize = 253 + 1 + 63;

/// Looks at the member.
///
/// # Errors
/// When the member cannot be asked for its APIs. Nodes and pods that may not be read are left out.
pub(crate) async fn observe(member: &Connection, clock: &Clock) -> Result<Value, Error> {
    let client = member.base_client();
    let mut report = json!({"apis": served_apis(&client).await?});
    let resource = |name: &str| {
        let gvr = GroupVersionResource::new("", "v1", name);
        ResourceClient::new(client.clone(), gvr)
    };
    let mut nodes = Nodes::default();
    if read_all(&resource("nodes"), |node| nodes.add(node)).await {
        report["nodes"] = json!({"total": nodes.total, "ready": nodes.ready});
        report["capacity"] = nodes.capacity.into_json();
        report["allocatable"] = nodes.allocatable.into_json();
    }
    let mut pods = Pods::default();
    if read_all(&resource("pods"), |pod| pods.add(pod)).await {
        report["pods"] = pods.count.into();
        report["requested"] = pods.requested.into_json();
    }
    report["observedAt"] = crate::session::millis(clock.now()).into();
    Ok(report)
}

#[derive(Deserialize)]
struct Page<T> {
    #[serde(default)]
    metadata: PageMeta,
    #[serde(default = "Vec::new")]
    items: Vec<T>,
}

#[derive(Default, Deserialize)]
struct PageMeta {
    #[serde(default, rename = "continue")]
    next: Option<String>,
}

/// Reads every object of a resource; false if it could not be read to its end.
async fn read_all<T: DeserializeOwned>(client: &ResourceClient, mut add: impl FnMut(&T)) -> bool {
    let params = ListParams {
        limit: PAGE,
        ..ListParams::default()
    };
    let mut pages = Pages::new(client, "", params);
    for _ in 0..MAX_PAGES {
        let page = match pages.read().await {
            Ok(bytes) => serde_json::from_slice::<Page<T>>(&bytes).ok(),
            Err(error) => {
                tracing::debug!(resource = client.gvr().resource, %error, "left out of the report");
                None
            }
        };
        let Some(page) = page else { return false };
        page.items.iter().for_each(&mut add);
        match page.metadata.next.filter(|token| !token.is_empty()) {
            Some(token) => pages.go_on(&token),
            None => return true,
        }
    }
    false
}

type Amounts = BTreeMap<String, String>;

/// Exact sums of resource lists.
#[derive(Debug, Default)]
struct Totals(BTreeMap<String, Quantity>);

impl Totals {
    fn add(&mut self, amounts: &BTreeMap<String, Quantity>) {
        for (resource, amount) in amounts {
            let total = match self.0.get(resource) {
                Some(total) => total.checked_add(*amount),
                None if self.0.len() < MAX_RESOURCES => Some(*amount),
                None => None,
            };
            if let Some(total) = total {
                self.0.insert(resource.clone(), total);
            }
        }
    }

    fn into_json(self) -> Value {
        let texts = self.0.into_iter();
        texts
            .map(|(resource, total)| (resource, Value::from(total.to_string())))
            .collect()
    }
}

/// What can be read of a resource list.
fn read(amounts: &Amounts) -> BTreeMap<String, Quantity> {
    let pairs = amounts.iter();
    pairs
        .filter(|(resource, _)| resource.len() <= MAX_NAME)
        .filter_map(|(resource, text)| Some((resource.clone(), text.parse().ok()?)))
        .collect()
}

#[derive(Deserialize)]
struct Node {
    #[serde(default)]
    status: NodeStatus,
}

#[derive(Default, Deserialize)]
struct NodeStatus {
    #[serde(default)]
    capacity: Amounts,
    #[serde(default)]
    allocatable: Amounts,
    #[serde(default)]
    conditions: Vec<NodeCondition>,
}

#[derive(Deserialize)]
struct NodeCondition {
    r#type: String,
    status: String,
}

#[derive(Default)]
struct Nodes {
    total: u32,
    ready: u32,
    capacity: Totals,
    allocatable: Totals,
}

impl Nodes {
    fn add(&mut self, node: &Node) {
        let ready = |c: &NodeCondition| c.r#type == "Ready" && c.status == "True";
        self.total += 1;
        self.ready += u32::from(node.status.conditions.iter().any(ready));
        self.capacity.add(&read(&node.status.capacity));
        self.allocatable.add(&read(&node.status.allocatable));
    }
}

#[derive(Deserialize)]
struct Pod {
    #[serde(default)]
    spec: PodSpec,
    #[serde(default)]
    status: PodStatus,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PodSpec {
    #[serde(default)]
    containers: Vec<Container>,
    #[serde(default)]
    init_containers: Vec<Container>,
    #[serde(default)]
    overhead: Amounts,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Container {
    #[serde(default)]
    resources: Requirements,
    #[serde(default)]
    restart_policy: Option<String>,
}

#[derive(Default, Deserialize)]
struct Requirements {
    #[serde(default)]
    requests: Amounts,
}

#[derive(Default, Deserialize)]
struct PodStatus {
    #[serde(default)]
    phase: String,
}

#[derive(Default)]
struct Pods {
    count: u64,
    requested: Totals,
}

impl Pods {
    /// Pods that have ended hold nothing any more.
    fn add(&mut self, pod: &Pod) {
        if ["Succeeded", "Failed"].contains(&pod.status.phase.as_str()) {
            return;
        }
        self.count += 1;
        self.requested.add(&requests(&pod.spec));
    }
}

/// What the scheduler counts for a pod: its containers and sidecars together, or what an init
/// container needs beside the sidecars started before it if that is more, plus the overhead.
fn requests(pod: &PodSpec) -> BTreeMap<String, Quantity> {
    let mut together = Totals::default();
    for container in &pod.containers {
        together.add(&read(&container.resources.requests));
    }
    let (mut sidecars, mut most) = (Totals::default(), BTreeMap::new());
    for container in &pod.init_containers {
        let own = read(&container.resources.requests);
        if container.restart_policy.as_deref() == Some("Always") {
            together.add(&own);
            sidecars.add(&own);
            raise(&mut most, &sidecars.0);
        } else {
            let mut beside = Totals(sidecars.0.clone());
            beside.add(&own);
            raise(&mut most, &beside.0);
        }
    }
    raise(&mut together.0, &most);
    together.add(&read(&pod.overhead));
    together.0
}

/// The greater of two amounts, each resource for itself.
fn raise(most: &mut BTreeMap<String, Quantity>, other: &BTreeMap<String, Quantity>) {
    for (resource, amount) in other {
        let known = most.entry(resource.clone()).or_insert(*amount);
        *known = (*known).max(*amount);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from<T: DeserializeOwned>(value: Value) -> T {
        serde_json::from_value(value).expect("readable")
    }

    #[test]
    fn room_is_summed_exactly_over_nodes_and_ready_ones_are_counted() {
        let mut nodes = Nodes::default();
        for (cpu, ready) in [("1500m", "True"), ("500m", "Unknown")] {
            nodes.add(&from(json!({"status": {
                "capacity": {"cpu": cpu, "memory": "1Gi", "odd": "many"},
                "conditions": [{"type": "Ready", "status": ready}]}})));
        }
        assert_eq!((nodes.total, nodes.ready), (2, 1));
        assert_eq!(
            nodes.capacity.into_json(),
            json!({"cpu": "2", "memory": "2Gi"})
        );
        assert_eq!(nodes.allocatable.into_json(), json!({}));
    }

    #[test]
    fn of_resources_without_end_only_so_many_are_summed() {
        let mut nodes = Nodes::default();
        for node in 0..100 {
            let names = (0..10).map(|n| (format!("example.com/r{node}-{n}"), json!("1")));
            let mut capacity: serde_json::Map<_, _> = names.collect();
            capacity.insert("cpu".into(), json!("1"));
            capacity.insert("r".repeat(400), json!("1"));
            nodes.add(&from(json!({"status": {"capacity": capacity}})));
        }
        let sums = nodes.capacity.into_json();
        assert_eq!(
            sums.as_object().map(serde_json::Map::len),
            Some(MAX_RESOURCES)
        );
        assert_eq!(sums["cpu"], "100", "what is known is summed to its end");
    }

    fn container(cpu: &str, policy: Option<&str>) -> Value {
        json!({"name": "c", "restartPolicy": policy, "resources": {"requests": {"cpu": cpu}}})
    }

    #[test]
    fn a_pod_requests_what_the_scheduler_counts() {
        let cpu = |spec: Value| {
            let total = requests(&from(spec));
            total
                .get("cpu")
                .map(ToString::to_string)
                .unwrap_or_default()
        };
        let containers = json!([container("1", None), container("500m", None)]);
        assert_eq!(cpu(json!({"containers": containers})), "1500m");
        let init = json!([container("2", None)]);
        assert_eq!(
            cpu(json!({"containers": containers, "initContainers": init})),
            "2"
        );
        let sidecar_first = json!([container("1", Some("Always")), container("2", None)]);
        assert_eq!(
            cpu(json!({"containers": containers, "initContainers": sidecar_first})),
            "3",
            "the init container runs beside the sidecar"
        );
        let sidecar_only = json!([container("1", Some("Always"))]);
        let spec = json!({"containers": containers, "initContainers": sidecar_only,
            "overhead": {"cpu": "250m"}});
        assert_eq!(cpu(spec), "2750m");
    }

    #[test]
    fn pods_that_have_ended_hold_nothing() {
        let mut pods = Pods::default();
        for phase in ["Running", "Pending", "Succeeded", "Failed"] {
            pods.add(&from(
                json!({"spec": {"containers": [container("1", None)]},
                "status": {"phase": phase}}),
            ));
        }
        assert_eq!(pods.count, 2);
        assert_eq!(pods.requested.into_json(), json!({"cpu": "2"}));
    }
}
