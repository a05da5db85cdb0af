//! What a redb store still knows after it was closed, and which files it refuses.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use redb::{Database, ReadableDatabase as _, TableDefinition};
use support::*;
use tmc_store::engine::{Engine as _, Redb};
use tmc_store::{Compacted, Error, Expect, Options};

const PODS: &str = "core/pods/";

fn pod(name: &str) -> String {
    format!("core/pods/root/default/{name}")
}

#[tokio::test]
async fn the_sequence_goes_on_and_deleted_keys_stay_deleted() {
    let bed = Bed::redb();
    let store = bed.open();
    create(&store, &pod("a"), "a").await;
    create(&store, &pod("b"), "b").await;
    update(&store, &pod("a"), "a2").await;
    delete(&store, &pod("b")).await;
    store.close().await;

    let store = bed.open();
    assert_eq!(store.revision(), 4);
    assert!(store.get(&pod("b")).is_none());
    let a = store.get(&pod("a")).unwrap();
    assert_eq!(
        (&*a.meta, a.created, a.revision, revision_of(&a.value)),
        ("a2", 1, 3, 3)
    );
    assert_eq!(create(&store, &pod("b"), "new").await, 5);
    assert_eq!(store.get(&pod("b")).unwrap().created, 5);
}

#[tokio::test]
async fn history_above_the_floor_survives_with_versions_before_and_deletes() {
    let bed = Bed::redb();
    let store = bed.open();
    create(&store, &pod("a"), "a").await;
    update(&store, &pod("a"), "a2").await;
    create(&store, &pod("b"), "b").await;
    delete(&store, &pod("a")).await;
    let lists: Vec<_> = (0..=4).map(|at| list(&store, PODS, Some(at))).collect();
    store.close().await;

    let store = bed.open();
    for (at, expected) in (0..).zip(&lists) {
        assert_eq!(list(&store, PODS, Some(at)), *expected, "at {at}");
    }
    let mut watcher = store.watch("core/pods/root/", 1).unwrap();
    let events = take(&mut watcher, 3).await;
    assert_eq!(revisions(&events), [2, 3, 4]);
    let previous: Vec<_> = events
        .iter()
        .map(|e| e.previous.as_ref().map(|p| &*p.meta))
        .collect();
    assert_eq!(previous, [Some("a"), None, Some("a2")]);
    assert!(events[2].deleted);
    assert_eq!(
        (events[2].entry.created, revision_of(&events[2].entry.value)),
        (1, 4)
    );
}

#[tokio::test]
async fn the_floor_survives_and_what_is_below_leaves_the_file() {
    let bed = Bed::redb();
    let store = bed.open();
    for n in 0..100 {
        create(&store, &pod(&n.to_string()), "x").await;
        update(&store, &pod(&n.to_string()), "y").await;
        if n % 2 == 0 {
            delete(&store, &pod(&n.to_string())).await;
        }
    }
    bed.compact_past(&store, 200).await;
    let stats = store.stats();
    let expected = list(&store, "", None);
    let at_floor = list(&store, "", Some(stats.floor));
    store.close().await;

    let loaded = bed.engine().load().unwrap();
    assert_eq!(
        (loaded.revision, loaded.floor),
        (stats.revision, stats.floor)
    );
    let old = loaded
        .records
        .iter()
        .filter(|record| record.revision <= stats.floor);
    assert_eq!(
        old.count(),
        at_floor.len(),
        "one record for each key live at the floor"
    );

    let store = bed.open();
    assert_eq!(list(&store, "", None), expected);
    assert_eq!(list(&store, "", Some(stats.floor)), at_floor);
    let compacted = Compacted { floor: stats.floor };
    assert_eq!(store.watch(PODS, stats.floor - 1).err(), Some(compacted));
    let mut watcher = store.watch("", stats.floor).unwrap();
    let rest = usize::try_from(stats.revision - stats.floor).unwrap();
    assert!(
        revisions(&take(&mut watcher, rest).await)
            .into_iter()
            .eq(stats.floor + 1..=stats.revision)
    );
    assert_eq!(store.stats().keys, expected.len());
}

#[tokio::test]
async fn compaction_goes_on_where_it_stopped() {
    let bed = Bed::redb();
    let mut floor = 0;
    for round in 0..5 {
        let store = bed.open();
        for n in 0..100 {
            let key = pod(&n.to_string());
            if round == 0 {
                create(&store, &key, "0").await
            } else {
                update(&store, &key, "n").await
            };
        }
        bed.pass(Duration::from_secs(301));
        for n in 0..100 {
            update(&store, &pod(&n.to_string()), "n").await;
        }
        let stats = store.stats();
        assert!(stats.floor > floor);
        floor = stats.floor;
        store.close().await;
    }
    let records = bed.engine().load().unwrap().records;
    assert!(
        records.len() < 500,
        "{} records for 100 keys",
        records.len()
    );
}

fn opening(path: &Path) -> Error {
    Redb::open(path).unwrap_err()
}

#[tokio::test]
async fn a_second_store_on_the_same_file_is_told_that_it_is_in_use() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.redb");
    let engine = Redb::open(&path).unwrap();
    let error = opening(&path);
    assert!(matches!(error, Error::InUse { .. }), "{error}");
    assert!(error.to_string().contains("in use by another process"));
    drop(engine);
    Redb::open(&path).unwrap();
}

#[test]
fn another_process_is_told_that_the_file_is_in_use() {
    const PATH: &str = "TMC_STORE_IN_USE_PATH";
    if let Some(path) = std::env::var_os(PATH) {
        let error = opening(Path::new(&path));
        assert!(matches!(error, Error::InUse { .. }), "{error}");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.redb");
    let _engine = Redb::open(&path).unwrap();
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "another_process_is_told_that_the_file_is_in_use"])
        .env(PATH, &path)
        .output()
        .unwrap();
    assert!(
        child.status.success(),
        "{}",
        String::from_utf8_lossy(&child.stdout)
    );
}

#[test]
fn files_of_others_are_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.redb");
    let png = b"\x89PNG\r\n\x1a\n and so on".to_vec();
    for (content, why) in [(png, "first bytes"), (Vec::new(), "empty")] {
        fs::write(&path, &content).unwrap();
        let error = opening(&path);
        assert!(matches!(error, Error::Foreign { .. }), "{error}");
        assert!(error.to_string().contains(why), "{error}");
        assert_eq!(fs::read(&path).unwrap(), content);
    }
    fs::remove_file(&path).unwrap();
    let other = TableDefinition::<u64, &str>::new("theirs");
    let database = Database::create(&path).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction
        .open_table(other)
        .unwrap()
        .insert(1, "one")
        .unwrap();
    transaction.commit().unwrap();
    drop(database);
    let before = fs::read(&path).unwrap();
    let error = opening(&path);
    assert!(matches!(error, Error::Foreign { .. }), "{error}");
    assert!(
        error.to_string().contains("another program's redb file"),
        "{error}"
    );
    assert!(fs::read(&path).unwrap() == before, "the file was changed");
    let database = Database::open(&path).unwrap();
    let theirs = database.begin_read().unwrap().open_table(other).unwrap();
    assert_eq!(theirs.get(1).unwrap().unwrap().value(), "one");
}

#[tokio::test]
async fn a_newer_format_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.redb");
    drop(Redb::open(&path).unwrap());
    let database = Database::open(&path).unwrap();
    let meta = TableDefinition::<&str, u64>::new("tmc_store_meta");
    let transaction = database.begin_write().unwrap();
    transaction
        .open_table(meta)
        .unwrap()
        .insert("format", 7)
        .unwrap();
    transaction.commit().unwrap();
    drop(database);
    let before = fs::read(&path).unwrap();
    let error = opening(&path);
    assert!(
        matches!(
            error,
            Error::NewerFormat {
                found: 7,
                supported: 1,
                ..
            }
        ),
        "{error}"
    );
    assert!(error.to_string().contains("use a newer tmc"));
    assert!(fs::read(&path).unwrap() == before, "the file was changed");
}

#[tokio::test]
async fn records_that_make_no_sense_are_reported_and_not_dropped() {
    let log = TableDefinition::<u64, &[u8]>::new("tmc_store_log");
    type Damage = Box<dyn Fn(&mut redb::Table<'_, u64, &[u8]>)>;
    let torn: Damage = Box::new(move |table| {
        table.insert(2, b"\0short".as_slice()).unwrap();
    });
    let missing: Damage = Box::new(move |table| {
        table.remove(2).unwrap();
    });
    for (damage, why) in [
        (torn, "revision 2 is torn"),
        (missing, "revision 2 is missing"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.redb");
        let engine = Box::new(Redb::open(&path).unwrap());
        let store = Store::open(engine, |_, v| text_of(v).into(), Options::default()).unwrap();
        for n in 0..3 {
            write(&store, &pod(&n.to_string()), Expect::Absent, "x")
                .await
                .unwrap();
        }
        store.close().await;
        let database = Database::open(&path).unwrap();
        let transaction = database.begin_write().unwrap();
        damage(&mut transaction.open_table(log).unwrap());
        transaction.commit().unwrap();
        drop(database);
        let error = Redb::open(&path).unwrap().load().unwrap_err();
        assert!(matches!(error, Error::Damaged { .. }), "{error}");
        assert!(error.to_string().contains(why), "{error}");
    }
}

#[test]
fn a_truncated_or_scribbled_file_is_an_error_and_no_panic() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.redb");
    drop(Redb::open(&path).unwrap());
    let whole = fs::read(&path).unwrap();
    let mut scribbled = whole.clone();
    scribbled[64..320].fill(0xA5);
    for broken in [whole[..whole.len() / 2].to_vec(), scribbled] {
        fs::write(&path, &broken).unwrap();
        let error = opening(&path);
        assert!(
            matches!(error, Error::Damaged { .. } | Error::Storage { .. }),
            "{error:?}"
        );
    }
}

#[test]
fn a_crash_while_the_file_is_made_leaves_nothing_that_is_in_the_way() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.redb");
    fs::write(dir.path().join("s.redb.new"), [0; 5000]).unwrap();
    drop(Redb::open(&path).unwrap());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[cfg(unix)]
#[test]
fn the_file_is_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.redb");
    drop(Redb::open(&path).unwrap());
    assert_eq!(
        fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
}

#[test]
fn a_path_that_cannot_be_used_is_named_in_the_error() {
    let dir = tempfile::tempdir().unwrap();
    for path in [dir.path().join("no/such/dir/s.redb"), dir.path().to_owned()] {
        let error = opening(&path);
        assert!(matches!(error, Error::Storage { .. }), "{error:?}");
        assert!(
            error.to_string().contains(path.to_str().unwrap()),
            "{error}"
        );
    }
}
