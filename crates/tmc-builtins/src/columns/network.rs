//! Columns of services, endpoints, ingresses and network policies.

use std::collections::BTreeSet;

use serde_json::Value;

use super::cells::{
    first_of, labels, list, name_or_default, number, or_none, selector_at, text, text_or,
};
use super::{AGE, Spec, string, wide};

pub(super) const SERVICE: &[Spec] = &[
    string("Type", "How the service is exposed.", |o, _| {
        text(o, "/spec/type").into()
    }),
    string(
        "Cluster-IP",
        "IP address of the service inside the cluster.",
        |o, _| text_or(o, "/spec/clusterIPs/0", "<none>").into(),
    ),
    string(
        "External-IP",
        "Addresses at which the service is reached from outside.",
        |o, _| external_ip(o).into(),
    ),
    string("Port(s)", "Ports that the service exposes.", |o, _| {
        service_ports(o).into()
    }),
    AGE,
    wide(
        "Selector",
        "Labels of the pods that traffic goes to.",
        |o, _| labels(o, "/spec/selector").into(),
    ),
];

fn texts(items: &[Value]) -> Vec<&str> {
    items.iter().filter_map(Value::as_str).collect()
}

fn external_ip(service: &Value) -> String {
    let external = texts(list(service, "/spec/externalIPs")).join(",");
    match text(service, "/spec/type") {
        "ClusterIP" | "NodePort" => or_none(external),
        "LoadBalancer" => match (load_balancer(service), external) {
            (lb, external) if lb.is_empty() && external.is_empty() => "<pending>".to_owned(),
            (lb, external) if lb.is_empty() => external,
            (lb, external) if external.is_empty() => lb,
            (lb, external) => format!("{lb},{external}"),
        },
        "ExternalName" => text(service, "/spec/externalName").to_owned(),
        _ => "<unknown>".to_owned(),
    }
}

/// Addresses or host names of a load balancer, sorted.
fn load_balancer(object: &Value) -> String {
    let ingress = list(object, "/status/loadBalancer/ingress").iter();
    let names: BTreeSet<&str> = ingress
        .map(|i| text_or(i, "/ip", text(i, "/hostname")))
        .filter(|n| !n.is_empty())
        .collect();
    names.into_iter().collect::<Vec<_>>().join(",")
}

fn service_ports(service: &Value) -> String {
    let ports = list(service, "/spec/ports").iter().map(|port| {
        let (number_, protocol) = (number(port, "/port"), text(port, "/protocol"));
        match number(port, "/nodePort") {
            node if node > 0 => format!("{number_}:{node}/{protocol}"),
            _ => format!("{number_}/{protocol}"),
        }
    });
    or_none(ports.collect::<Vec<_>>().join(","))
}

pub(super) const ENDPOINTS: &[Spec] = &[
    string(
        "Endpoints",
        "Addresses and ports of the endpoints.",
        |o, _| endpoints(o).into(),
    ),
    AGE,
];

fn endpoints(object: &Value) -> String {
    let subsets = list(object, "/subsets");
    if subsets.is_empty() {
        return "<none>".to_owned();
    }
    let mut all = Vec::new();
    for subset in subsets {
        let addresses = || list(subset, "/addresses").iter().map(|a| text(a, "/ip"));
        let ports = list(subset, "/ports");
        if ports.is_empty() {
            all.extend(addresses().map(str::to_owned));
        }
        for port in ports {
            let port = number(port, "/port");
            all.extend(addresses().map(|ip| match ip.contains(':') {
                true => format!("[{ip}]:{port}"),
                false => format!("{ip}:{port}"),
            }));
        }
    }
    first_of(&all, 3, ",")
}

pub(super) const ENDPOINT_SLICE: &[Spec] = &[
    string("AddressType", "Type of the addresses.", |o, _| {
        text(o, "/addressType").into()
    }),
    string("Ports", "Ports of the endpoints.", |o, _| {
        let ports = list(o, "/ports")
            .iter()
            .map(|port| match port["port"].as_i64() {
                Some(number) => number.to_string(),
                None => port["name"].as_str().unwrap_or("*").to_owned(),
            });
        or_unset(first_of(&ports.collect::<Vec<_>>(), 3, ",")).into()
    }),
    string("Endpoints", "Addresses of the endpoints.", |o, _| {
        let addresses = list(o, "/endpoints")
            .iter()
            .flat_map(|e| list(e, "/addresses"));
        let addresses: Vec<String> = addresses
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect();
        or_unset(first_of(&addresses, 3, ",")).into()
    }),
    AGE,
];

fn or_unset(text: String) -> String {
    if text.is_empty() {
        "<unset>".to_owned()
    } else {
        text
    }
}

pub(super) const INGRESS: &[Spec] = &[
    string(
        "Class",
        "The name of the IngressClass resource that should be used for additional configuration",
        |o, _| {
            let class = o.pointer("/spec/ingressClassName").and_then(Value::as_str);
            class.unwrap_or("<none>").into()
        },
    ),
    string(
        "Hosts",
        "Hosts that incoming requests are matched against before the ingress rule",
        |o, _| hosts(list(o, "/spec/rules")).into(),
    ),
    string(
        "Address",
        "Address is a list containing ingress points for the load-balancer",
        |o, _| load_balancer(o).into(),
    ),
    string("Ports", "Ports of TLS configurations that open", |o, _| {
        if list(o, "/spec/tls").is_empty() {
            "80".into()
        } else {
            "80, 443".into()
        }
    }),
    AGE,
];

/// The first three hosts; what follows them is counted by rules, as Kubernetes does.
fn hosts(rules: &[Value]) -> String {
    let mut shown: Vec<&str> = Vec::new();
    let mut more = false;
    for rule in rules {
        more |= shown.len() == 3;
        let host = text(rule, "/host");
        if !more && !host.is_empty() {
            shown.push(host);
        }
    }
    match (shown.is_empty(), more) {
        (true, _) => "*".to_owned(),
        (_, true) => format!("{} + {} more...", shown.join(","), rules.len() - 3),
        _ => shown.join(","),
    }
}

pub(super) const INGRESS_CLASS: &[Spec] = &[
    string("Name", "Name of the object.", |o, _| {
        name_or_default(o, &["ingressclass.kubernetes.io/is-default-class"])
    }),
    string(
        "Controller",
        "Controller that is responsible for handling this class",
        |o, _| text(o, "/spec/controller").into(),
    ),
    string(
        "Parameters",
        "A reference to a resource with additional parameters",
        |o, _| parameters(o).into(),
    ),
    AGE,
];

fn parameters(class: &Value) -> String {
    let Some(parameters) = class.pointer("/spec/parameters").filter(|p| p.is_object()) else {
        return "<none>".to_owned();
    };
    let group = parameters.get("apiGroup").and_then(Value::as_str);
    let group = group.map(|g| format!(".{g}")).unwrap_or_default();
    format!(
        "{}{group}/{}",
        text(parameters, "/kind"),
        text(parameters, "/name")
    )
}

pub(super) const NETWORK_POLICY: &[Spec] = &[
    string(
        "Pod-Selector",
        "Pods that the policy applies to.",
        |o, _| selector_at(o, "/spec/podSelector").into(),
    ),
    AGE,
];
