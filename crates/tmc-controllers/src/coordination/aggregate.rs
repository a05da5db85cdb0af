//! One status from the reports of several places.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::{Map, Value, json};
use tmc_api::time::Time;
use tmc_apimachinery::GroupResource;

use super::conditions;
use super::kinds::{Rule, rules};

/// What is known of an object at one place.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Report<'a> {
    /// It has not reported.
    Missing,
    /// What it reported last; it is heard.
    Heard(&'a Value),
    /// It is not heard any more.
    Lost {
        /// What it reported last.
        last: Option<&'a Value>,
        /// When it was last heard.
        since: Option<Time>,
    },
}

impl<'a> Report<'a> {
    /// What it reported last. What is not an object is no status.
    pub fn last(&self) -> Option<&'a Value> {
        let status = match *self {
            Self::Missing => None,
            Self::Heard(status) => Some(status),
            Self::Lost { last, .. } => last,
        };
        status.filter(|status| status.is_object())
    }
}

/// The status of an object that is at several places; `None` if no place ever reported one.
///
/// * A single place that is heard: its report, to the letter.
/// * Counters sum over the places that are heard, `observedGeneration` is the smallest, and absent
///   while a place has not reported. Other fields follow the rules of their kind, or are those on
///   which all agree.
/// * Conditions are merged by what they mean ([`super::kinds::polarity`]). A place that has not reported,
///   and for conditions about the present one that is lost, counts as Unknown.
/// * If no place is heard, figures stay as they were last reported, and a condition says so: of kinds
///   whose objects have none about the present, `presence` ([`super::kinds::presence`]).
///
/// A function of the reports as a set: their order does not matter. `previous` (the status as it is)
/// and `now` matter to transition times alone, so that the same reports change nothing twice.
pub fn aggregate(
    resource: &GroupResource,
    presence: Option<&'static str>,
    reports: &[Report<'_>],
    previous: Option<&Value>,
    now: Timestamp,
) -> Option<Value> {
    if let [Report::Heard(status)] = reports {
        return Some((*status).clone());
    }
    if reports.iter().all(|report| report.last().is_none()) {
        return None;
    }
    let mut status = fields(rules(resource), reports);
    if let Some(generation) = observed(reports) {
        status.insert("observedGeneration".into(), generation.into());
    }
    if let Some(conditions) = conditions::merge(reports, presence, previous, now) {
        status.insert("conditions".into(), conditions);
    }
    Some(Value::Object(status))
}

/// The generation that every place has observed. What a lost one had observed, it had.
fn observed(reports: &[Report<'_>]) -> Option<i64> {
    let each = reports
        .iter()
        .map(|report| report.last()?.get("observedGeneration")?.as_i64());
    each.collect::<Option<Vec<i64>>>()?.into_iter().min()
}

fn fields(rules: &[(&str, Rule)], reports: &[Report<'_>]) -> Map<String, Value> {
    let heard = reports.iter().filter(|r| matches!(r, Report::Heard(_)));
    let mut sources: Vec<&Value> = heard.filter_map(Report::last).collect();
    if sources.is_empty() {
        sources = reports.iter().filter_map(Report::last).collect();
    }
    let required = rules.iter().filter(|(_, rule)| *rule == Rule::RequiredSum);
    let mut names: BTreeSet<&str> = required.map(|(name, _)| *name).collect();
    let present = sources.iter().filter_map(|status| status.as_object());
    names.extend(present.flat_map(|status| status.keys().map(String::as_str)));
    let merged = names.into_iter().filter_map(|name| {
        if name == "conditions" || name == "observedGeneration" {
            return None;
        }
        let rule = rules.iter().find(|(of, _)| *of == name);
        let rule = rule.map_or(Rule::Agree, |(_, rule)| *rule);
        let values: Vec<&Value> = sources.iter().filter_map(|s| s.get(name)).collect();
        let merged = merge(rule, &values, sources.len(), reports.len())?;
        Some((name.to_owned(), merged))
    });
    merged.collect()
}

/// One value from those that `sources` of `places` gave.
fn merge(rule: Rule, values: &[&Value], sources: usize, places: usize) -> Option<Value> {
    let times = || values.iter().filter_map(|value| value.as_str());
    match rule {
        Rule::Sum | Rule::RequiredSum => Some(sum(values).into()),
        Rule::Earliest => earliest(times()).map(Value::from),
        Rule::Latest => latest(times()).map(Value::from),
        Rule::LatestOfAll => latest(times().filter(|_| values.len() == places)).map(Value::from),
        Rule::Union => Some(union(values)),
        Rule::LoadBalancer => Some(balancers(values)),
        Rule::Worst(phases) => Some(worst(phases, values, sources < places)),
        // What some leave out, not all agree on.
        Rule::Agree => agreed(values).filter(|_| values.len() == sources),
    }
}

/// The sum, within what Kubernetes' counters can hold: a place is not trusted to count.
fn sum(values: &[&Value]) -> i64 {
    let counts = values.iter().filter_map(|value| value.as_i64());
    let sum = counts.fold(0_i64, |sum, count| sum.saturating_add(count.max(0)));
    sum.min(i32::MAX.into())
}

fn instant(time: &&str) -> Option<Timestamp> {
    time.parse().ok()
}

fn earliest<'a>(times: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let dated = times.filter_map(|time| Some((instant(&time)?, time)));
    dated.min().map(|(_, time)| time)
}

/// The latest of several RFC 3339 times; what is no time does not count.
pub(super) fn latest<'a>(times: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let dated = times.filter_map(|time| Some((instant(&time)?, time)));
    dated.max().map(|(_, time)| time)
}

fn union(lists: &[&Value]) -> Value {
    let mut items: Vec<(String, &Value)> = lists
        .iter()
        .filter_map(|list| list.as_array())
        .flatten()
        .map(|item| (item.to_string(), item))
        .collect();
    items.sort_by(|(a, _), (b, _)| a.cmp(b));
    items.dedup_by(|(a, _), (b, _)| a == b);
    items.into_iter().map(|(_, item)| item.clone()).collect()
}

fn balancers(values: &[&Value]) -> Value {
    let mut merged = agreed(values).unwrap_or_else(|| json!({}));
    let ingress: Vec<&Value> = values.iter().filter_map(|v| v.get("ingress")).collect();
    if !ingress.is_empty() && merged.is_object() {
        merged["ingress"] = union(&ingress);
    }
    merged
}

fn worst(phases: &[&str], values: &[&Value], some_missing: bool) -> Value {
    let rank = |phase: &str| phases.iter().position(|known| *known == phase);
    let pending = phases.len().checked_sub(2).and_then(|n| phases.get(n));
    let missing = pending.filter(|_| some_missing).copied();
    let all = values
        .iter()
        .filter_map(|value| value.as_str())
        .chain(missing);
    // An unknown phase has no rank, which sorts first.
    all.min_by_key(|phase| (rank(phase), *phase))
        .map_or(Value::Null, Value::from)
}

/// What all values agree on: the value if they are equal, of objects the members that are; nothing
/// of none.
pub(super) fn agreed(values: &[&Value]) -> Option<Value> {
    let (first, rest) = values.split_first()?;
    if rest.iter().all(|value| value == first) {
        return Some((*first).clone());
    }
    let members = first.as_object()?;
    let common = members.keys().filter_map(|key| {
        let each: Option<Vec<&Value>> = values.iter().map(|value| value.get(key)).collect();
        Some((key.clone(), agreed(&each?)?))
    });
    let common: Map<String, Value> = common.collect();
    values
        .iter()
        .all(|value| value.is_object())
        .then_some(Value::Object(common))
}

#[cfg(test)]
#[path = "aggregate_tests.rs"]
mod tests;
