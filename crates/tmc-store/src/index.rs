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
        if event.deleted {
            Self::Gone(event.revision)
        } else {
            Self::Live(event.entry.clone())
        }
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
        self.older
            .push(std::mem::replace(&mut self.newest, version));
    }

    fn at(&self, revision: Revision) -> Option<&Arc<Entry<M>>> {
        if self.newest.revision() <= revision {
            return self.newest.live();
        }
        self.older
            .iter()
            .rev()
            .find(|v| v.revision() <= revision)?
            .live()
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
        Self {
            keys: BTreeMap::new(),
            live: 0,
        }
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
                place.insert(Versions {
                    newest: version,
                    older: Vec::new(),
                });
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
        let versions = Versions {
            newest: Version::Live(entry.clone()),
            older: Vec::new(),
        };
        self.keys.insert(entry.key.clone(), versions);
        self.live += 1;
    }

    /// Forgets the versions of a key that are superseded at the floor.
    pub(crate) fn prune(&mut self, key: &str, floor: Revision) {
        if self
            .keys
            .get_mut(key)
            .is_some_and(|versions| versions.prune(floor))
        {
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

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn event(key: &str, revision: Revision, deleted: bool) -> Event<()> {
        let value = Bytes::new();
        let entry = Entry {
            key: key.into(),
            value,
            meta: (),
            created: revision,
            revision,
        };
        Event {
            revision,
            entry: Arc::new(entry),
            previous: None,
            deleted,
        }
    }

    fn at(index: &Index<()>, revision: Revision) -> Option<Revision> {
        let (_, entry) = index.scan("k", None, revision).next()?;
        entry.map(|entry| entry.revision)
    }

    #[test]
    fn pruning_keeps_what_can_be_read_at_or_above_the_floor() {
        let history = || {
            let mut index = Index::default();
            for (revision, deleted) in [(2, false), (4, false), (6, true), (8, false)] {
                index.apply(&event("k", revision, deleted));
            }
            index
        };
        for floor in 0..=10 {
            let mut index = history();
            index.prune("k", floor);
            let whole = history();
            for revision in floor..=10 {
                assert_eq!(
                    at(&index, revision),
                    at(&whole, revision),
                    "{revision} of {floor}"
                );
            }
        }
        let mut index = history();
        index.prune("k", 6);
        assert_eq!(
            index.keys["k"].older.len(),
            0,
            "a tombstone at the floor is not kept"
        );
        index.prune("unknown", 6);
        assert_eq!(index.live(), 1);
    }

    #[test]
    fn a_deleted_key_disappears_at_the_floor_and_not_before() {
        let mut index = Index::default();
        index.apply(&event("k", 1, false));
        index.apply(&event("k", 2, true));
        index.prune("k", 1);
        assert_eq!((at(&index, 1), at(&index, 2)), (Some(1), None));
        assert!(index.get("k").is_none() && !index.is_empty());
        index.prune("k", 2);
        assert!(index.is_empty());
    }

    #[test]
    fn a_scan_starts_after_a_key_whether_it_exists_or_not() {
        let mut index = Index::default();
        for (revision, key) in (1..).zip(["a/1", "a/2", "a/3", "b/1"]) {
            index.apply(&event(key, revision, false));
        }
        let keys = |prefix: &'static str, after| -> Vec<String> {
            index
                .scan(prefix, after, 9)
                .map(|(key, _)| key.to_string())
                .collect()
        };
        assert_eq!(keys("a/", None), ["a/1", "a/2", "a/3"]);
        assert_eq!(keys("a/", Some("a/2")), ["a/3"]);
        assert_eq!(keys("a/", Some("a/2a")), ["a/3"]);
        assert_eq!(keys("a/", Some("A")), ["a/1", "a/2", "a/3"]);
        assert_eq!(keys("a/", Some("b")), Vec::<String>::new());
    }
}
