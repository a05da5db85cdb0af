//! Randomness for spreading retries and timers. Seeded, so that a simulation can replay.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A source of small random delays. Cheap to clone; clones share the sequence.
#[derive(Clone, Debug)]
pub struct Jitter(Arc<AtomicU64>);

impl Jitter {
    /// The same seed gives the same sequence.
    pub fn seeded(seed: u64) -> Self {
        Self(Arc::new(AtomicU64::new(seed)))
    }

    /// Seeded by the operating system's randomness.
    pub fn random() -> Self {
        Self::seeded(RandomState::new().hash_one(0_u8))
    }

    /// The next number (SplitMix64: enough for spreading, never for secrets).
    pub fn next(&self) -> u64 {
        let step = 0x9e37_79b9_7f4a_7c15_u64;
        let mut z = self.0.fetch_add(step, Ordering::Relaxed).wrapping_add(step);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// `base` lengthened by up to `percent` of itself.
    pub fn stretch(&self, base: Duration, percent: u32) -> Duration {
        let share = (self.next() % 10_000) as f64 / 10_000.0;
        base + base.mul_f64(share * f64::from(percent) / 100.0)
    }
}

impl Default for Jitter {
    fn default() -> Self {
        Self::random()
    }
}

/// `first` doubled with every failure before, at most `cap`.
pub fn exponential(first: Duration, cap: Duration, failures: u32) -> Duration {
    first
        .saturating_mul(2_u32.saturating_pow(failures.min(31)))
        .min(cap)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stretched_delay_stays_within_its_bounds_and_replays_from_its_seed() {
        let (a, b) = (Jitter::seeded(7), Jitter::seeded(7));
        let base = Duration::from_secs(10);
        for _ in 0..1000 {
            let delay = a.stretch(base, 20);
            assert_eq!(delay, b.stretch(base, 20));
            assert!(
                delay >= base && delay <= Duration::from_secs(12),
                "{delay:?}"
            );
        }
    }

    #[test]
    fn back_off_doubles_up_to_its_cap() {
        let ms = Duration::from_millis;
        let delays: Vec<_> = [0, 1, 2, 13, 14, 4_000_000_000]
            .map(|n| exponential(ms(5), ms(60_000), n))
            .into();
        assert_eq!(
            delays,
            [ms(5), ms(10), ms(20), ms(40_960), ms(60_000), ms(60_000)]
        );
    }
}
