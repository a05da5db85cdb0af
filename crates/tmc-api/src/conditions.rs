//! Conditions of kcp's shape, and the summary that is called Ready (wire protocol 2.1).
//!
//! Positive polarity throughout: True is good. A list of conditions is sorted (`Ready` first, then
//! by type) and its transition times move only when something else of the condition does, so that
//! the same inputs give the same bytes.

use std::borrow::Cow;

use jiff::Timestamp;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::text_enum::text_enum;
use crate::time::Time;

/// Type of the summary.
pub const READY: &str = "Ready";

text_enum! {
    /// State of a condition.
    ConditionStatus {
        /// All is well.
        True = "True",
        /// It is not.
        False = "False",
        /// Nobody knows.
        #[default]
        Unknown = "Unknown",
    }
}

/// How bad a False condition is; empty unless it is False. A False condition without severity
/// counts as an error.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
pub enum Severity {
    /// Does not apply (written as the empty string, or not at all).
    #[default]
    #[serde(rename = "")]
    None,
    /// Good to know.
    Info,
    /// May heal by itself.
    Warning,
    /// Somebody has to act.
    Error,
}

impl Severity {
    /// Whether it is the empty one.
    pub fn is_none(&self) -> bool {
        *self == Self::None
    }
}

impl JsonSchema for Severity {
    fn schema_name() -> Cow<'static, str> {
        "Severity".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "enum": ["", "Info", "Warning", "Error"]})
    }
}

/// One aspect of an object's state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// Which aspect, in CamelCase.
    pub r#type: String,
    /// Its state.
    pub status: ConditionStatus,
    /// How bad it is, set only when the status is False.
    #[serde(default, skip_serializing_if = "Severity::is_none")]
    pub severity: Severity,
    /// When status, severity, reason or message last changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_transition_time: Option<Time>,
    /// Why, for machines: one CamelCase word.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Why, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

impl Condition {
    /// A True condition.
    pub fn yes(r#type: &str) -> Self {
        Self {
            r#type: r#type.into(),
            status: ConditionStatus::True,
            ..Self::default()
        }
    }

    /// A False condition.
    pub fn no(r#type: &str, severity: Severity, reason: &str, message: impl Into<String>) -> Self {
        Self {
            r#type: r#type.into(),
            status: ConditionStatus::False,
            severity,
            reason: reason.into(),
            message: message.into(),
            ..Self::default()
        }
    }

    /// An Unknown condition.
    pub fn unknown(r#type: &str, reason: &str, message: impl Into<String>) -> Self {
        Self {
            r#type: r#type.into(),
            status: ConditionStatus::Unknown,
            reason: reason.into(),
            message: message.into(),
            ..Self::default()
        }
    }

    /// Whether it is True.
    pub fn is_true(&self) -> bool {
        self.status == ConditionStatus::True
    }

    /// Whether it is False.
    pub fn is_false(&self) -> bool {
        self.status == ConditionStatus::False
    }

    /// Whether everything but the transition time is the same.
    fn same_state(&self, other: &Self) -> bool {
        self.status == other.status
            && self.severity == other.severity
            && self.reason == other.reason
            && self.message == other.message
    }

    /// How bad it is: a False error, a False warning, a False info, Unknown, True.
    fn badness(&self) -> u8 {
        match (self.status, self.severity) {
            (ConditionStatus::False, Severity::Error | Severity::None) => 4,
            (ConditionStatus::False, Severity::Warning) => 3,
            (ConditionStatus::False, Severity::Info) => 2,
            (ConditionStatus::Unknown, _) => 1,
            (ConditionStatus::True, _) => 0,
        }
    }
}

/// The condition of a type.
pub fn get<'a>(conditions: &'a [Condition], r#type: &str) -> Option<&'a Condition> {
    conditions.iter().find(|c| c.r#type == r#type)
}

/// Whether the condition is there and True.
pub fn is_true(conditions: &[Condition], r#type: &str) -> bool {
    get(conditions, r#type).is_some_and(Condition::is_true)
}

/// Whether the condition is there and False.
pub fn is_false(conditions: &[Condition], r#type: &str) -> bool {
    get(conditions, r#type).is_some_and(Condition::is_false)
}

/// Puts a condition in its place. Its transition time is `now` if it is new or its state changed,
/// else it stays; the one it came with is ignored. A severity is kept only on False.
///
/// Returns whether the list changed.
pub fn set(conditions: &mut Vec<Condition>, mut condition: Condition, now: Timestamp) -> bool {
    if !condition.is_false() {
        condition.severity = Severity::None;
    }
    let current = conditions.iter_mut().find(|c| c.r#type == condition.r#type);
    let changed = match current {
        Some(current) if current.same_state(&condition) => {
            let undated = current.last_transition_time.is_none();
            if undated {
                current.last_transition_time = Some(now.into());
            }
            undated
        }
        Some(current) => {
            condition.last_transition_time = Some(now.into());
            *current = condition;
            true
        }
        None => {
            condition.last_transition_time = Some(now.into());
            conditions.push(condition);
            true
        }
    };
    sort(conditions) || changed
}

/// Removes a condition; says whether it was there.
pub fn remove(conditions: &mut Vec<Condition>, r#type: &str) -> bool {
    let before = conditions.len();
    conditions.retain(|c| c.r#type != r#type);
    conditions.len() < before
}

/// Sorts: `Ready` first, then by type. Says whether the order changed.
pub fn sort(conditions: &mut [Condition]) -> bool {
    let in_order = |a: &Condition, b: &Condition| order(a) <= order(b);
    if conditions.is_sorted_by(in_order) {
        return false;
    }
    conditions.sort_by(|a, b| order(a).cmp(&order(b)));
    true
}

fn order(condition: &Condition) -> (bool, &str) {
    (condition.r#type != READY, &condition.r#type)
}

/// `Ready` from named components: True if all are, else with status, severity, reason and message
/// of the worst; of equally bad ones the first named. A component that is **absent counts as
/// Unknown**. The previous Ready plays no part.
pub fn summarize(conditions: &[Condition], components: &[&str]) -> Condition {
    let mut worst: Option<Condition> = None;
    for component in components {
        let found = get(conditions, component).cloned().unwrap_or_else(|| {
            Condition::unknown(
                component,
                &format!("{component}Unknown"),
                "not evaluated yet",
            )
        });
        let is_worse = worst.as_ref().is_none_or(|w| found.badness() > w.badness());
        if found.badness() > 0 && is_worse {
            worst = Some(found);
        }
    }
    match worst {
        None => Condition::yes(READY),
        Some(worst) => Condition {
            r#type: READY.into(),
            last_transition_time: None,
            ..worst
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn ready_comes_first_and_the_rest_by_name() {
        let mut list = Vec::new();
        for name in ["Zeta", "Alpha", READY, "Mid"] {
            set(&mut list, Condition::yes(name), at(1));
        }
        let names: Vec<_> = list.iter().map(|c| c.r#type.as_str()).collect();
        assert_eq!(names, [READY, "Alpha", "Mid", "Zeta"]);
    }

    #[test]
    fn the_transition_time_moves_only_with_the_state() {
        let mut list = Vec::new();
        let down = |message: &str| Condition::no("Up", Severity::Warning, "Down", message);
        assert!(set(&mut list, down("a"), at(1)));
        assert!(!set(&mut list, down("a"), at(2)));
        assert_eq!(list[0].last_transition_time, Some(at(1).into()));
        assert!(set(&mut list, down("b"), at(3)));
        assert_eq!(list[0].last_transition_time, Some(at(3).into()));
        let worse = Condition {
            severity: Severity::Error,
            ..down("b")
        };
        assert!(set(&mut list, worse, at(4)));
        assert_eq!(list[0].last_transition_time, Some(at(4).into()));
        assert!(set(&mut list, Condition::yes("Up"), at(5)));
        assert_eq!(list[0].severity, Severity::None);
    }

    #[test]
    fn a_severity_on_a_condition_that_is_not_false_is_dropped() {
        let mut list = Vec::new();
        let odd = Condition {
            severity: Severity::Error,
            ..Condition::yes("Up")
        };
        set(&mut list, odd.clone(), at(1));
        assert!(list[0].severity.is_none());
        assert!(!set(&mut list, odd, at(2)));
    }

    #[test]
    fn removing_says_whether_something_was_there() {
        let mut list = vec![Condition::yes("A")];
        assert!(remove(&mut list, "A"));
        assert!(!remove(&mut list, "A"));
    }

    #[test]
    fn the_summary_is_true_only_if_every_component_is() {
        let all = [Condition::yes("A"), Condition::yes("B")];
        assert!(summarize(&all, &["A", "B"]).is_true());
        assert!(summarize(&[], &[]).is_true());
    }

    #[test]
    fn an_absent_component_counts_as_unknown() {
        let ready = summarize(&[Condition::yes("A")], &["A", "B"]);
        assert_eq!(ready.status, ConditionStatus::Unknown);
        assert_eq!(ready.reason, "BUnknown");
    }

    #[test]
    fn the_worst_component_wins_and_ready_itself_has_no_say() {
        let list = [
            Condition::no(READY, Severity::Error, "Old", "old"),
            Condition::unknown("A", "Whatever", ""),
            Condition::no("B", Severity::Info, "Minor", ""),
            Condition::no("C", Severity::Warning, "Major", "m"),
            Condition::no("D", Severity::Warning, "Later", ""),
        ];
        let ready = summarize(&list, &["A", "B", "C", "D"]);
        assert_eq!(
            (ready.r#type.as_str(), ready.reason.as_str()),
            (READY, "Major")
        );
        assert_eq!(ready.severity, Severity::Warning);
        assert_eq!(summarize(&list, &["A", "B"]).reason, "Minor");
        assert_eq!(summarize(&list, &["A"]).reason, "Whatever");
    }

    #[test]
    fn a_false_condition_without_severity_is_as_bad_as_an_error() {
        let list = [
            Condition::no("A", Severity::Warning, "Warn", ""),
            Condition::no("B", Severity::None, "Plain", ""),
        ];
        assert_eq!(summarize(&list, &["A", "B"]).reason, "Plain");
    }

    #[test]
    fn an_empty_severity_is_read_and_not_written() {
        let text = r#"{"type":"A","status":"True","severity":"","lastTransitionTime":"2026-01-01T00:00:00Z"}"#;
        let condition: Condition = serde_json::from_str(text).unwrap();
        assert_eq!(
            serde_json::to_string(&condition).unwrap(),
            r#"{"type":"A","status":"True","lastTransitionTime":"2026-01-01T00:00:00Z"}"#
        );
    }
}
