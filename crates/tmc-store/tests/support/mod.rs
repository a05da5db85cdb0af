//! A bed to lay a store on, and short names for its operations.
#![allow(dead_code, clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tempfile::TempDir;
use tmc_store::engine::{Engine, Memory, Redb};
use tmc_store::{Clock, CommitError, Expect, Mutation, Options, Revision};

/// What the tests extract: the text of the value.
pub(crate) type Meta = String;
pub(crate) type Store = tmc_store::Store<Meta>;
pub(crate) type Event = Arc<tmc_store::Event<Meta>>;
pub(crate) type Watcher = tmc_store::Watcher<Meta>;

/// An engine and a clock that stands still until it is moved.
pub(crate) struct Bed {
    dir: Option<TempDir>,
    time: Arc<AtomicU64>,
}

impl Bed {
    pub(crate) fn memory() -> Self {
        Self {
            dir: None,
            time: Arc::default(),
        }
    }

    pub(crate) fn redb() -> Self {
        Self {
            dir: Some(tempfile::tempdir().unwrap()),
            time: Arc::default(),
        }
    }

    pub(crate) fn is_durable(&self) -> bool {
        self.dir.is_some()
    }

    pub(crate) fn engine(&self) -> Box<dyn Engine> {
        match &self.dir {
            Some(dir) => Box::new(Redb::open(dir.path().join("store.redb")).unwrap()),
            None => Box::new(Memory::default()),
        }
    }

    /// Small bounds: 5 min of history, 75 s of it fresh, 64 KiB.
    pub(crate) fn options(&self) -> Options {
        let time = self.time.clone();
        let now = move || Duration::from_millis(time.load(Ordering::Relaxed));
        Options {
            log_bytes: 64 << 10,
            clock: Clock::new(now),
            ..Options::default()
        }
    }

    pub(crate) fn open(&self) -> Store {
        self.open_with(self.options())
    }

    pub(crate) fn open_with(&self, options: Options) -> Store {
        Store::open(self.engine(), |_, value| text_of(value).to_owned(), options).unwrap()
    }

    pub(crate) fn pass(&self, time: Duration) {
        let millis = u64::try_from(time.as_millis()).unwrap();
        self.time.fetch_add(millis, Ordering::Relaxed);
    }

    /// Lets all history age and writes until the floor has moved past `revision`.
    pub(crate) async fn compact_past(&self, store: &Store, revision: Revision) {
        let mut n = 0;
        while store.stats().floor < revision {
            self.pass(Duration::from_secs(301));
            create(
                store,
                &format!("core/fillers/root//{}-{n}", store.revision()),
                "",
            )
            .await;
            n += 1;
            assert!(n < 1000, "the floor does not move");
        }
    }
}

/// The text of a value, without the revision it was encoded with.
pub(crate) fn text_of(value: &Bytes) -> &str {
    std::str::from_utf8(value)
        .unwrap()
        .rsplit_once('@')
        .unwrap()
        .0
}

/// The revision a value was encoded with.
pub(crate) fn revision_of(value: &Bytes) -> Revision {
    std::str::from_utf8(value)
        .unwrap()
        .rsplit_once('@')
        .unwrap()
        .1
        .parse()
        .unwrap()
}

pub(crate) fn mutation(key: &str, expect: Expect, text: &str, delete: bool) -> Mutation<Meta> {
    let text = text.to_owned();
    let encode = Box::new(move |revision| (Bytes::from(format!("{text}@{revision}")), text));
    Mutation {
        key: key.into(),
        expect,
        encode,
        delete,
    }
}

pub(crate) type Committed = Result<Event, CommitError<Meta>>;

pub(crate) async fn write(store: &Store, key: &str, expect: Expect, text: &str) -> Committed {
    store.commit(mutation(key, expect, text, false)).await
}

pub(crate) async fn create(store: &Store, key: &str, text: &str) -> Revision {
    write(store, key, Expect::Absent, text)
        .await
        .unwrap()
        .revision
}

pub(crate) async fn update(store: &Store, key: &str, text: &str) -> Revision {
    let current = store.get(key).unwrap().revision;
    write(store, key, Expect::Revision(current), text)
        .await
        .unwrap()
        .revision
}

pub(crate) async fn delete(store: &Store, key: &str) -> Revision {
    let current = store.get(key).unwrap().revision;
    let gone = mutation(key, Expect::Revision(current), "gone", true);
    store.commit(gone).await.unwrap().revision
}

/// Key → text of a prefix now or at a revision.
pub(crate) fn list(store: &Store, prefix: &str, at: Option<Revision>) -> BTreeMap<String, String> {
    let page = store.range(prefix, at, None, 0).unwrap();
    assert!(!page.more);
    assert_eq!(page.remaining, Some(0));
    page.entries
        .iter()
        .map(|e| (e.key.to_string(), e.meta.clone()))
        .collect()
}

/// The next `count` events of a watcher.
pub(crate) async fn take(watcher: &mut Watcher, count: usize) -> Vec<Event> {
    let mut events = Vec::new();
    while events.len() < count {
        events.extend(watcher.next().await.unwrap());
    }
    assert_eq!(events.len(), count);
    events
}

pub(crate) fn revisions(events: &[Event]) -> Vec<Revision> {
    events.iter().map(|event| event.revision).collect()
}
