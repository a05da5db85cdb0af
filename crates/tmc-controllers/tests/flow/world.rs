//! A hub with controllers, simulated members and a syncer that only beats.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use kube::client::Body;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tmc_apimachinery::GroupVersionResource;
use tmc_controllers::clock::Clock;
use tmc_controllers::connector::{Outbound, OwnListeners, SimulatedMembers};
use tmc_controllers::heartbeat::{Beat, Beats, TargetId};
use tmc_controllers::kubeconfig::Allowances;
use tmc_controllers::synctarget::hosted::{
    HostedState, HostedSyncer, HostedSyncers, OnHostedChange,
};
use tmc_controllers::{Deps, Handle, Manager};
use tmc_runtime::{Connection, Credential, Jitter};

use crate::hub::FakeHub;
use crate::{CLUSTERS, SECRETS};

pub(crate) struct World {
    pub(crate) hub: FakeHub,
    pub(crate) beats: Arc<Beats>,
    pub(crate) syncers: Arc<Syncers>,
    pub(crate) clock: Clock,
    handle: Handle,
}

/// Hosted syncers that report to run at once; whether they beat is up to the test.
#[derive(Default)]
pub(crate) struct Syncers {
    pub(crate) running: Mutex<Vec<TargetId>>,
    /// UIDs of targets that run but do not beat.
    pub(crate) silent: Mutex<Vec<String>>,
    changed: Mutex<Option<OnHostedChange>>,
}

impl HostedSyncers for Syncers {
    fn ensure(&self, syncer: HostedSyncer) {
        let mut running = self.running.lock();
        if !running.contains(&syncer.target) {
            running.push(syncer.target.clone());
        }
    }

    fn stop(&self, target: &TargetId) {
        self.running.lock().retain(|running| running != target);
    }

    fn state(&self, target: &TargetId) -> HostedState {
        if self.running.lock().contains(target) {
            HostedState::Running
        } else {
            HostedState::Absent
        }
    }

    fn on_change(&self, changed: OnHostedChange) {
        *self.changed.lock() = Some(changed);
    }
}

/// Members that answer discovery, for the token `right`.
struct Members;

impl SimulatedMembers for Members {
    fn connect(&self, _: &str, credential: &Credential) -> Option<Connection> {
        if !matches!(credential, Credential::Token(token) if token == "right") {
            return None;
        }
        Some(Connection::in_process(tower::service_fn(
            |request: http::Request<Body>| async move {
                let answer = match request.uri().path() {
                    "/version" => json!({"gitVersion": "v1.36.0"}),
                    "/api" => json!({"versions": ["v1"]}),
                    "/apis" => json!({"groups": [{"name": "apps", "versions": [{"version": "v1"}],
                                               "preferredVersion": {"version": "v1"}}]}),
                    "/apis/apps/v1" => {
                        json!({"resources": [{"name": "deployments"}, {"name": "deployments/status"}]})
                    }
                    path => panic!("{path}"),
                };
                Ok::<_, std::io::Error>(http::Response::new(Body::from(
                    answer.to_string().into_bytes(),
                )))
            },
        )))
    }
}

impl World {
    pub(crate) async fn start() -> Self {
        let hub = FakeHub::new();
        for (cluster, path) in [("compute", "root:compute"), ("demo", "root:demo")] {
            hub.create(
                cluster,
                "logicalclusters/core.kcp.io",
                json!({"metadata": {"name": "cluster", "annotations": {"kcp.io/path": path}}}),
            );
        }
        Self::with_hub(
            hub,
            Clock::starting_at("2030-01-01T00:00:00Z".parse().unwrap()),
        )
        .await
    }

    async fn with_hub(hub: FakeHub, clock: Clock) -> Self {
        let beats = Arc::new(Beats::new());
        let syncers = Arc::new(Syncers::default());
        let outbound = Outbound::new(OwnListeners::default(), Arc::new(Members));
        let deps = Deps {
            base_url: Arc::new(|| "https://hub:6443".into()),
            sync_resources: vec![GroupVersionResource::new("apps", "v1", "deployments")],
            beats: beats.clone(),
            hosted: syncers.clone(),
            outbound,
            allowances: Allowances::default(),
            clock: clock.clone(),
            jitter: Jitter::seeded(1),
        };
        let handle = Manager::start(hub.hub(), deps);
        handle.ready().await;
        let world = Self {
            hub,
            beats,
            syncers,
            clock,
            handle,
        };
        world.beat_on();
        world
    }

    /// Every running syncer beats every ten seconds.
    fn beat_on(&self) {
        let (beats, syncers, clock) = (
            self.beats.clone(),
            Arc::downgrade(&self.syncers),
            self.clock.clone(),
        );
        tokio::spawn(async move {
            while let Some(syncers) = syncers.upgrade() {
                let running = syncers.running.lock().clone();
                let silent = syncers.silent.lock().clone();
                for target in running
                    .into_iter()
                    .filter(|target| !silent.contains(&target.uid))
                {
                    beats.record(&target, beat(clock.now()));
                }
                drop(syncers);
                tokio::time::sleep(std::time::Duration::from_secs(10)).await;
            }
        });
    }

    pub(crate) fn register(&self, workspace: &str, name: &str, spec: &Value) {
        let secret = format!("{name}-kubeconfig");
        self.hub.create(
            workspace,
            SECRETS,
            kubeconfig_secret(&secret, name, "right"),
        );
        let mut cluster = json!({
            "apiVersion": "workload.kcp.io/v1alpha1", "kind": "Cluster",
            "metadata": {"name": name, "namespace": "default"},
            "spec": {"kubeconfigSecretRef": {"name": secret, "key": "kubeconfig"}},
        });
        for (key, value) in spec.as_object().unwrap() {
            cluster["spec"][key] = value.clone();
        }
        self.hub.create(workspace, CLUSTERS, cluster);
    }

    /// Another process takes over: the hub is what remains.
    pub(crate) async fn restart(self) -> Self {
        self.handle.stop().await;
        Self::with_hub(self.hub, self.clock).await
    }

    pub(crate) async fn stop(self) {
        self.handle.stop().await;
    }
}

pub(crate) fn beat(at: Timestamp) -> Beat {
    Beat {
        at,
        identity: "hosted".into(),
        apis: None,
        totals: None,
    }
}

pub(crate) fn kubeconfig_secret(secret: &str, host: &str, token: &str) -> Value {
    let pem = rcgen::generate_simple_self_signed(vec!["ca".into()])
        .unwrap()
        .cert
        .pem();
    let kubeconfig = json!({
        "current-context": "m",
        "contexts": [{"name": "m", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {
            "server": format!("https://{host}.sim.tmc.internal"),
            "certificate-authority-data": STANDARD.encode(pem),
        }}],
        "users": [{"name": "u", "user": {"token": token}}],
    });
    json!({
        "apiVersion": "v1", "kind": "Secret", "type": "tmc.kcp.io/kubeconfig",
        "metadata": {"name": secret, "namespace": "default"},
        "data": {"kubeconfig": STANDARD.encode(kubeconfig.to_string())},
    })
}

pub(crate) fn namespace(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
}

pub(crate) fn deployment(namespace: &str, name: &str) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": namespace}})
}

pub(crate) fn placement(provider: &str) -> Value {
    json!({
        "apiVersion": "scheduling.kcp.io/v1alpha1", "kind": "Placement", "metadata": {"name": "p"},
        "spec": {"locationSelectors": [{}], "namespaceSelector": {}, "locationWorkspace": provider},
    })
}

/// Whether an object's Ready is True.
pub(crate) fn ready(object: &Value) -> bool {
    let conditions = object["status"]["conditions"]
        .as_array()
        .into_iter()
        .flatten();
    conditions
        .into_iter()
        .any(|c| c["type"] == "Ready" && c["status"] == "True")
}

/// Whether an object of the workspace demo has the state label of a target.
pub(crate) fn state(hub: &FakeHub, resource: &str, name: &str, key: &str) -> bool {
    let label = tmc_api::keys::state_label(key);
    hub.get("demo", resource, name)
        .is_some_and(|o| o["metadata"]["labels"][label] == "Sync")
}
