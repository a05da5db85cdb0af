//! What a SyncTarget should look like, from what is observed.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tmc_api::conditions::{self, Condition, Severity};
use tmc_api::hashes::sync_target_key;
use tmc_api::keys::SYNC_TARGET_KEY_LABEL;
use tmc_api::time::Time;
use tmc_api::workload::{
    self, Capabilities, Cluster, SyncState, SyncTarget, SyncTargetFacts, SyncTargetStatus,
    SyncedResource, SyncerMode, SyncerStatus, TunnelWorkspace, VirtualWorkspace, condition,
    heartbeat, reason,
};
use tmc_apimachinery::{ClusterName, GroupVersionResource};
use tmc_runtime::clock::until_past;

use crate::heartbeat::{Beat, ServedApis, Signs, assess};
use crate::synctarget::hosted::HostedState;
use crate::synctarget::installer::{Installed, Rollout};

/// What is the same for all targets of a hub.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// URL under which members (and Hosted syncers) reach the virtual workspaces; empty if unknown.
    pub base_url: String,
    /// The resources that targets sync beside the built-in ones.
    pub sync_resources: Vec<GroupVersionResource>,
}

/// What `spec.clusterRef` led to.
#[derive(Clone, Debug)]
pub enum Referenced {
    /// There is no reference.
    Nothing,
    /// No such Cluster.
    Missing,
    /// The Cluster.
    Found(Arc<Cluster>),
}

/// What is observed about one target.
#[derive(Clone, Debug)]
pub struct Observed {
    /// The Cluster it refers to.
    pub cluster: Referenced,
    /// The Hosted syncer.
    pub hosted: HostedState,
    /// The syncer of another mode.
    pub installing: Installing,
    /// Its last beat in memory.
    pub beat: Option<Beat>,
    /// How many sessions of its replicas are open.
    pub sessions: u32,
    /// Since when beats could be heard.
    pub listening_since: Timestamp,
    /// Why it is not gone yet, on its way out.
    pub leaving: Option<String>,
    /// How often the time of the last beat is written while nothing else changes.
    pub persist_every: SignedDuration,
}

/// A syncer that does not run in the hub.
#[derive(Clone, Debug)]
pub enum Installing {
    /// Nothing is to be installed, or nothing was tried.
    NotOurs,
    /// It cannot be installed; why, and what to do.
    Refused(String),
    /// Something else comes first.
    Waiting(String),
    /// How it is.
    Known(Arc<Installed>),
}

/// Why mode Deployment is refused.
pub(crate) const LOOPBACK: &str = "the hub's URL is a loopback address, which no pod of the member reaches; start the hub with --external-url, or set spec.syncerConfig.mode to Hosted";

/// The target with the metadata it should have: its key as a label.
pub fn metadata(cluster: &ClusterName, target: &SyncTarget) -> SyncTarget {
    let mut new = target.clone();
    let name = target.metadata.name.as_deref().unwrap_or_default();
    let key = sync_target_key(cluster.as_str(), name);
    new.metadata
        .labels
        .get_or_insert_default()
        .insert(SYNC_TARGET_KEY_LABEL.into(), key);
    new
}

/// The status it should have, and when to look again although nothing happened.
pub fn status(
    cluster: &ClusterName,
    target: &SyncTarget,
    observed: &Observed,
    settings: &Settings,
    now: Timestamp,
) -> (SyncTargetStatus, Option<Duration>) {
    let mut status = target.status.clone().unwrap_or_default();
    status.observed_generation = target.metadata.generation;
    set_urls(&mut status, cluster, target, &settings.base_url);
    let mut components = vec![cluster_available(&mut status, &observed.cluster)];
    let look_again = set_heartbeat(&mut status, target, observed, now);
    let look_again = [look_again, grace_ends(target, observed, now)];
    components.push(Some(set_syncer(&mut status, target, observed, now)));
    if let Some(totals) = observed.beat.as_ref().and_then(|beat| beat.totals.as_ref()) {
        status.capacity = Some(totals.capacity.clone());
        status.allocatable = Some(totals.allocatable.clone());
    }
    let served = served(target, observed, &settings.sync_resources);
    status.synced_resources = synced_resources(
        &settings.sync_resources,
        served.as_deref(),
        &status.synced_resources,
    );
    let asked = !target.spec.supported_api_exports.is_empty();
    components.push(Some(api_available(&status.synced_resources, asked)));
    components.push(authorized(observed.beat.as_ref()));
    if target.spec.cluster_ref.is_none() {
        conditions::remove(&mut status.conditions, condition::CLUSTER_AVAILABLE);
    }
    for component in components.into_iter().flatten() {
        conditions::set(&mut status.conditions, component, now);
    }
    // Last, from the components alone: an earlier Ready has no say.
    let facts = SyncTargetFacts {
        deleting: target.metadata.deletion_timestamp.is_some(),
        has_cluster: target.spec.cluster_ref.is_some(),
        ever_heard: observed.beat.is_some() || status.last_syncer_heartbeat_time.is_some(),
        syncer_requested: match target.spec.mode() {
            SyncerMode::Hosted => observed.hosted != HostedState::Absent,
            SyncerMode::Deployment => matches!(observed.installing, Installing::Known(_)),
            SyncerMode::External => false,
        },
    };
    let mut readiness = workload::sync_target(&status.conditions, facts);
    if let Some(why) = observed.leaving.as_ref().filter(|_| facts.deleting) {
        readiness.ready.message.clone_from(why);
    }
    conditions::set(&mut status.conditions, readiness.ready, now);
    status.phase = Some(readiness.phase);
    note_synced(&mut status, target, observed);
    (status, look_again.into_iter().flatten().min())
}

/// What the agent keeps in its member goes along with a status that is written anyway: of its own it
/// would be a write of each target every minute, each sent to every watcher. What an agent does not
/// report it may have patched itself.
fn note_synced(status: &mut SyncTargetStatus, target: &SyncTarget, observed: &Observed) {
    let Some(beat) = &observed.beat else { return };
    if target.status.as_ref() == Some(&*status) {
        return;
    }
    let synced = beat.synced;
    let syncer = status.syncer_status.get_or_insert_default();
    syncer.synced_resources = synced.objects.or(syncer.synced_resources);
    syncer.last_sync_time = synced.last_sync.map(Time::new).or(syncer.last_sync_time);
}

fn set_urls(status: &mut SyncTargetStatus, cluster: &ClusterName, target: &SyncTarget, base: &str) {
    let (name, uid) = (
        target.metadata.name.as_deref(),
        target.metadata.uid.as_deref(),
    );
    let (name, uid) = (name.unwrap_or_default(), uid.unwrap_or_default());
    status.virtual_workspaces.clear();
    status.tunnel_workspaces.clear();
    if !base.is_empty() {
        status.virtual_workspaces.push(VirtualWorkspace {
            syncer_url: workload::syncer_url(base, cluster.as_str(), name, uid),
            upsyncer_url: workload::upsyncer_url(base, cluster.as_str(), name, uid),
        });
        let url = format!("{}/clusters/{cluster}", base.trim_end_matches('/'));
        status.tunnel_workspaces.push(TunnelWorkspace { url });
    }
    status.virtual_workspace_url = status
        .virtual_workspaces
        .first()
        .map(|w| w.syncer_url.clone());
}

/// ClusterAvailable; the uid of the first Cluster found is kept, and another one is not it.
fn cluster_available(status: &mut SyncTargetStatus, referenced: &Referenced) -> Option<Condition> {
    let missing = |text: &str| {
        let kind = condition::CLUSTER_AVAILABLE;
        Some(Condition::no(
            kind,
            Severity::Error,
            reason::CLUSTER_NOT_FOUND,
            text,
        ))
    };
    match referenced {
        Referenced::Nothing => None,
        Referenced::Missing => missing(
            "spec.clusterRef names a Cluster that does not exist; create it or delete the SyncTarget",
        ),
        Referenced::Found(cluster) => {
            let uid = cluster.metadata.uid.clone().unwrap_or_default();
            let first = status.cluster_uid.get_or_insert_with(|| uid.clone());
            if *first != uid {
                return missing(
                    "the Cluster of spec.clusterRef was deleted and made anew; delete the SyncTarget to register it again",
                );
            }
            Some(Condition::yes(condition::CLUSTER_AVAILABLE))
        }
    }
}

fn set_heartbeat(
    status: &mut SyncTargetStatus,
    target: &SyncTarget,
    observed: &Observed,
    now: Timestamp,
) -> Option<Duration> {
    let signs = Signs {
        live: observed.beat.as_ref().map(|beat| beat.at),
        persisted: status.last_syncer_heartbeat_time,
        was_healthy: conditions::is_true(&status.conditions, condition::HEARTBEAT_HEALTHY),
        interval: target.spec.heartbeat_interval(),
        listening_since: observed.listening_since,
        persist_every: observed.persist_every,
    };
    let health = assess(&signs, now);
    if let Some(beat) = &observed.beat {
        let identity = Some(beat.identity.clone()).filter(|id| !id.is_empty());
        let persisted = health.persist != status.last_syncer_heartbeat_time;
        // Who takes over is told at once, but no restart of a hub rewrites all that it hosts.
        let took_over = identity.is_some() && target.spec.mode() != SyncerMode::Hosted;
        if persisted || took_over {
            status.syncer_identity = identity;
        }
    }
    status.last_syncer_heartbeat_time = health.persist;
    status.last_heartbeat_time = health.persist;
    conditions::set(&mut status.conditions, health.condition, now);
    health.look_again
}

/// SyncerReady and the syncer's replicas; HeartbeatHealthy is already up to date.
fn set_syncer(
    status: &mut SyncTargetStatus,
    target: &SyncTarget,
    observed: &Observed,
    now: Timestamp,
) -> Condition {
    let kind = condition::SYNCER_READY;
    let unhealthy =
        |text: &str| Condition::no(kind, Severity::Warning, reason::SYNCER_UNHEALTHY, text);
    let (condition, replicas) = match target.spec.mode() {
        SyncerMode::Hosted => {
            let condition = match &observed.hosted {
                HostedState::Running => Condition::yes(kind),
                // After a restart of the hub its syncers have as long as their beats.
                HostedState::Starting | HostedState::Absent
                    if conditions::is_true(&status.conditions, kind)
                        && has_fresh_grace(target, observed, now) =>
                {
                    Condition::yes(kind)
                }
                HostedState::Starting => {
                    Condition::unknown(kind, "SyncerStarting", "the syncer is being started")
                }
                HostedState::Absent => Condition::unknown(
                    kind,
                    "SyncerNotStarted",
                    "the syncer waits for a Cluster with a valid credential",
                ),
                HostedState::Failed(why) => unhealthy(why),
            };
            (condition, 1)
        }
        SyncerMode::Deployment => {
            let (condition, rollout) = deployment(status, target, observed, now);
            let syncer = status.syncer_status.get_or_insert_default();
            if let Some(rollout) = rollout {
                syncer.ready = condition.is_true();
                syncer.observed_generation = Some(rollout.observed_generation);
                syncer.replicas = Some(rollout.replicas);
                syncer.ready_replicas = Some(rollout.ready_replicas);
            } else if !condition.is_true() {
                syncer.ready = false;
                syncer.ready_replicas = Some(0);
            }
            return condition;
        }
        // Whoever beats is there, with or without a session; nobody else knows of it.
        SyncerMode::External
            if conditions::is_true(&status.conditions, condition::HEARTBEAT_HEALTHY) =>
        {
            let sessions = i32::try_from(observed.sessions).unwrap_or(i32::MAX);
            (Condition::yes(kind), sessions.max(1))
        }
        SyncerMode::External => (unhealthy("no syncer is connected"), 0),
    };
    let syncer: &mut SyncerStatus = status.syncer_status.get_or_insert_default();
    syncer.ready = condition.is_true();
    // A former Deployment's.
    syncer.observed_generation = None;
    syncer.replicas = Some(replicas);
    syncer.ready_replicas = Some(if syncer.ready { replicas } else { 0 });
    condition
}

/// SyncerReady of a Deployment, and the rollout if it is known.
fn deployment(
    status: &SyncTargetStatus,
    target: &SyncTarget,
    observed: &Observed,
    now: Timestamp,
) -> (Condition, Option<Rollout>) {
    let kind = condition::SYNCER_READY;
    let worked = conditions::is_true(&status.conditions, kind);
    let failed = |why: &str| {
        let reason = reason::SYNCER_DEPLOYMENT_FAILED;
        Condition::no(kind, Severity::Error, reason, why)
    };
    let open = |why: &str| Condition::unknown(kind, "SyncerInstalling", why);
    let installed = match &observed.installing {
        Installing::Refused(why) => return (failed(why), None),
        // After a restart of the hub it is looked at in a moment.
        Installing::NotOurs | Installing::Waiting(_)
            if worked && has_fresh_grace(target, observed, now) =>
        {
            return (Condition::yes(kind), None);
        }
        Installing::NotOurs => return (open("the syncer is not installed yet"), None),
        Installing::Waiting(why) => return (open(why), None),
        Installing::Known(installed) => installed,
    };
    match &installed.outcome {
        Ok(Some(rollout)) if rollout.is_ready() => (Condition::yes(kind), Some(rollout.clone())),
        Ok(Some(rollout)) if rollout.stuck => {
            let why = "the rollout of the syncer's Deployment does not progress; see its pods in the member";
            (failed(why), Some(rollout.clone()))
        }
        Ok(Some(rollout)) => {
            let text = format!(
                "{} of {} replicas of the syncer are ready",
                rollout.ready_replicas, rollout.replicas
            );
            let reason = reason::SYNCER_UNHEALTHY;
            let condition = Condition::no(kind, Severity::Warning, reason, text);
            (condition, Some(rollout.clone()))
        }
        Ok(None) => (open("the syncer is not installed yet"), None),
        Err((true, why)) => (failed(why), None),
        // Silence of the member decides nothing: whether the syncer lives its beats tell.
        Err((false, _)) if worked => (Condition::yes(kind), None),
        Err((false, why)) => (open(why), None),
    }
}

/// Whether this process is so young that it may not have heard of everyone yet.
fn has_fresh_grace(target: &SyncTarget, observed: &Observed, now: Timestamp) -> bool {
    grace_ends(target, observed, now).is_some()
}

/// When this process is no longer that young: what was borne until then is judged again.
fn grace_ends(target: &SyncTarget, observed: &Observed, now: Timestamp) -> Option<Duration> {
    let interval = target.spec.heartbeat_interval();
    let start = Some(observed.listening_since);
    match heartbeat::health(now, start, interval, heartbeat::DEFAULT_SKEW) {
        heartbeat::Health::Healthy { expires } => Some(until_past(now, expires)),
        _ => None,
    }
}

/// What the member serves: with a Cluster what the hub discovered (of what is wanted), else what the
/// agent reported.
fn served(
    target: &SyncTarget,
    observed: &Observed,
    wanted: &[GroupVersionResource],
) -> Option<Arc<ServedApis>> {
    let reported = observed.beat.as_ref().and_then(|beat| beat.apis.clone());
    match (&observed.cluster, target.spec.mode()) {
        (Referenced::Found(cluster), SyncerMode::Hosted | SyncerMode::Deployment) => {
            let status = cluster.status.as_ref();
            let capabilities = status.and_then(|status| status.capabilities.as_ref());
            capabilities
                .map(|found| Arc::new(apis_of(found, wanted)))
                .or(reported)
        }
        _ => reported,
    }
}

/// What is served of what is wanted. A status may hold any number of versions and resources, and their
/// product is never made.
fn apis_of(capabilities: &Capabilities, wanted: &[GroupVersionResource]) -> ServedApis {
    let serves = |gvr: &&GroupVersionResource| {
        let mut groups = capabilities.api_groups.iter();
        groups.any(|group| {
            group.name == gvr.group
                && group.versions.contains(&gvr.version)
                && group.resources.contains(&gvr.resource)
        })
    };
    wanted.iter().filter(serves).cloned().collect()
}

/// One entry a resource, sorted. While it is not known what the member serves, the last verdict
/// stands: a restart of the hub decides nothing.
fn synced_resources(
    wanted: &[GroupVersionResource],
    served: Option<&ServedApis>,
    before: &[SyncedResource],
) -> Vec<SyncedResource> {
    let mut list: Vec<SyncedResource> = Vec::new();
    for gvr in wanted {
        let state = match served {
            Some(served) if served.contains(gvr) => SyncState::Accepted,
            Some(_) => SyncState::Incompatible,
            None => before
                .iter()
                .find(|b| (&b.group, &b.resource) == (&gvr.group, &gvr.resource))
                .map_or(SyncState::Pending, |b| b.state),
        };
        let known = list
            .iter_mut()
            .find(|e| e.group == gvr.group && e.resource == gvr.resource);
        match known {
            Some(entry) => {
                entry.versions.push(gvr.version.clone());
                if state == SyncState::Accepted {
                    entry.state = state;
                }
            }
            None => list.push(SyncedResource {
                group: gvr.group.clone(),
                resource: gvr.resource.clone(),
                versions: vec![gvr.version.clone()],
                identity_hash: String::new(),
                state,
            }),
        }
    }
    list.sort_by(|a, b| (&a.group, &a.resource).cmp(&(&b.group, &b.resource)));
    list
}

/// APIAvailable. `asked` says that the target names exports: then it has to be known what is served
/// of them. Otherwise an agent that only beats, and never says what its member serves, will do.
fn api_available(resources: &[SyncedResource], asked: bool) -> Condition {
    let kind = condition::API_AVAILABLE;
    let any = |state| resources.iter().any(|resource| resource.state == state);
    let open = any(SyncState::Pending);
    if resources.is_empty() || any(SyncState::Accepted) || open && !asked {
        Condition::yes(kind)
    } else if open {
        Condition::unknown(
            kind,
            "NotEvaluated",
            "it is not known yet what the member serves",
        )
    } else {
        let text =
            "the member serves none of the resources that are synced; see status.syncedResources";
        Condition::no(kind, Severity::Warning, reason::NO_ACCEPTED_APIS, text)
    }
}

/// SyncerAuthorized, once the agent has said what it may do. Agents that do not say it in their reports,
/// kcp's, write the condition themselves; nor is there anything to say anew after a restart of the hub.
fn authorized(beat: Option<&Beat>) -> Option<Condition> {
    let kind = condition::SYNCER_AUTHORIZED;
    let missing = beat?.missing_rights.as_ref()?;
    Some(if missing.is_empty() {
        Condition::yes(kind)
    } else {
        let reason = reason::SYNCER_UNAUTHORIZED;
        Condition::no(kind, Severity::Error, reason, missing.sentence())
    })
}

#[cfg(test)]
mod authorized_tests;
#[cfg(test)]
mod deployment_tests;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod served_tests;
#[cfg(test)]
mod tests;
