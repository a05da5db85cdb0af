//! The right to write during one term: checked before each write is sent, and while it is under way.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::decide::Moment;
use crate::client::Error;

/// Where an election takes the time from. Cheap to clone.
#[derive(Clone)]
pub struct Moments(Arc<dyn Fn() -> Moment + Send + Sync>);

impl Moments {
    /// The system's clocks; the monotonic one is Tokio's, which tests can pause.
    pub fn system() -> Self {
        let origin = tokio::time::Instant::now();
        Self::new(move || Moment {
            monotonic: origin.elapsed(),
            wall: Timestamp::now(),
        })
    }

    /// Clocks of a test or a simulation.
    pub fn new(now: impl Fn() -> Moment + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// Now.
    pub fn now(&self) -> Moment {
        (self.0)()
    }
}

/// The right to write during one term. Cheap to clone; all clones end together.
///
/// # Guarantees
/// It ends by itself, without anybody noticing anything, when the term was not renewed for the
/// election's deadline: before another replica may begin its own. Once ended it never holds again.
#[derive(Clone)]
pub struct Fence(Arc<Inner>);

struct Inner {
    clock: Moments,
    deadline: Duration,
    /// When the last acknowledged renewal was sent.
    renewed: Mutex<Moment>,
    closed: CancellationToken,
}

impl std::fmt::Debug for Fence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fence")
            .field("holds", &self.holds())
            .finish()
    }
}

impl Fence {
    /// Holds for `deadline` from `renewed` on.
    pub(super) fn new(clock: Moments, deadline: Duration, renewed: Moment) -> Self {
        Self(Arc::new(Inner {
            clock,
            deadline,
            renewed: Mutex::new(renewed),
            closed: CancellationToken::new(),
        }))
    }

    /// A fence that holds as long as the process: for a hub with a single replica.
    pub fn of_a_single_replica() -> Self {
        let epoch = Moment {
            monotonic: Duration::ZERO,
            wall: Timestamp::UNIX_EPOCH,
        };
        Self::new(Moments::new(move || epoch), Duration::MAX, epoch)
    }

    /// One by Tokio's clock alone.
    #[cfg(test)]
    pub(crate) fn for_tests(deadline: Duration) -> Self {
        let origin = tokio::time::Instant::now();
        let clock = Moments::new(move || Moment {
            monotonic: origin.elapsed(),
            wall: Timestamp::UNIX_EPOCH,
        });
        let now = clock.now();
        Self::new(clock, deadline, now)
    }

    /// Prolongs it, unless it has ended already.
    pub(super) fn renew(&self, sent: Moment) {
        if self.holds() {
            *self.0.renewed.lock() = sent;
        }
    }

    /// Ends it.
    pub(super) fn close(&self) {
        self.0.closed.cancel();
    }

    /// How much longer it holds without a renewal; `None` once it has ended.
    fn left(&self) -> Option<Duration> {
        if self.0.closed.is_cancelled() {
            return None;
        }
        let passed = self.0.clock.now().since(&self.0.renewed.lock());
        let left = self
            .0
            .deadline
            .checked_sub(passed)
            .filter(|left| !left.is_zero());
        if left.is_none() {
            // A wall clock that is set back must not bring it back.
            self.close();
        }
        left
    }

    /// Whether it holds now.
    pub fn holds(&self) -> bool {
        self.left().is_some()
    }

    /// Passes while it holds.
    ///
    /// # Errors
    /// A transport error saying so once it has ended.
    pub fn check(&self) -> Result<(), Error> {
        if self.holds() {
            Ok(())
        } else {
            Err(Error::Transport(ENDED.into()))
        }
    }

    /// Resolves when it has ended.
    pub async fn ended(&self) {
        while let Some(left) = self.left() {
            tokio::select! {
                () = self.0.closed.cancelled() => return,
                () = tokio::time::sleep(left) => {}
            }
        }
    }
}

/// What a refused or interrupted write says.
pub(crate) const ENDED: &str = "this replica does not lead any more: nothing may be written";

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_ends_at_its_deadline_unless_renewed_and_never_comes_back() {
        let start = tokio::time::Instant::now();
        let fence = Fence::for_tests(Duration::from_secs(10));
        tokio::time::advance(Duration::from_secs(8)).await;
        fence.renew(fence.0.clock.now());
        fence.ended().await;
        assert_eq!(start.elapsed().as_secs(), 18);
        assert!(!fence.holds());
        fence.renew(fence.0.clock.now());
        assert!(fence.check().is_err(), "ended is ended");
    }

    #[tokio::test(start_paused = true)]
    async fn closing_ends_it_at_once_for_everybody() {
        let fence = Fence::for_tests(Duration::from_secs(10));
        let waiting = tokio::spawn({
            let fence = fence.clone();
            async move { fence.ended().await }
        });
        fence.clone().close();
        waiting.await.unwrap();
        assert!(!fence.holds());
    }

    #[tokio::test(start_paused = true)]
    async fn that_of_a_single_replica_does_not_end() {
        let fence = Fence::of_a_single_replica();
        tokio::time::advance(Duration::from_secs(1_000_000)).await;
        assert!(fence.holds());
        let never = tokio::time::timeout(Duration::from_secs(1_000_000), fence.ended());
        assert!(never.await.is_err());
    }
}
