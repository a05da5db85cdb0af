use std::time::Duration;

use http::StatusCode;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tmc_server::Config;
use tower::ServiceExt;

use crate::harness::{
    DEPLOYMENTS, Events, Fixture, WIDGETS, deployment, fixture, request, stoppable, widget,
};

async fn open(hub: &Fixture, path: &str, headers: &[(&str, &str)]) -> Events {
    Events::new(
        hub.admin()
            .oneshot(request("GET", path, headers, ""))
            .await
            .unwrap(),
    )
}

fn seen(event: &Value) -> (&str, &str) {
    (
        event["type"].as_str().unwrap(),
        event["object"]["metadata"]["name"].as_str().unwrap_or(""),
    )
}

#[tokio::test]
async fn a_watch_sends_what_is_there_and_then_what_changes() {
    let hub = fixture();
    hub.deploy("old").await;
    let mut events = open(&hub, &format!("{DEPLOYMENTS}?watch=true"), &[]).await;
    assert_eq!(seen(&events.next().await.unwrap()), ("ADDED", "old"));
    let made = hub.deploy("new").await;
    let added = events.next().await.unwrap();
    assert_eq!(seen(&added), ("ADDED", "new"));
    assert_eq!(added["object"], made);
    hub.send("DELETE", &format!("{DEPLOYMENTS}/old"), &[], "")
        .await;
    let deleted = events.next().await.unwrap();
    assert_eq!(seen(&deleted), ("DELETED", "old"));
    assert_eq!(deleted["object"]["metadata"]["resourceVersion"], "3");
}

#[tokio::test]
async fn a_watch_goes_on_from_a_version_and_large_objects_arrive_whole() {
    let hub = fixture();
    hub.deploy("one").await;
    let mut big = deployment("big");
    big["metadata"]["annotations"] = json!({"filler": "x".repeat(100_000)});
    hub.post(DEPLOYMENTS, &big).await;
    let mut events = open(
        &hub,
        &format!("{DEPLOYMENTS}?watch=1&resourceVersion=1"),
        &[],
    )
    .await;
    let event = events.next().await.unwrap();
    assert_eq!(seen(&event), ("ADDED", "big"));
    assert_eq!(
        event["object"]["metadata"]["annotations"]["filler"]
            .as_str()
            .unwrap()
            .len(),
        100_000
    );
}

#[tokio::test]
async fn a_watch_of_all_clusters_sees_all() {
    let hub = fixture();
    let mut events = open(
        &hub,
        "/clusters/*/apis/example.com/v1/widgets?watch=true",
        &[],
    )
    .await;
    hub.post(WIDGETS, &widget("a")).await;
    hub.post(&WIDGETS.replace("/a/", "/b/"), &widget("b")).await;
    assert_eq!(seen(&events.next().await.unwrap()), ("ADDED", "a"));
    assert_eq!(seen(&events.next().await.unwrap()), ("ADDED", "b"));
}

#[tokio::test]
async fn one_object_can_be_watched_in_the_old_way() {
    let hub = fixture();
    hub.deploy("a").await;
    hub.deploy("b").await;
    let path = "/clusters/a/apis/apps/v1/watch/namespaces/ns/deployments/b";
    let mut events = open(&hub, path, &[]).await;
    assert_eq!(seen(&events.next().await.unwrap()), ("ADDED", "b"));
}

#[tokio::test]
async fn a_table_has_its_columns_in_the_first_event_only() {
    let hub = fixture();
    hub.deploy("a").await;
    let accept = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")];
    let mut events = open(&hub, &format!("{DEPLOYMENTS}?watch=true"), &accept).await;
    let first = events.next().await.unwrap();
    assert_eq!(first["object"]["kind"], "Table");
    assert_eq!(
        first["object"]["columnDefinitions"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
    assert_eq!(first["object"]["rows"][0]["cells"], json!(["a", 1]));
    hub.deploy("b").await;
    let second = events.next().await.unwrap();
    assert!(
        second["object"]["columnDefinitions"]
            .as_array()
            .is_none_or(Vec::is_empty),
        "{second}"
    );
    assert_eq!(second["object"]["rows"][0]["cells"][0], "b");
}

#[tokio::test]
async fn metadata_alone_can_be_watched_with_bookmarks() {
    let hub = fixture();
    hub.deploy("a").await;
    let accept = [(
        "accept",
        "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1",
    )];
    let path = format!("{DEPLOYMENTS}?watch=true&allowWatchBookmarks=true");
    let mut events = open(&hub, &path, &accept).await;
    let added = events.next().await.unwrap();
    assert_eq!(added["object"]["kind"], "PartialObjectMetadata");
    assert_eq!(added["object"]["spec"], Value::Null);
    let bookmark = events.next().await.unwrap();
    assert_eq!(bookmark["type"], "BOOKMARK");
    assert_eq!(
        bookmark["object"]["metadata"],
        json!({"resourceVersion": "1"})
    );
}

#[tokio::test(start_paused = true)]
async fn a_watch_ends_at_its_time() {
    let hub = fixture();
    let begun = tokio::time::Instant::now();
    let mut events = open(
        &hub,
        &format!("{DEPLOYMENTS}?watch=true&timeoutSeconds=7"),
        &[],
    )
    .await;
    assert_eq!(events.next().await, None);
    assert_eq!(begun.elapsed().as_secs(), 7);
    let mut events = open(&hub, &format!("{DEPLOYMENTS}?watch=true"), &[]).await;
    let begun = tokio::time::Instant::now();
    assert_eq!(events.next().await, None);
    let minutes = begun.elapsed().as_secs() / 60;
    assert!((30..=60).contains(&minutes), "{minutes}");
}

#[tokio::test]
async fn a_lost_position_is_an_error_event_whenever_it_is_noticed() {
    let hub = fixture();
    for name in ["a", "b"] {
        hub.deploy(name).await;
    }
    hub.store.compact();
    let broken = DEPLOYMENTS.replace("/ns/", "/broken/");
    for path in [
        format!("{DEPLOYMENTS}?watch=true&resourceVersion=1"),
        format!("{broken}?watch=true"),
    ] {
        let mut events = open(&hub, &path, &[]).await;
        let event = events.next().await.unwrap();
        assert_eq!(event["type"], "ERROR");
        assert_eq!(event["object"]["kind"], "Status");
        assert_eq!(
            (&event["object"]["code"], &event["object"]["reason"]),
            (&json!(410), &json!("Expired"))
        );
        assert_eq!(events.next().await, None);
    }
}

#[tokio::test]
async fn a_watch_that_panics_ends_with_an_error_event() {
    let hub = fixture();
    let path = format!("{}?watch=true", DEPLOYMENTS.replace("/ns/", "/panic/"));
    let mut events = open(&hub, &path, &[]).await;
    assert_eq!(events.next().await.unwrap()["object"]["code"], 500);
    assert_eq!(events.next().await, None);
}

#[tokio::test]
async fn a_watch_that_nobody_reads_any_more_is_dropped() {
    let hub = fixture();
    let events = open(&hub, &format!("{DEPLOYMENTS}?watch=true"), &[]).await;
    assert_eq!(hub.store.watchers(), 1);
    let metrics = hub.get_metrics().await;
    assert!(metrics.contains("apiserver_watches 1"), "{metrics}");
    drop(events);
    assert_eq!(hub.store.watchers(), 0);
    assert!(hub.get_metrics().await.contains("apiserver_watches 0"));
}

#[tokio::test]
async fn a_slow_reader_holds_up_nobody() {
    let hub = fixture();
    let mut slow = open(&hub, &format!("{DEPLOYMENTS}?watch=true"), &[]).await;
    let mut fast = open(&hub, &format!("{DEPLOYMENTS}?watch=true"), &[]).await;
    for index in 0..100 {
        hub.deploy(&format!("d{index}")).await;
        assert_eq!(seen(&fast.next().await.unwrap()).0, "ADDED");
    }
    for index in 0..100 {
        assert_eq!(seen(&slow.next().await.unwrap()).1, format!("d{index}"));
    }
}

#[tokio::test]
async fn a_watch_is_never_compressed_and_has_no_yaml() {
    let hub = fixture();
    let path = format!("{DEPLOYMENTS}?watch=true");
    let gzip = request("GET", &path, &[("accept-encoding", "gzip")], "");
    let response = hub.admin().oneshot(gzip).await.unwrap();
    assert!(!response.headers().contains_key("content-encoding"));
    assert_eq!(response.headers()["content-type"], "application/json");
    let yaml = hub
        .send("GET", &path, &[("accept", "application/yaml")], "")
        .await;
    assert_eq!(yaml.refusal().0, 406);
}

#[tokio::test]
async fn a_selector_that_is_not_supported_fails_before_the_stream() {
    let hub = fixture();
    let path = format!("{DEPLOYMENTS}?watch=true&fieldSelector=spec.x%3D1");
    assert_eq!(hub.get(&path).await.refusal().0, 400);
}

#[tokio::test(start_paused = true)]
async fn watches_end_when_the_server_stops_and_lines_are_whole() {
    let stop = tokio_util::sync::CancellationToken::new();
    let config = Config {
        watch_drain: Duration::from_secs(3),
        ..Config::default()
    };
    let hub = stoppable(config, stop.clone());
    hub.deploy("a").await;
    let mut events = open(&hub, &format!("{DEPLOYMENTS}?watch=true"), &[]).await;
    let begun = tokio::time::Instant::now();
    stop.cancel();
    assert_eq!(seen(&events.next().await.unwrap()), ("ADDED", "a"));
    assert_eq!(events.next().await, None);
    assert!(begun.elapsed() <= Duration::from_secs(3));
}

#[tokio::test]
async fn the_head_of_a_watch_comes_before_its_first_event() {
    let hub = fixture();
    let quiet = request("GET", &format!("{DEPLOYMENTS}?watch=true"), &[], "");
    let mut response = hub.admin().oneshot(quiet).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let frame = tokio::time::timeout(Duration::from_millis(20), response.body_mut().frame()).await;
    assert!(frame.is_err(), "nothing happened, nothing is sent");
}
