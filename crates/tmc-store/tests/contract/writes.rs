//! Commits: preconditions, order, cancellation, the end.

use std::collections::BTreeSet;

use futures::FutureExt as _;
use futures::future::join_all;
use tmc_store::{CommitError, Expect, Options};

use crate::support::*;
use crate::{PODS, pod};

async fn create_one(store: &Store, name: &str) -> u64 {
    create(store, &pod("root", name), "").await
}

pub(crate) async fn revisions_are_consecutive_and_an_acknowledged_write_is_read(bed: Bed) {
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

pub(crate) async fn a_write_happens_only_if_the_key_is_as_expected(bed: Bed) {
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

pub(crate) async fn an_update_keeps_the_revision_that_created_the_key(bed: Bed) {
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

pub(crate) async fn a_delete_has_its_own_revision_and_its_value_is_encoded_with_it(bed: Bed) {
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

pub(crate) async fn concurrent_committers_get_distinct_consecutive_revisions(bed: Bed) {
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

pub(crate) async fn of_many_racing_creators_of_one_key_one_wins(bed: Bed) {
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

pub(crate) async fn a_dropped_commit_happens_or_not_but_never_half(bed: Bed) {
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

pub(crate) async fn close_finishes_what_is_queued_and_refuses_the_rest(bed: Bed) {
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

pub(crate) async fn a_panic_while_encoding_fails_that_write_alone(bed: Bed) {
    let store = bed.open();
    let mut bad = mutation(&pod("root", "bad"), Expect::Absent, "", false);
    bad.encode = Box::new(|_| std::panic::resume_unwind(Box::new("no")));
    let (bad, good) = tokio::join!(store.commit(bad), create_one(&store, "good"));
    assert!(matches!(bad, Err(CommitError::Failed(_))));
    assert_eq!(good, 1, "no revision is lost");
    assert_eq!(store.count(PODS), 1);
}

pub(crate) async fn the_inline_writer_commits_without_waiting(bed: Bed) {
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
