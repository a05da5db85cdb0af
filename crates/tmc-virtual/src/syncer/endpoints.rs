//! Endpoints below a target's root: `heartbeat` and `resources` (`syncer.kcp.io/v1alpha1`).

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};
use tmc_api::workload::{SyncState, SyncedResource};
use tmc_apimachinery::GroupVersionResource;
use tmc_apimachinery::definition::{ApiSet, NameRule, ResourceDefinition};
use tmc_apimachinery::meta;
use tmc_apimachinery::status::{ApiError, Cause, Result};

use super::targets::TargetId;

/// How far an agent's clock may be ahead of ours.
const SKEW: Duration = Duration::from_secs(10);

/// Longest name of a syncer replica that is repeated in an error, in bytes.
const MAX_REPEATED: usize = 253;

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
    if !is_replica_name(&beat.identity) {
        let repeated = beat.identity.len() <= MAX_REPEATED;
        let given = json!(if repeated { &*beat.identity } else { "…" });
        let why = "it must be a DNS subdomain (lower-case letters, digits, '-' and '.') of at most 253 bytes";
        return invalid(Cause::invalid("identity", &given, why));
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

/// Whether a text can be the name of a syncer replica: a DNS subdomain.
pub(super) fn is_replica_name(text: &str) -> bool {
    meta::validate_name("identity", text, NameRule::Subdomain).is_empty()
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

/// The rows of `resources` (types, section 9a): what a view serves, and what its target was asked to
/// sync besides, with the reason why it does not. `definition` is what the hub has of a resource.
pub(super) fn resource_rows(
    served: &ApiSet,
    asked: &[SyncedResource],
    definition: impl Fn(&GroupVersionResource) -> Option<Arc<ResourceDefinition>>,
) -> Vec<Value> {
    let accepted = served.iter().map(|own| {
        let gvr = own.gvr();
        let identity = asked.iter().find(|entry| is_of(entry, &gvr));
        let identity = identity.map_or("", |entry| &entry.identity_hash);
        row(&gvr, Some(own), identity, ("Accepted", None))
    });
    let others = asked.iter().filter_map(|entry| {
        let version = entry.versions.first()?;
        let gvr = GroupVersionResource::new(&entry.group, version, &entry.resource);
        if served.iter().any(|own| own.gvr() == gvr) {
            return None;
        }
        let known = definition(&gvr);
        let state = match entry.state {
            SyncState::Pending => ("Pending", Some(UNDECIDED)),
            SyncState::Incompatible => ("Incompatible", Some(NOT_IN_MEMBER)),
            SyncState::Accepted if known.is_none() => ("Incompatible", Some(NOT_ON_HUB)),
            // No view shows it, whatever was asked.
            SyncState::Accepted => ("Incompatible", Some(NEVER_SYNCED)),
        };
        Some(row(&gvr, known.as_deref(), &entry.identity_hash, state))
    });
    accepted.chain(others).collect()
}

/// Why a resource is not synced, in one word and in a sentence.
type Reason = (&'static str, &'static str);

const UNDECIDED: Reason = (
    "NotReported",
    "the agent has not said yet what its member serves",
);
const NOT_IN_MEMBER: Reason = (
    "NotServedByMember",
    "the member does not serve it in a version that the hub has",
);
const NOT_ON_HUB: Reason = ("NotServedByHub", "the hub does not serve it");
const NEVER_SYNCED: Reason = ("NeverSynced", "objects of this kind stay where they are");

fn is_of(entry: &SyncedResource, gvr: &GroupVersionResource) -> bool {
    (&*entry.group, &*entry.resource) == (&*gvr.group, &*gvr.resource)
}

fn row(
    gvr: &GroupVersionResource,
    known: Option<&ResourceDefinition>,
    identity: &str,
    (state, why): (&str, Option<Reason>),
) -> Value {
    let mut row = json!({
        "group": gvr.group, "version": gvr.version, "resource": gvr.resource,
        "kind": known.map_or("", |definition| &definition.gvk.kind),
        "namespaced": known.is_some_and(ResourceDefinition::namespaced),
        "identityHash": identity, "state": state,
    });
    if let Some((reason, message)) = why {
        row["reason"] = reason.into();
        row["message"] = message.into();
    }
    row
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
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
        for identity in ["Pod_1", "-a", "a..b", "a/b", "a\nb", "ä"] {
            let body = json!({"uid": "u1", "identity": identity, "sentAt": "2026-01-01T00:00:00Z"});
            let error = read(&body).expect_err("identity");
            assert_eq!(error.code, 422, "{identity}");
            assert!(error.message.contains("DNS subdomain"), "{error}");
        }
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

    #[rstest]
    #[case::served("apps", "deployments", "Accepted", ("Deployment", "Accepted", ""))]
    #[case::undecided("apps", "statefulsets", "Pending", ("StatefulSet", "Pending", "NotReported"))]
    #[case::not_in_member("batch", "jobs", "Incompatible", ("Job", "Incompatible", "NotServedByMember"))]
    #[case::not_on_hub("example.com", "things", "Accepted", ("", "Incompatible", "NotServedByHub"))]
    #[case::never("", "pods", "Accepted", ("Pod", "Incompatible", "NeverSynced"))]
    fn each_resource_that_was_asked_for_has_a_row_that_says_why(
        #[case] group: &str,
        #[case] resource: &str,
        #[case] state: &str,
        #[case] expected: (&str, &str, &str),
    ) {
        let all = tmc_builtins::definitions();
        let find = |gvr: &GroupVersionResource| all.iter().find(|d| d.gvr() == *gvr).cloned();
        let deployments = GroupVersionResource::new("apps", "v1", "deployments");
        let served = ApiSet::new(find(&deployments));
        let asked: Vec<SyncedResource> = serde_json::from_value(json!([
            {"group": group, "resource": resource, "versions": ["v1"], "state": state,
             "identityHash": "hash"},
        ]))
        .expect("resources");
        let rows = resource_rows(&served, &asked, find);
        let own = rows.iter().filter(|row| row["resource"] == resource);
        let own: Vec<_> = own.collect();
        let [row] = own[..] else {
            panic!("{rows:?}");
        };
        let text = |field: &str| row[field].as_str().unwrap_or_default();
        assert_eq!((text("kind"), text("state"), text("reason")), expected);
        assert_eq!(text("identityHash"), "hash");
        assert_eq!(text("message").is_empty(), text("reason").is_empty());
    }
}
