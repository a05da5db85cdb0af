//! What happens to a redb store on a bad disk. Kills of a process and files of others are in
//! `tests/`.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use parking_lot::Mutex;

use super::*;

fn record(revision: Revision) -> Record {
    let value = vec![b'v'; usize::try_from(revision * 997 % 9000).unwrap()];
    Record {
        revision,
        created: revision,
        key: format!("core/pods/root/default/{revision}").into(),
        value: value.into(),
        deleted: revision.is_multiple_of(5),
    }
}

/// A path in a new directory, which lives as long as the first part.
fn place() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.redb");
    (dir, path)
}

fn revisions(loaded: &Loaded) -> Vec<Revision> {
    loaded
        .records
        .iter()
        .map(|record| record.revision)
        .collect()
}

#[test]
fn a_record_reads_back_as_it_was_written() {
    for revision in [1, 5, 9, u64::MAX / 9000] {
        let record = record(revision);
        let mut bytes = vec![0; encoded_len(&record)];
        encode(&record, &mut bytes);
        assert_eq!(decode(revision, &bytes), Some(record));
    }
}

#[test]
fn every_cut_inside_the_header_or_key_is_seen() {
    let record = record(1);
    let mut bytes = vec![0; encoded_len(&record)];
    encode(&record, &mut bytes);
    for len in 0..HEADER + record.key.len() {
        assert_eq!(decode(1, &bytes[..len]), None);
    }
    bytes[HEADER] = 0xFF;
    assert_eq!(decode(1, &bytes), None, "a key is text");
}

#[test]
fn a_compaction_and_its_batch_are_kept_together() {
    let (_dir, path) = place();
    let mut engine = Redb::open(&path).unwrap();
    assert_eq!(engine.load().unwrap(), Loaded::default());
    engine.append(&[], None).unwrap();
    engine
        .append(&[record(1), record(2), record(3)], None)
        .unwrap();
    engine
        .append(
            &[record(4)],
            Some(&Compaction {
                floor: 2,
                obsolete: vec![1],
            }),
        )
        .unwrap();
    // A floor never goes back.
    engine
        .append(
            &[record(5)],
            Some(&Compaction {
                floor: 1,
                obsolete: vec![1],
            }),
        )
        .unwrap();
    drop(engine);
    let loaded = Redb::open(&path).unwrap().load().unwrap();
    assert_eq!(revisions(&loaded), [2, 3, 4, 5]);
    assert_eq!((loaded.revision, loaded.floor), (5, 2));
    assert_eq!(loaded.records[3], record(5));
}

/// Counts operations that change the file and fails the one a countdown ends at, or all.
#[derive(Debug, Default)]
struct Faults {
    countdown: AtomicI64,
    full: AtomicBool,
}

impl Faults {
    fn check(&self) -> io::Result<()> {
        if self.full.load(Ordering::SeqCst) || self.countdown.fetch_sub(1, Ordering::SeqCst) == 1 {
            return Err(io::Error::from(ErrorKind::StorageFull));
        }
        Ok(())
    }
}

#[derive(Debug)]
struct Flaky(FileBackend, Arc<Faults>);

impl StorageBackend for Flaky {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.1.check()?;
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.1.check()?;
        self.0.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.1.check()?;
        self.0.write(offset, data)
    }
}

fn flaky(path: &Path) -> (Redb, Arc<Faults>) {
    let faults = Arc::new(Faults::default());
    let shared = faults.clone();
    let wrap: Wrap = Box::new(move |file| Box::new(Flaky(file, shared.clone())));
    (Redb::open_wrapped(path.to_owned(), wrap).unwrap(), faults)
}

#[test]
fn a_full_disk_fails_writes_until_there_is_room_again() {
    let (_dir, path) = place();
    let (mut engine, faults) = flaky(&path);
    engine.load().unwrap();
    engine.append(&[record(1)], None).unwrap();
    faults.full.store(true, Ordering::SeqCst);
    for _ in 0..3 {
        let error = engine.append(&[record(2)], None).unwrap_err();
        assert!(matches!(error, Error::Storage { .. }), "{error}");
        assert!(
            error.to_string().contains(path.to_str().unwrap()),
            "{error}"
        );
    }
    faults.full.store(false, Ordering::SeqCst);
    engine.append(&[record(2), record(3)], None).unwrap();
    drop(engine);
    let loaded = Redb::open(&path).unwrap().load().unwrap();
    assert_eq!(loaded.records, [record(1), record(2), record(3)]);
}

#[test]
fn wherever_a_batch_fails_nothing_of_it_is_left_for_the_next() {
    let mut failed = 0;
    for at in 1.. {
        let (_dir, path) = place();
        let (mut engine, faults) = flaky(&path);
        engine.load().unwrap();
        engine.append(&[record(1), record(2)], None).unwrap();
        faults.countdown.store(at, Ordering::SeqCst);
        let compaction = Compaction {
            floor: 1,
            obsolete: vec![1],
        };
        let result = engine.append(&[record(3), record(4), record(5)], Some(&compaction));
        let done = faults.countdown.swap(0, Ordering::SeqCst) > 0;
        if result.is_ok() {
            assert!(done || failed > 0, "nothing failed");
            drop(engine);
            let loaded = Redb::open(&path).unwrap().load().unwrap();
            assert_eq!(revisions(&loaded), [2, 3, 4, 5], "{at}");
            if done {
                break;
            }
            continue;
        }
        failed += 1;
        // Another batch takes the same first revision.
        engine.append(&[record(3)], None).unwrap();
        drop(engine);
        let loaded = Redb::open(&path).unwrap().load().unwrap();
        let kept = revisions(&loaded);
        assert!(
            kept == [1, 2, 3] || (kept == [2, 3] && loaded.floor == 1),
            "{at}: {kept:?}"
        );
        assert_eq!(loaded.records.last(), Some(&record(3)));
    }
    assert!(failed >= 3, "only {failed} places to fail");
}

#[derive(Debug)]
enum Change {
    Write(u64, Vec<u8>),
    Len(u64),
}

/// A disk that keeps what it is told only when it is told to sync, and on a loss of power some of
/// the rest, in no order.
#[derive(Debug)]
struct Volatile {
    file: FileBackend,
    image: Mutex<Vec<u8>>,
    pending: Mutex<Vec<Change>>,
    power: Arc<Power>,
}

#[derive(Debug, Default)]
struct Power {
    /// Changes until it goes; never while 0 or less.
    countdown: AtomicI64,
    lost: AtomicBool,
    /// Bits that say which unsynced changes reach the disk.
    luck: AtomicI64,
}

impl Power {
    fn is_on(&self) -> bool {
        if self.countdown.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.lost.store(true, Ordering::SeqCst);
        }
        !self.lost.load(Ordering::SeqCst)
    }
}

impl Volatile {
    fn new(file: FileBackend, power: Arc<Power>) -> Self {
        let mut image = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
        file.read(0, &mut image).unwrap();
        Self {
            file,
            image: Mutex::new(image),
            pending: Mutex::default(),
            power,
        }
    }

    fn flush(&self, keep: impl Fn(usize) -> bool) -> io::Result<()> {
        for (n, change) in self.pending.lock().drain(..).enumerate() {
            match change {
                _ if !keep(n) => {}
                Change::Write(offset, data) => self.file.write(offset, &data)?,
                Change::Len(len) => self.file.set_len(len)?,
            }
        }
        Ok(())
    }
}

impl Drop for Volatile {
    fn drop(&mut self) {
        let luck = self.power.luck.load(Ordering::SeqCst);
        // Lengths are kept, as otherwise later writes would have no place.
        let pending = self.pending.lock();
        let lengths: Vec<_> = pending
            .iter()
            .map(|c| matches!(c, Change::Len(_)))
            .collect();
        drop(pending);
        self.flush(|n| lengths[n] || luck >> (n % 63) & 1 == 1)
            .unwrap();
    }
}

impl StorageBackend for Volatile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.image.lock().len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let offset = usize::try_from(offset).unwrap();
        out.copy_from_slice(&self.image.lock()[offset..offset + out.len()]);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        if self.power.is_on() {
            self.image.lock().resize(usize::try_from(len).unwrap(), 0);
            self.pending.lock().push(Change::Len(len));
        }
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        if self.power.lost.load(Ordering::SeqCst) {
            Ok(())
        } else {
            self.flush(|_| true)
        }
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        if self.power.is_on() {
            let start = usize::try_from(offset).unwrap();
            self.image.lock()[start..start + data.len()].copy_from_slice(data);
            self.pending
                .lock()
                .push(Change::Write(offset, data.to_vec()));
        }
        Ok(())
    }
}

#[test]
fn what_was_acknowledged_survives_a_loss_of_power_at_any_point_of_the_next_batch() {
    let (_dir, path) = place();
    let power = Arc::new(Power::default());
    let mut kept = BTreeMap::new();
    let mut uncertain = BTreeMap::new();
    let (mut torn_apart, mut came_through) = (0, 0);
    for round in 0..200_i64 {
        let shared = power.clone();
        let wrap: Wrap = Box::new(move |file| Box::new(Volatile::new(file, shared.clone())));
        power.countdown.store(0, Ordering::SeqCst);
        power.lost.store(false, Ordering::SeqCst);
        let mut engine = Redb::open_wrapped(path.clone(), wrap).unwrap();
        let found = by_revision(engine.load().unwrap().records);
        let before = kept.clone();
        kept.append(&mut uncertain);
        let all = found == kept;
        assert!(
            all || found == before,
            "round {round}: {} of {}",
            found.len(),
            kept.len()
        );
        kept = found;

        let acknowledged = batch_after(&kept, 1 + round as u64 % 3);
        engine.append(&acknowledged, None).unwrap();
        kept.extend(by_revision(acknowledged));

        let luck = round.wrapping_mul(0x5851_F42D_4C95_7F2D) & i64::MAX;
        power.luck.store(luck, Ordering::SeqCst);
        power.countdown.store(1 + round % 29, Ordering::SeqCst);
        let last = batch_after(&kept, 4);
        engine.append(&last, None).unwrap();
        if power.lost.swap(true, Ordering::SeqCst) {
            uncertain = by_revision(last);
            torn_apart += 1;
        } else {
            kept.extend(by_revision(last));
            came_through += 1;
        }
    }
    assert!(
        torn_apart > 50 && came_through > 10,
        "{torn_apart} {came_through}"
    );
}

fn by_revision(records: Vec<Record>) -> BTreeMap<Revision, Record> {
    records
        .into_iter()
        .map(|record| (record.revision, record))
        .collect()
}

fn batch_after(kept: &BTreeMap<Revision, Record>, count: u64) -> Vec<Record> {
    let next = kept.last_key_value().map_or(1, |(last, _)| last + 1);
    (next..next + count).map(record).collect()
}
