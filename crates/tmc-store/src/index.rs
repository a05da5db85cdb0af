//! Key → versions, of one resource: what answers gets and lists, now and at a past revision.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as Place;
use std::ops::Bound;
use std::sync::Arc;

use crate::{Entry, Event, Key, Revision};

/// One version of a key.
enum Version<M> {
    Live(Arc<Entry<M>>),
    Gone(Revision),
}

impl<M> Version<M> {
    fn of(event: &Event<M>) -> Self {
        if event.deleted { Self::Gone(event.revision) } else { Self::Live(event.entry.clone()) }
    }

    fn revision(&self) -> Revision {
        match self {
            Self::Live(entry) => entry.revision,
            Self::Gone(revision) => *revision,
        }
    }

    fn live(&self) -> Option<&Arc<Entry<M>>> {
        match self {
            Self::Live(entry) => Some(entry),
            Self::Gone(_) => None,
        }
    }
}

/// The versions of one key. Nearly all keys have one, so that one is held in place.
struct Versions<M> {
    newest: Version<M>,
    /// Ascending.
    older: Vec<Version<M>>,
}

impl<M> Versions<M> {
    fn push(&mut self, version: Version<M>) {
        self.older.push(std::mem::replace(&mut self.newest, version));
    }

    fn at(&self, revision: Revision) -> Option<&Arc<Entry<M>>> {
        if self.newest.revision() <= revision {
            return self.newest.live();
        }
        self.older.iter().rev().find(|v| v.revision() <= revision)?.live()
    }

    /// Drops what no read at or above the floor can see; true if nothing is left.
    fn prune(&mut self, floor: Revision) -> bool {
        if self.newest.revision() <= floor {
            self.older = Vec::new();
            return self.newest.live().is_none();
        }
        let seen = self.older.partition_point(|v| v.revision() <= floor);
        let keep_last = seen > 0 && self.older[seen - 1].live().is_some();
        self.older.drain(..if keep_last { seen - 1 } else { seen });
        if self.older.is_empty() {
            self.older = Vec::new();
        }
        false
    }
}

/// The keys of one resource with the versions that can still be read.
pub(crate) struct Index<M> {
    keys: BTreeMap<Key, Versions<M>>,
    live: usize,
}

impl<M> Default for Index<M> {
    fn default() -> Self {
        Self { keys: BTreeMap::new(), live: 0 }
    }
}

impl<M> Index<M> {
    /// Keys that exist now.
    pub(crate) fn live(&self) -> usize {
        self.live
    }

    /// Whether not even a tombstone is left.
    pub(crate) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    pub(crate) fn get(&self, key: &str) -> Option<&Arc<Entry<M>>> {
        self.keys.get(key)?.newest.live()
    }

    /// Takes over a change, which must be newer than all before it.
    pub(crate) fn apply(&mut self, event: &Event<M>) {
        let version = Version::of(event);
        let existed = match self.keys.entry(event.entry.key.clone()) {
            Place::Vacant(place) => {
                place.insert(Versions { newest: version, older: Vec::new() });
                false
            }
            Place::Occupied(mut place) => {
                let existed = place.get().newest.live().is_some();
                place.get_mut().push(version);
                existed
            }
        };
        self.live = self.live + usize::from(!event.deleted) - usize::from(existed);
    }

    /// Takes over a key as it was at the floor, without history.
    pub(crate) fn restore(&mut self, entry: Arc<Entry<M>>) {
        let versions = Versions { newest: Version::Live(entry.clone()), older: Vec::new() };
        self.keys.insert(entry.key.clone(), versions);
        self.live += 1;
    }

    /// Forgets the versions of a key that are superseded at the floor.
    pub(crate) fn prune(&mut self, key: &str, floor: Revision) {
        if self.keys.get_mut(key).is_some_and(|versions| versions.prune(floor)) {
            self.keys.remove(key);
        }
    }

    /// The keys that start with `prefix` and come after `after`, in order, each with its version
    /// at `at`, or `None` where it did not exist then.
    pub(crate) fn scan<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&str>,
        at: Revision,
    ) -> impl Iterator<Item = (&'a Key, Option<&'a Arc<Entry<M>>>)> {
        let start = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        self.keys
            .range::<str, _>((start, Bound::Unbounded))
            .take_while(move |(key, _)| key.starts_with(prefix))
            .map(move |(key, versions)| (key, versions.at(at)))
    }
}
