//! Objects: each follows the state of its namespace.

pub mod reconcile;
