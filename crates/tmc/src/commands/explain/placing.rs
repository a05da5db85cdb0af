//! The steps from an object's namespace to the Locations of its Placements.

use std::collections::BTreeMap;

use serde_json::Value;
use tmc_api::scheduling::{Placement, reason};
use tmc_apimachinery::meta::meta;

use super::step::Step;
use super::times;
use super::world::World;
use crate::output::{self, list, text, without_remedy};

/// The Placements that select the namespace, each with its step; else the step that says why there
/// are none.
pub(super) fn selecting(world: &World) -> Result<Vec<(&Value, Step)>, Box<Step>> {
    if world.placements.is_hidden() {
        let said = format!("you may not see the Placements of {}", world.workspace);
        return Err(Box::new(
            Step::failed("placement", "Forbidden", said).advise(view_advice(world)),
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
                let said = format!("{name} selects namespace {namespace}");
                let step = Step::done("placement", "Selected", said);
                found.push((value, selected_since(step, value, world)));
            }
            Ok(false) => {}
            Err(why) => broken.push((value, why)),
        }
    }
    if found.is_empty() {
        Err(Box::new(none_selects(world, namespace, &broken)))
    } else {
        Ok(found)
    }
}

/// How whoever may not see Placements may come to see them.
fn view_advice(world: &World) -> String {
    if !world.flags.has_workspaces() {
        return "Ask an administrator for the right to list placements.scheduling.kcp.io"
            .to_owned();
    }
    format!(
        "Ask an administrator for the role view: tmc workspace grant {} --user <you> --role view",
        world.workspace
    )
}

/// A Placement that selects whatever there is, and never said anything else, does so since both are
/// there. When a namespace got the labels that others ask for is not recorded.
fn selected_since(step: Step, placement: &Value, world: &World) -> Step {
    let home = world.home.as_ref().and_then(times::created);
    let both = times::last([times::created(placement), home]);
    let selector = placement["spec"]["namespaceSelector"].as_object();
    let all = selector.is_some_and(serde_json::Map::is_empty);
    if all && meta(placement).generation() <= 1 {
        step.since(both)
    } else {
        step.not_before(both)
    }
}

/// Why no Placement selects a namespace. The `broken` ones have selectors that are not valid.
fn none_selects(world: &World, namespace: &str, broken: &[(&Value, String)]) -> Step {
    let all = world.placements.items();
    let waits = [&world.home, &world.object].map(|part| part.as_ref().and_then(times::created));
    let waits = times::last(waits);
    if !broken.is_empty() {
        let name_and_why =
            |(value, why): &(&Value, String)| format!("{}: {why}", meta(value).name());
        let words: Vec<String> = broken.iter().map(name_and_why).collect();
        let made = broken.iter().filter_map(|(value, _)| times::created(value));
        let said = format!(
            "a Placement has a selector that is not valid: {}",
            words.join("; ")
        );
        return Step::failed("placement", "InvalidSelector", said)
            .not_before(times::last([waits, made.max()]))
            .advise("Correct its spec.namespaceSelector");
    }
    let flag = world.flags.to(&world.workspace);
    let (said, advice) = if all.is_empty() {
        (
            format!("workspace {} has no Placement", world.workspace),
            format!("Make a Placement: tmc {flag}bind compute"),
        )
    } else {
        let names: Vec<&str> = all.iter().map(|p| meta(p).name()).collect();
        let names = names.join(", ");
        (
            format!("no Placement selects namespace {namespace} (there are: {names})"),
            format!(
                "Label namespace {namespace} so that one selects it, or make another: \
                 tmc {flag}bind compute"
            ),
        )
    };
    Step::failed("placement", "NoPlacement", said)
        .not_before(waits)
        .advise(advice)
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
    let made = times::created(placement);
    let observed = placement
        .pointer("/status/observedGeneration")
        .and_then(Value::as_i64);
    if observed.is_none_or(|seen| seen < meta(placement).generation()) {
        let said = format!("the hub has not looked at placement {name} yet");
        let step = Step::waiting("location", "NotObserved", said)
            .advise("Wait a moment; if this stays, look at the hub: tmc doctor");
        return match observed {
            None => step.since(made),
            Some(_) => step.not_before(made),
        };
    }
    let chosen = text(placement, "/status/selectedLocation/locationName");
    let ready = output::find_condition(placement, "Ready");
    let scheduled = output::find_condition(placement, "Scheduled");
    let bad = |condition: &&Value| condition["status"] != "True";
    if chosen.is_empty() {
        let condition = scheduled.filter(bad).or(ready);
        let said = format!("placement {name} has none: {}", message(condition));
        return unplaced("location", placement, condition, said, |why| {
            location_advice(world, placement, why)
        });
    }
    let path = text(placement, "/status/selectedLocation/path");
    match ready.filter(bad) {
        None => Step::done(
            "location",
            "LocationSelected",
            format!("{chosen} of {path}"),
        )
        .since(scheduled.and_then(times::changed)),
        Some(condition) => {
            let said = format!("{chosen} of {path}: {}", text(condition, "/message"));
            unplaced("location", placement, Some(condition), said, |why| {
                location_advice(world, placement, why)
            })
        }
    }
}

/// What a condition says, without its remedy.
fn message(condition: Option<&Value>) -> &str {
    condition.map_or("nothing is recorded", |c| {
        without_remedy(text(c, "/message"))
    })
}

/// A step that failed for the reason that a condition of the Placement gives.
fn unplaced(
    step: &'static str,
    placement: &Value,
    condition: Option<&Value>,
    said: impl Into<String>,
    advice: impl FnOnce(&str) -> String,
) -> Step {
    let why = condition.map_or("", |c| text(c, "/reason"));
    Step::failed(step, "NotScheduled", said)
        .because(why)
        .not_before(times::created(placement))
        .since(condition.and_then(times::changed))
        .advise(advice(why))
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
             {provider} (tmc {}cluster register --location)",
            world.flags.to(provider)
        ),
        reason::LOCATION_NOT_FOUND | reason::LOCATION_INVALID => format!(
            "Correct spec.locationSelectors of placement {name}; what runs stays where it is meanwhile"
        ),
        _ => format!("Look at placement {name}: kubectl describe placement {name}"),
    }
}

/// A Location is chosen, but no target.
pub(super) fn no_target(world: &World, placement: &Value, provider: &str) -> Step {
    let flag = world.flags.to(provider);
    let condition = output::find_condition(placement, "Scheduled");
    let advice = |why: &str| match why {
        reason::QUOTA_EXCEEDED => "Ask for less, or have the quota raised".to_owned(),
        _ => format!(
            "Have a cluster of {provider} made fit (tmc {flag}get targets), or another registered \
             (tmc {flag}cluster register)"
        ),
    };
    unplaced("target", placement, condition, message(condition), advice)
}
