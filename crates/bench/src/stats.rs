//! Latencies and how figures of several rounds are put together.

use std::time::Duration;

use anyhow::Context as _;
use hdrhistogram::Histogram;

/// Longer than any call may take.
const LONGEST: u64 = 300_000_000_000;

/// Latencies, to three digits.
#[derive(Clone, Debug)]
pub(crate) struct Latencies(Histogram<u64>);

/// What is kept of them, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize)]
pub(crate) struct Quantiles {
    pub(crate) p50: f64,
    pub(crate) p90: f64,
    pub(crate) p99: f64,
    pub(crate) max: f64,
    pub(crate) mean: f64,
}

impl Latencies {
    pub(crate) fn new() -> anyhow::Result<Latencies> {
        Ok(Latencies(Histogram::new_with_bounds(1_000, LONGEST, 3).context("cannot make a histogram")?))
    }

    pub(crate) fn record(&mut self, latency: Duration) {
        self.0.saturating_record(u64::try_from(latency.as_nanos()).unwrap_or(LONGEST));
    }

    pub(crate) fn add(&mut self, other: &Latencies) -> anyhow::Result<()> {
        self.0.add(&other.0).context("histograms of different sizes")
    }

    pub(crate) fn quantiles(&self) -> Quantiles {
        let ms = |nanos: u64| nanos as f64 / 1e6;
        Quantiles {
            p50: ms(self.0.value_at_quantile(0.5)),
            p90: ms(self.0.value_at_quantile(0.9)),
            p99: ms(self.0.value_at_quantile(0.99)),
            max: ms(self.0.max()),
            mean: self.0.mean() / 1e6,
        }
    }
}

/// A figure over rounds.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize)]
pub(crate) struct Spread {
    pub(crate) min: f64,
    pub(crate) median: f64,
    pub(crate) max: f64,
}

impl Spread {
    /// `None` without figures. Of an even number the median is the mean of the two in the middle.
    pub(crate) fn of(figures: impl IntoIterator<Item = f64>) -> Option<Spread> {
        let mut figures: Vec<f64> = figures.into_iter().collect();
        figures.sort_by(f64::total_cmp);
        let middle = figures.len() / 2;
        let upper = *figures.get(middle)?;
        let median = if figures.len() % 2 == 1 { upper } else { f64::midpoint(*figures.get(middle - 1)?, upper) };
        Some(Spread { min: *figures.first()?, median, max: *figures.last()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_of_a_known_distribution() {
        let (mut low, mut high) = (Latencies::new().unwrap(), Latencies::new().unwrap());
        for i in 1..=100 {
            let half = if i <= 50 { &mut low } else { &mut high };
            half.record(Duration::from_micros(i * 100));
        }
        low.add(&high).unwrap();
        let q = low.quantiles();
        assert!((q.p50 - 5.0).abs() < 0.01 && (q.p90 - 9.0).abs() < 0.02 && (q.p99 - 9.9).abs() < 0.02, "{q:?}");
        assert!((q.max - 10.0).abs() < 0.02 && (q.mean - 5.05).abs() < 0.02, "{q:?}");
    }

    #[test]
    fn spread_has_the_median_of_odd_and_even() {
        assert_eq!(Spread::of([3.0, 1.0, 2.0]), Some(Spread { min: 1.0, median: 2.0, max: 3.0 }));
        assert_eq!(Spread::of([4.0, 1.0]), Some(Spread { min: 1.0, median: 2.5, max: 4.0 }));
        assert_eq!(Spread::of([]), None);
    }
}
