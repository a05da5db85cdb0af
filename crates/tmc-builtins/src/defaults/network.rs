//! Services, endpoints, ingresses and network policies.

use serde_json::{Value, json};

use super::{Object, each, made, member, set, set_list, set_text, text};

const CLIENT_IP_TIMEOUT: i64 = 3 * 60 * 60;

/// A Service without addresses: these are the member's to allocate.
pub(super) fn service(object: &mut Object) {
    if let Some(status) = made(object, "status") {
        made(status, "loadBalancer");
    }
    let Some(spec) = made(object, "spec") else {
        return;
    };
    session_affinity(spec);
    set_text(spec, "type", "ClusterIP");
    each(spec, "ports", |port| {
        set_text(port, "protocol", "TCP");
        let unset = |target: &Value| target.is_null() || target == 0 || target == "";
        if port.get("targetPort").is_none_or(unset)
            && let Some(number) = port.get("port").filter(|p| p.is_i64()).cloned()
        {
            port.insert("targetPort".into(), number);
        }
    });
    addresses(spec);
    let kind = text(spec, "type").to_owned();
    let external_ips = spec.get("externalIPs").and_then(Value::as_array);
    let external = match kind.as_str() {
        "LoadBalancer" | "NodePort" => true,
        "ClusterIP" => external_ips.is_some_and(|ips| !ips.is_empty()),
        _ => false,
    };
    if external {
        set_text(spec, "externalTrafficPolicy", "Cluster");
    }
    if matches!(kind.as_str(), "NodePort" | "LoadBalancer" | "ClusterIP") {
        set(spec, "internalTrafficPolicy", "Cluster");
    }
    if kind == "LoadBalancer" {
        set(spec, "allocateLoadBalancerNodePorts", true);
        if let Some(status) = member(object, "status").and_then(|s| member(s, "loadBalancer")) {
            each(status, "ingress", |ingress| {
                if !text(ingress, "ip").is_empty() {
                    set(ingress, "ipMode", "VIP");
                }
            });
        }
    }
}

/// No address is chosen here, but a given one shows in both fields; the single one wins.
fn addresses(spec: &mut Object) {
    let one = text(spec, "clusterIP").to_owned();
    let first = spec
        .get("clusterIPs")
        .and_then(|all| all.get(0))
        .and_then(Value::as_str);
    match first.map(str::to_owned) {
        Some(first) if one.is_empty() => set_text(spec, "clusterIP", &first),
        first if !one.is_empty() && first.as_ref() != Some(&one) => {
            spec.insert("clusterIPs".into(), json!([one]));
        }
        _ => {}
    }
}

fn session_affinity(spec: &mut Object) {
    set_text(spec, "sessionAffinity", "None");
    match text(spec, "sessionAffinity") {
        "None" => {
            spec.remove("sessionAffinityConfig");
        }
        "ClientIP" => {
            if let Some(config) = made(spec, "sessionAffinityConfig")
                && let Some(client) = made(config, "clientIP")
            {
                set(client, "timeoutSeconds", CLIENT_IP_TIMEOUT);
            }
        }
        _ => {}
    }
}

pub(super) fn endpoints(object: &mut Object) {
    each(object, "subsets", |subset| {
        each(subset, "ports", |port| set_text(port, "protocol", "TCP"));
    });
}

pub(super) fn discovery(kind: &str, object: &mut Object) {
    if kind != "EndpointSlice" {
        return;
    }
    each(object, "ports", |port| {
        set(port, "name", "");
        set(port, "protocol", "TCP");
    });
    each(object, "endpoints", |endpoint| {
        made(endpoint, "conditions");
    });
}

pub(super) fn networking(kind: &str, object: &mut Object) {
    match kind {
        "Ingress" => {
            made(object, "spec");
            if let Some(status) = made(object, "status") {
                made(status, "loadBalancer");
            }
        }
        "IngressClass" => {
            let parameters = made(object, "spec").and_then(|spec| member(spec, "parameters"));
            if let Some(parameters) = parameters {
                set(parameters, "scope", "Cluster");
            }
        }
        "NetworkPolicy" => network_policy(object),
        _ => {}
    }
}

fn network_policy(object: &mut Object) {
    let Some(spec) = made(object, "spec") else {
        return;
    };
    made(spec, "podSelector");
    for direction in ["ingress", "egress"] {
        each(spec, direction, |rule| {
            each(rule, "ports", |port| set(port, "protocol", "TCP"));
        });
    }
    let egress = spec
        .get("egress")
        .and_then(Value::as_array)
        .is_some_and(|list| !list.is_empty());
    set_list(spec, "policyTypes", || {
        if egress {
            json!(["Ingress", "Egress"])
        } else {
            json!(["Ingress"])
        }
    });
}
