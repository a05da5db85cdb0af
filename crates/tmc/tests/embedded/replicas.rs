//! Replicas of one syncer: the holder of the Lease in the member works, the others stand by.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use http::{Method, Request};
use kube::client::Body;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tmc::context::Context;
use tmc_api::agent::AgentId;
use tmc_apimachinery::GroupVersionResource;
use tmc_apimachinery::meta::meta;
use tmc_hub::environment::SystemEnvironment;
use tmc_runtime::client::Error;
use tmc_runtime::lease::{Election, ElectionOptions, Moments, Times};
use tmc_runtime::{Connection, Jitter, ResourceClient};
use tmc_sim::{Behaviour, Member};
use tmc_syncer::{AgentOptions, replicas};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::session::{External, PATIENCE, targets};
use crate::support::{copies, eventually, named};

/// The Lease is a matter of seconds here.
const QUICK: Times = Times {
    duration: Duration::from_secs(6),
    deadline: Duration::from_secs(4),
    retry: Duration::from_millis(250),
};

/// A member, and a workspace that is bound to it.
struct Place {
    external: External,
    member: Member,
    shop: Context,
    agent: AgentId,
}

impl Place {
    async fn new() -> Self {
        let external = External::start().await;
        external.location().await;
        let member = Member::start(Arc::new(SystemEnvironment), Behaviour::default())
            .await
            .unwrap();
        let target = &external.target;
        let agent = AgentId::new(target.cluster.as_str(), &target.name, &target.uid);
        create_workspace(&external).await;
        let shop = external.world.context("root:shop");
        Self {
            external,
            member,
            shop,
            agent,
        }
    }

    /// Binds the workspace, which takes a target that is ready.
    async fn bind(&self) {
        let args = crate::support::bind_args("far");
        tmc::commands::bind::compute(&self.shop, &args)
            .await
            .unwrap();
    }

    fn in_member(&self, group: &str, resource: &str) -> ResourceClient {
        let gvr = GroupVersionResource::new(group, "v1", resource);
        ResourceClient::new(self.member.connection().base_client(), gvr)
    }

    async fn lease(&self) -> Option<Value> {
        let leases = self.in_member("coordination.k8s.io", "leases");
        leases.get("default", &self.agent.lease()).await.ok()
    }

    async fn holder(&self) -> String {
        let lease = self.lease().await.unwrap_or_default();
        lease["spec"]["holderIdentity"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }

    async fn until_held_by(&self, identity: &str) {
        eventually("the Lease changes hands", || async {
            self.holder().await == identity
        })
        .await;
    }

    /// Makes a Service on the hub, which is to arrive in the member.
    async fn create(&self, name: &str) {
        let services = self.shop.resource("", "v1", "services");
        let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
            "spec": {"ports": [{"port": 80}]}});
        services.create("default", &service).await.unwrap();
    }

    async fn until_arrived(&self, name: &str) {
        let services = self.in_member("", "services");
        eventually("it arrives in the member", || async {
            named(&copies(&services).await, name).is_some()
        })
        .await;
    }

    /// Waits until the hub knows one replica, of this name.
    async fn until_named(&self, identity: &str) {
        eventually("the hub knows who syncs", || async {
            let target = targets(&self.external.world).get("", "far").await.unwrap();
            let status = &target["status"];
            status["syncerIdentity"] == identity && status["syncerStatus"]["replicas"] == 1
        })
        .await;
    }
}

async fn create_workspace(external: &External) {
    use tmc::cli::Role;
    use tmc::commands::workspace::{Grantee, create, give};
    let world = &external.world;
    create(&world.context("root"), "shop", false).await.unwrap();
    let grantee = Grantee::Workspace("root:shop".into());
    let compute = world.context("root:compute");
    give(&compute, "root:compute", &grantee, Role::Use)
        .await
        .unwrap();
}

/// What a replica does in the member, and what is done to it.
#[derive(Default)]
struct Way {
    /// Writes that are not to the Lease and went through.
    writes: Mutex<Vec<String>>,
    /// How many it began.
    begun: AtomicU64,
    /// How often it looked at the Lease or wrote it.
    looks: AtomicU64,
    /// It gets no answer about the Lease any more.
    cut: AtomicBool,
    /// While this is set, other writes do not go through.
    held: watch::Sender<bool>,
}

impl Way {
    fn leading_to(self: &Arc<Self>, member: &Member) -> Connection {
        let (way, member) = (self.clone(), member.connection().clone());
        Connection::in_process(tower::service_fn(move |request: Request<Body>| {
            let (way, client) = (way.clone(), member.base_client());
            async move {
                let (method, path) = (request.method().clone(), request.uri().path().to_owned());
                way.pass(&method, &path).await;
                client.send(request).await
            }
        }))
    }

    async fn pass(&self, method: &Method, path: &str) {
        if path.contains("/leases") {
            self.looks.fetch_add(1, Ordering::SeqCst);
            if self.cut.load(Ordering::SeqCst) {
                std::future::pending::<()>().await;
            }
        } else if *method != Method::GET {
            self.begun.fetch_add(1, Ordering::SeqCst);
            let _ = self.held.subscribe().wait_for(|held| !held).await;
            self.writes.lock().push(format!("{method} {path}"));
        }
    }
}

/// One replica.
struct Replica {
    way: Arc<Way>,
    stop: CancellationToken,
    task: JoinHandle<Result<(), Error>>,
}

impl Replica {
    fn start(place: &Place, identity: &str, times: Times) -> Self {
        let (way, stop) = (Arc::new(Way::default()), CancellationToken::new());
        let member = way.leading_to(&place.member);
        let election = ElectionOptions {
            namespace: "default".into(),
            name: place.agent.lease(),
            identity: identity.into(),
            times,
            clock: Moments::system(),
            jitter: Jitter::random(),
        };
        let election = Election::over(member.base_client(), election).unwrap();
        let election = election.marked(place.agent.lease_marks());
        let options = AgentOptions {
            downstream: member,
            identity: identity.into(),
            ..place.external.options(&place.member)
        };
        let task = tokio::spawn(replicas::run(options, election, stop.clone()));
        Self { way, stop, task }
    }

    fn writes(&self) -> Vec<String> {
        self.way.writes.lock().clone()
    }

    /// Waits until it has looked at the Lease several times from now on.
    async fn until_it_has_looked(&self) {
        let looks = || self.way.looks.load(Ordering::SeqCst);
        let before = looks();
        eventually("it looks at the Lease", || async { looks() >= before + 3 }).await;
    }

    /// Vanishes without a word: nothing of it reaches the member any more.
    async fn vanish(self) -> Arc<Way> {
        self.way.cut.store(true, Ordering::SeqCst);
        self.way.held.send_replace(true);
        self.task.abort();
        let end = self.task.await.unwrap_err();
        assert!(end.is_cancelled(), "{end}");
        self.way
    }

    async fn ended(self) -> Result<(), Error> {
        timeout(PATIENCE, self.task).await.unwrap().unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_replicas_the_holder_of_the_lease_syncs_and_the_other_takes_over_when_it_dies() {
    let place = Place::new().await;
    let one = Replica::start(&place, "one", QUICK);
    place.until_held_by("one").await;
    let two = Replica::start(&place, "two", QUICK);
    place.until_named("one").await;
    place.bind().await;
    place.create("first").await;
    place.until_arrived("first").await;
    two.until_it_has_looked().await;
    assert!(!one.writes().is_empty());
    assert_eq!(two.writes(), [""; 0], "who stands by writes nothing");
    let lease = place.lease().await.unwrap();
    assert!(
        place.agent.owns(&lease),
        "it can be found when the target goes: {lease}"
    );

    let gone = one.vanish().await;
    let before = gone.writes.lock().clone();
    place.create("second").await;
    let services = place.in_member("", "services");
    assert!(named(&copies(&services).await, "second").is_none());
    place.until_arrived("second").await;
    assert_eq!(place.holder().await, "two");
    place.until_named("two").await;
    assert_eq!(*gone.writes.lock(), before);
    assert!(!two.writes().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_is_stopped_hands_over_at_once_and_one_that_stands_by_just_ends() {
    let place = Place::new().await;
    // With times that nobody waits for here.
    let times = Times {
        duration: Duration::from_secs(300),
        deadline: Duration::from_secs(200),
        retry: Duration::from_millis(250),
    };
    let one = Replica::start(&place, "one", times);
    place.until_held_by("one").await;
    let two = Replica::start(&place, "two", times);
    let three = Replica::start(&place, "three", times);
    place.until_named("one").await;
    two.until_it_has_looked().await;
    three.stop.cancel();
    three.ended().await.unwrap();
    assert_eq!(place.holder().await, "one");

    one.stop.cancel();
    one.ended().await.unwrap();
    place.until_held_by("two").await;
    place.until_named("two").await;
    place.bind().await;
    place.create("first").await;
    place.until_arrived("first").await;
    two.stop.cancel();
    two.ended().await.unwrap();
    assert_eq!(place.holder().await, "", "the Lease is released");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_holder_that_is_cut_off_from_the_lease_stops_writing_and_stands_again() {
    let place = Place::new().await;
    let one = Replica::start(&place, "one", QUICK);
    place.until_named("one").await;
    let two = Replica::start(&place, "two", QUICK);
    place.bind().await;
    place.create("first").await;
    place.until_arrived("first").await;

    // A write is under way when it loses the Lease, and would go through later.
    let (before, begun) = (one.writes(), one.way.begun.load(Ordering::SeqCst));
    one.way.held.send_replace(true);
    place.create("second").await;
    eventually("it writes", || async {
        one.way.begun.load(Ordering::SeqCst) > begun
    })
    .await;
    one.way.cut.store(true, Ordering::SeqCst);
    let cut = Instant::now();
    place.until_held_by("two").await;
    assert!(cut.elapsed() >= QUICK.deadline, "{:?}", cut.elapsed());
    one.way.held.send_replace(false);
    place.until_arrived("second").await;
    place.until_named("two").await;
    assert_eq!(one.writes(), before);

    one.way.cut.store(false, Ordering::SeqCst);
    one.until_it_has_looked().await;
    assert_eq!(place.holder().await, "two", "it stands as any other");
    two.stop.cancel();
    two.ended().await.unwrap();
    place.until_held_by("one").await;
    place.create("third").await;
    place.until_arrived("third").await;
    assert!(one.writes().len() > before.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_hub_has_against_the_holder_ends_it_and_frees_the_lease() {
    let place = Place::new().await;
    let one = Replica::start(&place, "one", QUICK);
    place.until_named("one").await;
    place.external.take_permission().await;
    let error = one.ended().await.unwrap_err();
    assert!(matches!(error.code(), Some(401 | 403)), "{error}");
    let lease = place.lease().await.unwrap();
    assert_eq!(lease["spec"]["holderIdentity"], "", "{lease}");
    assert_eq!(meta(&lease).name(), place.agent.lease());
}
