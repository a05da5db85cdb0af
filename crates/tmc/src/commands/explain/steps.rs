//! From what was read to the steps of an explanation: pure functions.

use jiff::Timestamp;
use serde_json::Value;
use tmc_api::keys::KUBECONFIG_SECRET_TYPE;
use tmc_apimachinery::meta::meta;
use tmc_controllers::synctarget::tombstone::TOMBSTONE_LABEL;
use tmc_controllers::system::is_system_namespace;

use super::picked::{self, Picked};
use super::placing::{location, no_target, provider_of, selecting, targets_of};
use super::step::{Mark, Step};
use super::world::World;
use super::{status, syncing, times};
use crate::output::text;

/// What an object's place is, and why.
#[derive(Clone, Debug)]
pub(super) struct Explanation {
    pub(super) steps: Vec<Step>,
    /// One sentence that says what to do.
    pub(super) conclusion: String,
}

/// Explains. The same world gives the same explanation.
pub(super) fn explain(world: &World) -> Explanation {
    let mut steps = Vec::new();
    let picked = placed(world, &mut steps);
    if let (Some(object), Some(home)) = (&world.object, &world.home) {
        for target in &picked {
            steps.extend(syncing::steps(world, object, home, target));
        }
        if picked.is_empty() {
            steps.extend(syncing::leftovers(object));
        } else {
            steps.push(status::step(world, object, &names(&picked)));
        }
    }
    let conclusion = conclude(world, &steps, &names(&picked));
    Explanation { steps, conclusion }
}

fn names(picked: &[Picked<'_>]) -> String {
    let names: Vec<&str> = picked.iter().map(Picked::name).collect();
    names.join(", ")
}

/// The steps up to the targets; the targets that come out.
fn placed<'a>(world: &'a World, steps: &mut Vec<Step>) -> Vec<Picked<'a>> {
    let first = object(world);
    let goes_on = first.mark != Mark::Failed && world.home.is_some();
    steps.push(first);
    if !goes_on {
        return Vec::new();
    }
    let placements = match selecting(world) {
        Ok(placements) => placements,
        Err(step) => {
            steps.push(*step);
            return Vec::new();
        }
    };
    let mut picked: Vec<Picked<'a>> = Vec::new();
    for (placement, step) in placements {
        steps.push(step);
        let provider = provider_of(world, placement);
        let chosen = location(world, placement);
        let goes_on = chosen.mark == Mark::Done || !targets_of(placement).is_empty();
        steps.push(chosen);
        if !goes_on {
            continue;
        }
        if targets_of(placement).is_empty() {
            steps.push(no_target(world, placement, provider));
            continue;
        }
        let mut decided = None;
        for value in targets_of(placement) {
            let one = Picked {
                value,
                placement,
                provider,
                found: world.target(provider, value),
            };
            decided = times::last([decided, one.decided()]);
            steps.push(picked::step(world, &one).of(one.name()));
            if picked.iter().all(|other| other.key() != one.key()) {
                picked.push(one);
            }
        }
        steps.push(reservation(placement, decided));
    }
    picked
}

fn object(world: &World) -> Step {
    let subject = world.subject();
    let Some(object) = &world.object else {
        let said = format!("workspace {} has no {subject}", world.workspace);
        let advice = if world.flags.has_workspaces() {
            "Create it, or name its namespace with -n and its workspace with --workspace"
        } else {
            "Create it, or name its namespace with -n"
        };
        return Step::failed("object", "NotFound", said).advise(advice);
    };
    let found = meta(object);
    let made = times::created(object);
    if let Some(why) = never_leaves(world, object) {
        let said = format!("{subject} never leaves the hub: {why}");
        return Step::failed("object", "StaysOnHub", said)
            .since(made)
            .advise("Nothing can be done, and nothing needs to be: this is a rule of the hub");
    }
    let Some(home) = &world.home else {
        let said = format!("its namespace {} is gone", world.namespace);
        return Step::failed("object", "NamespaceGone", said).not_before(made);
    };
    if found.is_being_deleted() {
        return Step::waiting("object", "Deleting", "its deletion was asked for")
            .since(found.deletion_timestamp().parse().ok());
    }
    if meta(home).is_being_deleted() {
        let said = "the deletion of its namespace was asked for";
        return Step::waiting("object", "NamespaceDeleting", said)
            .since(meta(home).deletion_timestamp().parse().ok());
    }
    let generation = match found.generation() {
        0 => String::new(),
        generation => format!(", generation {generation}"),
    };
    Step::done("object", "Exists", format!("{subject} exists{generation}")).since(made)
}

/// Why an object stays on the hub whatever its labels say.
fn never_leaves(world: &World, object: &Value) -> Option<String> {
    let name = meta(object).name();
    let namespace = if world.kind.kind == "Namespace" {
        name
    } else {
        &world.namespace
    };
    if is_system_namespace(namespace) {
        return Some(format!("namespace {namespace} is the hub's own"));
    }
    let by_type = match text(object, "/type") {
        KUBECONFIG_SECRET_TYPE => "it holds the kubeconfig of a cluster",
        "kubernetes.io/service-account-token" | "bootstrap.kubernetes.io/token" => {
            "it holds a token for the hub"
        }
        _ => "",
    };
    match (world.kind.shown().as_str(), name) {
        ("secrets", _) if !by_type.is_empty() => Some(by_type.to_owned()),
        ("configmaps", _) if meta(object).label(TOMBSTONE_LABEL).is_some() => {
            Some("it is the hub's record of a removal".to_owned())
        }
        ("configmaps", "kube-root-ca.crt") | ("serviceaccounts", "default") => {
            Some("every cluster makes its own".to_owned())
        }
        (kind, _) if !world.kind.namespaced && kind != "namespaces" => {
            Some("only namespaces and what is in them is placed".to_owned())
        }
        _ => None,
    }
}

/// What is reserved on the targets that were `decided` for then. There are no quotas yet, so that
/// nothing is, unless a Placement says so.
fn reservation(placement: &Value, decided: Option<Timestamp>) -> Step {
    match text(placement, "/status/reservation") {
        "" => {
            let said = "this version has no quotas";
            Step::skipped("reservation", "NotChecked", said).since(decided)
        }
        name => {
            let said = format!("{name} holds what the Placement asks for");
            Step::done("reservation", "Reserved", said).by(decided)
        }
    }
}

/// Advice as a sentence. One that ends with a command gets no period: it would be copied along.
fn ended(advice: &str) -> String {
    let last = advice.rsplit_once(": ").map_or("", |(_, last)| last);
    if last.starts_with("tmc ") || last.starts_with("kubectl ") {
        advice.to_owned()
    } else {
        format!("{advice}.")
    }
}

/// The last sentence: the advice of the first step that failed, else of the first that waits.
fn conclude(world: &World, steps: &[Step], on: &str) -> String {
    let first = |mark| {
        steps
            .iter()
            .find(|step| step.mark == mark && !step.advice.is_empty())
    };
    if let Some(step) = first(Mark::Failed).or_else(|| first(Mark::Waiting)) {
        return ended(&step.advice);
    }
    let deleting = world
        .object
        .as_ref()
        .is_some_and(|object| meta(object).is_being_deleted());
    if deleting {
        let others: Vec<&str> = world
            .object
            .iter()
            .flat_map(|object| meta(object).finalizers())
            .collect();
        return format!(
            "Wait: what is left to do before it is gone is named by its finalizers ({}).",
            if others.is_empty() {
                "none".to_owned()
            } else {
                others.join(", ")
            }
        );
    }
    if steps.iter().any(|step| step.mark == Mark::Waiting) {
        return "Wait a moment: it is on its way.".to_owned();
    }
    format!("Nothing to do: it is as it should be on {on}.")
}
