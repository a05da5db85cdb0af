//! Ingresses, network policies, endpoints.

use std::collections::HashSet;
use std::net::IpAddr;

use serde_json::Value;
use tmc_apimachinery::definition::NameRule;

use super::checks::{
    PROTOCOLS, items, list, name_faults, one_of, optional_name, port_name, port_number,
    port_number_or_name, present, required_text, selector, text,
};
use crate::report::{Field, Report};

const MAX_ENDPOINTS: usize = 1000;
const MAX_ADDRESSES: usize = 100;

pub(super) fn networking(kind: &str, object: &Value, report: &mut Report) {
    let (spec, field) = (&object["spec"], Field::new("spec"));
    match kind {
        "Ingress" => ingress(spec, &field, report),
        "IngressClass" => ingress_class(spec, &field, report),
        "NetworkPolicy" => network_policy(spec, &field, report),
        _ => {}
    }
}

fn ingress(spec: &Value, field: &Field, report: &mut Report) {
    let default = present(spec, "defaultBackend");
    if list(spec, "rules").is_empty() && default.is_none() {
        let rules = spec.get("rules").cloned().unwrap_or(Value::Null);
        report.invalid(
            field,
            rules,
            "either `defaultBackend` or `rules` must be specified",
        );
    }
    if let Some(default) = default {
        backend(default, &field.child("defaultBackend"), report);
    }
    for (rule, at) in items(spec, "rules", field) {
        host(text(rule, "host"), &at.child("host"), report);
        let Some(http) = present(rule, "http") else {
            continue;
        };
        let at = at.child("http");
        if list(http, "paths").is_empty() {
            report.required(&at.child("paths"), "");
        }
        for (path, at) in items(http, "paths", &at) {
            ingress_path(path, &at, report);
        }
    }
    for (tls, at) in items(spec, "tls", field) {
        let hosts = at.child("hosts");
        for (index, name) in list(tls, "hosts")
            .iter()
            .filter_map(Value::as_str)
            .enumerate()
        {
            host(name, &hosts.index(index), report);
        }
        optional_name(tls, "secretName", NameRule::Subdomain, &at, report);
    }
    optional_name(spec, "ingressClassName", NameRule::Subdomain, field, report);
}

fn host(name: &str, field: &Field, report: &mut Report) {
    if name.is_empty() {
        return;
    }
    if name.parse::<IpAddr>().is_ok() {
        report.invalid(field, name, "must be a DNS name, not an IP address");
    }
    match name.strip_prefix("*.") {
        Some(rest) if !rest.contains('*') => {
            if !name_faults(rest, NameRule::Subdomain).is_empty() {
                report.invalid(field, name, WILDCARD);
            }
        }
        _ if name.contains('*') => report.invalid(field, name, WILDCARD),
        _ => {
            for fault in name_faults(name, NameRule::Subdomain) {
                report.invalid(field, name, fault);
            }
        }
    }
}

const WILDCARD: &str = "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character (e.g. '*.example.com', regex used for validation is '\\*\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";

fn ingress_path(path: &Value, field: &Field, report: &mut Report) {
    let (value, at) = (text(path, "path"), field.child("path"));
    match text(path, "pathType") {
        "" => {
            report.required(&field.child("pathType"), "pathType must be specified");
            return;
        }
        "Exact" | "Prefix" => {
            if !value.starts_with('/') {
                report.invalid(&at, value, "must be an absolute path");
            }
            let lower = value.to_lowercase();
            for sequence in ["//", "/./", "/../", "%2f"] {
                if lower.contains(sequence) {
                    report.invalid(&at, value, format!("must not contain '{sequence}'"));
                }
            }
            for suffix in ["/..", "/."] {
                if value.ends_with(suffix) {
                    report.invalid(&at, value, format!("cannot end with '{suffix}'"));
                }
            }
        }
        "ImplementationSpecific" => {
            if !value.is_empty() && !value.starts_with('/') {
                report.invalid(&at, value, "must be an absolute path");
            }
        }
        other => {
            let types = ["Exact", "ImplementationSpecific", "Prefix"];
            report.not_supported(&field.child("pathType"), other, &types);
        }
    }
    backend(&path["backend"], &field.child("backend"), report);
}

fn backend(backend: &Value, field: &Field, report: &mut Report) {
    let (resource, service) = (present(backend, "resource"), present(backend, "service"));
    match (resource, service) {
        (Some(_), Some(_)) => {
            report.invalid(field, "", "cannot set both resource and service backends");
        }
        (Some(resource), None) => {
            required_text(resource, "kind", &field.child("resource"), report);
            required_text(resource, "name", &field.child("resource"), report);
        }
        (None, None) => report.invalid(field, "", "resource or service backend is required"),
        (None, Some(service)) => {
            let at = field.child("service");
            required_text(service, "name", &at, report);
            optional_name(service, "name", NameRule::Label, &at, report);
            let (port, at) = (&service["port"], at.child("port"));
            let number = port.get("number").and_then(Value::as_i64).unwrap_or(0);
            match (text(port, "name"), number) {
                ("", 0) => report.required(field, "port name or number is required"),
                ("", number) => port_number(number, &at.child("number"), report),
                (name, 0) => port_name(name, &at.child("name"), report),
                _ => report.invalid(field, "", "cannot set both port name & port number"),
            }
        }
    }
}

fn ingress_class(spec: &Value, field: &Field, report: &mut Report) {
    let controller = text(spec, "controller");
    if controller.len() > 250 {
        report.too_long(&field.child("controller"), 250);
    }
    if !controller.is_empty() && !controller.contains('/') {
        let why = "must be a domain-prefixed path (such as \"acme.io/foo\")";
        report.invalid(&field.child("controller"), controller, why);
    }
    let Some(parameters) = present(spec, "parameters") else {
        return;
    };
    let at = field.child("parameters");
    required_text(parameters, "kind", &at, report);
    required_text(parameters, "name", &at, report);
    one_of(parameters, "scope", &["Cluster", "Namespace"], &at, report);
    let named = !text(parameters, "namespace").is_empty();
    match text(parameters, "scope") {
        "Namespace" if !named => {
            let why = "`parameters.scope` is set to 'Namespace'";
            report.required(&at.child("namespace"), why);
        }
        "Cluster" if named => {
            let why = "`parameters.scope` is set to 'Cluster'";
            report.forbidden(&at.child("namespace"), why);
        }
        _ => {}
    }
}

fn network_policy(spec: &Value, field: &Field, report: &mut Report) {
    selector(spec, "podSelector", field, report);
    for (direction, peers) in [("ingress", "from"), ("egress", "to")] {
        for (rule, at) in items(spec, direction, field) {
            for (port, at) in items(rule, "ports", &at) {
                policy_port(port, &at, report);
            }
            for (peer, at) in items(rule, peers, &at) {
                policy_peer(peer, &at, report);
            }
        }
    }
    let types = list(spec, "policyTypes");
    let at = field.child("policyTypes");
    if types.len() > 2 {
        report.invalid(
            &at,
            types.to_vec(),
            "may not specify more than two policyTypes",
        );
        return;
    }
    for (index, kind) in types.iter().filter_map(Value::as_str).enumerate() {
        if !matches!(kind, "Ingress" | "Egress") {
            report.not_supported(&at.index(index), kind, &["Ingress", "Egress"]);
        }
    }
}

fn policy_port(port: &Value, field: &Field, report: &mut Report) {
    one_of(port, "protocol", &["TCP", "UDP", "SCTP"], field, report);
    let end = port.get("endPort").and_then(Value::as_i64);
    let at = field.child("endPort");
    port_number_or_name(&port["port"], &field.child("port"), report);
    match (present(port, "port"), end) {
        (None, Some(end)) => {
            report.invalid(
                &at,
                end,
                "may not be specified when `port` is not specified",
            );
        }
        (Some(Value::String(_)), Some(end)) => {
            report.invalid(&at, end, "may not be specified when `port` is non-numeric");
        }
        (Some(first), Some(end)) => {
            if first.as_i64().is_some_and(|first| end < first) {
                report.invalid(
                    &at,
                    first.clone(),
                    "must be greater than or equal to `port`",
                );
            }
            port_number(end, &at, report);
        }
        _ => {}
    }
}

fn policy_peer(peer: &Value, field: &Field, report: &mut Report) {
    selector(peer, "podSelector", field, report);
    selector(peer, "namespaceSelector", field, report);
    let given = |key: &str| usize::from(present(peer, key).is_some());
    let peers = given("podSelector") + given("namespaceSelector");
    match (peers, present(peer, "ipBlock")) {
        (0, None) => report.required(field, "must specify a peer"),
        (_, None) => {}
        (others, Some(block)) => {
            if others > 0 {
                report.forbidden(field, "may not specify both ipBlock and another peer");
            }
            ip_block(block, &field.child("ipBlock"), report);
        }
    }
}

fn ip_block(block: &Value, field: &Field, report: &mut Report) {
    let cidr = text(block, "cidr");
    let outer = parse_cidr(cidr);
    if cidr.is_empty() {
        report.required(&field.child("cidr"), "");
    } else if outer.is_none() {
        report.invalid(&field.child("cidr"), cidr, CIDR);
    }
    let at = field.child("except");
    for (index, except) in list(block, "except")
        .iter()
        .filter_map(Value::as_str)
        .enumerate()
    {
        let at = at.index(index);
        match (outer, parse_cidr(except)) {
            (_, None) => report.invalid(&at, except, CIDR),
            (Some(outer), Some(inner)) if !strictly_within(inner, outer) => {
                report.invalid(&at, except, "must be a strict subset of `cidr`");
            }
            _ => {}
        }
    }
}

const CIDR: &str = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";

/// An address as 128 bits, whether it is IPv4, and the length of its prefix.
type Cidr = (u128, bool, u32);

fn parse_cidr(text: &str) -> Option<Cidr> {
    let (address, prefix) = text.split_once('/')?;
    let digits = !prefix.is_empty() && prefix.bytes().all(|b| b.is_ascii_digit());
    let prefix: u32 = prefix.parse().ok().filter(|_| digits)?;
    match address.parse().ok()? {
        IpAddr::V4(ip) if prefix <= 32 => Some((u128::from(ip.to_bits()) << 96, true, prefix)),
        IpAddr::V6(ip) if prefix <= 128 => Some((ip.to_bits(), false, prefix)),
        _ => None,
    }
}

fn strictly_within(inner: Cidr, outer: Cidr) -> bool {
    let mask = |length: u32| u128::MAX.checked_shl(128 - length).unwrap_or(0);
    let head = |ip: u128| ip & mask(outer.2);
    inner.1 == outer.1 && inner.2 > outer.2 && head(inner.0) == head(outer.0)
}

const NO_ADDRESS: &str = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";

/// An address to which traffic may be sent: of one machine, and not of this one.
fn endpoint_ip(ip: &str, field: &Field, report: &mut Report) {
    let Ok(address) = ip.parse::<IpAddr>() else {
        report.invalid(field, ip, NO_ADDRESS);
        report.invalid(field, ip, "must be a valid IP address");
        return;
    };
    let (local, multicast) = match address {
        IpAddr::V4(v4) => (v4.is_link_local(), v4.octets()[..3] == [224, 0, 0]),
        IpAddr::V6(v6) => (
            v6.is_unicast_link_local(),
            v6.segments()[0] & 0xff0f == 0xff02,
        ),
    };
    let faults = [
        (
            address.is_unspecified(),
            format!("may not be unspecified ({ip})"),
        ),
        (
            address.is_loopback(),
            "may not be in the loopback range (127.0.0.0/8, ::1/128)".to_owned(),
        ),
        (
            local,
            "may not be in the link-local range (169.254.0.0/16, fe80::/10)".to_owned(),
        ),
        (
            multicast,
            "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)".to_owned(),
        ),
    ];
    for (_, fault) in faults.iter().filter(|(wrong, _)| *wrong) {
        report.invalid(field, ip, fault);
    }
}

pub(super) fn endpoints(object: &Value, report: &mut Report) {
    for (subset, at) in items(object, "subsets", &Field::new("")) {
        let addresses = ["addresses", "notReadyAddresses"];
        if addresses.iter().all(|key| list(subset, key).is_empty()) {
            report.required(&at, "must specify `addresses` or `notReadyAddresses`");
        }
        for key in addresses {
            for (address, at) in items(subset, key, &at) {
                endpoint_ip(text(address, "ip"), &at.child("ip"), report);
                optional_name(address, "hostname", NameRule::Label, &at, report);
            }
        }
        let named = list(subset, "ports").len() > 1;
        for (port, at) in items(subset, "ports", &at) {
            if named {
                required_text(port, "name", &at, report);
            }
            optional_name(port, "name", NameRule::Label, &at, report);
            let number = port.get("port").and_then(Value::as_i64).unwrap_or(0);
            port_number(number, &at.child("port"), report);
            one_of(port, "protocol", PROTOCOLS, &at, report);
        }
    }
}

pub(super) fn endpoint_slice(object: &Value, report: &mut Report) {
    let root = Field::new("");
    let family = text(object, "addressType");
    if family.is_empty() {
        report.required(&Field::new("addressType"), "");
    } else {
        one_of(
            object,
            "addressType",
            &["FQDN", "IPv4", "IPv6"],
            &root,
            report,
        );
    }
    if list(object, "endpoints").len() > MAX_ENDPOINTS {
        report.forbidden(
            &Field::new("endpoints"),
            format!("must have at most {MAX_ENDPOINTS} items"),
        );
        return;
    }
    for (endpoint, at) in items(object, "endpoints", &root) {
        let addresses = list(endpoint, "addresses");
        let at = at.child("addresses");
        if addresses.is_empty() {
            report.required(&at, "must contain at least 1 address");
        }
        if addresses.len() > MAX_ADDRESSES {
            report.forbidden(&at, format!("must have at most {MAX_ADDRESSES} items"));
        }
        for (index, address) in addresses.iter().filter_map(Value::as_str).enumerate() {
            let parsed = address.parse::<IpAddr>();
            match (family, parsed) {
                ("IPv4" | "IPv6", Err(_)) => {
                    report.invalid(&at.index(index), address, NO_ADDRESS);
                    continue;
                }
                ("IPv4", Ok(IpAddr::V6(_))) => {
                    report.invalid(&at, address, "must be an IPv4 address");
                }
                ("IPv6", Ok(IpAddr::V4(_))) => {
                    report.invalid(&at, address, "must be an IPv6 address");
                }
                ("IPv4" | "IPv6", _) => {}
                _ => continue,
            }
            endpoint_ip(address, &at.index(index), report);
        }
    }
    let mut names = HashSet::new();
    for (port, at) in items(object, "ports", &root) {
        one_of(port, "protocol", PROTOCOLS, &at, report);
        optional_name(port, "name", NameRule::Label, &at, report);
        if !names.insert(text(port, "name")) {
            report.duplicate(&at.child("name"), text(port, "name"));
        }
    }
}
