//! What the controllers watch, each resource once for all of them, and how it is found.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use tmc_api::hashes::sync_target_key;
use tmc_api::keys::PATH_ANNOTATION;
use tmc_api::scheduling::{self, Location, Placement};
use tmc_api::tenancy;
use tmc_api::workload::{self, Cluster, SyncTarget};
use tmc_apimachinery::{ClusterName, GroupVersionResource};
use tmc_runtime::{ClusterKey, Hub, Informer, Jitter, ResourceClient, Store};

use crate::coordination::shares;
use crate::namespace::reconcile::Namespace;
use crate::placement;
use crate::slim::Slim;

/// Names of indexes.
pub(crate) mod index {
    /// By logical cluster.
    pub(crate) const CLUSTER: &str = "cluster";
    /// SyncTargets by the Cluster they refer to, Clusters by their Secret: the key as text.
    pub(crate) const REFERENCE: &str = "reference";
    /// SyncTargets by their own key; Placements by those they have; namespaces and objects by those
    /// in their labels and finalizers.
    pub(crate) const TARGET: &str = "target";
    /// Placements by where they choose from: see [`super::own_provider`] and the path as text.
    pub(crate) const PROVIDER: &str = "provider";
    /// Likewise, but only those to which targets matter that they do not have.
    pub(crate) const LOOKING: &str = "looking";
    /// Placements that divide replicas: their logical cluster.
    pub(crate) const DIVIDED: &str = "divided";
    /// LogicalClusters by path.
    pub(crate) const PATH: &str = "path";
    /// Objects by `<cluster>/<namespace>`.
    pub(crate) const NAMESPACE: &str = "namespace";
    /// Objects by `<cluster>/<namespace>/<target key>`.
    pub(crate) const USE: &str = "use";
}

/// Everything that is watched.
#[derive(Clone)]
pub(crate) struct Stores {
    pub(crate) sync_targets: Store<SyncTarget>,
    pub(crate) clusters: Store<Cluster>,
    pub(crate) locations: Store<Location>,
    pub(crate) placements: Store<Placement>,
    pub(crate) namespaces: Store<Namespace>,
    /// `None` on a hub without workspaces.
    pub(crate) logical_clusters: Option<Store<Slim>>,
    /// The synced resources, the built-in ones included, in the order of their numbers.
    pub(crate) resources: Vec<Resource>,
}

/// A synced resource and its objects.
#[derive(Clone)]
pub(crate) struct Resource {
    pub(crate) gvr: GroupVersionResource,
    pub(crate) store: Store<Slim>,
}

/// The informers before they run, so that handlers can be added.
pub(crate) struct Informers {
    pub(crate) sync_targets: Informer<SyncTarget>,
    pub(crate) clusters: Informer<Cluster>,
    pub(crate) locations: Informer<Location>,
    pub(crate) placements: Informer<Placement>,
    pub(crate) namespaces: Informer<Namespace>,
    pub(crate) logical_clusters: Option<Informer<Slim>>,
    pub(crate) resources: Vec<(GroupVersionResource, Informer<Slim>)>,
}

/// The core resources that every target has beside what it is asked to sync (protocol, 6.4);
/// namespaces are looked after on their own.
const BUILT_IN: [&str; 3] = ["configmaps", "secrets", "serviceaccounts"];

/// All synced resources, each once.
pub(crate) fn all_resources(wanted: &[GroupVersionResource]) -> Vec<GroupVersionResource> {
    let built_in = BUILT_IN.map(|resource| GroupVersionResource::new("", "v1", resource));
    let mut seen = BTreeSet::new();
    let all = built_in.into_iter().chain(wanted.iter().cloned());
    // One version is enough: all versions are the same objects.
    all.filter(|gvr| gvr.resource != "namespaces" && seen.insert(gvr.group_resource()))
        .collect()
}

impl Informers {
    pub(crate) fn new(hub: &Hub, wanted: &[GroupVersionResource], jitter: &Jitter) -> Self {
        let source = &Source { hub, jitter };
        let ours = |group, version, resource| GroupVersionResource::new(group, version, resource);
        let (work, place) = (workload::GROUP, scheduling::GROUP);
        let logical = ours(tenancy::CORE_GROUP, tenancy::VERSION, "logicalclusters");
        Self {
            sync_targets: informer(source, ours(work, workload::VERSION, "synctargets"))
                .index(index::TARGET, |key, _| {
                    vec![sync_target_key(key.cluster.as_str(), &key.name)]
                })
                .index(index::REFERENCE, |key, target: &SyncTarget| {
                    let reference = target.spec.cluster_ref.iter();
                    reference
                        .map(|r| ClusterKey::new(&key.cluster, &r.namespace, &r.name).to_string())
                        .collect()
                }),
            clusters: informer(source, ours(work, workload::VERSION, "clusters"))
                .index(index::REFERENCE, |key, cluster: &Cluster| {
                    vec![secret_key(key, cluster).to_string()]
                }),
            locations: informer(source, ours(place, scheduling::VERSION, "locations")),
            placements: informer(source, ours(place, scheduling::VERSION, "placements"))
                .index(index::CLUSTER, |key, _| vec![key.cluster.to_string()])
                .index(index::PROVIDER, |key, placement: &Placement| {
                    vec![provider_value(key, placement)]
                })
                .index(index::LOOKING, |key, placement: &Placement| {
                    let looking = placement::is_looking(placement);
                    looking
                        .then(|| provider_value(key, placement))
                        .into_iter()
                        .collect()
                })
                .index(index::DIVIDED, |key, placement: &Placement| {
                    let divided = shares::is_divided(placement);
                    divided
                        .then(|| key.cluster.to_string())
                        .into_iter()
                        .collect()
                })
                .index(index::TARGET, |_, placement: &Placement| {
                    placement::keys(placement)
                }),
            namespaces: informer(source, ours("", "v1", "namespaces"))
                .index(index::CLUSTER, |key, _| vec![key.cluster.to_string()])
                .index(index::TARGET, |_, namespace: &Namespace| {
                    namespace.target_keys()
                }),
            logical_clusters: hub.workspaces.then(|| {
                informer(source, logical).index(index::PATH, |_, cluster: &Slim| {
                    cluster
                        .metadata
                        .annotations
                        .get(PATH_ANNOTATION)
                        .into_iter()
                        .cloned()
                        .collect()
                })
            }),
            resources: all_resources(wanted)
                .into_iter()
                .map(|gvr| (gvr.clone(), objects(source, gvr)))
                .collect(),
        }
    }

    pub(crate) fn stores(&self) -> Stores {
        Stores {
            sync_targets: self.sync_targets.store(),
            clusters: self.clusters.store(),
            locations: self.locations.store(),
            placements: self.placements.store(),
            namespaces: self.namespaces.store(),
            logical_clusters: self.logical_clusters.as_ref().map(Informer::store),
            resources: self
                .resources
                .iter()
                .map(|(gvr, informer)| Resource {
                    gvr: gvr.clone(),
                    store: informer.store(),
                })
                .collect(),
        }
    }
}

/// What every informer is made of.
struct Source<'a> {
    hub: &'a Hub,
    jitter: &'a Jitter,
}

fn informer<T: DeserializeOwned + Send + Sync + 'static>(
    source: &Source<'_>,
    gvr: GroupVersionResource,
) -> Informer<T> {
    // A hub without workspaces is one workspace named root.
    let cluster = (!source.hub.workspaces).then(|| ClusterName::new(ClusterName::ROOT));
    let client = ResourceClient::new(source.hub.wildcard(), gvr);
    Informer::new(client, cluster).jitter(source.jitter.clone())
}

fn objects(source: &Source<'_>, gvr: GroupVersionResource) -> Informer<Slim> {
    informer::<Slim>(source, gvr)
        .index(index::NAMESPACE, |key, _| vec![namespace_value(key)])
        .index(index::TARGET, |_, object| {
            marks(object).into_iter().map(str::to_owned).collect()
        })
        .index(index::USE, |key, object| {
            marks(object)
                .into_iter()
                .map(|k| use_value(key, k))
                .collect()
        })
}

/// The keys of targets that an object has a label or finalizer of.
pub(crate) fn marks(object: &Slim) -> BTreeSet<&str> {
    object
        .states()
        .map(|(key, _)| key)
        .chain(object.syncer_finalizers())
        .collect()
}

/// Value of the index by namespace, of an object.
pub(crate) fn namespace_value(object: &ClusterKey) -> String {
    format!("{}/{}", object.cluster, object.namespace)
}

/// Value of the index by namespace and target, of an object.
pub(crate) fn use_value(object: &ClusterKey, target: &str) -> String {
    format!("{}/{}/{target}", object.cluster, object.namespace)
}

/// Whether every target takes a resource without being asked to.
pub(crate) fn is_built_in(gvr: &GroupVersionResource) -> bool {
    gvr.group.is_empty() && BUILT_IN.contains(&&*gvr.resource)
}

/// Value of the index by namespace, of the objects in a namespace.
pub(crate) fn namespace_of(namespace: &ClusterKey) -> String {
    format!("{}/{}", namespace.cluster, namespace.name)
}

fn provider_value(key: &ClusterKey, placement: &Placement) -> String {
    match location_workspace(placement) {
        Some(path) => path.to_owned(),
        None => own_provider(&key.cluster),
    }
}

/// Value of the index by provider, of Placements that choose from their own workspace. No path
/// looks like it.
pub(crate) fn own_provider(cluster: &ClusterName) -> String {
    format!("={cluster}")
}

/// The path that a Placement names, if it names one.
pub(crate) fn location_workspace(placement: &Placement) -> Option<&str> {
    placement
        .spec
        .location_workspace
        .as_deref()
        .filter(|path| !path.is_empty())
}

/// The Secret that a Cluster names.
pub(crate) fn secret_key(key: &ClusterKey, cluster: &Cluster) -> ClusterKey {
    ClusterKey::new(
        &key.cluster,
        &key.namespace,
        &cluster.spec.kubeconfig_secret_ref.name,
    )
}

impl Stores {
    /// Resolves once everything but the synced resources is known. (Of those, one that the hub does
    /// not serve must not hold up the rest.)
    pub(crate) async fn synced(&self) {
        self.sync_targets.synced().await;
        self.clusters.synced().await;
        self.locations.synced().await;
        self.placements.synced().await;
        self.namespaces.synced().await;
        if let Some(clusters) = &self.logical_clusters {
            clusters.synced().await;
        }
    }

    /// The path of a logical cluster; its name where nothing else is known.
    pub(crate) fn path_of(&self, cluster: &ClusterName) -> String {
        let key = ClusterKey::new(cluster, "", tenancy::LOGICAL_CLUSTER_NAME);
        let object = self
            .logical_clusters
            .as_ref()
            .and_then(|store| store.get(&key));
        object
            .and_then(|object| object.metadata.annotations.get(PATH_ANNOTATION).cloned())
            .unwrap_or_else(|| cluster.to_string())
    }

    /// The logical cluster that a path (or a logical cluster's name) leads to.
    pub(crate) fn resolve(&self, path: &str) -> Option<ClusterName> {
        let Some(store) = &self.logical_clusters else {
            return (path == ClusterName::ROOT).then(|| ClusterName::new(path));
        };
        if let Some(key) = store.keys_by_index(index::PATH, path).into_iter().next() {
            return Some(key.cluster);
        }
        let name = ClusterName::parse(path)?;
        let key = ClusterKey::new(&name, "", tenancy::LOGICAL_CLUSTER_NAME);
        store.get(&key).map(|_| name)
    }

    /// The SyncTarget with this key.
    pub(crate) fn target(&self, key: &str) -> Option<Arc<SyncTarget>> {
        let found = self
            .sync_targets
            .by_index(index::TARGET, key)
            .into_iter()
            .next();
        found.map(|(_, target)| target)
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    /// The sources of this crate but for this file, where indexes are declared.
    fn sources(at: &Path) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(at).unwrap();
        let paths = entries.map(|entry| entry.unwrap().path());
        paths
            .flat_map(|path| {
                if path.is_dir() {
                    sources(&path)
                } else {
                    vec![path]
                }
            })
            .filter(|path| !path.ends_with("stores.rs"))
            .collect()
    }

    #[test]
    fn every_index_has_a_consumer() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let read = |path: &PathBuf| std::fs::read_to_string(path).unwrap();
        let consumers: String = sources(&root).iter().map(read).collect();
        // The lookups of this file, whose declarations do not count.
        let own = include_str!("stores.rs").replace(".index(index::", "");
        let names: Vec<&str> = own
            .lines()
            .filter_map(|line| line.trim().strip_prefix("pub(crate) const "))
            .filter_map(|line| Some(line.split_once(": &str = ")?.0))
            .collect();
        assert!(names.len() >= 7, "{names:?}");
        for name in names {
            let used = format!("index::{name}");
            assert!(consumers.contains(&used) || own.contains(&used), "{name}");
        }
        let text: String = (consumers + &own).split_whitespace().collect();
        for (store, name) in declared() {
            let named = format!("index::{name}");
            let used = text.match_indices(&named).any(|(at, _)| {
                // One that is looked up by a variable may be any store's.
                text[..at].strip_suffix("by_index(").is_none_or(|before| {
                    let of = before.trim_end_matches(|c: char| c.is_alphanumeric() || c == '_');
                    of.ends_with(&format!("{store}."))
                })
            });
            assert!(used, "nobody looks {store} up by {name}");
        }
    }

    /// The stores of our own kinds and of namespaces, each with the indexes that it has.
    fn declared() -> Vec<(String, String)> {
        let bare: String = include_str!("stores.rs").split_whitespace().collect();
        let ours = bare.split("logical_clusters:hub").next().unwrap();
        let mut store = "";
        let mut pairs = Vec::new();
        for (n, part) in ours.split(".index(index::").enumerate() {
            if n > 0 {
                let name = part.split(',').next().unwrap();
                pairs.push((store.to_owned(), name.to_owned()));
            }
            if let Some((before, _)) = part.rsplit_once(":informer(") {
                store = before.rsplit([',', '{']).next().unwrap();
            }
        }
        assert!(pairs.len() >= 8, "{pairs:?}");
        pairs
    }
}
