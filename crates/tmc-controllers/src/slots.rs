//! How many members are spoken to at the same time, so that those which do not answer hold up
//! nobody else.
//!
//! * Members that answered last time share [`PROVEN`] slots, and each gives its slot back after
//!   [`PATIENCE`], whether it has answered or not. However many of them fall silent at once, the last
//!   of `n` starts after `n / PROVEN × PATIENCE`: three seconds for a hundred, half a minute for a
//!   thousand, within one probe interval.
//! * Members that did not answer, or never have, share [`UNPROVEN`] slots of their own and keep
//!   them to the end: they only ever wait for each other.
//! * What is arranged in a member (accounts, tokens) has slots of its own again, as those that answer.

use std::time::Duration;

use tokio::sync::Semaphore;

/// Slots of members that answered last time.
pub(crate) const PROVEN: usize = 64;
/// Slots of the others.
pub(crate) const UNPROVEN: usize = 64;
/// Slots for arranging things.
const ARRANGING: usize = 64;
/// How long a member that answered last time may hold a slot.
pub(crate) const PATIENCE: Duration = Duration::from_secs(2);

/// For what a slot is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Want {
    /// To probe a member that answered last time.
    Proven,
    /// To probe one that did not.
    Unproven,
    /// To arrange something in one that has just answered.
    Arrange,
}

/// The slots.
pub(crate) struct Slots {
    proven: Semaphore,
    unproven: Semaphore,
    arranging: Semaphore,
}

impl Default for Slots {
    fn default() -> Self {
        Self {
            proven: Semaphore::new(PROVEN),
            unproven: Semaphore::new(UNPROVEN),
            arranging: Semaphore::new(ARRANGING),
        }
    }
}

impl Slots {
    /// Runs something that has a time limit of its own in a slot; it starts when there is one.
    pub(crate) async fn within<T>(&self, want: Want, work: impl Future<Output = T>) -> T {
        let (pool, gives_back) = match want {
            Want::Proven => (&self.proven, true),
            Want::Unproven => (&self.unproven, false),
            Want::Arrange => (&self.arranging, true),
        };
        // Never closed; were it, there would be no limit.
        let slot = pool.acquire().await.ok();
        tokio::pin!(work);
        if gives_back {
            if let Ok(result) = tokio::time::timeout(PATIENCE, &mut work).await {
                return result;
            }
            drop(slot);
            return work.await;
        }
        work.await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::task::JoinSet;
    use tokio::time::Instant;

    use super::*;

    /// What a probe of a black hole takes.
    const LIMIT: Duration = Duration::from_secs(15);

    /// How long the slowest of `healthy` members waits behind `silent` ones.
    async fn slowest(silent: usize, healthy: usize, want: Want, want_silent: Want) -> Duration {
        let slots = Arc::new(Slots::default());
        let start = Instant::now();
        for _ in 0..silent {
            let slots = Arc::clone(&slots);
            tokio::spawn(async move {
                slots.within(want_silent, tokio::time::sleep(LIMIT)).await;
            });
        }
        tokio::task::yield_now().await;
        let mut set = JoinSet::new();
        for _ in 0..healthy {
            let slots = Arc::clone(&slots);
            set.spawn(async move {
                slots
                    .within(want, tokio::time::sleep(Duration::from_millis(10)))
                    .await;
                start.elapsed()
            });
        }
        set.join_all().await.into_iter().max().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn black_holes_delay_members_that_answer_not_at_all() {
        let waited = slowest(10_000, 100, Want::Proven, Want::Unproven).await;
        assert!(waited < Duration::from_millis(100), "{waited:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn members_that_fall_silent_together_delay_the_others_less_than_an_interval() {
        let waited = slowest(100, 100, Want::Proven, Want::Proven).await;
        assert!(waited < Duration::from_secs(5), "{waited:?}");
        let waited = slowest(1_000, 100, Want::Proven, Want::Proven).await;
        assert!(waited < crate::cluster::PROBE_INTERVAL, "{waited:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn the_unproven_wait_for_each_other_only() {
        let waited = slowest(UNPROVEN, 1, Want::Unproven, Want::Unproven).await;
        assert!(waited >= LIMIT, "{waited:?}");
    }
}
