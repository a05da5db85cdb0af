//! What of a hub survives its process: the records of its store, and a log of all of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use tmc_store::engine::{Compaction, Engine, Loaded, Record};
use tmc_store::{Error, Key, Revision};

/// One line of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) revision: Revision,
    pub(crate) key: Key,
    pub(crate) value: Bytes,
    pub(crate) deleted: bool,
    /// What the key held before.
    pub(crate) before: Option<Bytes>,
}

/// Hears of each change when it is durable, in order. `live` is the state after it.
pub(crate) type Witness = Box<dyn FnMut(&Line, &BTreeMap<Key, Bytes>) + Send>;

/// Shared by the processes of one hub that run one after the other.
#[derive(Clone, Default)]
pub(crate) struct Disk(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    records: BTreeMap<Revision, Record>,
    live: BTreeMap<Key, Bytes>,
    revision: Revision,
    floor: Revision,
    /// Counts mounts: an engine of an earlier one writes no more.
    mount: u64,
    log: Vec<Line>,
    hash: Sha256,
    witness: Option<Witness>,
}

impl Disk {
    /// Sets who hears of changes.
    pub(crate) fn watched_by(&self, witness: Witness) {
        self.0.lock().witness = Some(witness);
    }

    /// An engine on it. Those mounted before fail from now on, as those of a dead process do.
    pub(crate) fn mount(&self) -> Box<dyn Engine> {
        let mut state = self.0.lock();
        state.mount += 1;
        Box::new(Mounted {
            disk: self.clone(),
            mount: state.mount,
        })
    }

    /// Lets no engine write until the next is mounted.
    pub(crate) fn unplug(&self) {
        self.0.lock().mount += 1;
    }

    /// Forgets history, so that watches of before the next start have to list again.
    pub(crate) fn compact(&self) {
        let mut state = self.0.lock();
        let mut newest: BTreeMap<Key, Revision> = BTreeMap::new();
        for (revision, record) in &state.records {
            newest.insert(record.key.clone(), *revision);
        }
        state
            .records
            .retain(|revision, record| newest[&record.key] == *revision && !record.deleted);
        state.floor = state.revision;
    }

    /// The last revision.
    pub(crate) fn revision(&self) -> Revision {
        self.0.lock().revision
    }

    /// The log so far.
    pub(crate) fn log(&self) -> Vec<Line> {
        self.0.lock().log.clone()
    }

    /// What was written after a revision.
    pub(crate) fn since(&self, revision: Revision) -> Vec<Line> {
        let state = self.0.lock();
        let from = state.log.partition_point(|line| line.revision <= revision);
        state.log[from..].to_vec()
    }

    /// SHA-256 over every record ever written: key, revision, fate, value.
    pub(crate) fn hash(&self) -> String {
        let digest = self.0.lock().hash.clone().finalize();
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl State {
    fn write(&mut self, record: &Record) {
        let key: &str = &record.key;
        self.hash.update(key.as_bytes());
        self.hash.update([0, u8::from(record.deleted)]);
        self.hash.update(record.revision.to_le_bytes());
        let length = u64::try_from(record.value.len()).unwrap_or(u64::MAX);
        self.hash.update(length.to_le_bytes());
        self.hash.update(&record.value);
        let before = if record.deleted {
            self.live.remove(&record.key)
        } else {
            self.live.insert(record.key.clone(), record.value.clone())
        };
        let line = Line {
            revision: record.revision,
            key: record.key.clone(),
            value: record.value.clone(),
            deleted: record.deleted,
            before,
        };
        if let Some(witness) = &mut self.witness {
            witness(&line, &self.live);
        }
        self.log.push(line);
        self.revision = record.revision;
        self.records.insert(record.revision, record.clone());
    }
}

struct Mounted {
    disk: Disk,
    mount: u64,
}

impl Engine for Mounted {
    fn load(&mut self) -> Result<Loaded, Error> {
        let state = self.disk.0.lock();
        Ok(Loaded {
            records: state.records.values().cloned().collect(),
            revision: state.revision,
            floor: state.floor,
        })
    }

    fn append(&mut self, batch: &[Record], compaction: Option<&Compaction>) -> Result<(), Error> {
        let mut state = self.disk.0.lock();
        if state.mount != self.mount {
            return Err(Error::Other("the disk belongs to another process".into()));
        }
        for record in batch {
            state.write(record);
        }
        if let Some(compaction) = compaction {
            for revision in &compaction.obsolete {
                state.records.remove(revision);
            }
            state.floor = compaction.floor;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(revision: Revision, key: &str, value: &'static str, deleted: bool) -> Record {
        Record {
            revision,
            created: 1,
            key: key.into(),
            value: Bytes::from_static(value.as_bytes()),
            deleted,
        }
    }

    #[test]
    fn records_survive_their_process_and_a_dead_process_writes_no_more() {
        let disk = Disk::default();
        let mut first = disk.mount();
        first.append(&[record(1, "a", "x", false)], None).unwrap();
        let mut second = disk.mount();
        assert!(first.append(&[record(2, "a", "y", false)], None).is_err());
        let loaded = second.load().unwrap();
        assert_eq!((loaded.revision, loaded.records.len()), (1, 1));
        disk.unplug();
        assert!(second.append(&[record(2, "a", "y", false)], None).is_err());
        assert_eq!(disk.log().len(), 1);
    }

    #[test]
    fn compaction_keeps_what_lives_and_the_last_revision() {
        let disk = Disk::default();
        let mut engine = disk.mount();
        let batch = [
            record(1, "a", "x", false),
            record(2, "a", "y", false),
            record(3, "b", "z", false),
            record(4, "b", "z", true),
        ];
        engine.append(&batch, None).unwrap();
        disk.compact();
        let loaded = disk.mount().load().unwrap();
        assert_eq!((loaded.revision, loaded.floor), (4, 4));
        let kept: Vec<_> = loaded
            .records
            .iter()
            .map(|record| record.revision)
            .collect();
        assert_eq!(kept, [2]);
        assert_eq!(disk.since(2).len(), 2);
    }

    #[test]
    fn a_hash_is_of_every_byte_and_of_the_order() {
        let hash = |batch: &[Record]| {
            let disk = Disk::default();
            disk.mount().append(batch, None).unwrap();
            disk.hash()
        };
        let one = hash(&[record(1, "a", "x", false)]);
        assert_eq!(one, hash(&[record(1, "a", "x", false)]));
        assert_ne!(one, hash(&[record(1, "a", "y", false)]));
        assert_ne!(one, hash(&[record(2, "a", "x", false)]));
        assert_ne!(one, hash(&[record(1, "a", "x", true)]));
    }
}
