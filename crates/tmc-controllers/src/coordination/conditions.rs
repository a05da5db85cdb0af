//! The conditions of an object on several places.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde_json::{Map, Value};
use tmc_api::time::Time;

use super::aggregate::{Report, agreed, latest};
use super::kinds::{Polarity, is_live, polarity};

/// Reason of what is not known because a place is not heard.
pub const TARGET_LOST: &str = "TargetLost";
/// Reason of what is not known because a place has not said it yet.
const NOT_REPORTED: &str = "NotReported";
/// Most characters of a message that is put together.
const MAX_MESSAGE: usize = 1024;

/// What one place says of one condition.
struct Vote<'a> {
    status: &'static str,
    reason: &'a str,
    message: String,
    /// The condition itself, if it said so in one.
    said: Option<&'a Value>,
    /// When that began, if it says.
    since: Option<&'a str>,
}

impl<'a> Vote<'a> {
    fn silent(status: &'static str) -> Self {
        Self {
            status,
            reason: "",
            message: String::new(),
            said: None,
            since: None,
        }
    }

    fn unknown(reason: &'static str, message: String, said: Option<&'a Value>) -> Self {
        Self {
            reason,
            message,
            said,
            ..Self::silent("Unknown")
        }
    }

    fn said(condition: &'a Value) -> Self {
        Self {
            status: status(condition),
            reason: text(condition, "reason"),
            message: text(condition, "message").to_owned(),
            said: Some(condition),
            since: condition.get("lastTransitionTime").and_then(Value::as_str),
        }
    }

    /// Nobody said or should have said anything.
    fn is_silent(&self) -> bool {
        self.said.is_none() && self.reason.is_empty()
    }
}

fn text<'a>(condition: &'a Value, field: &str) -> &'a str {
    condition.get(field).and_then(Value::as_str).unwrap_or("")
}

fn status(condition: &Value) -> &'static str {
    match text(condition, "status") {
        "True" => "True",
        "False" => "False",
        _ => "Unknown",
    }
}

fn all_of(status: Option<&Value>) -> impl Iterator<Item = (&str, &Value)> {
    let list = status
        .and_then(|status| status.get("conditions"))
        .and_then(Value::as_array);
    list.into_iter()
        .flatten()
        .filter_map(|condition| Some((condition.get("type")?.as_str()?, condition)))
}

fn find<'a>(status: Option<&'a Value>, kind: &str) -> Option<&'a Value> {
    all_of(status).find(|(of, _)| *of == kind).map(|(_, c)| c)
}

/// The merged conditions, sorted by type; `None` if no place ever had any. `presence` is among them
/// while no place is heard, unless another one says so. `previous`, the object's
/// status as it is, dates what stays the same.
pub fn merge(
    reports: &[Report<'_>],
    presence: Option<&'static str>,
    previous: Option<&Value>,
    now: Timestamp,
) -> Option<Value> {
    let mut kinds: BTreeSet<&str> = reports
        .iter()
        .flat_map(|report| all_of(report.last()))
        .map(|(kind, _)| kind)
        .collect();
    let had_any = reports
        .iter()
        .any(|report| report.last().is_some_and(|s| s.get("conditions").is_some()));
    if needs_presence(reports, &kinds) {
        kinds.extend(presence);
    }
    if kinds.is_empty() && !had_any {
        return None;
    }
    let merged = kinds
        .into_iter()
        .filter_map(|kind| merge_one(kind, reports, find(previous, kind), now));
    Some(merged.collect())
}

/// Whether nothing in these conditions would tell that no place is heard any more. What is over
/// everywhere is over.
fn needs_presence(reports: &[Report<'_>], kinds: &BTreeSet<&str>) -> bool {
    let is_over = |report: &Report<'_>| {
        let mut said = all_of(report.last());
        said.any(|(kind, condition)| {
            let ends = kind == "Failed" || polarity(kind) == Polarity::Finished;
            ends && status(condition) == "True"
        })
    };
    let mut places = reports.iter();
    let lost = places.clone().any(|r| matches!(r, Report::Lost { .. }));
    let heard = places.any(|r| matches!(r, Report::Heard(_)));
    lost && !heard && !kinds.iter().any(|kind| is_live(kind)) && !reports.iter().all(is_over)
}

fn vote<'a>(kind: &str, report: &Report<'a>) -> Vote<'a> {
    let said = find(report.last(), kind);
    let not_reported = || Vote::unknown(NOT_REPORTED, "not reported yet".to_owned(), None);
    match report {
        Report::Missing => not_reported(),
        Report::Lost { since, .. } if is_live(kind) || said.is_none() => {
            let message = since.map_or_else(
                || "not heard from".to_owned(),
                |at| format!("not heard from since {at}"),
            );
            Vote::unknown(TARGET_LOST, message, said)
        }
        _ => match (said, polarity(kind)) {
            (Some(condition), _) => Vote::said(condition),
            (None, Polarity::Failure | Polarity::Finished) => Vote::silent("False"),
            (None, Polarity::Good | Polarity::Other) => not_reported(),
        },
    }
}

fn decide(kind: &str, votes: &[Vote<'_>]) -> &'static str {
    let all = |status: &str| votes.iter().all(|vote| vote.status == status);
    let any = |status: &str| votes.iter().any(|vote| vote.status == status);
    let worst = match polarity(kind) {
        Polarity::Good | Polarity::Finished => Some("False"),
        Polarity::Failure => Some("True"),
        Polarity::Other => None,
    };
    match worst {
        Some(worst) if any(worst) => worst,
        _ if all("True") => "True",
        _ if all("False") => "False",
        _ => "Unknown",
    }
}

fn merge_one(
    kind: &str,
    reports: &[Report<'_>],
    previous: Option<&Value>,
    now: Timestamp,
) -> Option<Value> {
    let votes: Vec<Vote<'_>> = reports.iter().map(|report| vote(kind, report)).collect();
    let status = decide(kind, &votes);
    let disagree = status == "Unknown" && polarity(kind) == Polarity::Other;
    let deciders: Vec<&Vote<'_>> = votes
        .iter()
        .filter(|vote| vote.status == status || disagree)
        .collect();
    if deciders.iter().all(|vote| vote.is_silent()) {
        return None;
    }
    let mut condition = base(&deciders, &votes);
    condition.insert("type".into(), kind.into());
    condition.insert("status".into(), status.into());
    let (reason, message) = explain(&deciders, reports.len());
    for (field, text) in [("reason", reason), ("message", message)] {
        if text.is_empty() {
            condition.remove(field);
        } else {
            condition.insert(field.into(), text.into());
        }
    }
    let since = since(status, &deciders, previous, now);
    condition.insert("lastTransitionTime".into(), since.into());
    Some(Value::Object(condition))
}

/// What else conditions hold: what those that decide agree on, the latest of their times, the
/// smallest of the generations that any place has seen.
fn base(deciders: &[&Vote<'_>], votes: &[Vote<'_>]) -> Map<String, Value> {
    let said: Vec<&Value> = deciders.iter().filter_map(|vote| vote.said).collect();
    let mut base = match agreed(&said) {
        Some(Value::Object(fields)) => fields,
        _ => Map::new(),
    };
    let all = || votes.iter().filter_map(|vote| vote.said);
    for field in ["lastUpdateTime", "lastProbeTime", "lastHeartbeatTime"] {
        let times = all().filter_map(|condition| condition.get(field)?.as_str());
        if let Some(time) = latest(times) {
            base.insert(field.into(), time.into());
        }
    }
    let seen = all().filter_map(|condition| condition.get("observedGeneration")?.as_i64());
    if let Some(generation) = seen.min() {
        base.insert("observedGeneration".into(), generation.into());
    }
    base
}

/// Since when: as long as the object has said so, else as long as all that decide have, else now.
fn since(status: &str, deciders: &[&Vote<'_>], previous: Option<&Value>, now: Timestamp) -> String {
    let same = previous.filter(|condition| text(condition, "status") == status);
    let kept = same.and_then(|condition| condition.get("lastTransitionTime")?.as_str());
    let all: Option<Vec<&str>> = deciders.iter().map(|vote| vote.since).collect();
    kept.or_else(|| latest(all?.into_iter()))
        .map_or_else(|| Time::new(now).to_string(), str::to_owned)
}

/// Reason and message: those of the place if all say the same; else what most say, and how many.
/// Places are counted, never named: whose they are is not the tenant's to know.
fn explain(deciders: &[&Vote<'_>], places: usize) -> (String, String) {
    let mut groups: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for vote in deciders.iter().filter(|vote| !vote.is_silent()) {
        *groups
            .entry((vote.reason, vote.message.as_str()))
            .or_default() += 1;
    }
    let mut groups: Vec<_> = groups.into_iter().collect();
    // Stable: equally many in the order of their words.
    groups.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let reason = groups.first().map_or("", |((reason, _), _)| *reason);
    if let [((_, message), count)] = groups.as_slice()
        && *count == places
    {
        return (reason.to_owned(), (*message).to_owned());
    }
    let lines = groups.iter().map(|((reason, message), count)| {
        let words = [*reason, *message]
            .into_iter()
            .filter(|word| !word.is_empty());
        let words: Vec<&str> = words.collect();
        format!("{count} of {places} places: {}", words.join(": "))
    });
    let message: String = lines.collect::<Vec<_>>().join("; ");
    (
        reason.to_owned(),
        message.chars().take(MAX_MESSAGE).collect(),
    )
}
