//! What agents report of their members, for the replica that leads: one Lease a target, written when
//! the report changes, and now and then so that it can be told from one that was left behind.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value};
use tmc_api::hashes;
use tmc_controllers::beat_leases::{Heard, MAX_BYTES};

/// Annotation of a Lease: a report.
pub const REPORT_ANNOTATION: &str = "internal.tmc.kcp.io/report";
/// Annotation of a Lease with a report: SyncTargetKey and uid of the SyncTarget, `<key>:<uid>`.
pub const REPORT_OF_ANNOTATION: &str = "internal.tmc.kcp.io/report-of";
/// What the controllers read of a report, and act on when it changes.
const NEWS: [&str; 5] = ["apis", "capacity", "allocatable", "nodes", "missingRights"];
/// What they read as well, which changes all the time and goes along.
const ALONG: [&str; 3] = ["requested", "pods", "synced"];
/// How often a report is written that has not changed.
const REFRESH: SignedDuration = SignedDuration::from_mins(30);
/// How long a report is kept of a target that reports no more.
const KEPT: SignedDuration = SignedDuration::from_mins(15);

/// Name of the Lease with the report of a target. (A SyncTargetKey itself is no name: it has capital
/// letters.)
pub fn lease_name(heard: &Heard) -> String {
    format!("tmc-report-{}", &hashes::base36_sha224(&heard.key)[..20])
}

/// Of which target a report is; `None` if this cannot be read.
pub fn report_of(text: &str) -> Option<Heard> {
    let (key, uid) = text.split_once(':')?;
    Some(Heard {
        key: key.to_owned(),
        uid: uid.to_owned(),
    })
}

/// Reports that this replica has heard.
#[derive(Debug, Default)]
pub struct Outbox(HashMap<Heard, Entry>);

#[derive(Debug)]
struct Entry {
    news: Map<String, Value>,
    text: String,
    heard: Timestamp,
    written: Option<Timestamp>,
}

impl Outbox {
    /// Notes a report that has just come in. One that is too long is left out, and only that.
    pub fn note(&mut self, heard: &Heard, report: &Value, now: Timestamp) {
        let only = |fields: &[&str]| -> Map<String, Value> {
            let found = fields.iter().map(|field| (*field, report.get(*field)));
            found
                .filter_map(|(field, value)| Some((field.to_owned(), value?.clone())))
                .collect()
        };
        let before = self.0.get(heard);
        // What a report lacks is as it was.
        let mut news = before.map(|entry| entry.news.clone()).unwrap_or_default();
        news.extend(only(&NEWS));
        let mut all = news.clone();
        all.extend(only(&ALONG));
        let text = Value::Object(all).to_string();
        if text.len() > MAX_BYTES {
            let bytes = text.len();
            tracing::warn!(key = heard.key, bytes, "a report is too long to pass on");
            return;
        }
        let same = before.filter(|entry| entry.news == news);
        let entry = Entry {
            written: same.and_then(|entry| entry.written),
            news,
            text,
            heard: now,
        };
        self.0.insert(heard.clone(), entry);
    }

    /// At most `most` reports that are to be written.
    pub fn due(&mut self, now: Timestamp, most: usize) -> Vec<(Heard, String)> {
        self.0
            .retain(|_, entry| now.duration_since(entry.heard) <= KEPT);
        let due = |entry: &&Entry| {
            entry
                .written
                .is_none_or(|at| now.duration_since(at) >= REFRESH)
        };
        let entries = self.0.iter().filter(|(_, entry)| due(entry));
        entries
            .take(most)
            .map(|(heard, entry)| (heard.clone(), entry.text.clone()))
            .collect()
    }

    /// A report was written; one that has changed meanwhile stays due.
    pub fn written(&mut self, heard: &Heard, text: &str, now: Timestamp) {
        if let Some(entry) = self.0.get_mut(heard).filter(|entry| entry.text == text) {
            entry.written = Some(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn heard() -> Heard {
        Heard {
            key: "k".into(),
            uid: "u".into(),
        }
    }

    fn at(minutes: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_mins(minutes)
    }

    #[test]
    fn a_report_is_written_when_it_changes_and_now_and_then() {
        let mut outbox = Outbox::default();
        let report = json!({"apis": [], "pods": 1, "seen": "12:00"});
        outbox.note(&heard(), &report, at(0));
        let due = outbox.due(at(0), 10);
        assert_eq!(due, [(heard(), r#"{"apis":[],"pods":1}"#.to_owned())]);
        outbox.written(&heard(), &due[0].1, at(0));
        outbox.note(&heard(), &json!({"apis": [], "seen": "12:01"}), at(1));
        assert!(
            outbox.due(at(1), 10).is_empty(),
            "what nobody reads is no news"
        );
        outbox.note(&heard(), &json!({"apis": [{}]}), at(2));
        outbox.written(&heard(), &due[0].1, at(2));
        assert_eq!(outbox.due(at(2), 10).len(), 1, "an old text does not count");
        assert!(outbox.due(at(2), 0).is_empty());
        outbox.written(&heard(), r#"{"apis":[{}]}"#, at(2));
        outbox.note(&heard(), &json!({"apis": [{}]}), at(32));
        assert_eq!(outbox.due(at(32), 10).len(), 1);
        assert!(
            outbox.due(at(60), 10).is_empty(),
            "who is silent is forgotten"
        );
    }

    #[test]
    fn the_lease_of_a_report_has_a_name_that_kubernetes_takes() {
        let key = hashes::sync_target_key("root", "edge");
        let heard = Heard {
            key,
            uid: "u".into(),
        };
        let name = lease_name(&heard);
        let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        assert!(name.chars().all(fits) && name.len() < 63, "{name}");
        assert_eq!(report_of(&format!("{}:u", heard.key)), Some(heard));
        assert_eq!(report_of("nothing"), None);
    }

    #[test]
    fn what_a_report_lacks_is_as_it_was() {
        let mut outbox = Outbox::default();
        let lacking = json!({"apis": ["a"], "missingRights": ["get pods"]});
        outbox.note(&heard(), &lacking, at(0));
        outbox.note(&heard(), &json!({"nodes": {"total": 1}}), at(1));
        let due = outbox.due(at(1), 10);
        assert_eq!(
            due[0].1,
            r#"{"apis":["a"],"missingRights":["get pods"],"nodes":{"total":1}}"#
        );
    }

    #[test]
    fn a_report_that_is_too_long_does_not_replace_the_one_before() {
        let mut outbox = Outbox::default();
        outbox.note(&heard(), &json!({"apis": ["small"]}), at(0));
        outbox.note(&heard(), &json!({"apis": ["x".repeat(MAX_BYTES)]}), at(0));
        assert_eq!(outbox.due(at(0), 10)[0].1, r#"{"apis":["small"]}"#);
    }
}
