//! Replication lag as a client sees it: how long after a write was sent, and after it was acknowledged,
//! a read of level `one` in another region finds it.
//!
//! A sample has a key of its own that only its region writes, so that what is found is that write or a
//! later sample. Watchers sleep until shortly before the write can arrive, then read back to back; the
//! time of the answer that finds it counts, so a lag is too long by at most one read.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use hyper::{Method, Uri};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::model::{Level, Timestamp};

use super::tally::Spans;
use super::wire::{Fate, Wire};
use super::{LagPlan, Plan};

/// Keys of samples in each region; they are used in turn.
const KEYS: u64 = 1024;
/// Watchers of each pair of regions, one sample at a time each.
const WATCHERS: usize = 8;
/// Samples that wait for a watcher; beyond it they are skipped, and counted.
const WAITING_MAX: usize = 16;
/// Reading begins so long before the write can arrive.
const EARLY: Duration = Duration::from_millis(5);
/// So long past the expected arrival, watchers read back to back; then they pause between reads for a
/// hundredth of the lag.
const EAGER: Duration = Duration::from_millis(100);
/// Then a sample is given up, and counted.
const PATIENCE: Duration = Duration::from_secs(10);
/// The time a watcher gives the server for a read.
const READ_TIME_MAX: Duration = Duration::from_millis(500);

/// An acknowledged write to be watched for.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    pub(super) uri: Uri,
    pub(super) timestamp: Timestamp,
    pub(super) sent: Instant,
    pub(super) acked: Instant,
}

/// What was measured from one region to another.
#[derive(Clone, Debug)]
pub(super) struct PairTally {
    pub(super) since_sent: Spans,
    pub(super) since_acked: Spans,
    pub(super) skipped: u64,
    pub(super) given_up: u64,
}

/// The way from one region to another.
#[derive(Debug)]
pub(super) struct Pair {
    pub(super) from: String,
    pub(super) to: String,
    pub(super) one_way: Option<Duration>,
    tally: Mutex<PairTally>,
}

impl Pair {
    fn with(&self, change: impl FnOnce(&mut PairTally)) {
        change(&mut self.tally.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// What was measured so far.
    pub(super) fn tally(&self) -> PairTally {
        self.tally
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// Chooses samples in one region, and passes them to the watchers in the others.
#[derive(Debug)]
pub(super) struct Sampler {
    start: Instant,
    gap_micros: u64,
    next_micros: AtomicU64,
    next_key: AtomicU64,
    ways: Vec<(Arc<Pair>, mpsc::Sender<Sample>)>,
}

impl Sampler {
    /// The number of the sample's key, if the next write is to be one.
    pub(super) fn choose(&self, now: Instant) -> Option<u64> {
        let now = now.saturating_duration_since(self.start).as_micros();
        let now = u64::try_from(now).unwrap_or(u64::MAX);
        let due = self.next_micros.load(Ordering::Relaxed);
        if now < due {
            return None;
        }
        let taken = self.next_micros.compare_exchange(
            due,
            now.saturating_add(self.gap_micros),
            Ordering::Relaxed,
            Ordering::Relaxed,
        );
        taken.ok()?;
        Some(self.next_key.fetch_add(1, Ordering::Relaxed) % KEYS)
    }

    /// Lets the watchers of all other regions look for a sample.
    pub(super) fn watch(&self, sample: &Sample) {
        for (pair, watchers) in &self.ways {
            if watchers.try_send(sample.clone()).is_err() {
                pair.with(|tally| tally.skipped += 1);
            }
        }
    }
}

/// Starts watchers in `tasks`, and gives a sampler for each region that is loaded. Watchers end when
/// the samplers are gone and everything that waits has been looked for.
pub(super) fn start(
    plan: &Plan,
    lag: &LagPlan,
    start: Instant,
    tasks: &mut JoinSet<()>,
) -> (BTreeMap<String, Sampler>, Vec<Arc<Pair>>) {
    let mut samplers = BTreeMap::new();
    let mut pairs = Vec::new();
    for from in &plan.sites {
        let mut ways = Vec::new();
        for to in lag.watchers.iter().filter(|to| to.region != from.region) {
            let key = (from.region.clone(), to.region.clone());
            let pair = Arc::new(Pair {
                one_way: lag.one_way.get(&key).copied(),
                from: key.0,
                to: key.1,
                tally: Mutex::new(PairTally {
                    since_sent: Spans::new(),
                    since_acked: Spans::new(),
                    skipped: 0,
                    given_up: 0,
                }),
            });
            let (sender, receiver) = mpsc::channel(WAITING_MAX);
            let receiver = Arc::new(tokio::sync::Mutex::new(receiver));
            for n in 0..WATCHERS {
                let wire = Wire::new(to.nodes.clone(), n, Some(Level::One), READ_TIME_MAX);
                tasks.spawn(watcher(wire, Arc::clone(&receiver), Arc::clone(&pair)));
            }
            ways.push((Arc::clone(&pair), sender));
            pairs.push(pair);
        }
        let sampler = Sampler {
            start,
            gap_micros: 1_000_000 / u64::from(lag.samples_per_second.max(1)),
            next_micros: AtomicU64::new(0),
            next_key: AtomicU64::new(0),
            ways,
        };
        samplers.insert(from.region.clone(), sampler);
    }
    (samplers, pairs)
}

async fn watcher(
    mut wire: Wire,
    samples: Arc<tokio::sync::Mutex<mpsc::Receiver<Sample>>>,
    pair: Arc<Pair>,
) {
    wire.warm().await;
    loop {
        // Held while waiting: the watchers of a pair queue up for the next sample, which is the aim.
        let next = samples.lock().await.recv().await;
        let Some(sample) = next else { return };
        match seen(&mut wire, &sample, pair.one_way.unwrap_or_default()).await {
            Some(at) => pair.with(|tally| {
                tally
                    .since_sent
                    .add(at.saturating_duration_since(sample.sent));
                tally
                    .since_acked
                    .add(at.saturating_duration_since(sample.acked));
            }),
            None => pair.with(|tally| tally.given_up += 1),
        }
    }
}

/// When the sample was seen; nothing if it was not.
async fn seen(wire: &mut Wire, sample: &Sample, one_way: Duration) -> Option<Instant> {
    let expected = sample.sent + one_way;
    if let Some(begin) = expected.checked_sub(EARLY) {
        tokio::time::sleep_until(begin).await;
    }
    loop {
        let fate = wire
            .call(Method::GET, sample.uri.clone(), Bytes::new())
            .await;
        let now = Instant::now();
        match fate {
            Fate::Done {
                timestamp: Some(found),
                ..
            } if found >= sample.timestamp => return Some(now),
            Fate::Done { .. } | Fate::Unknown(_) | Fate::Failed(_) => {}
        }
        let late = now.saturating_duration_since(expected);
        if late > PATIENCE {
            return None;
        }
        if let Some(pause) = wire.pause() {
            tokio::time::sleep(pause).await;
        } else if late > EAGER {
            tokio::time::sleep(late / 100).await;
        }
    }
}
