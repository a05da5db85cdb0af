//! What kube-apiserver 1.36.2 answers, recorded, against what this crate computes.
//!
//! `tests/golden/defaults.ndjson` and `errors.ndjson` hold objects and what came back from posting
//! them with `dryRun=All` (server-set metadata taken off; errors as field and message);
//! `updates.ndjson` pairs of a stored object and a changed one with the errors of the PUT;
//! `tables.ndjson` objects with the columns and cells of `as=Table` and the time of the answer.
//! A new line is recorded in the same way. Every allowed difference stands below with its reason.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::Value;
use tmc_apimachinery::definition::ResourceDefinition;
use tmc_apimachinery::status::Cause;
use tmc_apimachinery::table::{IncludeObject, table};
use tmc_apimachinery::{GroupVersion, GroupVersionKind};

/// Members of stored objects that are not this server's to write: kind (empty for any), path, why.
const MEMBERS: &[(&str, &str, &str)] = &[
    (
        "Service",
        ".spec.clusterIP",
        "the member allocates addresses",
    ),
    (
        "Service",
        ".spec.clusterIPs",
        "the member allocates addresses",
    ),
    (
        "Service",
        ".spec.ipFamilies",
        "the member knows its address families",
    ),
    (
        "Service",
        ".spec.ipFamilyPolicy",
        "the member knows its address families",
    ),
    (
        "Service",
        ".spec.ports[0].nodePort",
        "the member allocates node ports",
    ),
    ("Job", ".spec.selector", "carries the member's uid"),
    ("Job", ".metadata.labels", "carries the member's uid"),
    (
        "Job",
        ".spec.template.metadata.labels",
        "carries the member's uid",
    ),
    (
        "DaemonSet",
        ".metadata.annotations",
        "a counter of the member's controller",
    ),
    (
        "Namespace",
        ".spec.finalizers",
        "part of creation, not of defaulting",
    ),
    (
        "PersistentVolumeClaim",
        ".metadata.finalizers",
        "an admission plugin of the member",
    ),
    (
        "PersistentVolume",
        ".metadata.finalizers",
        "an admission plugin of the member",
    ),
    (
        "PersistentVolume",
        ".status.lastPhaseTransitionTime",
        "the time of the request",
    ),
    ("Node", ".spec.taints", "an admission plugin of the member"),
    (
        "Event",
        ".eventTime",
        "an absent time is left out, not null",
    ),
    (
        "Event",
        ".firstTimestamp",
        "an absent time is left out, not null",
    ),
    (
        "Event",
        ".lastTimestamp",
        "an absent time is left out, not null",
    ),
    (
        "HorizontalPodAutoscaler",
        ".status.currentMetrics",
        "an empty list is left out, not null",
    ),
    ("Role", ".rules", "an empty list is an empty list, not null"),
    (
        "ClusterRole",
        ".rules",
        "an empty list is an empty list, not null",
    ),
    (
        "CustomResourceDefinition",
        ".status",
        "written with the establishment",
    ),
];

/// Errors that only the real server reports: part of field and message, why.
const ONLY_REAL: &[(&str, &str, &str)] = &[
    (
        "metadata.name",
        "",
        "names are checked by the rule of the definition",
    ),
    (
        "spec.template.metadata.labels",
        "`selector` does not match",
        "said once, for the selector",
    ),
    (
        "spec.version",
        "",
        "Kubernetes speaks of fields of an old version",
    ),
    (
        "spec.additionalPrinterColumns",
        "",
        "Kubernetes speaks of fields of an old version",
    ),
    (
        "spec.subresources",
        "",
        "Kubernetes speaks of fields of an old version",
    ),
    ("spec.strategy", "", "quotes Go structures"),
    (
        "status.storedVersions",
        "must have at least one",
        "follows from the other errors",
    ),
    (
        "volumeMode",
        "field is immutable",
        "said by the error of the spec",
    ),
    ("data[.dockerconfigjson]", "", "quotes Go's JSON parser"),
    (
        "spec.ports[1]",
        "Duplicate value: {",
        "members in another order",
    ),
];

/// Errors that only this crate reports: part of field and message, why.
const ONLY_OURS: &[(&str, &str, &str)] = &[
    (
        "",
        "Duplicate value: {",
        "lists with keys are checked by the schema, too",
    ),
    ("spec.versions[0]", "", "fields as the user wrote them"),
    ("spec.strategy", "", "does not quote Go structures"),
    (
        "spec.internalTrafficPolicy",
        "",
        "Kubernetes stops at the address families",
    ),
    (
        "data[.dockerconfigjson]",
        "",
        "does not quote Go's JSON parser",
    ),
    (
        "spec.rules[0].http.paths[3].pathType",
        "Required value",
        "by the schema",
    ),
    (
        "spec.versions",
        "Invalid value: [",
        "quotes the names of the versions, not all of them",
    ),
];

fn rows(text: &str) -> impl Iterator<Item = Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).expect("a line is an object"))
}

fn definition(object: &Value) -> Arc<ResourceDefinition> {
    let gv = GroupVersion::parse(object["apiVersion"].as_str().unwrap()).unwrap();
    let gvk = GroupVersionKind::new(&gv.group, &gv.version, object["kind"].as_str().unwrap());
    let found = tmc_builtins::definitions()
        .into_iter()
        .find(|d| d.gvk == gvk);
    found.unwrap_or_else(|| panic!("{gvk:?} is not served"))
}

fn defaulted(object: &Value) -> Value {
    let definition = definition(object);
    let schema = definition.schema.as_ref().unwrap();
    let mut object = object.clone();
    schema.prune(&mut object);
    tmc_builtins::default(&definition.gvk, &mut object);
    schema.default(&mut object);
    object
}

fn causes(object: &Value, old: Option<&Value>) -> Vec<Cause> {
    let definition = definition(object);
    let mut causes = definition.schema.as_ref().unwrap().validate(object);
    for path in definition.immutable_fields.iter().filter(|_| old.is_some()) {
        let pointer = format!("/{}", path.replace('.', "/"));
        let [old, new] =
            [old.unwrap(), object].map(|o| o.pointer(&pointer).unwrap_or(&Value::Null));
        if old != new {
            causes.push(Cause::invalid(path, new, "field is immutable"));
        }
    }
    causes.extend(tmc_builtins::validate(&definition.gvk, object, old));
    causes
}

/// Differences of two values as `path: ours != real`.
fn differences(path: &str, ours: &Value, real: &Value, found: &mut Vec<(String, String)>) {
    match (ours, real) {
        (Value::Object(a), Value::Object(b)) => {
            for key in a.keys().chain(b.keys()).collect::<BTreeSet<_>>() {
                let null = &Value::Null;
                let (a, b) = (a.get(key), b.get(key));
                if a.is_none() != b.is_none() {
                    found.push((format!("{path}.{key}"), format!("{a:?} != {b:?}")));
                } else {
                    let path = format!("{path}.{key}");
                    differences(&path, a.unwrap_or(null), b.unwrap_or(null), found);
                }
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (index, (a, b)) in a.iter().zip(b).enumerate() {
                differences(&format!("{path}[{index}]"), a, b, found);
            }
        }
        _ if ours != real => found.push((path.to_owned(), format!("{ours} != {real}"))),
        _ => {}
    }
}

#[test]
fn objects_are_stored_as_kube_apiserver_stores_them() {
    let mut wrong = Vec::new();
    for row in rows(include_str!("golden/defaults.ndjson")) {
        let kind = row["input"]["kind"].as_str().unwrap();
        let mut found = Vec::new();
        let ours = defaulted(&row["input"]);
        differences("", &ours, &row["output"], &mut found);
        found.retain(|(path, _)| {
            !MEMBERS
                .iter()
                .any(|(of, member, _)| *of == kind && path.starts_with(member))
        });
        wrong.extend(
            found
                .into_iter()
                .map(|(path, what)| format!("{kind}{path}: {what}")),
        );
        assert_eq!(defaulted(&ours), ours, "defaulting twice changes nothing");
        let causes = causes(&ours, None);
        assert!(
            causes.is_empty(),
            "{kind} {}: {causes:?}",
            row["input"]["metadata"]["name"]
        );
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A message without what quotes Go structures or diffs of them.
fn comparable(message: &str) -> String {
    let message = message.split('\n').next().unwrap_or_default();
    match (
        message.find("value: {").or(message.find("value: [{")),
        message.rfind("}: ").or(message.rfind("}]: ")),
    ) {
        (Some(start), Some(end)) if start < end => {
            format!(
                "{}…{}",
                &message[..start + 7],
                message[end..].trim_start_matches(['}', ']'])
            )
        }
        _ => message.to_owned(),
    }
}

/// Errors on one side only that no reason allows.
fn unexplained(ours: &[Cause], row: &Value) -> Vec<String> {
    let ours: BTreeSet<(String, String)> = ours
        .iter()
        .map(|c| (c.field.clone(), comparable(&c.message)))
        .collect();
    let real: BTreeSet<(String, String)> = row["causes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| {
            (
                c[0].as_str().unwrap().to_owned(),
                comparable(c[1].as_str().unwrap()),
            )
        })
        .collect();
    let allowed = |list: &[(&str, &str, &str)], (field, message): &(String, String)| {
        list.iter()
            .any(|(at, part, _)| field.starts_with(at) && message.contains(part))
    };
    let missing = real
        .difference(&ours)
        .filter(|c| !allowed(ONLY_REAL, c))
        .map(|c| format!("only real: {c:?}"));
    let extra = ours
        .difference(&real)
        .filter(|c| !allowed(ONLY_OURS, c))
        .map(|c| format!("only ours: {c:?}"));
    missing.chain(extra).collect()
}

#[test]
fn what_kube_apiserver_refuses_is_refused_with_its_words() {
    let mut wrong = Vec::new();
    for row in rows(include_str!("golden/errors.ndjson")) {
        let ours = causes(&defaulted(&row["input"]), None);
        assert!(!ours.is_empty(), "accepted: {}", row["input"]);
        let name = format!(
            "{} {}",
            row["input"]["kind"], row["input"]["metadata"]["name"]
        );
        wrong.extend(
            unexplained(&ours, &row)
                .into_iter()
                .map(|what| format!("{name} {what}")),
        );
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_may_change_is_what_kube_apiserver_lets_change() {
    let mut wrong = Vec::new();
    for row in rows(include_str!("golden/updates.ndjson")) {
        let ours = causes(&defaulted(&row["new"]), Some(&row["old"]));
        let name = format!("{} {}", row["old"]["kind"], row["old"]["metadata"]["name"]);
        wrong.extend(
            unexplained(&ours, &row)
                .into_iter()
                .map(|what| format!("{name} {what}")),
        );
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn tables_have_the_columns_and_cells_of_kube_apiserver() {
    let mut wrong = Vec::new();
    for row in rows(include_str!("golden/tables.ndjson")) {
        let (object, now) = (&row["object"], row["now"].as_i64().unwrap());
        // Events have their name last, where a table must not put another one first.
        let skip = usize::from(object["kind"] == "Event");
        let columns = &definition(object).columns;
        let ours = table(
            columns,
            std::slice::from_ref(object),
            Value::Null,
            IncludeObject::None,
            true,
            now,
        );
        let headers: Vec<Value> = ours["columnDefinitions"]
            .as_array()
            .unwrap()
            .iter()
            .map(|c| serde_json::json!([c["name"], c["type"], c["priority"]]))
            .collect();
        let all = headers.len();
        let real = row["columns"].as_array().unwrap();
        let skip = if all > real.len() { skip } else { 0 };
        if headers[skip..] != real[..] {
            wrong.push(format!("{}: {headers:?} != {real:?}", object["kind"]));
        }
        let cells = &ours["rows"][0]["cells"].as_array().unwrap()[skip..];
        let same = cells
            .iter()
            .zip(row["cells"].as_array().unwrap())
            .all(|(a, b)| a == b || [a, b].iter().all(|cell| is_seconds(cell)));
        if !same || cells.len() != real.len() {
            wrong.push(format!("{}: {cells:?} != {}", object["kind"], row["cells"]));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// An age of some seconds: the recorded clock and the server's may differ by one.
fn is_seconds(cell: &Value) -> bool {
    let digits = cell.as_str().and_then(|text| text.strip_suffix('s'));
    digits.is_some_and(|digits| digits.bytes().all(|b| b.is_ascii_digit()))
}
