//! The share of a place in the annotation that changes `spec` in its view only.
//!
//! The annotation is a JSON Patch and users may write it, too. Ours is one operation in it, at the
//! end so that it decides, on `/replicas` and with a member that says whose it is (members that
//! RFC 6902 does not define are ignored by whoever applies it). All other operations are left alone.

use serde_json::{Value, json};

/// Member of our operation.
const BY: &str = "by";
/// Its value.
const US: &str = "tmc.kcp.io/division";

fn is_ours(operation: &Value) -> bool {
    operation.get(BY).and_then(Value::as_str) == Some(US)
}

/// `add` replaces a member that is there, so it fits whether the object names replicas or not.
fn operation(share: u64) -> Value {
    json!({"op": "add", "path": "/replicas", "value": share, BY: US})
}

fn operations(annotation: Option<&str>) -> Option<Vec<Value>> {
    annotation.map_or(Some(Vec::new()), |text| serde_json::from_str(text).ok())
}

/// The share that was written into an annotation.
pub fn share(annotation: Option<&str>) -> Option<u64> {
    let operations = operations(annotation)?;
    operations
        .iter()
        .rev()
        .find(|operation| is_ours(operation))?
        .get("value")?
        .as_u64()
}

/// The annotation with this share, or without one; `None` if nothing is left of it. One that is as
/// it should be, and one that is not a list (the user's to mend), stay to the letter.
pub fn with_share(annotation: Option<&str>, share: Option<u64>) -> Option<String> {
    let unchanged = || annotation.map(str::to_owned);
    let Some(before) = operations(annotation) else {
        return unchanged();
    };
    let theirs = before
        .iter()
        .filter(|operation| !is_ours(operation))
        .cloned();
    let after: Vec<Value> = theirs.chain(share.map(operation)).collect();
    if after == before {
        return unchanged();
    }
    (!after.is_empty()).then(|| Value::Array(after).to_string())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use tmc_apimachinery::patch::json_patch;

    use super::*;

    const THEIRS: &str = r#"[{"op":"add","path":"/paused","value":true}]"#;
    const BOTH: &str = r#"[{"op":"add","path":"/paused","value":true},{"by":"tmc.kcp.io/division","op":"add","path":"/replicas","value":2}]"#;
    const OURS: &str = r#"[{"by":"tmc.kcp.io/division","op":"add","path":"/replicas","value":2}]"#;
    const PINNED: &str = r#"[ {"op":"replace","path":"/replicas","value":7} ]"#;

    #[rstest]
    #[case::new(None, Some(2), Some(OURS))]
    #[case::kept(Some(OURS), Some(2), Some(OURS))]
    #[case::removed(Some(OURS), None, None)]
    #[case::never_there(None, None, None)]
    #[case::beside_theirs(Some(THEIRS), Some(2), Some(BOTH))]
    #[case::theirs_stays(Some(BOTH), None, Some(THEIRS))]
    #[case::a_users_own_replicas_are_not_ours(Some(PINNED), None, Some(PINNED))]
    #[case::what_cannot_be_read_is_left_alone(Some("{"), Some(2), Some("{"))]
    fn our_operation_comes_and_goes_alone(
        #[case] before: Option<&str>,
        #[case] share: Option<u64>,
        #[case] after: Option<&str>,
    ) {
        let new = with_share(before, share);
        assert_eq!(new.as_deref(), after);
        assert_eq!(with_share(new.as_deref(), share), new);
        if before != Some("{") {
            assert_eq!(super::share(new.as_deref()), share);
        }
    }

    #[test]
    fn what_is_written_applies_with_and_without_replicas_and_comes_last() {
        for mut spec in [json!({}), json!({"replicas": 9})] {
            let patch = with_share(Some(PINNED).filter(|_| spec != json!({})), Some(0)).unwrap();
            json_patch(&mut spec, patch.as_bytes()).unwrap();
            assert_eq!(spec, json!({"replicas": 0}));
        }
    }
}
