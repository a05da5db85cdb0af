//! Where records are made durable.
//!
//! An engine keeps a sequence of records and forgets those it is told to. It never answers reads:
//! they come from memory. One thread owns it.

mod memory;
mod redb;

use bytes::Bytes;

pub use self::memory::Memory;
pub use self::redb::Redb;
use crate::{Error, Key, Revision};

/// One change as an engine keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its revision.
    pub revision: Revision,
    /// Revision that created the key.
    pub created: Revision,
    /// The key.
    pub key: Key,
    /// The new value, or the tombstone's.
    pub value: Bytes,
    /// Whether the key was removed.
    pub deleted: bool,
}

/// History that is no longer needed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Compaction {
    /// The new floor: no list or watch will ask for anything below it.
    pub floor: Revision,
    /// The records superseded at the floor, tombstones at or below it included. What remains at
    /// or below the floor is exactly one record for each key that was live there.
    pub obsolete: Vec<Revision>,
}

/// What an engine holds when it is opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    /// In order of revision: one for each key live at the floor, and each change after it.
    pub records: Vec<Record>,
    /// The last revision given out.
    pub revision: Revision,
    /// The last floor.
    pub floor: Revision,
}

/// A durable sequence of records.
pub trait Engine: Send {
    /// Everything kept. Called once, before the first [`append`](Self::append).
    ///
    /// # Errors
    /// If the records cannot be read or make no sense. Nothing is changed then.
    fn load(&mut self) -> Result<Loaded, Error>;

    /// Makes a batch durable and forgets what is obsolete, both or neither.
    ///
    /// **Durability.** `Ok` means that all of it survives a crash from now on. After an error
    /// none of it is there for the next call, which brings the same revisions again; only a crash
    /// in between may leave a batch of uncertain fate behind.
    ///
    /// # Errors
    /// If the batch could not be made durable. A later call may succeed.
    fn append(&mut self, batch: &[Record], compaction: Option<&Compaction>) -> Result<(), Error>;
}
