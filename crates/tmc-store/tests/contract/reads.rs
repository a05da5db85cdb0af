//! Gets, lists and pages, now and at a revision; what is kept of the past.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::future::join_all;
use tmc_store::{Compacted, Expect};

use crate::support::*;
use crate::{PODS, pod};

pub(crate) async fn below_the_floor_watch_list_and_continued_pages_say_compacted(bed: Bed) {
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

pub(crate) async fn a_list_at_a_revision_shows_that_revision(bed: Bed) {
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

pub(crate) async fn pages_are_cut_from_one_revision_while_others_write(bed: Bed) {
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
            if prefix == PODS && n.is_multiple_of(50) {
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

pub(crate) async fn a_page_says_how_many_keys_follow(bed: Bed) {
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
    let old = store.range(PODS, Some(2990), None, 10).unwrap().remaining;
    assert_eq!(old, None, "the number of keys is known for now only");
    assert_eq!(remaining(PODS, None, 3000), Some(0));
    assert_eq!(remaining(PODS, None, 0), Some(0));
    assert!(!store.range(PODS, None, None, 3000).unwrap().more);
}

pub(crate) async fn counts_follow_creates_and_deletes(bed: Bed) {
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

pub(crate) async fn history_is_bounded_in_bytes_and_fresh_history_is_kept(bed: Bed) {
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
