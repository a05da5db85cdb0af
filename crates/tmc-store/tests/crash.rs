//! Kills a writing process again and again and looks for what it was promised.
//!
//! The test runs itself as a child that writes from several tasks and prints each acknowledged
//! write; the parent kills it with SIGKILL after a random number of them, reopens the file and
//! compares. `TMC_CRASH_KILLS` sets how often (default 100), `TMC_CRASH_SEED` replays a run's
//! choices.
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use bytes::Bytes;
use support::*;
use tmc_store::engine::Redb;
use tmc_store::{Expect, Options, Revision};

const TEST: &str = "no_acknowledged_write_is_lost_when_the_process_is_killed";
const PATH: &str = "TMC_CRASH_PATH";
const TASKS: usize = 12;
const KEYS_PER_TASK: u64 = 5;

#[test]
fn no_acknowledged_write_is_lost_when_the_process_is_killed() {
    if let Some(path) = std::env::var_os(PATH) {
        write_until_killed(Path::new(&path));
    } else {
        kill_again_and_again();
    }
}

fn options() -> Options {
    // Small, so that compaction is part of what is interrupted.
    Options {
        log_bytes: 64 << 10,
        ..Options::default()
    }
}

fn open(path: &Path) -> Store {
    let engine = Box::new(Redb::open(path).unwrap());
    Store::open(
        engine,
        |_, value: &Bytes| text_of(value).to_owned(),
        options(),
    )
    .unwrap()
}

// ---- the child

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn write_until_killed(path: &Path) {
    let store = open(path);
    acknowledge("open");
    let tasks = (0..TASKS).map(|task| tokio::spawn(write_forever(store.clone(), task)));
    futures::future::join_all(tasks).await;
}

/// Creates, updates and deletes the task's own keys, one after the other.
async fn write_forever(store: Store, task: usize) {
    for n in 0.. {
        let key = format!(
            "core/pods/c{}/default/{task}-{}",
            task % 3,
            n % KEYS_PER_TASK
        );
        let current = store.get(&key).map(|entry| entry.revision);
        let expect = current.map_or(Expect::Absent, Expect::Revision);
        let delete = current.is_some() && n % 4 == 3;
        // Sizes from a few bytes to several pages.
        let text = format!("{key}#{}", "v".repeat(n as usize * 769 % 9000));
        if delete {
            // Until it says that it is done others may write so much that history no longer has it.
            acknowledge(&format!("0 {key} ?"));
        }
        let event = store
            .commit(mutation(&key, expect, &text, delete))
            .await
            .unwrap();
        acknowledge(&format!(
            "{} {key} {}",
            event.revision,
            if delete { "-" } else { "+" }
        ));
    }
}

/// One write of a whole line, so that a kill leaves no half of one but the last.
fn acknowledge(what: &str) {
    let line = format!("ack {what} .\n");
    std::io::stdout().lock().write_all(line.as_bytes()).unwrap();
}

// ---- the parent

/// What was said last of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Said {
    Written,
    /// It was there, and a delete was begun.
    Leaving,
    Deleted,
}

/// What was acknowledged last of each key: its revision, and what became of it.
type Acknowledged = HashMap<String, (Revision, Said)>;

fn kill_again_and_again() {
    let number = |name: &str| {
        std::env::var(name)
            .ok()
            .and_then(|value| value.parse::<u64>().ok())
    };
    let kills = number("TMC_CRASH_KILLS").unwrap_or(100);
    let seed = number("TMC_CRASH_SEED").unwrap_or_else(|| u64::from(std::process::id()));
    println!("{kills} kills, TMC_CRASH_SEED={seed}");
    let mut random = Random(seed);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.redb");
    let mut acknowledged = Acknowledged::new();
    let mut last = 0;
    let mut total = 0;
    for kill in 0..kills {
        let wanted = if random.below(10) == 0 {
            0
        } else {
            1 + random.below(250)
        };
        total += run_and_kill(&path, wanted, &mut random, &mut acknowledged);
        last = check(&path, kill, last, &mut acknowledged);
    }
    println!("{total} acknowledged writes, {last} revisions");
    assert!(total > kills, "the children wrote next to nothing");
}

/// Runs a child until it has acknowledged `wanted` writes, or for a moment if that is 0.
fn run_and_kill(
    path: &Path,
    wanted: u64,
    random: &mut Random,
    acknowledged: &mut Acknowledged,
) -> u64 {
    let mut child = spawn(path);
    let mut lines = BufReader::new(child.stdout.take().unwrap())
        .lines()
        .map(Result::unwrap);
    let mut count = 0;
    if wanted == 0 {
        // Somewhere in starting, opening or the first writes.
        std::thread::sleep(Duration::from_micros(random.below(30_000)));
    }
    while count < wanted {
        let line = lines
            .next()
            .unwrap_or_else(|| panic!("the child died: {:?}", child.wait()));
        count += u64::from(note(&line, acknowledged));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    // What it had said before it died counts too.
    for line in lines {
        count += u64::from(note(&line, acknowledged));
    }
    count
}

fn spawn(path: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", TEST, "--nocapture", "--test-threads=1"])
        .env(PATH, path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Takes down an acknowledgement; the last line of a killed child may be cut.
fn note(line: &str, acknowledged: &mut Acknowledged) -> bool {
    let Some(line) = line
        .rsplit_once("ack ")
        .and_then(|(_, ack)| ack.strip_suffix(" ."))
    else {
        return false;
    };
    let mut words = line.split(' ');
    let (Some(revision), Some(key), Some(sign)) = (words.next(), words.next(), words.next()) else {
        return false;
    };
    // Lines of one key come in order, as one task writes it.
    let said = match sign {
        "+" => Said::Written,
        "-" => Said::Deleted,
        _ => {
            if let Some((_, said)) = acknowledged.get_mut(key) {
                *said = Said::Leaving;
            }
            return false;
        }
    };
    acknowledged.insert(key.to_owned(), (revision.parse().unwrap(), said));
    true
}

/// Compares the file with what was acknowledged; returns the last revision.
fn check(path: &Path, kill: u64, before: Revision, acknowledged: &mut Acknowledged) -> Revision {
    let store = open(path);
    let revision = store.revision();
    assert!(
        revision >= before,
        "kill {kill}: went back from {before} to {revision}"
    );
    let floor = store.stats().floor;
    for (key, (acked, said)) in acknowledged.iter() {
        assert!(
            revision >= *acked,
            "kill {kill}: revision {acked} of {key} is lost"
        );
        match store.get(key) {
            Some(entry) if entry.revision == *acked => assert_ne!(*said, Said::Deleted),
            // A later write that was not acknowledged any more.
            Some(entry) => assert!(entry.revision > *acked, "kill {kill}: {key} is older"),
            None => {
                let deleted = match said {
                    Said::Deleted => true,
                    // History may have forgotten the delete that was begun.
                    Said::Leaving if floor > *acked => true,
                    Said::Leaving | Said::Written => deleted_after(&store, key, *acked),
                };
                assert!(deleted, "kill {kill}: {key} of revision {acked} is lost");
            }
        }
    }
    check_whole(&store, kill);
    let now = store.range("", None, None, 0).unwrap();
    *acknowledged = now
        .entries
        .iter()
        .map(|e| (e.key.to_string(), (e.revision, Said::Written)))
        .collect();
    futures::FutureExt::now_or_never(store.close());
    // Closed when the file can be opened again.
    drop(store);
    while let Err(error) = Redb::open(path) {
        assert!(matches!(error, tmc_store::Error::InUse { .. }), "{error}");
        std::thread::yield_now();
    }
    revision
}

/// Whether history has a delete of the key after a revision.
fn deleted_after(store: &Store, key: &str, revision: Revision) -> bool {
    history(store)
        .iter()
        .any(|e| *e.entry.key == *key && e.revision > revision && e.deleted)
}

fn history(store: &Store) -> Vec<Event> {
    let mut watcher = store.watch("", store.stats().floor).unwrap();
    let mut events = Vec::new();
    while let Some(batch) = futures::FutureExt::now_or_never(watcher.next()) {
        events.extend(batch.unwrap());
    }
    events
}

/// Nothing is torn: each value names its key and its revision, history has no gap.
fn check_whole(store: &Store, kill: u64) {
    for entry in store.range("", None, None, 0).unwrap().entries {
        let whole = entry.meta.starts_with(&format!("{}#", entry.key));
        assert!(whole, "kill {kill}: {} is torn", entry.key);
        assert_eq!(revision_of(&entry.value), entry.revision, "kill {kill}");
    }
    let events = history(store);
    let floor = store.stats().floor;
    assert!(
        revisions(&events)
            .into_iter()
            .eq(floor + 1..=store.revision()),
        "kill {kill}: a gap"
    );
}

/// A small generator, so that a run can be replayed.
struct Random(u64);

impl Random {
    /// A number below `bound` (splitmix64).
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % bound
    }
}
