//! What all readers share, as a value without locks, clock or I/O: index, rings and log of every
//! resource at one revision, and the floor below which nothing can be asked.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use crate::engine::{Compaction, Loaded, Record};
use crate::index::Index;
use crate::log::{Log, Plan, Segment};
use crate::{Compacted, Entry, Event, Key, Options, Revision};

/// Events looked at in one go by a watcher that has to search, so that the lock is held shortly.
const SCAN: usize = 1024;
/// Revisions a cluster's shard remembers, so that its watchers need not search the ring.
const RECENT: usize = 16;

/// The resource a key belongs to: all up to the second slash, or the key itself if it has fewer.
/// Resources sort as their keys do.
pub(crate) fn resource_of(key: &str) -> &str {
    let second = key.match_indices('/').nth(1);
    second.map_or(key, |(at, _)| &key[..=at])
}

/// The logical cluster of a key or prefix: the third part, if it is complete.
fn cluster_of(key: &str) -> Option<&str> {
    let rest = &key[resource_of(key).len()..];
    rest.split_once('/').map(|(cluster, _)| cluster)
}

/// Which events can concern a prefix; also who is woken for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// More than one resource.
    Everything,
    /// One resource in all logical clusters.
    Resource(Box<str>),
    /// One resource in one logical cluster.
    Cluster(Box<str>, Box<str>),
}

impl Target {
    pub(crate) fn of(prefix: &str) -> Self {
        let resource = resource_of(prefix);
        if prefix.matches('/').count() < 2 {
            Self::Everything
        } else if let Some(cluster) = cluster_of(prefix) {
            Self::Cluster(resource.into(), cluster.into())
        } else {
            Self::Resource(resource.into())
        }
    }
}

/// Where watchers wait.
#[derive(Default)]
struct Bell {
    notify: Arc<Notify>,
    watchers: usize,
}

/// The events of one resource in one logical cluster, while somebody watches it.
struct Shard {
    bell: Bell,
    /// The last revisions, ascending; complete after `complete_from`.
    recent: VecDeque<Revision>,
    complete_from: Revision,
    /// Last event that was forgotten; what a cursor must have seen to go on.
    dropped: Revision,
}

impl Shard {
    fn new(head: Revision) -> Self {
        let recent = VecDeque::new();
        Self {
            bell: Bell::default(),
            recent,
            complete_from: head,
            dropped: 0,
        }
    }

    fn push(&mut self, revision: Revision) {
        if self.recent.len() == RECENT {
            self.complete_from = self.recent.pop_front().unwrap_or(self.complete_from);
        }
        self.recent.push_back(revision);
    }

    fn forget(&mut self, revision: Revision) {
        self.dropped = revision;
        while self.recent.front().is_some_and(|first| *first <= revision) {
            self.recent.pop_front();
        }
    }
}

struct Resource<M> {
    index: Index<M>,
    ring: VecDeque<Arc<Event<M>>>,
    /// Last event forgotten from the ring.
    dropped: Revision,
    bell: Bell,
    clusters: HashMap<Box<str>, Shard>,
}

impl<M> Default for Resource<M> {
    fn default() -> Self {
        Self {
            index: Index::default(),
            ring: VecDeque::new(),
            dropped: 0,
            bell: Bell::default(),
            clusters: HashMap::new(),
        }
    }
}

impl<M> Resource<M> {
    fn is_unused(&self) -> bool {
        self.index.is_empty()
            && self.ring.is_empty()
            && self.bell.watchers == 0
            && self.clusters.is_empty()
    }

    fn position(&self, revision: Revision) -> usize {
        self.ring
            .partition_point(|event| event.revision <= revision)
    }

    fn forget(&mut self, event: &Event<M>, floor: Revision) {
        self.ring.pop_front();
        self.dropped = event.revision;
        let cluster = cluster_of(&event.entry.key);
        if let Some(shard) = cluster.and_then(|cluster| self.clusters.get_mut(cluster)) {
            shard.forget(event.revision);
        }
        self.index.prune(&event.entry.key, floor);
        if self.ring.capacity() > 64 && self.ring.len() * 4 < self.ring.capacity() {
            self.ring.shrink_to(self.ring.len() * 2);
        }
    }
}

/// What one look of a watcher found.
pub(crate) struct Found<M> {
    pub(crate) events: Vec<Arc<Event<M>>>,
    /// All matching events up to here are among those found now or earlier.
    pub(crate) cursor: Revision,
    /// Whether there is nothing more now.
    pub(crate) caught_up: bool,
}

/// What is left to do after a publication, outside of the lock.
pub(crate) struct Aftermath<M> {
    bells: Vec<Arc<Notify>>,
    _garbage: Vec<Segment<M>>,
}

impl<M> Aftermath<M> {
    /// Wakes those concerned.
    pub(crate) fn ring(&self) {
        for bell in &self.bells {
            bell.notify_waiters();
        }
    }

    fn add(&mut self, bell: &Bell) {
        let wanted = bell.watchers > 0;
        if wanted
            && !self
                .bells
                .iter()
                .any(|known| Arc::ptr_eq(known, &bell.notify))
        {
            self.bells.push(bell.notify.clone());
        }
    }
}

pub(crate) struct State<M> {
    resources: BTreeMap<Box<str>, Resource<M>>,
    log: Log<M>,
    everything: Bell,
    revision: Revision,
    floor: Revision,
}

impl<M> State<M> {
    /// The state an engine left behind. Its history counts as made at `now`.
    pub(crate) fn restore(
        loaded: Loaded,
        extract: impl Fn(&Key, &bytes::Bytes) -> M,
        now: Duration,
        options: &Options,
    ) -> Self {
        let mut state = Self {
            resources: BTreeMap::new(),
            log: Log::default(),
            everything: Bell::default(),
            revision: loaded.floor,
            floor: loaded.floor,
        };
        for record in loaded.records {
            state.replay(record, &extract, now, options);
        }
        state.revision = state.revision.max(loaded.revision);
        state
    }

    fn replay(
        &mut self,
        record: Record,
        extract: &impl Fn(&Key, &bytes::Bytes) -> M,
        now: Duration,
        options: &Options,
    ) {
        let Record {
            revision,
            created,
            key,
            value,
            deleted,
        } = record;
        let previous = self.get(&key).cloned();
        let key = previous
            .as_ref()
            .map_or(key, |previous| previous.key.clone());
        let meta = extract(&key, &value);
        let entry = Arc::new(Entry {
            key,
            value,
            meta,
            created,
            revision,
        });
        if revision > self.floor {
            let event = Event {
                revision,
                entry,
                previous,
                deleted,
            };
            self.insert(Arc::new(event), now, options);
        } else {
            self.resource_mut(resource_of(&entry.key.clone()))
                .index
                .restore(entry);
        }
    }

    fn resource_mut(&mut self, name: &str) -> &mut Resource<M> {
        if !self.resources.contains_key(name) {
            self.resources.insert(name.into(), Resource::default());
        }
        self.resources
            .get_mut(name)
            .expect("it was inserted above if it was missing")
    }

    fn insert(&mut self, event: Arc<Event<M>>, now: Duration, options: &Options) {
        self.revision = event.revision;
        self.log.push(event.clone(), now, options);
        let resource = self.resource_mut(resource_of(&event.entry.key));
        resource.index.apply(&event);
        let cluster = cluster_of(&event.entry.key);
        if let Some(shard) = cluster.and_then(|cluster| resource.clusters.get_mut(cluster)) {
            shard.push(event.revision);
        }
        resource.ring.push_back(event);
    }

    /// The last revision.
    pub(crate) fn revision(&self) -> Revision {
        self.revision
    }

    /// Oldest revision that can be read or resumed from.
    pub(crate) fn floor(&self) -> Revision {
        self.floor
    }

    pub(crate) fn log(&self) -> &Log<M> {
        &self.log
    }

    /// Keys that exist, over all resources.
    pub(crate) fn live(&self) -> usize {
        self.resources
            .values()
            .map(|resource| resource.index.live())
            .sum()
    }

    /// Cursors that exist.
    pub(crate) fn watchers(&self) -> usize {
        let of = |resource: &Resource<M>| {
            let shards = resource.clusters.values().map(|shard| shard.bell.watchers);
            resource.bell.watchers + shards.sum::<usize>()
        };
        self.everything.watchers + self.resources.values().map(of).sum::<usize>()
    }

    pub(crate) fn check(&self, revision: Revision) -> Result<(), Compacted> {
        if revision < self.floor {
            Err(Compacted { floor: self.floor })
        } else {
            Ok(())
        }
    }

    pub(crate) fn get(&self, key: &str) -> Option<&Arc<Entry<M>>> {
        self.resources.get(resource_of(key))?.index.get(key)
    }

    /// How many keys a prefix has now, where that is known without counting.
    pub(crate) fn known_count(&self, prefix: &str) -> Option<usize> {
        match Target::of(prefix) {
            Target::Resource(name) if *name == *prefix => Some(
                self.resources
                    .get(&name)
                    .map_or(0, |resource| resource.index.live()),
            ),
            _ => None,
        }
    }

    /// As [`Index::scan`], over all resources that the prefix covers.
    pub(crate) fn scan<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&'a str>,
        at: Revision,
    ) -> impl Iterator<Item = (&'a Key, Option<&'a Arc<Entry<M>>>)> {
        let whole = Target::of(prefix) != Target::Everything;
        let start = if whole { resource_of(prefix) } else { prefix };
        let start = after.map_or(start, |after| start.max(resource_of(after)));
        self.resources
            .range::<str, _>((Bound::Included(start), Bound::Unbounded))
            .take_while(move |(name, _)| {
                if whole {
                    ***name == *resource_of(prefix)
                } else {
                    name.starts_with(prefix)
                }
            })
            .flat_map(move |(_, resource)| resource.index.scan(prefix, after, at))
    }

    /// What the engine has to forget for a plan.
    pub(crate) fn compaction(&self, plan: Plan) -> Compaction {
        let mut obsolete = Vec::new();
        for event in self.log.planned(plan) {
            obsolete.extend(event.previous.as_ref().map(|previous| previous.revision));
            obsolete.extend(event.deleted.then_some(event.revision));
        }
        Compaction {
            floor: plan.floor,
            obsolete,
        }
    }

    /// Makes durable changes visible and forgets what was planned.
    pub(crate) fn publish(
        &mut self,
        events: &[Arc<Event<M>>],
        plan: Option<Plan>,
        now: Duration,
        options: &Options,
    ) -> Aftermath<M> {
        let garbage = plan.map(|plan| self.forget(plan)).unwrap_or_default();
        let mut aftermath = Aftermath {
            bells: Vec::new(),
            _garbage: garbage,
        };
        for event in events {
            self.insert(event.clone(), now, options);
            let Some(resource) = self.resources.get(resource_of(&event.entry.key)) else {
                continue;
            };
            aftermath.add(&resource.bell);
            let cluster = cluster_of(&event.entry.key);
            if let Some(shard) = cluster.and_then(|cluster| resource.clusters.get(cluster)) {
                aftermath.add(&shard.bell);
            }
        }
        if !events.is_empty() {
            aftermath.add(&self.everything);
        }
        aftermath
    }

    fn forget(&mut self, plan: Plan) -> Vec<Segment<M>> {
        self.floor = plan.floor;
        let gone = self.log.forget(plan);
        for event in gone.iter().flat_map(|segment| &segment.events) {
            let name = resource_of(&event.entry.key);
            let Some(resource) = self.resources.get_mut(name) else {
                continue;
            };
            resource.forget(event, plan.floor);
            if resource.is_unused() {
                self.resources.remove(name);
            }
        }
        gone
    }

    /// Counts a watcher in and says where it waits.
    pub(crate) fn enter(&mut self, target: &Target) -> Arc<Notify> {
        let head = self.revision;
        let bell = match target {
            Target::Everything => &mut self.everything,
            Target::Resource(name) => &mut self.resource_mut(name).bell,
            Target::Cluster(name, cluster) => {
                let shards = &mut self.resource_mut(name).clusters;
                &mut shards
                    .entry(cluster.clone())
                    .or_insert_with(|| Shard::new(head))
                    .bell
            }
        };
        bell.watchers += 1;
        bell.notify.clone()
    }

    /// Counts a watcher out.
    pub(crate) fn leave(&mut self, target: &Target) {
        match target {
            Target::Everything => self.everything.watchers -= 1,
            Target::Resource(name) => self.leave_resource(name, |resource| {
                resource.bell.watchers -= 1;
            }),
            Target::Cluster(name, cluster) => self.leave_resource(name, |resource| {
                let Some(shard) = resource.clusters.get_mut(cluster) else {
                    return;
                };
                shard.bell.watchers -= 1;
                if shard.bell.watchers == 0 {
                    resource.clusters.remove(cluster);
                }
            }),
        }
    }

    fn leave_resource(&mut self, name: &str, leave: impl FnOnce(&mut Resource<M>)) {
        let Some(resource) = self.resources.get_mut(name) else {
            return;
        };
        leave(resource);
        if resource.is_unused() {
            self.resources.remove(name);
        }
    }

    /// Events after `cursor` that start with `prefix`, at most `limit`.
    pub(crate) fn events(
        &self,
        target: &Target,
        prefix: &str,
        cursor: Revision,
        limit: usize,
    ) -> Result<Found<M>, Compacted> {
        let compacted = Compacted { floor: self.floor };
        let mut search = Search::new(prefix, cursor, limit, self.revision);
        match target {
            Target::Everything => {
                self.check(cursor)?;
                search.run(self.log.after(cursor));
            }
            Target::Resource(name) => {
                let Some(resource) = self.resources.get(name) else {
                    return Ok(search.found);
                };
                if cursor < resource.dropped {
                    return Err(compacted);
                }
                search.run(resource.ring.range(resource.position(cursor)..));
            }
            Target::Cluster(name, cluster) => {
                let Some(resource) = self.resources.get(name) else {
                    return Ok(search.found);
                };
                let Some(shard) = resource.clusters.get(cluster) else {
                    return Ok(search.found);
                };
                if cursor < shard.dropped {
                    return Err(compacted);
                }
                if cursor < shard.complete_from {
                    search.run(resource.ring.range(resource.position(cursor)..));
                } else {
                    let new = shard.recent.iter().filter(|revision| **revision > cursor);
                    search.run(
                        new.filter_map(|revision| {
                            resource.ring.get(resource.position(revision - 1))
                        }),
                    );
                }
            }
        }
        Ok(search.found)
    }

    /// The newest revision a cursor can be said to have reached: the last of all if nothing that
    /// concerns it came after.
    pub(crate) fn progress(&self, target: &Target, cursor: Revision) -> Revision {
        let nothing_missed = match target {
            Target::Everything => false,
            Target::Resource(name) => self.resources.get(name).is_none_or(|resource| {
                let last = resource.ring.back().map_or(0, |event| event.revision);
                cursor >= last.max(resource.dropped)
            }),
            Target::Cluster(name, cluster) => {
                let shard = self
                    .resources
                    .get(name)
                    .and_then(|r| r.clusters.get(cluster));
                shard.is_none_or(|shard| {
                    let last = shard.recent.back().copied().unwrap_or(0);
                    cursor >= last.max(shard.dropped).max(shard.complete_from)
                })
            }
        };
        if nothing_missed {
            cursor.max(self.revision)
        } else {
            cursor
        }
    }
}

/// One bounded walk over events.
struct Search<'a, M> {
    prefix: &'a str,
    limit: usize,
    head: Revision,
    found: Found<M>,
}

impl<'a, M> Search<'a, M> {
    fn new(prefix: &'a str, cursor: Revision, limit: usize, head: Revision) -> Self {
        let found = Found {
            events: Vec::new(),
            cursor,
            caught_up: true,
        };
        Self {
            prefix,
            limit,
            head,
            found,
        }
    }

    fn run<'e>(&mut self, events: impl Iterator<Item = &'e Arc<Event<M>>>)
    where
        M: 'e,
    {
        let found = &mut self.found;
        for (looked_at, event) in events.enumerate() {
            if looked_at == SCAN || found.events.len() == self.limit {
                found.caught_up = false;
                return;
            }
            if event.entry.key.starts_with(self.prefix) {
                found.events.push(event.clone());
            }
            found.cursor = event.revision;
        }
        found.cursor = found.cursor.max(self.head);
    }
}

#[cfg(test)]
mod tests;
