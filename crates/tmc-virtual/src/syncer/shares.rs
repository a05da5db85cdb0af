//! What is shared for as long as somebody uses it: a map of references, and few of those that nobody
//! needs any more.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;

/// Entries that nobody may need before the first look for such.
const FIRST_SWEEP: usize = 64;

/// References by key: weak ones, or such that tell whether others have them too.
pub(super) struct Shares<K, W> {
    all: HashMap<K, W>,
    sweep_at: usize,
}

impl<K, W> Default for Shares<K, W> {
    fn default() -> Self {
        Self {
            all: HashMap::new(),
            sweep_at: FIRST_SWEEP,
        }
    }
}

impl<K: Eq + Hash, W> Shares<K, W> {
    /// What is known under a key; whether that leads anywhere is for the caller to see.
    pub(super) fn get<Q>(&self, key: &Q) -> Option<&W>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        self.all.get(key)
    }

    /// Keeps a reference, in the place of one that was kept under its key. When there are twice as many
    /// as the last time, those that `leads` denies are dropped.
    pub(super) fn insert(&mut self, key: K, reference: W, leads: impl Fn(&W) -> bool) {
        self.all.insert(key, reference);
        if self.all.len() >= self.sweep_at {
            self.all.retain(|_, reference| leads(reference));
            self.sweep_at = (self.all.len() * 2).max(FIRST_SWEEP);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Weak};

    use super::*;

    #[test]
    fn of_what_nobody_uses_little_is_kept() {
        let mut shares: Shares<usize, Weak<usize>> = Shares::default();
        let used = Arc::new(0);
        for number in 0..1_000 {
            let shared = match number % 10 {
                0 => used.clone(),
                _ => Arc::new(number),
            };
            shares.insert(number, Arc::downgrade(&shared), |w| w.strong_count() > 0);
        }
        let leads = |number| shares.get(&number).and_then(Weak::upgrade).is_some();
        assert!((0..1_000).step_by(10).all(leads));
        assert!(shares.all.len() < 300, "{}", shares.all.len());
    }
}
