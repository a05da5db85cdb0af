use http::StatusCode;
use rstest::rstest;
use serde_json::{Value, json};

use crate::harness::{DEPLOYMENTS, WIDGETS, deployment, fixture, widget};

const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,\
                     application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";

#[tokio::test]
async fn an_object_is_read_as_it_is_stored() {
    let hub = fixture();
    let made = hub.deploy("web").await;
    let answer = hub.get(&format!("{DEPLOYMENTS}/web")).await;
    assert_eq!(answer.json(), made);
    assert_eq!(answer.header("content-type"), "application/json");
    assert_eq!(answer.header("audit-id").len(), 36);
}

#[tokio::test]
async fn what_is_not_there_is_404_with_details() {
    let hub = fixture();
    let answer = hub.get(&format!("{DEPLOYMENTS}/web")).await;
    assert_eq!(
        answer.refusal(),
        (404, "deployments.apps \"web\" not found".into())
    );
    assert_eq!(
        answer.json()["details"],
        json!({"name": "web", "group": "apps", "kind": "deployments"})
    );
}

#[rstest]
#[case("/clusters/a/apis/apps/v1/namespaces/ns/nothings")]
#[case("/clusters/a/apis/apps/v2/namespaces/ns/deployments")]
#[case("/clusters/a/apis/apps/v1/deployments/web")]
#[case("/clusters/a/apis/example.com/v1/namespaces/ns/widgets")]
#[case("/clusters/a/apis/apps/v1/namespaces/ns/deployments/web/exec")]
#[case("/clusters/a/apis/example.com/v1/widgets/w/status")]
#[case("/clusters/gone/apis/apps/v1/deployments")]
#[tokio::test]
async fn a_path_that_serves_nothing_is_404(#[case] path: &str) {
    let (code, message) = fixture().get(path).await.refusal();
    assert_eq!(
        (code, message.as_str()),
        (404, "the server could not find the requested resource")
    );
}

#[tokio::test]
async fn a_namespace_object_is_stored_outside_itself() {
    let hub = fixture();
    let object = json!({"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": "ns"}});
    assert_eq!(
        hub.post("/clusters/a/api/v1/namespaces", &object)
            .await
            .status,
        201
    );
    let found = hub.get("/clusters/a/api/v1/namespaces/ns").await.json();
    assert_eq!(found["metadata"]["namespace"], Value::Null);
}

#[tokio::test]
async fn a_list_is_spliced_from_its_items() {
    let hub = fixture();
    for name in ["a", "b"] {
        hub.deploy(name).await;
    }
    let list = hub.get(DEPLOYMENTS).await.json();
    assert_eq!(list["kind"], "DeploymentList");
    assert_eq!(list["apiVersion"], "apps/v1");
    assert_eq!(list["metadata"], json!({"resourceVersion": "2"}));
    let names: Vec<_> = list["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|i| &i["metadata"]["name"])
        .collect();
    assert_eq!(names, ["a", "b"]);
    let empty = hub.get("/clusters/b/apis/apps/v1/deployments").await.json();
    assert_eq!(empty["items"], json!([]));
}

#[tokio::test]
async fn pages_carry_a_continue_token_and_what_remains() {
    let hub = fixture();
    for name in ["a", "b", "c"] {
        hub.deploy(name).await;
    }
    let first = hub.get(&format!("{DEPLOYMENTS}?limit=2")).await.json();
    assert_eq!(
        first["metadata"],
        json!({"resourceVersion": "3", "continue": "2", "remainingItemCount": 1})
    );
    let rest = hub
        .get(&format!("{DEPLOYMENTS}?limit=2&continue=2"))
        .await
        .json();
    assert_eq!(rest["items"].as_array().unwrap().len(), 1);
    assert_eq!(rest["metadata"], json!({"resourceVersion": "3"}));
}

#[tokio::test]
async fn selectors_select_and_bad_ones_are_400() {
    let hub = fixture();
    for name in ["a", "b"] {
        hub.deploy(name).await;
    }
    for query in ["labelSelector=app%3Db", "fieldSelector=metadata.name%3Db"] {
        let list = hub.get(&format!("{DEPLOYMENTS}?{query}")).await.json();
        assert_eq!(list["items"].as_array().unwrap().len(), 1, "{query}");
        assert_eq!(list["items"][0]["metadata"]["name"], "b");
    }
    let (code, message) = hub
        .get(&format!("{DEPLOYMENTS}?fieldSelector=spec.x%3D1"))
        .await
        .refusal();
    assert_eq!(code, 400);
    assert!(message.contains("spec.x"), "{message}");
    assert_eq!(
        hub.get(&format!("{DEPLOYMENTS}?labelSelector=(("))
            .await
            .refusal()
            .0,
        400
    );
}

#[tokio::test]
async fn odd_query_strings_of_clients_are_understood() {
    let hub = fixture();
    hub.deploy("web").await;
    for query in ["?", "?&limit=500", "?&", "?resourceVersion="] {
        let answer = hub.get(&format!("{DEPLOYMENTS}{query}")).await;
        assert_eq!(answer.status, StatusCode::OK, "{query}");
    }
}

#[tokio::test]
async fn a_table_is_made_of_columns_and_metadata() {
    let hub = fixture();
    hub.deploy("web").await;
    for path in [DEPLOYMENTS.to_owned(), format!("{DEPLOYMENTS}/web")] {
        let table = hub
            .send("GET", &path, &[("accept", TABLE)], "")
            .await
            .json();
        assert_eq!(table["kind"], "Table");
        assert_eq!(table["apiVersion"], "meta.k8s.io/v1");
        assert_eq!(table["metadata"]["resourceVersion"], "1");
        let columns: Vec<_> = table["columnDefinitions"]
            .as_array()
            .unwrap()
            .iter()
            .map(|c| &c["name"])
            .collect();
        assert_eq!(columns, ["Name", "Replicas"], "{table}");
        assert_eq!(table["rows"][0]["cells"], json!(["web", 1]));
        assert_eq!(table["rows"][0]["object"]["kind"], "PartialObjectMetadata");
    }
    let whole = format!("{DEPLOYMENTS}?includeObject=Object");
    let table = hub
        .send("GET", &whole, &[("accept", TABLE)], "")
        .await
        .json();
    assert_eq!(table["rows"][0]["object"]["kind"], "Deployment");
    let bad = format!("{DEPLOYMENTS}?includeObject=All");
    let (code, message) = hub
        .send("GET", &bad, &[("accept", TABLE)], "")
        .await
        .refusal();
    assert_eq!(code, 400);
    assert!(message.contains("includeObject"), "{message}");
}

#[tokio::test]
async fn metadata_alone_can_be_had() {
    let hub = fixture();
    let made = hub.deploy("web").await;
    let accept = [(
        "accept",
        "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1",
    )];
    let one = hub
        .send("GET", &format!("{DEPLOYMENTS}/web"), &accept, "")
        .await
        .json();
    let expected = json!({
        "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": made["metadata"],
    });
    assert_eq!(one, expected);
    let accept = [(
        "accept",
        "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1",
    )];
    let list = hub.send("GET", DEPLOYMENTS, &accept, "").await.json();
    assert_eq!(list["kind"], "PartialObjectMetadataList");
    assert_eq!(list["apiVersion"], "meta.k8s.io/v1");
    assert_eq!(list["items"], json!([expected]));
}

#[tokio::test]
async fn yaml_is_served_where_it_is_wanted() {
    let hub = fixture();
    let made = hub.deploy("web").await;
    for (path, kind) in [
        (format!("{DEPLOYMENTS}/web"), "Deployment"),
        (DEPLOYMENTS.into(), "DeploymentList"),
    ] {
        let answer = hub
            .send("GET", &path, &[("accept", "application/yaml")], "")
            .await;
        assert_eq!(answer.header("content-type"), "application/yaml");
        let read: Value = serde_saphyr::from_str(&answer.text()).unwrap();
        assert_eq!(read["kind"], kind);
        if kind == "Deployment" {
            assert_eq!(read, made);
        }
    }
}

#[rstest]
#[case("*/*", 200)]
#[case("application/*", 200)]
#[case("application/vnd.kubernetes.protobuf,application/json", 200)]
#[case("application/vnd.kubernetes.protobuf", 406)]
#[case("text/html", 406)]
#[case("application/json;q=0", 406)]
#[case("application/json;as=Table;v=v1;g=example.com", 406)]
#[tokio::test]
async fn what_cannot_be_served_is_406(#[case] accept: &str, #[case] code: u16) {
    let hub = fixture();
    let answer = hub
        .send("GET", DEPLOYMENTS, &[("accept", accept)], "")
        .await;
    assert_eq!(answer.status, code, "{accept}");
    if code == 406 {
        assert!(
            answer
                .refusal()
                .1
                .contains("application/json, application/yaml")
        );
    }
}

#[tokio::test]
async fn quality_values_order_what_a_client_accepts() {
    let hub = fixture();
    hub.post(WIDGETS, &widget("w")).await;
    let accept = [("accept", "application/json;q=0.5, application/yaml;q=0.9")];
    let answer = hub.send("GET", WIDGETS, &accept, "").await;
    assert_eq!(answer.header("content-type"), "application/yaml");
}

#[tokio::test]
async fn head_is_get_without_a_body() {
    let hub = fixture();
    hub.deploy("web").await;
    let answer = hub
        .send("HEAD", &format!("{DEPLOYMENTS}/web"), &[], "")
        .await;
    assert_eq!((answer.status, answer.body.len()), (StatusCode::OK, 0));
    let missing = hub
        .send("HEAD", &format!("{DEPLOYMENTS}/none"), &[], "")
        .await;
    assert_eq!(
        (missing.status, missing.body.len()),
        (StatusCode::NOT_FOUND, 0)
    );
}

#[tokio::test]
async fn the_wildcard_lists_every_cluster_and_does_nothing_else() {
    let hub = fixture();
    hub.deploy("web").await;
    let other = DEPLOYMENTS.replace("/a/", "/b/");
    hub.post(&other, &deployment("web")).await;
    let list = hub.get("/clusters/*/apis/apps/v1/deployments").await.json();
    assert_eq!(list["items"].as_array().unwrap().len(), 2);
    let named = "/clusters/*/apis/apps/v1/namespaces/ns/deployments/web";
    for (method, path) in [
        ("GET", named),
        ("PUT", named),
        ("PATCH", named),
        ("DELETE", named),
        ("POST", "/clusters/*/apis/apps/v1/namespaces/ns/deployments"),
        (
            "DELETE",
            "/clusters/*/apis/apps/v1/namespaces/ns/deployments",
        ),
    ] {
        let (code, message) = hub.send(method, path, &[], "").await.refusal();
        assert_eq!(code, 405, "{method} {path}");
        assert!(message.ends_with("in the `*` logical cluster"), "{message}");
    }
}

#[tokio::test]
async fn long_lists_are_compressed_for_those_who_accept_it() {
    let hub = fixture();
    for index in 0..40 {
        let mut object = deployment(&format!("d{index}"));
        object["metadata"]["annotations"] = json!({"filler": "x".repeat(8000)});
        hub.post(DEPLOYMENTS, &object).await;
    }
    let plain = hub.get(DEPLOYMENTS).await;
    assert!(plain.body.len() > 300_000);
    assert_eq!(plain.header("content-encoding"), "");
    let packed = hub
        .send("GET", DEPLOYMENTS, &[("accept-encoding", "gzip")], "")
        .await;
    assert_eq!(packed.header("content-encoding"), "gzip");
    let mut text = Vec::new();
    std::io::Read::read_to_end(
        &mut flate2::read::GzDecoder::new(&packed.body[..]),
        &mut text,
    )
    .unwrap();
    assert_eq!(text, plain.body);
}
