use http::StatusCode;
use rstest::rstest;
use serde_json::{Value, json};

use crate::harness::{DEPLOYMENTS, WIDGETS, deployment, fixture, widget};

const JSON: &[(&str, &str)] = &[("content-type", "application/json")];
const YAML: &[(&str, &str)] = &[("content-type", "application/yaml")];

#[tokio::test]
async fn a_create_is_201_and_fills_the_namespace_of_the_path() {
    let hub = fixture();
    let answer = hub.post(DEPLOYMENTS, &deployment("web")).await;
    assert_eq!(answer.status, StatusCode::CREATED);
    assert_eq!(answer.json()["metadata"]["namespace"], "ns");
    assert_eq!(
        hub.post(DEPLOYMENTS, &deployment("web")).await.refusal().0,
        409
    );
}

#[tokio::test]
async fn a_dry_run_leaves_nothing() {
    let hub = fixture();
    let answer = hub
        .post(&format!("{DEPLOYMENTS}?dryRun=All"), &deployment("web"))
        .await;
    assert_eq!(answer.status, StatusCode::CREATED);
    assert_eq!(hub.get(&format!("{DEPLOYMENTS}/web")).await.status, 404);
    assert_eq!(
        hub.post(&format!("{DEPLOYMENTS}?dryRun=Some"), &deployment("web"))
            .await
            .refusal()
            .0,
        422
    );
}

#[tokio::test]
async fn yaml_bodies_are_read() {
    let hub = fixture();
    let text =
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec:\n  replicas: 2\n";
    let answer = hub.send("POST", DEPLOYMENTS, YAML, text).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text());
    assert_eq!(answer.json()["spec"]["replicas"], 2);
}

#[tokio::test]
async fn a_built_in_kind_may_be_left_out_of_the_body_and_a_custom_one_may_not() {
    let hub = fixture();
    let answer = hub
        .post(DEPLOYMENTS, &json!({"metadata": {"name": "web"}}))
        .await;
    assert_eq!(answer.status, StatusCode::CREATED);
    assert_eq!(answer.json()["kind"], "Deployment");
    let (code, message) = hub
        .post(WIDGETS, &json!({"metadata": {"name": "w"}}))
        .await
        .refusal();
    assert_eq!(code, 400);
    assert!(message.contains("'Kind' is missing"), "{message}");
}

#[rstest]
#[case(r#"{"kind": "#, "line 1 column")]
#[case("", "empty")]
#[case("[]", "not an object")]
#[case(
    r#"{"kind":"Pod","apiVersion":"apps/v1"}"#,
    "the object provided is unrecognized (must be of type Deployment)"
)]
#[case(
    r#"{"kind":"Deployment","apiVersion":"apps/v2"}"#,
    "the API version in the data (apps/v2) does not match the expected API version (apps/v1)"
)]
#[case(r#"{"kind":7,"apiVersion":"apps/v1"}"#, "kind is not a string")]
#[case(r#"{"metadata":[]}"#, "metadata is not an object")]
#[case(r#"{"metadata":{"name":5}}"#, "metadata.name is not a string")]
#[case(
    r#"{"metadata":{"name":"x","namespace":"other"}}"#,
    "the namespace of the provided object does not match"
)]
#[tokio::test]
async fn a_body_that_does_not_fit_is_400_and_says_why(
    #[case] body: &'static str,
    #[case] why: &str,
) {
    let hub = fixture();
    let (code, message) = hub.send("POST", DEPLOYMENTS, JSON, body).await.refusal();
    assert_eq!(code, 400, "{message}");
    assert!(message.contains(why), "{message}");
}

#[tokio::test]
async fn malformed_yaml_is_400_with_its_place() {
    let hub = fixture();
    let (code, message) = hub
        .send("POST", DEPLOYMENTS, YAML, "a: b\n c: [")
        .await
        .refusal();
    assert_eq!(code, 400);
    assert!(
        message.contains("not valid YAML") && message.contains("line 2"),
        "{message}"
    );
}

#[rstest]
#[case("text/plain")]
#[case("application/x-www-form-urlencoded")]
#[tokio::test]
async fn other_encodings_are_415(#[case] media: &str) {
    let hub = fixture();
    let answer = hub
        .send("POST", DEPLOYMENTS, &[("content-type", media)], "x")
        .await;
    let (code, message) = answer.refusal();
    assert_eq!(code, 415);
    assert!(
        message.contains("application/json, application/yaml"),
        "{message}"
    );
}

#[tokio::test]
async fn an_update_needs_the_name_of_the_path_and_a_current_version() {
    let hub = fixture();
    let mut object = hub.deploy("web").await;
    let path = format!("{DEPLOYMENTS}/web");
    object["spec"]["replicas"] = 5.into();
    let answer = hub.send("PUT", &path, JSON, object.to_string()).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.json()["spec"]["replicas"], 5);
    let stale = hub.send("PUT", &path, JSON, object.to_string()).await;
    assert_eq!(stale.refusal().0, 409);
    object["metadata"]["resourceVersion"] = "".into();
    assert_eq!(
        hub.send("PUT", &path, JSON, object.to_string())
            .await
            .status,
        200
    );
    for name in [json!("other"), Value::Null] {
        object["metadata"]["name"] = name;
        let (code, message) = hub
            .send("PUT", &path, JSON, object.to_string())
            .await
            .refusal();
        assert_eq!(code, 400);
        assert!(
            message.contains("does not match the name on the URL (web)"),
            "{message}"
        );
    }
}

#[tokio::test]
async fn status_and_the_rest_are_written_apart() {
    let hub = fixture();
    let mut object = hub.deploy("web").await;
    object["status"] = json!({"replicas": 3});
    object["spec"]["replicas"] = 9.into();
    let path = format!("{DEPLOYMENTS}/web/status");
    let written = hub
        .send("PUT", &path, JSON, object.to_string())
        .await
        .json();
    assert_eq!(
        (&written["status"]["replicas"], &written["spec"]["replicas"]),
        (&json!(3), &json!(1))
    );
    assert_eq!(hub.get(&path).await.json(), written);
}

#[tokio::test]
async fn scale_reads_and_writes_the_main_resource() {
    let hub = fixture();
    hub.deploy("web").await;
    let path = format!("{DEPLOYMENTS}/web/scale");
    let mut scale = hub.get(&path).await.json();
    assert_eq!(scale["kind"], "Scale");
    assert_eq!(scale["spec"]["replicas"], 1);
    assert_eq!(scale["status"]["selector"], "app=web");
    scale["spec"]["replicas"] = 4.into();
    hub.store.fail_updates(2);
    let mut unpinned = scale.clone();
    unpinned["metadata"]["resourceVersion"] = "".into();
    let answer = hub.send("PUT", &path, JSON, unpinned.to_string()).await;
    assert_eq!(answer.json()["spec"]["replicas"], 4, "{}", answer.text());
    assert_eq!(
        hub.get(&format!("{DEPLOYMENTS}/web")).await.json()["spec"]["replicas"],
        4
    );
    let stale = hub.send("PUT", &path, JSON, scale.to_string()).await;
    assert_eq!(stale.refusal().0, 409);
    unpinned["metadata"]["uid"] = "another".into();
    assert_eq!(
        hub.send("PUT", &path, JSON, unpinned.to_string())
            .await
            .refusal()
            .0,
        409
    );
    unpinned["spec"]["replicas"] = (-1).into();
    let (code, message) = hub
        .send("PUT", &path, JSON, unpinned.to_string())
        .await
        .refusal();
    assert_eq!(code, 422);
    assert!(
        message.contains("spec.replicas: Invalid value: -1"),
        "{message}"
    );
    let wrong = hub
        .send("PUT", &path, JSON, deployment("web").to_string())
        .await
        .refusal();
    assert!(
        wrong.1.contains("expected API version (autoscaling/v1)"),
        "{}",
        wrong.1
    );
}

#[tokio::test]
async fn a_named_part_takes_a_post_of_its_own_kind() {
    let hub = fixture();
    let path = "/clusters/a/api/v1/namespaces/ns/serviceaccounts/robot/token";
    let object =
        json!({"kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1", "spec": {}});
    let answer = hub.post(path, &object).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text());
    assert_eq!(
        answer.json()["status"],
        json!({"for": "robot", "by": "admin"})
    );
    assert_eq!(hub.get(path).await.refusal().0, 405);
}

#[tokio::test]
async fn unknown_and_duplicate_fields_are_warned_of() {
    let hub = fixture();
    let body = r#"{"metadata":{"name":"w"},"spec":{"unknown":1,"replicas":1,"replicas":2}}"#;
    let answer = hub.send("POST", DEPLOYMENTS, JSON, body).await;
    assert_eq!(answer.status, StatusCode::CREATED);
    let warnings: Vec<_> = answer
        .headers
        .get_all("warning")
        .iter()
        .map(|v| v.to_str().unwrap())
        .collect();
    assert_eq!(
        warnings,
        [
            "299 - \"duplicate field \\\"spec.replicas\\\"\"",
            "299 - \"unknown field \\\"spec.unknown\\\"\"",
        ]
    );
    let strict = format!("{DEPLOYMENTS}?fieldValidation=Strict");
    let (code, message) = hub.send("POST", &strict, JSON, body).await.refusal();
    assert_eq!(code, 400);
    assert!(
        message.contains("strict decoding error: duplicate field \"spec.replicas\""),
        "{message}"
    );
    let ignore = format!("{DEPLOYMENTS}?fieldValidation=Ignore");
    let quiet = hub
        .send(
            "POST",
            &ignore,
            JSON,
            r#"{"metadata":{"name":"v","name":"u"}}"#,
        )
        .await;
    assert_eq!(quiet.header("warning"), "");
}

#[tokio::test]
async fn a_delete_says_what_is_gone() {
    let hub = fixture();
    hub.deploy("web").await;
    let path = format!("{DEPLOYMENTS}/web");
    let wrong = json!({"kind": "DeleteOptions", "preconditions": {"uid": "other"}});
    assert_eq!(
        hub.send("DELETE", &path, JSON, wrong.to_string())
            .await
            .refusal()
            .0,
        409
    );
    let answer = hub.send("DELETE", &path, &[], "").await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(
        answer.json(),
        json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success",
            "details": {"name": "web", "group": "apps", "kind": "deployments", "uid": "uid-web"},
        })
    );
    assert_eq!(hub.send("DELETE", &path, &[], "").await.refusal().0, 404);
}

#[tokio::test]
async fn a_delete_that_finalizers_hold_answers_with_the_object() {
    let hub = fixture();
    let mut object = widget("w");
    object["metadata"]["finalizers"] = json!(["example.com/hold"]);
    hub.post(WIDGETS, &object).await;
    let answer = hub.send("DELETE", &format!("{WIDGETS}/w"), &[], "").await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.json()["kind"], "Widget");
    assert!(answer.json()["metadata"]["deletionTimestamp"].is_string());
}

#[tokio::test]
async fn the_body_of_a_delete_must_be_delete_options() {
    let hub = fixture();
    hub.deploy("web").await;
    let path = format!("{DEPLOYMENTS}/web");
    let (code, message) = hub
        .send("DELETE", &path, JSON, deployment("web").to_string())
        .await
        .refusal();
    assert_eq!(code, 400);
    assert!(message.contains("DeleteOptions"), "{message}");
    assert_eq!(hub.send("DELETE", &path, JSON, "{").await.refusal().0, 400);
}

#[tokio::test]
async fn a_collection_is_deleted_by_selector() {
    let hub = fixture();
    for name in ["a", "b", "c"] {
        hub.deploy(name).await;
    }
    let path = format!("{DEPLOYMENTS}?labelSelector=app!%3Db");
    let gone = hub.send("DELETE", &path, &[], "").await.json();
    assert_eq!(gone["kind"], "DeploymentList");
    assert_eq!(gone["items"].as_array().unwrap().len(), 2);
    let left = hub.get(DEPLOYMENTS).await.json();
    assert_eq!(left["items"].as_array().unwrap().len(), 1);
}

#[rstest]
#[case(
    "POST",
    "/clusters/a/apis/apps/v1/namespaces/ns/deployments/web",
    "GET, HEAD, POST, PUT, PATCH, DELETE"
)]
#[case(
    "POST",
    "/clusters/a/apis/apps/v1/deployments",
    "GET, HEAD, POST, PUT, PATCH, DELETE"
)]
#[case(
    "DELETE",
    "/clusters/a/apis/apps/v1/deployments",
    "GET, HEAD, POST, PUT, PATCH, DELETE"
)]
#[case(
    "PUT",
    "/clusters/a/apis/apps/v1/namespaces/ns/deployments",
    "GET, HEAD, POST, PUT, PATCH, DELETE"
)]
#[case(
    "PATCH",
    "/clusters/a/apis/apps/v1/namespaces/ns/deployments",
    "GET, HEAD, POST, PUT, PATCH, DELETE"
)]
#[case(
    "GET",
    "/clusters/a/apis/authorization.k8s.io/v1/subjectaccessreviews",
    "POST"
)]
#[case(
    "DELETE",
    "/clusters/a/apis/apps/v1/namespaces/ns/deployments/web/status",
    "GET, HEAD, PUT, PATCH"
)]
#[case(
    "POST",
    "/clusters/a/apis/fleet.example.com/v1/namespaces/ns/sums",
    "GET, HEAD"
)]
#[case(
    "PUT",
    "/clusters/a/apis/fleet.example.com/v1/namespaces/ns/sums/s/status",
    "GET, HEAD"
)]
#[tokio::test]
async fn a_verb_that_is_not_offered_is_405_and_names_the_others(
    #[case] method: &str,
    #[case] path: &str,
    #[case] allow: &str,
) {
    let answer = fixture().send(method, path, &[], "{}").await;
    let (code, message) = answer.refusal();
    assert_eq!(code, 405);
    assert_eq!(
        message,
        "the server does not allow this method on the requested resource"
    );
    assert_eq!(answer.header("allow"), allow);
}

#[tokio::test]
async fn what_typed_clients_send_is_read() {
    use base64::Engine;
    let hub = fixture();
    // `kubectl create namespace foo`, version 1.36.
    let sent = "azhzAAoPCgJ2MRIJTmFtZXNwYWNlEhsKEwoDZm9vEgAaACIAKgAyADgAQgASABoCCgAaACIA";
    let sent = base64::engine::general_purpose::STANDARD
        .decode(sent)
        .unwrap();
    let headers = [
        ("content-type", "application/vnd.kubernetes.protobuf"),
        (
            "accept",
            "application/vnd.kubernetes.protobuf,application/json",
        ),
    ];
    let answer = hub
        .send(
            "POST",
            "/clusters/a/api/v1/namespaces",
            &headers,
            sent.clone(),
        )
        .await;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text());
    assert_eq!(answer.json()["metadata"]["name"], "foo");
    let elsewhere = hub.send("POST", DEPLOYMENTS, &headers, sent.clone()).await;
    assert_eq!(elsewhere.refusal().0, 400);
    let broken = hub
        .send("POST", DEPLOYMENTS, &headers, sent[..9].to_vec())
        .await;
    assert_eq!(broken.refusal().0, 400);
    let custom = hub.send("POST", WIDGETS, &headers, &b"k8s\0"[..]).await;
    assert_eq!(custom.refusal().0, 415);
}
