//! What a session makes of a frame: functions of values, without clock and socket.

use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;
use tmc_api::syncer::{CloseCode, Hello, Ping};

use super::super::endpoints::{self, Beat};

/// RFC 6455: a message that breaks an agreement.
pub(crate) const POLICY: u16 = 1008;
/// RFC 6455: a message of a kind that is not understood.
pub(crate) const UNSUPPORTED: u16 = 1003;
/// RFC 6455: a message whose content is not what its kind promises.
pub(crate) const INVALID: u16 = 1007;
/// RFC 6455: a message that is too long.
pub(crate) const TOO_LONG: u16 = 1009;
/// RFC 6455: the server goes away; come again.
pub(crate) const GOING_AWAY: u16 = 1001;
/// RFC 6455: all is well.
pub(crate) const NORMAL: u16 = 1000;

/// Longest reason of a close frame: control frames have at most 125 bytes, two are the code.
const MAX_REASON: usize = 123;

/// How a session ends: the code and text of the close frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Close {
    pub code: u16,
    pub reason: String,
}

impl Close {
    pub(crate) fn new(code: u16, reason: impl Into<String>) -> Self {
        let mut reason = reason.into();
        if reason.len() > MAX_REASON {
            let end = (0..=MAX_REASON)
                .rev()
                .find(|at| reason.is_char_boundary(*at));
            reason.truncate(end.unwrap_or(0));
        }
        Self { code, reason }
    }

    pub(crate) fn because(code: CloseCode, reason: impl Into<String>) -> Self {
        Self::new(code.code(), reason)
    }
}

/// What a frame asks for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Heard {
    /// Nothing: of an unknown type, or kept until the next ping.
    Nothing,
    /// The session is to be opened for this replica.
    Hello(Hello),
    /// A beat, with the report that came before it.
    Beat(Beat),
    /// The agent leaves.
    Bye,
}

/// Where a session stands.
#[derive(Debug)]
pub(crate) struct Talk {
    uid: String,
    /// Who speaks, once it has said so.
    identity: Option<String>,
    /// Sent since the last ping; counts with the next one.
    report: Option<Value>,
    bucket: Bucket,
}

/// A frame as far as its type.
#[derive(Deserialize)]
struct Typed<'a> {
    #[serde(rename = "type", borrow, default)]
    kind: std::borrow::Cow<'a, str>,
}

impl Talk {
    /// A session on the target with this uid.
    pub(crate) fn new(uid: &str) -> Self {
        Self {
            uid: uid.to_owned(),
            identity: None,
            report: None,
            bucket: Bucket::new(),
        }
    }

    /// Counts a message of any kind that came `at` this long after the start.
    ///
    /// # Errors
    /// 4429 for more than a live agent has to say.
    pub(crate) fn count(&mut self, bytes: usize, at: Duration) -> Result<(), Close> {
        // A long report costs as much as several pings.
        let cost = 1.0 + bytes as f64 / 8192.0;
        if self.bucket.take(cost, at) {
            return Ok(());
        }
        Err(Close::because(CloseCode::TooFast, "too many frames"))
    }

    /// Understands a text frame that came `now`.
    ///
    /// # Errors
    /// How the session is to be closed.
    pub(crate) fn hear(&mut self, text: &str, now: Timestamp) -> Result<Heard, Close> {
        let kind = read::<Typed<'_>>("frame", text)?.kind;
        let Some(identity) = self.identity.clone() else {
            if kind != "hello" {
                return Err(Close::new(POLICY, "the first frame must be a hello"));
            }
            return self.hello(text);
        };
        match &*kind {
            "hello" => Err(Close::new(POLICY, "a session has one hello")),
            "ping" => {
                let ping: Ping = read("ping", text)?;
                let sent = ping.sent_at.timestamp();
                if endpoints::is_from_the_future(sent, now) {
                    let why = "sentAt lies in the future: check the clocks of hub and member";
                    return Err(Close::new(POLICY, why));
                }
                Ok(Heard::Beat(Beat {
                    received: now,
                    identity,
                    sequence: ping.sequence,
                    report: self.report.take(),
                }))
            }
            "report" => {
                self.report = Some(read("report", text)?);
                Ok(Heard::Nothing)
            }
            "bye" => Ok(Heard::Bye),
            _ => Ok(Heard::Nothing),
        }
    }

    fn hello(&mut self, text: &str) -> Result<Heard, Close> {
        let hello: Hello = read("hello", text)?;
        if hello.uid != self.uid {
            let why = "the hello is for another uid: the SyncTarget was made again";
            return Err(Close::because(CloseCode::TargetGone, why));
        }
        if !endpoints::is_replica_name(&hello.identity) {
            let why = "hello: identity must name the syncer replica (a DNS subdomain)";
            return Err(Close::new(POLICY, why));
        }
        self.identity = Some(hello.identity.clone());
        Ok(Heard::Hello(hello))
    }
}

fn read<'a, T: Deserialize<'a>>(what: &str, text: &'a str) -> Result<T, Close> {
    serde_json::from_str(text).map_err(|error| Close::new(INVALID, format!("{what}: {error}")))
}

/// A token bucket: bursts are fine, a flood is not.
#[derive(Debug)]
struct Bucket {
    tokens: f64,
    at: Duration,
}

impl Bucket {
    /// A re-connected agent has this much to say at once.
    const BURST: f64 = 40.0;
    const PER_SECOND: f64 = 4.0;

    fn new() -> Self {
        Self {
            tokens: Self::BURST,
            at: Duration::ZERO,
        }
    }

    fn take(&mut self, cost: f64, at: Duration) -> bool {
        let passed = at.saturating_sub(self.at).as_secs_f64();
        self.at = at.max(self.at);
        self.tokens = (self.tokens + passed * Self::PER_SECOND).min(Self::BURST);
        let enough = self.tokens >= cost;
        if enough {
            self.tokens -= cost;
        }
        enough
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    fn now() -> Timestamp {
        at("2026-01-01T00:00:00Z")
    }

    fn hello(uid: &str, identity: &str) -> String {
        json!({"type": "hello", "uid": uid, "identity": identity, "version": "1", "new": true})
            .to_string()
    }

    fn ping(sequence: u64, sent: &str) -> String {
        json!({"type": "ping", "sequence": sequence, "sentAt": sent}).to_string()
    }

    fn open() -> Talk {
        let mut talk = Talk::new("u1");
        let heard = talk.hear(&hello("u1", "a"), now()).expect("hello");
        assert!(matches!(heard, Heard::Hello(hello) if hello.identity == "a"));
        talk
    }

    fn refused(talk: &mut Talk, text: &str) -> u16 {
        talk.hear(text, now()).expect_err("refused").code
    }

    #[test]
    fn a_session_begins_with_one_hello_of_the_right_uid() {
        let first = |text: &str| refused(&mut Talk::new("u1"), text);
        assert_eq!(first(&ping(1, "2026-01-01T00:00:00.000Z")), POLICY);
        assert_eq!(first(&hello("u", "a")), 4404, "a prefix is another uid");
        assert_eq!(first(&hello("u1", "")), POLICY);
        assert_eq!(first(&hello("u1", &"a".repeat(254))), POLICY);
        for identity in ["Pod_1", "-a", "a..b", "a/b", "a\nb", "ä"] {
            assert_eq!(first(&hello("u1", identity)), POLICY, "{identity}");
        }
        assert_eq!(first("7"), INVALID);
        assert_eq!(first("no JSON"), INVALID);
        assert_eq!(refused(&mut open(), &hello("u1", "a")), POLICY);
    }

    #[test]
    fn a_ping_is_a_beat_with_the_report_before_it() {
        let mut talk = open();
        let report = json!({"type": "report", "apis": [], "observedAt": "x"}).to_string();
        assert_eq!(talk.hear(&report, now()).expect("report"), Heard::Nothing);
        let beat = |talk: &mut Talk, n| match talk.hear(&ping(n, "2026-01-01T00:00:02.5Z"), now()) {
            Ok(Heard::Beat(beat)) => beat,
            other => panic!("no beat: {other:?}"),
        };
        let first = beat(&mut talk, 3);
        assert_eq!((first.sequence, first.identity.as_str()), (3, "a"));
        assert_eq!(first.received, now(), "by the hub's clock");
        assert!(
            first
                .report
                .is_some_and(|report| report["apis"] == json!([]))
        );
        assert_eq!(beat(&mut talk, 4).report, None, "a report counts once");
    }

    #[test]
    fn a_ping_from_the_future_or_without_its_fields_ends_the_session() {
        assert_eq!(
            refused(&mut open(), &ping(1, "2026-01-01T00:01:00.000Z")),
            POLICY
        );
        assert_eq!(refused(&mut open(), r#"{"type":"ping"}"#), INVALID);
    }

    #[test]
    fn unknown_frames_are_ignored_and_bye_is_heard() {
        let mut talk = open();
        for text in [r#"{"type":"dance"}"#, "{}", r#"{"type":""}"#] {
            assert_eq!(talk.hear(text, now()).expect(text), Heard::Nothing);
        }
        assert_eq!(
            talk.hear(r#"{"type":"bye"}"#, now()).expect("bye"),
            Heard::Bye
        );
    }

    #[test]
    fn a_live_agent_is_never_too_fast_and_a_flood_is() {
        let mut talk = Talk::new("u1");
        for second in 0..3600_u64 {
            talk.count(100, Duration::from_secs(second))
                .expect("a ping a second");
        }
        let mut flood = Talk::new("u1");
        let sent = (0..1000)
            .take_while(|_| flood.count(100, Duration::ZERO).is_ok())
            .count();
        assert!((20..60).contains(&sent), "{sent} at once");
        assert_eq!(
            flood.count(100, Duration::ZERO).expect_err("flood").code,
            4429
        );
        flood
            .count(100, Duration::from_secs(10))
            .expect("later again");
        let mut long = Talk::new("u1");
        let sent = (0..1000)
            .take_while(|_| long.count(64 * 1024, Duration::ZERO).is_ok())
            .count();
        assert!(sent < 8, "{sent} long ones at once");
    }

    #[test]
    fn a_reason_fits_into_a_close_frame_whatever_it_says() {
        let close = Close::new(POLICY, "é".repeat(100));
        assert_eq!(close.reason.len(), 122);
        assert_eq!(Close::new(POLICY, "short").reason, "short");
    }
}
