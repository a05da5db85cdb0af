//! Containers: names, images, ports, environment, mounts, resources and probes.

use std::collections::HashSet;

use serde_json::Value;
use tmc_apimachinery::definition::NameRule;
use tmc_apimachinery::quantity::Quantity;

use super::checks::{
    PROTOCOLS, items, list, map, non_negative, one_of, port_name, port_number, port_number_or_name,
    present, required_name, required_text, text, unique,
};
use crate::report::{Field, Report};

const HANDLERS: [&str; 5] = ["exec", "httpGet", "tcpSocket", "grpc", "sleep"];
const ENV_SOURCES: [&str; 5] = [
    "fieldRef",
    "resourceFieldRef",
    "configMapKeyRef",
    "secretKeyRef",
    "fileKeyRef",
];

/// The containers of a pod; `volumes` are the names that mounts may use.
pub(super) fn all(spec: &Value, volumes: &HashSet<&str>, field: &Field, report: &mut Report) {
    if list(spec, "containers").is_empty() {
        report.required(&field.child("containers"), "");
    }
    let mut names = HashSet::new();
    let mut host_ports = HashSet::new();
    for (container, at) in items(spec, "containers", field) {
        common(container, volumes, &at, report);
        unique(
            &mut names,
            text(container, "name"),
            &at.child("name"),
            report,
        );
        unique_host_ports(container, &mut host_ports, &at, report);
        probes(container, &at, report);
    }
    for (container, at) in items(spec, "initContainers", field) {
        common(container, volumes, &at, report);
        unique(
            &mut names,
            text(container, "name"),
            &at.child("name"),
            report,
        );
        one_of(
            container,
            "restartPolicy",
            &["Always", "Never", "OnFailure"],
            &at,
            report,
        );
        if text(container, "restartPolicy") == "Always" {
            probes(container, &at, report);
            continue;
        }
        for key in [
            "lifecycle",
            "livenessProbe",
            "readinessProbe",
            "startupProbe",
        ] {
            if present(container, key).is_some() {
                let why = "may not be set for init containers without restartPolicy=Always";
                report.forbidden(&at.child(key), why);
            }
        }
    }
    for (container, at) in items(spec, "ephemeralContainers", field) {
        required_name(container, "name", NameRule::Label, &at, report);
        required_text(container, "image", &at, report);
        unique(
            &mut names,
            text(container, "name"),
            &at.child("name"),
            report,
        );
    }
}

fn common(container: &Value, volumes: &HashSet<&str>, field: &Field, report: &mut Report) {
    required_name(container, "name", NameRule::Label, field, report);
    required_text(container, "image", field, report);
    let policies = ["File", "FallbackToLogsOnError"];
    one_of(
        container,
        "terminationMessagePolicy",
        &policies,
        field,
        report,
    );
    one_of(
        container,
        "imagePullPolicy",
        &["Always", "IfNotPresent", "Never"],
        field,
        report,
    );
    ports(container, field, report);
    environment(container, field, report);
    mounts(container, volumes, field, report);
    resources(&container["resources"], &field.child("resources"), report);
}

fn ports(container: &Value, field: &Field, report: &mut Report) {
    let mut names = HashSet::new();
    for (port, at) in items(container, "ports", field) {
        let name = text(port, "name");
        if !name.is_empty() {
            let before = report.len();
            port_name(name, &at.child("name"), report);
            if report.len() == before {
                unique(&mut names, name, &at.child("name"), report);
            }
        }
        match port
            .get("containerPort")
            .and_then(Value::as_i64)
            .unwrap_or(0)
        {
            0 => report.required(&at.child("containerPort"), ""),
            number => port_number(number, &at.child("containerPort"), report),
        }
        match port.get("hostPort").and_then(Value::as_i64).unwrap_or(0) {
            0 => {}
            number => port_number(number, &at.child("hostPort"), report),
        }
        one_of(port, "protocol", PROTOCOLS, &at, report);
    }
}

fn unique_host_ports(
    container: &Value,
    seen: &mut HashSet<String>,
    field: &Field,
    report: &mut Report,
) {
    for (port, at) in items(container, "ports", field) {
        let number = port.get("hostPort").and_then(Value::as_i64).unwrap_or(0);
        if number != 0 {
            let key = format!(
                "{}/{}/{number}",
                text(port, "protocol"),
                text(port, "hostIP")
            );
            unique(seen, &key, &at.child("hostPort"), report);
        }
    }
}

fn environment(container: &Value, field: &Field, report: &mut Report) {
    for (variable, at) in items(container, "env", field) {
        let name = text(variable, "name");
        let printable = |c: char| (' '..='~').contains(&c) && c != '=';
        if name.is_empty() {
            report.required(&at.child("name"), "");
        } else if !name.chars().all(printable) {
            let why = "a valid environment variable name must consist only of printable ASCII characters other than '='";
            report.invalid(&at.child("name"), name, why);
        }
        let Some(source) = present(variable, "valueFrom") else {
            continue;
        };
        let at = at.child("valueFrom");
        let given: Vec<&str> = ENV_SOURCES
            .into_iter()
            .filter(|key| present(source, key).is_some())
            .collect();
        if given.is_empty() {
            let why = "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`";
            report.invalid(&at, "", why);
        } else if !text(variable, "value").is_empty() {
            report.invalid(&at, "", "may not be specified when `value` is not empty");
        } else if given.len() > 1 {
            report.invalid(
                &at,
                "",
                "may not have more than one field specified at a time",
            );
        }
        for key in ["configMapKeyRef", "secretKeyRef"] {
            if let Some(reference) = present(source, key) {
                required_text(reference, "name", &at.child(key), report);
                required_text(reference, "key", &at.child(key), report);
            }
        }
        if let Some(reference) = present(source, "fieldRef") {
            required_text(reference, "fieldPath", &at.child("fieldRef"), report);
        }
    }
    let all = field.child("envFrom");
    for (source, at) in items(container, "envFrom", field) {
        let both = ["configMapRef", "secretRef"].map(|key| (key, present(source, key)));
        for (key, reference) in both {
            if let Some(reference) = reference {
                required_text(reference, "name", &at.child(key), report);
            }
        }
        match both
            .iter()
            .filter(|(_, reference)| reference.is_some())
            .count()
        {
            0 => report.invalid(
                &all,
                "",
                "must specify one of: `configMapRef` or `secretRef`",
            ),
            1 => {}
            _ => report.invalid(
                &all,
                "",
                "may not have more than one field specified at a time",
            ),
        }
    }
}

fn mounts(container: &Value, volumes: &HashSet<&str>, field: &Field, report: &mut Report) {
    let mut paths = HashSet::new();
    for (mount, at) in items(container, "volumeMounts", field) {
        required_text(mount, "name", &at, report);
        let (name, path) = (text(mount, "name"), text(mount, "mountPath"));
        if !volumes.contains(name) {
            report.not_found(&at.child("name"), name);
        }
        required_text(mount, "mountPath", &at, report);
        if !paths.insert(path) {
            report.invalid(&at.child("mountPath"), path, "must be unique");
        }
        let (sub, expression) = (text(mount, "subPath"), text(mount, "subPathExpr"));
        if !sub.is_empty() && !expression.is_empty() {
            let why = "subPathExpr and subPath are mutually exclusive";
            report.invalid(&at.child("subPathExpr"), expression, why);
        }
        for (key, path) in [("subPath", sub), ("subPathExpr", expression)] {
            if path.starts_with('/') {
                report.invalid(&at.child(key), path, "must be a relative path");
            }
            if path.split('/').any(|part| part == "..") {
                report.invalid(&at.child(key), path, "must not contain '..'");
            }
        }
    }
    for (device, at) in items(container, "volumeDevices", field) {
        required_text(device, "name", &at, report);
        if !volumes.contains(text(device, "name")) {
            report.not_found(&at.child("name"), text(device, "name"));
        }
        required_text(device, "devicePath", &at, report);
    }
}

/// Requests against limits; that amounts are quantities is checked for all kinds alike.
pub(super) fn resources(resources: &Value, field: &Field, report: &mut Report) {
    let parse = |value: &Value| value.as_str().and_then(|text| Quantity::parse(text).ok());
    for what in ["limits", "requests"] {
        for (name, value) in map(resources, what) {
            let at = field.child(what).key(name);
            if parse(value).is_some_and(|quantity| quantity.is_negative()) {
                report.invalid(&at, value.clone(), "must be greater than or equal to 0");
            }
            let standard = ["cpu", "memory", "ephemeral-storage"].contains(&name.as_str());
            if !standard && !name.contains('/') && !name.starts_with("hugepages-") {
                let why = "must be a standard resource type or fully qualified";
                report.invalid(&at, name.as_str(), why);
                report.invalid(
                    &at,
                    name.as_str(),
                    "must be a standard resource for containers",
                );
            }
        }
    }
    for (name, request) in map(resources, "requests") {
        let overcommitted = !name.contains('/') && !name.starts_with("hugepages-")
            || name.starts_with("kubernetes.io/");
        let at = field.child("requests");
        let Some(limit) = resources["limits"].get(name) else {
            if !overcommitted {
                let why = "Limit must be set for non overcommitable resources";
                report.required(&field.child("limits"), why);
            }
            continue;
        };
        let (Some(asked), Some(most)) = (parse(request), parse(limit)) else {
            continue;
        };
        if !overcommitted && asked != most {
            report.invalid(
                &at,
                asked.to_string(),
                format!("must be equal to {name} limit of {most}"),
            );
        } else if asked > most {
            let why = format!("must be less than or equal to {name} limit of {most}");
            report.invalid(&at, asked.to_string(), why);
        }
    }
}

fn probes(container: &Value, field: &Field, report: &mut Report) {
    for key in ["livenessProbe", "readinessProbe", "startupProbe"] {
        let Some(probe) = present(container, key) else {
            continue;
        };
        let at = field.child(key);
        handler(probe, &at, report);
        let counts = [
            "initialDelaySeconds",
            "timeoutSeconds",
            "periodSeconds",
            "successThreshold",
            "failureThreshold",
        ];
        non_negative(probe, &counts, &at, report);
        if let Some(threshold) = probe.get("successThreshold").and_then(Value::as_i64)
            && key != "readinessProbe"
            && threshold != 1
        {
            report.invalid(&at.child("successThreshold"), threshold, "must be 1");
        }
    }
    for hook in ["postStart", "preStop"] {
        if let Some(handler_) = present(&container["lifecycle"], hook) {
            handler(handler_, &field.child("lifecycle").child(hook), report);
        }
    }
}

fn handler(probe: &Value, field: &Field, report: &mut Report) {
    let given: Vec<&str> = HANDLERS
        .into_iter()
        .filter(|key| present(probe, key).is_some())
        .collect();
    if given.is_empty() {
        report.required(field, "must specify a handler type");
    }
    for more in given.iter().skip(1) {
        report.forbidden(
            &field.child(more),
            "may not specify more than 1 handler type",
        );
    }
    let Some(first) = given.first() else { return };
    let (action, at) = (&probe[*first], field.child(first));
    match *first {
        "exec" if list(action, "command").is_empty() => report.required(&at.child("command"), ""),
        "httpGet" | "tcpSocket" | "grpc" => {
            port_number_or_name(&action["port"], &at.child("port"), report);
            one_of(action, "scheme", &["HTTP", "HTTPS"], &at, report);
        }
        _ => {}
    }
}
