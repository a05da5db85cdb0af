use futures::StreamExt;
use serde_json::json;
use tmc_apimachinery::meta::meta;
use tmc_runtime::client::{DeleteParams, ListParams, PatchKind, WatchEvent, WatchParams};

use crate::support::{configmap, start};

fn name(event: &WatchEvent) -> (&'static str, String) {
    match event {
        WatchEvent::Added(o) => ("ADDED", meta(o).name().to_owned()),
        WatchEvent::Modified(o) => ("MODIFIED", meta(o).name().to_owned()),
        WatchEvent::Deleted(o) => ("DELETED", meta(o).name().to_owned()),
        WatchEvent::Bookmark(_) => ("BOOKMARK", String::new()),
    }
}

#[tokio::test]
async fn a_watch_goes_on_where_its_list_ended() {
    let hub = start().await;
    let client = hub.configmaps("/clusters/root");
    client
        .create("default", &configmap("before"))
        .await
        .unwrap();
    let list = client.list("", &ListParams::default()).await.unwrap();
    let version = meta(&list).resource_version().to_owned();
    client.create("default", &configmap("after")).await.unwrap();
    let params = WatchParams {
        resource_version: version,
        ..WatchParams::default()
    };
    let mut watch = client.watch("", &params).await.unwrap();
    client
        .delete("default", "before", &DeleteParams::default())
        .await
        .unwrap();
    assert_eq!(
        name(&watch.next().await.unwrap().unwrap()),
        ("ADDED", "after".into())
    );
    let deleted = watch.next().await.unwrap().unwrap();
    assert_eq!(name(&deleted), ("DELETED", "before".into()));
    let WatchEvent::Deleted(last) = deleted else {
        panic!()
    };
    let version: u64 = meta(&last).resource_version().parse().unwrap();
    assert_eq!(
        version,
        hub.hub.revision(),
        "a deletion carries its own revision"
    );
}

#[tokio::test]
async fn leaving_a_selection_is_a_deletion_and_entering_it_an_addition() {
    let hub = start().await;
    let client = hub.configmaps("/clusters/root");
    client.create("default", &configmap("a")).await.unwrap();
    let params = WatchParams {
        labels: "on=yes".into(),
        ..WatchParams::default()
    };
    let mut watch = client.watch("", &params).await.unwrap();
    let label = |value: serde_json::Value| json!({"metadata": {"labels": {"on": value}}});
    for value in [json!("yes"), json!("no"), json!("yes"), json!(null)] {
        client
            .patch("default", "a", "", PatchKind::Merge, &label(value))
            .await
            .unwrap();
    }
    let mut kinds = Vec::new();
    while kinds.len() < 4 {
        kinds.push(name(&watch.next().await.unwrap().unwrap()).0);
    }
    assert_eq!(kinds, ["ADDED", "DELETED", "ADDED", "DELETED"]);
}

#[tokio::test]
async fn streaming_a_list_ends_with_the_marked_bookmark() {
    let hub = start().await;
    let client = hub.configmaps("/clusters/root");
    client.create("default", &configmap("a")).await.unwrap();
    let params = WatchParams {
        send_initial_events: true,
        ..WatchParams::default()
    };
    let mut watch = client.watch("", &params).await.unwrap();
    assert_eq!(
        name(&watch.next().await.unwrap().unwrap()),
        ("ADDED", "a".into())
    );
    let WatchEvent::Bookmark(end) = watch.next().await.unwrap().unwrap() else {
        panic!()
    };
    assert_eq!(
        meta(&end).annotation("k8s.io/initial-events-end"),
        Some("true")
    );
}

#[tokio::test]
async fn a_version_from_the_future_is_refused() {
    let hub = start().await;
    let client = hub.configmaps("/clusters/root");
    let params = WatchParams {
        resource_version: "999999".into(),
        ..WatchParams::default()
    };
    let error = match client.watch("", &params).await {
        Ok(mut watch) => watch.next().await.unwrap().unwrap_err(),
        Err(error) => error,
    };
    assert!(
        error.to_string().contains("Too large resource version"),
        "{error}"
    );
}
