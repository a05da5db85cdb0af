//! Placements: from what a workspace asks for to the SyncTargets it gets.

pub mod permission;
pub mod reconcile;
pub mod schedule;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tmc_api::hashes::sync_target_key;
use tmc_api::keys::PLACEMENT_ANNOTATION;
use tmc_api::scheduling::{self, Location, Placement};
use tmc_api::workload::SyncTarget;
use tmc_apimachinery::{ClusterName, GroupVersionResource};
use tmc_runtime::controller::{Flow, Outcome};
use tmc_runtime::{ClusterKey, Error, Store};

use crate::context::Context;
use crate::stores::{index, location_workspace};
use reconcile::{Observed, Permission, Provider};

/// How soon a permission that was refused is asked for again: somebody may just be granting it.
const REFUSED: Duration = Duration::from_secs(5);
/// How often a permission in use is checked.
const GRANTED: Duration = Duration::from_secs(60);

fn gvr() -> GroupVersionResource {
    GroupVersionResource::new(scheduling::GROUP, scheduling::VERSION, "placements")
}

pub(crate) async fn run(ctx: Arc<Context>, key: ClusterKey) -> Outcome {
    let Some(placement) = ctx.stores.placements.get(&key) else {
        return Ok(Flow::Done);
    };
    if placement.metadata.deletion_timestamp.is_some() {
        return Ok(Flow::Done);
    }
    let observed = observe(&ctx, &key, &placement).await?;
    let now = ctx.now();
    let status = reconcile::status(&placement, &observed, now);
    let committer = ctx.committer(gvr());
    let mut new = (*placement).clone();
    let picked = status.sync_targets.clone();
    new.status = Some(status);
    // Status first: it says uid and all; the annotation follows with the change this causes.
    let keys = picked.iter().map(|target| target.key.clone()).collect();
    ctx.assumed.lock().insert(key.clone(), keys);
    let written = committer.status(&key, &*placement, &new).await;
    if !matches!(written, Ok(true)) {
        ctx.assumed.lock().remove(&key);
    }
    if !written? {
        committer
            .main(&key, &*placement, &reconcile::metadata(&placement, &picked))
            .await?;
    }
    let waits = [drain_begins(&observed, now), permission_expires(&observed)];
    Ok(waits
        .into_iter()
        .flatten()
        .min()
        .map_or(Flow::Done, Flow::RequeueAfter))
}

async fn observe(
    ctx: &Context,
    key: &ClusterKey,
    placement: &Placement,
) -> Result<Observed, Error> {
    let stores = &ctx.stores;
    let provider = provider(ctx, &key.cluster, placement);
    let mut observed = Observed {
        own_path: stores.path_of(&key.cluster),
        permission: Permission::Only(BTreeSet::new()),
        locations: vec![],
        targets: vec![],
        load: BTreeMap::new(),
        bound: is_bound(ctx, key, placement),
        provider,
    };
    let cluster = match &observed.provider {
        Provider::Unknown => return Ok(observed),
        Provider::Own(cluster) | Provider::Foreign(cluster) => cluster.clone(),
    };
    observed.locations = in_cluster::<Location>(&stores.locations, &cluster);
    observed.targets = in_cluster::<SyncTarget>(&stores.sync_targets, &cluster);
    observed.permission = match &observed.provider {
        Provider::Foreign(_) => {
            let names = reconcile::matching(placement, &observed.locations).unwrap_or_default();
            permission::ask(&ctx.hub, &key.cluster, &cluster, &names).await?
        }
        _ => Permission::All,
    };
    for target in &observed.targets {
        let name = target.metadata.name.as_deref().unwrap_or_default();
        let target_key = sync_target_key(cluster.as_str(), name);
        let users = stores.placements.keys_by_index(index::TARGET, &target_key);
        let others = users.iter().filter(|user| *user != key).count();
        observed
            .load
            .insert(target_key, u32::try_from(others).unwrap_or(u32::MAX));
    }
    Ok(observed)
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

fn in_cluster<T>(store: &Store<T>, cluster: &ClusterName) -> Vec<Arc<T>> {
    let found = store.by_index(index::CLUSTER, cluster.as_str());
    found.into_iter().map(|(_, object)| object).collect()
}

fn is_bound(ctx: &Context, key: &ClusterKey, placement: &Placement) -> bool {
    let namespaces = ctx
        .stores
        .namespaces
        .by_index(index::CLUSTER, key.cluster.as_str());
    namespaces.into_iter().any(|(_, namespace)| {
        let meta = &namespace.metadata;
        let annotated = meta
            .annotations
            .as_ref()
            .is_some_and(|a| a.contains_key(PLACEMENT_ANNOTATION));
        let labels = meta.labels.clone().unwrap_or_default();
        annotated && placement.spec.selects_namespace(&labels).unwrap_or(false)
    })
}

/// When the next of the targets begins to drain.
fn drain_begins(observed: &Observed, now: jiff::Timestamp) -> Option<Duration> {
    let drains = observed
        .targets
        .iter()
        .filter_map(|target| target.spec.evict_after);
    let next = drains
        .map(|at| at.timestamp())
        .filter(|at| *at > now)
        .min()?;
    Some(now.duration_until(next).unsigned_abs() + Duration::from_millis(1))
}

fn permission_expires(observed: &Observed) -> Option<Duration> {
    let nothing = observed.permission == Permission::Only(BTreeSet::new());
    match observed.provider {
        Provider::Own(_) => None,
        _ if nothing => Some(REFUSED),
        _ => Some(GRANTED),
    }
}
