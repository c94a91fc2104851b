//! How long writes and reads took lately, for the live view.

use std::sync::Mutex;

use hdrhistogram::Histogram;

use crate::model::Duration;

/// What a span of time held.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Recent {
    /// How many.
    pub count: u64,
    /// The median.
    pub p50: Duration,
    /// 99 of 100 took at most so long.
    pub p99: Duration,
}

/// Latencies since they were last taken.
#[derive(Debug)]
pub(super) struct Latency(Mutex<Histogram<u64>>);

impl Latency {
    pub(super) fn new() -> Self {
        #[expect(
            clippy::expect_used,
            reason = "the bounds and the precision are constants that hdrhistogram accepts"
        )]
        let histogram = Histogram::new_with_bounds(1, 120_000_000, 2).expect("constant bounds");
        Self(Mutex::new(histogram))
    }

    pub(super) fn record(&self, took: Duration) {
        if let Ok(mut histogram) = self.0.lock() {
            histogram.saturating_record(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
        }
    }

    /// What was recorded since the last call.
    pub(super) fn take(&self) -> Recent {
        let Ok(mut histogram) = self.0.lock() else {
            return Recent::default();
        };
        let at = |quantile: f64| Duration::from_micros(histogram.value_at_quantile(quantile));
        let recent = Recent {
            count: histogram.len(),
            p50: at(0.5),
            p99: at(0.99),
        };
        histogram.reset();
        recent
    }
}
