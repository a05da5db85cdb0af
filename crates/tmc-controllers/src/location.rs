//! Locations: how many targets they have, and the first one of a workspace.

pub mod reconcile;

use std::sync::Arc;

use serde_json::json;
use tmc_api::keys::SKIP_DEFAULT_OBJECTS_ANNOTATION;
use tmc_api::scheduling;
use tmc_api::tenancy::LOGICAL_CLUSTER_NAME;
use tmc_apimachinery::{ClusterName, GroupVersionResource};
use tmc_runtime::clock::until_past;
use tmc_runtime::controller::{Flow, Outcome};
use tmc_runtime::{ClusterKey, ResourceClient};

use crate::context::Context;
use crate::placement::fleet::Fleet;

/// Name of the Location that a workspace's first SyncTarget makes.
const DEFAULT_LOCATION: &str = "default";

fn gvr() -> GroupVersionResource {
    GroupVersionResource::new(scheduling::GROUP, scheduling::VERSION, "locations")
}

pub(crate) async fn run(ctx: Arc<Context>, key: ClusterKey) -> Outcome {
    let Some(location) = ctx.stores.locations.get(&key) else {
        return Ok(Flow::Done);
    };
    let committer = ctx.committer(gvr());
    if committer
        .main(&key, &*location, &reconcile::metadata(&location))
        .await?
    {
        return Ok(Flow::Done);
    }
    let now = ctx.now();
    let instances = ctx
        .fleets
        .read(&key.cluster, |fleet| fleet.instances(&key.name, now));
    let mut new = (*location).clone();
    new.status = Some(reconcile::status(&location, instances));
    committer.status(&key, &*location, &new).await?;
    Ok(instances
        .next_drain
        .map_or(Flow::Done, |at| Flow::RequeueAfter(until_past(now, at))))
}

/// Makes the first Location of a workspace that has a SyncTarget, unless it has one or says not to.
pub(crate) async fn run_first(ctx: Arc<Context>, cluster: ClusterName) -> Outcome {
    let needs = ctx.fleets.read(&cluster, Fleet::needs_location);
    if !needs || skips(&ctx, &cluster) {
        return Ok(Flow::Done);
    }
    let client = ResourceClient::new(ctx.hub.cluster(&cluster), gvr());
    let object = json!({
        "apiVersion": format!("{}/{}", scheduling::GROUP, scheduling::VERSION),
        "kind": "Location",
        "metadata": {"name": DEFAULT_LOCATION},
        "spec": {
            "description": "All clusters of this workspace",
            "instanceSelector": {},
            "resource": scheduling::ResourceRef::default(),
        },
    });
    match client.create("", &object).await {
        Err(error) if !error.already_exists() => Err(error),
        _ => Ok(Flow::Done),
    }
}

fn skips(ctx: &Context, cluster: &ClusterName) -> bool {
    let key = ClusterKey::new(cluster, "", LOGICAL_CLUSTER_NAME);
    let object = ctx
        .stores
        .logical_clusters
        .as_ref()
        .and_then(|store| store.get(&key));
    object.is_some_and(|object| {
        object
            .metadata
            .annotations
            .contains_key(SKIP_DEFAULT_OBJECTS_ANNOTATION)
    })
}
