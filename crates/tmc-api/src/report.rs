//! How long the reports of targets may be that are kept on an object.
//!
//! What a member says is a stranger's input, and an object has only so much room for annotations: a
//! report without a bound would leave none for the marks of other targets, which could then never
//! take the object over.

use std::io;

use serde_json::{Map, Value};
use tmc_apimachinery::meta::MAX_ANNOTATION_BYTES;

use crate::scheduling::MAX_TARGETS;

/// Most bytes of one target's report that is kept beside the object, encoded: as many targets as a
/// decision lists take three quarters of the room that an object has for annotations.
pub const MAX_KEPT: usize = MAX_ANNOTATION_BYTES / 4 * 3 / MAX_TARGETS;
/// Most bytes of a report that is the object's own status, encoded: what honest kinds have to say,
/// and little enough for the object to stay writable.
pub const MAX_SHOWN: usize = 256 * 1024;

/// How long texts may stay, in bytes, where a report is too long; one after the other is tried.
const TEXTS: [usize; 2] = [1024, 256];
/// What a text that was cut ends with.
const CUT: char = '…';

/// Bounds a report to so many encoded bytes, and tells whether something of it was lost. One that
/// fits stays to the letter. In another long texts are cut (a condition's message); if that is not
/// enough, conditions stay as far as they fit, and beside them the shortest members.
pub fn bound(report: &mut Value, most: usize) -> bool {
    if fits(report, most) {
        return false;
    }
    for longest in TEXTS {
        cut_texts(report, longest);
        if fits(report, most) {
            return true;
        }
    }
    *report = match report.take() {
        Value::Object(members) => Value::Object(essence(members, most)),
        Value::Array(items) => Value::Array(first(items, most)),
        _ => Value::Null,
    };
    true
}

fn cut_texts(value: &mut Value, longest: usize) {
    match value {
        Value::String(text) if text.len() > longest => {
            let room = longest.saturating_sub(CUT.len_utf8());
            let end = (0..=room).rev().find(|at| text.is_char_boundary(*at));
            text.truncate(end.unwrap_or(0));
            text.push(CUT);
        }
        Value::Array(items) => items.iter_mut().for_each(|item| cut_texts(item, longest)),
        Value::Object(members) => members
            .values_mut()
            .for_each(|member| cut_texts(member, longest)),
        _ => {}
    }
}

/// The conditions that fit, and what else does, the shortest first.
fn essence(mut members: Map<String, Value>, most: usize) -> Map<String, Value> {
    const CONDITIONS: &str = "conditions";
    let mut kept = Map::new();
    let mut room = most.saturating_sub("{}".len());
    if let Some(Value::Array(conditions)) = members.remove(CONDITIONS) {
        let list = Value::Array(first(
            conditions,
            room.saturating_sub(member(CONDITIONS, 0)),
        ));
        if let Some(rest) = room.checked_sub(member(CONDITIONS, size(&list))) {
            room = rest;
            kept.insert(CONDITIONS.into(), list);
        }
    }
    let mut others: Vec<(usize, String, Value)> = members
        .into_iter()
        .map(|(name, value)| (member(&name, size(&value)), name, value))
        .collect();
    others.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
    for (size, name, value) in others {
        let Some(rest) = room.checked_sub(size) else {
            break;
        };
        room = rest;
        kept.insert(name, value);
    }
    kept
}

/// The items at the beginning of a list for which there is room; one that is too long by itself is
/// left out.
fn first(items: Vec<Value>, most: usize) -> Vec<Value> {
    let mut room = most.saturating_sub("[]".len());
    let mut kept = Vec::new();
    for item in items {
        if let Some(rest) = room.checked_sub(size(&item) + ",".len()) {
            room = rest;
            kept.push(item);
        }
    }
    kept
}

/// Encoded bytes of a member with a value of so many.
fn member(name: &str, value: usize) -> usize {
    size(&Value::from(name)) + ":,".len() + value
}

fn fits(value: &Value, most: usize) -> bool {
    size(value) <= most
}

/// Encoded bytes of a value.
fn size(value: &Value) -> usize {
    let mut counted = Counted(0);
    // Neither counting nor a value that was read can fail.
    serde_json::to_writer(&mut counted, value).map_or(usize::MAX, |()| counted.0)
}

/// Counts what is written.
struct Counted(usize);

impl io::Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 = self.0.saturating_add(bytes.len());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn bounded(report: &Value, most: usize) -> Value {
        let mut report = report.clone();
        bound(&mut report, most);
        report
    }

    fn condition(kind: &str, message: &str) -> Value {
        json!({"type": kind, "status": "True", "message": message})
    }

    #[test]
    fn sixteen_reports_fit_beside_each_other() {
        assert_eq!(MAX_KEPT, 12 * 1024);
        assert_eq!(MAX_KEPT * MAX_TARGETS, MAX_ANNOTATION_BYTES / 4 * 3);
    }

    #[test]
    fn what_fits_stays_to_the_letter() {
        let report = json!({"n": 1, "conditions": [condition("Ready", &"x".repeat(10_000))]});
        assert!(!bound(&mut report.clone(), MAX_KEPT));
        assert_eq!(bounded(&report, MAX_KEPT), report);
    }

    #[test]
    fn of_a_long_message_the_beginning_stays_and_all_else_does() {
        let long = "é".repeat(150_000);
        let report = json!({"replicas": 3, "hosts": ["a", "b"],
            "conditions": [condition("Available", &long), condition("Progressing", "well")]});
        let kept = bounded(&report, MAX_KEPT);
        let message = kept["conditions"][0]["message"].as_str().unwrap();
        assert_eq!(message.len(), 1023, "whole characters");
        assert!(message.starts_with('é') && message.ends_with(CUT));
        assert_eq!(kept["conditions"][1], report["conditions"][1]);
        assert_eq!(kept["replicas"], 3);
        assert_eq!(kept["hosts"], report["hosts"]);
    }

    #[test]
    fn of_what_has_too_many_parts_conditions_and_figures_stay() {
        let many: Vec<Value> = (0..10_000).map(|n| json!({"item": n})).collect();
        let report = json!({"items": many, "observedGeneration": 4, "ready": true,
            "conditions": [condition("Available", &"x".repeat(600)), condition("Odd", "")]});
        let kept = bounded(&report, MAX_KEPT);
        assert_eq!(kept["conditions"].as_array().unwrap().len(), 2);
        assert_eq!(
            kept["conditions"][0]["message"].as_str().unwrap().len(),
            256
        );
        assert_eq!(
            (&kept["observedGeneration"], &kept["ready"]),
            (&json!(4), &json!(true))
        );
        assert_eq!(kept.get("items"), None);
    }

    #[test]
    fn a_condition_that_is_too_long_by_itself_does_not_cost_the_others() {
        let mut huge = condition("Huge", "");
        huge["parts"] = (0..10_000).collect::<Vec<_>>().into();
        let report = json!({"conditions": [huge, condition("Available", "")]});
        let kept = bounded(&report, MAX_KEPT);
        assert_eq!(kept, json!({"conditions": [condition("Available", "")]}));
    }

    fn reports() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "\\PC{0,400}".prop_map(Value::from),
            "[\u{1}\"\\\\]{0,400}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 64, 8, |inner| {
            let name = prop_oneof![Just("conditions".to_owned()), "\\PC{0,300}"];
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
                prop::collection::vec((name, inner), 0..8)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn every_report_fits_and_is_not_cut_twice(report in reports(), most in 16..4096_usize) {
            let kept = bounded(&report, most);
            prop_assert!(kept.to_string().len() <= most, "{kept}");
            prop_assert!(!bound(&mut kept.clone(), most));
            if report.to_string().len() <= most {
                prop_assert_eq!(kept, report);
            }
        }
    }
}
