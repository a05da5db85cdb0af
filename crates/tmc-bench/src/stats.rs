//! Exact percentiles.

use std::time::Duration;

/// Samples, sorted.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Samples(Vec<Duration>);

impl Samples {
    /// All samples of a measurement.
    pub(crate) fn new(mut samples: Vec<Duration>) -> Self {
        samples.sort_unstable();
        Self(samples)
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The smallest sample that `percent` of all samples do not exceed (nearest rank); zero if
    /// there is none.
    pub(crate) fn percentile(&self, percent: f64) -> Duration {
        let rank = (percent / 100.0 * self.0.len() as f64).ceil() as usize;
        self.0.get(rank.max(1) - 1).copied().unwrap_or_default()
    }

    /// The percentile in milliseconds.
    pub(crate) fn ms(&self, percent: f64) -> f64 {
        millis(self.percentile(percent))
    }

    /// Percentiles and every sample, in milliseconds.
    pub(crate) fn to_json(&self) -> serde_json::Value {
        serde_json::json!({
            "count": self.len(),
            "p50_ms": self.ms(50.0), "p90_ms": self.ms(90.0), "p99_ms": self.ms(99.0),
            "max_ms": self.ms(100.0),
            "sorted_ms": self.0.iter().map(|d| millis(*d)).collect::<Vec<_>>(),
        })
    }
}

/// A duration in milliseconds.
pub(crate) fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(millis: &[u64]) -> Samples {
        Samples::new(millis.iter().map(|n| Duration::from_millis(*n)).collect())
    }

    #[test]
    fn a_percentile_is_a_sample_by_nearest_rank() {
        let hundred = of(&(1..=100).rev().collect::<Vec<_>>());
        for (percent, millis) in [
            (50.0, 50.0),
            (99.0, 99.0),
            (99.1, 100.0),
            (100.0, 100.0),
            (0.0, 1.0),
        ] {
            assert_eq!(hundred.ms(percent), millis, "p{percent}");
        }
        assert_eq!(of(&[5, 1, 3]).ms(50.0), 3.0);
        assert_eq!(of(&[7]).ms(99.0), 7.0);
        assert_eq!(of(&[]).ms(99.0), 0.0);
    }
}
