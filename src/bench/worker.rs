//! A worker: one connection, one request at a time, until the run is over.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Bytes, BytesMut};
use hyper::{Method, Uri};
use tokio::time::Instant;

use crate::workload::{Kind, OpId, Step, Stream, write_value};

use super::ack_log::{AckLog, Acked};
use super::lag::{Sample, Sampler};
use super::pace::Beat;
use super::tally::Tally;
use super::wire::{Fate, Wire};

/// Keys that each worker writes in turn when writes are written down.
const OWN_KEYS: u64 = 64;

/// What the workers of one region share.
pub(super) struct Site {
    pub(super) region: String,
    /// `/v1/kv/{keyspace}/{prefix}`, escaped.
    pub(super) path: String,
    /// What keys begin with, not escaped.
    pub(super) prefix: String,
    /// The open loop; nothing in a closed one.
    pub(super) beat: Option<Arc<Beat>>,
    pub(super) measure_from: Instant,
    /// When workers stop by the clock.
    pub(super) end: Option<Instant>,
    /// How many operations are left to measure, if they are counted.
    pub(super) left: Option<AtomicU64>,
    pub(super) stop: Arc<AtomicBool>,
    pub(super) value_bytes: usize,
    pub(super) tallies: Mutex<BTreeMap<Kind, Tally>>,
    pub(super) sampler: Option<Sampler>,
    pub(super) ack_log: Option<(SharedLog, u64)>,
    /// Acknowledgements that could not be written down.
    pub(super) unlogged: AtomicU64,
}

/// The list of acknowledged writes, shared by all regions.
pub(super) type SharedLog = Arc<AckLog>;

/// A worker.
pub(super) struct Worker {
    pub(super) site: Arc<Site>,
    /// Unique in the run; names the worker's stream of writes.
    pub(super) id: u64,
    pub(super) wire: Wire,
    pub(super) stream: Stream,
    pub(super) keys: OwnKeys,
    pub(super) buffers: Buffers,
}

/// Reused from request to request.
#[derive(Default)]
pub(super) struct Buffers {
    path: String,
    value: BytesMut,
    writes: u64,
}

/// The keys that only this worker writes. A key whose last write has an unknown outcome is never
/// written again: that write may come true later, and would be taken for the loss of a newer one.
#[derive(Default)]
pub(super) struct OwnKeys {
    turn: u64,
    /// Generation and last number of each key.
    keys: BTreeMap<u64, (u64, u64)>,
}

/// A request that is made, and what it is about.
struct Request {
    kind: Kind,
    uri: Uri,
    body: Bytes,
    is_sample: bool,
    own: Option<Own>,
}

struct Own {
    slot: u64,
    key: String,
    acked: Acked,
}

impl Worker {
    /// Works until the run is over.
    pub(super) async fn run(mut self) {
        self.wire.warm().await;
        while let Some(intended) = self.next().await {
            let is_measured = intended >= self.site.measure_from;
            if is_measured && !self.site.claim() {
                if let Some(beat) = &self.site.beat {
                    beat.close();
                }
                return;
            }
            let Some(mut request) = self.request(intended, is_measured) else {
                return;
            };
            let (uri, body) = (request.uri.clone(), std::mem::take(&mut request.body));
            let method = match request.kind {
                Kind::Read => Method::GET,
                Kind::Write => Method::PUT,
            };
            let sent = Instant::now();
            let fate = self.wire.call(method, uri, body).await;
            let acked = Instant::now();
            if is_measured {
                self.site.count(
                    request.kind,
                    &fate,
                    acked.saturating_duration_since(intended),
                );
            }
            self.follow(request, &fate, sent, acked);
            if let Some(pause) = self.wire.pause() {
                tokio::time::sleep(pause).await;
            }
        }
    }

    /// When the next request should be sent: now, or when its arrival was due; nothing at the end.
    async fn next(&self) -> Option<Instant> {
        let intended = match &self.site.beat {
            Some(beat) => beat.arrival().await?,
            None => Instant::now(),
        };
        let is_over = self.site.stop.load(Ordering::Relaxed)
            || self.site.end.is_some_and(|end| intended >= end);
        (!is_over).then_some(intended)
    }

    fn request(&mut self, now: Instant, is_measured: bool) -> Option<Request> {
        let Step { kind, key } = self.stream.step();
        let Buffers {
            path,
            value,
            writes,
        } = &mut self.buffers;
        path.clear();
        path.push_str(&self.site.path);
        let mut is_sample = false;
        let mut own = None;
        let mut op = OpId {
            stream: self.id,
            n: *writes,
        };
        let mut suffix = |args: std::fmt::Arguments<'_>| path.write_fmt(args).is_ok();
        let sampler = self
            .site
            .sampler
            .as_ref()
            .filter(|_| kind == Kind::Write && is_measured);
        if let Some((_, run)) = &self.site.ack_log {
            let (slot, generation, n) = self.keys.next();
            let name = format!("{run:x}-{}-{slot}-{generation}", self.id);
            suffix(format_args!("{name}"));
            op.n = n;
            own = Some((slot, format!("{}{name}", self.site.prefix)));
        } else if let Some(slot) = sampler.and_then(|sampler| sampler.choose(now)) {
            is_sample = suffix(format_args!("lag-{}-{slot}", self.site.region));
        } else {
            suffix(format_args!("{key}"));
        }
        let body = match kind {
            Kind::Read => Bytes::new(),
            Kind::Write => {
                *writes += 1;
                write_value(op, self.site.value_bytes, value);
                value.split().freeze()
            }
        };
        let own = own.map(|(slot, key)| Own {
            slot,
            key,
            acked: Acked {
                n: op.n,
                hash: Acked::hash_of(&body),
            },
        });
        let uri = Uri::try_from(path.as_str()).ok()?;
        Some(Request {
            kind,
            uri,
            body,
            is_sample,
            own,
        })
    }

    /// What follows from the outcome of a request.
    fn follow(&mut self, request: Request, fate: &Fate, sent: Instant, acked: Instant) {
        let timestamp = match fate {
            Fate::Done { timestamp, .. } => *timestamp,
            Fate::Unknown(_) => {
                if let Some(own) = request.own {
                    self.keys.retire(own.slot);
                }
                return;
            }
            Fate::Failed(_) => return,
        };
        if let (Some(own), Some((log, _))) = (request.own, &self.site.ack_log)
            && log.add(&own.key, own.acked, timestamp).is_err()
        {
            self.site.unlogged.fetch_add(1, Ordering::Relaxed);
        }
        if let (true, Some(timestamp), Some(sampler)) =
            (request.is_sample, timestamp, &self.site.sampler)
        {
            let uri = request.uri;
            sampler.watch(&Sample {
                uri,
                timestamp,
                sent,
                acked,
            });
        }
    }
}

impl OwnKeys {
    /// The next key in turn: slot, generation, and the number of this write.
    fn next(&mut self) -> (u64, u64, u64) {
        let slot = self.turn % OWN_KEYS;
        self.turn += 1;
        let (generation, n) = self.keys.entry(slot).or_default();
        *n += 1;
        (slot, *generation, *n)
    }

    fn retire(&mut self, slot: u64) {
        let (generation, _) = self.keys.entry(slot).or_default();
        *generation += 1;
    }
}

impl Site {
    /// Takes one of the operations that are left; false if there are none.
    fn claim(&self) -> bool {
        let Some(left) = &self.left else { return true };
        let take = |left: u64| left.checked_sub(1);
        left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
            .is_ok()
    }

    fn count(&self, kind: Kind, fate: &Fate, latency: std::time::Duration) {
        let mut tallies = self.tallies.lock().unwrap_or_else(PoisonError::into_inner);
        tallies
            .entry(kind)
            .or_insert_with(Tally::new)
            .add(fate, latency);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_with_an_unknown_write_is_never_written_again() {
        let mut keys = OwnKeys::default();
        let first: Vec<_> = (0..OWN_KEYS).map(|_| keys.next()).collect();
        assert_eq!(first[3], (3, 0, 1));
        keys.retire(3);
        let second: Vec<_> = (0..OWN_KEYS).map(|_| keys.next()).collect();
        assert_eq!((second[2], second[3]), ((2, 0, 2), (3, 1, 2)));
    }
}
