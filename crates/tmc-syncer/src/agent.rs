//! The running agent: informers on both sides, one queue, a heartbeat.

mod namespace;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::{Mutex, RwLock};
use serde_json::Value;
use tmc_api::keys;
use tmc_api::syncer::{SessionConfig, SyncedReport};
use tmc_api::time::MilliTime;
use tmc_apimachinery::meta::{
    add_finalizer, meta, remove_annotation, remove_finalizer, set_annotation,
};
use tmc_apimachinery::{ClusterName, GroupVersionResource};
use tmc_runtime::client::{DeleteParams, Error};
use tmc_runtime::controller::{self, Flow, Outcome};
use tmc_runtime::informer::Change;
use tmc_runtime::queue::WorkQueue;
use tmc_runtime::{Budget, Clock, ClusterKey, Connection, Informer, Jitter, ResourceClient, Store};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::mapping::{Target, downstream_key, upstream_name};
use crate::packed::{Packed, Present};
use crate::places::Places;
use crate::session::{Listener, Session};
use crate::spec::{Action, decide};
use crate::{mutate, status};

/// Index of objects by their namespace.
const BY_NAMESPACE: &str = "namespace";
const MANAGER: &str = "syncer";
/// While an informer has not listed yet, at first.
const UNSYNCED_RETRY: Duration = Duration::from_millis(50);
/// And when it has not for long: a member that cannot be listed must not keep every object in work.
const LAST_UNSYNCED_RETRY: Duration = Duration::from_secs(5);
/// Time to take leave of the hub when the agent stops.
const LEAVE_WITHIN: Duration = Duration::from_secs(2);
/// Objects listed at once: what a page costs in memory while it is read.
const PAGE: u32 = 100;
/// How soon the hub is told other words of a member that refuses an object.
const SAY_AGAIN: Duration = Duration::from_secs(60);
/// While the member's namespace of the same name is going away.
const NAMESPACE_RETRY: Duration = Duration::from_millis(500);

/// What an agent works with.
#[derive(Clone)]
pub struct AgentOptions {
    /// The SyncTarget.
    pub target: Target,
    /// The hub, as an identity that may `sync` the target.
    pub upstream: Connection,
    /// The member.
    pub downstream: Connection,
    /// How this replica calls itself (a DNS subdomain).
    pub identity: String,
    /// Pod Security level of namespaces in the member.
    pub pod_security: String,
    /// Concurrent objects in work.
    pub workers: usize,
    /// How long an unused namespace of the member stays.
    pub namespace_delay: Duration,
    /// How often the member is looked at and reported.
    pub report_every: Duration,
    /// The time that beats say.
    pub clock: Clock,
    /// Randomness for retries.
    pub jitter: Jitter,
}

/// How often members are looked at, unless somebody knows better.
pub const REPORT_EVERY: Duration = Duration::from_secs(60);

/// An agent; see [`Agent::run`].
pub struct Agent {
    options: AgentOptions,
}

/// One object in work.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Work {
    /// An object, by its key on the hub.
    Object(GroupVersionResource, ClusterKey),
    /// A namespace of the member, by name.
    Namespace(String),
    /// Every copy in a namespace of the member that came into sight.
    Copies(String),
}

/// One synced resource.
struct Synced {
    upstream: Store<Packed>,
    downstream: Store<Packed>,
    stop: CancellationToken,
    /// Since when it is synced.
    since: Instant,
}

/// What is shared by the workers.
struct Shared {
    options: AgentOptions,
    queue: WorkQueue<Work>,
    resources: RwLock<BTreeMap<GroupVersionResource, Arc<Synced>>>,
    upstream_namespaces: Store<Present>,
    namespaces: Store<Packed>,
    places: Arc<Places>,
    /// Pod Security level of namespaces in the member, as last configured.
    pod_security: RwLock<String>,
    /// Since when namespaces of the member have been without anything of either side.
    unused_since: Mutex<HashMap<String, Instant>>,
    /// The namespaces of the member, with their uids, whose default account hands out no tokens.
    disarmed: Mutex<HashMap<String, String>>,
    /// When the hub was told last that the member refuses an object.
    refused_at: Mutex<HashMap<(GroupVersionResource, ClusterKey), Instant>>,
    /// Since when it works.
    since: Instant,
    /// When something was written into the member last, by this process.
    wrote_at: Mutex<Option<Timestamp>>,
    /// Cancelled to end it: what was not begun by then is not begun.
    stop: CancellationToken,
}

impl Agent {
    /// An agent that has not started.
    pub fn new(options: AgentOptions) -> Self {
        Self { options }
    }

    /// Works until `stop` is cancelled. Objects that are being written when it stops are finished
    /// or repeated at the next start; nothing is removed from the member.
    ///
    /// # Errors
    /// When the hub says that this SyncTarget is gone or has another uid (404, 409), or that the
    /// agent may not sync it (401, 403). Everything else is retried for ever.
    pub async fn run(self, stop: CancellationToken) -> Result<(), Error> {
        let stop = stop.child_token();
        let _ends_informers = stop.clone().drop_guard();
        let shared = Arc::new(Shared::start(self.options, &stop));
        let worker = shared.clone();
        let workers = shared.options.workers;
        let mut running = controller::run(&shared.queue, workers, &stop, move |work| {
            let shared = worker.clone();
            async move { shared.work(work).await }
        });
        let session = Session {
            upstream: shared.options.upstream.clone(),
            downstream: shared.options.downstream.clone(),
            target: shared.options.target.clone(),
            identity: shared.options.identity.clone(),
            listener: Following {
                shared: shared.clone(),
                stop: stop.clone(),
            },
            clock: shared.options.clock.clone(),
            jitter: shared.options.jitter.clone(),
            report_every: shared.options.report_every,
        };
        let cut = async {
            stop.cancelled().await;
            tokio::time::sleep(LEAVE_WITHIN).await;
        };
        let result = tokio::select! {
            result = session.run(&stop) => result,
            () = cut => Ok(()),
        };
        drop(session);
        stop.cancel();
        while running.join_next().await.is_some() {}
        result
    }
}

/// Passes on what the hub tells the agent.
struct Following {
    shared: Arc<Shared>,
    stop: CancellationToken,
}

impl Listener for Following {
    fn resources(&self, wanted: &[GroupVersionResource]) {
        self.shared.follow(wanted, &self.stop);
    }

    fn configure(&self, config: &SessionConfig) {
        if let Some(level) = &config.pod_security {
            self.shared.secure(level);
        }
    }

    fn syncs(&self) -> Vec<GroupVersionResource> {
        self.shared.resources.read().keys().cloned().collect()
    }

    fn synced(&self) -> Option<SyncedReport> {
        self.shared.kept()
    }
}

fn namespaces_gvr() -> GroupVersionResource {
    GroupVersionResource::new("", "v1", "namespaces")
}

impl Shared {
    fn start(options: AgentOptions, stop: &CancellationToken) -> Self {
        let queue = WorkQueue::with_jitter("syncer", options.jitter.clone());
        let view = options
            .upstream
            .client(&format!("{}/clusters/*", options.target.view_path()));
        let target = options.target.clone();
        let changed = queue.clone();
        let upstream_namespaces =
            Informer::<Present>::new(ResourceClient::new(view, namespaces_gvr()), None)
                .page_size(PAGE)
                .on_change(move |key, _| {
                    changed.add(Work::Namespace(
                        target.downstream_namespace(&key.cluster, &key.name),
                    ));
                })
                .jitter(options.jitter.clone())
                .spawn(stop.clone());
        let places = Arc::new(Places::default());
        let (changed, learns) = (queue.clone(), places.clone());
        let target = options.target.clone();
        let namespaces = downstream_informer(&options, &namespaces_gvr())
            .on_change(move |key, change| {
                if let Change::Applied { old: None, new } = change {
                    learns.learn_from(&new.read(), &target);
                    changed.add(Work::Copies(key.name.clone()));
                }
                changed.add(Work::Namespace(key.name.clone()));
            })
            .spawn(stop.clone());
        Self {
            pod_security: RwLock::new(options.pod_security.clone()),
            options,
            queue,
            resources: RwLock::default(),
            upstream_namespaces,
            namespaces,
            places,
            unused_since: Mutex::default(),
            disarmed: Mutex::default(),
            refused_at: Mutex::default(),
            since: Instant::now(),
            wrote_at: Mutex::default(),
            stop: stop.clone(),
        }
    }

    /// Starts what is new in the list and stops what is no longer in it.
    fn follow(self: &Arc<Self>, wanted: &[GroupVersionResource], stop: &CancellationToken) {
        let mut resources = self.resources.write();
        resources.retain(|gvr, synced| {
            let keep = wanted.contains(gvr);
            if !keep {
                synced.stop.cancel();
            }
            keep
        });
        for gvr in wanted.iter().filter(|gvr| **gvr != namespaces_gvr()) {
            resources
                .entry(gvr.clone())
                .or_insert_with(|| Arc::new(self.sync(gvr, stop)));
        }
    }

    fn sync(self: &Arc<Self>, gvr: &GroupVersionResource, stop: &CancellationToken) -> Synced {
        let stop = stop.child_token();
        let view = self
            .options
            .upstream
            .client(&format!("{}/clusters/*", self.options.target.view_path()));
        let (queue, resource) = (self.queue.clone(), gvr.clone());
        let upstream = Informer::<Packed>::new(ResourceClient::new(view, gvr.clone()), None)
            .page_size(PAGE)
            .index(BY_NAMESPACE, |key, _| vec![home_value(key)])
            .on_change(move |key, _| queue.add(Work::Object(resource.clone(), key.clone())))
            .jitter(self.options.jitter.clone())
            .spawn(stop.clone());
        let shared = Arc::downgrade(self);
        let resource = gvr.clone();
        let downstream = downstream_informer(&self.options, gvr)
            .index(BY_NAMESPACE, |key, _| vec![key.namespace.clone()])
            .on_change(move |key, _| {
                let Some(shared) = shared.upgrade() else {
                    return;
                };
                if let Some(key) = shared.upstream_key(&resource, key) {
                    shared.queue.add(Work::Object(resource.clone(), key));
                }
            })
            .spawn(stop.clone());
        Synced {
            upstream,
            downstream,
            stop,
            since: Instant::now(),
        }
    }

    /// The hub's key of a member's object. While its place is not known there is nothing to do: the
    /// object of the hub, or the namespace, brings it back.
    fn upstream_key(&self, gvr: &GroupVersionResource, key: &ClusterKey) -> Option<ClusterKey> {
        let (cluster, namespace) = self.places.home(&key.namespace)?;
        let name = upstream_name(&gvr.resource, &key.name).to_owned();
        Some(ClusterKey {
            cluster,
            namespace,
            name,
        })
    }

    async fn work(&self, work: Work) -> Outcome {
        match work {
            Work::Object(gvr, key) => self.object(&gvr, &key).await,
            Work::Namespace(name) => self.namespace(&name).await,
            Work::Copies(namespace) => {
                self.look_at_copies(&namespace);
                Ok(Flow::Done)
            }
        }
    }

    async fn object(&self, gvr: &GroupVersionResource, key: &ClusterKey) -> Outcome {
        let Some(synced) = self.resources.read().get(gvr).cloned() else {
            return Ok(Flow::Done);
        };
        // Without both sides known, absence proves nothing.
        if !synced.upstream.has_synced() || !synced.downstream.has_synced() {
            return Ok(Flow::RequeueAfter(unsynced_retry(synced.since.elapsed())));
        }
        let target = &self.options.target;
        let mut view = synced.upstream.get(key).map(|view| view.read());
        if view.is_none() {
            self.taken(gvr, key);
        }
        let at = downstream_key(target, &gvr.resource, key);
        self.places.learn(&at.namespace, key);
        let copy = synced.downstream.get(&at).map(|copy| copy.read());
        loop {
            let desired = |view: &Value| mutate::desired(view, &gvr.resource, key, target);
            match decide(view.as_ref(), copy.as_ref(), desired, target) {
                Action::AddFinalizer => match self.add_finalizer(gvr, key, view.take()).await? {
                    // The answer is the newest view: go on with it instead of waiting for the event.
                    Some(newer) => view = Some(newer),
                    None => return Ok(Flow::Done),
                },
                Action::Apply(object) => {
                    let applied = self.apply(gvr, key, &object).await;
                    if let (Err(error), Some(view)) = (&applied, view.take()) {
                        self.complain(gvr, key, view, error).await;
                    }
                    return applied;
                }
                Action::Delete { uid } => {
                    if view.is_none() && !self.is_gone(gvr, key).await? {
                        return Ok(Flow::RequeueAfter(UNSYNCED_RETRY));
                    }
                    if self.stop.is_cancelled() {
                        // By now it may be meant to stay.
                        return Ok(Flow::Done);
                    }
                    let client = self.member(gvr);
                    let only = DeleteParams {
                        uid: Some(uid),
                        ..DeleteParams::default()
                    };
                    let deleted = client.delete(&at.namespace, &at.name, &only).await;
                    return match self.noted(deleted) {
                        // Our cache may be old: of a list that does not fit nothing is taken out.
                        Err(error) if error.is_not_found() && view.is_some() => {
                            self.remove_finalizer(gvr, key, view).await
                        }
                        deleted => settled(deleted),
                    };
                }
                Action::RemoveFinalizer => return self.remove_finalizer(gvr, key, view).await,
                Action::Nothing => return self.report(gvr, key, view, copy.as_ref()).await,
            }
        }
    }

    /// Whether the view does not have an object. A list leaves out what cannot be shown (somebody's
    /// broken annotation), and that must not cost the running copy: only a 404 is proof.
    async fn is_gone(&self, gvr: &GroupVersionResource, key: &ClusterKey) -> Result<bool, Error> {
        let client = self.view(gvr, &key.cluster);
        match client.get(&key.namespace, &key.name).await {
            Ok(_) => Ok(false),
            Err(error) if error.is_not_found() => Ok(true),
            Err(error) => Err(error),
        }
    }

    fn member(&self, gvr: &GroupVersionResource) -> ResourceClient {
        ResourceClient::new(self.options.downstream.base_client(), gvr.clone())
    }

    fn view(&self, gvr: &GroupVersionResource, cluster: &ClusterName) -> ResourceClient {
        let path = format!("{}/clusters/{cluster}", self.options.target.view_path());
        ResourceClient::new(self.options.upstream.client(&path), gvr.clone())
    }

    async fn add_finalizer(
        &self,
        gvr: &GroupVersionResource,
        key: &ClusterKey,
        view: Option<Value>,
    ) -> Result<Option<Value>, Error> {
        let Some(mut body) = view else {
            return Ok(None);
        };
        add_finalizer(
            &mut body,
            &keys::syncer_finalizer(&self.options.target.key()),
        );
        let client = self.view(gvr, &key.cluster);
        match client.replace(&key.namespace, &key.name, "", &body).await {
            Ok(newer) => Ok(Some(newer)),
            Err(error) if error.is_conflict() || error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn remove_finalizer(
        &self,
        gvr: &GroupVersionResource,
        key: &ClusterKey,
        view: Option<Value>,
    ) -> Outcome {
        let Some(mut body) = view else {
            return Ok(Flow::Done);
        };
        remove_finalizer(
            &mut body,
            &keys::syncer_finalizer(&self.options.target.key()),
        );
        let client = self.view(gvr, &key.cluster);
        settled(client.replace(&key.namespace, &key.name, "", &body).await)
    }

    async fn apply(&self, gvr: &GroupVersionResource, key: &ClusterKey, object: &Value) -> Outcome {
        let at = meta(object);
        if !self.ensure_namespace(key).await? {
            return Ok(Flow::RequeueAfter(NAMESPACE_RETRY));
        }
        if self.stop.is_cancelled() {
            return Ok(Flow::Done);
        }
        let client = self.member(gvr);
        let applied = client.apply(at.namespace(), at.name(), MANAGER, object);
        self.noted(applied.await)?;
        Ok(Flow::Done)
    }

    /// Notes the time of a write into the member that was done.
    fn noted<T>(&self, written: Result<T, Error>) -> Result<T, Error> {
        if written.is_ok() {
            *self.wrote_at.lock() = Some(self.options.clock.now());
        }
        written
    }

    /// What is kept in the member; `None` until all of it was seen once.
    fn kept(&self) -> Option<SyncedReport> {
        let resources = self.resources.read();
        if resources.is_empty() {
            // Nobody has said yet what is to be synced.
            return None;
        }
        let counts = resources.values().map(|synced| {
            let copies = &synced.downstream;
            copies.has_synced().then(|| copies.len() as u64)
        });
        Some(SyncedReport {
            objects: counts.sum::<Option<u64>>()?,
            last_sync_time: self.wrote_at.lock().map(MilliTime::new),
        })
    }

    /// Tells the hub that the member refuses an object, unless it knows; and not often: what is told
    /// comes back as an event, with which the member is asked again, and may have other words each time.
    async fn complain(
        &self,
        gvr: &GroupVersionResource,
        key: &ClusterKey,
        mut view: Value,
        error: &Error,
    ) {
        let Some(said) = status::refusal(error) else {
            return;
        };
        if meta(&view).annotation(keys::MESSAGE_ANNOTATION) == Some(&said) {
            return;
        }
        {
            let mut refused = self.refused_at.lock();
            let object = (gvr.clone(), key.clone());
            let last = refused.get(&object).map(Instant::elapsed);
            if last.is_some_and(|ago| ago < SAY_AGAIN) {
                return;
            }
            refused.insert(object, Instant::now());
        }
        set_annotation(&mut view, keys::MESSAGE_ANNOTATION, &said);
        let client = self.view(gvr, &key.cluster);
        let told = client.replace(&key.namespace, &key.name, "", &view).await;
        if let Err(error) = settled(told) {
            tracing::warn!(%key, %error, "the hub was not told that the member refuses an object");
        }
    }

    /// The member has nothing against an object any more.
    fn taken(&self, gvr: &GroupVersionResource, key: &ClusterKey) {
        let mut refused = self.refused_at.lock();
        if !refused.is_empty() {
            refused.remove(&(gvr.clone(), key.clone()));
        }
    }

    async fn report(
        &self,
        gvr: &GroupVersionResource,
        key: &ClusterKey,
        view: Option<Value>,
        copy: Option<&Value>,
    ) -> Outcome {
        let (Some(mut body), Some(copy)) = (view, copy) else {
            return Ok(Flow::Done);
        };
        if !meta(&body).deletion_timestamp().is_empty() {
            return Ok(Flow::Done);
        }
        let client = self.view(gvr, &key.cluster);
        self.taken(gvr, key);
        if meta(&body).annotation(keys::MESSAGE_ANNOTATION).is_some() {
            // The member has it now. The answer comes back here as an event, with its status.
            remove_annotation(&mut body, keys::MESSAGE_ANNOTATION);
            return settled(client.replace(&key.namespace, &key.name, "", &body).await);
        }
        let Some(status) = status::report(&body, copy) else {
            return Ok(Flow::Done);
        };
        body["status"] = status;
        settled(
            client
                .replace(&key.namespace, &key.name, "status", &body)
                .await,
        )
    }
}

/// A conflict or a vanished object means that a newer event is on its way.
fn settled<T>(result: Result<T, Error>) -> Outcome {
    match result {
        Ok(_) => Ok(Flow::Done),
        Err(error) if error.is_conflict() || error.is_not_found() => Ok(Flow::Done),
        Err(error) => Err(error),
    }
}

/// When to look again at an object of a resource that has not been listed for so long.
fn unsynced_retry(waited: Duration) -> Duration {
    (waited / 10).clamp(UNSYNCED_RETRY, LAST_UNSYNCED_RETRY)
}

/// Value of the index by namespace, of an object of the hub.
fn home_value(key: &ClusterKey) -> String {
    format!("{}/{}", key.cluster, key.namespace)
}

fn member_key(namespace: &str, name: &str) -> ClusterKey {
    ClusterKey {
        cluster: ClusterName::new(ClusterName::ROOT),
        namespace: namespace.to_owned(),
        name: name.to_owned(),
    }
}

/// Watches what carries this target's label in the member.
fn downstream_informer(options: &AgentOptions, gvr: &GroupVersionResource) -> Informer<Packed> {
    let client = ResourceClient::new(options.downstream.base_client(), gvr.clone());
    let label = format!(
        "{}={}",
        keys::DOWNSTREAM_CLUSTER_LABEL,
        options.target.key()
    );
    let cluster = ClusterName::new(ClusterName::ROOT);
    let informer = Informer::<Packed>::new(client, Some(cluster));
    informer
        .labels(&label)
        .budget(Budget::MEMBER)
        .page_size(PAGE)
        .jitter(options.jitter.clone())
}
