use proptest::prelude::*;
use rstest::rstest;
use serde_json::json;

use super::*;

fn query(text: &str) -> Vec<(String, String)> {
    let pairs = text.split('&').filter(|p| !p.is_empty());
    pairs
        .map(|p| p.split_once('=').unwrap_or((p, "")))
        .map(|(k, v)| (k.into(), v.into()))
        .collect()
}

fn list(text: &str) -> Result<ListOptions> {
    ListOptions::from_query(&query(text))
}

#[test]
fn no_parameters_mean_everything_most_recent() {
    let options = list("").unwrap();
    assert!(options.labels.is_everything() && options.fields.is_everything());
    assert_eq!(
        (
            options.limit,
            options.resource_version,
            options.version_match
        ),
        (0, None, None)
    );
    assert_eq!(
        (options.continue_token, options.timeout_seconds),
        (None, None)
    );
    assert!(!options.bookmarks && !options.send_initial_events);
}

#[test]
fn a_list_of_kubectl_is_read() {
    let options =
        list("labelSelector=app in (web)&fieldSelector=metadata.name=a&limit=500").unwrap();
    assert_eq!(options.labels.to_string(), "app=web");
    assert_eq!(options.fields.required_name(), Some("a"));
    assert_eq!(options.limit, 500);
    let next = list("limit=500&continue=abc").unwrap();
    assert_eq!(next.continue_token.as_deref(), Some("abc"));
}

#[test]
fn a_streaming_list_of_kube_is_read() {
    let options = list(
        "watch=true&timeoutSeconds=290&allowWatchBookmarks=true&sendInitialEvents=true\
         &resourceVersion=0&resourceVersionMatch=NotOlderThan",
    )
    .unwrap();
    assert!(options.bookmarks && options.send_initial_events);
    assert_eq!(options.timeout_seconds, Some(290));
    assert_eq!(options.resource_version, Some(0));
    assert_eq!(options.version_match, Some(VersionMatch::NotOlderThan));
}

#[rstest]
#[case("1", true)]
#[case("true", true)]
#[case("True", true)]
#[case("t", true)]
#[case("", true)]
#[case("0", false)]
#[case("false", false)]
#[case("FALSE", false)]
fn only_false_and_zero_are_false(#[case] text: &str, #[case] value: bool) {
    let options = list(&format!("watch=1&allowWatchBookmarks={text}")).unwrap();
    assert_eq!(options.bookmarks, value);
}

#[test]
fn empty_and_unlimited_numbers_are_no_numbers() {
    let options = list("limit=&timeoutSeconds=0&resourceVersion=&continue=&resourceVersionMatch=");
    let options = options.unwrap();
    assert_eq!(
        (
            options.limit,
            options.timeout_seconds,
            options.resource_version
        ),
        (0, None, None)
    );
    assert_eq!(list("limit=-1").unwrap().limit, 0);
    assert_eq!(
        list("limit=5&limit=7").unwrap().limit,
        5,
        "the first value counts"
    );
    assert_eq!(
        list("pretty=true&unknown=1").unwrap().limit,
        0,
        "unknown parameters are ignored"
    );
}

#[rstest]
#[case("limit=x", "limit: Invalid value: \"x\"")]
#[case("limit=99999999999999999999", "limit")]
#[case("timeoutSeconds=1.5", "timeoutSeconds")]
#[case(
    "timeoutSeconds=-1",
    "timeoutSeconds: Invalid value: \"-1\": must not be negative"
)]
#[case("resourceVersion=abc", "resourceVersion: Invalid value: \"abc\"")]
#[case("resourceVersion=-1", "resourceVersion")]
#[case("labelSelector=a=(", "unable to parse requirement")]
#[case("fieldSelector=a", "invalid selector")]
#[case(
    "continue=a&resourceVersion=5",
    "specifying resource version is not allowed when using continue"
)]
fn a_malformed_list_parameter_is_a_bad_request(#[case] text: &str, #[case] part: &str) {
    let error = list(text).expect_err(text);
    assert_eq!(error.code, 400);
    assert!(error.message.contains(part), "{}", error.message);
}

#[rstest]
#[case(
    "resourceVersionMatch=Exact",
    "resourceVersionMatch is forbidden unless resourceVersion is provided"
)]
#[case(
    "resourceVersion=5&resourceVersionMatch=Newest",
    "Unsupported value: \"Newest\": supported values: \"Exact\", \"NotOlderThan\", \"\""
)]
#[case(
    "resourceVersion=0&resourceVersionMatch=Exact",
    "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\""
)]
#[case(
    "resourceVersion=0&resourceVersionMatch=NotOlderThan&continue=a",
    "resourceVersionMatch is forbidden when continue is provided"
)]
#[case("sendInitialEvents=false", "sendInitialEvents is forbidden for list")]
#[case(
    "watch=1&sendInitialEvents=1",
    "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"
)]
#[case(
    "watch=1&resourceVersionMatch=NotOlderThan",
    "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"
)]
#[case(
    "watch=1&sendInitialEvents=1&resourceVersionMatch=Exact",
    "Unsupported value: \"Exact\": supported values: \"NotOlderThan\""
)]
#[case(
    "watch=1&sendInitialEvents=1&resourceVersionMatch=NotOlderThan&continue=a",
    "resourceVersionMatch is forbidden when continue is provided"
)]
fn list_parameters_that_do_not_fit_together_are_invalid(#[case] text: &str, #[case] part: &str) {
    let error = list(text).expect_err(text);
    assert_eq!(error.code, 422);
    assert!(
        error
            .message
            .starts_with("ListOptions.meta.k8s.io \"\" is invalid: ")
    );
    assert!(error.message.contains(part), "{}", error.message);
}

#[test]
fn a_continued_list_may_say_that_any_version_is_fine() {
    assert!(list("continue=a&resourceVersion=0").is_ok());
    assert!(list("watch=1&continue=a&resourceVersion=5").is_ok());
}

#[test]
fn write_options_are_read() {
    let read = |text: &str| WriteOptions::from_query(&query(text)).unwrap();
    let options = read("dryRun=All&fieldManager=kubectl-create&fieldValidation=Strict");
    assert!(options.dry_run);
    assert_eq!(options.field_manager.as_deref(), Some("kubectl-create"));
    assert_eq!(options.field_validation, FieldValidation::Strict);
    assert_eq!(read("").field_validation, FieldValidation::Warn);
    assert_eq!(
        read("fieldValidation=Ignore").field_validation,
        FieldValidation::Ignore
    );
    assert!(!read("").dry_run);
    assert_eq!(read("fieldManager=").field_manager, None);
}

#[rstest]
#[case(
    "dryRun=all",
    "dryRun: Unsupported value: [\"all\"]: supported values: \"All\""
)]
#[case("dryRun=", "dryRun: Unsupported value")]
#[case("dryRun=All&dryRun=x", "dryRun: Unsupported value")]
#[case(
    "fieldValidation=strict",
    "fieldValidation: Unsupported value: \"strict\""
)]
#[case("fieldManager=a\nb", "invalid character U+000A (at position 1)")]
fn wrong_write_options_are_invalid(#[case] text: &str, #[case] part: &str) {
    let error = WriteOptions::from_query(&query(text)).expect_err(text);
    assert_eq!(error.code, 422);
    assert!(error.message.contains(part), "{}", error.message);
}

#[test]
fn a_field_manager_has_at_most_128_bytes() {
    let read =
        |n: usize| WriteOptions::from_query(&query(&format!("fieldManager={}", "a".repeat(n))));
    assert!(read(128).is_ok());
    let error = read(129).expect_err("too long");
    assert!(
        error
            .message
            .contains("fieldManager: Too long: may not be more than 128 bytes")
    );
}

#[test]
fn force_belongs_to_apply_patches_which_need_a_manager() {
    let patch = |text: &str, apply| WriteOptions::from_patch_query(&query(text), apply);
    assert!(patch("force=true&fieldManager=a", true).unwrap().force);
    assert!(!patch("fieldManager=a", true).unwrap().force);
    assert!(patch("", false).is_ok());
    let error = patch("force=false", false).expect_err("force");
    assert!(
        error
            .message
            .contains("force: Forbidden: may not be specified for non-apply patch")
    );
    let error = patch("force=1", true).expect_err("manager");
    assert_eq!(error.code, 422);
    assert!(
        error
            .message
            .contains("fieldManager: Required value: is required for apply patch")
    );
}

#[test]
fn delete_options_come_from_the_body_or_else_from_the_query() {
    let text = "propagationPolicy=Orphan&gracePeriodSeconds=3&dryRun=All";
    let options = DeleteOptions::from_request(&query(text), None).unwrap();
    assert_eq!(options.propagation, Some(Propagation::Orphan));
    assert_eq!(options.grace_period_seconds, Some(3));
    assert!(options.dry_run);
    let body = json!({
        "kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Foreground",
        "preconditions": {"uid": "u", "resourceVersion": "7"},
    });
    let options = DeleteOptions::from_request(&query(text), Some(&body)).unwrap();
    assert_eq!(options.propagation, Some(Propagation::Foreground));
    assert_eq!(
        (options.uid.as_deref(), options.resource_version.as_deref()),
        (Some("u"), Some("7"))
    );
    assert_eq!(
        (options.grace_period_seconds, options.dry_run),
        (None, false)
    );
}

#[rstest]
#[case(json!({}), None)]
#[case(json!({"propagationPolicy": "Background"}), Some(Propagation::Background))]
#[case(json!({"orphanDependents": true}), Some(Propagation::Orphan))]
#[case(json!({"orphanDependents": false}), Some(Propagation::Background))]
#[case(json!({"orphanDependents": null, "propagationPolicy": null}), None)]
fn the_old_way_to_orphan_still_counts(#[case] body: Value, #[case] expected: Option<Propagation>) {
    let options = DeleteOptions::from_request(&[], Some(&body)).unwrap();
    assert_eq!(options.propagation, expected);
}

#[rstest]
#[case(json!([]), 400, "must be a DeleteOptions object")]
#[case(json!({"kind": "Pod"}), 400, "kind")]
#[case(json!({"kind": 1}), 400, "kind: must be a string")]
#[case(json!({"gracePeriodSeconds": "1"}), 400, "gracePeriodSeconds: must be an integer")]
#[case(json!({"orphanDependents": 1}), 400, "orphanDependents: must be a boolean")]
#[case(json!({"preconditions": []}), 400, "preconditions: must be an object")]
#[case(json!({"preconditions": {"uid": 1}}), 400, "uid: must be a string")]
#[case(json!({"dryRun": "All"}), 400, "dryRun: must be a list of strings")]
#[case(json!({"dryRun": ["x"]}), 422, "dryRun: Unsupported value: [\"x\"]")]
#[case(json!({"propagationPolicy": "x"}), 422, "propagationPolicy: Unsupported value: \"x\"")]
#[case(json!({"propagationPolicy": "Orphan", "orphanDependents": true}), 422, "cannot be both set")]
fn wrong_delete_options_are_refused(#[case] body: Value, #[case] code: u16, #[case] part: &str) {
    let error = DeleteOptions::from_request(&[], Some(&body)).expect_err("invalid");
    assert_eq!(error.code, code);
    assert!(error.message.contains(part), "{}", error.message);
}

#[test]
fn a_negative_grace_period_counts_as_one_second() {
    let options = DeleteOptions::from_request(&query("gracePeriodSeconds=-5"), None).unwrap();
    assert_eq!(options.grace_period_seconds, Some(1));
    assert!(DeleteOptions::from_request(&query("gracePeriodSeconds=x"), None).is_err());
    let null = DeleteOptions::from_request(&query("orphanDependents=true"), Some(&Value::Null));
    assert_eq!(null.unwrap().propagation, Some(Propagation::Orphan));
}

proptest! {
    #[test]
    fn no_query_makes_the_readers_panic(
        pairs in prop::collection::vec(
            ("(labelSelector|fieldSelector|limit|continue|resourceVersion|resourceVersionMatch|\
              timeoutSeconds|watch|sendInitialEvents|dryRun|fieldManager|fieldValidation|force|\
              gracePeriodSeconds|propagationPolicy|orphanDependents)", "\\PC{0,12}"), 0..6),
    ) {
        let _ = ListOptions::from_query(&pairs);
        let _ = WriteOptions::from_query(&pairs);
        let _ = WriteOptions::from_patch_query(&pairs, true);
        let _ = DeleteOptions::from_request(&pairs, None);
    }
}
