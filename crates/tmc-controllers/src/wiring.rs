//! Who has to look again when something changes. Only what matters to the reader is passed on: a
//! heartbeat touches no Placement, a new status of a workload no namespace.

use std::sync::Arc;
use std::time::Duration;

use tmc_api::conditions::{self, READY};
use tmc_api::hashes::sync_target_key;
use tmc_api::keys::{OWNER_CLUSTER_ANNOTATION, PLACEMENT_ANNOTATION};
use tmc_api::scheduling::{Location, Placement};
use tmc_api::workload::{Cluster, SyncTarget};
use tmc_apimachinery::ClusterName;
use tmc_runtime::ClusterKey;
use tmc_runtime::informer::Change;

use crate::context::{Context, ObjectKey};
use crate::coordination;
use crate::eviction::takeover;
use crate::namespace::reconcile::Namespace;
use crate::placement;
use crate::placement::facts::TargetFacts;
use crate::slim::Slim;
use crate::stores::{Informers, index, is_built_in, marks, namespace_value, own_provider};
use crate::synctarget::decide;

/// How long changes of targets are gathered before their Locations count them: of a thousand that come
/// back at once not each is worth a write.
const COUNTED_AFTER: Duration = Duration::from_millis(100);

/// Adds the handlers of all controllers to the informers.
pub(crate) fn connect(informers: Informers, ctx: &Arc<Context>) -> Informers {
    let with = |ctx: &Arc<Context>| Arc::clone(ctx);
    let c = with(ctx);
    let sync_targets = informers
        .sync_targets
        .on_change(move |k, change| target(&c, k, &change));
    let c = with(ctx);
    let clusters = informers
        .clusters
        .on_change(move |k, change| cluster(&c, k, &change));
    let c = with(ctx);
    let locations = informers
        .locations
        .on_change(move |k, change| location(&c, k, &change));
    let c = with(ctx);
    let placements = informers
        .placements
        .on_change(move |k, change| placed(&c, k, &change));
    let c = with(ctx);
    let namespaces = informers
        .namespaces
        .on_change(move |k, change| namespace(&c, k, &change));
    let c = with(ctx);
    let logical_clusters = informers
        .logical_clusters
        .map(|informer| informer.on_change(move |k, _| workspace(&c, &k.cluster)));
    let resources = informers.resources.into_iter().enumerate();
    let resources = resources
        .map(|(number, (gvr, informer))| {
            let c = with(ctx);
            let secrets = (&*gvr.group, &*gvr.resource) == ("", "secrets");
            let informer = informer.on_change(move |k, change| {
                object(&c, number, k, &change);
                if secrets {
                    secret(&c, k);
                }
            });
            (gvr, informer)
        })
        .collect();
    Informers {
        sync_targets,
        clusters,
        locations,
        placements,
        namespaces,
        logical_clusters,
        resources,
    }
}

/// Whether two versions of an object differ in what `facts` says of them; a new or deleted object
/// always does.
fn differs<T, F: PartialEq>(change: &Change<'_, T>, facts: impl Fn(&T) -> F) -> bool {
    match change {
        Change::Applied {
            old: Some(old),
            new,
        } => facts(old) != facts(new),
        _ => true,
    }
}

fn target(ctx: &Context, key: &ClusterKey, change: &Change<'_, SyncTarget>) {
    let latest = change.latest();
    if latest.metadata.deletion_timestamp.is_some() && latest.spec.deletion.keep_workloads {
        // Before anybody is told that its copies are to go.
        let _ = ctx
            .deps
            .hosted
            .stop(&crate::synctarget::identity(key, latest));
    }
    ctx.queues.sync_targets.add(key.clone());
    let target_key = sync_target_key(key.cluster.as_str(), &key.name);
    match change {
        Change::Deleted(last) => {
            let id = crate::synctarget::identity(key, last);
            let _ = ctx.deps.hosted.stop(&id);
            ctx.deps.beats.forget(&id);
            ctx.installer.forget(&id);
            ctx.removals.lock().remove(&id);
            ctx.enqueue_objects(index::TARGET, &target_key);
        }
        Change::Applied { old: None, .. } => {
            for namespace in ctx
                .stores
                .namespaces
                .keys_by_index(index::TARGET, &target_key)
            {
                ctx.enqueue_objects_of(&namespace);
            }
        }
        Change::Applied { .. } => {}
    }
    coordination::target_changed(ctx, &target_key, change);
    schedulability(ctx, key, &target_key, change);
    let summary = |target: &SyncTarget| {
        let ready = conditions::get(target.conditions(), READY).cloned();
        let status = target.status.as_ref();
        (
            ready,
            decide::has_member_account(target),
            target.metadata.labels.clone(),
            status.map(|s| (s.capacity.clone(), s.allocatable.clone())),
        )
    };
    if differs(change, summary) {
        let owner = latest
            .metadata
            .annotations
            .as_ref()
            .and_then(|a| a.get(OWNER_CLUSTER_ANNOTATION));
        let mut parts = owner.into_iter().flat_map(|owner| owner.splitn(3, '/'));
        if let (Some(namespace), Some(name)) = (parts.next(), parts.next()) {
            ctx.queues
                .clusters
                .add(ClusterKey::new(&key.cluster, namespace, name));
        }
    }
}

/// Passes on what Placements, Locations and handovers look at in a SyncTarget: to the Placements that
/// have it and those that look for one, and to no other.
fn schedulability(
    ctx: &Context,
    key: &ClusterKey,
    target_key: &str,
    change: &Change<'_, SyncTarget>,
) {
    let target = match change {
        Change::Applied { new, .. } => Some(TargetFacts::new(&key.cluster, new)),
        Change::Deleted(_) => None,
    };
    let target = target.map(|facts| (facts, ctx.loads.of(target_key)));
    let effect = ctx.fleets.set_target(key, target);
    ctx.loads.forget(target_key);
    let releases = |target: &SyncTarget| {
        let ready = conditions::is_true(target.conditions(), READY);
        (
            ready,
            target.metadata.deletion_timestamp.is_some(),
            target.spec.deletion,
        )
    };
    if differs(change, releases) {
        for namespace in ctx
            .stores
            .namespaces
            .keys_by_index(index::TARGET, target_key)
        {
            ctx.queues.namespaces.add(namespace);
        }
    }
    if !effect.matters {
        return;
    }
    for placement in ctx
        .stores
        .placements
        .keys_by_index(index::TARGET, target_key)
    {
        ctx.queues.placements.add(placement);
    }
    enqueue_choosers(ctx, &key.cluster, index::LOOKING);
    for location in effect.locations {
        let location = ClusterKey::new(&key.cluster, "", &location);
        ctx.queues.locations.add_after(location, COUNTED_AFTER);
    }
    ctx.queues.first_locations.add(key.cluster.clone());
}

/// Every Placement that chooses from a workspace, found in one of the two indexes by provider.
fn enqueue_choosers(ctx: &Context, cluster: &ClusterName, index: &'static str) {
    let path = ctx.stores.path_of(cluster);
    // A Placement may name the workspace by its path or by its logical cluster.
    for value in [own_provider(cluster), path, cluster.to_string()] {
        for placement in ctx.stores.placements.keys_by_index(index, &value) {
            ctx.queues.placements.add(placement);
        }
    }
}

fn cluster(ctx: &Context, key: &ClusterKey, change: &Change<'_, Cluster>) {
    ctx.queues.clusters.add(key.clone());
    let facts = |cluster: &Cluster| {
        let capabilities = cluster
            .status
            .as_ref()
            .and_then(|s| s.capabilities.as_ref());
        (
            cluster.metadata.uid.clone(),
            capabilities.map(|c| c.api_groups.clone()),
        )
    };
    if differs(change, facts) {
        for target in ctx
            .stores
            .sync_targets
            .keys_by_index(index::REFERENCE, &key.to_string())
        {
            ctx.queues.sync_targets.add(target);
        }
    }
    // A Secret that a Cluster names (or no longer does) is another Secret for the syncers.
    let name = |cluster: &Cluster| cluster.spec.kubeconfig_secret_ref.name.clone();
    if differs(change, name) {
        let names = change
            .before()
            .into_iter()
            .chain([change.latest()])
            .map(|c| name(c));
        let number = ctx
            .stores
            .resources
            .iter()
            .position(|r| r.gvr.resource == "secrets");
        for name in names {
            let key = ClusterKey::new(&key.cluster, &key.namespace, &name);
            if let Some(resource) = number {
                ctx.queues.objects.add(ObjectKey { resource, key });
            }
        }
    }
}

fn secret(ctx: &Context, key: &ClusterKey) {
    for cluster in ctx
        .stores
        .clusters
        .keys_by_index(index::REFERENCE, &key.to_string())
    {
        ctx.queues.clusters.add(cluster);
    }
}

fn location(ctx: &Context, key: &ClusterKey, change: &Change<'_, Location>) {
    if differs(change, |location| {
        (location.metadata.labels.clone(), location.spec.clone())
    }) {
        let now = match change {
            Change::Applied { new, .. } => Some(*new),
            Change::Deleted(_) => None,
        };
        ctx.fleets.set_location(key, now);
        enqueue_choosers(ctx, &key.cluster, index::PROVIDER);
    }
    ctx.queues.locations.add(key.clone());
    if matches!(change, Change::Deleted(_)) {
        ctx.queues.first_locations.add(key.cluster.clone());
    }
}

fn placed(ctx: &Context, key: &ClusterKey, change: &Change<'_, Placement>) {
    match change {
        Change::Applied { new, .. } => ctx.loads.set(key, placement::keys(new)),
        Change::Deleted(_) => {
            ctx.loads.set(key, vec![]);
            ctx.pace.lock().give_back(key);
        }
    }
    ctx.queues.placements.add(key.clone());
    coordination::placement_changed(ctx, key, change);
    let facts = |placement: &Placement| {
        let status = placement.status.as_ref();
        (
            placement.metadata.deletion_timestamp.is_some(),
            placement.spec.namespace_selector.clone(),
            status.map(|s| (s.selected_location.is_some(), s.sync_targets.clone())),
        )
    };
    if differs(change, facts) {
        // Those it selected before may have to be left.
        let versions = change.before().into_iter().chain([change.latest()]);
        let selectors: Vec<_> = versions.filter_map(|p| p.spec.namespaces().ok()).collect();
        let namespaces = ctx
            .stores
            .namespaces
            .by_index(index::CLUSTER, key.cluster.as_str());
        for (namespace, object) in namespaces {
            let labels = object.metadata.labels.as_ref();
            if selectors.iter().any(|selector| selector.matches(labels)) {
                ctx.queues.namespaces.add(namespace);
            }
        }
    }
}

fn namespace(ctx: &Context, key: &ClusterKey, change: &Change<'_, Namespace>) {
    ctx.queues.namespaces.add(key.clone());
    coordination::namespace_changed(ctx, key, change);
    let selected_by = |namespace: &Namespace| {
        let annotations = namespace.metadata.annotations.as_ref();
        let annotated = annotations.is_some_and(|a| a.contains_key(PLACEMENT_ANNOTATION));
        (namespace.metadata.labels.clone(), annotated)
    };
    if differs(change, selected_by) {
        let versions = change.before().into_iter().chain([change.latest()]);
        let labels = versions.map(|namespace| namespace.metadata.labels.as_ref());
        for placement in placement::selecting(ctx, &key.cluster, labels) {
            ctx.queues.placements.add(placement);
        }
    }
    let states = |namespace: &Namespace| {
        let keys = namespace.target_keys();
        let wanted: Vec<Option<String>> = keys
            .iter()
            .map(|key| namespace.wanted_state(key).map(str::to_owned))
            .collect();
        (
            keys,
            wanted,
            namespace.is_deleting(),
            selected_by(namespace).1,
        )
    };
    // A namespace that is gone took its objects along.
    if differs(change, states) && !matches!(change, Change::Deleted(_)) {
        ctx.enqueue_objects_of(key);
    }
}

fn workspace(ctx: &Context, cluster: &ClusterName) {
    enqueue_choosers(ctx, cluster, index::PROVIDER);
    ctx.queues.first_locations.add(cluster.clone());
}

fn object(ctx: &Context, resource: usize, key: &ClusterKey, change: &Change<'_, Slim>) {
    if !matches!(change, Change::Deleted(_)) && differs(change, facts_of_object) {
        let object = ObjectKey {
            resource,
            key: key.clone(),
        };
        coordination::object_changed(ctx, &object, change.latest());
        ctx.queues.objects.add(object);
    }
    api_in_use(ctx, resource, key, change);
    // A namespace waits for the marks of a target to vanish from its objects, and so does the target.
    let Some(before) = change.before() else {
        return;
    };
    let now = match change {
        Change::Applied { new, .. } => marks(new),
        Change::Deleted(_) => Default::default(),
    };
    let lost: Vec<&str> = marks(before).difference(&now).copied().collect();
    for target_key in &lost {
        crate::synctarget::removal::wake(ctx, target_key);
    }
    if !lost.is_empty() || hands_over(change) {
        ctx.queues
            .namespaces
            .add(ClusterKey::new(&key.cluster, "", &key.namespace));
    }
}

/// Whether something changed that a namespace on its way from one target to another waits for.
fn hands_over(change: &Change<'_, Slim>) -> bool {
    let Change::Applied {
        old: Some(old),
        new,
    } = change
    else {
        return false;
    };
    takeover::may_differ(old, new) && takeover::handover(old) != takeover::handover(new)
}

/// The first object of a resource in a namespace, and the last, change what its targets have to
/// accept.
fn api_in_use(ctx: &Context, resource: usize, key: &ClusterKey, change: &Change<'_, Slim>) {
    let (Some(resource), false) = (
        ctx.stores.resources.get(resource),
        matches!(change, Change::Applied { old: Some(_), .. }),
    ) else {
        return;
    };
    let left = resource
        .store
        .count_by_index(index::NAMESPACE, &namespace_value(key));
    let edge = usize::from(matches!(change, Change::Applied { .. }));
    if is_built_in(&resource.gvr) || left != edge {
        return;
    }
    let namespace = ClusterKey::new(&key.cluster, "", &key.namespace);
    if let Some(namespace) = ctx.stores.namespaces.get(&namespace) {
        let labels = std::iter::once(namespace.metadata.labels.as_ref());
        for placement in placement::selecting(ctx, &key.cluster, labels) {
            ctx.queues.placements.add(placement);
        }
    }
}

/// What the resource controller looks at: not the version, which changes with every status.
fn facts_of_object(object: &Slim) -> impl PartialEq + use<> {
    let mut meta = object.metadata.clone();
    meta.resource_version.clear();
    (meta, object.secret_type.clone(), object.replicas)
}
