//! Histograms as a program shows them in the exposition format of Prometheus. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

/// How many observations were at most as long as each bound.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Histogram {
    /// Bound in nanoseconds (the last is the greatest number: no bound) → observations up to it.
    buckets: BTreeMap<u64, u64>,
}

impl Histogram {
    /// How many observations there were.
    pub(crate) fn count(&self) -> u64 {
        self.buckets.values().copied().max().unwrap_or(0)
    }

    /// What was observed after `earlier`, a look at the same histogram.
    pub(crate) fn since(&self, earlier: &Self) -> Self {
        let before = |bound| earlier.buckets.get(bound).copied().unwrap_or(0);
        let buckets = self.buckets.iter();
        Self {
            buckets: buckets
                .map(|(bound, count)| (*bound, count.saturating_sub(before(bound))))
                .collect(),
        }
    }

    /// Both together; they must have the same bounds.
    pub(crate) fn and(&self, other: &Self) -> Self {
        let mut both = self.clone();
        for (bound, count) in &other.buckets {
            *both.buckets.entry(*bound).or_default() += count;
        }
        both
    }

    /// The smallest bound that `percent` of the observations do not exceed: what the percentile is at
    /// most. `None` without observations, or beyond the last bound.
    pub(crate) fn at_most(&self, percent: f64) -> Option<Duration> {
        let wanted = (percent / 100.0 * self.count() as f64).ceil() as u64;
        if wanted == 0 {
            return None;
        }
        let (bound, _) = self.buckets.iter().find(|(_, count)| **count >= wanted)?;
        (*bound != u64::MAX).then(|| Duration::from_nanos(*bound))
    }
}

/// The histograms of a metric by their label `name`.
pub(crate) fn histograms(text: &str, metric: &str) -> BTreeMap<String, Histogram> {
    let mut all: BTreeMap<String, Histogram> = BTreeMap::new();
    for line in text.lines() {
        let Some(rest) = line
            .strip_prefix(metric)
            .and_then(|rest| rest.strip_prefix("_bucket{"))
        else {
            continue;
        };
        let Some((labels, count)) = rest.rsplit_once("} ") else {
            continue;
        };
        let label = |name: &str| {
            labels.split(',').find_map(|label| {
                let value = label.strip_prefix(name)?.strip_prefix("=\"")?;
                value.strip_suffix('"')
            })
        };
        let (Some(name), Some(bound), Ok(count)) = (label("name"), label("le"), count.parse())
        else {
            continue;
        };
        let bound = match bound.parse::<f64>() {
            Ok(seconds) if seconds.is_finite() => (seconds * 1e9) as u64,
            _ => u64::MAX,
        };
        let histogram = all.entry(name.to_owned()).or_default();
        histogram.buckets.insert(bound, count);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
# TYPE work_seconds histogram
work_seconds_sum{name=\"a\"} 3.5
work_seconds_count{name=\"a\"} 100
work_seconds_bucket{le=\"0.001\",name=\"a\"} 90
work_seconds_bucket{le=\"0.01\",name=\"a\"} 99
work_seconds_bucket{le=\"+Inf\",name=\"a\"} 100
work_seconds_bucket{le=\"0.001\",name=\"b\"} 1
work_seconds_bucket{le=\"0.01\",name=\"b\"} 1
work_seconds_bucket{le=\"+Inf\",name=\"b\"} 1
other_bucket{le=\"+Inf\",name=\"c\"} 5
";

    #[test]
    fn a_percentile_is_at_most_the_bound_of_its_bucket() {
        let all = histograms(TEXT, "work_seconds");
        assert_eq!(all.keys().collect::<Vec<_>>(), ["a", "b"]);
        let a = &all["a"];
        assert_eq!(a.count(), 100);
        assert_eq!(a.at_most(50.0), Some(Duration::from_millis(1)));
        assert_eq!(a.at_most(99.0), Some(Duration::from_millis(10)));
        assert_eq!(a.at_most(100.0), None, "beyond the last bound");
        assert_eq!(Histogram::default().at_most(50.0), None);
    }

    #[test]
    fn what_came_later_is_told_from_what_was_there_and_added_up() {
        let all = histograms(TEXT, "work_seconds");
        let (a, b) = (&all["a"], &all["b"]);
        assert_eq!(a.since(a).count(), 0);
        assert_eq!(a.and(b).count(), 101);
        assert_eq!(a.and(b).since(a), *b);
    }
}
