use http::StatusCode;
use rstest::rstest;
use serde_json::{Value, json};
use tmc_server::Config;

use crate::harness::{
    Answer, DEPLOYMENTS, Fixture, WIDGETS, deployment, fixture, widget, with_config,
};

const JSON: &str = "application/json-patch+json";
const MERGE: &str = "application/merge-patch+json";
const STRATEGIC: &str = "application/strategic-merge-patch+json";
const APPLY: &str = "application/apply-patch+yaml";

async fn patch(hub: &Fixture, path: &str, media: &str, patch: &Value) -> Answer {
    hub.send("PATCH", path, &[("content-type", media)], patch.to_string())
        .await
}

fn web() -> String {
    format!("{DEPLOYMENTS}/web")
}

#[rstest]
#[case(JSON, json!([{"op": "replace", "path": "/spec/replicas", "value": 7}]))]
#[case(MERGE, json!({"spec": {"replicas": 7}}))]
#[case(STRATEGIC, json!({"spec": {"replicas": 7}}))]
#[tokio::test]
async fn each_type_of_patch_changes_the_object(#[case] media: &str, #[case] change: Value) {
    let hub = fixture();
    hub.deploy("web").await;
    let answer = patch(&hub, &web(), media, &change).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    assert_eq!(answer.json()["spec"]["replicas"], 7);
    assert_eq!(answer.json()["metadata"]["labels"]["app"], "web");
}

#[tokio::test]
async fn a_patch_is_tried_again_while_others_write() {
    let hub = fixture();
    hub.deploy("web").await;
    hub.store.fail_updates(4);
    let change = json!({"spec": {"replicas": 2}});
    assert_eq!(patch(&hub, &web(), MERGE, &change).await.status, 200);
    hub.store.fail_updates(5);
    assert_eq!(patch(&hub, &web(), MERGE, &change).await.refusal().0, 409);
}

#[tokio::test]
async fn a_patch_that_pins_a_stale_version_is_409_at_once() {
    let hub = fixture();
    hub.deploy("web").await;
    let change = json!({"metadata": {"resourceVersion": "999"}, "spec": {"replicas": 2}});
    assert_eq!(patch(&hub, &web(), MERGE, &change).await.refusal().0, 409);
    let change = json!({"metadata": {"resourceVersion": "1"}, "spec": {"replicas": 2}});
    assert_eq!(patch(&hub, &web(), MERGE, &change).await.status, 200);
}

#[rstest]
#[case(json!({"apiVersion": "apps/v2"}), "apiVersion")]
#[case(json!({"kind": "Pod"}), "kind")]
#[case(json!({"metadata": {"name": "other"}}), "name on the URL (web)")]
#[case(json!({"metadata": {"namespace": "other"}}), "namespace")]
#[case(json!({"metadata": null}), "metadata is gone")]
#[tokio::test]
async fn a_patch_cannot_make_another_object(#[case] change: Value, #[case] why: &str) {
    let hub = fixture();
    hub.deploy("web").await;
    let (code, message) = patch(&hub, &web(), MERGE, &change).await.refusal();
    assert_eq!(code, 400);
    assert!(message.contains(why), "{message}");
}

#[tokio::test]
async fn a_patch_of_another_uid_is_409() {
    let hub = fixture();
    hub.deploy("web").await;
    let change = json!({"metadata": {"uid": "other"}});
    assert_eq!(patch(&hub, &web(), MERGE, &change).await.refusal().0, 409);
}

#[tokio::test]
async fn a_patch_of_what_is_not_there_is_404() {
    let hub = fixture();
    assert_eq!(
        patch(&hub, &web(), MERGE, &json!({})).await.refusal().0,
        404
    );
}

#[tokio::test]
async fn a_custom_resource_takes_no_strategic_patch() {
    let hub = fixture();
    hub.post(WIDGETS, &widget("w")).await;
    let path = format!("{WIDGETS}/w");
    let (code, message) = patch(&hub, &path, STRATEGIC, &json!({})).await.refusal();
    assert_eq!(code, 415);
    assert!(
        message.ends_with("application/json-patch+json, application/merge-patch+json"),
        "{message}"
    );
    assert_eq!(
        patch(&hub, &path, "application/json", &json!({}))
            .await
            .refusal()
            .0,
        415
    );
}

#[tokio::test]
async fn server_side_apply_is_415_with_a_remedy() {
    let hub = fixture();
    hub.deploy("web").await;
    let (code, message) = patch(
        &hub,
        &format!("{}?fieldManager=me", web()),
        APPLY,
        &deployment("web"),
    )
    .await
    .refusal();
    assert_eq!(code, 415);
    assert!(message.contains("without --server-side"), "{message}");
}

#[tokio::test]
async fn a_patch_of_ten_thousand_and_one_operations_is_413() {
    let hub = fixture();
    hub.deploy("web").await;
    let one = json!({"op": "test", "path": "/kind", "value": "Deployment"});
    let (code, message) = patch(&hub, &web(), JSON, &json!(vec![one.clone(); 10_001]))
        .await
        .refusal();
    assert_eq!(code, 413);
    assert!(message.contains("10000"), "{message}");
    assert_eq!(
        patch(&hub, &web(), JSON, &json!(vec![one; 10_000]))
            .await
            .status,
        200
    );
}

#[rstest]
#[case(JSON, "{}", 400)]
#[case(JSON, "nonsense", 400)]
#[case(JSON, r#"[{"op":"replace","path":"","value":3}]"#, 422)]
#[case(JSON, r#"[{"op":"remove","path":"/spec/none"}]"#, 422)]
#[case(JSON, r#"[{"op":"test","path":"/kind","value":"Pod"}]"#, 422)]
#[case(MERGE, "[]", 400)]
#[case(MERGE, "", 400)]
#[case(STRATEGIC, "7", 400)]
#[tokio::test]
async fn a_broken_patch_is_refused(
    #[case] media: &str,
    #[case] body: &'static str,
    #[case] code: u16,
) {
    let hub = fixture();
    hub.deploy("web").await;
    let answer = hub
        .send("PATCH", &web(), &[("content-type", media)], body)
        .await;
    assert_eq!(answer.refusal().0, code, "{}", answer.text());
}

#[tokio::test]
async fn force_is_only_for_apply() {
    let hub = fixture();
    hub.deploy("web").await;
    let path = format!("{}?force=true", web());
    assert_eq!(patch(&hub, &path, MERGE, &json!({})).await.refusal().0, 422);
}

#[tokio::test]
async fn status_and_scale_are_patched_apart() {
    let hub = fixture();
    hub.deploy("web").await;
    let change = json!({"status": {"replicas": 3}, "spec": {"replicas": 100}});
    let answer = patch(&hub, &format!("{}/status", web()), MERGE, &change)
        .await
        .json();
    assert_eq!(
        (&answer["status"]["replicas"], &answer["spec"]["replicas"]),
        (&json!(3), &json!(1))
    );
    hub.store.fail_updates(1);
    for media in [MERGE, STRATEGIC] {
        let answer = patch(
            &hub,
            &format!("{}/scale", web()),
            media,
            &json!({"spec": {"replicas": 6}}),
        )
        .await;
        assert_eq!(answer.json()["kind"], "Scale", "{}", answer.text());
    }
    assert_eq!(hub.get(&web()).await.json()["spec"]["replicas"], 6);
}

#[tokio::test]
async fn duplicate_fields_of_a_patch_are_refused_when_strict() {
    let hub = fixture();
    hub.deploy("web").await;
    let path = format!("{}?fieldValidation=Strict", web());
    let body = r#"{"spec":{"replicas":1,"replicas":2}}"#;
    let answer = hub
        .send("PATCH", &path, &[("content-type", MERGE)], body)
        .await;
    assert_eq!(answer.refusal().0, 400);
}

fn member() -> Fixture {
    with_config(Config {
        apply_as_merge: true,
        ..Config::default()
    })
}

#[tokio::test]
async fn a_simulated_member_takes_an_apply_as_a_forced_merge() {
    let hub = member();
    let path = format!("{}?fieldManager=syncer&force=true", web());
    let mut object = deployment("web");
    object["status"] = json!({"replicas": 9});
    object["metadata"]["managedFields"] = json!([{}]);
    let made = patch(&hub, &path, APPLY, &object).await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.text());
    assert_eq!(made.json()["status"], Value::Null);
    assert_eq!(made.json()["metadata"]["managedFields"], Value::Null);
    object["spec"]["replicas"] = 3.into();
    let merged = patch(&hub, &path, APPLY, &object).await;
    assert_eq!(merged.status, StatusCode::OK);
    assert_eq!(merged.json()["spec"]["replicas"], 3);
    let yaml =
        "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: web\nspec:\n  paused: true\n";
    let merged = hub
        .send("PATCH", &path, &[("content-type", APPLY)], yaml)
        .await
        .json();
    assert_eq!(
        (&merged["spec"]["paused"], &merged["spec"]["replicas"]),
        (&json!(true), &json!(3))
    );
}

#[tokio::test]
async fn an_apply_needs_a_manager_and_the_name_of_the_path() {
    let hub = member();
    assert_eq!(
        patch(&hub, &web(), APPLY, &deployment("web"))
            .await
            .refusal()
            .0,
        422
    );
    let path = format!("{}?fieldManager=syncer", web());
    assert_eq!(
        patch(&hub, &path, APPLY, &deployment("other"))
            .await
            .refusal()
            .0,
        400
    );
    let mut wrong = deployment("web");
    wrong["kind"] = "Pod".into();
    assert_eq!(patch(&hub, &path, APPLY, &wrong).await.refusal().0, 400);
    let status = format!("{}/status?fieldManager=syncer", web());
    assert_eq!(
        patch(&hub, &status, APPLY, &deployment("web"))
            .await
            .refusal()
            .0,
        404
    );
}
