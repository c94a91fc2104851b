//! The one history that all clients of a run write, and what is counted of it.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::history::{Ending, History, Record};
use crate::model::RegionId;

use super::ask::Answer;

/// The history of a run.
#[derive(Debug)]
pub(super) struct Recorder {
    start: Instant,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    history: History,
    counts: Counts,
    /// When an operation last went well in a region, and the longest time between two.
    regions: BTreeMap<RegionId, (u64, u64)>,
    /// The last time at which something expires.
    expires: u64,
    /// Answers that no client should get.
    odd: Vec<String>,
    /// Whether the clients of the run are done.
    is_over: bool,
}

/// How operations ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Counts {
    pub(super) ok: u64,
    /// By a condition, or by what is there.
    pub(super) denied: u64,
    pub(super) failed: u64,
    pub(super) unknown: u64,
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

impl Recorder {
    /// A history that begins now.
    pub(super) fn new(slack: Duration) -> Self {
        let mut inner = Inner::default();
        inner.history.set_slack(micros(slack));
        Self {
            start: Instant::now(),
            inner: Mutex::new(inner),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Microseconds since the beginning.
    pub(super) fn now(&self) -> u64 {
        micros(self.start.elapsed())
    }

    /// An operation is about to be sent: it is made of its own id and the time.
    pub(super) fn invoke(&self, make: impl FnOnce(u64, u64) -> Record) -> Record {
        let mut inner = self.lock();
        let now = self.now();
        let mut record = make(inner.history.next_id(), now);
        record.id = inner.history.invoke(record.clone());
        inner.expires = inner.expires.max(record.wishes.expires.unwrap_or(0));
        record
    }

    /// An operation ended.
    pub(super) fn end(&self, record: &Record, answer: Answer) {
        let mut inner = self.lock();
        let now = self.now();
        match &answer.ending {
            Ending::Failed if answer.is_denied() => inner.counts.denied += 1,
            Ending::Failed | Ending::NotYet => inner.counts.failed += 1,
            Ending::Unknown | Ending::Pending => inner.counts.unknown += 1,
            Ending::Written(_)
            | Ending::Done
            | Ending::Read(_)
            | Ending::Siblings(..)
            | Ending::Counted(_)
            | Ending::Members(_)
            | Ending::Fields(_) => {
                inner.counts.ok += 1;
                inner.saw_ok(record.region, now);
            }
        }
        if answer.is_crossed {
            inner.history.cross(record.id);
        }
        inner.history.end(now, record.id, answer.ending);
    }

    /// Clients begin: from here on a region without an answer counts as away.
    pub(super) fn begin(&self, regions: impl Iterator<Item = RegionId>) {
        let now = self.now();
        let mut inner = self.lock();
        inner
            .regions
            .extend(regions.map(|region| (region, (now, 0))));
    }

    /// Clients end.
    pub(super) fn finish(&self) {
        let now = self.now();
        let mut inner = self.lock();
        let regions: Vec<RegionId> = inner.regions.keys().copied().collect();
        for region in regions {
            inner.saw_ok(region, now);
        }
        inner.is_over = true;
    }

    /// An answer that no client should get.
    pub(super) fn odd(&self, words: String) {
        self.lock().odd.push(words);
    }

    /// Such answers.
    pub(super) fn take_odd(&self) -> Vec<String> {
        std::mem::take(&mut self.lock().odd)
    }

    pub(super) fn counts(&self) -> Counts {
        self.lock().counts
    }

    /// The longest time without an answer that was OK.
    pub(super) fn away_max(&self, region: RegionId) -> Duration {
        let regions = &self.lock().regions;
        let gap = regions.get(&region).map_or(0, |(_, gap)| *gap);
        Duration::from_micros(gap)
    }

    /// Until everything that has a time to live is gone, if clocks are right.
    pub(super) fn until_expired(&self) -> Duration {
        let expires = self.lock().expires;
        Duration::from_micros(expires.saturating_sub(self.now()))
    }

    /// All is at rest.
    pub(super) fn rest(&self) {
        let now = self.now();
        self.lock().history.set_rest(now);
    }

    /// The history so far.
    pub(super) fn history(&self) -> History {
        self.lock().history.clone()
    }
}

impl Inner {
    fn saw_ok(&mut self, region: RegionId, now: u64) {
        if let Some((last, gap)) = self.regions.get_mut(&region)
            && !self.is_over
        {
            *gap = (*gap).max(now.saturating_sub(*last));
            *last = now;
        }
    }
}
