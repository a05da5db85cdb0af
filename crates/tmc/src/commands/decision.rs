//! What a Placement remembers of a target that it has: why it was picked, whether it is to be left,
//! and what is in the way of that.

use jiff::Timestamp;
use serde_json::Value;

use crate::output::{self, list, text};

/// A target that a Placement is to leave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Leaving {
    /// Why, in one CamelCase word.
    pub(super) reason: String,
    /// Since when.
    pub(super) since: Option<Timestamp>,
    /// What is in the way; empty while its time has not come.
    pub(super) held: &'static str,
    /// Nothing that is only waited for will change that.
    pub(super) for_good: bool,
}

/// What is remembered of a target; `None` if nothing is.
pub(super) fn of<'a>(placement: &'a Value, key: &str) -> Option<&'a Value> {
    list(placement, "/status/decisions")
        .iter()
        .find(|decision| decision["key"] == key)
}

/// Why a target was picked, in words; empty if that is not recorded.
pub(super) fn picked_because<'a>(placement: &'a Value, key: &str) -> &'a str {
    of(placement, key).map_or("", |decision| text(decision, "/message"))
}

/// Whether a target is to be left.
pub(super) fn leaving(placement: &Value, key: &str) -> Option<Leaving> {
    let leaving = &of(placement, key)?["leaving"];
    if !leaving.is_object() {
        return None;
    }
    let (held, for_good) = match text(leaving, "/held") {
        "NoReplacement" => ("no other cluster is fit to take over", true),
        "PartitionGuard" => (
            "so many clusters were lost at once that nothing is moved",
            true,
        ),
        "RateLimited" => ("it waits for its turn to be moved", false),
        _ => ("", false),
    };
    Some(Leaving {
        reason: text(leaving, "/reason").to_owned(),
        since: output::time(leaving, "/since"),
        held,
        for_good,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_decision_is_found_by_its_key() {
        let placement = json!({"status": {"decisions": [
            {"key": "A", "message": "no other is fit"},
            {"key": "B", "leaving": {"reason": "Draining", "since": "2030-01-01T00:00:00Z", "held": "NoReplacement"}},
            {"key": "C", "leaving": {"reason": "Unreachable"}},
        ]}});
        assert_eq!(picked_because(&placement, "A"), "no other is fit");
        assert_eq!(picked_because(&placement, "X"), "");
        assert_eq!(leaving(&placement, "A"), None);
        let held = leaving(&placement, "B").expect("leaving");
        assert!(held.for_good && held.since.is_some(), "{held:?}");
        let due_later = leaving(&placement, "C").expect("leaving");
        assert_eq!((due_later.held, due_later.for_good), ("", false));
    }
}
