//! The running election against a Lease in memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use http::{Method, Request, Response};
use kube::client::Body;
use parking_lot::Mutex;
use serde_json::json;
use tmc_apimachinery::{ApiError, GroupResource};

use super::*;
use crate::Connection;

/// A server with one Lease, and whether it can be reached.
#[derive(Default)]
struct Server {
    lease: Mutex<Option<Value>>,
    version: std::sync::atomic::AtomicU64,
    unreachable: AtomicBool,
}

impl Server {
    fn put(&self, mut lease: Value, create: bool) -> Result<Value, ApiError> {
        let resource = GroupResource::new("coordination.k8s.io", "leases");
        let mut stored = self.lease.lock();
        let current = stored
            .as_ref()
            .map(Record::read)
            .unwrap_or_default()
            .version;
        if create && stored.is_some() {
            return Err(ApiError::conflict(&resource, "l", "it exists"));
        }
        if Record::read(&lease).version != current {
            return Err(ApiError::stale(&resource, "l"));
        }
        let version = self.version.fetch_add(1, Ordering::SeqCst) + 1;
        lease["metadata"]["resourceVersion"] = version.to_string().into();
        *stored = Some(lease.clone());
        Ok(lease)
    }

    fn answer(&self, method: &Method, body: &[u8]) -> Result<Value, ApiError> {
        let resource = GroupResource::new("coordination.k8s.io", "leases");
        match *method {
            Method::GET => {
                let lease = self.lease.lock().clone();
                lease.ok_or_else(|| ApiError::not_found(&resource, "l"))
            }
            Method::POST => self.put(serde_json::from_slice(body).unwrap(), true),
            _ => self.put(serde_json::from_slice(body).unwrap(), false),
        }
    }

    fn holder(&self) -> String {
        let lease = self.lease.lock();
        lease.as_ref().map(Record::read).unwrap_or_default().holder
    }

    /// A hub over this server; `cut` makes it unreachable for this one alone.
    fn hub(self: &Arc<Self>, cut: &Arc<AtomicBool>) -> Hub {
        let (server, cut) = (self.clone(), cut.clone());
        let service = tower::service_fn(move |request: Request<Body>| {
            let (server, cut) = (server.clone(), cut.clone());
            async move {
                if cut.load(Ordering::SeqCst) || server.unreachable.load(Ordering::SeqCst) {
                    std::future::pending::<()>().await;
                }
                let (parts, body) = request.into_parts();
                let body: Bytes = body.collect_bytes().await?;
                let (code, value) = match server.answer(&parts.method, &body) {
                    Ok(value) => (200, value),
                    Err(error) => (error.code, error.to_status()),
                };
                let mut response = Response::new(Body::from(value.to_string().into_bytes()));
                *response.status_mut() = http::StatusCode::from_u16(code).unwrap();
                Ok::<_, kube::Error>(response)
            }
        });
        Hub {
            connection: Connection::in_process(service),
            workspaces: false,
        }
    }
}

/// A replica whose only work is to note when it leads.
struct Replica {
    cut: Arc<AtomicBool>,
    stop: CancellationToken,
    terms: Arc<Mutex<Vec<Term>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Replica {
    fn start(server: &Arc<Server>, name: &str) -> Self {
        let cut = Arc::new(AtomicBool::new(false));
        let options = ElectionOptions {
            namespace: "kcp-system".into(),
            name: "tmc-controllers".into(),
            identity: name.into(),
            times: Times::default(),
            clock: paused_clock(),
            jitter: Jitter::seeded(5),
        };
        let marks = json!({"name": "ignored", "labels": {"of": "tests"}});
        let election = Election::new(&server.hub(&cut), options).unwrap();
        let election = election.marked(marks);
        let terms = Arc::new(Mutex::new(Vec::new()));
        let stop = CancellationToken::new();
        let (seen, stopped) = (terms.clone(), stop.clone());
        let task = tokio::spawn(election.run(stopped, move |term: Term| {
            seen.lock().push(term.clone());
            async move { term.over.cancelled().await }
        }));
        Self {
            cut,
            stop,
            terms,
            task,
        }
    }

    fn leads(&self) -> bool {
        self.terms
            .lock()
            .last()
            .is_some_and(|term| term.fence.holds())
    }

    async fn until_it_leads(&self) {
        while !self.leads() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// The wall clock of the system does not know that time is paused.
fn paused_clock() -> Moments {
    let origin = Instant::now();
    Moments::new(move || Moment {
        monotonic: origin.elapsed(),
        wall: jiff::Timestamp::UNIX_EPOCH
            + jiff::SignedDuration::try_from(origin.elapsed()).unwrap(),
    })
}

#[tokio::test(start_paused = true)]
async fn one_of_two_leads_and_the_other_follows_within_the_lease_when_it_vanishes() {
    let server = Arc::new(Server::default());
    let one = Replica::start(&server, "one");
    one.until_it_leads().await;
    let two = Replica::start(&server, "two");
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert!(one.leads() && !two.leads());
    assert_eq!(one.terms.lock().len(), 1, "a term that is renewed goes on");
    one.task.abort();
    let died = Instant::now();
    two.until_it_leads().await;
    assert!(!one.leads(), "its fence ended before");
    assert!(
        died.elapsed() <= Duration::from_secs(20),
        "{:?}",
        died.elapsed()
    );
    assert_eq!(server.holder(), "two");
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_is_cut_off_ends_its_writers_before_another_begins() {
    let server = Arc::new(Server::default());
    let one = Replica::start(&server, "one");
    one.until_it_leads().await;
    let two = Replica::start(&server, "two");
    one.cut.store(true, Ordering::SeqCst);
    let cut = Instant::now();
    let term = one.terms.lock()[0].clone();
    term.over.cancelled().await;
    let ended = cut.elapsed();
    assert!(ended <= Duration::from_secs(10), "{ended:?}");
    assert!(
        !two.leads() && server.holder() == "one",
        "the margin is still to come"
    );
    two.until_it_leads().await;
    assert!(cut.elapsed() >= ended + Duration::from_secs(2));
    // Back again, it stands as any other.
    one.cut.store(false, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(two.leads() && !one.leads());
    two.stop.cancel();
    two.task.await.unwrap();
    one.until_it_leads().await;
    assert_eq!(one.terms.lock().len(), 2);
    assert!(!term.fence.holds(), "the old fence stays shut");
}

#[tokio::test(start_paused = true)]
async fn a_graceful_stop_releases_the_lease_and_the_next_one_begins_at_once() {
    let server = Arc::new(Server::default());
    let one = Replica::start(&server, "one");
    one.until_it_leads().await;
    let two = Replica::start(&server, "two");
    tokio::time::sleep(Duration::from_secs(5)).await;
    one.stop.cancel();
    one.task.await.unwrap();
    assert_eq!(server.holder(), "");
    let released = Instant::now();
    two.until_it_leads().await;
    assert!(
        released.elapsed() <= Duration::from_secs(3),
        "{:?}",
        released.elapsed()
    );
    let lease = server.lease.lock().clone().unwrap();
    assert_eq!(lease["spec"]["leaseTransitions"], json!(1));
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_is_made_carries_the_marks_and_one_that_is_found_gets_none() {
    let server = Arc::new(Server::default());
    let one = Replica::start(&server, "one");
    one.until_it_leads().await;
    let made = server.lease.lock().clone().unwrap();
    assert_eq!(made["metadata"]["labels"], json!({"of": "tests"}));
    assert_eq!(made["metadata"]["name"], "tmc-controllers");
    let found = Arc::new(Server::default());
    let foreign = json!({"metadata": {"name": "tmc-controllers"}, "spec": {}});
    found.put(foreign, true).unwrap();
    let two = Replica::start(&found, "two");
    two.until_it_leads().await;
    let taken = found.lease.lock().clone().unwrap();
    assert_eq!(taken["metadata"].get("labels"), None, "{taken}");
    assert_eq!(found.holder(), "two");
}

#[tokio::test(start_paused = true)]
async fn a_lease_taken_by_force_ends_the_term_with_the_next_renewal() {
    let server = Arc::new(Server::default());
    let one = Replica::start(&server, "one");
    one.until_it_leads().await;
    let mut lease = server.lease.lock().clone().unwrap();
    lease["spec"]["holderIdentity"] = "operator".into();
    server.put(lease, false).unwrap();
    let term = one.terms.lock()[0].clone();
    let taken = Instant::now();
    term.over.cancelled().await;
    assert!(
        taken.elapsed() <= Duration::from_secs(3),
        "{:?}",
        taken.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn a_hub_that_is_away_for_a_while_costs_nothing_but_time() {
    let server = Arc::new(Server::default());
    server.unreachable.store(true, Ordering::SeqCst);
    let one = Replica::start(&server, "one");
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(!one.leads());
    server.unreachable.store(false, Ordering::SeqCst);
    one.until_it_leads().await;
    // Away for less than the deadline: the term goes on.
    server.unreachable.store(true, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_secs(6)).await;
    server.unreachable.store(false, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(one.terms.lock().len(), 1);
}

#[test]
fn an_election_without_a_margin_is_refused() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let _inside = runtime.enter();
    let options = ElectionOptions {
        namespace: "n".into(),
        name: "l".into(),
        identity: "i".into(),
        times: Times {
            deadline: Duration::from_secs(15),
            ..Times::default()
        },
        clock: paused_clock(),
        jitter: Jitter::seeded(1),
    };
    let hub = Arc::new(Server::default()).hub(&Arc::default());
    assert!(
        Election::new(&hub, options)
            .err()
            .unwrap()
            .contains("not sound")
    );
}
