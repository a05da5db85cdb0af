//! How a SyncTarget goes, in this order:
//!
//! 1. Schedulers see the deletion at once; the agent removes its copies and with each its finalizer.
//!    With `spec.deletion.force` or `keepWorkloads` nobody waits for that: the agent is stopped, the
//!    target counts as *abandoned*, and objects lose its marks without their copies being touched.
//!    Of a forced removal a tombstone stays ([`super::tombstone`]), and an annotation of the Cluster
//!    while there is one.
//! 2. When no object has a mark of the target, and the hub itself says so, not only the cache, that is
//!    noted in the SyncTarget: from then on a mark is nobody's. (A pass over an object that had not seen
//!    the deletion may still make one.)
//! 3. What the hub made for the agent is removed, in the member and on the hub, by label and recorded
//!    identity. A member that does not answer is asked again for a while; then what was left behind is
//!    recorded in a tombstone.
//! 4. The finalizer goes.
//!
//! Events tell of this, and nothing depends on them. [`order`] decides what comes next.

pub mod order;

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tmc_api::hashes::sync_target_key;
use tmc_api::keys::{DOWNSTREAM_CLUSTER_LABEL, STATE_UPSYNC, SYNC_TARGET_FINALIZER, state_label};
use tmc_api::time::Time;
use tmc_api::workload::{Cluster, SyncTarget, SyncerMode};
use tmc_runtime::client::ListParams;
use tmc_runtime::controller::{Flow, Outcome};
use tmc_runtime::{ClusterKey, Error, ResourceClient};
use tokio::time::Instant;

use super::hosted::Halt;
use super::installer::{Occasion, Removal};
use super::mode::{self, Part};
use super::tombstone::{Reason, Tombstone};
use crate::context::Context;
use crate::events::News;
use crate::heartbeat::TargetId;
use crate::members::Member;
use crate::slim::Slim;
use crate::stores::index;
use order::{Copies, Facts, Next, next};

/// Annotation of a Cluster: the last forced removal of its SyncTarget, as JSON.
pub const TOMBSTONE_ANNOTATION: &str = "tmc.kcp.io/tombstone";
/// Annotation of a SyncTarget on its way out, with its uid: no object had a mark of it, and what was made
/// for its agent is being removed. In the object, since without it a restart would wait for an agent that
/// is gone; with the uid, lest a copy of the object goes the same way.
pub const CLEARING_ANNOTATION: &str = "tmc.kcp.io/clearing";
/// How long a member that does not answer is asked again before what is left there is recorded.
const PATIENCE: Duration = Duration::from_secs(120);
/// What is said of a target whose agent alone could have removed its last copies.
const LATE: &str = "objects came just as its agent ended, which may have copied them";
/// How soon is looked again, besides events.
const CHECK: Duration = Duration::from_secs(5);
/// How long an agent that is to stop may go on before a forced removal goes on without it.
const STOP_PATIENCE: Duration = Duration::from_secs(60);

/// How far the removal of a target is. In memory: a restart begins again, and finds what is done.
#[derive(Clone, Debug, Default)]
pub(crate) struct Progress {
    /// Since when the agent is being stopped.
    stopping_since: Option<Instant>,
    /// It was stopped, and its marks are nobody's.
    abandoned: bool,
    /// Since when parts are being removed.
    clearing_since: Option<Instant>,
    /// When marks were last let go.
    let_go_at: Option<Instant>,
    /// Marks were let go of whose copies the agent may just have made.
    late: bool,
    cleared: bool,
}

/// Whether what was made for the agent of a target is being removed: nothing is to be made any more.
pub(crate) fn is_clearing(target: &SyncTarget) -> bool {
    let meta = &target.metadata;
    let noted = meta.annotations.as_ref();
    let noted = noted.and_then(|all| all.get(CLEARING_ANNOTATION));
    meta.deletion_timestamp.is_some() && noted.is_some() && noted == meta.uid.as_ref()
}

/// Whether a Hosted syncer is not to run any more.
pub(crate) fn is_stopping(ctx: &Context, id: &TargetId, target: &SyncTarget) -> bool {
    let stopping = |progress: &Progress| progress.stopping_since.is_some();
    is_clearing(target) || ctx.removals.lock().get(id).is_some_and(stopping)
}

/// What the target says of its way out, and what comes then.
pub(crate) struct Step {
    /// For the message of Ready.
    pub(crate) message: String,
    pub(crate) then: Then,
}

/// What comes after a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    /// Look again, besides events.
    Look(Duration),
    /// The step changed the target, which brings it back.
    Stop,
    /// Everything is done: let it go.
    Finish,
}

fn step(message: impl Into<String>) -> Step {
    Step {
        message: message.into(),
        then: Then::Look(CHECK),
    }
}

/// One step on the way out.
pub(crate) async fn advance(
    ctx: &Arc<Context>,
    key: &ClusterKey,
    id: &TargetId,
    target: &SyncTarget,
    cluster: Option<&Arc<Cluster>>,
) -> Step {
    let deletion = target.spec.deletion;
    let progress = {
        let mut removals = ctx.removals.lock();
        let progress = removals.entry(id.clone()).or_default();
        if !deletion.force && !deletion.keep_workloads && !progress.abandoned {
            // Somebody may have thought better of it: the agent works on.
            progress.stopping_since = None;
        }
        progress.clone()
    };
    let facts = Facts {
        copies: copies(ctx, &sync_target_key(key.cluster.as_str(), &key.name)),
        abandon: deletion.force || deletion.keep_workloads,
        abandoned: progress.abandoned,
        clearing: is_clearing(target),
        cleared: progress.cleared,
    };
    match next(&facts) {
        Next::Learn => step("it is not known yet which objects have copies in the member"),
        Next::AwaitCopies(count) => {
            if facts.abandoned || facts.clearing {
                let_go(ctx, key, id, !facts.abandoned);
            }
            step(format!(
                "{count} objects still have copies in the member or marks of this target"
            ))
        }
        // Nobody waits for copies of one that is abandoned.
        Next::Confirm => confirm(ctx, key, target, !facts.abandoned).await,
        Next::Abandon => abandon(ctx, key, id, target, cluster, facts.copies).await,
        Next::Clear => clear(ctx, key, id, target).await,
        Next::Finish => Step {
            message: String::new(),
            then: Then::Finish,
        },
    }
}

/// Takes the finalizer off.
pub(crate) async fn finish(
    ctx: &Context,
    key: &ClusterKey,
    id: &TargetId,
    target: &SyncTarget,
) -> Outcome {
    let mut new = target.clone();
    if let Some(finalizers) = &mut new.metadata.finalizers {
        finalizers.retain(|name| name != SYNC_TARGET_FINALIZER);
    }
    match ctx.committer(super::gvr()).main(key, target, &new).await {
        Err(error) if !error.is_not_found() => return Err(error),
        _ => {}
    }
    ctx.removals.lock().remove(id);
    ctx.installer.forget(id);
    Ok(Flow::Done)
}

/// Objects with a mark of a target. What the target brings up by itself does not count: it holds no
/// copy of anything.
fn copies(ctx: &Context, target_key: &str) -> Copies {
    let mut count = 0;
    for resource in &ctx.stores.resources {
        if !resource.store.has_synced() {
            return Copies::Unknown;
        }
        let keys = resource.store.keys_by_index(index::TARGET, target_key);
        let objects = keys.iter().filter_map(|key| resource.store.get(key));
        count += objects.filter(|object| holds(object, target_key)).count();
    }
    match count {
        0 => Copies::None,
        count => Copies::Some(count),
    }
}

fn holds(object: &Slim, target_key: &str) -> bool {
    let synced = |(key, state): (&str, &str)| key == target_key && state != STATE_UPSYNC;
    object.syncer_finalizers().any(|key| key == target_key) || object.states().any(synced)
}

/// Has the marks of a target removed that are nobody's; not on each pass, for each mark that goes causes
/// one. `late` says that they came when nobody was expected to have a copy any more.
fn let_go(ctx: &Context, key: &ClusterKey, id: &TargetId, late: bool) {
    {
        let mut removals = ctx.removals.lock();
        let progress = removals.entry(id.clone()).or_default();
        progress.late |= late;
        // To be said before the end, though the rest is done.
        progress.cleared &= !late;
        if progress.let_go_at.is_some_and(|at| at.elapsed() < CHECK) {
            return;
        }
        progress.let_go_at = Some(Instant::now());
    }
    let target_key = sync_target_key(key.cluster.as_str(), &key.name);
    ctx.enqueue_objects(index::TARGET, &target_key);
}

/// Notes that no object has a mark of the target, if the hub says so: the cache may not have a mark yet
/// for which its agent has already made a copy.
async fn confirm(ctx: &Context, key: &ClusterKey, target: &SyncTarget, ask: bool) -> Step {
    match if ask {
        is_marked(ctx, key).await
    } else {
        Ok(false)
    } {
        Ok(false) => {}
        Ok(true) => return step("objects were placed on this target just before its deletion"),
        Err(error) => return step(format!("the hub does not say what has copies: {error}")),
    }
    let mut new = target.clone();
    let annotations = new.metadata.annotations.get_or_insert_default();
    let uid = target.metadata.uid.clone().unwrap_or_default();
    annotations.insert(CLEARING_ANNOTATION.into(), uid);
    match ctx.committer(super::gvr()).main(key, target, &new).await {
        Ok(_) => Step {
            message: String::new(),
            then: Then::Stop,
        },
        Err(error) => step(format!("the end of the copies is not noted yet: {error}")),
    }
}

/// Whether an object of the hub has a label of the target. (A finalizer is only added while there is the
/// label, and whoever takes that off has seen the finalizer: each write has the version that it changes
/// as its precondition.)
async fn is_marked(ctx: &Context, key: &ClusterKey) -> Result<bool, Error> {
    let label = state_label(&sync_target_key(key.cluster.as_str(), &key.name));
    let params = ListParams {
        labels: format!("{label},{label}!={STATE_UPSYNC}"),
        limit: 1,
        ..ListParams::default()
    };
    for resource in &ctx.stores.resources {
        let client = ResourceClient::new(ctx.hub.wildcard(), resource.gvr.clone());
        let list = match client.list("", &params).await {
            Ok(list) => list,
            // A kind that is no longer served has no objects.
            Err(error) if error.is_not_found() => continue,
            Err(error) => return Err(error),
        };
        let none = list["items"].as_array().is_none_or(Vec::is_empty);
        let more = list["metadata"]["continue"].as_str().unwrap_or_default();
        if !none || !more.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Stops the agent; when it is stopped, lets go of its marks.
async fn abandon(
    ctx: &Arc<Context>,
    key: &ClusterKey,
    id: &TargetId,
    target: &SyncTarget,
    cluster: Option<&Arc<Cluster>>,
    copies: Copies,
) -> Step {
    let since = *ctx
        .removals
        .lock()
        .entry(id.clone())
        .or_default()
        .stopping_since
        .get_or_insert_with(Instant::now);
    if let Some(why) = still_runs(ctx, id, target, since) {
        return Step {
            then: Then::Look(Duration::from_secs(1)),
            ..step(why)
        };
    }
    if target.spec.deletion.force
        && let Err(waits) = bury(ctx, key, target, cluster, copies).await
    {
        return waits;
    }
    ctx.removals.lock().entry(id.clone()).or_default().abandoned = true;
    let_go(ctx, key, id, false);
    Step {
        then: Then::Look(Duration::from_millis(200)),
        ..step("the agent is stopped; its marks are being removed")
    }
}

/// Why it must be waited for the agent, if so. A Hosted one says when it has ended. Any other loses its
/// account on the hub first, and is known to have ended when its beats stop.
fn still_runs(
    ctx: &Arc<Context>,
    id: &TargetId,
    target: &SyncTarget,
    since: Instant,
) -> Option<String> {
    let mode = mode::installed(target).unwrap_or_else(|| target.spec.mode());
    let patient = since.elapsed() < STOP_PATIENCE;
    if ctx.deps.hosted.stop(id) == Halt::Ending && (patient || !target.spec.deletion.force) {
        // It may be removing a copy that is to stay.
        return Some("the syncer finishes what it has begun".into());
    }
    if mode == SyncerMode::Hosted {
        return None;
    }
    let what = Removal {
        agent: super::agent(id),
        occasion: Occasion::End,
        parts: vec![Part::HubAccount],
        member: None,
        namespaces: false,
    };
    match ctx.installer.remove(ctx, id, what) {
        None => return Some("the agent's account on the hub is being removed".into()),
        Some(Err(why)) if patient || !target.spec.deletion.force => return Some(why),
        Some(_) => {}
    }
    let interval = target.spec.heartbeat_interval() * 2;
    let beats = ctx.deps.beats.last(id).is_some_and(|beat| {
        let age = beat.at.duration_until(ctx.now());
        Duration::try_from(age).unwrap_or_default() < interval
    });
    let wait = beats && (patient || !target.spec.deletion.force);
    wait.then(|| "the agent still beats; stop it in the member".into())
}

/// Records a forced removal. The error is what to wait with: nothing is given up without a record.
async fn bury(
    ctx: &Context,
    key: &ClusterKey,
    target: &SyncTarget,
    cluster: Option<&Arc<Cluster>>,
    copies: Copies,
) -> Result<(), Step> {
    let id = super::identity(key, target);
    let count = match copies {
        Copies::Unknown => "an unknown number of".to_owned(),
        Copies::Some(count) => count.to_string(),
        Copies::None => "0".to_owned(),
    };
    let message = format!(
        "removed by force: {count} objects were let go without the member's copies being removed; \
         should it come back, its copies are in the namespaces with the label {}, and what is left of \
         its syncer has the label {}",
        copies_label(key),
        super::agent(&id).selector()
    );
    let tombstone = Tombstone {
        id: &id,
        cluster: cluster_name(target),
        reason: Reason::ForcedRemoval,
        objects: copies,
        message: &message,
    };
    record(ctx, &tombstone).await?;
    tracing::warn!(target = %key, uid = %id.uid, count, "a SyncTarget is removed by force");
    let news = News {
        kind: "SyncTarget",
        key,
        uid: &id.uid,
        reason: Reason::ForcedRemoval.as_str(),
        message,
        about: "force",
    };
    crate::events::tell(&ctx.hub, &news, ctx.now()).await;
    if let Some(cluster) = cluster {
        annotate(ctx, cluster, &id, copies).await;
    }
    Ok(())
}

/// Makes a tombstone, or says why one waits.
async fn record(ctx: &Context, tombstone: &Tombstone<'_>) -> Result<(), Step> {
    let raised = tombstone.raise(&ctx.hub, ctx.now()).await;
    raised.map_err(|error| {
        step(format!(
            "waits until ConfigMap {}/{}, the record of what stays in the member, can be made: {error}",
            tmc_api::agent::hub::NAMESPACE,
            tombstone.name(),
        ))
    })
}

/// The label of the namespaces in a member that copies of a target are in.
fn copies_label(key: &ClusterKey) -> String {
    let target_key = sync_target_key(key.cluster.as_str(), &key.name);
    format!("{DOWNSTREAM_CLUSTER_LABEL}={target_key}")
}

fn cluster_name(target: &SyncTarget) -> Option<&str> {
    target.spec.cluster_ref.as_ref().map(|c| &*c.name)
}

/// Notes the last forced removal in the Cluster, where a person looks first.
async fn annotate(ctx: &Context, cluster: &Arc<Cluster>, id: &TargetId, copies: Copies) {
    let count = match copies {
        Copies::Some(count) => count,
        Copies::None | Copies::Unknown => 0,
    };
    let mut new = (**cluster).clone();
    let tombstone = json!({
        "syncTarget": id.name, "uid": id.uid,
        "key": sync_target_key(id.cluster.as_str(), &id.name), "objects": count,
        "at": Time::new(ctx.now()).to_string(),
    });
    let annotations = new.metadata.annotations.get_or_insert_default();
    annotations.insert(TOMBSTONE_ANNOTATION.into(), tombstone.to_string());
    let name = cluster.metadata.name.as_deref().unwrap_or_default();
    let namespace = cluster.metadata.namespace.as_deref().unwrap_or_default();
    let cluster_key = ClusterKey::new(&id.cluster, namespace, name);
    let committer = ctx.committer(crate::cluster::gvr());
    if let Err(error) = committer.main(&cluster_key, &**cluster, &new).await {
        // The tombstone says the same.
        tracing::warn!(cluster = %cluster_key, %error, "a forced removal was not noted in the Cluster");
    }
}

/// Removes what the hub made for the agent.
async fn clear(ctx: &Arc<Context>, key: &ClusterKey, id: &TargetId, target: &SyncTarget) -> Step {
    let halt = ctx.deps.hosted.stop(id);
    let (since, progress) = {
        let mut removals = ctx.removals.lock();
        let progress = removals.entry(id.clone()).or_default();
        let since = *progress.clearing_since.get_or_insert_with(Instant::now);
        (since, progress.clone())
    };
    // One that is abandoned was waited for.
    if halt == Halt::Ending && !progress.abandoned && since.elapsed() < PATIENCE {
        return step("the syncer finishes what it has begun");
    }
    let cluster = super::cluster_key(key, target);
    if cluster
        .as_ref()
        .is_some_and(|cluster| ctx.prober.is_visiting(cluster))
    {
        // What it may be making would be left behind.
        return Step {
            then: Then::Look(Duration::from_millis(500)),
            ..step("waits for a visit to the member to end")
        };
    }
    let mode = mode::installed(target).unwrap_or_else(|| target.spec.mode());
    let member = super::member(ctx, key, target);
    let in_member = |part: &Part| matches!(part, Part::MemberAccount | Part::Workload);
    let needs_member = mode::parts(mode).iter().any(in_member);
    let connection = match member {
        Member::Usable { connection, .. } => Some(connection),
        Member::Unusable | Member::Unknown => None,
    };
    let left = match (&connection, needs_member) {
        (None, true) => Some("the member cannot be reached".to_owned()),
        _ => None,
    };
    let what = Removal {
        agent: super::agent(id),
        occasion: Occasion::End,
        parts: mode::parts(mode).to_vec(),
        member: connection,
        namespaces: !target.spec.deletion.force && !target.spec.deletion.keep_workloads,
    };
    let why = match ctx.installer.remove(ctx, id, what) {
        None => return step("what was made for the agent is being removed"),
        Some(Ok(_)) => left,
        Some(Err(why)) => Some(why),
    };
    let why = match why {
        None if progress.late && !needs_member => Some(LATE.to_owned()),
        Some(why) if since.elapsed() < PATIENCE && !target.spec.deletion.force => {
            return step(format!(
                "what was made for the agent is not removed yet: {why}"
            ));
        }
        why => why,
    };
    if let Some(why) = why
        && let Err(waits) = leave(ctx, key, target, why).await
    {
        return waits;
    }
    cleared(ctx, id)
}

/// Records what could not be removed: nobody else will know of it once the SyncTarget is gone. The error
/// is what to wait with.
async fn leave(
    ctx: &Context,
    key: &ClusterKey,
    target: &SyncTarget,
    why: String,
) -> Result<(), Step> {
    let id = super::identity(key, target);
    let mut message = format!(
        "{why}; what is left of the syncer in the member has the label {}",
        super::agent(&id).selector()
    );
    if !target.spec.deletion.keep_workloads {
        let label = copies_label(key);
        message.push_str(&format!(", and the namespaces of its copies have {label}"));
    }
    let tombstone = Tombstone {
        id: &id,
        cluster: cluster_name(target),
        reason: Reason::LeftBehind,
        objects: Copies::None,
        message: &message,
    };
    record(ctx, &tombstone).await?;
    let news = News {
        kind: "SyncTarget",
        key,
        uid: &id.uid,
        reason: Reason::LeftBehind.as_str(),
        message,
        about: "member",
    };
    crate::events::tell(&ctx.hub, &news, ctx.now()).await;
    Ok(())
}

fn cleared(ctx: &Context, id: &TargetId) -> Step {
    ctx.removals.lock().entry(id.clone()).or_default().cleared = true;
    Step {
        then: Then::Look(Duration::from_millis(1)),
        ..step("what was made for the agent is removed")
    }
}

/// What becomes of the marks of a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// They are its agent's.
    Kept,
    /// They are its agent's, which removes its copies: there are to be no more.
    Leaving,
    /// Nothing is to be done about them until its agent is stopped, lest it removes copies that are
    /// to stay.
    Held,
    /// They are nobody's (any more).
    Gone,
}

/// What becomes of the marks of a target, by its key.
pub(crate) fn fate(ctx: &Context, target_key: &str) -> Fate {
    let keys = ctx
        .stores
        .sync_targets
        .keys_by_index(index::TARGET, target_key);
    let Some((key, target)) = keys
        .into_iter()
        .find_map(|key| Some((key.clone(), ctx.stores.sync_targets.get(&key)?)))
    else {
        return Fate::Gone;
    };
    let deletion = target.spec.deletion;
    if target.metadata.deletion_timestamp.is_none() {
        return Fate::Kept;
    }
    let id = super::identity(&key, &target);
    let abandoned = |progress: &Progress| progress.abandoned;
    let given_up = is_clearing(&target) || ctx.removals.lock().get(&id).is_some_and(abandoned);
    match (given_up, deletion.keep_workloads) {
        (true, _) => Fate::Gone,
        (false, true) => Fate::Held,
        (false, false) => Fate::Leaving,
    }
}

/// Wakes the targets that wait for marks to go.
pub(crate) fn wake(ctx: &Context, target_key: &str) {
    for key in ctx
        .stores
        .sync_targets
        .keys_by_index(index::TARGET, target_key)
    {
        let target = ctx.stores.sync_targets.get(&key);
        if target.is_some_and(|target| target.metadata.deletion_timestamp.is_some()) {
            ctx.queues.sync_targets.add(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_target_brings_up_is_no_copy_of_anything() {
        let object = |labels: serde_json::Value, finalizers: serde_json::Value| -> Slim {
            serde_json::from_value(
                json!({"metadata": {"labels": labels, "finalizers": finalizers}}),
            )
            .unwrap()
        };
        let label = "state.workload.kcp.io/K";
        assert!(holds(&object(json!({label: "Sync"}), json!([])), "K"));
        assert!(holds(
            &object(json!({}), json!(["workload.kcp.io/syncer-K"])),
            "K"
        ));
        assert!(!holds(&object(json!({label: "Upsync"}), json!([])), "K"));
        assert!(!holds(&object(json!({label: "Sync"}), json!([])), "L"));
    }
}
