//! Namespaces: which targets have their objects, from the placements that select them.

pub mod reconcile;

use std::sync::Arc;
use std::time::Duration;

use tmc_apimachinery::GroupVersionResource;
use tmc_runtime::ClusterKey;
use tmc_runtime::controller::{Flow, Outcome};

use tmc_api::conditions::{self, READY};
use tmc_api::time::Time;

use crate::context::Context;
use crate::eviction::{self, takeover};
use crate::slim::Slim;
use crate::stores::index;
use reconcile::{Namespace, Placed};

/// How soon a namespace that waits for objects to go is looked at again while not all are known.
const UNKNOWN_RETRY: Duration = Duration::from_secs(1);

pub(crate) async fn run(ctx: Arc<Context>, key: ClusterKey) -> Outcome {
    let Some(namespace) = ctx.stores.namespaces.get(&key) else {
        return Ok(Flow::Done);
    };
    let placed = placed(&ctx, &key, &namespace);
    let in_use = |target: &str| {
        let value = copies(&key, target);
        ctx.stores.resources.iter().any(|resource| {
            // What is not known yet may be in use.
            !resource.store.has_synced() || resource.store.count_by_index(index::USE, &value) > 0
        })
    };
    let now = ctx.now();
    let conditions = reconcile::conditions(&namespace, &placed, now);
    let now = Time::new(now).to_string();
    let may_leave = |target: &str| may_leave(&ctx, &key, &placed, target);
    let new = reconcile::reconcile(&namespace, &placed, in_use, may_leave, &now);
    let committer = ctx.committer(GroupVersionResource::new("", "v1", "namespaces"));
    if committer.main(&key, &*namespace, &new).await? {
        // What was written comes back here, and then it is time for what people read.
        return Ok(waiting(&ctx, &placed, &new));
    }
    let mut told = new.clone();
    told.status.conditions = conditions;
    committer.status(&key, &*namespace, &told).await?;
    Ok(waiting(&ctx, &placed, &new))
}

/// Whether the namespace has to be looked at again although nothing changed.
fn waiting(ctx: &Context, placed: &Placed, new: &Namespace) -> Flow {
    // That a resource turns out to have no objects is not news that anybody is told.
    let known = ctx.stores.resources.iter().all(|r| r.store.has_synced());
    let dropped = |target: &String| !placed.targets.contains(target);
    let waits = new.is_leaving() || new.target_keys().iter().any(dropped);
    if known || !waits {
        Flow::Done
    } else {
        Flow::RequeueAfter(UNKNOWN_RETRY)
    }
}

fn placed(ctx: &Context, key: &ClusterKey, namespace: &Namespace) -> Placed {
    let mut placed = Placed::default();
    for (_, placement) in ctx
        .stores
        .placements
        .by_index(index::CLUSTER, key.cluster.as_str())
    {
        let selects = placement.metadata.deletion_timestamp.is_none()
            // A bad selector is a condition of the Placement.
            && placement
                .spec
                .namespaces()
                .is_ok_and(|selector| selector.matches(namespace.metadata.labels.as_ref()));
        placed.asked_for |= selects;
        let status = placement
            .status
            .as_ref()
            .filter(|s| s.selected_location.is_some());
        if let Some(status) = status.filter(|_| selects) {
            placed.selected = true;
            placed
                .targets
                .extend(status.sync_targets.iter().map(|target| target.key.clone()));
        }
    }
    placed
}

/// Value of the index by use, of the objects of a namespace that a target has.
fn copies(namespace: &ClusterKey, target: &str) -> String {
    format!("{}/{}/{target}", namespace.cluster, namespace.name)
}

/// Whether a target that is to have the namespace no longer may be asked to remove its copies.
///
/// Nothing is waited for if the user took the namespace out of every Placement, if none of them has
/// a target, if the one in question is gone, or if it is to be emptied by force. Otherwise every
/// object must have been taken over by all targets in use that are Ready, of which there must be one:
/// the last healthy copy stays.
fn may_leave(ctx: &Context, key: &ClusterKey, placed: &Placed, leaving: &str) -> bool {
    if !placed.selected || placed.targets.is_empty() {
        return true;
    }
    let Some(target) = ctx.stores.target(leaving) else {
        return true;
    };
    if eviction::is_forced(&target, ctx.now()) {
        return true;
    }
    let is_ready = |target: &&String| {
        let target = ctx.stores.target(target);
        target.is_some_and(|target| conditions::is_true(target.conditions(), READY))
    };
    let heirs: Vec<&str> = placed
        .targets
        .iter()
        .filter(is_ready)
        .map(|key| &**key)
        .collect();
    let value = copies(key, leaving);
    ctx.stores.resources.iter().all(|resource| {
        let objects = resource.store.by_index(index::USE, &value);
        let taken_over = |(_, object): &(ClusterKey, Arc<Slim>)| {
            let placed = takeover::Placed {
                group: &resource.gvr.group,
                resource: &resource.gvr.resource,
                object,
            };
            takeover::is_taken_over(placed, leaving, &heirs)
        };
        // What is not known yet may not be taken over.
        resource.store.has_synced() && objects.iter().all(taken_over)
    })
}
