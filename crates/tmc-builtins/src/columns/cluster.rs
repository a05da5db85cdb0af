//! Columns of namespaces, nodes, configuration, events, leases, RBAC and certificates.

use std::collections::BTreeSet;

use serde_json::Value;
use tmc_apimachinery::meta::meta;
use tmc_apimachinery::table::human_duration;

use super::cells::{list, number, since, size, text, text_or};
use super::{AGE, Spec, column, integer, string, wide};

pub(super) const NAMESPACE: &[Spec] = &[
    string("Status", "The status of the namespace", |o, _| {
        text(o, "/status/phase").into()
    }),
    AGE,
];

pub(super) const CONFIG_MAP: &[Spec] = &[
    string("Data", "Number of entries.", |o, _| {
        (size(o, "/data") + size(o, "/binaryData")).into()
    }),
    AGE,
];

pub(super) const SECRET: &[Spec] = &[
    string("Type", "Type of the data.", |o, _| text(o, "/type").into()),
    string("Data", "Number of entries.", |o, _| size(o, "/data").into()),
    AGE,
];

pub(super) const SERVICE_ACCOUNT: &[Spec] = &[AGE];

pub(super) const NODE: &[Spec] = &[
    string("Status", "The status of the node", |o, _| {
        node_status(o).into()
    }),
    string("Roles", "The roles of the node", |o, _| {
        node_roles(o).into()
    }),
    AGE,
    string("Version", "Version of the kubelet.", |o, _| {
        text(o, "/status/nodeInfo/kubeletVersion").into()
    }),
    wide("Internal-IP", "Address inside the cluster.", |o, _| {
        node_address(o, "InternalIP").into()
    }),
    wide("External-IP", "Address outside the cluster.", |o, _| {
        node_address(o, "ExternalIP").into()
    }),
    wide("OS-Image", "Operating system of the node.", |o, _| {
        text_or(o, "/status/nodeInfo/osImage", "<unknown>").into()
    }),
    wide("Kernel-Version", "Kernel of the node.", |o, _| {
        let kernel = text_or(o, "/status/nodeInfo/kernelVersion", "<unknown>");
        match text(o, "/status/nodeInfo/architecture") {
            "" => kernel.into(),
            architecture => format!("{kernel} ({architecture})").into(),
        }
    }),
    wide(
        "Container-Runtime",
        "Container runtime of the node.",
        |o, _| text_or(o, "/status/nodeInfo/containerRuntimeVersion", "<unknown>").into(),
    ),
];

fn node_status(node: &Value) -> String {
    // The last condition of a type counts, as in a map.
    let ready = list(node, "/status/conditions")
        .iter()
        .rev()
        .find(|c| c["type"] == "Ready");
    let status = match ready {
        Some(condition) if condition["status"] == "True" => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    };
    if node.pointer("/spec/unschedulable") == Some(&Value::Bool(true)) {
        return format!("{status},SchedulingDisabled");
    }
    status.to_owned()
}

fn node_roles(node: &Value) -> String {
    let labels = meta(node).labels();
    let role = |(key, value): (&String, &String)| match key.strip_prefix("node-role.kubernetes.io/")
    {
        Some(role) => Some(role.to_owned()),
        None => (key == "kubernetes.io/role").then(|| value.clone()),
    };
    let roles: BTreeSet<String> = labels
        .iter()
        .filter_map(role)
        .filter(|r| !r.is_empty())
        .collect();
    super::cells::or_none(roles.into_iter().collect::<Vec<_>>().join(","))
}

fn node_address<'a>(node: &'a Value, kind: &str) -> &'a str {
    let address = list(node, "/status/addresses")
        .iter()
        .find(|a| a["type"] == kind);
    address.map_or("<none>", |a| text(a, "/address"))
}

pub(super) const EVENT: &[Spec] = &[
    string("Last Seen", "Time since it was last observed.", |o, now| {
        last_seen(o, now).into()
    }),
    string("Type", "Normal or Warning.", |o, _| text(o, "/type").into()),
    string("Reason", "Short, machine-readable cause.", |o, _| {
        text(o, "/reason").into()
    }),
    string("Object", "The object that it is about.", |o, _| {
        let kind = text(o, "/involvedObject/kind").to_lowercase();
        match text(o, "/involvedObject/name") {
            "" => kind.into(),
            name => format!("{kind}/{name}").into(),
        }
    }),
    wide(
        "Subobject",
        "The part of the object that it is about.",
        |o, _| text(o, "/involvedObject/fieldPath").into(),
    ),
    wide("Source", "Who reported it.", |o, _| {
        let component = text_or(o, "/source/component", text(o, "/reportingComponent"));
        match text_or(o, "/source/host", text(o, "/reportingInstance")) {
            "" => component.into(),
            instance => format!("{component}, {instance}").into(),
        }
    }),
    string("Message", "Description for a person.", |o, _| {
        text(o, "/message").trim().into()
    }),
    wide(
        "First Seen",
        "Time since it was first observed.",
        |o, now| first_seen(o, now).into(),
    ),
    wide("Count", "How often it was observed.", |o, _| {
        match (
            o.get("series").filter(|s| s.is_object()),
            number(o, "/count"),
        ) {
            (Some(series), _) => number(series, "/count").into(),
            (None, 0) => 1.into(),
            (None, count) => count.into(),
        }
    }),
    wide("Name", "Name of the object.", |o, _| meta(o).name().into()),
];

fn first_seen(event: &Value, now: i64) -> String {
    since(
        text_or(event, "/firstTimestamp", text(event, "/eventTime")),
        now,
    )
}

fn last_seen(event: &Value, now: i64) -> String {
    if let Some(series) = event.get("series").filter(|s| s.is_object()) {
        return since(text(series, "/lastObservedTime"), now);
    }
    match text(event, "/lastTimestamp") {
        "" => first_seen(event, now),
        last => since(last, now),
    }
}

pub(super) const LEASE: &[Spec] = &[
    string("Holder", "Identity of the holder.", |o, _| {
        text(o, "/spec/holderIdentity").into()
    }),
    AGE,
];

pub(super) const ROLE_BINDING: &[Spec] = &[
    string("Role", "The role that is granted.", |o, _| {
        format!("{}/{}", text(o, "/roleRef/kind"), text(o, "/roleRef/name")).into()
    }),
    AGE,
    wide("Users", "Users in the binding", |o, _| {
        subjects(o, "User").into()
    }),
    wide("Groups", "Groups in the binding", |o, _| {
        subjects(o, "Group").into()
    }),
    wide(
        "ServiceAccounts",
        "ServiceAccounts in the binding",
        |o, _| subjects(o, "ServiceAccount").into(),
    ),
];

fn subjects(binding: &Value, kind: &str) -> String {
    let names = list(binding, "/subjects")
        .iter()
        .filter(|s| s["kind"] == kind)
        .map(|s| match kind {
            "ServiceAccount" => format!("{}/{}", text(s, "/namespace"), text(s, "/name")),
            _ => text(s, "/name").to_owned(),
        });
    names.collect::<Vec<_>>().join(", ")
}

pub(super) const CERTIFICATE_SIGNING_REQUEST: &[Spec] = &[
    AGE,
    string("SignerName", "The signer asked.", |o, _| {
        text_or(o, "/spec/signerName", "<none>").into()
    }),
    string("Requestor", "Who asks.", |o, _| {
        text(o, "/spec/username").into()
    }),
    string(
        "RequestedDuration",
        "How long the certificate should hold.",
        |o, _| match o.pointer("/spec/expirationSeconds").and_then(Value::as_i64) {
            Some(seconds) => human_duration(seconds).into(),
            None => "<none>".into(),
        },
    ),
    string("Condition", "What has become of the request.", |o, _| {
        request_status(o).into()
    }),
];

fn request_status(request: &Value) -> String {
    let has = |kind: &str| {
        list(request, "/status/conditions")
            .iter()
            .any(|c| c["type"] == kind)
    };
    let decision = match (has("Denied"), has("Approved")) {
        (true, _) => "Denied",
        (_, true) => "Approved",
        _ => "Pending",
    };
    let failed = if has("Failed") { ",Failed" } else { "" };
    let issued = if text(request, "/status/certificate").is_empty() {
        ""
    } else {
        ",Issued"
    };
    format!("{decision}{failed}{issued}")
}

pub(super) const PRIORITY_CLASS: &[Spec] = &[
    integer("Value", "The priority.", |o, _| number(o, "/value").into()),
    column(
        "Global-Default",
        "boolean",
        "Whether pods without a class have it.",
        |o, _| {
            o.get("globalDefault")
                .and_then(Value::as_bool)
                .unwrap_or(false)
                .into()
        },
    ),
    AGE,
    string(
        "PreemptionPolicy",
        "Whether pods of the class preempt others.",
        |o, _| text(o, "/preemptionPolicy").into(),
    ),
];
