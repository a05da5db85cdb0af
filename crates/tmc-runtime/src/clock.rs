//! Where controllers, views and agents take the time from.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// A source of the present time. Cheap to clone.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> Timestamp + Send + Sync>);

impl Clock {
    /// A clock that reads `now`, for simulations and tests.
    pub fn new(now: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// The system's clock.
    pub fn system() -> Self {
        Self::new(Timestamp::now)
    }

    /// Starts at a given time and runs as Tokio's clock does, which tests can pause and advance.
    pub fn starting_at(start: Timestamp) -> Self {
        let origin = tokio::time::Instant::now();
        Self::new(move || {
            let passed = SignedDuration::try_from(origin.elapsed()).unwrap_or(SignedDuration::MAX);
            start.saturating_add(passed).unwrap_or(Timestamp::MAX)
        })
    }

    /// Now.
    pub fn now(&self) -> Timestamp {
        (self.0)()
    }
}

/// How long until `end` is over: one tick past it. A moment that has passed is over in a tick.
pub fn until_past(now: Timestamp, end: Timestamp) -> Duration {
    let left = Duration::try_from(now.duration_until(end)).unwrap_or_default();
    left + Duration::from_millis(1)
}

impl std::fmt::Debug for Clock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Clock")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_over_a_tick_after_it_and_one_that_has_passed_in_a_tick() {
        let now: Timestamp = "2030-01-01T00:00:10Z".parse().expect("a time");
        let at = |seconds| now + SignedDuration::from_secs(seconds);
        assert_eq!(until_past(now, at(5)), Duration::from_millis(5001));
        assert_eq!(until_past(now, now), Duration::from_millis(1));
        assert_eq!(until_past(now, at(-3600)), Duration::from_millis(1));
    }
}
