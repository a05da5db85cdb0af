//! The steps from an object's namespace to the Locations of its Placements.

use std::collections::BTreeMap;

use serde_json::Value;
use tmc_api::scheduling::{Placement, reason};
use tmc_apimachinery::meta::meta;

use super::step::Step;
use super::world::World;
use crate::output::{self, list, text, without_remedy};

/// The Placements that select the namespace, each with its step; else the step that says why there
/// are none.
pub(super) fn selecting(world: &World) -> Result<Vec<(&Value, Step)>, Box<Step>> {
    if world.placements.is_hidden() {
        let text = format!("you may not see the Placements of {}", world.workspace);
        return Err(Box::new(
            Step::failed("placement", text).because("Forbidden").advise(format!(
                "Ask an administrator for the role view: tmc workspace grant {} --user <you> --role view",
                world.workspace
            )),
        ));
    }
    let labels = world
        .home
        .as_ref()
        .map(|home| meta(home).labels())
        .unwrap_or_default();
    let namespace = world.home.as_ref().map_or("", |home| meta(home).name());
    let all = world.placements.items();
    let mut found = Vec::new();
    let mut broken = Vec::new();
    for value in all {
        let name = meta(value).name();
        match selects(value, &labels) {
            Ok(true) => {
                let step = Step::done("placement", format!("{name} selects namespace {namespace}"));
                let since = output::time(value, "/metadata/creationTimestamp");
                found.push((value, step.since(since)));
            }
            Ok(false) => {}
            Err(why) => broken.push(format!("{name}: {why}")),
        }
    }
    if !found.is_empty() {
        return Ok(found);
    }
    let names: Vec<&str> = all.iter().map(|p| meta(p).name()).collect();
    let step = if !broken.is_empty() {
        let text = format!(
            "a Placement has a selector that is not valid: {}",
            broken.join("; ")
        );
        Step::failed("placement", text)
            .because("InvalidSelector")
            .advise("Correct its spec.namespaceSelector")
    } else if all.is_empty() {
        Step::failed(
            "placement",
            format!("workspace {} has no Placement", world.workspace),
        )
        .because("NoPlacement")
        .advise("Make a Placement: tmc bind compute")
    } else {
        let text = format!(
            "no Placement selects namespace {namespace} (there are: {})",
            names.join(", ")
        );
        Step::failed("placement", text).because("NoPlacement").advise(format!(
            "Label namespace {namespace} so that one selects it, or make another: tmc bind compute"
        ))
    };
    Err(Box::new(step))
}

fn selects(placement: &Value, labels: &BTreeMap<String, String>) -> Result<bool, String> {
    let placement: Placement =
        serde_json::from_value(placement.clone()).map_err(|error| error.to_string())?;
    placement
        .spec
        .selects_namespace(labels)
        .map_err(|error| error.message)
}

pub(super) fn targets_of(placement: &Value) -> &[Value] {
    list(placement, "/status/syncTargets")
}

/// Path of the workspace whose clusters a Placement uses.
pub(super) fn provider_of<'a>(world: &'a World, placement: &'a Value) -> &'a str {
    match text(placement, "/spec/locationWorkspace") {
        "" => &world.workspace,
        path => path,
    }
}

pub(super) fn location(world: &World, placement: &Value) -> Step {
    let name = meta(placement).name();
    let observed = placement
        .pointer("/status/observedGeneration")
        .and_then(Value::as_i64);
    if observed.is_none_or(|seen| seen < meta(placement).generation()) {
        return Step::waiting(
            "location",
            format!("the hub has not looked at placement {name} yet"),
        )
        .advise("Wait a moment; if this stays, look at the hub: tmc doctor");
    }
    let chosen = text(placement, "/status/selectedLocation/locationName");
    let ready = output::find_condition(placement, "Ready");
    let scheduled = output::find_condition(placement, "Scheduled");
    let bad = |condition: Option<&'_ Value>| condition.is_some_and(|c| c["status"] != "True");
    if chosen.is_empty() {
        let condition = scheduled.filter(|c| bad(Some(c))).or(ready);
        let why = condition.map_or("", |c| text(c, "/reason"));
        let said = condition.map_or("nothing is recorded", |c| {
            without_remedy(text(c, "/message"))
        });
        return Step::failed("location", format!("placement {name} has none: {said}"))
            .because(why)
            .since(condition.and_then(|c| output::time(c, "/lastTransitionTime")))
            .advise(location_advice(world, placement, why));
    }
    let path = text(placement, "/status/selectedLocation/path");
    let step = Step::done("location", format!("{chosen} of {path}"));
    match ready.filter(|c| bad(Some(c))) {
        None => step.since(scheduled.and_then(|c| output::time(c, "/lastTransitionTime"))),
        Some(condition) => Step::failed(
            "location",
            format!("{chosen} of {path}: {}", text(condition, "/message")),
        )
        .because(text(condition, "/reason"))
        .since(output::time(condition, "/lastTransitionTime"))
        .advise(location_advice(
            world,
            placement,
            text(condition, "/reason"),
        )),
    }
}

fn location_advice(world: &World, placement: &Value, why: &str) -> String {
    let name = meta(placement).name();
    let (here, provider) = (&world.workspace, provider_of(world, placement));
    match why {
        reason::LOCATION_FORBIDDEN => format!(
            "Ask an administrator of {provider} for permission: tmc workspace grant {provider} \
             --workspace {here} --role use"
        ),
        reason::LOCATION_NO_MATCH | reason::SCHEDULE_LOCATION_NOT_FOUND => format!(
            "Change spec.locationSelectors of placement {name}, or have a Location made in \
             {provider}: tmc cluster register --location"
        ),
        reason::LOCATION_NOT_FOUND | reason::LOCATION_INVALID => format!(
            "Correct spec.locationSelectors of placement {name}; what runs stays where it is meanwhile"
        ),
        _ => format!("Look at placement {name}: kubectl describe placement {name}"),
    }
}

/// A Location is chosen, but no target.
pub(super) fn no_target(placement: &Value, provider: &str) -> Step {
    let condition = output::find_condition(placement, "Scheduled");
    let why = condition.map_or("", |c| text(c, "/reason"));
    let said = condition.map_or("nothing is recorded", |c| {
        without_remedy(text(c, "/message"))
    });
    let advice = match why {
        reason::QUOTA_EXCEEDED => "Ask for less, or have the quota raised".to_owned(),
        _ => format!(
            "Have a cluster of {provider} made fit (tmc --workspace {provider} get targets), or \
             another registered: tmc cluster register"
        ),
    };
    Step::failed("target", said)
        .because(why)
        .since(condition.and_then(|c| output::time(c, "/lastTransitionTime")))
        .advise(advice)
}
