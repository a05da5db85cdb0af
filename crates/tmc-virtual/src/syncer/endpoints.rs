//! Endpoints below a target's root: `heartbeat` and `resources` (`syncer.kcp.io/v1alpha1`).

use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};
use tmc_apimachinery::GroupVersionResource;
use tmc_apimachinery::status::{ApiError, Cause, Result};

use super::targets::TargetId;

/// How far an agent's clock may be ahead of ours.
const SKEW: Duration = Duration::from_secs(10);

/// Longest name of a syncer replica, in bytes: a DNS subdomain.
pub(super) const MAX_IDENTITY: usize = 253;

/// A beat that was accepted.
#[derive(Clone, Debug, PartialEq)]
pub struct Beat {
    /// When it arrived, by our clock.
    pub received: Timestamp,
    /// The agent replica.
    pub identity: String,
    /// Its counter, rising.
    pub sequence: u64,
    /// What it saw of the member, if it looked: capacity, allocatable, nodes, apis.
    pub report: Option<Value>,
}

/// Where beats go. Kept in memory: a beat never writes to the hub by itself.
pub trait BeatSink: Send + Sync {
    /// Takes a beat; returns when the next one is expected.
    ///
    /// # Errors
    /// 422 when the sequence does not rise.
    fn beat(&self, target: &TargetId, beat: Beat) -> Result<Duration>;

    /// A replica said hello: its counter begins anew, for an agent that does not remember the old one
    /// must be heard. Must not block.
    fn hello(&self, target: &TargetId, identity: &str);

    /// Learns how many `connect` sessions of a target are open now. Must not block.
    fn sessions(&self, target: &TargetId, open: u32);
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SyncerHeartbeat {
    #[serde(default)]
    uid: String,
    #[serde(default)]
    identity: String,
    #[serde(default)]
    sequence: u64,
    sent_at: Option<String>,
    report: Option<Value>,
}

/// Checks a heartbeat's body against the target and the clock.
pub(super) fn read_beat(body: &[u8], target: &TargetId, now: Timestamp) -> Result<Beat> {
    let beat: SyncerHeartbeat = serde_json::from_slice(body).map_err(|error| {
        ApiError::bad_request(format!("the body is no SyncerHeartbeat: {error}"))
    })?;
    if beat.uid != target.uid {
        let resource = tmc_apimachinery::GroupResource::new("workload.kcp.io", "synctargets");
        let why = format!(
            "the heartbeat is for uid \"{}\", the SyncTarget's is another",
            beat.uid
        );
        return Err(ApiError::conflict(&resource, &target.name, &why));
    }
    let invalid = |cause| {
        Err(ApiError::invalid(
            "syncer.kcp.io",
            "SyncerHeartbeat",
            "",
            vec![cause],
        ))
    };
    if beat.identity.is_empty() {
        return invalid(Cause::required(
            "identity",
            "the name of the syncer replica",
        ));
    }
    if beat.identity.len() > MAX_IDENTITY {
        let why = format!("it must be at most {MAX_IDENTITY} bytes long");
        return invalid(Cause::invalid("identity", &json!("…"), why));
    }
    let sent = beat
        .sent_at
        .as_deref()
        .and_then(|text| text.parse::<Timestamp>().ok());
    let Some(sent) = sent else {
        return invalid(Cause::required("sentAt", "an RFC 3339 time"));
    };
    if is_from_the_future(sent, now) {
        let why = "it lies in the future: check the clocks of hub and member";
        return invalid(Cause::invalid("sentAt", &json!(beat.sent_at), why));
    }
    Ok(Beat {
        received: now,
        identity: beat.identity,
        sequence: beat.sequence,
        report: beat.report,
    })
}

/// Whether an agent's time is further ahead of ours than clocks differ.
pub(super) fn is_from_the_future(sent: Timestamp, now: Timestamp) -> bool {
    let skew = jiff::SignedDuration::try_from(SKEW).unwrap_or_default();
    sent.duration_since(now) > skew
}

/// The answer to a beat.
pub(super) fn beat_answer(received: Timestamp, next: Duration) -> Value {
    json!({
        "apiVersion": "syncer.kcp.io/v1alpha1", "kind": "SyncerHeartbeat",
        "receivedAt": received.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string(),
        "nextInterval": format!("{}ms", next.as_millis()),
    })
}

/// One row of `resources`.
pub(super) fn resource_row(gvr: &GroupVersionResource, kind: &str, namespaced: bool) -> Value {
    json!({
        "group": gvr.group, "version": gvr.version, "resource": gvr.resource, "kind": kind,
        "namespaced": namespaced, "identityHash": "", "state": "Accepted",
    })
}

#[cfg(test)]
mod tests {
    use tmc_apimachinery::ClusterName;

    use super::*;

    fn target() -> TargetId {
        TargetId {
            cluster: ClusterName::new("root"),
            name: "one".into(),
            uid: "u1".into(),
        }
    }

    fn at(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    fn read(body: &Value) -> Result<Beat> {
        read_beat(
            body.to_string().as_bytes(),
            &target(),
            at("2026-01-01T00:00:00Z"),
        )
    }

    #[test]
    fn a_beat_of_another_uid_conflicts_and_one_from_the_future_is_refused() {
        let body = |uid: &str, sent: &str| json!({"uid": uid, "identity": "a", "sequence": 1, "sentAt": sent});
        assert!(read(&body("u1", "2026-01-01T00:00:05.123Z")).is_ok());
        assert_eq!(
            read(&body("u", "2026-01-01T00:00:00Z"))
                .expect_err("uid")
                .code,
            409
        );
        let error = read(&body("u1", "2026-01-01T00:01:00Z")).expect_err("future");
        assert_eq!(error.code, 422);
        assert!(error.message.contains("sentAt"), "{error}");
    }

    #[test]
    fn an_unreadable_beat_names_what_is_wrong() {
        assert_eq!(read(&json!([])).expect_err("array").code, 400);
        let long =
            json!({"uid": "u1", "identity": "a".repeat(254), "sentAt": "2026-01-01T00:00:00Z"});
        let error = read(&long).expect_err("identity");
        assert!(error.message.contains("253"), "{error}");
        assert!(
            read(&json!({"uid": "u1"}))
                .expect_err("identity")
                .message
                .contains("identity")
        );
        assert!(
            read(&json!({"uid": "u1", "identity": "a", "sentAt": "soon"}))
                .expect_err("time")
                .message
                .contains("sentAt")
        );
    }
}
