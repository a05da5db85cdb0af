//! Garbage collection by owner: objects go when all their owners are gone, and owners wait for them
//! where that was asked for (`k8s.io/garbage-collector`).
//!
//! One task follows the store's log. [`index`] remembers who refers to whom, and turns a change into
//! the keys that have to be looked at again; [`decide`] says what becomes of one of them, from the
//! objects as they are in the store now; [`collect`] does it. Nothing is deleted because of something
//! that was not found out: an owner of a kind that is not served keeps its dependents, and a reference
//! to an owner in another logical cluster is void.

mod collect;
mod decide;
mod index;
#[cfg(test)]
mod properties;

pub(crate) use collect::run;

/// Holds an owner until its dependents do not refer to it any more.
pub(crate) const ORPHAN: &str = "orphan";
/// Holds an owner until the dependents that block its deletion are gone.
pub(crate) const FOREGROUND: &str = "foregroundDeletion";
