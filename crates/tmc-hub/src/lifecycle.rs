//! What the hub does on its own after a write: fills new workspaces, empties namespaces, workspaces
//! and custom resource kinds that are being deleted. One task, level-based: a trigger only says
//! where to look.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use std::time::Duration;

use serde_json::{Value, json};
use tmc_apimachinery::definition::{ResourceDefinition, Verbs};
use tmc_apimachinery::meta::meta;
use tmc_apimachinery::options::{DeleteOptions, Propagation};
use tmc_apimachinery::status::{ApiError, Result};
use tmc_apimachinery::{ClusterName, GroupResource};
use tmc_store::Expect;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};

use crate::keys::{self, Location};
use crate::storage::{Core, Event, Place};
use crate::workspaces::{hub_user, logical_clusters, workspaces, workspaces_gvr};
use crate::{custom_resources, workspaces as tree};

/// A place to look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// A Workspace in its parent.
    Workspace(ClusterName, String),
    /// A logical cluster that is being emptied.
    Contents(ClusterName),
    /// A namespace that is being deleted.
    Namespace(ClusterName, String),
    /// A CustomResourceDefinition that is being deleted.
    Definition(ClusterName, String),
    /// A namespace that may lack its default ServiceAccount.
    Account(ClusterName, String),
}

const RETRY: Duration = Duration::from_millis(200);

/// Turns a write into triggers. Called by the writer's caller: must stay cheap.
pub(crate) fn observe(core: &Core, group: &str, resource: &str, at: &Location<'_>, event: &Event) {
    let cluster = || ClusterName::new(at.cluster);
    let deleting = event.entry.meta.deleting;
    match (group, resource) {
        ("tenancy.kcp.io", "workspaces") if !event.deleted => {
            let fresh = event.previous.is_none();
            if fresh || deleting {
                send(core, Trigger::Workspace(cluster(), at.name.to_owned()));
            }
        }
        ("core", "namespaces") if !event.deleted && deleting => {
            send(core, Trigger::Namespace(cluster(), at.name.to_owned()));
        }
        ("core", "namespaces") if !event.deleted && event.previous.is_none() => {
            send(core, Trigger::Account(cluster(), at.name.to_owned()));
        }
        ("core", "serviceaccounts") if event.deleted && at.name == "default" => {
            send(core, Trigger::Account(cluster(), at.namespace.to_owned()));
        }
        ("apiextensions.k8s.io", "customresourcedefinitions") if !event.deleted && deleting => {
            send(core, Trigger::Definition(cluster(), at.name.to_owned()));
        }
        _ => {}
    }
    if event.deleted {
        observe_removal(core, group, resource, at);
    }
}

/// Something went: perhaps it was the last thing that a deletion waited for.
fn observe_removal(core: &Core, group: &str, resource: &str, at: &Location<'_>) {
    let cluster = ClusterName::new(at.cluster);
    let deleting = |resource: &GroupResource, name: &str| {
        core.entry(resource, &cluster, "", name)
            .is_some_and(|entry| entry.meta.deleting)
    };
    if !at.namespace.is_empty() && deleting(&GroupResource::new("", "namespaces"), at.namespace) {
        send(
            core,
            Trigger::Namespace(cluster.clone(), at.namespace.to_owned()),
        );
    }
    let definition = format!("{resource}.{group}");
    if deleting(&custom_resources::resource(), &definition) {
        send(core, Trigger::Definition(cluster.clone(), definition));
    }
    if deleting(&logical_clusters(), "cluster") {
        send(core, Trigger::Contents(cluster));
    }
}

fn send(core: &Core, trigger: Trigger) {
    // The task ends only with the hub; a trigger lost then is found again at the next start.
    let _ = core.triggers.send(trigger);
}

/// Runs until the hub is gone. At the start everything unfinished is looked at once.
pub(crate) async fn run(core: Weak<Core>, mut triggers: UnboundedReceiver<Trigger>) {
    let mut waiting: VecDeque<Trigger> = core.upgrade().map(|c| unfinished(&c)).unwrap_or_default();
    loop {
        let next = match waiting.pop_front() {
            Some(trigger) => Some(trigger),
            None => triggers.recv().await,
        };
        let (Some(trigger), Some(core)) = (next, core.upgrade()) else {
            return;
        };
        while let Ok(more) = triggers.try_recv() {
            if !waiting.contains(&more) {
                waiting.push_back(more);
            }
        }
        if let Err(error) = handle(&core, &trigger).await {
            tracing::debug!(?trigger, %error, "will try again");
            retry(core.triggers.clone(), trigger);
        }
    }
}

fn retry(triggers: UnboundedSender<Trigger>, trigger: Trigger) {
    tokio::spawn(async move {
        tokio::time::sleep(RETRY).await;
        let _ = triggers.send(trigger);
    });
}

fn unfinished(core: &Core) -> VecDeque<Trigger> {
    let mut found = VecDeque::new();
    let mut scan = |resource: GroupResource, make: &dyn Fn(ClusterName, String) -> Trigger, all| {
        let page = core
            .store
            .range(&keys::resource_prefix(&resource), None, None, 0);
        for entry in page.map(|p| p.entries).unwrap_or_default() {
            let Some(at) = keys::locate(&entry.key) else {
                continue;
            };
            if all || entry.meta.deleting {
                found.push_back(make(ClusterName::new(at.cluster), at.name.to_owned()));
            }
        }
    };
    scan(workspaces(), &Trigger::Workspace, true);
    scan(
        GroupResource::new("", "namespaces"),
        &Trigger::Namespace,
        false,
    );
    scan(
        GroupResource::new("", "namespaces"),
        &Trigger::Account,
        true,
    );
    scan(custom_resources::resource(), &Trigger::Definition, false);
    scan(
        logical_clusters(),
        &|cluster, _| Trigger::Contents(cluster),
        false,
    );
    found
}

async fn handle(core: &Arc<Core>, trigger: &Trigger) -> Result<()> {
    match trigger {
        Trigger::Workspace(parent, name) => {
            let entry = core.entry(&workspaces(), parent, "", name);
            match entry {
                Some(entry) if entry.meta.deleting => terminate(core, parent, name).await,
                Some(_) => core.provision(parent, name).await,
                None => Ok(()),
            }
        }
        Trigger::Contents(cluster) => empty_cluster(core, cluster).await,
        Trigger::Namespace(cluster, name) => empty_namespace(core, cluster, name).await,
        Trigger::Definition(cluster, name) => empty_definition(core, cluster, name).await,
        Trigger::Account(cluster, namespace) => {
            core.ensure_default_account(cluster, namespace).await
        }
    }
}

/// Deletes every object of a definition in a logical cluster (and namespace); says how many are
/// left, held by finalizers.
async fn clear(
    core: &Arc<Core>,
    definition: &Arc<ResourceDefinition>,
    cluster: &ClusterName,
    namespace: &str,
) -> Result<usize> {
    let resource = definition.group_resource();
    let background = DeleteOptions {
        propagation: Some(Propagation::Background),
        ..DeleteOptions::default()
    };
    for object in core.read_all(&resource, cluster, namespace) {
        let at = meta(&object);
        if !at.deletion_timestamp().is_empty() {
            continue;
        }
        let place = Place::main(definition, cluster, at.namespace(), &hub_user());
        match core.delete_object(&place, at.name(), &background).await {
            Err(error) if error.code != 404 => return Err(error),
            _ => {}
        }
    }
    Ok(core.read_all(&resource, cluster, namespace).len())
}

fn is_stored(definition: &ResourceDefinition) -> bool {
    definition.verbs.contains(Verbs::LIST)
}

async fn empty_namespace(core: &Arc<Core>, cluster: &ClusterName, name: &str) -> Result<()> {
    let namespaces = GroupResource::new("", "namespaces");
    let Some(place) = core.place(&namespaces, cluster) else {
        return Ok(());
    };
    let Some((entry, _)) = core.current(&place, name) else {
        return Ok(());
    };
    if !entry.meta.deleting {
        return Ok(());
    }
    let set = core.api_set(cluster);
    let mut left = Vec::new();
    for definition in set.iter().filter(|d| d.namespaced() && is_stored(d)) {
        let count = clear(core, definition, cluster, name).await?;
        if count > 0 {
            left.push(format!(
                "{} has {count} resource instances",
                definition.group_resource()
            ));
        }
    }
    let Some((entry, mut namespace)) = core.current(&place, name) else {
        return Ok(());
    };
    if left.is_empty() {
        namespace["spec"]["finalizers"] = json!([]);
        let gone = meta(&namespace).finalizers().is_empty();
        return write(core, &place, name, entry.revision, namespace, gone).await;
    }
    report_remaining(core, &place, name, &left).await
}

/// Tells in the namespace's conditions what its deletion waits for.
async fn report_remaining(
    core: &Arc<Core>,
    place: &Place,
    name: &str,
    left: &[String],
) -> Result<()> {
    let Some((entry, mut namespace)) = core.current(place, name) else {
        return Ok(());
    };
    let message = format!("Some resources are remaining: {}", left.join(", "));
    let known = namespace
        .pointer("/status/conditions/0/message")
        .and_then(Value::as_str);
    if known == Some(message.as_str()) {
        return Ok(());
    }
    namespace["status"]["conditions"] = json!([{
        "type": "NamespaceContentRemaining", "status": "True", "reason": "SomeResourcesRemain",
        "message": message,
        "lastTransitionTime": crate::environment::timestamp(core.environment.now()),
    }]);
    write(core, place, name, entry.revision, namespace, false).await
}

async fn write(
    core: &Arc<Core>,
    place: &Place,
    name: &str,
    revision: u64,
    object: Value,
    delete: bool,
) -> Result<()> {
    let expect = Expect::Revision(revision);
    core.commit(place.key(name), expect, object, delete)
        .await
        .map_err(ApiError::internal)?;
    Ok(())
}

async fn empty_definition(core: &Arc<Core>, cluster: &ClusterName, name: &str) -> Result<()> {
    let Some(place) = core.place(&custom_resources::resource(), cluster) else {
        return Ok(());
    };
    let Some((entry, crd)) = core.current(&place, name) else {
        return Ok(());
    };
    if !entry.meta.deleting {
        return Ok(());
    }
    let mut left = 0;
    if let Some(definition) = custom_resources::compile(&crd)
        .ok()
        .and_then(|all| all.into_iter().next())
    {
        left = clear(core, &Arc::new(definition), cluster, "").await?;
    }
    if left > 0 {
        return Ok(());
    }
    let Some((entry, mut crd)) = core.current(&place, name) else {
        return Ok(());
    };
    tmc_apimachinery::meta::remove_finalizer(&mut crd, custom_resources::FINALIZER);
    let gone = meta(&crd).finalizers().is_empty();
    write(core, &place, name, entry.revision, crd, gone).await
}

/// A Workspace is being deleted: its logical cluster goes first.
async fn terminate(core: &Arc<Core>, parent: &ClusterName, name: &str) -> Result<()> {
    let Some(place) = core.place(&workspaces_gvr().group_resource(), parent) else {
        return Ok(());
    };
    let Some((entry, mut workspace)) = core.current(&place, name) else {
        return Ok(());
    };
    let cluster = workspace["spec"]["cluster"]
        .as_str()
        .and_then(ClusterName::parse);
    // Only what was made for this Workspace goes with it.
    let logical = cluster
        .as_ref()
        .filter(|c| core.is_owned(c, parent, &workspace))
        .and_then(|c| core.entry(&logical_clusters(), c, "", "cluster"));
    let Some((cluster, logical)) = cluster.zip(logical) else {
        tmc_apimachinery::meta::remove_finalizer(&mut workspace, tree::FINALIZER);
        let gone = meta(&workspace).finalizers().is_empty();
        return write(core, &place, name, entry.revision, workspace, gone).await;
    };
    if logical.meta.deleting {
        return Ok(());
    }
    let mut object: Value = serde_json::from_slice(&logical.value).map_err(ApiError::internal)?;
    object["metadata"]["deletionTimestamp"] =
        crate::environment::timestamp(core.environment.now()).into();
    object["status"]["phase"] = "Terminating".into();
    let expect = Expect::Revision(logical.revision);
    core.commit(logical.key.clone(), expect, object, false)
        .await
        .map_err(ApiError::internal)?;
    send(core, Trigger::Contents(cluster));
    Ok(())
}

/// Empties a logical cluster: its objects, then its namespaces, then itself, then its Workspace.
async fn empty_cluster(core: &Arc<Core>, cluster: &ClusterName) -> Result<()> {
    let Some(logical) = core.entry(&logical_clusters(), cluster, "", "cluster") else {
        return Ok(());
    };
    if !logical.meta.deleting {
        return Ok(());
    }
    let object: Value = serde_json::from_slice(&logical.value).map_err(ApiError::internal)?;
    let set = core.api_set(cluster);
    let last = ["namespaces", "logicalclusters", "customresourcedefinitions"];
    let mut left = 0;
    for definition in set
        .iter()
        .filter(|d| is_stored(d) && !last.contains(&&*d.plural))
    {
        left += clear(core, definition, cluster, "").await?;
    }
    if left == 0 {
        let definitions = set
            .iter()
            .filter(|d| last.contains(&&*d.plural) && d.plural != "logicalclusters");
        for definition in definitions {
            left += remove_all(core, definition, cluster).await?;
        }
    }
    if left > 0 {
        return Ok(());
    }
    let expect = Expect::Revision(logical.revision);
    core.commit(logical.key.clone(), expect, object.clone(), true)
        .await
        .map_err(ApiError::internal)?;
    core.catalog.invalidate(cluster.as_str());
    core.rbac.invalidate(cluster.as_str());
    let owner = &object["spec"]["owner"];
    if let (Some(parent), Some(name)) = (owner["cluster"].as_str(), owner["name"].as_str()) {
        send(
            core,
            Trigger::Workspace(ClusterName::new(parent), name.to_owned()),
        );
    }
    Ok(())
}

/// Removes what only exists with its workspace (permanent namespaces included), now empty.
async fn remove_all(
    core: &Arc<Core>,
    definition: &Arc<ResourceDefinition>,
    cluster: &ClusterName,
) -> Result<usize> {
    let place = Place::main(definition, cluster, "", &hub_user());
    for object in core.read_all(&definition.group_resource(), cluster, "") {
        let name = meta(&object).name();
        if let Some((entry, object)) = core.current(&place, name) {
            write(core, &place, name, entry.revision, object, true).await?;
        }
    }
    Ok(core
        .read_all(&definition.group_resource(), cluster, "")
        .len())
}
