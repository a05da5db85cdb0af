//! Services.

use std::collections::HashSet;
use std::net::IpAddr;

use serde_json::Value;
use tmc_apimachinery::definition::NameRule;
use tmc_apimachinery::meta::validate_name;

use super::checks::{
    PROTOCOLS, items, labels, list, one_of, optional_name, port_number, port_number_or_name, text,
    unique,
};
use crate::report::{Field, Report};

const MAX_TIMEOUT: i64 = 86_400;

pub(super) fn service(object: &Value, old: Option<&Value>, report: &mut Report) {
    let (spec, field) = (&object["spec"], Field::new("spec"));
    let kind = text(spec, "type");
    let headless = text(spec, "clusterIP") == "None"
        || spec.pointer("/clusterIPs/0").is_some_and(|ip| ip == "None");
    if list(spec, "ports").is_empty() && !headless && kind != "ExternalName" {
        report.required(&field.child("ports"), "");
    }
    match kind {
        "LoadBalancer" | "NodePort" if headless => {
            let why = format!("may not be set to 'None' for {kind} services");
            report.invalid(&field.child("clusterIPs").index(0), "None", why);
        }
        "ExternalName" => external_name(spec, &field, report),
        _ => {}
    }
    ports(spec, kind, &field, report);
    labels(spec, "selector", &field, report);
    session_affinity(spec, &field, report);
    addresses(spec, &field, report);
    let types = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
    one_of(spec, "type", &types, &field, report);
    one_of(
        spec,
        "internalTrafficPolicy",
        &["Cluster", "Local"],
        &field,
        report,
    );
    one_of(
        spec,
        "externalTrafficPolicy",
        &["Cluster", "Local"],
        &field,
        report,
    );
    let policies = ["PreferDualStack", "RequireDualStack", "SingleStack"];
    one_of(spec, "ipFamilyPolicy", &policies, &field, report);
    if let Some(old) = old {
        update(spec, &old["spec"], &field, report);
    }
}

fn external_name(spec: &Value, field: &Field, report: &mut Report) {
    for key in ["clusterIPs", "ipFamilies"] {
        if !list(spec, key).is_empty() {
            report.forbidden(
                &field.child(key),
                "may not be set for ExternalName services",
            );
        }
    }
    let at = field.child("externalName");
    match text(spec, "externalName").trim_end_matches('.') {
        "" => report.required(&at, ""),
        name => report.extend(validate_name(at.as_str(), name, NameRule::Subdomain)),
    }
}

fn ports(spec: &Value, kind: &str, field: &Field, report: &mut Report) {
    let named = list(spec, "ports").len() > 1;
    let (mut names, mut numbers, mut node_ports) = (HashSet::new(), HashSet::new(), HashSet::new());
    for (port, at) in items(spec, "ports", field) {
        let name = text(port, "name");
        if named && name.is_empty() {
            report.required(&at.child("name"), "");
        }
        optional_name(port, "name", NameRule::Label, &at, report);
        unique(&mut names, name, &at.child("name"), report);
        let number = |key: &str| port.get(key).and_then(Value::as_i64).unwrap_or(0);
        port_number(number("port"), &at.child("port"), report);
        one_of(port, "protocol", PROTOCOLS, &at, report);
        port_number_or_name(&port["targetPort"], &at.child("targetPort"), report);
        let protocol = text(port, "protocol");
        let node = number("nodePort");
        if node != 0 {
            port_number(node, &at.child("nodePort"), report);
            if kind == "ClusterIP" {
                let why = "may not be used when `type` is 'ClusterIP'";
                report.forbidden(&at.child("nodePort"), why);
            }
            if !node_ports.insert((protocol, node)) {
                report.duplicate(&at.child("nodePort"), node);
            }
        }
        if !numbers.insert((protocol, number("port"))) {
            let value = serde_json::json!({
                "Name": "", "Protocol": protocol, "AppProtocol": null, "Port": number("port"),
                "TargetPort": 0, "NodePort": 0,
            });
            report.duplicate(&at, value);
        }
    }
}

fn session_affinity(spec: &Value, field: &Field, report: &mut Report) {
    one_of(
        spec,
        "sessionAffinity",
        &["ClientIP", "None"],
        field,
        report,
    );
    let timeout = spec.pointer("/sessionAffinityConfig/clientIP/timeoutSeconds");
    if let Some(seconds) = timeout.and_then(Value::as_i64)
        && text(spec, "sessionAffinity") == "ClientIP"
        && !(1..=MAX_TIMEOUT).contains(&seconds)
    {
        let at = field
            .child("sessionAffinityConfig")
            .child("clientIP")
            .child("timeoutSeconds");
        report.invalid(
            &at,
            seconds,
            format!("must be greater than 0 and less than {MAX_TIMEOUT}"),
        );
    }
}

fn addresses(spec: &Value, field: &Field, report: &mut Report) {
    let (one, all) = (text(spec, "clusterIP"), list(spec, "clusterIPs"));
    let at = field.child("clusterIPs");
    match all.first().and_then(Value::as_str) {
        Some(first) if one.is_empty() && !first.is_empty() => {
            let why = "must be empty when `clusterIP` is not specified";
            report.invalid(&at, all.to_vec(), why);
        }
        Some(first) if first != one => {
            report.invalid(&at, all.to_vec(), "first value must match `clusterIP`");
        }
        _ => {}
    }
    if all.len() > 2 {
        report.invalid(&at, all.to_vec(), "may only hold up to 2 values");
    }
    for (key, special) in [("clusterIPs", true), ("externalIPs", false)] {
        for (index, ip) in list(spec, key).iter().filter_map(Value::as_str).enumerate() {
            if !(special && matches!(ip, "None" | "")) && ip.parse::<IpAddr>().is_err() {
                let why = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
                report.invalid(&field.child(key).index(index), ip, why);
            }
        }
    }
    let mut families = HashSet::new();
    for (index, family) in list(spec, "ipFamilies")
        .iter()
        .filter_map(Value::as_str)
        .enumerate()
    {
        let at = field.child("ipFamilies").index(index);
        if !matches!(family, "IPv4" | "IPv6") {
            report.not_supported(&at, family, &["IPv4", "IPv6"]);
        }
        unique(&mut families, family, &at, report);
    }
}

/// A given address stays while the service keeps a type that has one. Leaving it out is fine: the
/// member keeps what it has allocated.
fn update(spec: &Value, old: &Value, field: &Field, report: &mut Report) {
    let (was, is) = (text(old, "clusterIP"), text(spec, "clusterIP"));
    let external = |spec: &Value| text(spec, "type") == "ExternalName";
    let changed = !was.is_empty() && !is.is_empty() && was != is;
    if changed && !external(spec) && !external(old) {
        let all = list(spec, "clusterIPs").to_vec();
        report.invalid(
            &field.child("clusterIPs").index(0),
            all,
            "may not change once set",
        );
    }
}
