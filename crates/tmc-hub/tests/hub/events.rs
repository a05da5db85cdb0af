use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde_json::{Value, json};
use tmc_hub::storage::{Extracted, Layout, Store};
use tmc_runtime::ResourceClient;

use crate::support::{AheadClock, TestHub, eventually, start_on};

fn events(hub: &TestHub) -> ResourceClient {
    hub.admin("/clusters/root", "", "v1", "events")
}

fn event(name: &str, seen: Option<&str>) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Event", "metadata": {"name": name, "namespace": "default"},
        "involvedObject": {"kind": "Namespace", "name": "default", "namespace": "default"},
        "reason": "Tested", "message": "seen", "type": "Normal", "lastTimestamp": seen,
    })
}

#[tokio::test]
async fn events_of_an_hour_ago_are_gone_and_those_seen_since_are_not() {
    let engine = Box::new(tmc_store::engine::Memory::default());
    let store = Store::open(engine, |_, value| Extracted::of(value), Default::default()).unwrap();
    let clock = Arc::new(AheadClock::default());
    let hub = start_on(store.clone(), Layout::Workspaces, clock.clone()).await;
    let soon = jiff::Timestamp::now() + jiff::SignedDuration::from_mins(50);
    let soon = soon.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    for event in [event("old", None), event("seen-again", Some(&soon))] {
        events(&hub).create("default", &event).await.unwrap();
    }
    drop(hub);
    clock.0.store(61 * 60, Ordering::SeqCst);
    let hub = start_on(store, Layout::Workspaces, clock).await;
    events(&hub)
        .create("default", &event("new", None))
        .await
        .unwrap();
    eventually(|| async { events(&hub).get("default", "old").await.is_err() }).await;
    for kept in ["seen-again", "new"] {
        assert!(events(&hub).get("default", kept).await.is_ok(), "{kept}");
    }
}
