//! The informer against a scripted server.

use std::collections::VecDeque;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use kube::client::Body;
use parking_lot::Mutex;
use serde_json::json;
use tmc_apimachinery::{ApiError, GroupVersionResource};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tower::BoxError;

use super::*;
use crate::{Connection, Informer};

type Answer = Response<UnsyncBoxBody<Bytes, BoxError>>;

/// Answers given in turn; once they are used up a request waits for the next.
#[derive(Clone, Default)]
struct Script(
    Arc<Mutex<(VecDeque<Answer>, Vec<String>)>>,
    Arc<tokio::sync::Notify>,
);

impl Script {
    fn push(&self, answer: Answer) {
        self.0.lock().0.push_back(answer);
        self.1.notify_one();
    }

    fn list(&self, version: &str, continue_token: &str, items: Vec<Value>) {
        self.push(json_answer(
            200,
            &json!({"kind": "WidgetList", "apiVersion": "x/v1", "items": items,
                    "metadata": {"resourceVersion": version, "continue": continue_token}}),
        ));
    }

    fn error(&self, error: &ApiError) {
        self.push(json_answer(error.code, &error.to_status()));
    }

    /// A watch that stays open until the sender is dropped.
    fn watch(&self) -> mpsc::UnboundedSender<Value> {
        let (sender, receiver) = mpsc::unbounded_channel::<Value>();
        let frames = futures::stream::unfold(receiver, |mut receiver| async {
            let line = format!("{}\n", receiver.recv().await?);
            Some((Ok::<_, BoxError>(Frame::data(Bytes::from(line))), receiver))
        });
        self.push(Response::new(StreamBody::new(frames).boxed_unsync()));
        sender
    }

    fn seen(&self) -> Vec<String> {
        self.0.lock().1.clone()
    }

    fn client(&self) -> ResourceClient {
        let script = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let script = script.clone();
            async move {
                let uri = request.uri().to_string();
                loop {
                    let next = script.0.lock().0.pop_front();
                    if let Some(answer) = next {
                        script.0.lock().1.push(uri);
                        return Ok::<_, BoxError>(answer);
                    }
                    script.1.notified().await;
                }
            }
        });
        let gvr = GroupVersionResource::new("x", "v1", "widgets");
        ResourceClient::new(Connection::in_process(service).client(""), gvr)
    }
}

fn json_answer(code: u16, body: &Value) -> Answer {
    let body = Full::new(Bytes::from(body.to_string()))
        .map_err(Into::into)
        .boxed_unsync();
    Response::builder().status(code).body(body).unwrap()
}

fn widget(name: &str, uid: &str, version: &str) -> Value {
    json!({"metadata": {"name": name, "namespace": "ns", "uid": uid, "resourceVersion": version,
           "annotations": {"kcp.io/cluster": "c1"}, "managedFields": [{"manager": "m"}]}})
}

fn event(kind: &str, object: &Value) -> Value {
    json!({"type": kind, "object": object})
}

/// What handlers were told, and a way to wait for it.
struct Told(watch::Receiver<Vec<String>>);

impl Told {
    async fn until(&mut self, expected: &[&str]) {
        let wait = self.0.wait_for(|told| told.len() >= expected.len());
        let told = tokio::time::timeout(Duration::from_secs(600), wait).await;
        assert_eq!(*told.expect("enough changes").unwrap(), expected);
    }
}

fn start(script: &Script, stop: &CancellationToken) -> (Store<Value>, Told) {
    let (sender, receiver) = watch::channel(Vec::new());
    let informer = Informer::<Value>::new(script.client(), None).jitter(Jitter::seeded(1));
    let store = informer.store();
    let read = store.clone();
    let informer = informer
        .index("uid", |_, object| vec![meta(object).uid().to_owned()])
        .on_change(move |key, change| {
            let text = match &change {
                Change::Applied { old, new } => {
                    assert_eq!(read.get(key).as_ref(), Some(*new), "the store is first");
                    let sign = if old.is_some() { '~' } else { '+' };
                    format!("{sign}{key}@{}", meta(new).resource_version())
                }
                Change::Deleted(last) => {
                    assert!(read.get(key).is_none(), "the store is first");
                    format!("-{key}@{}", meta(last).resource_version())
                }
            };
            sender.send_modify(|told| told.push(text));
        });
    informer.spawn(stop.clone());
    (store, Told(receiver))
}

#[tokio::test(start_paused = true)]
async fn pages_are_listed_and_then_watched_from_the_version_of_the_list() {
    let (script, stop) = (Script::default(), CancellationToken::new());
    script.list("10", "more", vec![widget("a", "ua", "1")]);
    script.list("10", "", vec![widget("b", "ub", "2")]);
    let events = script.watch();
    let (store, mut told) = start(&script, &stop);
    store.synced().await;
    assert_eq!(store.len(), 2);
    events
        .send(event("ADDED", &widget("c", "uc", "11")))
        .unwrap();
    events
        .send(event("MODIFIED", &widget("a", "ua", "12")))
        .unwrap();
    events
        .send(event("DELETED", &widget("b", "ub", "13")))
        .unwrap();
    told.until(&[
        "+c1|ns/a@1",
        "+c1|ns/b@2",
        "+c1|ns/c@11",
        "~c1|ns/a@12",
        // As the store had it: what its last write changed nobody has seen.
        "-c1|ns/b@2",
    ])
    .await;
    let a = ClusterKey::new(&ClusterName::new("c1"), "ns", "a");
    let object = store.get(&a).unwrap();
    assert!(object["metadata"].get("managedFields").is_none());
    assert_eq!(
        object["kind"],
        Value::Null,
        "an event's object is kept as sent"
    );
    assert_eq!(store.keys_by_index("uid", "ua"), [a]);
    assert!(store.keys_by_index("uid", "ub").is_empty());
    let seen = script.seen();
    assert!(seen[0].ends_with("widgets?limit=500"), "{seen:?}");
    assert!(seen[1].ends_with("limit=500&continue=more"), "{seen:?}");
    assert!(
        seen[2].contains("watch=true") && seen[2].ends_with("resourceVersion=10"),
        "{seen:?}"
    );
    stop.cancel();
}

#[tokio::test(start_paused = true)]
async fn items_of_a_list_get_the_kind_of_the_list() {
    let (script, stop) = (Script::default(), CancellationToken::new());
    script.list("10", "", vec![widget("a", "ua", "1")]);
    let (store, _) = start(&script, &stop);
    store.synced().await;
    let (_, object) = store.all().remove(0);
    assert_eq!(
        (&object["kind"], &object["apiVersion"]),
        (&json!("Widget"), &json!("x/v1"))
    );
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_ends_is_resumed_from_the_last_bookmark() {
    let (script, stop) = (Script::default(), CancellationToken::new());
    script.list("10", "", vec![]);
    let first = script.watch();
    let second = script.watch();
    let (_, mut told) = start(&script, &stop);
    first
        .send(event(
            "BOOKMARK",
            &json!({"metadata": {"resourceVersion": "25"}}),
        ))
        .unwrap();
    drop(first);
    second
        .send(event("ADDED", &widget("a", "ua", "26")))
        .unwrap();
    told.until(&["+c1|ns/a@26"]).await;
    assert!(
        script.seen()[2].ends_with("resourceVersion=25"),
        "{:?}",
        script.seen()
    );
}

#[tokio::test(start_paused = true)]
async fn an_expired_version_lists_again_and_tells_only_what_differs() {
    let (script, stop) = (Script::default(), CancellationToken::new());
    script.list(
        "10",
        "",
        vec![
            widget("a", "ua", "1"),
            widget("b", "ub", "2"),
            widget("c", "uc", "3"),
            widget("d", "ud", "4"),
        ],
    );
    let events = script.watch();
    // b changed, c is gone, d was made anew, e is new.
    script.list(
        "40",
        "",
        vec![
            widget("a", "ua", "1"),
            widget("b", "ub", "20"),
            widget("d", "ud2", "30"),
            widget("e", "ue", "31"),
        ],
    );
    let (_, mut told) = start(&script, &stop);
    events
        .send(event("ERROR", &ApiError::expired("too old").to_status()))
        .unwrap();
    told.until(&[
        "+c1|ns/a@1",
        "+c1|ns/b@2",
        "+c1|ns/c@3",
        "+c1|ns/d@4",
        "~c1|ns/b@20",
        "-c1|ns/d@4",
        "+c1|ns/d@30",
        "+c1|ns/e@31",
        "-c1|ns/c@3",
    ])
    .await;
}

#[tokio::test(start_paused = true)]
async fn failures_are_retried_and_a_list_that_breaks_off_deletes_nothing() {
    let (script, stop) = (Script::default(), CancellationToken::new());
    script.error(&ApiError::unavailable("starting", 5));
    script.list(
        "10",
        "",
        vec![widget("a", "ua", "1"), widget("b", "ub", "2")],
    );
    script.error(&ApiError::expired("gone"));
    script.list("20", "more", vec![widget("a", "ua", "1")]);
    script.error(&ApiError::internal("broken"));
    script.list("30", "more", vec![widget("a", "ua", "1")]);
    script.list("30", "", vec![widget("b", "ub", "29")]);
    let (store, mut told) = start(&script, &stop);
    let begin = Instant::now();
    store.synced().await;
    assert!(
        begin.elapsed() >= Duration::from_secs(5),
        "Retry-After counts"
    );
    told.until(&["+c1|ns/a@1", "+c1|ns/b@2", "~c1|ns/b@29"])
        .await;
}

#[tokio::test(start_paused = true)]
async fn objects_that_cannot_be_keyed_or_read_are_skipped() {
    #[derive(serde::Deserialize)]
    struct Strict {
        size: u8,
    }
    let script = Script::default();
    let (mut good, mut bad) = (widget("a", "ua", "1"), widget("b", "ub", "2"));
    good["size"] = json!(7);
    bad["size"] = json!("large");
    script.list(
        "10",
        "",
        vec![json!({"metadata": {"name": "homeless"}}), bad, good],
    );
    let store = Informer::<Strict>::new(script.client(), None).spawn(CancellationToken::new());
    store.synced().await;
    let all = store.all();
    assert_eq!(all.len(), 1);
    assert_eq!((all[0].0.name.as_str(), all[0].1.size), ("a", 7));
}

#[tokio::test(start_paused = true)]
async fn a_given_cluster_replaces_the_annotation() {
    let script = Script::default();
    script.list("10", "", vec![json!({"metadata": {"name": "a"}})]);
    let cluster = Some(ClusterName::new("root"));
    let store = Informer::<Value>::new(script.client(), cluster)
        .labels("a=b")
        .fields("metadata.name=a")
        .namespace("ns")
        .spawn(CancellationToken::new());
    store.synced().await;
    assert_eq!(store.all()[0].0.to_string(), "root|a");
    assert_eq!(
        script.seen()[0],
        "/apis/x/v1/namespaces/ns/widgets?labelSelector=a%3Db&fieldSelector=metadata.name%3Da&limit=500"
    );
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_ends_at_once_is_not_repeated_in_a_tight_loop() {
    let (script, stop) = (Script::default(), CancellationToken::new());
    script.list("10", "", vec![]);
    for _ in 0..5 {
        drop(script.watch());
    }
    let events = script.watch();
    let begin = Instant::now();
    let (_, mut told) = start(&script, &stop);
    events
        .send(event("ADDED", &widget("a", "ua", "11")))
        .unwrap();
    told.until(&["+c1|ns/a@11"]).await;
    assert!(begin.elapsed() >= FIRST_RETRY * 31, "{:?}", begin.elapsed());
}
