//! What the hub should hear of a copy's status.

use serde_json::Value;
use tmc_api::{keys, synced};
use tmc_apimachinery::meta::meta;
use tmc_runtime::client::Error;

use crate::mutate::applied_generation;

/// The status to report for an object, or `None` if the view shows it already (or the member has
/// none). `observedGeneration` counts in the member's own series; the hub's readers compare it with
/// the hub's generation, so it is translated: once the member has observed the last apply, it is the
/// upstream generation that was applied; until then what was last reported stays.
pub fn report(view: &Value, downstream: &Value) -> Option<Value> {
    let status = downstream.get("status").filter(|s| !s.is_null())?;
    // The condition of that type is the hub's: it would be told again and again, and never shown.
    let mut status = synced::without(Some(status.clone()))?;
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
/// nothing about the object: a conflict, a busy or silent member, an agent who may not speak to it (that
/// is the provider's business, with names that are nobody else's).
pub fn refusal(error: &Error) -> Option<String> {
    let Error::Api(error) = error else {
        return None;
    };
    // As an API server words a refusal by RBAC.
    let no_right = error.code == 403 && error.message.contains("is forbidden: User \"");
    let about_the_object = matches!(error.code, 400 | 403 | 413 | 422) && !no_right;
    about_the_object.then(|| {
        let text = format!("a member cluster refuses it: {}", error.message);
        text.chars().take(keys::MAX_MESSAGE).collect()
    })
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
    fn what_a_member_says_of_the_hubs_own_condition_is_not_reported() {
        let own = json!({"type": "Synced", "status": "True"});
        let other = json!({"type": "Ready", "status": "True"});
        let copy = json!({"status": {"conditions": [own, other]}});
        let told = json!({"conditions": [other]});
        assert_eq!(report(&json!({}), &copy), Some(told.clone()));
        assert_eq!(report(&json!({"status": told}), &copy), None);
        let alone = json!({"status": {"conditions": [own]}});
        assert_eq!(report(&json!({}), &alone), None);
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
        let rbac = "pods is forbidden: User \"agent\" cannot create resource \"pods\"";
        let rbac = Error::Api(ApiError::new(Reason::Forbidden, rbac));
        assert_eq!(refusal(&rbac), None);
        let long = Error::Api(ApiError::new(Reason::Invalid, "x".repeat(5000)));
        assert_eq!(
            refusal(&long).map(|said| said.len()),
            Some(keys::MAX_MESSAGE)
        );
        assert_eq!(refusal(&Error::Transport("lost".into())), None);
    }
}
