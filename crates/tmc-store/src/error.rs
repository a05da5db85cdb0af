//! What can go wrong.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use crate::{Entry, Revision};

/// A store could not be opened, or its engine could not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Another process, or another store in this one, has the file open.
    #[error("{} is in use by another process: stop it, or choose another data directory", path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// The file is something else. It was not changed.
    #[error("{} is not a tmc store ({why}): choose another data directory", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// How that was seen.
        why: String,
    },
    /// The file was written by a later version of this program. It was not changed.
    #[error(
        "{} has format {found}, this version of tmc reads up to format {supported}: use a newer tmc",
        path.display()
    )]
    NewerFormat {
        /// The file.
        path: PathBuf,
        /// Format of the file.
        found: u64,
        /// Newest format this build understands.
        supported: u64,
    },
    /// The file is ours but its content makes no sense.
    #[error("{} is damaged: {why}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What was found.
        why: String,
    },
    /// The operating system refused, for example because the disk is full.
    #[error("{doing} {}: {source}", path.display())]
    Storage {
        /// What was tried, as the start of a sentence: `cannot write`.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// Why it failed.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Anything an engine from outside this crate reports.
    #[error("{0}")]
    Other(Box<dyn std::error::Error + Send + Sync>),
}

/// A write did not happen.
pub enum CommitError<M> {
    /// The key is not in the expected state; nothing changed.
    Conflict {
        /// What is there instead; `None` if the key does not exist.
        current: Option<Arc<Entry<M>>>,
    },
    /// The engine could not make the write durable (disk full, I/O error), or the value could not
    /// be encoded; nothing changed and the store goes on serving reads. Trying again is allowed.
    Failed(String),
    /// The store was closed before the write was queued, or its writer is gone.
    Closed,
}

impl<M> fmt::Display for CommitError<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Conflict {
                current: Some(entry),
            } => {
                write!(
                    f,
                    "conflict: {} is at revision {}",
                    entry.key, entry.revision
                )
            }
            Self::Conflict { current: None } => f.write_str("conflict: there is no such key"),
            Self::Failed(reason) => write!(f, "the write failed: {reason}"),
            Self::Closed => f.write_str("the store is closed"),
        }
    }
}

// By hand: a derived one would ask for `M: Debug`.
impl<M> fmt::Debug for CommitError<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CommitError({self})")
    }
}

impl<M> std::error::Error for CommitError<M> {}

/// The revision asked for is older than the history kept; HTTP 410 to a Kubernetes client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the history up to revision {floor} is compacted")]
pub struct Compacted {
    /// Oldest revision that can still be read or resumed from.
    pub floor: Revision,
}
