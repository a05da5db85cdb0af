//! A hub with controllers, simulated members and a syncer that only beats.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tmc_api::hashes::sync_target_key;
use tmc_api::keys;
use tmc_apimachinery::{ClusterName, GroupVersionResource};
use tmc_controllers::clock::Clock;
use tmc_controllers::connector::{Outbound, OwnListeners};
use tmc_controllers::eviction;
use tmc_controllers::heartbeat::{Beat, Beats, TargetId};
use tmc_controllers::kubeconfig::Allowances;
use tmc_controllers::metrics::Metrics;
use tmc_controllers::placement::filter::Unlimited;
use tmc_controllers::synctarget::hosted::{
    Halt, HostedState, HostedSyncer, HostedSyncers, OnHostedChange,
};
use tmc_controllers::{AgentSettings, Deps, Handle, Manager};
use tmc_runtime::{ClusterKey, Jitter};

use crate::hub::FakeHub;
use crate::member::{Members, Reached};
use crate::{CLUSTERS, DEPLOYMENTS, PLACEMENTS, SECRETS, TARGETS};

pub(crate) struct World {
    pub(crate) hub: FakeHub,
    pub(crate) beats: Arc<Beats>,
    pub(crate) syncers: Arc<Syncers>,
    pub(crate) clock: Clock,
    pub(crate) members: Arc<Members>,
    pub(crate) url: Arc<Mutex<String>>,
    pub(crate) expiries: Arc<Expiries>,
    pub(crate) handle: Handle,
}

/// The ends of credentials, as they were measured last.
#[derive(Default)]
pub(crate) struct Expiries(pub(crate) Mutex<BTreeMap<String, Option<Timestamp>>>);

impl Metrics for Expiries {
    fn credential_expires(&self, cluster: &ClusterKey, at: Option<Timestamp>) {
        self.0.lock().insert(cluster.name.clone(), at);
    }

    fn reconciled(&self, _: &'static str, _: std::time::Duration, _: bool) {}
}

/// Hosted syncers that report to run at once; whether they beat is up to the test.
#[derive(Default)]
pub(crate) struct Syncers {
    pub(crate) running: Mutex<Vec<TargetId>>,
    /// What each was started with last, and how often it was started anew.
    pub(crate) started: Mutex<BTreeMap<String, (HostedSyncer, usize)>>,
    /// Targets that beat although nobody here runs their syncers.
    pub(crate) elsewhere: Mutex<Vec<TargetId>>,
    /// One that is stopped is still at something.
    pub(crate) busy: AtomicBool,
    /// UIDs of targets that run but do not beat.
    pub(crate) silent: Mutex<Vec<String>>,
    changed: Mutex<Option<OnHostedChange>>,
}

impl HostedSyncers for Syncers {
    fn ensure(&self, syncer: HostedSyncer) {
        let mut running = self.running.lock();
        let mut started = self.started.lock();
        let before = started
            .get(&syncer.target.uid)
            .map(|(s, n)| (s.fingerprint.clone(), *n));
        let same = running.contains(&syncer.target)
            && before
                .as_ref()
                .is_some_and(|(print, _)| *print == syncer.fingerprint);
        if !same {
            let times = before.map_or(0, |(_, n)| n) + 1;
            started.insert(syncer.target.uid.clone(), (syncer.clone(), times));
        }
        if !running.contains(&syncer.target) {
            running.push(syncer.target.clone());
        }
    }

    fn stop(&self, target: &TargetId) -> Halt {
        self.running.lock().retain(|running| running != target);
        match self.busy.load(Ordering::Relaxed) {
            true => Halt::Ending,
            false => Halt::Ended,
        }
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
        let clock = Clock::starting_at("2030-01-01T00:00:00Z".parse().unwrap());
        hub.set_clock(&clock);
        let members = Arc::new(Members::new(&clock));
        Self::with_hub(hub, clock, members).await
    }

    async fn with_hub(hub: FakeHub, clock: Clock, members: Arc<Members>) -> Self {
        let url = Arc::new(Mutex::new("https://hub:6443".to_owned()));
        let expiries = Arc::new(Expiries::default());
        let base_url = Arc::clone(&url);
        let beats = Arc::new(Beats::new());
        let syncers = Arc::new(Syncers::default());
        let outbound = Outbound::new(OwnListeners::default(), Arc::new(Reached(members.clone())));
        let deps = Deps {
            base_url: Arc::new(move || base_url.lock().clone()),
            sync_resources: vec![GroupVersionResource::new("apps", "v1", "deployments")],
            beats: beats.clone(),
            hosted: syncers.clone(),
            outbound,
            allowances: Allowances::default(),
            agents: AgentSettings {
                image: "tmc:test".into(),
                hub_ca: b"HUB-CA".to_vec(),
            },
            metrics: expiries.clone(),
            eviction: eviction::Rules::default(),
            quota: Arc::new(Unlimited),
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
            members,
            url,
            expiries,
            handle,
        };
        world.beat_on();
        world
    }

    /// Every running syncer beats every ten seconds.
    fn beat_on(&self) {
        let (beats, syncers, clock, hub) = (
            self.beats.clone(),
            Arc::downgrade(&self.syncers),
            self.clock.clone(),
            self.hub.clone(),
        );
        // Beats for what is not there are refused where they come in.
        let is_there = move |target: &TargetId| {
            let found = hub.get(target.cluster.as_str(), TARGETS, &target.name);
            found.is_some_and(|found| found["metadata"]["uid"] == *target.uid)
        };
        tokio::spawn(async move {
            while let Some(syncers) = syncers.upgrade() {
                let mut running = syncers.running.lock().clone();
                running.extend(syncers.elsewhere.lock().iter().cloned());
                let silent = syncers.silent.lock().clone();
                for target in running
                    .into_iter()
                    .filter(|target| !silent.contains(&target.uid) && is_there(target))
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

    /// The only SyncTarget of `compute`.
    pub(crate) fn target(&self) -> Value {
        let mut all = self.hub.all("compute", crate::TARGETS);
        assert_eq!(all.len(), 1, "one SyncTarget");
        all.remove(0)
    }

    /// Registers `east` in `compute` and waits until its SyncTarget is Ready.
    pub(crate) async fn ready_east(&self, spec: &Value) -> String {
        self.register("compute", "east", spec);
        self.hub
            .until("a ready Cluster", |hub| {
                hub.all("compute", CLUSTERS).iter().all(ready)
            })
            .await;
        self.target()["metadata"]["name"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    /// Another process takes over: the hub is what remains.
    pub(crate) async fn restart(self) -> Self {
        self.handle.stop().await;
        Self::with_hub(self.hub, self.clock, self.members).await
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
        missing_rights: None,
        synced: Default::default(),
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

/// A condition of an object: status, reason, message.
pub(crate) fn condition(object: &Value, kind: &str) -> (String, String, String) {
    let conditions = object["status"]["conditions"].as_array().cloned();
    let found = conditions.into_iter().flatten().find(|c| c["type"] == kind);
    let text = |field: &str| {
        let found = found.as_ref().and_then(|c| c[field].as_str());
        found.unwrap_or_default().to_owned()
    };
    (text("status"), text("reason"), text("message"))
}

/// What a syncer does with the Deployments of `demo` for its target, once a second until it is
/// aborted: it takes those that are labelled, says that they are available, and lets go of those that
/// it is asked to remove.
pub(crate) fn syncer(hub: &FakeHub, key: &str) -> tokio::task::JoinHandle<()> {
    let (hub, key) = (hub.clone(), key.to_owned());
    tokio::spawn(async move {
        loop {
            for object in hub.all("demo", DEPLOYMENTS) {
                sync(&hub, &key, &object);
            }
            tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        }
    })
}

fn sync(hub: &FakeHub, key: &str, object: &Value) {
    let meta = &object["metadata"];
    let name = format!(
        "{}/{}",
        meta["namespace"].as_str().unwrap(),
        meta["name"].as_str().unwrap()
    );
    let (state, deletion) = (keys::state_label(key), keys::deletion_annotation(key));
    let (finalizer, diff) = (keys::syncer_finalizer(key), keys::diff_annotation(key));
    if meta["labels"][&state] != "Sync" {
        return;
    }
    let mut finalizers = meta["finalizers"].as_array().cloned().unwrap_or_default();
    let has_copy = finalizers.contains(&json!(finalizer));
    let patch = if !meta["annotations"][&deletion].is_null() {
        finalizers.retain(|f| *f != json!(finalizer));
        json!({"metadata": {
            "finalizers": finalizers, "labels": {state: null},
            "annotations": {deletion: null, diff: null},
        }})
    } else if has_copy {
        return;
    } else {
        finalizers.push(json!(finalizer));
        let status = json!({"status": {"conditions": [{"type": "Available", "status": "True"}]}});
        json!({"metadata": {"finalizers": finalizers, "annotations": {diff: status.to_string()}}})
    };
    hub.patch("demo", DEPLOYMENTS, &name, patch);
}

/// Makes External SyncTargets in `compute` that beat and serve Deployments.
pub(crate) fn externals(world: &World, count: usize) -> Vec<TargetId> {
    let cluster = ClusterName::new("compute");
    let made = (0..count).map(|n| {
        let name = format!("x{n:02}");
        let object = world.hub.create(
            "compute",
            TARGETS,
            json!({
                "apiVersion": "workload.kcp.io/v1alpha1", "kind": "SyncTarget",
                "metadata": {"name": name}, "spec": {},
            }),
        );
        let id = TargetId::new(&cluster, &name, object["metadata"]["uid"].as_str().unwrap());
        let apis = [GroupVersionResource::new("apps", "v1", "deployments")];
        world.beats.record(
            &id,
            Beat {
                apis: Some(Arc::new(apis.into())),
                ..beat(world.clock.now())
            },
        );
        world.syncers.elsewhere.lock().push(id.clone());
        id
    });
    made.collect()
}

/// The name of the SyncTarget of `compute` with a key.
pub(crate) fn name_of(hub: &FakeHub, key: &str) -> String {
    let targets = hub.all("compute", TARGETS);
    let mut names = targets
        .iter()
        .map(|t| t["metadata"]["name"].as_str().unwrap());
    let name = names.find(|name| sync_target_key("compute", name) == key);
    name.unwrap().to_owned()
}

/// The keys of the targets of a Placement of `demo`.
pub(crate) fn picked(hub: &FakeHub, placement: &str) -> Vec<String> {
    let placement = hub.get("demo", PLACEMENTS, placement).unwrap();
    let targets = placement["status"]["syncTargets"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    targets
        .iter()
        .map(|target| target["key"].as_str().unwrap().to_owned())
        .collect()
}

/// The messages of the Events of `demo` with a reason.
pub(crate) fn told(hub: &FakeHub, reason: &str) -> Vec<String> {
    let events = hub.all("demo", "events/");
    let about = events.iter().filter(|event| event["reason"] == reason);
    about
        .map(|event| event["message"].as_str().unwrap().to_owned())
        .collect()
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
