use http::StatusCode;
use rstest::rstest;

use crate::harness::{fixture, not_ready};

const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,\
     application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json";

#[rstest]
#[case("/clusters/a/api", "APIVersions")]
#[case("/clusters/a/api/", "APIVersions")]
#[case("/clusters/a/apis", "APIGroupList")]
#[case("/clusters/a/apis/apps", "APIGroup")]
#[case("/clusters/a/apis/apps/v1", "APIResourceList")]
#[case("/clusters/a/api/v1", "APIResourceList")]
#[case("/clusters/*/apis/apps/v1", "APIResourceList")]
#[tokio::test]
async fn every_discovery_path_gives_its_document(#[case] path: &str, #[case] kind: &str) {
    let answer = fixture().get(path).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    assert_eq!(answer.json()["kind"], kind);
    assert_eq!(answer.header("content-type"), "application/json");
}

#[rstest]
#[case("/clusters/a/apis/none")]
#[case("/clusters/a/apis/apps/v9")]
#[case("/clusters/a/api/v9")]
#[case("/clusters/a/openapi/v2")]
#[case("/clusters/a/openapi/v3/apis/none/v1")]
#[case("/clusters/a/swagger.json")]
#[tokio::test]
async fn what_is_not_served_has_no_document(#[case] path: &str) {
    assert_eq!(fixture().get(path).await.refusal().0, 404);
}

#[tokio::test]
async fn aggregated_discovery_is_negotiated() {
    let hub = fixture();
    for path in ["/clusters/a/api", "/clusters/a/apis"] {
        let answer = hub.send("GET", path, &[("accept", AGGREGATED)], "").await;
        assert_eq!(answer.json()["kind"], "APIGroupDiscoveryList");
        assert_eq!(
            answer.header("content-type"),
            "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
        );
        assert_eq!(answer.header("vary"), "Accept");
    }
    let text = hub
        .send("GET", "/clusters/a/apis", &[("accept", AGGREGATED)], "")
        .await
        .text();
    assert!(
        text.contains("deployments") && text.contains("widgets"),
        "{text}"
    );
}

#[tokio::test]
async fn a_client_that_has_a_document_gets_304() {
    let hub = fixture();
    for (path, accept) in [
        ("/clusters/a/apis", AGGREGATED),
        ("/clusters/a/apis/apps/v1", "application/json"),
        ("/clusters/a/openapi/v3", "application/json"),
        ("/clusters/a/openapi/v3/apis/apps/v1", "application/json"),
    ] {
        let first = hub.send("GET", path, &[("accept", accept)], "").await;
        let tag = first.header("etag").to_owned();
        assert!(tag.starts_with('"') && tag.len() == 66, "{path}: {tag}");
        let headers = [("accept", accept), ("if-none-match", tag.as_str())];
        let again = hub.send("GET", path, &headers, "").await;
        assert_eq!(
            (again.status, again.body.len()),
            (StatusCode::NOT_MODIFIED, 0),
            "{path}"
        );
        assert_eq!(again.header("etag"), tag);
        let other = hub
            .send(
                "GET",
                path,
                &[("accept", accept), ("if-none-match", "\"x\"")],
                "",
            )
            .await;
        assert_eq!(other.status, StatusCode::OK);
    }
}

#[tokio::test]
async fn the_openapi_index_names_documents_that_are_there_under_their_hash() {
    let hub = fixture();
    let index = hub.get("/clusters/a/openapi/v3").await.json();
    let url = index["paths"]["apis/apps/v1"]["serverRelativeURL"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(url.starts_with("/openapi/v3/apis/apps/v1?hash="), "{url}");
    let document = hub.get(&format!("/clusters/a{url}")).await;
    assert!(document.json()["components"]["schemas"].is_object());
    assert_eq!(document.header("cache-control"), "public, immutable");
    let stale = hub
        .get("/clusters/a/openapi/v3/apis/apps/v1?hash=OLD")
        .await;
    assert_eq!(
        (stale.status, stale.header("cache-control")),
        (StatusCode::OK, "no-cache, private")
    );
}

#[tokio::test]
async fn discovery_is_read_only() {
    let hub = fixture();
    for path in ["/clusters/a/apis", "/clusters/a/version", "/clusters/a"] {
        assert_eq!(
            hub.send("POST", path, &[], "{}").await.refusal().0,
            405,
            "{path}"
        );
    }
}

#[tokio::test]
async fn the_version_and_the_root_are_served() {
    let hub = fixture();
    let version = hub.get("/clusters/a/version").await.json();
    assert_eq!(
        (&version["major"], &version["minor"]),
        (&"1".into(), &"36".into())
    );
    assert!(
        version["gitVersion"]
            .as_str()
            .unwrap()
            .starts_with("v1.36.0+tmc-")
    );
    for root in ["/clusters/a", "/clusters/a/"] {
        let paths = hub.get(root).await.json();
        let paths: Vec<_> = paths["paths"]
            .as_array()
            .unwrap()
            .iter()
            .map(|p| p.as_str().unwrap())
            .collect();
        assert!(
            paths.contains(&"/apis/apps/v1") && paths.contains(&"/api/v1"),
            "{paths:?}"
        );
    }
}

#[tokio::test]
async fn yaml_discovery_can_be_had() {
    let answer = fixture()
        .send(
            "GET",
            "/clusters/a/apis",
            &[("accept", "application/yaml")],
            "",
        )
        .await;
    assert!(
        answer.text().contains("kind: APIGroupList"),
        "{}",
        answer.text()
    );
}

#[tokio::test]
async fn health_is_open_to_everybody_and_lists_its_checks() {
    let hub = fixture();
    for path in [
        "/livez",
        "/readyz",
        "/healthz",
        "/livez/ping",
        "/readyz/fake",
    ] {
        let answer = hub.outside("GET", path, &[]).await;
        assert_eq!(
            (answer.status, answer.text().as_str()),
            (StatusCode::OK, "ok"),
            "{path}"
        );
    }
    let verbose = hub.outside("GET", "/readyz?verbose", &[]).await.text();
    assert_eq!(verbose, "[+]ping ok\n[+]fake ok\nreadyz check passed\n");
    assert_eq!(
        hub.outside("GET", "/readyz/none", &[]).await.refusal().0,
        404
    );
    assert_eq!(hub.outside("POST", "/readyz", &[]).await.refusal().0, 405);
    assert_eq!(hub.get("/clusters/a/readyz").await.text(), "ok");
}

#[tokio::test]
async fn a_surface_that_is_not_ready_fails_readiness_and_not_liveness() {
    let hub = not_ready();
    let answer = hub.outside("GET", "/readyz", &[]).await;
    assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(
        answer.text().contains("[-]fake failed: still loading"),
        "{}",
        answer.text()
    );
    assert_eq!(
        hub.outside("GET", "/livez", &[]).await.status,
        StatusCode::OK
    );
}

#[tokio::test]
async fn metrics_are_for_masters() {
    let hub = fixture();
    hub.get("/clusters/a/apis/apps/v1/deployments").await;
    let metrics = hub.get_metrics().await;
    let line = "apiserver_request_total{surface=\"fake\",verb=\"list\",group=\"apps\",resource=\"deployments\",code=\"200\"} 1";
    assert!(metrics.contains(line), "{metrics}");
    assert!(metrics.contains("apiserver_request_duration_seconds_bucket"));
    assert_eq!(
        hub.get("/metrics").await.refusal(),
        (
            403,
            "forbidden: User \"admin\" cannot get path \"/metrics\"".into()
        )
    );
}
