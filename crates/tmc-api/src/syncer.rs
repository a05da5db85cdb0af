//! `syncer.kcp.io/v1alpha1`: what agents and the hub say to each other at the syncer endpoints
//! (types, section 9a).
//!
//! Fields that a reader does not know are dropped, frames of an unknown type are read as
//! [`AgentFrame::Unknown`] and [`HubFrame::Unknown`] and to be ignored; so either side may be
//! newer. Times have milliseconds.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::agent::rules::Right;
use crate::quantities::ResourceList;
use crate::time::{MilliTime, Span};
use crate::workload::SyncState;

/// API group of the payloads.
pub const GROUP: &str = "syncer.kcp.io";
/// Their version.
pub const VERSION: &str = "v1alpha1";
/// WebSocket subprotocol of `connect`.
pub const SUBPROTOCOL: &str = "v1.syncer.kcp.io";
/// Longest frame of `connect`, in bytes.
pub const MAX_FRAME: usize = 64 * 1024;
/// Most items of a [`StatusBatch`] or [`EventBatch`].
pub const MAX_BATCH: usize = 500;
/// Most rights that are named in a report.
const MAX_RIGHTS: usize = 12;
/// Most characters of one of them.
const MAX_RIGHT: usize = 256;

/// Why the hub closes a session (WebSocket close codes).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum CloseCode {
    /// The agent may not `sync` this target any more.
    NotAuthorized = 4401,
    /// The target is gone, or another one of that name is there now.
    TargetGone = 4404,
    /// A newer session took over.
    Replaced = 4409,
    /// Too many frames.
    TooFast = 4429,
}

impl CloseCode {
    /// The code on the wire.
    pub const fn code(self) -> u16 {
        self as u16
    }
}

/// What an agent sends on `connect`; the first frame is a hello.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase")]
pub enum AgentFrame {
    /// Who it is; once, at first.
    Hello(Hello),
    /// It lives.
    Ping(Ping),
    /// How its member is.
    Report(Report),
    /// It leaves on its own.
    Bye,
    /// Something newer; to be ignored.
    #[serde(other)]
    Unknown,
}

/// What the hub sends on `connect`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase")]
pub enum HubFrame {
    /// The session is open.
    Welcome(Welcome),
    /// A ping arrived.
    Pong(Pong),
    /// The configuration changed.
    Config(SessionConfig),
    /// The session will end; connect again elsewhere.
    Drain(Drain),
    /// The session ends for good.
    Revoke(Revoke),
    /// Something newer; to be ignored.
    #[serde(other)]
    Unknown,
}

/// Who an agent is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Uid of the target that it works for.
    pub uid: String,
    /// The replica.
    pub identity: String,
    /// Its release.
    #[serde(default)]
    pub version: String,
    /// What it can do beyond the basics.
    #[serde(default)]
    pub features: Vec<String>,
}

/// A beat.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ping {
    /// Grows by one with each.
    pub sequence: u64,
    /// When it was sent, by the agent's clock.
    pub sent_at: MilliTime,
}

/// How a member is. An agent reports it now and then; what a report lacks is as it was before.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Totals of its nodes.
    #[serde(default)]
    pub capacity: ResourceList,
    /// Totals of what pods may use.
    #[serde(default)]
    pub allocatable: ResourceList,
    /// What its pods request.
    #[serde(default)]
    pub requested: ResourceList,
    /// What its pods use, if it is measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used: Option<ResourceList>,
    /// Its nodes.
    #[serde(default)]
    pub nodes: NodeReport,
    /// How many pods run.
    #[serde(default)]
    pub pods: u64,
    /// What it serves.
    #[serde(default)]
    pub apis: Vec<ApiReport>,
    /// What the agent keeps in it; absent while it has not looked at everything yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub synced: Option<SyncedReport>,
    /// What the agent may not do in it although it would have to; empty if it may do everything.
    /// Absent while it has not asked, and if the member does not answer what its callers may do: that
    /// is no proof that something is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing_rights: Option<MissingRights>,
    /// When this was seen.
    pub observed_at: MilliTime,
}

/// The rights that an agent lacks in its member, by name: `patch deployments.apps`. At most twelve
/// names and then how many more there are, each of at most 256 characters and without control
/// characters, whoever wrote them: they are shown to people.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>")]
pub struct MissingRights(Vec<String>);

impl MissingRights {
    /// The names of these rights, in their order.
    pub fn of(rights: &[Right]) -> Self {
        let named = rights.iter().take(MAX_RIGHTS).map(Right::to_string);
        let more = rights.len().saturating_sub(MAX_RIGHTS);
        let more = (more > 0).then(|| format!("and {more} more"));
        Self(printable(named.chain(more)))
    }

    /// Whether nothing is missing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A sentence that names them.
    pub fn sentence(&self) -> String {
        format!("the syncer's account may not {}", self.0.join(", "))
    }
}

impl TryFrom<Vec<String>> for MissingRights {
    type Error = &'static str;

    fn try_from(names: Vec<String>) -> Result<Self, Self::Error> {
        let said_nothing = names.is_empty();
        let names = printable(names.into_iter().take(MAX_RIGHTS + 1));
        // Something is missing then, and nobody knows what.
        if names.is_empty() && !said_nothing {
            return Err("the names of rights are empty");
        }
        Ok(Self(names))
    }
}

/// Texts that may be shown; those of which nothing is left are left out.
fn printable(texts: impl Iterator<Item = String>) -> Vec<String> {
    let shown = |text: String| -> String {
        let visible = text.chars().filter(|c| !c.is_control());
        visible.take(MAX_RIGHT).collect()
    };
    texts
        .map(shown)
        .filter(|text| !text.trim().is_empty())
        .collect()
}

/// What an agent keeps in its member.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SyncedReport {
    /// How many copies of the hub's objects there are.
    pub objects: u64,
    /// When it wrote something into the member last; absent if it has not since it started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_sync_time: Option<MilliTime>,
}

/// The nodes of a member.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeReport {
    /// All.
    pub total: u32,
    /// Those that are ready.
    pub ready: u32,
}

/// An API group that a member serves.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiReport {
    /// Its name, empty for core.
    #[serde(default)]
    pub group: String,
    /// Its versions.
    pub versions: Vec<String>,
    /// Its resources.
    #[serde(default)]
    pub resources: Vec<String>,
}

/// A session is open.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Welcome {
    /// Its id.
    pub session: String,
    /// How often to ping.
    pub heartbeat_interval: Span,
    /// What else is configured.
    #[serde(default)]
    pub config: SessionConfig,
}

/// What the hub configures of an agent; what is absent stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionConfig {
    /// How often to ping.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heartbeat_interval: Option<Span>,
    /// How often to look at everything again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resync_period: Option<Span>,
    /// Pod Security level of namespaces in the member.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_security: Option<String>,
    /// Changes whenever the list `resources` does: the agent asks for it again. Has no other
    /// meaning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<String>,
}

/// A ping arrived.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Pong {
    /// Which one.
    pub sequence: u64,
    /// When, by the hub's clock.
    pub received_at: MilliTime,
}

/// A session will end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drain {
    /// When at the latest.
    pub deadline: MilliTime,
}

/// A session ends for good.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revoke {
    /// Why, for people.
    pub reason: String,
}

/// Body of POST `heartbeat`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SyncerHeartbeat {
    /// Uid of the target.
    pub uid: String,
    /// The replica.
    pub identity: String,
    /// Grows by one with each.
    pub sequence: u64,
    /// When it was sent, by the agent's clock.
    pub sent_at: MilliTime,
    /// How the member is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report: Option<Report>,
}

/// Answer to POST `heartbeat`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HeartbeatAnswer {
    /// When it arrived, by the hub's clock.
    pub received_at: MilliTime,
    /// When to send the next one.
    pub next_interval: Span,
}

/// An item of the list `resources`: something that the target is to sync.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SyncedResource {
    /// Its group, empty for core.
    #[serde(default)]
    pub group: String,
    /// Its version.
    pub version: String,
    /// Its plural name.
    pub resource: String,
    /// Its kind.
    pub kind: String,
    /// Whether its objects live in namespaces.
    pub namespaced: bool,
    /// Identity of the export it comes from; empty for a built-in resource.
    #[serde(default)]
    pub identity_hash: String,
    /// Whether it is synced.
    pub state: SyncState,
    /// Why it is not, for machines.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Why it is not, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// Body of POST `status`: at most [`MAX_BATCH`] items.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StatusBatch {
    /// Each stands for itself.
    pub items: Vec<StatusItem>,
}

/// The status of one object.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StatusItem {
    /// Upstream logical cluster.
    pub cluster: String,
    /// Group, empty for core.
    #[serde(default)]
    pub group: String,
    /// Version.
    pub version: String,
    /// Plural name.
    pub resource: String,
    /// Upstream namespace, empty if cluster-scoped.
    #[serde(default)]
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Upstream uid.
    pub uid: String,
    /// Upstream resourceVersion that must still be current, if given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource_version: Option<String>,
    /// The status.
    pub status: Value,
}

/// Body of POST `events`: at most [`MAX_BATCH`] items.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EventBatch {
    /// Each stands for itself.
    pub items: Vec<EventItem>,
}

/// An Event of a member about an upstream object.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EventItem {
    /// Upstream logical cluster.
    pub cluster: String,
    /// The upstream object (`v1` ObjectReference).
    pub involved_object: ObjectRef,
    /// `Normal` or `Warning`.
    pub r#type: String,
    /// For machines.
    pub reason: String,
    /// For people.
    #[serde(default)]
    pub message: String,
    /// How often it happened.
    #[serde(default)]
    pub count: u32,
    /// When first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_timestamp: Option<MilliTime>,
    /// When last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_timestamp: Option<MilliTime>,
    /// Who saw it.
    #[serde(default)]
    pub source: EventSource,
}

/// An object that an Event is about.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectRef {
    /// Its API version.
    pub api_version: String,
    /// Its kind.
    pub kind: String,
    /// Its namespace, empty if cluster-scoped.
    #[serde(default)]
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    #[serde(default)]
    pub uid: String,
}

/// Who saw an Event.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventSource {
    /// The component.
    #[serde(default)]
    pub component: String,
    /// The node.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub host: String,
}

/// Answer to a batch: one result an item, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchAnswer {
    /// The results.
    pub items: Vec<ItemResult>,
}

/// What became of one item.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ItemResult {
    /// Its place in the batch.
    pub index: usize,
    /// HTTP status code.
    pub code: u16,
    /// Why, for machines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Why, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The upstream object's new resourceVersion.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource_version: Option<String>,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::agent::rules::{Rule, missing};

    #[test]
    fn frames_carry_their_type_and_unknown_ones_are_read_as_such() {
        let ping =
            json!({"type": "ping", "sequence": 7, "sentAt": "2026-03-01T10:30:45.123Z", "new": 1});
        let frame: AgentFrame = serde_json::from_value(ping).unwrap();
        assert!(matches!(frame, AgentFrame::Ping(Ping { sequence: 7, .. })));
        assert_eq!(
            serde_json::to_value(&frame).unwrap(),
            json!({"type": "ping", "sequence": 7, "sentAt": "2026-03-01T10:30:45.123Z"})
        );
        let bye: AgentFrame = serde_json::from_value(json!({"type": "bye"})).unwrap();
        assert_eq!(bye, AgentFrame::Bye);
        let odd: HubFrame = serde_json::from_value(json!({"type": "dance", "x": {}})).unwrap();
        assert_eq!(odd, HubFrame::Unknown);
    }

    #[test]
    fn a_welcome_survives_writing_and_reading() {
        let welcome = HubFrame::Welcome(Welcome {
            session: "s".into(),
            heartbeat_interval: Span::seconds(10),
            config: SessionConfig::default(),
        });
        let text = serde_json::to_string(&welcome).unwrap();
        assert_eq!(
            text,
            r#"{"type":"welcome","session":"s","heartbeatInterval":"10s","config":{}}"#
        );
        assert_eq!(serde_json::from_str::<HubFrame>(&text).unwrap(), welcome);
    }

    #[test]
    fn a_heartbeat_without_report_is_small_and_one_without_uid_is_refused() {
        let beat = SyncerHeartbeat {
            uid: "u".into(),
            identity: "i".into(),
            ..Default::default()
        };
        let value = serde_json::to_value(&beat).unwrap();
        assert_eq!(value["sentAt"], "1970-01-01T00:00:00.000Z");
        assert!(value.get("report").is_none());
        assert!(serde_json::from_value::<SyncerHeartbeat>(json!({"identity": "i"})).is_err());
    }

    #[test]
    fn a_report_tells_what_is_kept_in_the_member_only_if_it_is_known() {
        let report: Report =
            serde_json::from_value(json!({"observedAt": "2026-03-01T10:30:45Z"})).unwrap();
        assert_eq!(report.synced, None);
        assert!(
            serde_json::to_value(&report)
                .unwrap()
                .get("synced")
                .is_none()
        );
        let synced = json!({"objects": 3, "lastSyncTime": "2026-03-01T10:30:45.123Z"});
        let read: SyncedReport = serde_json::from_value(synced.clone()).unwrap();
        assert_eq!(serde_json::to_value(read).unwrap(), synced);
    }

    #[test]
    fn a_report_says_nothing_of_rights_unless_somebody_asked() {
        let silent = json!({"observedAt": "2026-03-01T10:30:45Z"});
        let mut report: Report = serde_json::from_value(silent).unwrap();
        assert_eq!(report.missing_rights, None);
        let field = |report: &Report| serde_json::to_value(report).unwrap()["missingRights"].take();
        assert_eq!(field(&report), json!(null));
        report.missing_rights = Some(MissingRights::default());
        assert_eq!(field(&report), json!([]));
    }

    #[test]
    fn a_long_list_of_rights_is_cut_and_says_so() {
        let resources: Vec<String> = (0..30).map(|n| format!("r{n:02}")).collect();
        let resources: Vec<&str> = resources.iter().map(String::as_str).collect();
        let rights = |resources| missing(&[Rule::on("g", resources, &["get"])], &[]);
        let some = MissingRights::of(&rights(&resources[..2]));
        assert_eq!(
            some.sentence(),
            "the syncer's account may not get r00.g, get r01.g"
        );
        let all = MissingRights::of(&rights(&resources[..12])).sentence();
        assert!(all.ends_with(", get r11.g"), "{all}");
        let many = MissingRights::of(&rights(&resources[..]));
        let text = many.sentence();
        assert!(text.ends_with("get r11.g, and 18 more"), "{text}");
        let sent = serde_json::to_value(&many).unwrap();
        assert_eq!(
            serde_json::from_value::<MissingRights>(sent).unwrap(),
            many,
            "it survives writing and reading"
        );
    }

    #[test]
    fn close_codes_are_those_of_the_protocol() {
        let codes = [
            CloseCode::NotAuthorized,
            CloseCode::TargetGone,
            CloseCode::Replaced,
            CloseCode::TooFast,
        ];
        assert_eq!(codes.map(CloseCode::code), [4401, 4404, 4409, 4429]);
    }
}
