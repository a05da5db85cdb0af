//! Placements: from what a workspace asks for to the SyncTargets it gets.

pub mod reconcile;
pub mod schedule;
