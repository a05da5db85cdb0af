//! What all controllers share: the hub, what is known of it, the queues, the world outside.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;
use parking_lot::Mutex;
use tmc_apimachinery::{ClusterName, GroupVersionResource};
use tmc_runtime::queue::WorkQueue;
use tmc_runtime::{ClusterKey, Committer, Hub, Jitter};

use crate::clock::Clock;
use crate::cluster::{CredentialCache, Prober};
use crate::connector::Outbound;
use crate::eviction::{self, pace::Pace};
use crate::heartbeat::{LiveBeats, TargetId};
use crate::kubeconfig::Allowances;
use crate::members::Members;
use crate::metrics::Metrics;
use crate::placement::PlacementNotice;
use crate::placement::filter::PlacementQuota;
use crate::placement::fleet::{Fleets, Loads};
use crate::stores::Stores;
use crate::synctarget::hosted::HostedSyncers;
use crate::synctarget::installer::Installer;
use crate::synctarget::reconcile::Settings;
use crate::synctarget::removal::Progress;

/// What the controllers need of the world outside the hub.
#[derive(Clone)]
pub struct Deps {
    /// URL under which the virtual workspaces are reached; asked on each pass, empty while unknown.
    pub base_url: Arc<dyn Fn() -> String + Send + Sync>,
    /// The resources that targets sync beside the built-in ones.
    pub sync_resources: Vec<GroupVersionResource>,
    /// Beats of targets.
    pub beats: Arc<dyn LiveBeats>,
    /// Whoever runs Hosted syncers.
    pub hosted: Arc<dyn HostedSyncers>,
    /// The one way to members.
    pub outbound: Outbound,
    /// What kubeconfigs may have beyond the list.
    pub allowances: Allowances,
    /// What agents that do not run in this process are made with.
    pub agents: AgentSettings,
    /// Takes measurements.
    pub metrics: Arc<dyn Metrics>,
    /// How workload leaves targets.
    pub eviction: eviction::Rules,
    /// Whether quotas leave room for a Placement on a target.
    pub quota: Arc<dyn PlacementQuota>,
    /// The time.
    pub clock: Clock,
    /// Randomness for timers.
    pub jitter: Jitter,
}

/// What agents that do not run in this process are made with.
#[derive(Clone, Debug, Default)]
pub struct AgentSettings {
    /// The image of agents whose SyncTarget names none.
    pub image: String,
    /// The hub's certificate authority, PEM.
    pub hub_ca: Vec<u8>,
}

/// One object of a synced resource.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ObjectKey {
    /// Number of the resource in [`Stores::resources`].
    pub(crate) resource: usize,
    /// Which object.
    pub(crate) key: ClusterKey,
}

/// The queues, one a controller.
pub(crate) struct Queues {
    pub(crate) sync_targets: WorkQueue<ClusterKey>,
    pub(crate) clusters: WorkQueue<ClusterKey>,
    pub(crate) locations: WorkQueue<ClusterKey>,
    pub(crate) first_locations: WorkQueue<ClusterName>,
    pub(crate) placements: WorkQueue<ClusterKey>,
    /// What is to be told of Placements.
    pub(crate) notices: WorkQueue<PlacementNotice>,
    pub(crate) namespaces: WorkQueue<ClusterKey>,
    pub(crate) objects: WorkQueue<ObjectKey>,
    pub(crate) coordination: WorkQueue<ObjectKey>,
}

impl Queues {
    pub(crate) fn new(jitter: &Jitter) -> Self {
        Self {
            sync_targets: WorkQueue::with_jitter("synctarget", jitter.clone()),
            clusters: WorkQueue::with_jitter("cluster", jitter.clone()),
            locations: WorkQueue::with_jitter("location", jitter.clone()),
            first_locations: WorkQueue::with_jitter("default-location", jitter.clone()),
            placements: WorkQueue::with_jitter("placement", jitter.clone()),
            notices: WorkQueue::with_jitter("placement-events", jitter.clone()),
            namespaces: WorkQueue::with_jitter("namespace", jitter.clone()),
            objects: WorkQueue::with_jitter("resource", jitter.clone()),
            coordination: WorkQueue::with_jitter("coordination", jitter.clone()),
        }
    }
}

/// What all controllers share.
pub(crate) struct Context {
    pub(crate) hub: Hub,
    pub(crate) deps: Deps,
    pub(crate) stores: Stores,
    pub(crate) queues: Queues,
    pub(crate) members: Members,
    pub(crate) credentials: CredentialCache,
    pub(crate) prober: Prober,
    pub(crate) installer: Installer,
    /// Targets on their way out.
    pub(crate) removals: Mutex<HashMap<TargetId, Progress>>,
    /// Targets and Locations as Placements see them.
    pub(crate) fleets: Fleets,
    /// How many Placements have each target.
    pub(crate) loads: Loads,
    /// Held by whoever decides on a Placement, so that those who wait for it leave the thread to others.
    pub(crate) deciding: tokio::sync::Mutex<()>,
    /// Whose turn it is to move.
    pub(crate) pace: Mutex<Pace<ClusterKey>>,
    /// Since when beats could be heard.
    pub(crate) listening_since: Timestamp,
}

impl Context {
    pub(crate) fn now(&self) -> Timestamp {
        self.deps.clock.now()
    }

    pub(crate) fn settings(&self) -> Settings {
        let base_url = (self.deps.base_url)();
        Settings {
            base_url,
            sync_resources: self.deps.sync_resources.clone(),
        }
    }

    pub(crate) fn committer(&self, gvr: GroupVersionResource) -> Committer {
        Committer::new(self.hub.clone(), gvr)
    }

    /// Puts every object of a namespace into the queue.
    pub(crate) fn enqueue_objects_of(&self, namespace: &ClusterKey) {
        let value = crate::stores::namespace_of(namespace);
        self.enqueue_objects(crate::stores::index::NAMESPACE, &value);
    }

    /// Puts every object found in an index into the queue.
    pub(crate) fn enqueue_objects(&self, index: &'static str, value: &str) {
        for object in self.objects_by_index(index, value) {
            self.queues.objects.add(object);
        }
    }

    /// Every object found in an index, of all synced resources.
    pub(crate) fn objects_by_index(&self, index: &'static str, value: &str) -> Vec<ObjectKey> {
        let resources = self.stores.resources.iter().enumerate();
        resources
            .flat_map(|(number, resource)| {
                let keys = resource.store.keys_by_index(index, value).into_iter();
                keys.map(move |key| ObjectKey {
                    resource: number,
                    key,
                })
            })
            .collect()
    }
}
