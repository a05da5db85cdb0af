//! From what was read to the steps of an explanation: pure functions.

use serde_json::Value;
use tmc_api::hashes::{Locator, SyncTargetLocator};
use tmc_api::keys::{
    KUBECONFIG_SECRET_TYPE, MESSAGE_ANNOTATION, SOFT_FINALIZERS_PREFIX, STATE_SYNC,
    deletion_annotation, diff_annotation, soft_finalizers_annotation, state_label,
    syncer_finalizer,
};
use tmc_apimachinery::meta::meta;
use tmc_controllers::system::is_system_namespace;

use super::placing::{location, no_target, provider_of, selecting, targets_of};
use super::status;
use super::step::{Mark, Step};
use super::world::{Found, World};
use crate::commands::decision::{self, Leaving};
use crate::commands::sync;
use crate::output::{self, ago, list, text};

/// What an object's place is, and why.
#[derive(Clone, Debug)]
pub(super) struct Explanation {
    pub(super) steps: Vec<Step>,
    /// One sentence that says what to do.
    pub(super) conclusion: String,
}

/// A target that a Placement of the object picked.
struct Picked<'a> {
    value: &'a Value,
    /// Path of its workspace.
    provider: &'a str,
    found: Found<'a>,
}

impl Picked<'_> {
    fn name(&self) -> &str {
        text(self.value, "/name")
    }

    fn key(&self) -> &str {
        text(self.value, "/key")
    }

    /// Whether its agent can be expected to do anything: what is hidden is believed to work.
    fn works(&self) -> bool {
        match self.found {
            Found::There(target) => output::condition(target, "Ready") == "True",
            Found::Gone => false,
            Found::Hidden => true,
        }
    }
}

/// Explains. The same world gives the same explanation.
pub(super) fn explain(world: &World) -> Explanation {
    let mut steps = Vec::new();
    let picked = placed(world, &mut steps);
    if let (Some(object), Some(home)) = (&world.object, &world.home) {
        for target in &picked {
            let start = steps.len();
            on_target(world, object, home, target, &mut steps);
            steps[start..]
                .iter_mut()
                .for_each(|step| target.name().clone_into(&mut step.target));
        }
        if picked.is_empty() {
            leftovers(object, &mut steps);
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
            steps.push(no_target(placement, provider));
            continue;
        }
        for value in targets_of(placement) {
            let found = world.target(provider, value);
            let one = Picked {
                value,
                provider,
                found,
            };
            steps.push(target(world, placement, &one).of(one.name()));
            if picked.iter().all(|other| other.key() != one.key()) {
                picked.push(one);
            }
        }
        steps.push(reservation(placement));
    }
    picked
}

fn object(world: &World) -> Step {
    let subject = world.subject();
    let Some(object) = &world.object else {
        let text = format!("workspace {} has no {subject}", world.workspace);
        return Step::failed("object", text)
            .because("NotFound")
            .advise("Create it, or name its namespace with -n and its workspace with --workspace");
    };
    let found = meta(object);
    if let Some(why) = never_leaves(world, object) {
        return Step::failed("object", format!("{subject} never leaves the hub: {why}"))
            .because("StaysOnHub")
            .advise("Nothing can be done, and nothing needs to be: this is a rule of the hub");
    }
    let Some(home) = &world.home else {
        return Step::failed(
            "object",
            format!("its namespace {} is gone", world.namespace),
        );
    };
    if found.is_being_deleted() {
        return Step::waiting("object", "its deletion was asked for")
            .because("Deleting")
            .since(found.deletion_timestamp().parse().ok());
    }
    if meta(home).is_being_deleted() {
        return Step::waiting("object", "the deletion of its namespace was asked for")
            .because("NamespaceDeleting")
            .since(meta(home).deletion_timestamp().parse().ok());
    }
    let generation = match found.generation() {
        0 => String::new(),
        generation => format!(", generation {generation}"),
    };
    Step::done("object", format!("{subject} exists{generation}"))
        .since(output::time(object, "/metadata/creationTimestamp"))
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
        ("configmaps", "kube-root-ca.crt") | ("serviceaccounts", "default") => {
            Some("every cluster makes its own".to_owned())
        }
        (kind, _) if !world.kind.namespaced && kind != "namespaces" => {
            Some("only namespaces and what is in them is placed".to_owned())
        }
        _ => None,
    }
}

fn target(world: &World, placement: &Value, picked: &Picked<'_>) -> Step {
    let since = output::find_condition(placement, "Scheduled")
        .and_then(|c| output::time(c, "/lastTransitionTime"));
    let leaving = decision::leaving(placement, picked.key());
    let mut step = match picked.found {
        Found::Gone => {
            return Step::failed("target", "this SyncTarget does not exist any more")
                .because("TargetGone")
                .advise(
                    "Wait for the hub to pick another; if this stays, look at the hub: tmc doctor",
                );
        }
        Found::There(object) => state_of(world, object, picked),
        Found::Hidden => Step::done(
            "target",
            format!("picked; how it is, only {} may see", picked.provider),
        )
        .since(since),
    };
    match (leaving, step.mark) {
        (Some(leaving), Mark::Done) => left(&leaving, picked),
        (Some(leaving), _) if !leaving.held.is_empty() => {
            step.text = format!("{}; {}", step.text, leaving.held);
            step
        }
        (None, Mark::Done) => {
            let why = decision::picked_because(placement, picked.key());
            if !why.is_empty() {
                step.text = format!("{}; picked: {why}", step.text);
            }
            step
        }
        _ => step,
    }
}

/// A target that is well, as far as can be seen, and is to be left all the same.
fn left(leaving: &Leaving, picked: &Picked<'_>) -> Step {
    let step = match leaving.held {
        "" => Step::waiting("target", "is to be left as soon as its time has come"),
        held => Step::waiting("target", format!("is to be left, but {held}")),
    };
    let advice = if leaving.for_good {
        format!(
            "Have another cluster of {} made fit to take over",
            picked.provider
        )
    } else {
        "Wait: it moves by itself".to_owned()
    };
    step.because(&leaving.reason)
        .since(leaving.since)
        .advise(advice)
}

fn state_of(world: &World, object: &Value, picked: &Picked<'_>) -> Step {
    let name = picked.name();
    if meta(object).is_being_deleted() {
        return Step::waiting("target", "is being removed, and what it has moves away")
            .because("Terminating")
            .since(meta(object).deletion_timestamp().parse().ok())
            .advise("Wait; if this stays, see what holds it: tmc doctor");
    }
    let ready = output::find_condition(object, "Ready");
    let since = ready.and_then(|c| output::time(c, "/lastTransitionTime"));
    if output::condition(object, "Ready") != "True" {
        let why = ready.map_or("", |c| text(c, "/reason"));
        let said = ready.map_or("not looked at yet", |c| text(c, "/message"));
        let heard = output::time(object, "/status/lastHeartbeatTime")
            .map_or("never".to_owned(), |at| {
                format!("{} ago", ago(at, world.now))
            });
        return Step::failed("target", format!("not Ready: {said} (last heard: {heard})"))
            .because(why)
            .since(since)
            .advise(target_advice(object, picked));
    }
    if output::time(object, "/spec/evictAfter").is_some_and(|at| at <= world.now) {
        return Step::waiting(
            "target",
            "is being drained, and nothing has taken its place yet",
        )
        .because("Draining")
        .since(output::time(object, "/spec/evictAfter"))
        .advise(format!(
            "Wait, or end the draining: tmc --workspace {} uncordon {name}",
            picked.provider
        ));
    }
    let cordoned = if object["spec"]["unschedulable"] == true {
        ", cordoned (what is there stays)"
    } else {
        ""
    };
    Step::done("target", format!("Ready{cordoned}")).since(since)
}

/// What to do about a target that is not Ready.
fn target_advice(object: &Value, picked: &Picked<'_>) -> String {
    let (name, provider) = (picked.name(), picked.provider);
    if text(object, "/spec/syncerConfig/mode") == "External"
        && output::time(object, "/status/lastHeartbeatTime").is_none()
    {
        let remedy = sync::start_remedy(object, &format!("--workspace {provider} "));
        return remedy.replacen("start", "Start", 1);
    }
    format!(
        "Bring the cluster back; see what is wrong: tmc --workspace {provider} cluster describe {name}"
    )
}

/// Nothing reserves capacity on this hub unless a Placement says so.
fn reservation(placement: &Value) -> Step {
    match text(placement, "/status/reservation") {
        "" => Step::skipped("reservation", "none is needed: no quota limits this"),
        name => Step::done(
            "reservation",
            format!("{name} holds what the Placement asks for"),
        ),
    }
}

/// The steps of one target.
fn on_target(
    world: &World,
    object: &Value,
    home: &Value,
    picked: &Picked<'_>,
    steps: &mut Vec<Step>,
) {
    steps.push(label(world, object, home, picked));
    steps.push(view(world, picked));
    if world.kind.kind != "Namespace" {
        steps.push(downstream(world, object, picked));
    }
}

fn label(world: &World, object: &Value, home: &Value, picked: &Picked<'_>) -> Step {
    let key = picked.key();
    let (state, mark) = (state_label(key), deletion_annotation(key));
    let soon = "Wait a moment; if this stays, the hub's controllers do not work: tmc doctor";
    let leaving = [object, home]
        .into_iter()
        .find_map(|holder| meta(holder).annotation(&mark));
    if let Some(at) = leaving {
        return Step::waiting("label", "it is asked to remove its copy")
            .because("Leaving")
            .since(at.parse().ok())
            .advise(leaving_advice(object, picked));
    }
    match (meta(home).label(&state), meta(object).label(&state)) {
        (None, _) => {
            Step::waiting("label", "the namespace is not labelled for it yet").advise(soon)
        }
        (Some(_), Some(STATE_SYNC)) => {
            Step::done("label", "namespace and object are labelled for it")
        }
        (Some(""), _) | (_, Some("")) => {
            Step::waiting("label", "a coordinator has not released it yet")
                .because("Pending")
                .advise(soon)
        }
        (Some(_), Some(other)) => Step::skipped("label", format!("its state there is {other}")),
        (Some(_), None) if not_synced(world, picked) => Step::failed(
            "label",
            format!("{} are not synced to it", world.kind.shown()),
        )
        .because("KindNotSynced")
        .advise(kind_advice(world)),
        (Some(_), None) => {
            Step::waiting("label", "the object is not labelled for it yet").advise(soon)
        }
    }
}

fn leaving_advice(object: &Value, picked: &Picked<'_>) -> String {
    let key = picked.key();
    if let Some(soft) = meta(object)
        .annotation(&soft_finalizers_annotation(key))
        .filter(|l| !l.is_empty())
    {
        return format!("Wait for {soft}, named in the annotation {SOFT_FINALIZERS_PREFIX}{key}");
    }
    if picked.works() {
        "Wait for its syncer to remove the copy".to_owned()
    } else {
        format!(
            "Bring cluster {0} back, or give it up for good: tmc --workspace {1} cluster unregister {0} --force",
            picked.name(),
            picked.provider
        )
    }
}

/// Kinds that every target has beside those it announces.
const ALWAYS: [&str; 4] = ["namespaces", "configmaps", "secrets", "serviceaccounts"];

fn always(world: &World) -> bool {
    world.kind.group.is_empty() && ALWAYS.contains(&world.kind.resource.as_str())
}

/// How a target stands to the object's resource; none if it does not name it.
fn announced<'a>(world: &World, target: &'a Value) -> Option<&'a Value> {
    list(target, "/status/syncedResources")
        .iter()
        .find(|synced| {
            text(synced, "/group") == world.kind.group
                && text(synced, "/resource") == world.kind.resource
        })
}

fn not_synced(world: &World, picked: &Picked<'_>) -> bool {
    match picked.found {
        Found::There(target) => !always(world) && announced(world, target).is_none(),
        _ => false,
    }
}

fn kind_advice(world: &World) -> String {
    format!(
        "Start the hub with {} in --sync-resources, or use a kind that is synced",
        world.kind.shown()
    )
}

fn view(world: &World, picked: &Picked<'_>) -> Step {
    let shown = world.kind.shown();
    let Found::There(target) = picked.found else {
        return Step::skipped("view", "which kinds it takes is not yours to see");
    };
    let state = announced(world, target).map(|synced| text(synced, "/state"));
    match state {
        Some("Accepted") => Step::done("view", format!("{shown} are accepted")),
        None if always(world) => Step::done("view", format!("{shown} are in every view")),
        None => Step::failed("view", format!("{shown} are not in its view"))
            .because("KindNotSynced")
            .advise(kind_advice(world)),
        Some("Incompatible") => Step::failed(
            "view",
            format!("the cluster does not serve {shown}, or in another shape"),
        )
        .because("Incompatible")
        .advise(format!(
            "Install {shown} in cluster {}, or place it elsewhere",
            picked.name()
        )),
        Some(_) => Step::waiting(
            "view",
            format!("whether the cluster serves {shown} is not known yet"),
        )
        .because("Pending")
        .advise("Wait for the first report of its syncer"),
    }
}

fn downstream(world: &World, object: &Value, picked: &Picked<'_>) -> Step {
    let found = meta(object);
    let held = found.has_finalizer(&syncer_finalizer(picked.key()));
    let place = downstream_namespace(object, &world.namespace, picked);
    if let Some(said) = found
        .annotation(MESSAGE_ANNOTATION)
        .filter(|said| !said.is_empty())
    {
        return Step::failed("downstream", said).because("Refused").advise(
            "Change the object so that the cluster takes it, or have the cluster allow it",
        );
    }
    if held {
        let text = format!("its syncer has it, in namespace {place} of the cluster");
        return Step::done("downstream", text);
    }
    if found.label(&state_label(picked.key())) != Some(STATE_SYNC) {
        return Step::skipped("downstream", "nothing to be there yet");
    }
    if picked.works() {
        Step::waiting("downstream", "its syncer has not taken it yet")
            .advise("Wait a moment; if this stays, look at the cluster's syncer: tmc doctor")
    } else {
        Step::failed(
            "downstream",
            "its syncer has not taken it and cannot be heard",
        )
        .because("TargetLost")
        .advise(format!(
            "Bring cluster {0} back; see what is wrong: tmc --workspace {1} cluster describe {0}",
            picked.name(),
            picked.provider
        ))
    }
}

/// The namespace of the member that holds the copies of the object's namespace.
fn downstream_namespace(object: &Value, namespace: &str, picked: &Picked<'_>) -> String {
    let part = |name: &str| text(picked.value, name).to_owned();
    let locator = Locator {
        sync_target: SyncTargetLocator {
            cluster: part("/cluster"),
            name: part("/name"),
            uid: part("/uid"),
        },
        cluster: meta(object).cluster().to_owned(),
        namespace: namespace.to_owned(),
    };
    tmc_api::hashes::downstream_namespace(&locator)
}

/// Marks of targets that no Placement has picked (any more).
fn leftovers(object: &Value, steps: &mut Vec<Step>) {
    let found = meta(object);
    for finalizer in found.finalizers() {
        let Some(key) = finalizer.strip_prefix(tmc_api::keys::SYNCER_FINALIZER_PREFIX) else {
            continue;
        };
        let since = found
            .annotation(&deletion_annotation(key))
            .and_then(|at| at.parse().ok());
        let recorded = found.annotation(&diff_annotation(key)).is_some();
        let what = if recorded { "copy and status" } else { "copy" };
        steps.push(
            Step::waiting(
                "downstream",
                format!("an earlier target ({key}) still has a {what}"),
            )
            .because("Leaving")
            .since(since)
            .advise("Wait for its syncer to remove the copy; if that cluster is gone: tmc doctor"),
        );
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
        return format!("{}.", step.advice);
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
