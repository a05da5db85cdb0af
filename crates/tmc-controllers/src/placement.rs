//! Placements: from what a workspace asks for to the SyncTargets it gets.

mod candidates;
mod events;
pub mod facts;
pub mod filter;
pub mod fleet;
pub mod observed;
pub mod permission;
pub mod reconcile;
pub mod request;
pub mod schedule;
mod score;
mod words;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tmc_api::conditions;
use tmc_api::keys::PLACEMENT_ANNOTATION;
use tmc_api::scheduling::{self, Placement, Selector, TargetCount, condition};
use tmc_apimachinery::{ClusterName, GroupResource, GroupVersionResource};
use tmc_runtime::clock::until_past;
use tmc_runtime::controller::{Flow, Outcome};
use tmc_runtime::{ClusterKey, Error};

use crate::context::Context;
use crate::eviction::pace::Turn;
use crate::namespace::reconcile::Namespace;
use crate::stores::{index, is_built_in, location_workspace, namespace_of};
use crate::system::is_system_namespace;
pub use events::Notice;
pub(crate) use events::PlacementNotice;
use observed::{Observed, Permission, Provider};
use reconcile::Plan;

/// How soon a permission that was refused is asked for again: somebody may just be granting it.
const REFUSED: Duration = Duration::from_secs(5);
/// How often a permission in use is checked.
const GRANTED: Duration = Duration::from_secs(60);

fn gvr() -> GroupVersionResource {
    GroupVersionResource::new(scheduling::GROUP, scheduling::VERSION, "placements")
}

pub(crate) async fn run(ctx: Arc<Context>, key: ClusterKey) -> Outcome {
    let Some(placement) = ctx.stores.placements.get(&key) else {
        // A pass that ran while it was taken out of the cache may have counted it again.
        ctx.loads.set(&key, vec![]);
        ctx.pace.lock().give_back(&key);
        return Ok(Flow::Done);
    };
    if placement.metadata.deletion_timestamp.is_some() {
        return Ok(Flow::Done);
    }
    let found = find(&ctx, &key, &placement).await?;
    let now = ctx.now();
    // Decided one after the other, so that Placements spread; written side by side.
    let deciding = ctx.deciding.lock().await;
    let (plan, turn) = ctx.loads.decide(&key, || {
        let (plan, turn) = in_turn(&ctx, &key, &placement, &found, now);
        let keys = plan.status.sync_targets.iter().map(|t| t.key.clone());
        let keys = keys.collect();
        ((plan, turn), keys)
    });
    drop(deciding);
    let picked = plan.status.sync_targets.clone();
    let mut new = (*placement).clone();
    new.status = Some(plan.status);
    // Status first: it says uid and all; the annotation follows with the change this causes.
    let committer = ctx.committer(gvr());
    let written = committer.status(&key, &*placement, &new).await;
    if written.is_err() {
        ctx.loads.set(&key, keys(&placement));
    }
    if written? {
        for notice in plan.notices {
            ctx.queues
                .notices
                .add(PlacementNotice::new(&key, &placement, notice, now));
        }
    } else {
        let annotated = reconcile::metadata(&placement, &picked);
        committer.main(&key, &*placement, &annotated).await?;
    }
    let later = plan
        .next
        .into_iter()
        .chain(turn)
        .min()
        .map(|at| until_past(now, at));
    let waits = [later, permission_expires(&found)];
    Ok(waits
        .into_iter()
        .flatten()
        .min()
        .map_or(Flow::Done, Flow::RequeueAfter))
}

/// The keys of the targets that a Placement has.
pub(crate) fn keys(placement: &Placement) -> Vec<String> {
    let status = placement.status.iter();
    status
        .flat_map(|status| status.sync_targets.iter().map(|t| t.key.clone()))
        .collect()
}

/// Whether other targets than those it has may matter to a Placement: it has too few, takes all
/// there are, or is kept from leaving one.
pub(crate) fn is_looking(placement: &Placement) -> bool {
    let status = placement.status.iter();
    let mut decisions = status.flat_map(|status| &status.decisions);
    !conditions::is_true(placement.conditions(), condition::SCHEDULED)
        || placement.spec.targets == TargetCount::All
        || decisions.any(|decision| decision.leaving.as_ref().is_some_and(|l| l.held.is_some()))
}

/// What had to be asked for or searched before planning.
struct Found {
    own_path: String,
    provider: Provider,
    permission: Permission,
    bound: bool,
    in_use: BTreeSet<GroupResource>,
}

async fn find(ctx: &Context, key: &ClusterKey, placement: &Placement) -> Result<Found, Error> {
    let provider = provider(ctx, &key.cluster, placement);
    let permission = match &provider {
        Provider::Own(_) => Permission::All,
        Provider::Unknown => Permission::Only(BTreeSet::new()),
        Provider::Foreign(cluster) => {
            let matching = |fleet: &_| reconcile::matching(placement, fleet).unwrap_or_default();
            let mut names = reconcile::recorded_locations(placement);
            names.extend(ctx.fleets.read(cluster, matching));
            let names: Vec<String> = names.into_iter().collect();
            permission::ask(&ctx.hub, &key.cluster, cluster, &names).await?
        }
    };
    let namespaces = selected_namespaces(ctx, key, placement);
    let annotated = |namespace: &Namespace| {
        let annotations = namespace.metadata.annotations.as_ref();
        annotations.is_some_and(|annotations| annotations.contains_key(PLACEMENT_ANNOTATION))
    };
    Ok(Found {
        own_path: ctx.stores.path_of(&key.cluster),
        provider,
        permission,
        bound: namespaces.iter().any(|(_, namespace)| annotated(namespace)),
        in_use: in_use(ctx, &namespaces),
    })
}

fn provider(ctx: &Context, own: &ClusterName, placement: &Placement) -> Provider {
    let Some(path) = location_workspace(placement) else {
        return Provider::Own(own.clone());
    };
    match ctx.stores.resolve(path) {
        Some(cluster) if cluster == *own => Provider::Own(cluster),
        Some(cluster) => Provider::Foreign(cluster),
        None => Provider::Unknown,
    }
}

fn selected_namespaces(
    ctx: &Context,
    key: &ClusterKey,
    placement: &Placement,
) -> Vec<(ClusterKey, Arc<Namespace>)> {
    // A bad selector is a condition, and selects nothing.
    let selector = placement.spec.namespaces().unwrap_or_default();
    let mut namespaces = ctx
        .stores
        .namespaces
        .by_index(index::CLUSTER, key.cluster.as_str());
    namespaces.retain(|(_, namespace)| selector.matches(namespace.metadata.labels.as_ref()));
    namespaces
}

/// The resources of which namespaces have objects, but for those that every target takes.
fn in_use(ctx: &Context, namespaces: &[(ClusterKey, Arc<Namespace>)]) -> BTreeSet<GroupResource> {
    let synced = ctx
        .stores
        .resources
        .iter()
        .filter(|resource| !is_built_in(&resource.gvr));
    let used = synced.filter(|resource| {
        namespaces.iter().any(|(key, _)| {
            let value = namespace_of(key);
            !is_system_namespace(&key.name)
                && resource.store.count_by_index(index::NAMESPACE, &value) > 0
        })
    });
    used.map(|resource| resource.gvr.group_resource()).collect()
}

/// Plans, and if something is to be moved that has to wait for its turn, asks for it.
fn in_turn(
    ctx: &Context,
    key: &ClusterKey,
    placement: &Placement,
    found: &Found,
    now: Timestamp,
) -> (Plan, Option<Timestamp>) {
    let plan = |turn| plan(ctx, placement, found, now, turn);
    let planned = plan(true);
    if !planned.used_turn {
        ctx.pace.lock().give_back(key);
        return (planned, None);
    }
    let turn = ctx.pace.lock().ask(key, now);
    match turn {
        Turn::Now => (planned, None),
        Turn::At(at) => (plan(false), Some(at)),
    }
}

fn plan(ctx: &Context, placement: &Placement, found: &Found, now: Timestamp, turn: bool) -> Plan {
    let nowhere = ClusterName::new("");
    let cluster = match &found.provider {
        Provider::Own(cluster) | Provider::Foreign(cluster) => cluster,
        Provider::Unknown => &nowhere,
    };
    ctx.fleets.read(cluster, |fleet| {
        let observed = Observed {
            own_path: &found.own_path,
            provider: &found.provider,
            permission: &found.permission,
            fleet,
            bound: found.bound,
            in_use: &found.in_use,
            quota: &*ctx.deps.quota,
            rules: ctx.deps.eviction,
            listening_since: ctx.listening_since,
            turn,
        };
        reconcile::plan(placement, &observed, now)
    })
}

/// Makes an Event. The status that it is about is written; there is no transition to come back to, so
/// this is tried again until the hub has it or says that it never will.
pub(crate) async fn tell(ctx: Arc<Context>, told: PlacementNotice) -> Outcome {
    told.tell(&ctx.hub).await?;
    Ok(Flow::Done)
}

fn permission_expires(found: &Found) -> Option<Duration> {
    let nothing = found.permission == Permission::Only(BTreeSet::new());
    match found.provider {
        Provider::Own(_) => None,
        _ if nothing => Some(REFUSED),
        _ => Some(GRANTED),
    }
}

/// The Placements of a workspace that select a namespace with one of these sets of labels.
pub(crate) fn selecting<'a>(
    ctx: &Context,
    cluster: &ClusterName,
    labels: impl Iterator<Item = Option<&'a BTreeMap<String, String>>> + Clone,
) -> Vec<ClusterKey> {
    let placements = ctx
        .stores
        .placements
        .by_index(index::CLUSTER, cluster.as_str());
    let selects = |selector: &Selector| labels.clone().any(|labels| selector.matches(labels));
    placements
        .into_iter()
        .filter(|(_, placement)| placement.spec.namespaces().is_ok_and(|s| selects(&s)))
        .map(|(key, _)| key)
        .collect()
}
