//! Reading everything from time to time, slowly: what is damaged is then found while other replicas still have it, and not
//! when the last of them is needed.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::model::{Duration, PartitionId};

use super::damage::Fate;
use super::engine::Snapshot;
use super::store::StoreOptions;
use super::supervise::watch_thread;
use super::verify::{Findings, Go, Pace};
use super::writer::fail;
use super::{Error, Reader, Refill};

/// Slices of a second in which the bytes of a second are read.
const SLICES: u64 = 20;

/// What is wished of the scrub, and what it has done. Shared by its thread and those who ask.
#[derive(Debug, Default)]
pub struct Scrub {
    wish: Mutex<Wish>,
    changed: Condvar,
    is_running: AtomicU64,
    passes: AtomicU64,
    bytes: AtomicU64,
    partitions_done: AtomicU64,
    damaged: AtomicU64,
}

#[derive(Debug, Default)]
struct Wish {
    is_wanted: bool,
    has_ended: bool,
}

/// What a scrub has done.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ScrubStats {
    /// Whether it reads now.
    pub is_running: bool,
    /// Times that all was read.
    pub passes: u64,
    /// Bytes read since the start.
    pub bytes: u64,
    /// Partitions of the present pass that are done.
    pub partitions_done: u64,
    /// Rows that failed their checksum, leaves that had lost rows, and failures to read, since the start.
    pub damaged: u64,
}

impl Scrub {
    /// Has everything read now, if it is not being read already. Never blocks for long.
    pub fn start(&self) {
        self.lock().is_wanted = true;
        self.changed.notify_all();
    }

    /// What it has done.
    pub fn stats(&self) -> ScrubStats {
        ScrubStats {
            is_running: self.is_running.load(Relaxed) > 0,
            passes: self.passes.load(Relaxed),
            bytes: self.bytes.load(Relaxed),
            partitions_done: self.partitions_done.load(Relaxed),
            damaged: self.damaged.load(Relaxed),
        }
    }

    /// Ends its thread.
    pub(super) fn end(&self) {
        self.lock().has_ended = true;
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Wish> {
        self.wish.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until it is wanted or due; breaks when it has ended.
    fn wait_until_due(&self, every: Duration) -> Go {
        let waits = |wish: &mut Wish| !wish.is_wanted && !wish.has_ended;
        let waited = self.changed.wait_timeout_while(self.lock(), every, waits);
        let (mut wish, _) = waited.unwrap_or_else(PoisonError::into_inner);
        wish.is_wanted = false;
        if wish.has_ended {
            Go::Break(())
        } else {
            Go::Continue(())
        }
    }

    /// Lets slices of time pass; breaks when it has ended.
    fn pause(&self, slices: u64) -> Go {
        let pause = Duration::from_millis(slices.saturating_mul(1000 / SLICES));
        let waits = |wish: &mut Wish| !wish.has_ended;
        let waited = self.changed.wait_timeout_while(self.lock(), pause, waits);
        let (wish, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if wish.has_ended {
            Go::Break(())
        } else {
            Go::Continue(())
        }
    }
}

/// Its thread.
pub(super) struct ScrubThread<S: Snapshot> {
    pub(super) reader: Reader<S>,
    pub(super) scrub: Arc<Scrub>,
    pub(super) data: Option<PathBuf>,
    pub(super) options: Arc<StoreOptions>,
}

/// What is read in one go.
enum Piece {
    /// The rows of a partition.
    Rows(PartitionId),
    /// Log entries and marks of all of them.
    Records,
}

/// Counts what is read, and waits when what may be read in a slice is used up.
struct Throttle<'a> {
    scrub: &'a Scrub,
    slice: Slice,
}

impl Pace for Throttle<'_> {
    fn on_bytes(&mut self, bytes: u64) -> Go {
        self.scrub.bytes.fetch_add(bytes, Relaxed);
        match self.slice.charge(bytes) {
            0 => Go::Continue(()),
            slices => self.scrub.pause(slices),
        }
    }
}

/// What may be read in a slice of time, and what has been.
pub(super) struct Slice {
    pub(super) bytes_max: u64,
    pub(super) used: u64,
}

impl Slice {
    /// Slices to wait after so many bytes: a large record takes what might be read in many.
    pub(super) fn charge(&mut self, bytes: u64) -> u64 {
        let used = self.used.saturating_add(bytes);
        self.used = used % self.bytes_max;
        used / self.bytes_max
    }
}

impl<S: Snapshot> ScrubThread<S> {
    /// Runs until it is ended.
    pub(super) fn run(self) {
        watch_thread(self.data.as_deref(), Fate::Suspect);
        let mut chance = fastrand::Rng::with_seed(self.options.open.chance);
        let every = self.options.open.limits.scrub_every;
        let mut wait = first_wait(every, &mut chance);
        while self.scrub.wait_until_due(wait).is_continue() {
            self.scrub.is_running.store(1, Relaxed);
            let went = self.pass(&mut chance);
            self.scrub.is_running.store(0, Relaxed);
            if went.is_break() {
                return;
            }
            self.scrub.passes.fetch_add(1, Relaxed);
            wait = every;
        }
    }

    /// Reads everything, beginning by chance: how far a pass came is not kept, and a node whose passes are all cut short
    /// by its next start must read its last partition, too, some day.
    pub(super) fn pass(&self, chance: &mut fastrand::Rng) -> Go {
        let per_second = self.options.open.limits.scrub_bytes_per_second;
        let mut pace = Throttle {
            scrub: &self.scrub,
            slice: Slice {
                bytes_max: (per_second / SLICES).max(1),
                used: 0,
            },
        };
        self.scrub.partitions_done.store(0, Relaxed);
        let partitions = self.reader.partitions().into_iter();
        let mut pieces: Vec<Piece> = partitions.map(Piece::Rows).collect();
        pieces.push(Piece::Records);
        let first = chance.usize(..pieces.len());
        pieces.rotate_left(first);
        pieces
            .iter()
            .try_for_each(|piece| self.read(piece, &mut pace))
    }

    fn read(&self, piece: &Piece, pace: &mut dyn Pace) -> Go {
        match piece {
            Piece::Rows(partition) => {
                match self.reader.verify_partition(*partition, pace) {
                    Ok(found) if found.was_stopped => return Go::Break(()),
                    Ok(found) => self.judge(*partition, &found)?,
                    Err(error) => self.on_damage(&error)?,
                }
                self.scrub.partitions_done.fetch_add(1, Relaxed);
                Go::Continue(())
            }
            Piece::Records => match self.reader.verify_records(pace) {
                Ok(go) => go,
                Err(error) => self.on_damage(&error),
            },
        }
    }

    fn judge(&self, partition: PartitionId, found: &Findings) -> Go {
        let Findings {
            unreadable,
            wrong_leaves,
            ..
        } = found;
        if unreadable + wrong_leaves == 0 {
            return Go::Continue(());
        }
        let what = format!(
            "in {partition} {unreadable} rows fail their checksum, and {wrong_leaves} leaves have lost rows"
        );
        self.on_damage(&Error::Lost { what })
    }

    /// If others can fill this node again, it stops; else it goes on with what can be read, and says so.
    fn on_damage(&self, error: &Error) -> Go {
        self.scrub.damaged.fetch_add(1, Relaxed);
        if error.fate() != Fate::Sound && self.options.refill != Refill::Nobody {
            fail(error, self.data.as_deref(), &self.options.on_broken);
            return Go::Break(());
        }
        tracing::error!(
            %error,
            "the scrub met this: what can be read is served on, for no other node of the region holds all of it"
        );
        Go::Continue(())
    }
}

/// Between a start and the first pass: by chance, so that a node that is started again within every interval comes to
/// one now and then.
pub(super) fn first_wait(every: Duration, chance: &mut fastrand::Rng) -> Duration {
    every.mul_f64(chance.f64())
}
