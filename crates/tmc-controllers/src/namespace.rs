//! Namespaces: which targets have their objects, from the placements that select them.

pub mod reconcile;
