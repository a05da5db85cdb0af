//! A revisioned key-value store: one writer, a multi-version index in memory, a log that watches
//! read, and a durable engine behind a trait.
//!
//! The store knows nothing of Kubernetes: keys are text, values are bytes, and each entry carries
//! `M`, whatever small metadata the owner extracts from a value once (labels, for selectors).
//!
//! ```text
//! commit() ──queue──▶ writer thread ──▶ assigns revisions, encodes, Engine::append (durable)
//!                                     └▶ publishes to index + log, answers callers, wakes watchers
//! ```
//! **Ordering.** Revisions are consecutive; every read, page and watch is cut from the same
//! sequence. **Durability.** `commit` returns only after the engine said the batch is on disk.
//! **Cancellation.** Dropping `commit`'s future before it is queued has no effect, after that the
//! write happens anyway.
//!
//! Inside: `state` (what readers share, a pure value) is made of `index` (key → versions) and
//! `log` (the last changes in order, bounded); `writer` is the only one to change it; `watch`
//! reads it by cursor; `store` is the door. **Compaction** moves one floor for all of them: at or
//! above it a list at a revision, a continued page and a resumed watch work, below it each of
//! them says [`Compacted`].

pub mod engine;
mod error;
mod index;
mod log;
mod options;
mod state;
mod store;
mod watch;
mod writer;

use std::sync::Arc;

use bytes::Bytes;

pub use error::{CommitError, Compacted, Error};
pub use options::{Clock, Options};
pub use store::{Page, Stats, Store};
pub use watch::Watcher;
pub use writer::Driver;

/// Position in the one sequence of changes; 0 is before the first.
pub type Revision = u64;

/// A key: path-like text, `<group>/<resource>/<cluster>/<namespace>/<name>`; ordered bytewise.
pub type Key = Arc<str>;

/// One version of one key.
#[derive(Debug)]
pub struct Entry<M> {
    /// The key.
    pub key: Key,
    /// Encoded value.
    pub value: Bytes,
    /// What the owner extracted from the value.
    pub meta: M,
    /// Revision that created the key.
    pub created: Revision,
    /// Revision of this version.
    pub revision: Revision,
}

/// A change as watchers see it.
#[derive(Debug)]
pub struct Event<M> {
    /// Its revision.
    pub revision: Revision,
    /// For a put the new version; for a delete the last version, re-encoded with the delete's own
    /// revision.
    pub entry: Arc<Entry<M>>,
    /// The version before, if there was one.
    pub previous: Option<Arc<Entry<M>>>,
    /// Whether the key is gone.
    pub deleted: bool,
}

/// What the writer must find for a write to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// No such key (create).
    Absent,
    /// The key at exactly this revision.
    Revision(Revision),
}

/// Makes the stored bytes once the writer knows the revision.
pub type Encode<M> = Box<dyn FnOnce(Revision) -> (Bytes, M) + Send>;

/// One write.
pub struct Mutation<M> {
    /// Key written.
    pub key: Key,
    /// Precondition.
    pub expect: Expect,
    /// New value, or for a delete the tombstone's value.
    pub encode: Encode<M>,
    /// Whether the key is removed.
    pub delete: bool,
}
