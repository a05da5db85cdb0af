//! What the hub should hear of a copy's status.

use serde_json::Value;
use tmc_apimachinery::meta::meta;

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

#[cfg(test)]
mod tests {
    use serde_json::json;

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
}
