//! Pods and pod templates.

use serde_json::{Map, Value, json};

use super::{Object, absent, each, made, member, set, set_number, set_text, text};

const CONTAINER_LISTS: [&str; 3] = ["containers", "initContainers", "ephemeralContainers"];
const PROBES: [&str; 3] = ["livenessProbe", "readinessProbe", "startupProbe"];
const VOLUME_MODE: i64 = 0o644;

/// A Pod: its spec, and what is filled in Pods but not in templates.
pub(super) fn pod(object: &mut Object) {
    let Some(spec) = made(object, "spec") else {
        return;
    };
    pod_spec(spec);
    for list in ["containers", "initContainers"] {
        each(spec, list, requests_from_limits);
    }
    pod_level_requests(spec);
    set(spec, "enableServiceLinks", true);
    if spec.get("hostNetwork") == Some(&Value::Bool(true)) {
        for list in ["containers", "initContainers"] {
            each(spec, list, host_ports);
        }
    }
    let class = quality_of_service(spec);
    if let Some(status) = made(object, "status") {
        set_text(status, "phase", "Pending");
        set_text(status, "qosClass", class);
        for list in [
            "containerStatuses",
            "initContainerStatuses",
            "ephemeralContainerStatuses",
        ] {
            each(status, list, container_status);
        }
    }
}

/// What the status of a container always has, whoever reports it.
fn container_status(status: &mut Object) {
    set(status, "image", "");
    set(status, "imageID", "");
    set(status, "ready", false);
    set(status, "restartCount", 0);
    made(status, "state");
    made(status, "lastState");
}

/// A pod template in a member of `object`.
pub(super) fn template(object: &mut Object, key: &str) {
    let Some(template) = made(object, key) else {
        return;
    };
    made(template, "metadata");
    if let Some(spec) = made(template, "spec") {
        pod_spec(spec);
    }
}

fn pod_spec(spec: &mut Object) {
    set_text(spec, "dnsPolicy", "ClusterFirst");
    set_text(spec, "restartPolicy", "Always");
    set(spec, "securityContext", Map::new());
    set(spec, "terminationGracePeriodSeconds", 30);
    set_text(spec, "schedulerName", "default-scheduler");
    service_account(spec);
    each(spec, "volumes", volume);
    for list in CONTAINER_LISTS {
        each(spec, list, container);
    }
}

/// The old and the new name of the field always say the same; the new one wins.
fn service_account(spec: &mut Object) {
    let old = text(spec, "serviceAccount").to_owned();
    let new = text(spec, "serviceAccountName").to_owned();
    let name = if new.is_empty() { old } else { new };
    if !name.is_empty() {
        spec.insert("serviceAccount".into(), name.as_str().into());
        spec.insert("serviceAccountName".into(), name.into());
    }
}

fn container(container: &mut Object) {
    let pull_policy = pull_policy(text(container, "image"));
    set_text(container, "imagePullPolicy", pull_policy);
    set_text(container, "terminationMessagePath", "/dev/termination-log");
    set_text(container, "terminationMessagePolicy", "File");
    made(container, "resources");
    each(container, "ports", |port| set_text(port, "protocol", "TCP"));
    each(container, "env", |env| {
        let Some(source) = member(env, "valueFrom") else {
            return;
        };
        if let Some(field) = member(source, "fieldRef") {
            set_text(field, "apiVersion", "v1");
        }
        if let Some(resource) = member(source, "resourceFieldRef") {
            set(resource, "divisor", "0");
        }
        if let Some(file) = member(source, "fileKeyRef") {
            set(file, "optional", false);
        }
    });
    for name in PROBES {
        if let Some(probe) = member(container, name) {
            set_number(probe, "timeoutSeconds", 1);
            set_number(probe, "periodSeconds", 10);
            set_number(probe, "successThreshold", 1);
            set_number(probe, "failureThreshold", 3);
            handler(probe);
            if let Some(grpc) = member(probe, "grpc") {
                set(grpc, "service", "");
            }
        }
    }
    if let Some(lifecycle) = member(container, "lifecycle") {
        for hook in ["postStart", "preStop"] {
            if let Some(hook) = member(lifecycle, hook) {
                handler(hook);
            }
        }
    }
}

fn handler(probe: &mut Object) {
    if let Some(get) = member(probe, "httpGet") {
        set_text(get, "path", "/");
        set_text(get, "scheme", "HTTP");
    }
}

/// `Always` for images whose tag is `latest`, also when that is only implied.
fn pull_policy(image: &str) -> &'static str {
    if tag_is_latest(image) {
        "Always"
    } else {
        "IfNotPresent"
    }
}

fn tag_is_latest(image: &str) -> bool {
    let (name, digest) = image
        .split_once('@')
        .map_or((image, None), |(n, d)| (n, Some(d)));
    let (repository, tag) = match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => (repository, Some(tag)),
        _ => (name, None),
    };
    // A name that is no image reference is not taken for latest; the runtime will refuse it.
    let path = match repository.split_once('/') {
        Some((domain, path)) if domain.contains(['.', ':']) || domain == "localhost" => path,
        _ => repository,
    };
    let well_formed = !path.is_empty() && !path.contains(|c: char| c.is_ascii_uppercase());
    match (tag, digest) {
        (Some(tag), _) => well_formed && tag == "latest",
        (None, Some(_)) => false,
        (None, None) => well_formed,
    }
}

fn volume(volume: &mut Object) {
    let has_source = volume
        .iter()
        .any(|(key, value)| key != "name" && !value.is_null());
    if !has_source {
        volume.insert("emptyDir".into(), json!({}));
    }
    for source in ["secret", "configMap", "downwardAPI", "projected"] {
        if let Some(source) = member(volume, source) {
            set(source, "defaultMode", VOLUME_MODE);
        }
    }
    if let Some(downward) = member(volume, "downwardAPI") {
        each(downward, "items", downward_file);
    }
    if let Some(projected) = member(volume, "projected") {
        each(projected, "sources", |source| {
            if let Some(token) = member(source, "serviceAccountToken") {
                set(token, "expirationSeconds", 3600);
            }
            if let Some(downward) = member(source, "downwardAPI") {
                each(downward, "items", downward_file);
            }
        });
    }
    if let Some(path) = member(volume, "hostPath") {
        set(path, "type", "");
    }
    if let Some(image) = member(volume, "image") {
        let policy = pull_policy(text(image, "reference"));
        set_text(image, "pullPolicy", policy);
    }
    if let Some(ephemeral) = member(volume, "ephemeral")
        && let Some(claim) = member(ephemeral, "volumeClaimTemplate")
    {
        made(claim, "metadata");
        if let Some(spec) = made(claim, "spec") {
            super::cluster::claim_spec(spec);
        }
    }
    super::cluster::volume_source(volume);
}

fn downward_file(file: &mut Object) {
    if let Some(field) = member(file, "fieldRef") {
        set_text(field, "apiVersion", "v1");
    }
    if let Some(resource) = member(file, "resourceFieldRef") {
        set(resource, "divisor", "0");
    }
}

fn host_ports(container: &mut Object) {
    each(container, "ports", |port| {
        if let Some(number) = port.get("containerPort").and_then(Value::as_i64) {
            set_number(port, "hostPort", number);
        }
    });
}

fn requests_from_limits(container: &mut Object) {
    let Some(resources) = member(container, "resources") else {
        return;
    };
    let Some(limits) = resources.get("limits").and_then(Value::as_object).cloned() else {
        return;
    };
    if limits.is_empty() {
        return;
    }
    let Some(requests) = made(resources, "requests") else {
        return;
    };
    for (name, quantity) in limits {
        requests.entry(name).or_insert(quantity);
    }
}

/// Limits of the pod as a whole are its requests where no container asks for that resource.
fn pod_level_requests(spec: &mut Object) {
    let asked: Vec<String> = CONTAINER_LISTS[..2]
        .iter()
        .filter_map(|list| spec.get(*list)?.as_array())
        .flatten()
        .filter_map(|c| c.pointer("/resources/requests")?.as_object())
        .flat_map(|requests| requests.keys().cloned())
        .collect();
    let Some(resources) = member(spec, "resources") else {
        return;
    };
    let Some(limits) = resources.get("limits").and_then(Value::as_object).cloned() else {
        return;
    };
    let missing: Vec<_> = limits
        .into_iter()
        .filter(|(name, _)| !asked.contains(name))
        .collect();
    if missing.is_empty() {
        return;
    }
    let Some(requests) = made(resources, "requests") else {
        return;
    };
    for (name, quantity) in missing {
        requests.entry(name).or_insert(quantity);
    }
}

/// The class of a pod by the cpu and memory of its containers: `Guaranteed` if all limits are
/// requests, `BestEffort` if there are none.
fn quality_of_service(spec: &Object) -> &'static str {
    let containers = CONTAINER_LISTS[..2]
        .iter()
        .filter_map(|list| spec.get(*list)?.as_array())
        .flatten()
        .map(|container| &container["resources"]);
    // What is said of the pod as a whole takes the place of what its containers say.
    let whole = spec
        .get("resources")
        .filter(|r| !r["limits"].is_null() || !r["requests"].is_null());
    let all: Vec<&Value> = whole.map_or_else(|| containers.collect(), |whole| vec![whole]);
    let (mut any, mut guaranteed) = (false, true);
    for resources in all {
        for resource in ["cpu", "memory"] {
            let amount = |what: &str| {
                let value = resources.get(what)?.get(resource)?;
                (!is_zero(value)).then_some(value)
            };
            let (limit, request) = (amount("limits"), amount("requests"));
            any |= limit.is_some() || request.is_some();
            guaranteed &= limit.is_some() && limit == request;
        }
    }
    match (any, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

fn is_zero(quantity: &Value) -> bool {
    match quantity {
        Value::String(text) => !text.contains(|c: char| ('1'..='9').contains(&c)),
        other => other.as_f64() == Some(0.0),
    }
}

/// Whether `object` lacks every named member.
pub(super) fn lacks(object: &Object, keys: &[&str]) -> bool {
    keys.iter().all(|key| absent(object, key))
}
