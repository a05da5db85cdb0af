//! SyncTargets: key, URLs, what they sync, conditions, phase; and their Hosted syncers.

pub mod hosted;
pub mod reconcile;

use std::sync::Arc;
use std::time::Duration;

use tmc_api::workload::{self, SyncTarget, SyncerMode};
use tmc_apimachinery::GroupVersionResource;
use tmc_runtime::ClusterKey;
use tmc_runtime::controller::{Flow, Outcome};

use crate::context::Context;
use crate::heartbeat::TargetId;
use crate::members::Member;
use hosted::HostedSyncer;
use reconcile::{Observed, Referenced};

pub(crate) fn gvr() -> GroupVersionResource {
    GroupVersionResource::new(workload::GROUP, workload::VERSION, "synctargets")
}

/// The identity of a SyncTarget.
pub(crate) fn identity(key: &ClusterKey, target: &SyncTarget) -> TargetId {
    TargetId::new(
        &key.cluster,
        &key.name,
        target.metadata.uid.as_deref().unwrap_or_default(),
    )
}

pub(crate) async fn run(ctx: Arc<Context>, key: ClusterKey) -> Outcome {
    let Some(target) = ctx.stores.sync_targets.get(&key) else {
        return Ok(Flow::Done);
    };
    let committer = ctx.committer(gvr());
    // The finalizer and the way out of a member follow here, in a write of their own.
    if committer
        .main(&key, &*target, &reconcile::metadata(&key.cluster, &target))
        .await?
    {
        return Ok(Flow::Done);
    }
    let id = identity(&key, &target);
    let cluster = referenced(&ctx, &key, &target);
    look_after_syncer(&ctx, &id, &target, &cluster);
    let observed = Observed {
        cluster,
        hosted: ctx.deps.hosted.state(&id),
        beat: ctx.deps.beats.last(&id),
        listening_since: ctx.listening_since,
    };
    let (status, look_again) =
        reconcile::status(&key.cluster, &target, &observed, &ctx.settings(), ctx.now());
    if look_again.is_none() {
        ctx.deps.beats.wake_on_next(&id);
    }
    let mut new = (*target).clone();
    new.status = Some(status);
    committer.status(&key, &*target, &new).await?;
    if ctx.deps.beats.last(&id).map(|beat| beat.at) != observed.beat.map(|beat| beat.at) {
        // One came in before it could be asked to wake us.
        return Ok(Flow::RequeueAfter(Duration::from_millis(1)));
    }
    Ok(look_again.map_or(Flow::Done, Flow::RequeueAfter))
}

fn cluster_key(key: &ClusterKey, target: &SyncTarget) -> Option<ClusterKey> {
    let reference = target.spec.cluster_ref.as_ref()?;
    Some(ClusterKey::new(
        &key.cluster,
        &reference.namespace,
        &reference.name,
    ))
}

fn referenced(ctx: &Context, key: &ClusterKey, target: &SyncTarget) -> Referenced {
    match cluster_key(key, target) {
        None => Referenced::Nothing,
        Some(key) => ctx
            .stores
            .clusters
            .get(&key)
            .map_or(Referenced::Missing, Referenced::Found),
    }
}

/// Starts or stops the Hosted syncer. While a credential was not looked at yet (after a restart),
/// nothing is decided.
fn look_after_syncer(ctx: &Context, id: &TargetId, target: &SyncTarget, cluster: &Referenced) {
    let key = ClusterKey::new(&id.cluster, "", &id.name);
    let wanted =
        target.spec.mode() == SyncerMode::Hosted && target.metadata.deletion_timestamp.is_none();
    let known_uid = target
        .status
        .as_ref()
        .and_then(|status| status.cluster_uid.as_ref());
    let (Some(cluster_key), Referenced::Found(cluster), true) =
        (cluster_key(&key, target), cluster, wanted)
    else {
        return ctx.deps.hosted.stop(id);
    };
    let uid = cluster.metadata.uid.clone().unwrap_or_default();
    if known_uid.is_some_and(|known| *known != uid) {
        return ctx.deps.hosted.stop(id);
    }
    let base = (ctx.deps.base_url)();
    match ctx.members.get(&cluster_key, &uid) {
        Member::Usable {
            connection,
            fingerprint,
        } if !base.is_empty() => {
            ctx.deps.hosted.ensure(HostedSyncer {
                syncer_url: workload::syncer_url(&base, id.cluster.as_str(), &id.name, &id.uid),
                target: id.clone(),
                member: connection,
                fingerprint,
                heartbeat_interval: target.spec.heartbeat_interval(),
                resync_period: target.spec.resync_period(),
            });
        }
        Member::Unusable => ctx.deps.hosted.stop(id),
        Member::Usable { .. } | Member::Unknown => {}
    }
}
