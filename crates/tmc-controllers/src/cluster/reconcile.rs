//! What a Cluster should look like, from its credential, its member's answers and its SyncTarget.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tmc_api::conditions::{self, Condition, READY, Severity};
use tmc_api::time::Time;
use tmc_api::workload::{
    self, Capabilities, Cluster, ClusterFacts, ClusterStatus, CredentialKind, Credentials,
    NodeCounts, ResourceSummary, SyncTarget, SyncTargetRef, condition, reason,
};
use tmc_runtime::clock::until_past;

use super::account::{Arranged, Shortfall};
use super::probe::{Failure, Found, features};
use crate::heartbeat::PERSIST_EVERY;

/// How long before its end a certificate is warned about.
const CERTIFICATE_LEAD: SignedDuration = SignedDuration::from_hours(7 * 24);
/// How long before its end a token is warned about: most live for hours.
const TOKEN_LEAD: SignedDuration = SignedDuration::from_mins(10);

/// A connection that worked is given up only after this many failures in a row …
const FAILURES_UNTIL_LOST: u32 = 3;
/// … of which the first is at least this long ago. With the probes' back-off (1 s, doubling) a
/// member that refuses connections is lost after 15 s, one that swallows them after 10 to 20 s. The
/// first answer brings it back.
const SILENCE_UNTIL_LOST: SignedDuration = SignedDuration::from_secs(10);
/// What was discovered longer ago than this is stale; a member that answers is asked twice as often.
const STALE_AFTER: SignedDuration = SignedDuration::from_hours(1);

/// A valid credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValidCredential {
    /// What it is.
    pub kind: CredentialKind,
    /// When it ends.
    pub expires: Option<Timestamp>,
    /// Changes when the credential does.
    pub fingerprint: String,
}

/// What a Cluster's Secret led to; the error is reason and message of `CredentialsValid`.
pub type Checked = Result<ValidCredential, (&'static str, String)>;

/// A finished probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// When it ended.
    pub at: Timestamp,
    /// What it found.
    pub outcome: Result<Found, Failure>,
    /// How many in a row have failed, this one included.
    pub failures: u32,
    /// When the first of these ended.
    pub failing_since: Option<Timestamp>,
}

impl Probe {
    /// Whether the failures so far are enough to give up a connection that worked: one packet lost
    /// must not move workload. An address that must not be dialled is given up at once.
    fn is_lost(&self) -> bool {
        let Err(failure) = &self.outcome else {
            return false;
        };
        let silence = self
            .failing_since
            .map(|since| since.duration_until(self.at));
        failure.reason == reason::ENDPOINT_FORBIDDEN
            || (self.failures >= FAILURES_UNTIL_LOST
                && silence.is_some_and(|silence| silence >= SILENCE_UNTIL_LOST))
    }
}

/// What is known of the syncer's account in the member.
#[derive(Clone, Debug)]
pub enum Rbac {
    /// The member's owner makes it (mode External).
    NotOurs,
    /// There is no SyncTarget yet to make it for.
    NoTarget,
    /// It is to be made; how that went, if it was tried since this process started.
    Ours(Option<Arc<Arranged>>),
}

/// The derived SyncTarget.
#[derive(Clone, Debug)]
pub enum Derived {
    /// It is not there (yet).
    Missing,
    /// One of its name belongs to somebody else.
    Conflict(String),
    /// It.
    Owned(Arc<SyncTarget>),
}

/// What is observed for one Cluster.
#[derive(Clone, Debug)]
pub struct Observed {
    /// Its credential.
    pub credential: Checked,
    /// The last probe with this credential.
    pub probe: Option<Arc<Probe>>,
    /// The last discovery with this credential that succeeded, and when.
    pub capabilities: Option<Arc<Capabilities>>,
    /// Why the last discovery with this credential failed, if it did.
    pub undiscovered: Option<Failure>,
    /// Its SyncTarget.
    pub derived: Derived,
    /// The syncer's account.
    pub rbac: Rbac,
    /// How many nodes its agent counted last.
    pub nodes: Option<NodeCounts>,
    /// How often the time of the last probe is written while nothing else changes.
    pub persist_every: SignedDuration,
}

/// The status it should have.
pub fn status(cluster: &Cluster, observed: &Observed, now: Timestamp) -> ClusterStatus {
    let mut status = cluster.status.clone().unwrap_or_default();
    status.observed_generation = cluster.metadata.generation;
    set_credentials(&mut status, &observed.credential, now);
    set_connection(&mut status, observed, now);
    set_target(&mut status, &observed.derived, observed.nodes, now);
    let facts = ClusterFacts {
        deleting: cluster.metadata.deletion_timestamp.is_some(),
        has_sync_target: status.sync_target_ref.is_some(),
        ever_discovered: status.capabilities.is_some(),
    };
    let readiness = workload::cluster(&status.conditions, facts);
    conditions::set(&mut status.conditions, readiness.ready, now);
    status.phase = Some(readiness.phase);
    status
}

/// Whether conditions say that the credential ends soon.
pub fn is_ending(conditions: &[Condition]) -> bool {
    conditions::is_false(conditions, CREDENTIALS_CURRENT)
}

/// When something changes by time alone.
pub fn look_again(credential: &Checked, now: Timestamp) -> Option<Duration> {
    let credential = credential.as_ref().ok()?;
    let end = credential.expires?;
    let warning = end.checked_sub(lead(credential.kind)).ok()?;
    let next = [warning, end].into_iter().find(|at| *at > now)?;
    Some(until_past(now, next))
}

fn lead(kind: CredentialKind) -> SignedDuration {
    match kind {
        CredentialKind::ClientCertificate => CERTIFICATE_LEAD,
        CredentialKind::Token => TOKEN_LEAD,
    }
}

/// CredentialsValid and CredentialsCurrent.
fn set_credentials(status: &mut ClusterStatus, credential: &Checked, now: Timestamp) {
    let kind = condition::CREDENTIALS_VALID;
    let credential = match credential {
        Ok(credential) => credential,
        Err((reason, message)) => {
            status.credentials = None;
            conditions::remove(&mut status.conditions, CREDENTIALS_CURRENT);
            let condition = Condition::no(kind, Severity::Error, reason, message.as_str());
            conditions::set(&mut status.conditions, condition, now);
            return;
        }
    };
    status.credentials = Some(Credentials {
        kind: credential.kind,
        expiration_time: credential.expires.map(Time::new),
        fingerprint: credential.fingerprint.clone(),
    });
    conditions::set(&mut status.conditions, Condition::yes(kind), now);
    match credential.expires {
        None => drop(conditions::remove(
            &mut status.conditions,
            CREDENTIALS_CURRENT,
        )),
        Some(end) => {
            let soon = now.duration_until(end) < lead(credential.kind);
            let condition = if soon {
                let text = format!(
                    "the credential ends at {}; store a new kubeconfig in the Secret",
                    Time::new(end)
                );
                Condition::no(CREDENTIALS_CURRENT, Severity::Warning, "ExpiringSoon", text)
            } else {
                Condition::yes(CREDENTIALS_CURRENT)
            };
            conditions::set(&mut status.conditions, condition, now);
        }
    }
}

/// Type of the condition that warns ahead of an expiry.
const CREDENTIALS_CURRENT: &str = "CredentialsCurrent";

fn set_connection(status: &mut ClusterStatus, observed: &Observed, now: Timestamp) {
    let list = &mut status.conditions;
    if observed.credential.is_err() {
        let why = "the credential is not valid, so the member is not contacted";
        for kind in [condition::CONNECTED, condition::RBAC_READY] {
            conditions::set(list, Condition::unknown(kind, "NotProbed", why), now);
        }
        set_discovered(status, observed, now);
        return;
    }
    if let Some(capabilities) = &observed.capabilities {
        set_capabilities(&mut status.capabilities, capabilities);
    }
    set_rbac(status, &observed.rbac, now);
    if let Some(probe) = &observed.probe {
        let changed = set_probed(status, probe, now);
        let age = |at: Time| at.timestamp().duration_until(probe.at);
        let last = status.last_probe_time;
        if changed || last.is_none_or(|at| age(at) >= observed.persist_every) {
            status.last_probe_time = Some(Time::new(probe.at));
        }
    } else if conditions::get(&status.conditions, condition::CONNECTED).is_none() {
        // After a restart or a rotation the last verdict stands until there is a new one.
        let why = "the member is being contacted";
        let condition = Condition::unknown(condition::CONNECTED, "NotProbed", why);
        conditions::set(&mut status.conditions, condition, now);
    }
    set_discovered(status, observed, now);
}

/// What a probe found; says whether the connection is another than before.
fn set_probed(status: &mut ClusterStatus, probe: &Probe, now: Timestamp) -> bool {
    let list = &mut status.conditions;
    let worked = conditions::is_true(list, condition::CONNECTED);
    match &probe.outcome {
        Ok(_) => conditions::set(list, Condition::yes(condition::CONNECTED), now),
        Err(_) if worked && !probe.is_lost() => false,
        Err(failure) => conditions::set(list, failed(condition::CONNECTED, failure), now),
    }
}

/// What was discovered is fresh, or says that it is not: nothing is silently old. It goes by what is
/// known since, not by what one probe brought: whoever saw that one may not have been able to write it.
fn set_discovered(status: &mut ClusterStatus, observed: &Observed, now: Timestamp) {
    let kind = condition::CAPABILITIES_DISCOVERED;
    let list = &mut status.conditions;
    if let Some(failure) = &observed.undiscovered {
        let (reason, message) = (reason::DISCOVERY_FAILED, &*failure.message);
        conditions::set(
            list,
            Condition::no(kind, Severity::Warning, reason, message),
            now,
        );
        return;
    }
    // A failure that this process has not looked at again stands.
    let stands = observed.capabilities.is_none() && conditions::is_false(list, kind);
    let Some(capabilities) = status.capabilities.as_ref().filter(|_| !stands) else {
        return;
    };
    let found = capabilities.observed_at;
    let age = found.map(|at| at.timestamp().duration_until(now));
    let lost = !conditions::is_true(list, condition::CONNECTED);
    let condition = if lost || age.is_none_or(|age| age > STALE_AFTER) {
        let since = found.map_or_else(|| "an unknown time".to_owned(), |at| at.to_string());
        let text = format!("what the member serves was last discovered at {since}");
        Condition::unknown(kind, STALE, text)
    } else {
        Condition::yes(kind)
    };
    conditions::set(list, condition, now);
}

/// Reason of `CapabilitiesDiscovered=Unknown`: the data is older than it should be.
const STALE: &str = "Stale";

fn set_rbac(status: &mut ClusterStatus, rbac: &Rbac, now: Timestamp) {
    let kind = condition::RBAC_READY;
    let list = &mut status.conditions;
    let arranged = match rbac {
        Rbac::NotOurs => {
            conditions::set(list, Condition::yes(kind), now);
            return;
        }
        Rbac::NoTarget => None,
        Rbac::Ours(arranged) => arranged.as_ref(),
    };
    let known = conditions::get(list, kind).is_some_and(|c| c.is_true() || c.is_false());
    let condition = match arranged.map(|arranged| &arranged.outcome) {
        Some(Ok(())) => Condition::yes(kind),
        Some(Err(Shortfall::Failed(why))) => {
            Condition::no(kind, Severity::Error, reason::RBAC_FAILED, why.as_str())
        }
        // Silence decides nothing: the last verdict stands, and Connected tells of the loss.
        Some(Err(Shortfall::Unanswered(_))) | None if known => return,
        Some(Err(Shortfall::Unanswered(why))) => {
            Condition::unknown(kind, NOT_ARRANGED, why.as_str())
        }
        None => Condition::unknown(
            kind,
            NOT_ARRANGED,
            "the syncer's account is made once the SyncTarget exists and the member answers",
        ),
    };
    conditions::set(list, condition, now);
}

/// Reason of `RBACReady=Unknown`: it was not tried, or there was no answer.
const NOT_ARRANGED: &str = "NotArranged";

fn failed(kind: &str, failure: &Failure) -> Condition {
    Condition::no(kind, Severity::Error, failure.reason, &*failure.message)
}

/// Takes over what was discovered; its time alone only every few minutes.
fn set_capabilities(current: &mut Option<Capabilities>, found: &Capabilities) {
    let fresh = current.as_ref().is_some_and(|current| {
        let undated = |c: &Capabilities| Capabilities {
            observed_at: None,
            ..c.clone()
        };
        let age = match (current.observed_at, found.observed_at) {
            (Some(a), Some(b)) => a.timestamp().duration_until(b.timestamp()),
            _ => SignedDuration::MAX,
        };
        undated(current) == undated(found) && age < PERSIST_EVERY
    });
    if !fresh {
        *current = Some(found.clone());
    }
}

/// Capabilities as a discovery found them.
pub fn capabilities(found: &Found, at: Timestamp) -> Option<Capabilities> {
    let served = found.served.as_ref()?.as_ref().ok()?;
    Some(Capabilities {
        kubernetes_version: found.version.clone(),
        features: features(&served.groups),
        api_groups: served.groups.clone(),
        api_groups_truncated: served.truncated,
        observed_at: Some(Time::new(at)),
    })
}

fn set_target(
    status: &mut ClusterStatus,
    derived: &Derived,
    nodes: Option<NodeCounts>,
    now: Timestamp,
) {
    let kind = condition::SYNC_TARGET_READY;
    let condition = match derived {
        Derived::Missing => {
            status.sync_target_ref = None;
            let why = "it is made once credential and connection are known to work";
            Condition::unknown(kind, "SyncTargetMissing", why)
        }
        Derived::Conflict(name) => {
            status.sync_target_ref = None;
            let text = format!(
                "SyncTarget \"{name}\" exists and was not made for this Cluster; delete it or rename the Cluster"
            );
            Condition::no(kind, Severity::Error, reason::SYNC_TARGET_CONFLICT, text)
        }
        Derived::Owned(target) => {
            status.sync_target_ref = Some(SyncTargetRef {
                name: target.metadata.name.clone().unwrap_or_default(),
                uid: target.metadata.uid.clone().unwrap_or_default(),
            });
            // After a restart the agent has not counted its nodes yet.
            let before = status.resource_summary.as_ref().and_then(|s| s.nodes);
            status.resource_summary = summary(target, nodes.or(before));
            target_ready(target)
        }
    };
    conditions::set(&mut status.conditions, condition, now);
}

fn target_ready(target: &SyncTarget) -> Condition {
    let kind = condition::SYNC_TARGET_READY;
    let ready = conditions::get(target.conditions(), READY);
    if ready.is_some_and(Condition::is_true) {
        return Condition::yes(kind);
    }
    let why = ready.map_or("not evaluated yet", |ready| {
        if ready.message.is_empty() {
            &*ready.reason
        } else {
            &*ready.message
        }
    });
    let text = format!("the SyncTarget is not Ready: {why}");
    Condition::no(kind, Severity::Warning, reason::SYNC_TARGET_NOT_READY, text)
}

fn summary(target: &SyncTarget, nodes: Option<NodeCounts>) -> Option<ResourceSummary> {
    let status = target.status.as_ref()?;
    let known = status.capacity.is_some() || status.allocatable.is_some();
    known.then(|| ResourceSummary {
        nodes,
        capacity: status.capacity.clone().unwrap_or_default(),
        allocatable: status.allocatable.clone().unwrap_or_default(),
        allocated: status.allocated_resources.clone().unwrap_or_default(),
    })
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
