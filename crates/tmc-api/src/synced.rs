//! The condition `Synced` of users' objects: whether the members that are to have an object take it.
//!
//! It is the hub's own. An object that no member ever refused has none, so that its status is to the
//! letter what its members report; what a member says in a condition of that type does not count.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::time::Time;

/// Type of the condition.
pub const SYNCED: &str = "Synced";
/// Its reason while a member refuses the object.
pub const REFUSED: &str = "RefusedByMember";
/// Its reason when none does any more.
pub const TAKEN: &str = "TakenByMember";

/// What the members have to say about an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Some refuse it, with these words.
    Refused(String),
    /// None has anything against it.
    Taken,
    /// It is in no member, or nobody is to say.
    Nowhere,
}

/// Whether an object may have conditions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listed {
    /// Its kind has a list of them.
    Yes,
    /// Its kind has none, or none that takes any type.
    No,
    /// Its kind does not tell: so if its status has a list of them.
    ByStatus,
}

/// Whether a status has the condition as the hub gives it.
pub fn is_told(status: Option<&Value>) -> bool {
    status.and_then(own).is_some()
}

/// What several have to say, together, each thing once; `None` if they say nothing.
pub fn together(said: impl IntoIterator<Item = String>) -> Option<String> {
    let said: BTreeSet<String> = said.into_iter().collect();
    let said: Vec<String> = said.into_iter().collect();
    (!said.is_empty()).then(|| said.join("; "))
}

/// A status without any condition of the type. A list that held nothing else goes, and with it a
/// status that did.
pub fn without(status: Option<Value>) -> Option<Value> {
    let mut status = status?;
    let Some(list) = status.get_mut("conditions").and_then(Value::as_array_mut) else {
        return Some(status);
    };
    let before = list.len();
    list.retain(|condition| !is_synced(condition));
    if list.len() == before || !list.is_empty() {
        return Some(status);
    }
    let members = status.as_object_mut()?;
    members.remove("conditions");
    (!members.is_empty()).then_some(status)
}

/// A status made of what members report, with the condition that it should have. `before` is the
/// object's status as it is: it tells whether the object was ever refused, and since when it has been
/// so.
pub fn with(
    status: Option<Value>,
    before: Option<&Value>,
    verdict: &Verdict,
    listed: Listed,
    now: Timestamp,
) -> Option<Value> {
    let status = without(status);
    let own = before.and_then(own);
    let Some(condition) = condition(verdict, own, now) else {
        return status;
    };
    let may = match (conditions(status.as_ref()), listed) {
        (_, Listed::No) | (Conditions::Other, _) => false,
        (_, Listed::Yes) | (Conditions::List, Listed::ByStatus) => true,
        (Conditions::None, Listed::ByStatus) => own.is_some(),
    };
    if !may {
        return status;
    }
    let mut status = status.unwrap_or_else(|| json!({}));
    match status.get_mut("conditions").and_then(Value::as_array_mut) {
        Some(list) => list.push(condition),
        None => status["conditions"] = json!([condition]),
    }
    Some(status)
}

/// What a status has for conditions.
enum Conditions {
    None,
    List,
    /// Something that is no list of conditions.
    Other,
}

fn conditions(status: Option<&Value>) -> Conditions {
    let Some(status) = status else {
        return Conditions::None;
    };
    if !status.is_object() {
        return Conditions::Other;
    }
    let typed = |condition: &Value| condition.get("type").is_some_and(Value::is_string);
    match status.get("conditions") {
        None => Conditions::None,
        Some(Value::Array(list)) if list.iter().all(typed) => Conditions::List,
        Some(_) => Conditions::Other,
    }
}

fn is_synced(condition: &Value) -> bool {
    condition.get("type").is_some_and(|kind| kind == SYNCED)
}

/// The condition in an object's status, if it is the hub's: a member's, from before there was one,
/// has other reasons.
fn own(status: &Value) -> Option<&Value> {
    let list = status.get("conditions")?.as_array()?;
    list.iter().find(|condition| {
        let reason = condition.get("reason");
        is_synced(condition) && reason.is_some_and(|r| r == REFUSED || r == TAKEN)
    })
}

fn condition(verdict: &Verdict, own: Option<&Value>, now: Timestamp) -> Option<Value> {
    let (status, reason, message) = match verdict {
        Verdict::Refused(said) => ("False", REFUSED, said.as_str()),
        Verdict::Taken => {
            own?;
            ("True", TAKEN, "")
        }
        Verdict::Nowhere => return None,
    };
    let same = own.filter(|own| own.get("status").is_some_and(|was| was == status));
    let since = same.and_then(|own| own.get("lastTransitionTime")?.as_str());
    let since = since.map_or_else(|| Time::new(now).to_string(), str::to_owned);
    Some(
        json!({"type": SYNCED, "status": status, "reason": reason, "message": message,
        "lastTransitionTime": since}),
    )
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const THEN: &str = "2030-01-01T00:00:00Z";
    const NOW: &str = "2030-01-01T01:00:00Z";

    fn now() -> Timestamp {
        NOW.parse().unwrap()
    }

    fn refused(words: &str, since: &str) -> Value {
        json!({"type": SYNCED, "status": "False", "reason": REFUSED, "message": words,
            "lastTransitionTime": since})
    }

    fn taken(since: &str) -> Value {
        json!({"type": SYNCED, "status": "True", "reason": TAKEN, "message": "",
            "lastTransitionTime": since})
    }

    fn available() -> Value {
        json!({"type": "Available", "status": "True"})
    }

    fn no() -> Verdict {
        Verdict::Refused("no".into())
    }

    #[rstest]
    #[case::healthy(json!([available()]), Verdict::Taken, json!([available()]))]
    #[case::refused_at_first(json!([available()]), no(), json!([available(), refused("no", NOW)]))]
    #[case::refused_still(json!([refused("no", THEN)]), no(), json!([refused("no", THEN)]))]
    #[case::other_words(json!([refused("never", THEN)]), no(), json!([refused("no", THEN)]))]
    #[case::taken_at_last(json!([refused("no", THEN)]), Verdict::Taken, json!([taken(NOW)]))]
    #[case::taken_since(json!([taken(THEN)]), Verdict::Taken, json!([taken(THEN)]))]
    #[case::refused_again(json!([taken(THEN)]), no(), json!([refused("no", NOW)]))]
    #[case::removed(json!([available(), taken(THEN)]), Verdict::Nowhere, json!([available()]))]
    #[case::a_members(json!([{"type": SYNCED, "status": "True", "reason": "R"}, available()]),
        Verdict::Taken, json!([available()]))]
    fn an_object_says_whether_it_is_refused_once_it_ever_was(
        #[case] before: Value,
        #[case] verdict: Verdict,
        #[case] expected: Value,
    ) {
        let before = json!({"conditions": before});
        let make = |status: &Value| {
            let listed = Listed::ByStatus;
            with(Some(status.clone()), Some(status), &verdict, listed, now()).unwrap()
        };
        let after = make(&before);
        assert_eq!(after["conditions"], expected);
        assert_eq!(make(&after), after, "a second pass changes nothing");
    }

    #[rstest]
    #[case::the_kind_has_them(json!(null), Listed::Yes, true)]
    #[case::the_kind_has_none(json!({"conditions": []}), Listed::No, false)]
    #[case::nobody_tells(json!(null), Listed::ByStatus, false)]
    #[case::no_list(json!({"replicas": 1}), Listed::ByStatus, false)]
    #[case::an_empty_list(json!({"conditions": []}), Listed::ByStatus, true)]
    #[case::a_map(json!({"conditions": {"ready": true}}), Listed::Yes, false)]
    #[case::words(json!({"conditions": ["ready"]}), Listed::ByStatus, false)]
    #[case::no_object(json!("well"), Listed::Yes, false)]
    fn only_what_has_conditions_gets_one(
        #[case] status: Value,
        #[case] listed: Listed,
        #[case] expected: bool,
    ) {
        let status = Some(status).filter(|status| !status.is_null());
        let after = with(status.clone(), status.as_ref(), &no(), listed, now());
        assert_eq!(after != status, expected, "{after:?}");
    }

    #[rstest]
    #[case(json!({"conditions": [taken(THEN)]}), json!(null))]
    #[case(json!({"n": 1, "conditions": [taken(THEN)]}), json!({"n": 1}))]
    #[case(json!({"conditions": []}), json!({"conditions": []}))]
    #[case(json!({}), json!({}))]
    #[case(json!("well"), json!("well"))]
    #[case(json!({"conditions": ["odd", taken(THEN)]}), json!({"conditions": ["odd"]}))]
    fn nothing_of_the_condition_stays_behind(#[case] status: Value, #[case] expected: Value) {
        assert_eq!(without(Some(status)).unwrap_or_default(), expected);
    }

    #[test]
    fn the_same_words_are_said_once() {
        let said = |words: &[&str]| together(words.iter().map(|word| (*word).to_owned()));
        assert_eq!(said(&["b", "a", "b"]).as_deref(), Some("a; b"));
        assert_eq!(said(&[]), None);
    }
}
