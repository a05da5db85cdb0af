//! When a target counts as heard of. Time is a parameter.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// After how many intervals without a beat a target is lost.
pub const MISSED_BEATS: u32 = 3;
/// How far ahead of ours an agent's clock may be.
pub const DEFAULT_SKEW: Duration = Duration::from_secs(5);

/// What is known of a target's beats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// No beat was ever seen.
    Never,
    /// The last beat is recent; it will be too old right after `expires`.
    Healthy {
        /// The last moment at which this beat still counts.
        expires: Timestamp,
    },
    /// The last beat is too old.
    Lost {
        /// The beat.
        last: Timestamp,
    },
    /// The last beat claims to be from the future; it does not count.
    FromFuture {
        /// The beat.
        last: Timestamp,
    },
}

impl Health {
    /// Whether it counts as heard of.
    pub fn is_healthy(self) -> bool {
        matches!(self, Self::Healthy { .. })
    }
}

/// Whether a beat of this time is to be believed: not from further in the future than `skew`.
pub fn is_credible(now: Timestamp, beat: Timestamp, skew: Duration) -> bool {
    beat <= later(now, skew)
}

/// Health at `now` by the last beat: healthy while `now − last ≤ 3 × interval`
/// (types, section 1.4).
pub fn health(
    now: Timestamp,
    last: Option<Timestamp>,
    interval: Duration,
    skew: Duration,
) -> Health {
    let Some(last) = last else {
        return Health::Never;
    };
    if !is_credible(now, last, skew) {
        return Health::FromFuture { last };
    }
    let expires = later(last, interval.saturating_mul(MISSED_BEATS));
    if now <= expires {
        Health::Healthy { expires }
    } else {
        Health::Lost { last }
    }
}

/// A later point in time; the end of time if there is none.
fn later(at: Timestamp, by: Duration) -> Timestamp {
    let by = SignedDuration::try_from(by).unwrap_or(SignedDuration::MAX);
    at.checked_add(by).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEN: Duration = Duration::from_secs(10);
    const SKEW: Duration = Duration::from_secs(2);

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_beat_counts_for_three_intervals_and_not_a_moment_longer() {
        let healthy = Health::Healthy { expires: at(130) };
        assert_eq!(health(at(100), Some(at(100)), TEN, SKEW), healthy);
        assert_eq!(health(at(130), Some(at(100)), TEN, SKEW), healthy);
        assert_eq!(
            health(at(131), Some(at(100)), TEN, SKEW),
            Health::Lost { last: at(100) }
        );
    }

    #[test]
    fn no_beat_is_never() {
        assert_eq!(health(at(100), None, TEN, SKEW), Health::Never);
        assert!(!Health::Never.is_healthy());
    }

    #[test]
    fn a_beat_from_the_future_counts_only_within_the_skew() {
        assert!(health(at(100), Some(at(102)), TEN, SKEW).is_healthy());
        let future = Health::FromFuture { last: at(103) };
        assert_eq!(health(at(100), Some(at(103)), TEN, SKEW), future);
        assert!(!is_credible(at(100), at(103), SKEW));
    }

    #[test]
    fn absurd_intervals_do_not_overflow() {
        assert!(health(at(0), Some(at(0)), Duration::MAX, SKEW).is_healthy());
        assert!(health(Timestamp::MAX, Some(Timestamp::MAX), TEN, Duration::MAX).is_healthy());
        assert!(!health(at(1), Some(at(0)), Duration::ZERO, SKEW).is_healthy());
    }
}
