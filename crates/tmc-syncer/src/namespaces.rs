//! The member's namespaces: made for a namespace of the hub, recognised by their locator, removed
//! when nothing is left of either side.

use serde_json::{Value, json};
use tmc_api::hashes::Locator;
use tmc_api::{hashes, keys};
use tmc_apimachinery::ClusterName;
use tmc_apimachinery::meta::meta;

use crate::mapping::Target;

/// Human-readable origin of a downstream namespace, for people who look at the member.
const WORKSPACE_LABEL: &str = "tmc.kcp.io/workspace";
const NAMESPACE_LABEL: &str = "tmc.kcp.io/namespace";

/// The namespace that the member should have.
pub fn desired(
    target: &Target,
    cluster: &ClusterName,
    namespace: &str,
    pod_security: &str,
) -> Value {
    let locator = target.locator(cluster, namespace);
    json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": {
            "name": hashes::downstream_namespace(&locator),
            "labels": {
                (keys::DOWNSTREAM_CLUSTER_LABEL): target.key(),
                (keys::TENANT_ID_LABEL): hashes::tenant_id(&locator),
                (WORKSPACE_LABEL): cluster.as_str(),
                (NAMESPACE_LABEL): namespace,
                "pod-security.kubernetes.io/enforce": pod_security,
            },
            "annotations": {(keys::NAMESPACE_LOCATOR_ANNOTATION): locator.to_json()},
        },
    })
}

/// What to do about a namespace of the member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Check {
    /// Make it, or repair its labels and annotations.
    Apply,
    /// It is as it should be.
    Fine,
    /// It is being deleted: wait until it is gone.
    Wait,
    /// It is somebody else's; nothing may be touched. Why, for the report.
    Foreign(String),
}

/// Looks at the member's namespace of the desired one's name.
pub fn check(desired: &Value, found: Option<&Value>) -> Check {
    let Some(found) = found else {
        return Check::Apply;
    };
    let annotation = keys::NAMESPACE_LOCATOR_ANNOTATION;
    let name = meta(desired).name();
    let Some(text) = meta(found).annotation(annotation) else {
        return Check::Foreign(format!(
            "namespace {name} of the member exists and was not made by a syncer (no {annotation})"
        ));
    };
    if locator(text).is_none_or(|theirs| Some(theirs) != own_locator(desired)) {
        // Whose it is may be another tenant's business.
        return Check::Foreign(format!(
            "namespace {name} of the member belongs to another namespace or SyncTarget"
        ));
    }
    if !meta(found).deletion_timestamp().is_empty() {
        return Check::Wait;
    }
    let has = meta(found).labels();
    let complete = meta(desired)
        .labels()
        .iter()
        .all(|(key, value)| has.get(key) == Some(value));
    if complete { Check::Fine } else { Check::Apply }
}

/// A locator says the same in any spelling.
fn locator(text: &str) -> Option<Locator> {
    Locator::parse(text).ok()
}

fn own_locator(namespace: &Value) -> Option<Locator> {
    meta(namespace)
        .annotation(keys::NAMESPACE_LOCATOR_ANNOTATION)
        .and_then(locator)
}

/// Name of the account of pods that name none.
pub(crate) const DEFAULT_ACCOUNT: &str = "default";

/// The account of pods that name none, as every namespace should have it: its token is no business of
/// a pod that does not ask for it.
pub(crate) fn default_account(namespace: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ServiceAccount",
        "metadata": {"name": DEFAULT_ACCOUNT, "namespace": namespace},
        "automountServiceAccountToken": false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted() -> Value {
        let target = Target {
            cluster: ClusterName::new("root"),
            name: "one".into(),
            uid: "u1".into(),
        };
        desired(&target, &ClusterName::new("2abc"), "shop", "baseline")
    }

    #[test]
    fn a_namespace_is_made_repaired_or_left_alone() {
        assert_eq!(check(&wanted(), None), Check::Apply);
        assert_eq!(check(&wanted(), Some(&wanted())), Check::Fine);
        let mut drifted = wanted();
        drifted["metadata"]["labels"] = json!({});
        assert_eq!(check(&wanted(), Some(&drifted)), Check::Apply);
    }

    #[test]
    fn a_namespace_of_somebody_else_is_never_touched() {
        let stranger = json!({"metadata": {"name": meta(&wanted()).name()}});
        assert!(matches!(
            check(&wanted(), Some(&stranger)),
            Check::Foreign(_)
        ));
        let mut other = wanted();
        other["metadata"]["annotations"][keys::NAMESPACE_LOCATOR_ANNOTATION] = "{}".into();
        assert!(matches!(check(&wanted(), Some(&other)), Check::Foreign(_)));
    }

    #[test]
    fn a_locator_is_read_and_not_compared_by_its_letters() {
        let verdict = |text: &str| {
            let mut found = wanted();
            found["metadata"]["annotations"][keys::NAMESPACE_LOCATOR_ANNOTATION] = text.into();
            check(&wanted(), Some(&found))
        };
        let as_written = r#"{"syncTarget":{"cluster":"root","name":"one","uid":"u1"},"cluster":"2abc","namespace":"shop"}"#;
        let spaced = as_written.replace(':', ": ").replace(',', ", ");
        let old_form = as_written.replacen("cluster", "path", 1);
        for ours in [as_written, &spaced, &old_form] {
            assert_eq!(verdict(ours), Check::Fine, "{ours}");
        }
        let of_another_target = old_form.replace("u1", "u2");
        let of_another_namespace = as_written.replace("shop", "shop2");
        for theirs in [&*of_another_target, &of_another_namespace, "shop", ""] {
            assert!(matches!(verdict(theirs), Check::Foreign(_)), "{theirs}");
        }
    }

    #[test]
    fn a_namespace_that_is_going_is_waited_for() {
        let mut going = wanted();
        going["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        assert_eq!(check(&wanted(), Some(&going)), Check::Wait);
    }
}
