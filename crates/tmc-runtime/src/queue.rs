//! A typed work queue: one run at a time per key, per-key exponential back-off, timed re-queue.

use std::hash::Hash;
use std::time::Duration;

/// Keys waiting to be worked on. Cheap to clone. A key added while it is being worked on runs
/// again afterwards; a key added twice runs once.
#[derive(Clone)]
pub struct WorkQueue<K> {
    marker: std::marker::PhantomData<K>,
}

impl<K: Clone + Eq + Hash + Send + 'static> WorkQueue<K> {
    /// An empty queue; `name` for logs and metrics.
    pub fn new(_name: &'static str) -> Self {
        unimplemented!()
    }

    /// Adds a key now.
    pub fn add(&self, _key: K) {
        unimplemented!()
    }

    /// Adds a key at a later time; an earlier time already set wins.
    pub fn add_after(&self, _key: K, _delay: Duration) {
        unimplemented!()
    }
}
