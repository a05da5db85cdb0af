//! Placement (types, section 4).

use serde_json::{Value, json};
use tmc_api::scheduling::{
    Division, DivisionStrategy, PlacementSpec, ReplicaMode, TargetCount, Toleration,
    TolerationOperator,
};
use tmc_api::workload::TaintEffect;
use tmc_apimachinery::meta;
use tmc_apimachinery::status::Cause;

use crate::fields::{self, Sign, fill, present};

/// Most targets that a Placement may ask for by number.
const MOST_TARGETS: u32 = 100_000;

/// Fills what a Placement leaves out.
pub(crate) fn default(object: &mut Value) {
    let Some(spec) = fields::child(object, "spec") else {
        return;
    };
    super::default_resource(spec, "locationResource");
    fill(spec, "targets", || json!(TargetCount::default()));
    fill(spec, "replicas", || json!(ReplicaMode::default()));
    for toleration in fields::items(spec, "tolerations") {
        fill(toleration, "operator", || {
            json!(TolerationOperator::default())
        });
    }
    if let Some(division) = spec.get_mut("division").filter(|d| d.is_object()) {
        fill(division, "strategy", || json!(DivisionStrategy::default()));
    }
}

/// Errors of a new or changed Placement.
pub(crate) fn validate(object: &Value) -> Vec<Cause> {
    let spec: PlacementSpec = match fields::read("spec", object.get("spec")) {
        Ok(spec) => spec,
        Err(causes) => return causes,
    };
    let resource = present(object, "/spec/locationResource");
    let mut causes = super::synctargets_only("spec.locationResource", resource);
    causes.extend(selectors(object));
    if let Some(path) = &spec.location_workspace {
        causes.extend(fields::workspace_path("spec.locationWorkspace", path));
    }
    if let TargetCount::Count(count) = spec.targets
        && !(1..=MOST_TARGETS).contains(&count)
    {
        let why = format!("must be between 1 and {MOST_TARGETS}, or \"All\"");
        causes.push(Cause::invalid("spec.targets", &json!(count), why));
    }
    for (i, each) in spec.tolerations.iter().enumerate() {
        causes.extend(toleration(&format!("spec.tolerations[{i}]"), each));
    }
    if let Some(division) = &spec.division {
        causes.extend(division_causes(division, spec.replicas, object));
    }
    if let Some(floor) = &spec.resource_requirements {
        let field = "spec.resourceRequirements.requests";
        causes.extend(fields::resources(field, &floor.requests, Sign::Positive));
    }
    causes
}

fn selectors(object: &Value) -> Vec<Cause> {
    let namespaces = present(object, "/spec/namespaceSelector");
    let mut causes = fields::selector("spec.namespaceSelector", namespaces);
    let locations = present(object, "/spec/locationSelectors").and_then(Value::as_array);
    for (i, each) in locations.into_iter().flatten().enumerate() {
        causes.extend(fields::selector(
            &format!("spec.locationSelectors[{i}]"),
            Some(each),
        ));
    }
    causes
}

fn toleration(field: &str, toleration: &Toleration) -> Vec<Cause> {
    let mut causes = Vec::new();
    let exists = toleration.operator == TolerationOperator::Exists;
    if !toleration.key.is_empty() {
        causes.extend(meta::validate_qualified_name(
            &format!("{field}.key"),
            &toleration.key,
        ));
    } else if !exists {
        let why = "operator must be \"Exists\" when the key is empty, which means every key";
        causes.push(Cause::invalid(
            format!("{field}.operator"),
            &json!(toleration.operator),
            why,
        ));
    }
    let value = format!("{field}.value");
    if exists && !toleration.value.is_empty() {
        let why = "must be empty with the operator \"Exists\"";
        causes.push(Cause::invalid(value, &json!(toleration.value), why));
    } else {
        causes.extend(meta::validate_label_value(&value, &toleration.value));
    }
    if let Some(seconds) = toleration.toleration_seconds
        && toleration.effect != Some(TaintEffect::NoExecute)
    {
        let why = format!("effect must be \"NoExecute\" when tolerationSeconds ({seconds}) is set");
        causes.push(Cause::invalid(
            format!("{field}.effect"),
            &json!(toleration.effect),
            why,
        ));
    }
    causes
}

fn division_causes(division: &Division, replicas: ReplicaMode, object: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    if replicas != ReplicaMode::Divided {
        let why = "may be given only with spec.replicas \"Divided\"";
        causes.push(Cause::forbidden("spec.division", why));
    }
    let weighted = division.strategy == DivisionStrategy::Weighted;
    const WEIGHTS: &str = "spec.division.weights";
    match (weighted, division.weights.is_empty()) {
        (true, true) => {
            causes.push(Cause::required(
                WEIGHTS,
                "must be given with the strategy \"Weighted\"",
            ));
        }
        (false, false) => {
            let why = "may be given only with the strategy \"Weighted\"";
            causes.push(Cause::forbidden(WEIGHTS, why));
        }
        _ => {}
    }
    for (i, weight) in division.weights.iter().enumerate() {
        if !(1..=100).contains(&weight.weight) {
            let at = format!("{WEIGHTS}[{i}].weight");
            causes.push(Cause::invalid(
                at,
                &json!(weight.weight),
                "must be between 1 and 100",
            ));
        }
        let selector = present(
            object,
            &format!("/spec/division/weights/{i}/targetSelector"),
        );
        causes.extend(fields::selector(
            &format!("{WEIGHTS}[{i}].targetSelector"),
            selector,
        ));
    }
    causes
}
