//! What the hub should hear of a copy's status.

use serde_json::Value;
use tmc_apimachinery::meta::meta;
use tmc_runtime::client::Error;

use crate::mutate::applied_generation;

/// The status to report for an object, or `None` if the view shows it already (or the member has
/// none). `observedGeneration` counts in the member's own series; the hub's readers compare it with
/// the hub's generation, so it is translated: once the member has observed the last apply, it is the
/// upstream generation that was applied; until then what was last reported stays.
pub fn report(view: &Value, downstream: &Value) -> Option<Value> {
    let mut status = downstream.get("status").filter(|s| !s.is_null())?.clone();
    if let Some(observed) = status.get("observedGeneration").and_then(Value::as_i64) {
        let current = observed >= meta(downstream).generation();
        let applied = applied_generation(downstream).filter(|_| current);
        let reported = view
            .pointer("/status/observedGeneration")
            .and_then(Value::as_i64);
        match applied.or(reported) {
            Some(generation) => status["observedGeneration"] = generation.into(),
            None => {
                status
                    .as_object_mut()
                    .map(|members| members.remove("observedGeneration"));
            }
        }
    }
    (view.get("status") != Some(&status)).then_some(status)
}

/// What a user should hear of an error with which the member answered an apply; `None` if it says
/// nothing about the object: a conflict, a busy or silent member, an agent who may not speak to it.
pub fn refusal(error: &Error) -> Option<String> {
    let Error::Api(error) = error else {
        return None;
    };
    let about_the_object =
        (400..500).contains(&error.code) && !matches!(error.code, 401 | 408 | 409 | 429);
    about_the_object.then(|| format!("a member cluster refuses it: {}", error.message))
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tmc_apimachinery::status::{ApiError, Reason};

    use super::*;

    fn copy(generation: i64, observed: i64, applied: &str) -> Value {
        json!({
            "metadata": {"generation": generation,
                "annotations": {"internal.workload.kcp.io/applied": applied}},
            "status": {"observedGeneration": observed, "replicas": 1},
        })
    }

    #[test]
    fn an_observed_apply_reports_the_upstream_generation() {
        let status = report(&json!({}), &copy(9, 9, "3.abc")).expect("news");
        assert_eq!(status, json!({"observedGeneration": 3, "replicas": 1}));
        assert_eq!(
            report(&json!({"status": status}), &copy(9, 9, "3.abc")),
            None
        );
    }

    #[test]
    fn until_the_member_has_observed_the_apply_the_old_generation_stays() {
        let before = json!({"status": {"observedGeneration": 2, "replicas": 0}});
        let status = report(&before, &copy(10, 9, "3.abc")).expect("news");
        assert_eq!(status["observedGeneration"], 2);
        let status = report(&json!({}), &copy(10, 9, "3.abc")).expect("news");
        assert_eq!(status.get("observedGeneration"), None);
    }

    #[test]
    fn an_object_without_status_reports_nothing() {
        assert_eq!(report(&json!({}), &json!({"metadata": {}})), None);
    }

    #[test]
    fn a_refusal_is_what_the_member_has_against_the_object() {
        let api = |reason| Error::Api(ApiError::new(reason, "why"));
        for reason in [Reason::Forbidden, Reason::Invalid, Reason::BadRequest] {
            let said = refusal(&api(reason));
            assert_eq!(
                said.as_deref(),
                Some("a member cluster refuses it: why"),
                "{reason:?}"
            );
        }
        for reason in [
            Reason::Conflict,
            Reason::Unauthorized,
            Reason::TooManyRequests,
            Reason::InternalError,
        ] {
            assert_eq!(refusal(&api(reason)), None, "{reason:?}");
        }
        assert_eq!(refusal(&Error::Transport("lost".into())), None);
    }
}
