//! SyncTargets: key, URLs, what they sync, conditions, phase; and their syncers in each mode.

pub mod decide;
pub mod hosted;
pub mod installer;
pub mod mode;
pub mod reconcile;
pub mod removal;
pub mod tombstone;

use std::sync::Arc;
use std::time::Duration;

use tmc_api::agent::AgentId;
use tmc_api::conditions;
use tmc_api::workload::{self, SyncState, SyncTarget, condition};
use tmc_apimachinery::GroupVersionResource;
use tmc_runtime::ClusterKey;
use tmc_runtime::Error;
use tmc_runtime::controller::{Flow, Outcome};

use crate::context::Context;
use crate::heartbeat::{TargetId, persist_every, taints};
use crate::members::Member;
use decide::{Former, Install, Reach, Task};
use hosted::{Halt, HostedSyncer};
use installer::{Installation, Occasion, Removal};
use reconcile::{Installing, Observed, Referenced};
use removal::Then;

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
        forget(&ctx, &key);
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
    let mut failure = None;
    for stage in STAGES {
        if failure.is_some() && !matches!(stage, Stage::Status) {
            continue;
        }
        match pass.reconcile(stage).await {
            Ok(Step::Continue) => {}
            Ok(Step::Stop) => return Ok(Flow::Done),
            Ok(Step::RequeueAfter(wait)) => waits.push(wait),
            Err(error) => {
                // What is known is told all the same: a beat's end does not wait for a write.
                waits.clear();
                pass.recall();
                failure.get_or_insert(error);
            }
        }
    }
    let soonest = waits.into_iter().min();
    let Some(error) = failure else {
        return Ok(soonest.map_or(Flow::Done, Flow::RequeueAfter));
    };
    if let Some(wait) = soonest {
        pass.ctx.queues.sync_targets.add_after(pass.key, wait);
    }
    Err(error)
}

/// Drops what is remembered of a target that does not exist any more: a pass that ran while it was
/// taken out of the cache may have noted something again.
fn forget(ctx: &Context, key: &ClusterKey) {
    let gone = |id: &TargetId| id.cluster == key.cluster && id.name == key.name;
    ctx.removals.lock().retain(|id, _| !gone(id));
    ctx.installer.forget_all(gone);
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

    /// For a status after a failure: the syncer, which nobody looked at in this pass, is as it was seen
    /// last.
    fn recall(&mut self) {
        if !matches!(self.installing, Installing::NotOurs) {
            return;
        }
        self.installing = match self.ctx.installer.last(&self.id) {
            Some(installed) => Installing::Known(installed),
            None => Installing::Waiting("a change of the SyncTarget could not be written".into()),
        };
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
        self.write(&decide::finalized(&self.target)).await
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
        if !self.is_leaving() || !decide::is_held(&self.target) {
            return Ok(Step::Continue);
        }
        let cluster = match &self.cluster {
            Referenced::Found(cluster) => Some(cluster),
            Referenced::Nothing | Referenced::Missing => None,
        };
        let (ctx, key, id, target) = (&self.ctx, &self.key, &self.id, &self.target);
        let step = removal::advance(ctx, key, id, target, cluster).await;
        match step.then {
            Then::Look(wait) => {
                self.leaving = Some(step.message);
                Ok(Step::RequeueAfter(wait))
            }
            Then::Stop => Ok(Step::Stop),
            Then::Finish => {
                let finished = removal::finish(ctx, key, id, target).await;
                if let Err(error) = &finished {
                    self.leaving = Some(format!("its finalizer could not be removed: {error}"));
                }
                finished.map(|_| Step::Stop)
            }
        }
    }

    /// Removes what the former mode had and this one has not; then notes this one.
    async fn former_mode(&mut self) -> Result<Step, Error> {
        let wanted = self.target.spec.mode();
        let member = member(&self.ctx, &self.key, &self.target);
        let cluster = cluster_key(&self.key, &self.target);
        let visited = |cluster| self.ctx.prober.is_visiting(cluster);
        let former = decide::former(
            mode::installed(&self.target),
            wanted,
            self.is_leaving(),
            (cluster.is_some(), cluster.as_ref().is_some_and(visited)),
            Reach::from(&member),
        );
        if former == Former::Nothing {
            return Ok(Step::Continue);
        }
        self.installing = Installing::Waiting("what the former mode had is being removed".into());
        let Former::Remove(parts) = former else {
            return Ok(Step::RequeueAfter(Duration::from_secs(1)));
        };
        if parts.contains(&mode::Part::Task) && self.ctx.deps.hosted.stop(&self.id) == Halt::Ending
        {
            self.installing = Installing::Waiting("the former syncer finishes its work".into());
            return Ok(Step::RequeueAfter(Duration::from_secs(1)));
        }
        let member = match member {
            Member::Usable { connection, .. } => Some(connection),
            Member::Unusable | Member::Unknown => None,
        };
        let what = Removal {
            agent: agent(&self.id),
            occasion: Occasion::ModeChange,
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
        let base = (ctx.deps.base_url)();
        let member = member(ctx, &self.key, target);
        let reach = Reach::from(&member);
        let ended = removal::is_stopping(ctx, id, target) || decide::is_over(target);
        let member = match decide::install(mode::acting(target), ended, &base, reach) {
            Install::Nothing => return Step::Continue,
            Install::Refused => {
                self.installing = Installing::Refused(reconcile::LOOPBACK.into());
                return Step::Continue;
            }
            Install::Waiting => {
                let why = "the syncer waits for a Cluster with a valid credential";
                self.installing = Installing::Waiting(why.into());
                return Step::Continue;
            }
            Install::OnHub => None,
            Install::InMember => match member {
                Member::Usable {
                    connection,
                    fingerprint,
                    ..
                } => Some((connection, fingerprint)),
                Member::Unusable | Member::Unknown => None,
            },
        };
        let agent = agent(id);
        let config = target.spec.syncer_config.clone().unwrap_or_default();
        let wanted = Installation {
            namespace: agent.namespace(Some(&config)),
            hub_url: workspace_url(&base, id),
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
            persist_every: persist_every(ctx.stores.sync_targets.len(), &id.uid),
        };
        let (status, look_again) = reconcile::status(
            &self.key.cluster,
            target,
            &observed,
            &ctx.settings(),
            ctx.now(),
        );
        if !conditions::is_true(&status.conditions, condition::HEARTBEAT_HEALTHY) {
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

/// URL of the workspace of a target, as agents outside this process reach it. (Beside a hub without
/// workspaces it is that of the views, which let agents through to what they need of their one.)
fn workspace_url(base: &str, id: &TargetId) -> String {
    format!("{}/clusters/{}", base.trim_end_matches('/'), id.cluster)
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

/// Starts or stops the Hosted syncer. On the way out it works on until its copies are gone.
fn look_after_task(ctx: &Context, id: &TargetId, target: &SyncTarget, cluster: &Referenced) {
    let key = ClusterKey::new(&id.cluster, "", &id.name);
    let stopped = removal::is_stopping(ctx, id, target);
    let member = member(ctx, &key, target);
    let base = (ctx.deps.base_url)();
    let task = decide::task(
        mode::acting(target),
        stopped || decide::is_over(target),
        matches!(cluster, Referenced::Found(_)),
        Reach::from(&member),
        !base.is_empty(),
    );
    match (task, member) {
        (
            Task::Run,
            Member::Usable {
                account: Some(way), ..
            },
        ) => ctx.deps.hosted.ensure(HostedSyncer {
            syncer_url: workload::syncer_url(&base, id.cluster.as_str(), &id.name, &id.uid),
            target: id.clone(),
            member: way.connection,
            fingerprint: way.fingerprint,
            pod_security: target.spec.pod_security.as_str().to_owned(),
        }),
        (Task::Stop, _) => {
            // What must not begin before its end asks for it.
            let _ = ctx.deps.hosted.stop(id);
        }
        (Task::Run | Task::Leave, _) => {}
    }
}
