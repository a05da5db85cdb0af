//! A simulated member cluster: an in-process hub and the tasks that stand for its nodes.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::{Value, json};
use tmc_apimachinery::admission::AdmitAll;
use tmc_apimachinery::meta::meta;
use tmc_apimachinery::user::{GROUP_MASTERS, UserInfo};
use tmc_apimachinery::{ApiError, ClusterName, GroupVersionResource};
use tmc_hub::environment::{SharedEnvironment, timestamp};
use tmc_hub::storage::{Extracted, Layout, Store as ObjectStore};
use tmc_hub::{Hub, HubOptions};
use tmc_runtime::client::{DeleteParams, Error, PatchKind};
use tmc_runtime::controller::{self, Flow, Outcome};
use tmc_runtime::informer::Change;
use tmc_runtime::queue::WorkQueue;
use tmc_runtime::{ClusterKey, Connection, Informer, Jitter, ResourceClient, Store};
use tmc_server::surface::InProcessIdentity;
use tmc_server::{Server, VersionInfo};
use tokio_util::sync::CancellationToken;

use crate::workloads;

/// How a simulated cluster behaves.
#[derive(Clone, Debug)]
pub struct Behaviour {
    /// Nodes it shows.
    pub nodes: usize,
    /// Time from a Pod's creation until it is Ready.
    pub ready_after: Duration,
    /// Why Pods never become ready (a container's waiting reason), if they should not.
    pub failure: Option<String>,
    /// Randomness for retries.
    pub jitter: Jitter,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            nodes: 3,
            ready_after: Duration::from_millis(300),
            failure: None,
            jitter: Jitter::random(),
        }
    }
}

/// A running simulated member. It ends when dropped.
pub struct Member {
    connection: Connection,
    stop: CancellationToken,
}

impl Drop for Member {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Member {
    /// Starts a member.
    ///
    /// # Errors
    /// As [`Hub::start`], or if its nodes cannot be made.
    pub async fn start(
        environment: SharedEnvironment,
        behaviour: Behaviour,
    ) -> Result<Self, Error> {
        let engine = Box::new(tmc_store::engine::Memory::default());
        let options = tmc_store::Options {
            // Nothing waits for a disk here: a thread a member would only cost.
            inline: true,
            clock: running_clock(),
            ..tmc_store::Options::default()
        };
        let store = ObjectStore::open(engine, |_, value| Extracted::of(value), options)
            .map_err(ApiError::internal)?;
        let hub = Hub::start(HubOptions {
            store,
            environment: environment.clone(),
            admission: Arc::new(AdmitAll),
            layout: Layout::Plain,
            everywhere: Vec::new(),
            signer: None,
            token_keys: None,
            base_url: Arc::new(|| "https://member.invalid".to_owned()),
        })
        .await?;
        let config = tmc_server::Config {
            apply_as_merge: true,
            ..tmc_server::Config::default()
        };
        let stop = CancellationToken::new();
        let tokens = hub.service_account_tokens();
        let server = Server::builder(VersionInfo::new(36, "v1.36.2+sim"))
            .surface(Arc::new(hub))
            .tokens(tokens)
            .config(config)
            .stop(stop.clone())
            .build();
        let admin = UserInfo::new("system:admin", &[GROUP_MASTERS]);
        let member = Self {
            connection: connection(&server, admin),
            stop,
        };
        member.make_nodes(behaviour.nodes).await?;
        let nodes = Simulation::new(&member.connection, environment, behaviour);
        nodes.spawn(&member.stop);
        Ok(member)
    }

    /// How its API server is reached, with full rights. Requests that carry a bearer token
    /// ([`Connection::with_bearer`]) have the rights of that token instead.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// A client of one of its resources.
    pub fn resource(&self, group: &str, version: &str, resource: &str) -> ResourceClient {
        resource_client(&self.connection, group, version, resource)
    }

    async fn make_nodes(&self, count: usize) -> Result<(), Error> {
        let nodes = self.resource("", "v1", "nodes");
        for index in 1..=count {
            let name = format!("node-{index}");
            let node = json!({"apiVersion": "v1", "kind": "Node",
                "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}}});
            nodes.create("", &node).await?;
            let room = json!({"cpu": "8", "memory": "32Gi", "pods": "110"});
            let status = json!({"status": {
                "capacity": room, "allocatable": room,
                "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady"}],
                "nodeInfo": {"kubeletVersion": "v1.36.2"},
            }});
            nodes
                .patch("", &name, "status", PatchKind::Merge, &status)
                .await?;
        }
        Ok(())
    }
}

/// The clock of Tokio, which simulations can pause and advance.
fn running_clock() -> tmc_store::Clock {
    let origin = tokio::time::Instant::now();
    tmc_store::Clock::new(move || origin.elapsed())
}

fn connection(server: &Server, admin: UserInfo) -> Connection {
    let anybody = server.service();
    let admin = anybody.clone().with_identity(InProcessIdentity(admin));
    let by_credential = move |request: http::Request<kube::client::Body>| {
        let carries = request.headers().contains_key(http::header::AUTHORIZATION);
        let mut service = if carries {
            anybody.clone()
        } else {
            admin.clone()
        };
        tower::Service::call(&mut service, request)
    };
    Connection::in_process(tower::service_fn(by_credential))
}

fn resource_client(
    connection: &Connection,
    group: &str,
    version: &str,
    resource: &str,
) -> ResourceClient {
    ResourceClient::new(
        connection.client(""),
        GroupVersionResource::new(group, version, resource),
    )
}

/// What the queue works on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Work {
    Deployment(ClusterKey),
    ReplicaSet(ClusterKey),
    Pod(ClusterKey),
}

/// Stands for the controllers and kubelets of a cluster.
struct Simulation {
    environment: SharedEnvironment,
    behaviour: Behaviour,
    deployments: ResourceClient,
    sets: ResourceClient,
    pods: ResourceClient,
    queue: WorkQueue<Work>,
}

/// The simulation with what its informers know.
struct Running {
    simulation: Simulation,
    deployments: Store<Value>,
    sets: Store<Value>,
    pods: Store<Value>,
    /// When Pods that are not running yet were first seen, by uid.
    first_seen: Mutex<HashMap<String, tokio::time::Instant>>,
}

const BY_OWNER: &str = "owner";

impl Simulation {
    fn new(connection: &Connection, environment: SharedEnvironment, behaviour: Behaviour) -> Self {
        let queue = WorkQueue::with_jitter("simulated-workloads", behaviour.jitter.clone());
        Self {
            environment,
            behaviour,
            deployments: resource_client(connection, "apps", "v1", "deployments"),
            sets: resource_client(connection, "apps", "v1", "replicasets"),
            pods: resource_client(connection, "", "v1", "pods"),
            queue,
        }
    }

    fn spawn(self, stop: &CancellationToken) {
        let deployments = self
            .informer(&self.deployments, Work::Deployment)
            .spawn(stop.clone());
        let sets = self
            .informer(&self.sets, Work::ReplicaSet)
            .spawn(stop.clone());
        let pods = self.informer(&self.pods, Work::Pod).spawn(stop.clone());
        let running = Arc::new(Running {
            simulation: self,
            deployments,
            sets,
            pods,
            first_seen: Mutex::default(),
        });
        let stop = stop.clone();
        tokio::spawn(async move {
            running.deployments.synced().await;
            running.sets.synced().await;
            running.pods.synced().await;
            let queue = running.simulation.queue.clone();
            let mut workers = controller::run(&queue, 2, &stop, move |work: Work| {
                let running = running.clone();
                async move { running.reconcile(&work).await }
            });
            while workers.join_next().await.is_some() {}
        });
    }

    /// Every change of an object is work on it and on its owner.
    fn informer(&self, client: &ResourceClient, work: fn(ClusterKey) -> Work) -> Informer<Value> {
        let queue = self.queue.clone();
        Informer::<Value>::new(client.clone(), Some(ClusterName::new(ClusterName::ROOT)))
            .jitter(self.behaviour.jitter.clone())
            .index(BY_OWNER, |_, object: &Value| {
                vec![workloads::controller_uid(object).to_owned()]
            })
            .on_change(move |key, change| {
                let object = match &change {
                    Change::Applied { new, .. } => new,
                    Change::Deleted(last) => last,
                };
                queue.add(work(key.clone()));
                if let Some(owner) = owner_work(key, object) {
                    queue.add(owner);
                }
            })
    }
}

fn owner_work(key: &ClusterKey, object: &Value) -> Option<Work> {
    let owners = object.pointer("/metadata/ownerReferences")?.as_array()?;
    let owner = owners.iter().find(|o| o["controller"] == true)?;
    let key = ClusterKey {
        name: owner["name"].as_str()?.to_owned(),
        ..key.clone()
    };
    match owner["kind"].as_str()? {
        "Deployment" => Some(Work::Deployment(key)),
        "ReplicaSet" => Some(Work::ReplicaSet(key)),
        _ => None,
    }
}

impl Running {
    async fn reconcile(&self, work: &Work) -> Outcome {
        match work {
            Work::Deployment(key) => self.deployment(key).await,
            Work::ReplicaSet(key) => self.replica_set(key).await,
            Work::Pod(key) => self.pod(key).await,
        }
    }

    fn now(&self) -> String {
        timestamp(self.simulation.environment.now())
    }

    async fn deployment(&self, key: &ClusterKey) -> Outcome {
        let Some(deployment) = self.deployments.get(key) else {
            return Ok(Flow::Done);
        };
        if meta(&deployment).is_being_deleted() {
            return Ok(Flow::Done);
        }
        let sets = &self.simulation.sets;
        let owned = self.sets.by_index(BY_OWNER, meta(&deployment).uid());
        let current = workloads::replica_set(&deployment);
        let name = meta(&current).name().to_owned();
        let newest = owned.iter().find(|(key, _)| key.name == name);
        if newest.is_none() {
            ignore_conflict(sets.create(&key.namespace, &current).await)?;
        }
        let ready = newest.is_some_and(|(_, set)| {
            set.pointer("/status/readyReplicas")
                .and_then(Value::as_i64)
                .unwrap_or(0)
                >= workloads::replicas(&deployment)
        });
        for (at, set) in &owned {
            let wanted = workloads::scale_of(&deployment, set, ready);
            if wanted != workloads::replicas(set) {
                let patch = json!({"spec": {"replicas": wanted}});
                ignore_conflict(
                    sets.patch(&at.namespace, &at.name, "", PatchKind::Merge, &patch)
                        .await,
                )?;
            }
        }
        let owned: Vec<&Value> = owned.iter().map(|(_, set)| &**set).collect();
        let status = workloads::deployment_status(&deployment, &owned, &self.now());
        self.report(&self.simulation.deployments, &deployment, status)
            .await
    }

    async fn replica_set(&self, key: &ClusterKey) -> Outcome {
        let Some(set) = self.sets.get(key) else {
            return Ok(Flow::Done);
        };
        // A set that waits for its Pods to go must not make new ones.
        if meta(&set).is_being_deleted() {
            return Ok(Flow::Done);
        }
        let owned = self.pods.by_index(BY_OWNER, meta(&set).uid());
        let wanted = usize::try_from(workloads::replicas(&set)).unwrap_or(0);
        for number in owned.len()..wanted {
            let node = format!(
                "node-{}",
                number % self.simulation.behaviour.nodes.max(1) + 1
            );
            let pod = workloads::pod(&set, &node);
            self.simulation.pods.create(&key.namespace, &pod).await?;
        }
        for (at, _) in owned.iter().skip(wanted) {
            self.remove(&self.simulation.pods, at).await?;
        }
        if owned.len() != wanted {
            // The Pods' own events bring this set back with what became of it.
            return Ok(Flow::Done);
        }
        let pods: Vec<&Value> = owned.iter().map(|(_, pod)| &**pod).collect();
        let status = workloads::replica_set_status(&set, &pods);
        self.report(&self.simulation.sets, &set, status).await
    }

    async fn pod(&self, key: &ClusterKey) -> Outcome {
        let Some(pod) = self.pods.get(key) else {
            return Ok(Flow::Done);
        };
        if pod.pointer("/status/startTime").is_some() {
            return Ok(Flow::Done);
        }
        let behaviour = &self.simulation.behaviour;
        // The delay counts from the first look: creation times are whole seconds only.
        let first_seen = *self
            .first_seen
            .lock()
            .entry(meta(&pod).uid().to_owned())
            .or_insert_with(tokio::time::Instant::now);
        let left = behaviour.ready_after.saturating_sub(first_seen.elapsed());
        if !left.is_zero() {
            return Ok(Flow::RequeueAfter(left));
        }
        self.first_seen.lock().remove(meta(&pod).uid());
        let status = workloads::pod_status(&pod, &self.now(), behaviour.failure.as_deref());
        self.report(&self.simulation.pods, &pod, status).await
    }

    async fn remove(&self, client: &ResourceClient, key: &ClusterKey) -> Outcome {
        ignore_conflict(
            client
                .delete(&key.namespace, &key.name, &DeleteParams::default())
                .await,
        )?;
        Ok(Flow::Done)
    }

    async fn report(&self, client: &ResourceClient, object: &Value, status: Value) -> Outcome {
        if object["status"] == status {
            return Ok(Flow::Done);
        }
        let mut object = object.clone();
        object["status"] = status;
        let at = meta(&object);
        ignore_conflict(
            client
                .replace(at.namespace(), at.name(), "status", &object)
                .await,
        )?;
        Ok(Flow::Done)
    }
}

/// A conflict or a vanished object means that a newer event is on its way.
fn ignore_conflict<T>(result: Result<T, Error>) -> Result<(), Error> {
    match result {
        Err(error) if error.is_conflict() || error.is_not_found() => Ok(()),
        other => other.map(drop),
    }
}
