//! SyncTargets: key, URLs, what they sync, conditions, phase; and their syncers in each mode.

pub mod hosted;
pub mod installer;
pub mod mode;
pub mod reconcile;
pub mod removal;

use std::sync::Arc;
use std::time::Duration;

use tmc_api::agent::AgentId;
use tmc_api::keys::SYNC_TARGET_FINALIZER;
use tmc_api::workload::{self, SyncState, SyncTarget, SyncerMode};
use tmc_apimachinery::GroupVersionResource;
use tmc_runtime::ClusterKey;
use tmc_runtime::Error;
use tmc_runtime::controller::{Flow, Outcome};

use crate::context::Context;
use crate::heartbeat::{TargetId, taints};
use crate::members::Member;
use hosted::HostedSyncer;
use installer::{Installation, Removal};
use reconcile::{Installing, Observed, Referenced};

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

/// The sub-reconcilers, in their order.
#[derive(Clone, Copy, Debug)]
enum Stage {
    /// The finalizer, in a write of its own, before anything is made.
    Finalizer,
    /// Key and mode, in another.
    Metadata,
    /// The way out, if the deletion was asked for.
    Removal,
    /// What a former mode has left.
    FormerMode,
    /// The syncer of the present mode.
    Syncer,
    /// Status: conditions, Ready, phase.
    Status,
}

const STAGES: [Stage; 6] = [
    Stage::Finalizer,
    Stage::Metadata,
    Stage::Removal,
    Stage::FormerMode,
    Stage::Syncer,
    Stage::Status,
];

/// What a sub-reconciler wants.
enum Step {
    /// The next one.
    Continue,
    /// No other: the change that it made brings the target back.
    Stop,
    /// The next one, and the target again after this long.
    RequeueAfter(Duration),
}

/// One pass over one target: what the sub-reconcilers hand on.
struct Pass {
    ctx: Arc<Context>,
    key: ClusterKey,
    id: TargetId,
    /// As it was before the pass.
    target: Arc<SyncTarget>,
    cluster: Referenced,
    installing: Installing,
    /// Why it is not gone yet, on its way out.
    leaving: Option<String>,
}

pub(crate) async fn run(ctx: Arc<Context>, key: ClusterKey) -> Outcome {
    let Some(target) = ctx.stores.sync_targets.get(&key) else {
        return Ok(Flow::Done);
    };
    let mut pass = Pass {
        id: identity(&key, &target),
        cluster: referenced(&ctx, &key, &target),
        installing: Installing::NotOurs,
        leaving: None,
        ctx,
        key,
        target,
    };
    let mut waits = Vec::new();
    for stage in STAGES {
        match pass.reconcile(stage).await? {
            Step::Continue => {}
            Step::Stop => return Ok(Flow::Done),
            Step::RequeueAfter(wait) => waits.push(wait),
        }
    }
    let soonest = waits.into_iter().min();
    Ok(soonest.map_or(Flow::Done, Flow::RequeueAfter))
}

impl Pass {
    async fn reconcile(&mut self, stage: Stage) -> Result<Step, Error> {
        match stage {
            Stage::Finalizer => self.finalizer().await,
            Stage::Metadata => self.metadata().await,
            Stage::Removal => self.removal().await,
            Stage::FormerMode => self.former_mode().await,
            Stage::Syncer => Ok(self.syncer()),
            Stage::Status => self.status().await,
        }
    }

    fn is_leaving(&self) -> bool {
        self.target.metadata.deletion_timestamp.is_some()
    }

    async fn write(&self, new: &SyncTarget) -> Result<Step, Error> {
        let committer = self.ctx.committer(gvr());
        let wrote = committer.main(&self.key, &*self.target, new).await?;
        Ok(if wrote { Step::Stop } else { Step::Continue })
    }

    async fn finalizer(&mut self) -> Result<Step, Error> {
        let has = self.target.metadata.finalizers.iter().flatten();
        let has = has.into_iter().any(|name| name == SYNC_TARGET_FINALIZER);
        if has || self.is_leaving() {
            return Ok(Step::Continue);
        }
        let mut new = (*self.target).clone();
        let finalizers = new.metadata.finalizers.get_or_insert_default();
        finalizers.push(SYNC_TARGET_FINALIZER.into());
        self.write(&new).await
    }

    async fn metadata(&mut self) -> Result<Step, Error> {
        if self.is_leaving() {
            return Ok(Step::Continue);
        }
        let mut new = reconcile::metadata(&self.key.cluster, &self.target);
        new.spec.taints = taints::taints(&self.target);
        if mode::installed(&self.target).is_none() {
            new = mode::noted(&new, self.target.spec.mode());
        }
        self.write(&new).await
    }

    async fn removal(&mut self) -> Result<Step, Error> {
        let finalizers = self.target.metadata.finalizers.iter().flatten();
        let ours = finalizers
            .into_iter()
            .any(|name| name == SYNC_TARGET_FINALIZER);
        if !self.is_leaving() || !ours {
            return Ok(Step::Continue);
        }
        let cluster = match &self.cluster {
            Referenced::Found(cluster) => Some(cluster),
            Referenced::Nothing | Referenced::Missing => None,
        };
        let (ctx, key, id, target) = (&self.ctx, &self.key, &self.id, &self.target);
        let step = removal::advance(ctx, key, id, target, cluster).await;
        if step.finished {
            removal::finish(ctx, key, id, target).await?;
            return Ok(Step::Stop);
        }
        self.leaving = Some(step.message);
        Ok(Step::RequeueAfter(step.again))
    }

    /// Removes what the former mode had and this one has not; then notes this one.
    async fn former_mode(&mut self) -> Result<Step, Error> {
        let wanted = self.target.spec.mode();
        let Some(former) = mode::installed(&self.target).filter(|former| *former != wanted) else {
            return Ok(Step::Continue);
        };
        if self.is_leaving() {
            return Ok(Step::Continue);
        }
        self.installing = Installing::Waiting("what the former mode had is being removed".into());
        let parts = mode::obsolete(former, wanted);
        if parts.contains(&mode::Part::Task) {
            self.ctx.deps.hosted.stop(&self.id);
        }
        let member = match member(&self.ctx, &self.key, &self.target) {
            Member::Usable { connection, .. } => Some(connection),
            Member::Unusable => None,
            // After a restart it is known in a moment.
            Member::Unknown if self.target.spec.cluster_ref.is_some() => {
                return Ok(Step::RequeueAfter(Duration::from_secs(1)));
            }
            Member::Unknown => None,
        };
        let what = Removal {
            agent: agent(&self.id),
            parts,
            member,
            // Its copies stay: another kind of agent takes them over.
            namespaces: false,
        };
        match self.ctx.installer.remove(&self.ctx, &self.id, what) {
            Some(Ok(_)) => {
                self.ctx.installer.forget(&self.id);
                self.write(&mode::noted(&self.target, wanted)).await
            }
            Some(Err(why)) => {
                self.installing = Installing::Waiting(why);
                Ok(Step::RequeueAfter(Duration::from_secs(5)))
            }
            None => Ok(Step::Continue),
        }
    }

    /// Starts, stops, installs or repairs the syncer.
    fn syncer(&mut self) -> Step {
        let (ctx, id, target) = (&self.ctx, &self.id, &self.target);
        if matches!(self.installing, Installing::Waiting(_)) {
            // Two agents of one target would undo each other's work.
            return Step::Continue;
        }
        look_after_task(ctx, id, target, &self.cluster);
        if self.is_leaving() || target.spec.mode() == SyncerMode::Hosted {
            return Step::Continue;
        }
        let base = (ctx.deps.base_url)();
        let member = match target.spec.mode() {
            SyncerMode::Deployment if mode::is_loopback(&base) => {
                self.installing = Installing::Refused(reconcile::LOOPBACK.into());
                return Step::Continue;
            }
            SyncerMode::Deployment => match self.usable_member() {
                Some(member) => Some(member),
                None => {
                    let why = "the syncer waits for a Cluster with a valid credential";
                    self.installing = Installing::Waiting(why.into());
                    return Step::Continue;
                }
            },
            SyncerMode::Hosted | SyncerMode::External => None,
        };
        let agent = agent(id);
        let config = target.spec.syncer_config.clone().unwrap_or_default();
        let wanted = Installation {
            namespace: agent.namespace(Some(&config)),
            hub_url: workspace_url(ctx, &base, id),
            synced: synced_by(target, &ctx.deps.sync_resources),
            agent,
            config,
            member,
        };
        let sight = ctx.installer.install(ctx, id, wanted);
        self.installing = match sight.installed {
            Some(installed) => Installing::Known(installed),
            None => Installing::Waiting("the syncer is being installed".into()),
        };
        sight.next.map_or(Step::Continue, Step::RequeueAfter)
    }

    /// The way into the member of exactly the Cluster that was first resolved.
    fn usable_member(&self) -> Option<(tmc_runtime::Connection, String)> {
        match member(&self.ctx, &self.key, &self.target) {
            Member::Usable {
                connection,
                fingerprint,
                ..
            } => Some((connection, fingerprint)),
            Member::Unusable | Member::Unknown => None,
        }
    }

    async fn status(&mut self) -> Result<Step, Error> {
        let (ctx, id, target) = (&self.ctx, &self.id, &self.target);
        let observed = Observed {
            cluster: self.cluster.clone(),
            hosted: ctx.deps.hosted.state(id),
            installing: self.installing.clone(),
            beat: ctx.deps.beats.last(id),
            sessions: ctx.deps.beats.sessions(id),
            listening_since: ctx.listening_since,
            leaving: self.leaving.clone(),
        };
        let (status, look_again) = reconcile::status(
            &self.key.cluster,
            target,
            &observed,
            &ctx.settings(),
            ctx.now(),
        );
        if look_again.is_none() {
            ctx.deps.beats.wake_on_next(id);
        }
        let mut new = (**target).clone();
        new.status = Some(status);
        ctx.committer(gvr())
            .status(&self.key, &**target, &new)
            .await?;
        let heard = ctx.deps.beats.last(id).map(|beat| beat.at);
        if heard != observed.beat.map(|beat| beat.at) {
            // One came in before it could be asked to wake us.
            return Ok(Step::RequeueAfter(Duration::from_millis(1)));
        }
        Ok(look_again.map_or(Step::Continue, Step::RequeueAfter))
    }
}

fn agent(id: &TargetId) -> AgentId {
    AgentId::new(id.cluster.as_str(), &id.name, &id.uid)
}

/// URL of the workspace of a target, as agents outside this process reach it.
fn workspace_url(ctx: &Context, base: &str, id: &TargetId) -> String {
    let base = base.trim_end_matches('/');
    if ctx.hub.workspaces {
        format!("{base}/clusters/{}", id.cluster)
    } else {
        base.to_owned()
    }
}

/// What a target syncs of what it is asked to: all but what its member cannot serve.
pub(crate) fn synced_by(
    target: &SyncTarget,
    wanted: &[GroupVersionResource],
) -> Vec<GroupVersionResource> {
    let status = target.status.as_ref();
    let refused = |gvr: &GroupVersionResource| {
        status.is_some_and(|status| {
            status.synced_resources.iter().any(|entry| {
                (&entry.group, &entry.resource) == (&gvr.group, &gvr.resource)
                    && entry.state == SyncState::Incompatible
            })
        })
    };
    wanted.iter().filter(|gvr| !refused(gvr)).cloned().collect()
}

/// The member of a target: only that of the very Cluster that it was first resolved to.
fn member(ctx: &Context, key: &ClusterKey, target: &SyncTarget) -> Member {
    let Referenced::Found(cluster) = referenced(ctx, key, target) else {
        return Member::Unusable;
    };
    let uid = cluster.metadata.uid.clone().unwrap_or_default();
    let known = target.status.as_ref().and_then(|s| s.cluster_uid.as_ref());
    match cluster_key(key, target) {
        Some(cluster) if known.is_none_or(|known| *known == uid) => ctx.members.get(&cluster, &uid),
        _ => Member::Unusable,
    }
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

/// Starts or stops the Hosted syncer. While the account was not looked at yet (after a restart),
/// nothing is decided. On the way out it works on until its copies are gone.
fn look_after_task(ctx: &Context, id: &TargetId, target: &SyncTarget, cluster: &Referenced) {
    let key = ClusterKey::new(&id.cluster, "", &id.name);
    let stopped = ctx
        .removals
        .lock()
        .get(id)
        .is_some_and(|progress| progress.is_stopping());
    let wanted = target.spec.mode() == SyncerMode::Hosted && !stopped;
    if !wanted || !matches!(cluster, Referenced::Found(_)) {
        return ctx.deps.hosted.stop(id);
    }
    let base = (ctx.deps.base_url)();
    match member(ctx, &key, target) {
        Member::Usable {
            account: Some(way), ..
        } if !base.is_empty() => {
            ctx.deps.hosted.ensure(HostedSyncer {
                syncer_url: workload::syncer_url(&base, id.cluster.as_str(), &id.name, &id.uid),
                target: id.clone(),
                member: way.connection,
                fingerprint: way.fingerprint,
                pod_security: target.spec.pod_security.as_str().to_owned(),
                heartbeat_interval: target.spec.heartbeat_interval(),
                resync_period: target.spec.resync_period(),
            });
        }
        Member::Unusable => ctx.deps.hosted.stop(id),
        Member::Usable { .. } | Member::Unknown => {}
    }
}
