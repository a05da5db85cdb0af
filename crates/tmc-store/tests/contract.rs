//! What every store promises, on both engines.
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::join_all;
use support::*;
use tmc_store::{CommitError, Compacted, Expect, Options};

/// Runs each test on the memory engine and on redb.
macro_rules! contract {
    ($($name:ident)*) => {
        mod memory {
            use super::Bed;
            $(#[tokio::test]
            async fn $name() {
                super::$name(Bed::memory()).await;
            })*
        }
        mod redb {
            use super::Bed;
            $(#[tokio::test]
            async fn $name() {
                super::$name(Bed::redb()).await;
            })*
        }
    };
}

contract! {
    revisions_are_consecutive_and_an_acknowledged_write_is_read
    a_write_happens_only_if_the_key_is_as_expected
    an_update_keeps_the_revision_that_created_the_key
    a_delete_has_its_own_revision_and_its_value_is_encoded_with_it
    a_watch_gets_the_events_of_its_prefix_in_order
    a_watch_resumes_after_any_revision_that_is_not_compacted
    below_the_floor_watch_list_and_continued_pages_say_compacted
    a_watch_of_a_quiet_resource_resumes_although_others_were_compacted
    a_sleeping_watcher_outlives_the_compaction_of_what_does_not_concern_it
    a_watcher_that_is_overrun_is_told_so
    an_event_wakes_no_watcher_of_another_cluster_or_resource
    a_list_at_a_revision_shows_that_revision
    pages_are_cut_from_one_revision_while_others_write
    a_page_says_how_many_keys_follow
    counts_follow_creates_and_deletes
    a_list_and_its_watch_leave_no_gap_and_no_double
    history_is_bounded_in_bytes_and_fresh_history_is_kept
    a_thousand_slow_watchers_all_get_everything_and_hold_nothing
    concurrent_committers_get_distinct_consecutive_revisions
    of_many_racing_creators_of_one_key_one_wins
    a_dropped_commit_happens_or_not_but_never_half
    close_finishes_what_is_queued_and_refuses_the_rest
    a_panic_while_encoding_fails_that_write_alone
    a_prefix_over_several_resources_lists_and_watches_all_of_them
    the_inline_writer_commits_without_waiting
}

const PODS: &str = "core/pods/";

fn pod(cluster: &str, name: &str) -> String {
    format!("core/pods/{cluster}/default/{name}")
}

async fn revisions_are_consecutive_and_an_acknowledged_write_is_read(bed: Bed) {
    let store = bed.open();
    assert_eq!(store.revision(), 0);
    for n in 1..=100 {
        let key = pod("root", &format!("p{n}"));
        assert_eq!(create(&store, &key, "x").await, n);
        assert_eq!(store.revision(), n);
        let entry = store.get(&key).unwrap();
        assert_eq!((entry.revision, entry.created, &*entry.meta), (n, n, "x"));
        assert_eq!(revision_of(&entry.value), n);
    }
}

async fn a_write_happens_only_if_the_key_is_as_expected(bed: Bed) {
    let store = bed.open();
    let key = pod("root", "p");
    let conflict = |result: Committed| match result {
        Err(CommitError::Conflict { current }) => current.map(|entry| entry.revision),
        other => panic!("{other:?}"),
    };
    assert_eq!(
        conflict(write(&store, &key, Expect::Revision(1), "a").await),
        None
    );
    for expect in [Expect::Absent, Expect::Revision(1)] {
        let gone = store.commit(mutation(&key, expect, "", true)).await;
        assert_eq!(conflict(gone), None, "deletes what is not there");
    }
    create(&store, &key, "a").await;
    assert_eq!(
        conflict(write(&store, &key, Expect::Absent, "b").await),
        Some(1)
    );
    update(&store, &key, "b").await;
    assert_eq!(
        conflict(write(&store, &key, Expect::Revision(1), "c").await),
        Some(2)
    );
    assert_eq!(
        conflict(write(&store, &key, Expect::Revision(3), "c").await),
        Some(2)
    );
    let absent = store.commit(mutation(&key, Expect::Absent, "", true)).await;
    assert_eq!(conflict(absent), Some(2));
    assert_eq!(store.revision(), 2, "a conflict takes no revision");
    assert_eq!(store.get(&key).unwrap().meta, "b");
}

async fn an_update_keeps_the_revision_that_created_the_key(bed: Bed) {
    let store = bed.open();
    let key = pod("root", "p");
    create(&store, &pod("root", "other"), "").await;
    create(&store, &key, "a").await;
    update(&store, &key, "b").await;
    assert_eq!(store.get(&key).unwrap().created, 2);
    delete(&store, &key).await;
    create(&store, &key, "again").await;
    assert_eq!(store.get(&key).unwrap().created, 5);
}

async fn a_delete_has_its_own_revision_and_its_value_is_encoded_with_it(bed: Bed) {
    let store = bed.open();
    let key = pod("root", "p");
    let mut watcher = store.watch(PODS, 0).unwrap();
    create(&store, &key, "a").await;
    delete(&store, &key).await;
    let events = take(&mut watcher, 2).await;
    let gone = &events[1];
    assert!(gone.deleted);
    assert_eq!(
        (gone.revision, gone.entry.revision, gone.entry.created),
        (2, 2, 1)
    );
    assert_eq!(
        (text_of(&gone.entry.value), revision_of(&gone.entry.value)),
        ("gone", 2)
    );
    assert_eq!(gone.previous.as_ref().unwrap().meta, "a");
    assert!(store.get(&key).is_none());
    let created = write(&store, &key, Expect::Absent, "b").await.unwrap();
    assert!(
        created.previous.is_none(),
        "a deleted version is no version before"
    );
}

async fn a_watch_gets_the_events_of_its_prefix_in_order(bed: Bed) {
    let store = bed.open();
    let prefixes = [
        "core/pods/",
        "core/pods/a/",
        "core/pods/a/default/",
        "core/pods/a/default/p1",
    ];
    let mut watchers: Vec<_> = prefixes
        .iter()
        .map(|p| store.watch(p, 0).unwrap())
        .collect();
    for key in [
        "core/pods/a/default/p1",
        "core/pods/a/kube-system/p2",
        "core/pods/ab/default/p3",
        "core/podtemplates/a/default/p4",
        "apps/pods/a/default/p5",
        "core/pods/a/default/p1x",
    ] {
        create(&store, key, "").await;
    }
    let expected = [vec![1, 2, 3, 6], vec![1, 2, 6], vec![1, 6], vec![1, 6]];
    for (watcher, expected) in watchers.iter_mut().zip(expected) {
        let events = take(watcher, expected.len()).await;
        assert_eq!(revisions(&events), expected);
        assert_eq!(watcher.progress(), 6);
        assert!(watcher.next().now_or_never().is_none());
    }
}

async fn a_watch_resumes_after_any_revision_that_is_not_compacted(bed: Bed) {
    let store = bed.open();
    for n in 0..100 {
        create(&store, &pod(["a", "b"][n % 2], &n.to_string()), "").await;
    }
    for prefix in [PODS, "core/pods/a/"] {
        let of_prefix = |revision: &u64| prefix == PODS || revision % 2 == 1;
        for after in 0..100 {
            let expected: Vec<u64> = (after + 1..=100).filter(of_prefix).collect();
            let mut watcher = store.watch(prefix, after).unwrap();
            let events = take(&mut watcher, expected.len()).await;
            assert_eq!(revisions(&events), expected, "{prefix} after {after}");
        }
    }
    // From the future: nothing until it is there.
    let mut ahead = store.watch(PODS, 101).unwrap();
    create(&store, &pod("a", "101"), "").await;
    assert!(ahead.next().now_or_never().is_none());
    create(&store, &pod("a", "102"), "").await;
    assert_eq!(revisions(&take(&mut ahead, 1).await), [102]);
}

async fn below_the_floor_watch_list_and_continued_pages_say_compacted(bed: Bed) {
    let store = bed.open();
    for n in 0..200 {
        create(&store, &pod("root", &format!("{n:03}")), "").await;
    }
    let first = store.range(PODS, Some(50), None, 10).unwrap();
    assert!(first.more);
    bed.compact_past(&store, 150).await;
    let floor = store.stats().floor;
    let compacted = Compacted { floor };
    let last = first.entries.last().unwrap().key.clone();
    let continued = store.range(PODS, Some(first.revision), Some(&last), 10);
    assert_eq!(continued.unwrap_err(), compacted);
    assert_eq!(
        store.range(PODS, Some(floor - 1), None, 0).unwrap_err(),
        compacted
    );
    assert_eq!(store.watch(PODS, floor - 1).err(), Some(compacted));
    assert_eq!(
        store.watch("apps/unknown/root/", floor - 1).err(),
        Some(compacted)
    );
    assert_eq!(
        list(&store, PODS, Some(floor)).len(),
        usize::try_from(floor.min(200)).unwrap()
    );
    let mut watcher = store.watch(PODS, floor).unwrap();
    let rest = usize::try_from(200_u64.saturating_sub(floor)).unwrap();
    take(&mut watcher, rest).await;
}

async fn a_watch_of_a_quiet_resource_resumes_although_others_were_compacted(bed: Bed) {
    let store = bed.open();
    create(&store, "core/secrets/root/default/quiet", "").await;
    for n in 0..300 {
        create(&store, &pod("root", &n.to_string()), "").await;
    }
    bed.compact_past(&store, 250).await;
    for prefix in [
        "core/secrets/",
        "core/secrets/root/",
        "core/never/",
        "core/never/root/",
    ] {
        let floor = store.stats().floor;
        let mut watcher = store.watch(prefix, floor).unwrap();
        assert!(watcher.next().now_or_never().is_none());
        assert_eq!(watcher.progress(), store.revision());
        create(&store, &format!("{prefix}x/y/{floor}"), "").await;
        take(&mut watcher, 1).await;
    }
}

async fn a_sleeping_watcher_outlives_the_compaction_of_what_does_not_concern_it(bed: Bed) {
    let store = bed.open();
    create(&store, &pod("mine", "1"), "").await;
    let mut same_resource = store.watch("core/pods/mine/", 1).unwrap();
    let mut other_resource = store.watch("core/secrets/", 1).unwrap();
    assert!(same_resource.next().now_or_never().is_none());
    for n in 0..300 {
        create(&store, &pod("theirs", &n.to_string()), "").await;
    }
    bed.compact_past(&store, 290).await;
    assert_eq!(same_resource.progress(), store.revision());
    assert_eq!(other_resource.progress(), store.revision());
    let new = create(&store, &pod("mine", "2"), "").await;
    assert_eq!(revisions(&take(&mut same_resource, 1).await), [new]);
    let new = create(&store, "core/secrets/a/b/c", "").await;
    assert_eq!(revisions(&take(&mut other_resource, 1).await), [new]);
}

async fn a_watcher_that_is_overrun_is_told_so(bed: Bed) {
    let store = bed.open();
    let prefixes = ["core/pods/", "core/pods/root/", ""];
    let mut watchers: Vec<_> = prefixes
        .iter()
        .map(|p| store.watch(p, 0).unwrap())
        .collect();
    for n in 0..200 {
        create(&store, &pod("root", &n.to_string()), "").await;
    }
    bed.compact_past(&store, 100).await;
    for watcher in &mut watchers {
        assert_eq!(
            watcher.progress(),
            0,
            "a bookmark would skip what it has not seen"
        );
        let floor = store.stats().floor;
        assert_eq!(watcher.next().await.unwrap_err(), Compacted { floor });
        assert!(watcher.next().await.is_err(), "and again");
    }
}

#[derive(Default)]
struct CountingWaker(AtomicUsize);

impl Wake for CountingWaker {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

async fn an_event_wakes_no_watcher_of_another_cluster_or_resource(bed: Bed) {
    let store = bed.open();
    let mut wakes = Vec::new();
    for prefix in [
        "core/pods/a/",
        "core/pods/b/",
        "core/pods/",
        "core/secrets/",
        "",
    ] {
        let counter = Arc::new(CountingWaker::default());
        let mut watcher = store.watch(prefix, 0).unwrap();
        let mut next = Box::pin(async move { watcher.next().await });
        let waker = Waker::from(counter.clone());
        assert!(matches!(
            next.as_mut().poll(&mut Context::from_waker(&waker)),
            Poll::Pending
        ));
        wakes.push((prefix, counter, next));
    }
    assert_eq!(store.stats().watchers, 5);
    create(&store, &pod("a", "1"), "").await;
    let woken: Vec<_> = wakes
        .iter()
        .filter(|w| w.1.0.load(Ordering::SeqCst) > 0)
        .map(|w| w.0)
        .collect();
    assert_eq!(woken, ["core/pods/a/", "core/pods/", ""]);
    drop(wakes);
    assert_eq!(store.stats().watchers, 0);
}

async fn a_list_at_a_revision_shows_that_revision(bed: Bed) {
    let store = bed.open();
    let keys = [pod("a", "1"), pod("a", "2"), pod("b", "1")];
    let mut expected = vec![list(&store, PODS, None)];
    create(&store, &keys[0], "one").await;
    expected.push(list(&store, PODS, None));
    create(&store, &keys[1], "two").await;
    expected.push(list(&store, PODS, None));
    update(&store, &keys[0], "uno").await;
    expected.push(list(&store, PODS, None));
    delete(&store, &keys[0]).await;
    expected.push(list(&store, PODS, None));
    create(&store, &keys[2], "three").await;
    expected.push(list(&store, PODS, None));
    create(&store, &keys[0], "back").await;
    expected.push(list(&store, PODS, None));
    for (at, expected) in expected.iter().enumerate() {
        assert_eq!(list(&store, PODS, Some(at as u64)), *expected, "at {at}");
    }
    let page = store.range(PODS, Some(1000), None, 0).unwrap();
    assert_eq!(
        (page.revision, page.entries.len()),
        (6, 3),
        "the future is now"
    );
}

async fn pages_are_cut_from_one_revision_while_others_write(bed: Bed) {
    let store = bed.open();
    for n in 0..1500 {
        let key = pod(["a", "b"][n % 2], &format!("{n:04}"));
        store
            .commit(mutation(&key, Expect::Absent, "old", false))
            .await
            .unwrap();
    }
    for (prefix, size, total) in [(PODS, 7, 1500), ("core/pods/a/", 100, 750)] {
        let mut at = None;
        let mut seen: Vec<String> = Vec::new();
        loop {
            let page = store
                .range(prefix, at, seen.last().map(|s| &**s), size)
                .unwrap();
            assert_eq!(page.revision, *at.get_or_insert(page.revision));
            assert!(page.entries.iter().all(|e| e.revision <= page.revision));
            seen.extend(page.entries.iter().map(|e| e.key.to_string()));
            if !page.more {
                break;
            }
            assert_eq!(page.entries.len(), size);
            // Ahead of, behind and at the position.
            let n = seen.len();
            create(
                &store,
                &pod("a", &format!("9{prefix}{n}").replace('/', "-")),
                "new",
            )
            .await;
            update(&store, &seen[n / 2], "new").await;
            if prefix == PODS && n % 50 == 0 {
                delete(&store, &pod("b", &format!("{:04}", n * 2 / 7 * 2 + 1))).await;
            }
        }
        assert!(seen.is_sorted());
        let distinct: BTreeSet<_> = seen.iter().collect();
        assert_eq!(distinct.len(), seen.len());
        if prefix == PODS {
            assert_eq!(seen.len(), total);
        } else {
            assert_eq!(
                seen.len(),
                store.range(prefix, at, None, 0).unwrap().entries.len()
            );
        }
    }
}

async fn a_page_says_how_many_keys_follow(bed: Bed) {
    let store = bed.open();
    let writes = (0..3000).map(|n| {
        let key = pod(["a", "b"][n % 2], &n.to_string());
        store.commit(mutation(&key, Expect::Absent, "", false))
    });
    join_all(writes).await;
    let remaining = |prefix: &str, after: Option<&str>, limit| {
        store.range(prefix, None, after, limit).unwrap().remaining
    };
    assert_eq!(
        remaining(PODS, None, 10),
        Some(2990),
        "known for a whole resource"
    );
    assert_eq!(remaining("core/pods/a/", None, 10), Some(1490), "counted");
    assert_eq!(
        remaining(PODS, Some(&pod("a", "0")), 10),
        None,
        "too many to count"
    );
    assert_eq!(remaining(PODS, None, 3000), Some(0));
    assert_eq!(remaining(PODS, None, 0), Some(0));
    assert!(!store.range(PODS, None, None, 3000).unwrap().more);
}

async fn counts_follow_creates_and_deletes(bed: Bed) {
    let store = bed.open();
    let counts = || ["core/pods/", "core/pods/a/", "core/", "apps/x/"].map(|p| store.count(p));
    assert_eq!(counts(), [0, 0, 0, 0]);
    create(&store, &pod("a", "1"), "").await;
    create(&store, &pod("b", "1"), "").await;
    create(&store, "core/secrets/a/b/c", "").await;
    assert_eq!(counts(), [2, 1, 3, 0]);
    update(&store, &pod("a", "1"), "").await;
    delete(&store, &pod("a", "1")).await;
    assert_eq!(counts(), [1, 0, 2, 0]);
    create(&store, &pod("a", "1"), "").await;
    assert_eq!(counts(), [2, 1, 3, 0]);
    assert_eq!(store.stats().keys, 3);
}

async fn a_list_and_its_watch_leave_no_gap_and_no_double(bed: Bed) {
    let store = bed.open();
    let writing = store.clone();
    let writer = tokio::spawn(async move {
        for n in 0..400 {
            create(&writing, &pod("root", &n.to_string()), "").await;
        }
    });
    let mut tasks = Vec::new();
    for _ in 0..20 {
        while store.revision() < tasks.len() as u64 * 10 {
            tokio::task::yield_now().await;
        }
        let (page, mut watcher) = store.list_and_watch(PODS);
        tasks.push(tokio::spawn(async move {
            let events = take(&mut watcher, 400 - page.entries.len()).await;
            let mut all: Vec<_> = page.entries.iter().map(|e| e.revision).collect();
            all.sort_unstable();
            all.extend(revisions(&events));
            assert!(all.iter().copied().eq(1..=400));
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    writer.await.unwrap();
}

async fn history_is_bounded_in_bytes_and_fresh_history_is_kept(bed: Bed) {
    let store = bed.open();
    let key = pod("root", "p");
    let big = "x".repeat(1000);
    create(&store, &key, &big).await;
    let grow = async |count| {
        for _ in 0..count {
            update(&store, &key, &big).await;
        }
    };
    // Over the 64 KiB, but fresh.
    grow(128).await;
    assert_eq!(store.stats().floor, 0);
    assert!(store.stats().history_bytes > 128 << 10);
    // Fresh, but far over: four times as much is the end.
    grow(400).await;
    let stats = store.stats();
    assert!(stats.floor > 200, "{stats:?}");
    assert!(stats.history_bytes < 5 * (64 << 10), "{stats:?}");
    // No longer fresh: back to the bound.
    bed.pass(Duration::from_secs(76));
    grow(8).await;
    assert!(
        store.stats().history_bytes <= (64 << 10) + 2000,
        "{:?}",
        store.stats()
    );
    // Too old, whatever its size.
    bed.pass(Duration::from_secs(301));
    grow(8).await;
    assert!(store.stats().events <= 9, "{:?}", store.stats());
}

async fn a_thousand_slow_watchers_all_get_everything_and_hold_nothing(bed: Bed) {
    const WATCHERS: u64 = 1000;
    const WRITES: u64 = 200;
    let store = bed.open_with(Options {
        log_bytes: 1 << 20,
        ..bed.options()
    });
    let read = Arc::new(AtomicUsize::new(0));
    let (finished, wait) = tokio::sync::watch::channel(false);
    let mut tasks = Vec::new();
    for n in 0..WATCHERS {
        let mut watcher = store.watch(PODS, 0).unwrap();
        let mut wait = wait.clone();
        let read = read.clone();
        tasks.push(tokio::spawn(async move {
            // Every second one reads nothing until all is written, the others stop now and then.
            if n % 2 == 0 {
                wait.wait_for(|finished| *finished).await.unwrap();
            }
            let mut next = 1;
            while next <= WRITES {
                for event in watcher.next().await.unwrap() {
                    assert_eq!(event.revision, next);
                    next += 1;
                }
                for _ in 0..n % 7 {
                    tokio::task::yield_now().await;
                }
            }
            read.fetch_add(1, Ordering::SeqCst);
        }));
    }
    assert_eq!(store.stats().watchers, 1000);
    for n in 0..WRITES {
        create(&store, &pod("root", &n.to_string()), "x").await;
    }
    // Whoever reads slowly, there is one copy of each event: the log's.
    assert_eq!(store.stats().events, 200);
    let event = &store.watch(PODS, 0).unwrap().next().await.unwrap()[0];
    assert!(
        Arc::strong_count(event) < 10,
        "log, ring and this test hold it, not the watchers"
    );
    finished.send(true).unwrap();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(read.load(Ordering::SeqCst), 1000);
    assert_eq!(store.stats().watchers, 0);
}

async fn concurrent_committers_get_distinct_consecutive_revisions(bed: Bed) {
    let store = bed.open();
    let mut watcher = store.watch("", 0).unwrap();
    let tasks = (0..200).map(|task| {
        let store = store.clone();
        tokio::spawn(async move {
            let mut own = Vec::new();
            for n in 0..5 {
                own.push(
                    create(
                        &store,
                        &pod(&format!("c{}", task % 9), &format!("{task}-{n}")),
                        "",
                    )
                    .await,
                );
            }
            assert!(own.is_sorted());
            own
        })
    });
    let own: Vec<_> = join_all(tasks)
        .await
        .into_iter()
        .flat_map(Result::unwrap)
        .collect();
    let distinct: BTreeSet<_> = own.into_iter().collect();
    assert!(distinct.into_iter().eq(1..=1000));
    let events = take(&mut watcher, 1000).await;
    assert!(revisions(&events).into_iter().eq(1..=1000));
}

async fn of_many_racing_creators_of_one_key_one_wins(bed: Bed) {
    let store = bed.open();
    let key = pod("root", "p");
    let texts: Vec<_> = (0..50).map(|n| n.to_string()).collect();
    let results = join_all(texts.iter().map(|t| write(&store, &key, Expect::Absent, t))).await;
    let winner = results.iter().position(Result::is_ok).unwrap();
    assert_eq!(store.get(&key).unwrap().meta, texts[winner]);
    for (n, result) in results.into_iter().enumerate() {
        match result {
            Ok(event) => assert_eq!((n, event.revision), (winner, 1)),
            Err(CommitError::Conflict {
                current: Some(entry),
            }) => assert_eq!(entry.revision, 1),
            Err(error) => panic!("{error}"),
        }
    }
}

async fn a_dropped_commit_happens_or_not_but_never_half(bed: Bed) {
    let store = bed.open_with(Options {
        queue: 2,
        batch: 3,
        ..bed.options()
    });
    for n in 0..300 {
        let key = pod("root", &n.to_string());
        let commit = write(&store, &key, Expect::Absent, "x");
        // Polled at most once: queued, or waiting to be.
        drop(commit.now_or_never());
    }
    // The queue is in order: when this is done, all before it are.
    let last = create(&store, &pod("root", "last"), "x").await;
    let present = store.count(PODS) as u64;
    assert_eq!(present, last);
    let mut watcher = store.watch(PODS, 0).unwrap();
    let events = take(&mut watcher, usize::try_from(last).unwrap()).await;
    assert!(revisions(&events).into_iter().eq(1..=last));
    assert!(
        events
            .iter()
            .all(|event| store.get(&event.entry.key).is_some())
    );
}

async fn close_finishes_what_is_queued_and_refuses_the_rest(bed: Bed) {
    let store = bed.open_with(Options {
        queue: 4,
        ..bed.options()
    });
    let tasks: Vec<_> = (0..50)
        .map(|n| {
            let store = store.clone();
            tokio::spawn(async move {
                write(&store, &pod("root", &n.to_string()), Expect::Absent, "x").await
            })
        })
        .collect();
    // Each has run once: it is queued or waits to be.
    tokio::task::yield_now().await;
    store.close().await;
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    let late = write(&store, &pod("root", "late"), Expect::Absent, "x").await;
    assert!(matches!(late, Err(CommitError::Closed)));
    store.close().await;
    assert_eq!(store.count(PODS), 50, "reads go on");
    if bed.is_durable() {
        assert_eq!(bed.open().count(PODS), 50, "and the file is free again");
    }
}

async fn a_panic_while_encoding_fails_that_write_alone(bed: Bed) {
    let store = bed.open();
    let mut bad = mutation(&pod("root", "bad"), Expect::Absent, "", false);
    bad.encode = Box::new(|_| std::panic::resume_unwind(Box::new("no")));
    let (bad, good) = tokio::join!(store.commit(bad), create_one(&store, "good"));
    assert!(matches!(bad, Err(CommitError::Failed(_))));
    assert_eq!(good, 1, "no revision is lost");
    assert_eq!(store.count(PODS), 1);
}

async fn create_one(store: &Store, name: &str) -> u64 {
    create(store, &pod("root", name), "").await
}

async fn a_prefix_over_several_resources_lists_and_watches_all_of_them(bed: Bed) {
    let store = bed.open();
    let mut watcher = store.watch("apps/", 0).unwrap();
    let keys = [
        "apps/a/root/ns/1",
        "core/a/root/ns/2",
        "apps/a-b/root/ns/3",
        "apps/a/root/ns/4",
        "apps/ab/root/ns/5",
    ];
    for key in keys {
        create(&store, key, "").await;
    }
    assert_eq!(revisions(&take(&mut watcher, 4).await), [1, 3, 4, 5]);
    assert_eq!(watcher.progress(), 5);
    let mut expected = keys.to_vec();
    expected.sort_unstable();
    let found = |prefix: &str| {
        let entries = store.range(prefix, None, None, 0).unwrap().entries;
        entries
            .iter()
            .map(|e| e.key.to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        found(""),
        expected,
        "in the order of keys, not of resources"
    );
    expected.retain(|key| key.starts_with("apps/a"));
    assert_eq!(found("apps/a"), expected);
    let page = store
        .range("apps/", None, Some("apps/a/root/ns/1"), 1)
        .unwrap();
    assert_eq!(
        (&*page.entries[0].key, page.more),
        ("apps/a/root/ns/4", true)
    );
}

async fn the_inline_writer_commits_without_waiting(bed: Bed) {
    let store = bed.open_with(Options {
        inline: true,
        ..bed.options()
    });
    let mut watcher = store.watch(PODS, 0).unwrap();
    let key = pod("root", "p");
    let event = write(&store, &key, Expect::Absent, "x")
        .now_or_never()
        .unwrap()
        .unwrap();
    assert_eq!(event.revision, 1);
    assert_eq!(watcher.next().now_or_never().unwrap().unwrap().len(), 1);
    store.close().await;
    assert!(matches!(
        write(&store, &key, Expect::Absent, "").await,
        Err(CommitError::Closed)
    ));
    assert_eq!(store.get(&key).unwrap().meta, "x");
}
