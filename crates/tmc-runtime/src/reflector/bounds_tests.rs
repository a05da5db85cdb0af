//! The informer against servers that send without end, or more than fits into one answer.

use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full as Whole, StreamBody};
use kube::client::Body;
use parking_lot::Mutex;
use serde_json::json;
use tmc_apimachinery::GroupVersionResource;
use tokio_util::sync::CancellationToken;
use tower::BoxError;

use super::*;
use crate::{Bounds, Connection, Informer};

type Answer = UnsyncBoxBody<Bytes, BoxError>;

/// What a server was asked for.
#[derive(Clone, Default)]
struct Asked(Arc<Mutex<Vec<String>>>);

impl Asked {
    fn lists(&self) -> Vec<String> {
        let asked = self.0.lock();
        let lists = asked.iter().filter(|uri| !uri.contains("watch=true"));
        lists.cloned().collect()
    }
}

/// An informer of a server that answers each request by a function of its URI, and what was asked.
fn start(
    budget: Budget,
    answer: impl Fn(&str) -> Answer + Clone + Send + Sync + 'static,
) -> (Store<Value>, Asked) {
    let asked = Asked::default();
    let log = asked.clone();
    let service = tower::service_fn(move |request: Request<Body>| {
        let uri = request.uri().to_string();
        let body = answer(&uri);
        log.0.lock().push(uri);
        std::future::ready(Ok::<_, BoxError>(Response::new(body)))
    });
    let connection = Connection::in_process(service).bounded(Bounds {
        answer: 64 << 10,
        event: 64 << 10,
    });
    let gvr = GroupVersionResource::new("x", "v1", "widgets");
    let client = ResourceClient::new(connection.client(""), gvr);
    let informer = Informer::<Value>::new(client, Some(ClusterName::new("root")))
        .page_size(100)
        .budget(budget)
        .jitter(Jitter::seeded(1));
    (informer.spawn(CancellationToken::new()), asked)
}

fn whole(body: &Value) -> Answer {
    Whole::new(Bytes::from(body.to_string()))
        .map_err(Into::into)
        .boxed_unsync()
}

fn page(names: impl Iterator<Item = usize>, token: &str) -> Answer {
    let items: Vec<_> = names.map(|n| widget(n, "")).collect();
    whole(&json!({"items": items, "metadata": {"resourceVersion": "1", "continue": token}}))
}

fn widget(name: usize, data: &str) -> Value {
    json!({"metadata": {"name": format!("w{name}"), "uid": "u"}, "data": data})
}

fn silence() -> Answer {
    StreamBody::new(futures::stream::pending::<Result<Frame<Bytes>, BoxError>>()).boxed_unsync()
}

const PLENTY: Budget = Budget {
    objects: 1_000,
    bytes: 10 << 20,
};

#[tokio::test(start_paused = true)]
async fn a_list_of_endless_pages_ends_and_is_not_repeated_for_a_while() {
    let next = Arc::new(AtomicUsize::new(0));
    let budget = Budget {
        objects: 250,
        ..PLENTY
    };
    let (store, asked) = start(budget, move |_| {
        let first = next.fetch_add(100, Ordering::Relaxed);
        page(first..first + 100, "more")
    });
    tokio::time::sleep(FULL_RETRY / 2).await;
    assert!(!store.has_synced());
    assert!((200..=250).contains(&store.len()), "{}", store.len());
    assert_eq!(asked.lists().len(), 3);
    tokio::time::sleep(FULL_RETRY).await;
    assert!(store.len() <= 250, "{}", store.len());
    assert_eq!(asked.lists().len(), 6, "it is tried again");
    assert!(!asked.lists()[3].contains("continue"), "from the start");
}

#[tokio::test(start_paused = true)]
async fn endless_pages_without_anything_new_end_too() {
    let budget = Budget {
        objects: 50,
        ..PLENTY
    };
    let (store, asked) = start(budget, |_| page(0..0, "more"));
    tokio::time::sleep(FULL_RETRY / 2).await;
    assert!(!store.has_synced() && store.is_empty());
    assert_eq!(asked.lists().len(), 51);
}

#[tokio::test(start_paused = true)]
async fn a_watch_of_endless_objects_ends_and_everything_is_listed_again_later() {
    let budget = Budget {
        bytes: 100_000,
        ..PLENTY
    };
    let (store, asked) = start(budget, |uri| {
        if !uri.contains("watch=true") {
            return page(0..10, "");
        }
        let frames = (10..).map(|name| {
            let event = json!({"type": "ADDED", "object": widget(name, &"x".repeat(1_000))});
            Ok::<_, BoxError>(Frame::data(Bytes::from(format!("{event}\n"))))
        });
        StreamBody::new(futures::stream::iter(frames)).boxed_unsync()
    });
    tokio::time::sleep(FULL_RETRY / 2).await;
    assert!((90..=110).contains(&store.len()), "{}", store.len());
    assert_eq!(asked.lists().len(), 1);
    tokio::time::sleep(FULL_RETRY).await;
    assert!((90..=110).contains(&store.len()), "{}", store.len());
    assert_eq!(asked.lists().len(), 2, "what was left out is not forgotten");
}

#[tokio::test(start_paused = true)]
async fn a_full_store_makes_room_for_what_is_there_instead() {
    let lists = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&lists);
    let budget = Budget {
        objects: 10,
        ..PLENTY
    };
    let (store, _) = start(budget, move |uri| {
        if !uri.contains("watch=true") {
            let first = if count.fetch_add(1, Ordering::Relaxed) == 0 {
                0
            } else {
                50
            };
            return page(first..first + 9, "");
        }
        if count.load(Ordering::Relaxed) > 1 {
            return silence();
        }
        let expired = tmc_apimachinery::ApiError::expired("too old").to_status();
        let event = json!({"type": "ERROR", "object": expired});
        Whole::new(Bytes::from(format!("{event}\n")))
            .map_err(Into::into)
            .boxed_unsync()
    });
    tokio::time::sleep(FULL_RETRY * 2).await;
    let names: Vec<_> = store.all().into_iter().map(|(key, _)| key.name).collect();
    let expected: Vec<_> = (50..59).map(|name| format!("w{name}")).collect();
    assert_eq!(names, expected);
    assert_eq!(lists.load(Ordering::Relaxed), 3);
}

/// A server that pages by count alone, as Kubernetes' does.
fn large_objects(uri: &str) -> Answer {
    if uri.contains("watch=true") {
        return silence();
    }
    let number = |key: &str| {
        let value = uri
            .split(['?', '&'])
            .find_map(|part| part.strip_prefix(key));
        value.map_or(0, |text| text.parse::<usize>().unwrap())
    };
    let (from, limit) = (number("continue="), number("limit="));
    let to = (from + limit).min(100);
    let items: Vec<_> = (from..to)
        .map(|name| widget(name, &"x".repeat(16 << 10)))
        .collect();
    let token = if to < 100 {
        to.to_string()
    } else {
        String::new()
    };
    whole(&json!({"items": items, "metadata": {"resourceVersion": "1", "continue": token}}))
}

#[tokio::test(start_paused = true)]
async fn objects_of_which_a_page_is_too_long_for_an_answer_are_listed_few_at_a_time() {
    let (store, asked) = start(PLENTY, large_objects);
    let wait = tokio::time::timeout(Duration::from_secs(60), store.synced());
    wait.await.expect("everything is listed");
    assert_eq!(store.len(), 100);
    let asked = asked.lists();
    assert!(asked[0].ends_with("limit=100"), "{asked:?}");
    assert!(asked.len() < 50, "not one by one: {}", asked.len());
}
