//! What a run found, as plain numbers: microseconds, counts, operations a second.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use crate::workload::Kind;

use super::lag::PairTally;
use super::tally::{Spans, Tally};

/// What a run found.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Report {
    /// How long was measured, warm-up left out, up to the last answer.
    pub seconds: f64,
    /// For each region and kind of operation.
    pub lines: Vec<Line>,
    /// For each ordered pair of regions, if lag was measured.
    pub lags: Vec<LagLine>,
    /// Acknowledgements that could not be written down: the ack log is worthless if there are any.
    pub unlogged: u64,
}

/// One kind of operation in one region.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Line {
    /// The region.
    pub region: String,
    /// `read` or `write`.
    pub kind: &'static str,
    /// Operations that were sent.
    pub ops: u64,
    /// Of them, done.
    pub ok: u64,
    /// Of those done, reads that found no value.
    pub absent: u64,
    /// Operations whose outcome is not known.
    pub unknown: u64,
    /// Operations that did not happen.
    pub failed: u64,
    /// Arrivals of an open loop that no worker was free to send before the end (all kinds together).
    pub unsent: u64,
    /// Done a second.
    pub ops_per_second: f64,
    /// Of what was done; in an open loop since the request should have been sent.
    pub latency_micros: Quantiles,
    /// Unknown and failed, by code.
    pub errors: BTreeMap<String, u64>,
}

/// Quantiles of spans of time, in microseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct Quantiles {
    /// Half are not longer.
    pub p50: u64,
    /// 90 % are not longer.
    pub p90: u64,
    /// 99 % are not longer.
    pub p99: u64,
    /// 99.9 % are not longer.
    pub p999: u64,
    /// None is longer.
    pub max: u64,
}

/// Replication lag from one region to another.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct LagLine {
    /// Where it was written.
    pub from: String,
    /// Where it was read.
    pub to: String,
    /// The link's one-way delay, if it is known.
    pub one_way_micros: Option<u64>,
    /// Writes that were seen.
    pub samples: u64,
    /// Writes for which no watcher was free.
    pub skipped: u64,
    /// Writes that were not seen in ten seconds.
    pub given_up: u64,
    /// From the write's sending until it was read.
    pub since_sent_micros: Quantiles,
    /// From the write's acknowledgement until it was read.
    pub since_acked_micros: Quantiles,
    /// The same beyond the one-way delay; zero where it was not longer.
    pub sent_beyond_micros: Option<Quantiles>,
    /// The same beyond the one-way delay; zero where it was not longer.
    pub acked_beyond_micros: Option<Quantiles>,
}

impl Quantiles {
    pub(super) fn of(spans: &Spans) -> Self {
        Self {
            p50: spans.quantile(0.5),
            p90: spans.quantile(0.9),
            p99: spans.quantile(0.99),
            p999: spans.quantile(0.999),
            max: spans.max(),
        }
    }

    fn beyond(self, micros: u64) -> Self {
        Self {
            p50: self.p50.saturating_sub(micros),
            p90: self.p90.saturating_sub(micros),
            p99: self.p99.saturating_sub(micros),
            p999: self.p999.saturating_sub(micros),
            max: self.max.saturating_sub(micros),
        }
    }
}

impl Line {
    pub(super) fn new(
        region: &str,
        kind: Kind,
        tally: &Tally,
        took: Duration,
        unsent: u64,
    ) -> Self {
        Self {
            region: region.to_owned(),
            kind: match kind {
                Kind::Read => "read",
                Kind::Write => "write",
            },
            ops: tally.ok + tally.unknown + tally.failed,
            ok: tally.ok,
            absent: tally.absent,
            unknown: tally.unknown,
            failed: tally.failed,
            unsent,
            ops_per_second: tally.ok as f64 / took.as_secs_f64().max(1e-6),
            latency_micros: Quantiles::of(&tally.latency),
            errors: tally.errors.clone(),
        }
    }
}

impl LagLine {
    pub(super) fn new(from: &str, to: &str, one_way: Option<Duration>, tally: &PairTally) -> Self {
        let one_way = one_way.map(|span| u64::try_from(span.as_micros()).unwrap_or(u64::MAX));
        let sent = Quantiles::of(&tally.since_sent);
        let acked = Quantiles::of(&tally.since_acked);
        Self {
            from: from.to_owned(),
            to: to.to_owned(),
            one_way_micros: one_way,
            samples: tally.since_sent.count(),
            skipped: tally.skipped,
            given_up: tally.given_up,
            since_sent_micros: sent,
            since_acked_micros: acked,
            sent_beyond_micros: one_way.map(|micros| sent.beyond(micros)),
            acked_beyond_micros: one_way.map(|micros| acked.beyond(micros)),
        }
    }
}
