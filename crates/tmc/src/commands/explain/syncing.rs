//! What becomes of an object on one of its targets: label, view, downstream.

use jiff::Timestamp;
use serde_json::Value;
use tmc_api::hashes::{Locator, SyncTargetLocator};
use tmc_api::keys::{
    MESSAGE_ANNOTATION, SOFT_FINALIZERS_PREFIX, STATE_SYNC, SYNCER_FINALIZER_PREFIX,
    deletion_annotation, diff_annotation, soft_finalizers_annotation, state_label,
    syncer_finalizer,
};
use tmc_api::synced::SYNCED;
use tmc_api::workload::condition::API_AVAILABLE;
use tmc_apimachinery::meta::meta;
use tmc_controllers::coordination::conditions::TARGET_LOST;
use tmc_controllers::namespace::reconcile::SCHEDULED;

use super::picked::Picked;
use super::step::Step;
use super::world::{Found, World};
use super::{status, times};
use crate::output::{list, text};

/// An object with its namespace, as one target is to have it.
#[derive(Clone, Copy)]
struct Way<'a> {
    object: &'a Value,
    home: &'a Value,
    picked: &'a Picked<'a>,
}

impl Way<'_> {
    /// When the namespace can have got its label at the earliest.
    fn home_labelled(self) -> Option<Timestamp> {
        times::last([self.picked.decided(), times::created(self.home)])
    }

    /// When the object can have got its label at the earliest. Nothing records it itself.
    fn labelled(self) -> Option<Timestamp> {
        times::last([
            self.home_labelled(),
            times::holds(self.home, SCHEDULED),
            times::created(self.object),
        ])
    }
}

/// The steps of one target.
pub(super) fn steps<'a>(
    world: &World,
    object: &'a Value,
    home: &'a Value,
    picked: &'a Picked<'a>,
) -> Vec<Step> {
    let way = Way {
        object,
        home,
        picked,
    };
    let mut steps = vec![label(world, way), view(world, picked)];
    if world.kind.kind != "Namespace" {
        steps.push(downstream(world, way));
    }
    steps
        .into_iter()
        .map(|step| step.of(picked.name()))
        .collect()
}

fn label(world: &World, way: Way<'_>) -> Step {
    let (object, home, key) = (way.object, way.home, way.picked.key());
    let (state, mark) = (state_label(key), deletion_annotation(key));
    let soon = "Wait a moment; if this stays, the hub's controllers do not work: tmc doctor";
    let leaving = [object, home]
        .into_iter()
        .find_map(|holder| meta(holder).annotation(&mark));
    if let Some(at) = leaving {
        return Step::waiting("label", "Leaving", "it is asked to remove its copy")
            .since(at.parse().ok())
            .advise(leaving_advice(world, object, way.picked));
    }
    let step = match (meta(home).label(&state), meta(object).label(&state)) {
        (None, _) => {
            let said = "the namespace is not labelled for it yet";
            return Step::waiting("label", "NamespaceNotLabelled", said)
                .not_before(way.home_labelled())
                .advise(soon);
        }
        (Some(_), Some(STATE_SYNC)) => {
            let said = "namespace and object are labelled for it";
            Step::done("label", "Labelled", said)
        }
        (Some(""), _) | (_, Some("")) => {
            let said = "a coordinator has not released it yet";
            Step::waiting("label", "Pending", said).advise(soon)
        }
        (Some(_), Some(other)) => {
            Step::skipped("label", other, format!("its state there is {other}"))
        }
        (Some(_), None) if not_synced(world, way.picked) => {
            let said = format!("{} are not synced to it", world.kind.shown());
            Step::failed("label", "KindNotSynced", said).advise(kind_advice(world))
        }
        (Some(_), None) => {
            let said = "the object is not labelled for it yet";
            Step::waiting("label", "NotLabelled", said).advise(soon)
        }
    };
    step.not_before(way.labelled())
}

fn leaving_advice(world: &World, object: &Value, picked: &Picked<'_>) -> String {
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
            "Bring cluster {0} back, or give it up for good: tmc {1}cluster unregister {0} --force",
            picked.name(),
            world.flags.to(picked.provider)
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
        "Start what runs the hub's controllers (tmc start, or tmc controllers) with {} in \
         --sync-resources, or use a kind that is synced",
        world.kind.shown()
    )
}

fn view(world: &World, picked: &Picked<'_>) -> Step {
    match picked.found {
        Found::There(target) => view_of(world, target, picked),
        Found::Gone => Step::skipped("view", "TargetGone", "there is none without the SyncTarget"),
        Found::Hidden => {
            let said = "which kinds it takes is not yours to see";
            Step::skipped("view", "Forbidden", said)
        }
    }
}

/// A verdict about one kind has no time of its own. That the target accepts any kind at all has one,
/// and that it accepts none.
fn view_of(world: &World, target: &Value, picked: &Picked<'_>) -> Step {
    let shown = world.kind.shown();
    let made = times::created(target);
    let state = announced(world, target).map(|synced| text(synced, "/state"));
    match state {
        Some("Accepted") => Step::done("view", "Accepted", format!("{shown} are accepted"))
            .not_before(made)
            .not_before(times::holds(target, API_AVAILABLE)),
        None if always(world) => {
            let said = format!("{shown} are in every view");
            Step::done("view", "AlwaysInView", said).since(made)
        }
        None => {
            let said = format!("{shown} are not in its view");
            Step::failed("view", "KindNotSynced", said)
                .not_before(made)
                .advise(kind_advice(world))
        }
        Some("Incompatible") => {
            let said = format!("the cluster does not serve {shown}, or in another shape");
            Step::failed("view", "Incompatible", said)
                .not_before(made)
                .by(times::fails(target, API_AVAILABLE))
                .advise(format!(
                    "Install {shown} in cluster {}, or place it elsewhere",
                    picked.name()
                ))
        }
        Some(_) => {
            let said = format!("whether the cluster serves {shown} is not known yet");
            Step::waiting("view", "Pending", said)
                .not_before(made)
                .advise("Wait for the first report of its syncer")
        }
    }
}

fn downstream(world: &World, way: Way<'_>) -> Step {
    let (object, picked) = (way.object, way.picked);
    let found = meta(object);
    let said = found.annotation(MESSAGE_ANNOTATION).unwrap_or_default();
    if !said.is_empty() {
        return Step::failed("downstream", "Refused", said)
            .not_before(way.labelled())
            .since(times::fails(object, SYNCED))
            .advise(status::MAKE_FIT);
    }
    if found.has_finalizer(&syncer_finalizer(picked.key())) {
        let place = downstream_namespace(object, &world.namespace, picked);
        let said = format!("its syncer has it, in namespace {place} of the cluster");
        return Step::done("downstream", "TakenBySyncer", said)
            .not_before(way.labelled())
            .by(times::taken_by(object, picked.key(), way.labelled()));
    }
    if found.label(&state_label(picked.key())) != Some(STATE_SYNC) {
        return Step::skipped("downstream", "NotLabelled", "nothing to be there yet")
            .not_before(way.labelled());
    }
    if picked.works() {
        return Step::waiting("downstream", "NotTaken", "its syncer has not taken it yet")
            .not_before(way.labelled())
            .advise("Wait a moment; if this stays, look at the cluster's syncer: tmc doctor");
    }
    let said = "its syncer has not taken it and cannot be heard";
    Step::failed("downstream", TARGET_LOST, said)
        .not_before(way.labelled())
        .advise(format!(
            "Bring cluster {0} back; see what is wrong: tmc {1}cluster describe {0}",
            picked.name(),
            world.flags.to(picked.provider)
        ))
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
pub(super) fn leftovers(object: &Value) -> Vec<Step> {
    let found = meta(object);
    let finalizers = found.finalizers().into_iter();
    let keys = finalizers.filter_map(|name| name.strip_prefix(SYNCER_FINALIZER_PREFIX));
    keys.map(|key| leftover(object, key)).collect()
}

fn leftover(object: &Value, key: &str) -> Step {
    let found = meta(object);
    let asked = found.annotation(&deletion_annotation(key));
    let recorded = found.annotation(&diff_annotation(key)).is_some();
    let what = if recorded { "copy and status" } else { "copy" };
    let said = format!("an earlier target ({key}) still has a {what}");
    Step::waiting("downstream", "Leaving", said)
        .not_before(times::created(object))
        .since(asked.and_then(|at| at.parse().ok()))
        .advise("Wait for its syncer to remove the copy; if that cluster is gone: tmc doctor")
}
