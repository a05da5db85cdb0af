//! SyncTargets: key, URLs, what they sync, conditions, phase; and their Hosted syncers.

pub mod hosted;
pub mod reconcile;
