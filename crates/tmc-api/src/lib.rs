//! The nouns: Rust types of every API group of ours, conditions, keys, hashes, labels. No I/O, no
//! clock.
//!
//! Ground floor of everything that knows what TMC is: the hub serves [`crd::crds`], admission
//! judges by these types, controllers decide with their pure derivations, the syncer and the
//! virtual workspaces talk in [`syncer`] payloads and mark objects with [`keys`] and [`hashes`].

pub mod agent;
pub mod conditions;
pub mod crd;
pub mod drift;
pub mod hashes;
pub mod keys;
pub mod quantities;
pub mod report;
pub mod scheduling;
pub mod synced;
pub mod syncer;
pub mod tenancy;
mod text_enum;
pub mod time;
pub mod workload;
