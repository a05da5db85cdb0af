//! What an object's status, and the reports kept beside it, should be.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Map, Value};
use tmc_api::keys::{
    DIFF_PREFIX, REPORTED_MESSAGE, STATE_PREFIX, STATE_SYNC, STATE_UPSYNC, SUMMARIZING_ANNOTATION,
    deletion_annotation, diff_annotation, syncer_finalizer,
};
use tmc_api::report::{MAX_KEPT, bound};
use tmc_api::synced::{self, Listed, Verdict};
use tmc_api::time::Time;
use tmc_apimachinery::GroupResource;
use tmc_apimachinery::meta::{meta, remove_annotation, set_annotation};

use super::aggregate::{Report, aggregate};
use super::kinds;

/// Value of a report that lives in the object itself.
const PROMOTED: &str = "##promoted##";
/// The one field of reports that is looked after here.
const STATUS: &str = "status";

/// A target that was heard once and is not any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loss {
    /// When it was last heard.
    pub since: Option<Time>,
}

/// What is known of an object's kind.
#[derive(Clone, Copy, Debug)]
pub struct Kind<'a> {
    /// Its resource.
    pub resource: &'a GroupResource,
    /// Whether it has conditions.
    pub listed: Listed,
}

impl Kind<'_> {
    /// The condition to add when no place is heard, where one may be added.
    fn presence(&self) -> Option<&'static str> {
        kinds::presence(self.resource).filter(|_| self.listed == Listed::Yes)
    }
}

/// A write, in order; each carries the whole object.
#[derive(Clone, Debug, PartialEq)]
pub enum Write {
    /// Of `/status`.
    Status(Value),
    /// Of the object without its status.
    Main(Value),
}

/// Whether [`writes`] may have something to say about an object with these labels and annotations
/// (those of `kcp.io` domains are enough). An object with one target that is heard, and whose report
/// is the object's own, is not looked at.
pub fn is_due(
    labels: &BTreeMap<String, String>,
    annotations: &BTreeMap<String, String>,
    lost: impl Fn(&str) -> Option<Loss>,
) -> bool {
    let states: BTreeMap<&str, &str> = states(labels).collect();
    let mut diffs = diffs(annotations).peekable();
    if states.values().any(|state| *state == STATE_UPSYNC) || diffs.peek().is_none() {
        return false;
    }
    if states.len() > 1 {
        return true;
    }
    diffs.any(|(key, text)| {
        !states.contains_key(key)
            || match read(text).get(STATUS) {
                Some(value) if value == PROMOTED => lost(key).is_some(),
                Some(_) => true,
                None => false,
            }
    })
}

fn states(labels: &BTreeMap<String, String>) -> impl Iterator<Item = (&str, &str)> {
    let all = labels.iter();
    all.filter_map(|(label, value)| Some((label.strip_prefix(STATE_PREFIX)?, value.as_str())))
}

fn diffs(annotations: &BTreeMap<String, String>) -> impl Iterator<Item = (&str, &str)> {
    let all = annotations.iter();
    all.filter_map(|(name, text)| Some((name.strip_prefix(DIFF_PREFIX)?, text.as_str())))
}

fn status_of(object: &Value) -> Option<&Value> {
    object.get(STATUS).filter(|status| !status.is_null())
}

/// A report: field path → value. One that cannot be read is none.
fn read(text: &str) -> Map<String, Value> {
    serde_json::from_str(text).unwrap_or_default()
}

/// The writes that bring an object to where it should be, in order.
///
/// * On one target that is lost: its status is kept in the target's report, **then** the live
///   conditions of the object become Unknown.
/// * On one target that is heard: its report becomes the object's own again; the object first,
///   **then** the mark of promotion.
/// * On several targets: what was promoted is kept in its target's report, **then** the object's
///   status is the aggregate of those that are to stay. It is absent until one of those has reported.
/// * Reports of targets that the object is not assigned to go last; with the last of them goes the
///   status that nobody vouches for any more.
///
/// Each order leaves, after a crash in between, an object from which the same writes follow
/// that are left. Objects whose targets bring them up, or that say themselves how their status comes
/// about ([`SUMMARIZING_ANNOTATION`]), are left alone.
pub fn writes(
    kind: &Kind<'_>,
    object: &Value,
    lost: impl Fn(&str) -> Option<Loss>,
    now: Timestamp,
) -> Vec<Write> {
    let resource = kind.resource;
    let presence = kind.presence();
    let labels = meta(object).labels();
    let states: BTreeMap<&str, &str> = states(&labels).collect();
    if states.values().any(|state| *state == STATE_UPSYNC) || !is_promotable(object) {
        return Vec::new();
    }
    let mut plan = Plan::new(object, &states);
    let previous = status_of(object);
    let keys: Vec<&str> = states.keys().copied().collect();
    match keys.as_slice() {
        [] => plan.clear_orphaned(),
        [only] => match (plan.report(only), lost(only)) {
            (None, _) => plan.clear_orphaned(),
            (Some(value), None) if value == PROMOTED => {}
            (Some(value), None) => plan.promote(only, value),
            (Some(_), Some(loss)) => {
                plan.keep_promoted(previous);
                let last = plan.report(only);
                let report = Report::Lost {
                    last: last.as_ref(),
                    since: loss.since,
                };
                plan.status = aggregate(resource, presence, &[report], previous, now);
            }
        },
        _ => {
            plan.keep_promoted(previous);
            let counted = counted(object, &states);
            let last: Vec<_> = counted
                .iter()
                .map(|key| (lost(key), plan.report(key)))
                .collect();
            let reports: Vec<Report<'_>> = last
                .iter()
                .map(|(lost, last)| report(*lost, last.as_ref()))
                .collect();
            if plan.anybody_spoke() {
                plan.status = aggregate(resource, presence, &reports, previous, now);
            }
        }
    }
    let (status, verdict) = (plan.status.take(), plan.verdict());
    plan.status = synced::with(status, previous, &verdict, kind.listed, now);
    plan.writes(object)
}

fn report(lost: Option<Loss>, last: Option<&Value>) -> Report<'_> {
    match (lost, last) {
        (Some(loss), last) => Report::Lost {
            last,
            since: loss.since,
        },
        (None, Some(last)) => Report::Heard(last),
        (None, None) => Report::Missing,
    }
}

/// The targets that the object is to be on: those that are to remove it do not count while others
/// stay, whatever they last said.
fn counted<'a>(object: &Value, states: &BTreeMap<&'a str, &str>) -> Vec<&'a str> {
    let synced = states.iter().filter(|(_, state)| **state == STATE_SYNC);
    let all: Vec<&str> = synced.map(|(key, _)| *key).collect();
    let leaves = |key: &&str| meta(object).annotation(&deletion_annotation(key)).is_some();
    let staying: Vec<&str> = all.iter().copied().filter(|key| !leaves(key)).collect();
    if staying.is_empty() { all } else { staying }
}

/// Whether the object's status comes from its targets' reports: so unless the object's own list of
/// summarised fields says otherwise. (A list that cannot be read says nothing of the kind.)
fn is_promotable(object: &Value) -> bool {
    let Some(text) = meta(object).annotation(SUMMARIZING_ANNOTATION) else {
        return true;
    };
    let fields: Vec<Map<String, Value>> = serde_json::from_str(text).unwrap_or_default();
    // Decoded case-insensitively, as Go does.
    let get = |field: &Map<String, Value>, name: &str| {
        let mut members = field.iter();
        let found = members.find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.clone())
    };
    fields.iter().any(|field| {
        get(field, "fieldPath") == Some(STATUS.into())
            && get(field, "promoteToUpstream") == Some(true.into())
    })
}

/// The object in the making.
struct Plan {
    /// Reports by target, of those it is assigned to.
    reports: BTreeMap<String, Map<String, Value>>,
    /// Targets it is not assigned to (any more) whose reports are still there.
    stale: Vec<String>,
    /// Whether one of those reported a status.
    orphaned: bool,
    /// Whether any target that it is assigned to has it.
    held: bool,
    status: Option<Value>,
    /// The status is to be written before the reports.
    status_first: bool,
}

impl Plan {
    fn new(object: &Value, states: &BTreeMap<&str, &str>) -> Self {
        let (annotations, finalizers) = (meta(object).annotations(), meta(object).finalizers());
        let mut plan = Self {
            reports: BTreeMap::new(),
            stale: Vec::new(),
            orphaned: false,
            held: states
                .keys()
                .any(|key| finalizers.contains(&&*syncer_finalizer(key))),
            status: status_of(object).cloned(),
            status_first: false,
        };
        for (key, text) in diffs(&annotations) {
            let report = read(text);
            if states.contains_key(key) {
                plan.reports.insert(key.to_owned(), report);
            } else {
                plan.orphaned |= report.contains_key(STATUS);
                plan.stale.push(key.to_owned());
            }
        }
        plan
    }

    fn report(&self, key: &str) -> Option<Value> {
        self.reports.get(key)?.get(STATUS).cloned()
    }

    /// What the targets have against the object.
    fn verdict(&self) -> Verdict {
        let messages = self.reports.values().filter_map(|report| {
            let message = report.get(REPORTED_MESSAGE)?.as_str()?;
            Some(message.to_owned())
        });
        match synced::together(messages) {
            Some(said) => Verdict::Refused(said),
            None if self.held => Verdict::Taken,
            // Who has not come to it yet has nothing against it, and does not have it.
            None => Verdict::Nowhere,
        }
    }

    /// Whether the status that is there can come from a target.
    fn anybody_spoke(&self) -> bool {
        self.orphaned
            || self
                .reports
                .values()
                .any(|report| report.contains_key(STATUS))
    }

    /// Nobody who stays has said anything, and who said what is there is gone.
    fn clear_orphaned(&mut self) {
        if self.orphaned {
            self.status = None;
            self.status_first = true;
        }
    }

    fn promote(&mut self, key: &str, value: Value) {
        self.status = Some(value);
        self.status_first = true;
        if let Some(report) = self.reports.get_mut(key) {
            report.insert(STATUS.into(), PROMOTED.into());
        }
    }

    /// Puts the object's status in the place of marks of promotion, and bounds what is kept.
    fn keep_promoted(&mut self, status: Option<&Value>) {
        let status = synced::without(status.cloned());
        for report in self.reports.values_mut() {
            let value = match report.remove(STATUS) {
                Some(value) if value == PROMOTED => status.clone(),
                kept => kept,
            };
            if let Some(mut value) = value {
                bound(&mut value, MAX_KEPT);
                report.insert(STATUS.into(), value);
            }
        }
    }

    fn writes(self, object: &Value) -> Vec<Write> {
        let reports = self.with_reports(object);
        let mut clean = reports.clone();
        for key in &self.stale {
            remove_annotation(&mut clean, &diff_annotation(key));
        }
        let differs = |new: Value| (new != *object).then_some(Write::Main(new));
        if self.status.as_ref() == status_of(object) {
            return differs(clean).into_iter().collect();
        }
        let mut new = object.clone();
        match self.status {
            Some(status) => new[STATUS] = status,
            None => drop(
                new.as_object_mut()
                    .and_then(|members| members.remove(STATUS)),
            ),
        }
        let status = Some(Write::Status(new));
        let all = if self.status_first {
            [status, differs(clean), None]
        } else {
            // Reports of targets that are gone stay until nothing of them is left in the status.
            let rest = (clean != reports).then_some(Write::Main(clean));
            [differs(reports), status, rest]
        };
        all.into_iter().flatten().collect()
    }

    /// The object with the reports as they should be.
    fn with_reports(&self, object: &Value) -> Value {
        let mut new = object.clone();
        for (key, report) in &self.reports {
            let name = diff_annotation(key);
            let before = meta(object).annotation(&name).map(read);
            if before.as_ref() == Some(report) {
                continue;
            }
            if report.is_empty() {
                remove_annotation(&mut new, &name);
            } else {
                set_annotation(&mut new, &name, &Value::Object(report.clone()).to_string());
            }
        }
        new
    }
}

#[cfg(test)]
#[path = "reconcile_tests.rs"]
mod tests;
