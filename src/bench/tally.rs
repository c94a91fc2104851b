//! Counts and latencies of one kind of operation in one region.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;

use super::wire::Fate;

/// Longest span that a histogram tells apart, in microseconds: longer ones count as this.
const MICROS_MAX: u64 = 600_000_000;

/// Spans of time in microseconds, to three digits.
#[derive(Clone, Debug)]
pub(super) struct Spans(Option<Histogram<u64>>);

impl Spans {
    pub(super) fn new() -> Self {
        // The bounds are constants that the histogram accepts; were they not, nothing is recorded.
        Self(Histogram::new_with_bounds(1, MICROS_MAX, 3).ok())
    }

    pub(super) fn add(&mut self, span: Duration) {
        let micros = u64::try_from(span.as_micros()).unwrap_or(MICROS_MAX);
        if let Some(histogram) = &mut self.0 {
            histogram.saturating_record(micros.clamp(1, MICROS_MAX));
        }
    }

    pub(super) fn count(&self) -> u64 {
        self.0.as_ref().map_or(0, Histogram::len)
    }

    /// Microseconds below which this share of the spans lies.
    pub(super) fn quantile(&self, share: f64) -> u64 {
        self.0
            .as_ref()
            .map_or(0, |histogram| histogram.value_at_quantile(share))
    }

    pub(super) fn max(&self) -> u64 {
        self.0.as_ref().map_or(0, Histogram::max)
    }
}

/// Counts and latencies.
#[derive(Clone, Debug)]
pub(super) struct Tally {
    pub(super) ok: u64,
    pub(super) absent: u64,
    pub(super) unknown: u64,
    pub(super) failed: u64,
    /// By code of the contract, or the bench's own: `not_connected`, `connection_lost`, `no_answer`.
    pub(super) errors: BTreeMap<String, u64>,
    /// Of what was done.
    pub(super) latency: Spans,
}

impl Tally {
    pub(super) fn new() -> Self {
        Self {
            ok: 0,
            absent: 0,
            unknown: 0,
            failed: 0,
            errors: BTreeMap::new(),
            latency: Spans::new(),
        }
    }

    pub(super) fn add(&mut self, fate: &Fate, latency: Duration) {
        match fate {
            Fate::Done { is_absent, .. } => {
                self.ok += 1;
                self.absent += u64::from(*is_absent);
                self.latency.add(latency);
            }
            Fate::Unknown(code) => {
                self.unknown += 1;
                self.count_error(code);
            }
            Fate::Failed(code) => {
                self.failed += 1;
                self.count_error(code);
            }
        }
    }

    fn count_error(&mut self, code: &str) {
        match self.errors.get_mut(code) {
            Some(count) => *count += 1,
            None => drop(self.errors.insert(code.to_owned(), 1)),
        }
    }
}
