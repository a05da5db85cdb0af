//! Namespaces: which targets have their objects, from the placements that select them.

pub mod reconcile;

use std::sync::Arc;
use std::time::Duration;

use tmc_apimachinery::GroupVersionResource;
use tmc_runtime::ClusterKey;
use tmc_runtime::controller::{Flow, Outcome};

use tmc_api::time::Time;

use crate::context::Context;
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
        let value = format!("{}/{}/{target}", key.cluster, key.name);
        ctx.stores.resources.iter().any(|resource| {
            // What is not known yet may be in use.
            !resource.store.has_synced()
                || !resource.store.keys_by_index(index::USE, &value).is_empty()
        })
    };
    let now = Time::new(ctx.now()).to_string();
    let new = reconcile::reconcile(&namespace, &placed, in_use, &now);
    ctx.committer(GroupVersionResource::new("", "v1", "namespaces"))
        .main(&key, &*namespace, &new)
        .await?;
    // That a resource turns out to have no objects is not news that anybody is told.
    let known = ctx.stores.resources.iter().all(|r| r.store.has_synced());
    Ok(if known || !new.is_leaving() {
        Flow::Done
    } else {
        Flow::RequeueAfter(UNKNOWN_RETRY)
    })
}

fn placed(ctx: &Context, key: &ClusterKey, namespace: &Namespace) -> Placed {
    let labels = namespace.metadata.labels.clone().unwrap_or_default();
    let mut placed = Placed::default();
    for (_, placement) in ctx
        .stores
        .placements
        .by_index(index::CLUSTER, key.cluster.as_str())
    {
        let selects = placement.metadata.deletion_timestamp.is_none()
            // A bad selector is a condition of the Placement.
            && placement.spec.selects_namespace(&labels).unwrap_or(false);
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
