//! Virtual workspaces: API surfaces under `/services/…` that show a hub's objects as somebody else
//! needs to see them.
//!
//! The *syncer* workspace shows one SyncTarget the objects that it is to run, transformed by pure
//! functions ([`syncer::transform`]), and lets it write back their status and its own finalizer,
//! nothing else. It stands on any hub: it reads and writes through a [`tmc_runtime::Hub`].

pub mod syncer;
pub mod url;

pub use syncer::{SyncerDependencies, SyncerWorkspace};
