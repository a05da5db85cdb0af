//! Clusters: from a registered kubeconfig to a probed member and its SyncTarget.

mod credentials;
pub mod derived;
pub mod probe;
mod prober;
pub mod reconcile;

use std::sync::Arc;
use std::time::Duration;

use tmc_api::conditions;
use tmc_api::keys::CLUSTER_FINALIZER;
use tmc_api::workload::{self, Cluster, SyncTarget, condition};
use tmc_apimachinery::GroupVersionResource;
use tmc_runtime::client::DeleteParams;
use tmc_runtime::controller::{Flow, Outcome};
use tmc_runtime::{ClusterKey, Error, ResourceClient};

pub(crate) use credentials::CredentialCache;
pub(crate) use prober::Prober;

use crate::context::Context;
use crate::members::Member;
use crate::stores::index;
use credentials::Credential;
use reconcile::{Derived, Observed};

/// How soon to look again whether the SyncTarget of a deleted Cluster is gone, besides its events.
const DELETION_CHECK: Duration = Duration::from_secs(30);

fn gvr() -> GroupVersionResource {
    GroupVersionResource::new(workload::GROUP, workload::VERSION, "clusters")
}

pub(crate) async fn run(ctx: Arc<Context>, key: ClusterKey) -> Outcome {
    let Some(cluster) = ctx.stores.clusters.get(&key) else {
        forget(&ctx, &key);
        return Ok(Flow::Done);
    };
    if cluster.metadata.deletion_timestamp.is_some() {
        return delete(&ctx, &key, &cluster).await;
    }
    let committer = ctx.committer(gvr());
    let mut finalized = (*cluster).clone();
    let finalizers = finalized.metadata.finalizers.get_or_insert_default();
    if !finalizers.iter().any(|name| name == CLUSTER_FINALIZER) {
        finalizers.push(CLUSTER_FINALIZER.into());
        committer.main(&key, &*cluster, &finalized).await?;
        return Ok(Flow::Done);
    }
    let credential = credentials::check(&ctx, &key, &cluster).await?;
    open_or_close(&ctx, &key, &cluster, &credential);
    let finding = match &credential {
        Ok(credential) => ctx.prober.find(&ctx, &key, credential),
        Err(_) => prober::Finding::default(),
    };
    let now = ctx.now();
    let mut observed = Observed {
        credential: credential.map(|credential| credential.facts),
        probe: finding.probe,
        capabilities: finding.capabilities,
        derived: Derived::Missing,
    };
    observed.derived = derived(&ctx, &key, &cluster, &observed).await?;
    let mut new = (*cluster).clone();
    new.status = Some(reconcile::status(&cluster, &observed, now));
    committer.status(&key, &*cluster, &new).await?;
    let waits = [
        finding.next,
        reconcile::look_again(&observed.credential, now),
    ];
    Ok(waits
        .into_iter()
        .flatten()
        .min()
        .map_or(Flow::Done, Flow::RequeueAfter))
}

fn forget(ctx: &Context, key: &ClusterKey) {
    ctx.members.forget(key);
    ctx.prober.forget(key);
    ctx.credentials.forget(key);
}

/// Tells the syncers of this Cluster which way into the member there is.
fn open_or_close(
    ctx: &Context,
    key: &ClusterKey,
    cluster: &Cluster,
    credential: &Result<Credential, (&'static str, String)>,
) {
    let member = match credential {
        Ok(Credential {
            connection: Ok(connection),
            facts,
        }) => Member::Usable {
            connection: connection.clone(),
            fingerprint: facts.fingerprint.clone(),
        },
        _ => Member::Unusable,
    };
    let uid = cluster.metadata.uid.as_deref().unwrap_or_default();
    if ctx.members.set(key, uid, member) {
        for target in ctx
            .stores
            .sync_targets
            .keys_by_index(index::REFERENCE, &key.to_string())
        {
            ctx.queues.sync_targets.add(target);
        }
    }
}

/// Finds, makes or updates the derived SyncTarget.
async fn derived(
    ctx: &Context,
    key: &ClusterKey,
    cluster: &Cluster,
    observed: &Observed,
) -> Result<Derived, Error> {
    let name = derived::name(cluster);
    let target_key = ClusterKey::new(&key.cluster, "", &name);
    let committer = ctx.committer(crate::synctarget::gvr());
    if let Some(target) = ctx.stores.sync_targets.get(&target_key) {
        if !derived::is_owned(&target, cluster) {
            return Ok(Derived::Conflict(name));
        }
        committer
            .main(&target_key, &*target, &derived::updated(&target, cluster))
            .await?;
        return Ok(Derived::Owned(target));
    }
    let connected = observed
        .probe
        .as_ref()
        .is_some_and(|probe| probe.outcome.is_ok())
        || conditions::is_true(cluster.conditions(), condition::CONNECTED);
    if observed.credential.is_err() || !connected {
        return Ok(Derived::Missing);
    }
    let client = committer.client(&target_key);
    let object = match client.create("", &derived::new(cluster)).await {
        // The cache is behind: ask the hub whose it is.
        Err(error) if error.already_exists() => client.get("", &name).await?,
        made => made?,
    };
    Ok(match decode(object) {
        Some(target) if derived::is_owned(&target, cluster) => Derived::Owned(Arc::new(target)),
        _ => Derived::Conflict(name),
    })
}

fn decode(object: serde_json::Value) -> Option<SyncTarget> {
    serde_json::from_value(object).ok()
}

/// The order of a deletion: SyncTarget, then finalizer.
async fn delete(ctx: &Context, key: &ClusterKey, cluster: &Cluster) -> Outcome {
    let committer = ctx.committer(gvr());
    let target_key = ClusterKey::new(&key.cluster, "", &derived::name(cluster));
    if let Some(target) = living_target(ctx, &target_key, cluster).await? {
        let mut new = cluster.clone();
        let observed = Observed {
            credential: Ok(known_credential(cluster)),
            probe: None,
            capabilities: None,
            derived: Derived::Owned(Arc::clone(&target)),
        };
        new.status = Some(reconcile::status(cluster, &observed, ctx.now()));
        committer.status(key, cluster, &new).await?;
        if target.metadata.deletion_timestamp.is_none() {
            let targets = ctx.committer(crate::synctarget::gvr());
            // How to delete it must be in it before it is deleted.
            if targets
                .main(&target_key, &*target, &derived::updated(&target, cluster))
                .await?
            {
                return Ok(Flow::RequeueAfter(Duration::from_millis(100)));
            }
            let only = DeleteParams {
                uid: target.metadata.uid.clone(),
                ..DeleteParams::default()
            };
            match targets
                .client(&target_key)
                .delete("", &target_key.name, &only)
                .await
            {
                Err(error) if !error.is_not_found() => return Err(error),
                _ => {}
            }
        }
        return Ok(Flow::RequeueAfter(DELETION_CHECK));
    }
    forget(ctx, key);
    let mut new = cluster.clone();
    if let Some(finalizers) = &mut new.metadata.finalizers {
        finalizers.retain(|name| name != CLUSTER_FINALIZER);
    }
    match committer.main(key, cluster, &new).await {
        Err(error) if !error.is_not_found() => Err(error),
        _ => Ok(Flow::Done),
    }
}

/// The derived SyncTarget while it exists. Its absence is proven by the hub, not by the cache.
async fn living_target(
    ctx: &Context,
    key: &ClusterKey,
    cluster: &Cluster,
) -> Result<Option<Arc<SyncTarget>>, Error> {
    let owned = |target: &Arc<SyncTarget>| derived::is_owned(target, cluster);
    if let Some(target) = ctx.stores.sync_targets.get(key) {
        return Ok(Some(target).filter(owned));
    }
    let client = ResourceClient::new(ctx.hub.cluster(&key.cluster), crate::synctarget::gvr());
    match client.get("", &key.name).await {
        Ok(object) => Ok(decode(object).map(Arc::new).filter(owned)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

/// What the status says of the credential: on the way out it is not looked at again.
fn known_credential(cluster: &Cluster) -> reconcile::ValidCredential {
    let known = cluster
        .status
        .as_ref()
        .and_then(|status| status.credentials.clone());
    let known = known.unwrap_or_default();
    reconcile::ValidCredential {
        kind: known.kind,
        expires: known.expiration_time.map(tmc_api::time::Time::timestamp),
        fingerprint: known.fingerprint,
    }
}
