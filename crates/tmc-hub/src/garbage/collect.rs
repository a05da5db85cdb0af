//! The effect: follows the store's log, and does what was decided.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use serde_json::Value;
use tmc_apimachinery::definition::{ResourceDefinition, Verbs};
use tmc_apimachinery::meta::{meta, remove_finalizer};
use tmc_apimachinery::options::{DeleteOptions, Propagation};
use tmc_apimachinery::status::{ApiError, Result};
use tmc_apimachinery::{ClusterName, GroupVersion, names::GroupVersionKind};
use tmc_store::{Expect, Key, Watcher};
use tokio::sync::watch;
use tokio::time::Instant;

use super::decide::{
    Object, OwnerState, Reference, Verdict, Waiting, forget, judge, unblock, waits_for,
};
use super::index::{Change, Index, identity};
use crate::keys;
use crate::storage::{Core, Entry, Event, Extracted, Layout, Place, strategy};
use crate::workspaces::hub_user;

/// Objects that are worked on at the same time: their writes share batches of the store.
const TOGETHER: usize = 32;
const FIRST_RETRY: Duration = Duration::from_millis(200);
const LAST_RETRY: Duration = Duration::from_secs(30);

/// What there is to do.
#[derive(Default)]
struct Agenda {
    queue: VecDeque<Key>,
    queued: BTreeSet<Key>,
    /// Failed attempts, and when to try again.
    later: BTreeSet<(Instant, Key)>,
    failures: HashMap<Key, u32>,
}

impl Agenda {
    fn add(&mut self, keys: impl IntoIterator<Item = Key>) {
        for key in keys {
            if self.queued.insert(key.clone()) {
                self.queue.push_back(key);
            }
        }
    }

    fn take(&mut self) -> Vec<Key> {
        let count = self.queue.len().min(TOGETHER);
        let taken: Vec<Key> = self.queue.drain(..count).collect();
        for key in &taken {
            self.queued.remove(key);
        }
        taken
    }

    fn retry(&mut self, key: Key) {
        let failures = self.failures.entry(key.clone()).or_default();
        let delay = FIRST_RETRY * 2_u32.saturating_pow((*failures).min(16));
        *failures += 1;
        self.later
            .insert((Instant::now() + delay.min(LAST_RETRY), key));
    }

    fn done(&mut self, key: &Key) {
        self.failures.remove(key);
    }

    /// Moves what is due to the queue; returns when the next one is.
    fn wake(&mut self, now: Instant) -> Option<Instant> {
        loop {
            let first = self.later.first()?.0;
            if first > now {
                return Some(first);
            }
            let key = self.later.pop_first().map(|(_, key)| key);
            self.add(key);
        }
    }
}

/// Runs until the hub is gone. Starts anew from the objects as they are when it was too slow for the
/// log.
pub(crate) async fn run(core: Weak<Core>, alive: watch::Receiver<()>) {
    while let Some(strong) = core.upgrade() {
        let (page, watcher) = strong.store.list_and_watch("");
        drop(strong);
        let mut index = Index::default();
        let mut agenda = Agenda::default();
        for entry in &page.entries {
            if entry.meta.owned || entry.meta.deleting {
                agenda.add(change(entry, false).map_or(BTreeSet::new(), |c| index.observe(&c)));
            }
        }
        drop(page);
        follow(&core, alive.clone(), watcher, index, agenda).await;
    }
}

async fn follow(
    core: &Weak<Core>,
    mut alive: watch::Receiver<()>,
    mut watcher: Watcher<Extracted>,
    mut index: Index,
    mut agenda: Agenda,
) {
    loop {
        let due = agenda.wake(Instant::now());
        let events = if agenda.queue.is_empty() {
            tokio::select! {
                biased;
                events = next(&mut watcher) => Some(events),
                // Nobody sends: it resolves when the hub is gone.
                _ = alive.changed() => return,
                () = wait_until(due) => None,
            }
        } else {
            next(&mut watcher).now_or_never()
        };
        match events {
            Some(Ok(events)) => {
                for event in events {
                    agenda.add(observe(&mut index, &event));
                }
                // The index is up to date with the log before anything is done.
                continue;
            }
            Some(Err(_)) => return,
            None => {}
        }
        // Much of what is looked at stays as it is, without anything to wait for.
        tokio::task::yield_now().await;
        let Some(core) = core.upgrade() else { return };
        let keys = agenda.take();
        let mut work = Vec::with_capacity(keys.len());
        for key in &keys {
            work.push(look(&core, &index, key));
        }
        let outcomes = futures::future::join_all(work).await;
        for (key, outcome) in keys.into_iter().zip(outcomes) {
            match outcome {
                Ok(again) => {
                    agenda.done(&key);
                    agenda.add(again.then_some(key));
                }
                Err(error) => {
                    tracing::debug!(%key, %error, "garbage collection will try again");
                    agenda.retry(key);
                }
            }
        }
    }
}

type Events = std::result::Result<Vec<Arc<Event>>, tmc_store::Compacted>;

/// The next changes. Boxed, like the look at one object, because the compiler cannot see through the
/// whole loop that it is `Send`.
fn next(watcher: &mut Watcher<Extracted>) -> BoxFuture<'_, Events> {
    Box::pin(watcher.next())
}

async fn wait_until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}

fn observe(index: &mut Index, event: &Event) -> BTreeSet<Key> {
    change(&event.entry, event.deleted).map_or(BTreeSet::new(), |change| index.observe(&change))
}

/// What an entry means for the index. Only what may matter is decoded.
fn change(entry: &Entry, deleted: bool) -> Option<Change> {
    let at = keys::locate(&entry.key)?;
    let mut change = Change {
        key: entry.key.clone(),
        identity: String::new(),
        owners: Vec::new(),
        leaving: false,
        deleted,
    };
    if !deleted && !entry.meta.owned && !entry.meta.deleting {
        return Some(change);
    }
    let value: Value = serde_json::from_slice(&entry.value).ok()?;
    let object = Object::of(&value);
    change.identity = identity(at.cluster, &object.uid);
    change.leaving = object.deleting && (object.foreground || object.orphan);
    let owners = object.references.iter();
    change.owners = owners.map(|r| identity(at.cluster, &r.uid)).collect();
    Some(change)
}

/// An object as it is now, and what it is an object of.
struct Found {
    place: Place,
    name: String,
    entry: Arc<Entry>,
    value: Value,
    object: Object,
}

/// The object of a key. `None` if it is gone, or of a kind that is not served now.
fn find(core: &Core, key: &str) -> Option<Found> {
    let entry = core.store.get(key)?;
    let at = keys::locate(key)?;
    let cluster = ClusterName::new(at.cluster);
    let set = core.api_set(&cluster);
    let definition = set.by_group_resource(&keys::resource_of(key)?)?;
    let value: Value = serde_json::from_slice(&entry.value).ok()?;
    Some(Found {
        place: Place::main(definition, &cluster, at.namespace, &hub_user()),
        name: at.name.to_owned(),
        object: Object::of(&value),
        entry,
        value,
    })
}

/// What is to be done about one object.
enum Step {
    Nothing,
    /// It goes on without a finalizer.
    Release(&'static str),
    /// These forget it.
    Orphan(Vec<Found>),
    /// It forgets these owners.
    Forget(Vec<String>),
    /// It blocks no owner any longer, and then goes.
    Unblock,
    Delete(Propagation),
}

/// Looks at one object, as an owner and as a dependent, and does what is to be done; says whether it
/// has to be looked at again.
fn look<'a>(core: &'a Arc<Core>, index: &'a Index, key: &'a Key) -> BoxFuture<'a, Result<bool>> {
    Box::pin(async move {
        let Some(found) = find(core, key) else {
            return Ok(false);
        };
        let owners = owner_states(core, index, &found).await;
        let step = step(core, index, &found, &owners);
        let again = matches!(step, Step::Unblock);
        act(core, key, found, step).await?;
        Ok(again)
    })
}

async fn act(core: &Arc<Core>, key: &Key, found: Found, step: Step) -> Result<()> {
    match step {
        Step::Nothing => Ok(()),
        Step::Release(finalizer) => {
            change_object(core, found, |value| remove_finalizer(value, finalizer)).await
        }
        Step::Orphan(dependents) => {
            // The owner is looked at again as each of these changes becomes known.
            let owner = [found.object.uid];
            for dependent in dependents {
                change_object(core, dependent, |value| forget(value, &owner)).await?;
            }
            Ok(())
        }
        Step::Forget(owners) => {
            tracing::debug!(%key, ?owners, "forgets owners that are not there");
            change_object(core, found, |value| forget(value, &owners)).await
        }
        Step::Unblock => change_object(core, found, unblock).await,
        Step::Delete(propagation) => delete(core, &found, propagation).await,
    }
}

fn step(core: &Core, index: &Index, found: &Found, owners: &[OwnerState]) -> Step {
    let (object, place) = (&found.object, &found.place);
    let identity = identity(place.cluster.as_str(), &object.uid);
    // Read one by one: an owner of thousands needs to know of one that blocks it.
    let dependents = || {
        let keys = index.dependents(&identity);
        keys.filter_map(|key| find(core, key))
    };
    let objects = || dependents().map(|dependent| dependent.object);
    if object.deleting {
        return match waits_for(object, objects()) {
            // Dependents are looked at because it is leaving; the end of each brings it back.
            Waiting::Nothing | Waiting::ForDependents => Step::Nothing,
            Waiting::NoLonger(finalizer) => Step::Release(finalizer),
            Waiting::ForOrphans => Step::Orphan(dependents().collect()),
        };
    }
    match judge(object, owners, objects()) {
        Verdict::Keep => Step::Nothing,
        // Whoever may write its references must not end a workspace by them.
        Verdict::Delete { .. } if strategy::is_permanent(&place.definition, &found.name) => {
            Step::Forget(object.references.iter().map(|r| r.uid.clone()).collect())
        }
        Verdict::Forget(owners) => Step::Forget(owners),
        Verdict::Delete {
            propagation,
            unblock,
        } => {
            let blocks = |r: &Reference| r.block_owner_deletion == Some(true);
            if unblock && object.references.iter().any(blocks) {
                Step::Unblock
            } else {
                Step::Delete(propagation)
            }
        }
    }
}

/// What is known about the owners of an object that stays, one state for each reference. A kind is
/// searched for absent owners once, whatever their number, and others go on between two kinds.
async fn owner_states(core: &Core, index: &Index, found: &Found) -> Vec<OwnerState> {
    let object = &found.object;
    if object.deleting {
        return Vec::new();
    }
    let mut states = Vec::with_capacity(object.references.len());
    let mut absent: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (number, reference) in object.references.iter().enumerate() {
        states.push(match owner_state(core, index, &found.place, reference) {
            Known::State(state) => state,
            Known::Absent(prefix) => {
                absent.entry(prefix).or_default().push(number);
                OwnerState::Gone
            }
        });
    }
    for (prefix, numbers) in absent {
        tokio::task::yield_now().await;
        let elsewhere = living_elsewhere(core, &prefix, found, &numbers);
        for number in numbers {
            if elsewhere.contains(&object.references[number].uid) {
                states[number] = OwnerState::Foreign;
            }
        }
    }
    states
}

/// What this logical cluster tells of an owner.
enum Known {
    State(OwnerState),
    /// It is not here: it is gone, or among the keys with this prefix in another one.
    Absent(String),
}

/// What is known about an owner: from what was seen to go, else from the store.
fn owner_state(core: &Core, index: &Index, place: &Place, reference: &Reference) -> Known {
    let cluster = &place.cluster;
    if index.has_seen_end(&identity(cluster.as_str(), &reference.uid)) {
        return Known::State(OwnerState::Gone);
    }
    let Some(definition) = owner_definition(core, cluster, reference) else {
        return Known::State(OwnerState::Unknown);
    };
    let namespace = match (definition.namespaced(), place.definition.namespaced()) {
        (true, false) => return Known::State(OwnerState::Unknown),
        (true, true) => place.namespace.as_str(),
        (false, _) => "",
    };
    let resource = definition.group_resource();
    let entry = core.entry(&resource, cluster, namespace, &reference.name);
    let owner = entry
        .and_then(|entry| serde_json::from_slice::<Value>(&entry.value).ok())
        .map(|value| Object::of(&value))
        .filter(|owner| owner.uid == reference.uid);
    match owner {
        Some(owner) if owner.is_leaving() => Known::State(OwnerState::Leaving),
        Some(_) => Known::State(OwnerState::Living),
        None if core.layout == Layout::Plain => Known::State(OwnerState::Gone),
        None => Known::Absent(keys::resource_prefix(&resource)),
    }
}

/// The kind that a reference names, if objects of it are kept in this logical cluster.
fn owner_definition(
    core: &Core,
    cluster: &ClusterName,
    reference: &Reference,
) -> Option<Arc<ResourceDefinition>> {
    let version = GroupVersion::parse(&reference.api_version)?;
    let gvk = GroupVersionKind::new(&version.group, &version.version, &reference.kind);
    let definition = core.api_set(cluster).by_kind(&gvk)?.clone();
    definition.verbs.contains(Verbs::LIST).then_some(definition)
}

/// Which owners that are not here live in another logical cluster, by uid. Reads through all objects
/// of their kind, which is rare: an owner that was here was seen to go, and a reference across
/// workspaces is removed when it is found.
fn living_elsewhere(
    core: &Core,
    prefix: &str,
    found: &Found,
    numbers: &[usize],
) -> BTreeSet<String> {
    let wanted = numbers
        .iter()
        .map(|number| &found.object.references[*number]);
    let wanted: BTreeSet<(&str, &str)> = wanted.map(|r| (&*r.name, &*r.uid)).collect();
    let names: BTreeSet<&str> = wanted.iter().map(|(name, _)| *name).collect();
    let page = core.store.range(prefix, None, None, 0);
    let mut living = BTreeSet::new();
    for entry in page.map(|page| page.entries).unwrap_or_default() {
        let candidate = keys::locate(&entry.key)
            .filter(|at| names.contains(at.name) && at.cluster != found.place.cluster.as_str());
        let Some(at) = candidate else { continue };
        let value = serde_json::from_slice::<Value>(&entry.value).unwrap_or_default();
        let uid = meta(&value).uid();
        if wanted.contains(&(at.name, uid)) {
            living.insert(uid.to_owned());
        }
    }
    living
}

/// Changes an object, exactly as it was read.
async fn change_object(
    core: &Arc<Core>,
    found: Found,
    change: impl FnOnce(&mut Value) -> bool,
) -> Result<()> {
    let mut value = found.value;
    if !change(&mut value) {
        return Ok(());
    }
    let gone = strategy::deletion_complete(&found.place.definition, &value);
    let expect = Expect::Revision(found.entry.revision);
    core.commit(found.entry.key.clone(), expect, value, gone)
        .await
        .map_err(ApiError::internal)?;
    Ok(())
}

/// Deletes an object, exactly as it was judged: one that was changed meanwhile is judged again.
async fn delete(core: &Arc<Core>, found: &Found, propagation: Propagation) -> Result<()> {
    let options = DeleteOptions {
        uid: Some(found.object.uid.clone()),
        resource_version: Some(found.entry.revision.to_string()),
        propagation: Some(propagation),
        ..DeleteOptions::default()
    };
    match core
        .delete_object(&found.place, &found.name, &options)
        .await
    {
        Ok(_) => {
            let (key, cluster) = (&found.entry.key, found.place.cluster.as_str());
            tracing::debug!(%key, cluster, ?propagation, "deleted, because its owners are gone");
            Ok(())
        }
        Err(error) if error.code == 404 => Ok(()),
        Err(error) => Err(error),
    }
}
