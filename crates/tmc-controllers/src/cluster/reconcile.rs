//! What a Cluster should look like, from its credential, its member's answers and its SyncTarget.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tmc_api::conditions::{self, Condition, READY, Severity};
use tmc_api::time::Time;
use tmc_api::workload::{
    self, Capabilities, Cluster, ClusterFacts, ClusterStatus, CredentialKind, Credentials,
    ResourceSummary, SyncTarget, SyncTargetRef, condition, reason,
};

use super::probe::{Failure, Found, features};

/// How often times are written while nothing else changes.
const PERSIST_EVERY: SignedDuration = SignedDuration::from_mins(5);
/// How long before its end a certificate is warned about.
const CERTIFICATE_LEAD: SignedDuration = SignedDuration::from_hours(7 * 24);
/// How long before its end a token is warned about: most live for hours.
const TOKEN_LEAD: SignedDuration = SignedDuration::from_mins(10);

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
    /// Its SyncTarget.
    pub derived: Derived,
}

/// The status it should have.
pub fn status(cluster: &Cluster, observed: &Observed, now: Timestamp) -> ClusterStatus {
    let mut status = cluster.status.clone().unwrap_or_default();
    status.observed_generation = cluster.metadata.generation;
    set_credentials(&mut status, &observed.credential, now);
    set_connection(&mut status, observed, now);
    set_target(&mut status, &observed.derived, now);
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

/// When something changes by time alone.
pub fn look_again(credential: &Checked, now: Timestamp) -> Option<Duration> {
    let credential = credential.as_ref().ok()?;
    let end = credential.expires?;
    let warning = end.checked_sub(lead(credential.kind)).ok()?;
    let next = [warning, end].into_iter().find(|at| *at > now)?;
    Some(now.duration_until(next).unsigned_abs() + Duration::from_millis(1))
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
        return;
    }
    // The syncer uses the registered credential itself: there is nothing to make in the member.
    conditions::set(list, Condition::yes(condition::RBAC_READY), now);
    if let Some(capabilities) = &observed.capabilities {
        set_capabilities(&mut status.capabilities, capabilities);
    }
    let list = &mut status.conditions;
    let Some(probe) = &observed.probe else {
        // After a restart or a rotation the last verdict stands until there is a new one.
        if conditions::get(list, condition::CONNECTED).is_none() {
            let why = "the member is being contacted";
            conditions::set(
                list,
                Condition::unknown(condition::CONNECTED, "NotProbed", why),
                now,
            );
        }
        return;
    };
    let changed = match &probe.outcome {
        Ok(_) => conditions::set(list, Condition::yes(condition::CONNECTED), now),
        Err(failure) => conditions::set(list, failed(condition::CONNECTED, failure), now),
    };
    match probe.outcome.as_ref().map(|found| &found.served) {
        Ok(Some(Ok(_))) => {
            let condition = Condition::yes(condition::CAPABILITIES_DISCOVERED);
            conditions::set(list, condition, now);
        }
        Ok(Some(Err(failure))) => {
            let condition = Condition::no(
                condition::CAPABILITIES_DISCOVERED,
                Severity::Warning,
                reason::DISCOVERY_FAILED,
                &*failure.message,
            );
            conditions::set(list, condition, now);
        }
        // Not asked this time.
        Ok(None) | Err(_) => {}
    }
    let due = |at: Time| at.timestamp().duration_until(probe.at) >= PERSIST_EVERY;
    if changed || status.last_probe_time.is_none_or(due) {
        status.last_probe_time = Some(Time::new(probe.at));
    }
}

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

fn set_target(status: &mut ClusterStatus, derived: &Derived, now: Timestamp) {
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
            status.resource_summary = summary(target);
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

fn summary(target: &SyncTarget) -> Option<ResourceSummary> {
    let status = target.status.as_ref()?;
    let known = status.capacity.is_some() || status.allocatable.is_some();
    known.then(|| ResourceSummary {
        nodes: None,
        capacity: status.capacity.clone().unwrap_or_default(),
        allocatable: status.allocatable.clone().unwrap_or_default(),
        allocated: status.allocated_resources.clone().unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests;
