//! Watches: order, resume, being overrun, being woken.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures::FutureExt as _;
use tmc_store::{Compacted, Options};

use crate::support::*;
use crate::{PODS, pod};

#[derive(Default)]
struct CountingWaker(AtomicUsize);

impl Wake for CountingWaker {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

pub(crate) async fn a_watch_gets_the_events_of_its_prefix_in_order(bed: Bed) {
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

pub(crate) async fn a_watch_resumes_after_any_revision_that_is_not_compacted(bed: Bed) {
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

pub(crate) async fn a_watch_of_a_quiet_resource_resumes_although_others_were_compacted(bed: Bed) {
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

pub(crate) async fn a_sleeping_watcher_outlives_the_compaction_of_what_does_not_concern_it(
    bed: Bed,
) {
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

pub(crate) async fn a_watcher_that_is_overrun_is_told_so(bed: Bed) {
    let store = bed.open();
    let prefixes = ["core/pods/", "core/pods/root/", "core/pods/few/", ""];
    let mut watchers: Vec<_> = prefixes
        .iter()
        .map(|p| store.watch(p, 0).unwrap())
        .collect();
    create(&store, &pod("few", "1"), "").await;
    for n in 0..200 {
        create(&store, &pod("root", &n.to_string()), "").await;
    }
    // Nothing of their resource is left in the log.
    bed.compact_past(&store, 201).await;
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

pub(crate) async fn an_event_wakes_no_watcher_of_another_cluster_or_resource(bed: Bed) {
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

pub(crate) async fn a_list_and_its_watch_leave_no_gap_and_no_double(bed: Bed) {
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

pub(crate) async fn a_thousand_slow_watchers_all_get_everything_and_hold_nothing(bed: Bed) {
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

pub(crate) async fn a_prefix_over_several_resources_lists_and_watches_all_of_them(bed: Bed) {
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
