//! How the writer uses its engine: grouping, failures, a full queue, other ways to run it.
#![allow(clippy::unwrap_used)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;

use futures::FutureExt as _;
use futures::future::join_all;
use support::*;
use tmc_store::engine::{Compaction, Engine, Loaded, Memory, Record};
use tmc_store::{CommitError, Error, Expect, Options};

fn pod(n: usize) -> String {
    format!("core/pods/root/default/{n}")
}

fn open(engine: impl Engine + 'static, options: Options) -> Store {
    Store::open(
        Box::new(engine),
        |_, value| text_of(value).to_owned(),
        options,
    )
    .unwrap()
}

/// Waits for a permit before each batch and reports it.
struct Gated {
    permits: mpsc::Receiver<()>,
    batches: mpsc::Sender<Vec<Record>>,
}

impl Gated {
    fn new() -> (Self, mpsc::Sender<()>, mpsc::Receiver<Vec<Record>>) {
        let (permit, permits) = mpsc::channel();
        let (batches, seen) = mpsc::channel();
        (Self { permits, batches }, permit, seen)
    }
}

impl Engine for Gated {
    fn load(&mut self) -> Result<Loaded, Error> {
        Ok(Loaded::default())
    }

    fn append(&mut self, batch: &[Record], _: Option<&Compaction>) -> Result<(), Error> {
        self.batches.send(batch.to_vec()).unwrap();
        self.permits
            .recv()
            .map_err(|error| Error::Other(error.into()))
    }
}

#[tokio::test]
async fn waiting_writes_are_grouped_up_to_the_limit() {
    let (engine, permit, seen) = Gated::new();
    let store = open(
        engine,
        Options {
            batch: 30,
            ..Options::default()
        },
    );
    let keys: Vec<_> = (0..96).map(pod).collect();
    let mut commits: Vec<_> = keys
        .iter()
        .map(|key| Box::pin(write(&store, key, Expect::Absent, "x")))
        .collect();
    // The first is with the engine, the others queue up meanwhile.
    assert!(commits[0].as_mut().now_or_never().is_none());
    let mut sizes = vec![seen.recv().unwrap().len()];
    for commit in &mut commits[1..] {
        assert!(commit.as_mut().now_or_never().is_none());
    }
    for _ in 0..5 {
        permit.send(()).unwrap();
    }
    let events: Vec<_> = join_all(commits)
        .await
        .into_iter()
        .map(Result::unwrap)
        .collect();
    assert!(revisions(&events).into_iter().eq(1..=96));
    drop(store);
    sizes.extend(seen.iter().map(|batch| batch.len()));
    assert_eq!(sizes, [1, 30, 30, 30, 5]);
}

#[tokio::test]
async fn nothing_is_visible_before_the_engine_has_it() {
    let (engine, permit, seen) = Gated::new();
    let store = open(engine, Options::default());
    let mut watcher = store.watch("", 0).unwrap();
    let key = pod(0);
    let mut commit = Box::pin(write(&store, &key, Expect::Absent, "x"));
    assert!(commit.as_mut().now_or_never().is_none());
    assert_eq!(seen.recv().unwrap().len(), 1);
    assert!(store.get(&key).is_none());
    assert_eq!(store.revision(), 0);
    assert!(watcher.next().now_or_never().is_none());
    permit.send(()).unwrap();
    commit.await.unwrap();
    assert_eq!(store.get(&key).unwrap().revision, 1);
}

#[tokio::test]
async fn a_full_queue_makes_callers_wait() {
    let (engine, permit, seen) = Gated::new();
    let store = open(
        engine,
        Options {
            queue: 3,
            batch: 1,
            ..Options::default()
        },
    );
    let keys: Vec<_> = (0..5).map(pod).collect();
    let mut commits = Vec::new();
    for key in &keys {
        let mut commit = Box::pin(write(&store, key, Expect::Absent, "x"));
        assert!(commit.as_mut().now_or_never().is_none());
        if commits.is_empty() {
            seen.recv().unwrap();
        }
        commits.push(commit);
    }
    // One is with the engine and three are queued; the fifth waits outside, where it has no
    // effect when it is dropped.
    drop(commits.pop());
    for _ in 0..4 {
        permit.send(()).unwrap();
    }
    for commit in commits {
        commit.await.unwrap();
    }
    store.close().await;
    assert_eq!(store.revision(), 4);
    assert!(store.get(&keys[4]).is_none());
}

/// Fails, or panics, while it is told to.
#[derive(Default)]
struct Faulty {
    fail: Arc<AtomicBool>,
    panic: Arc<AtomicBool>,
    kept: Vec<Record>,
}

impl Engine for Faulty {
    fn load(&mut self) -> Result<Loaded, Error> {
        Ok(Loaded::default())
    }

    fn append(&mut self, batch: &[Record], _: Option<&Compaction>) -> Result<(), Error> {
        if self.panic.load(Ordering::SeqCst) {
            std::panic::resume_unwind(Box::new("broken"));
        }
        if self.fail.load(Ordering::SeqCst) {
            return Err(Error::Other("no space left on device".into()));
        }
        let next = self.kept.last().map_or(1, |last| last.revision + 1);
        assert_eq!(
            batch[0].revision, next,
            "revisions are consecutive over failures"
        );
        self.kept.extend_from_slice(batch);
        Ok(())
    }
}

#[tokio::test]
async fn a_disk_error_fails_the_batch_with_nothing_visible_and_reads_go_on() {
    let engine = Faulty::default();
    let (fail, panic) = (engine.fail.clone(), engine.panic.clone());
    let store = open(engine, Options::default());
    create(&store, &pod(0), "before").await;
    let mut watcher = store.watch("", 1).unwrap();
    for (fault, reason) in [(&fail, "no space left"), (&panic, "panicked")] {
        fault.store(true, Ordering::SeqCst);
        let keys: Vec<_> = (1..50).map(pod).collect();
        let commits = keys
            .iter()
            .map(|key| write(&store, key, Expect::Absent, "x"));
        for result in join_all(commits).await {
            let Err(CommitError::Failed(why)) = result else {
                panic!("{result:?}")
            };
            assert!(why.contains(reason), "{why}");
        }
        assert_eq!((store.revision(), store.count("")), (1, 1));
        assert_eq!(store.get(&pod(0)).unwrap().meta, "before");
        assert!(watcher.next().now_or_never().is_none());
        fault.store(false, Ordering::SeqCst);
    }
    assert_eq!(create(&store, &pod(1), "after").await, 2);
    assert_eq!(revisions(&take(&mut watcher, 1).await), [2]);
}

#[tokio::test]
async fn a_conflict_with_a_write_that_failed_is_no_conflict() {
    let engine = Faulty::default();
    let fail = engine.fail.clone();
    let (store, driver) =
        Store::open_with_driver(Box::new(engine), |_, _| String::new(), Options::default())
            .unwrap();
    let mut driver = Box::pin(driver.run());
    let (old, new) = (pod(0), pod(1));
    let mut first = Box::pin(write(&store, &old, Expect::Absent, "x"));
    assert!(first.as_mut().now_or_never().is_none());
    assert!(driver.as_mut().now_or_never().is_none());
    first.await.unwrap();
    fail.store(true, Ordering::SeqCst);
    // In one batch: a create, a second create of the same key, and a real conflict.
    let mut commits = [
        Box::pin(write(&store, &new, Expect::Absent, "x")),
        Box::pin(write(&store, &new, Expect::Absent, "y")),
        Box::pin(write(&store, &old, Expect::Absent, "z")),
    ];
    for commit in &mut commits {
        assert!(commit.as_mut().now_or_never().is_none());
    }
    assert!(driver.as_mut().now_or_never().is_none());
    let [created, lost, real] = commits.map(|commit| commit.now_or_never().unwrap());
    assert!(
        matches!(created, Err(CommitError::Failed(_))),
        "{created:?}"
    );
    assert!(matches!(lost, Err(CommitError::Failed(_))), "{lost:?}");
    assert!(
        matches!(real, Err(CommitError::Conflict { current: Some(_) })),
        "{real:?}"
    );
}

#[tokio::test]
async fn a_batch_sees_its_own_earlier_writes() {
    let (store, driver) = Store::open_with_driver(
        Box::new(Memory::default()),
        |_, _| String::new(),
        Options::default(),
    )
    .unwrap();
    let key = pod(0);
    let mut commits = vec![
        Box::pin(store.commit(mutation(&key, Expect::Absent, "a", false))),
        Box::pin(store.commit(mutation(&key, Expect::Revision(1), "b", false))),
        Box::pin(store.commit(mutation(&key, Expect::Revision(1), "lost", false))),
        Box::pin(store.commit(mutation(&key, Expect::Revision(2), "c", true))),
        Box::pin(store.commit(mutation(&key, Expect::Absent, "d", false))),
    ];
    for commit in &mut commits {
        assert!(commit.as_mut().now_or_never().is_none());
    }
    let mut driver = Box::pin(driver.run());
    assert!(driver.as_mut().now_or_never().is_none());
    let results = join_all(commits).await;
    let outcomes: Vec<_> = results
        .iter()
        .map(|r| r.as_ref().ok().map(|e| e.revision))
        .collect();
    assert_eq!(outcomes, [Some(1), Some(2), None, Some(3), Some(4)]);
    let Err(CommitError::Conflict {
        current: Some(current),
    }) = &results[2]
    else {
        panic!()
    };
    assert_eq!(current.revision, 2);
    assert_eq!(
        list(&store, "", None).into_values().collect::<Vec<_>>(),
        ["d"]
    );
    for (at, text) in [(1, Some("a")), (2, Some("b")), (3, None), (4, Some("d"))] {
        assert_eq!(
            list(&store, "", Some(at)).get(&key).map(|s| &**s),
            text,
            "at {at}"
        );
    }
}

#[tokio::test]
async fn a_driver_ends_when_the_store_is_closed_and_dropping_it_closes_the_store() {
    let open = || {
        let engine = Box::new(Memory::default());
        Store::open_with_driver(engine, |_, _| String::new(), Options::default()).unwrap()
    };
    let (store, driver) = open();
    let running = tokio::spawn(driver.run());
    create(&store, &pod(0), "x").await;
    store.close().await;
    running.await.unwrap();

    let (store, driver) = open();
    let key = pod(0);
    let mut commit = Box::pin(write(&store, &key, Expect::Absent, "x"));
    assert!(commit.as_mut().now_or_never().is_none());
    drop(driver);
    assert!(matches!(commit.await, Err(CommitError::Closed)));
    assert!(matches!(
        write(&store, &key, Expect::Absent, "x").await,
        Err(CommitError::Closed)
    ));
    store.close().await;
}

#[tokio::test]
async fn errors_read_as_sentences() {
    let store = open(Memory::default(), Options::default());
    let key = pod(0);
    let missing = write(&store, &key, Expect::Revision(9), "x")
        .await
        .unwrap_err();
    assert_eq!(missing.to_string(), "conflict: there is no such key");
    create(&store, &key, "x").await;
    let stale = write(&store, &key, Expect::Absent, "x").await.unwrap_err();
    assert_eq!(
        stale.to_string(),
        "conflict: core/pods/root/default/0 is at revision 1"
    );
    assert_eq!(format!("{stale:?}"), format!("CommitError({stale})"));
    store.close().await;
    let closed = write(&store, &key, Expect::Absent, "x").await.unwrap_err();
    assert_eq!(closed.to_string(), "the store is closed");
    assert_eq!(format!("{store:?}"), "Store(revision 1)");
}
