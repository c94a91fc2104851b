//! The store of a running node: threads around the door, so that no async task ever waits for the disk.
//!
//! One thread owns the door and commits what is queued, a few answer questions, and one watches that commits
//! end. What becomes of changes and questions comes back as events, in order of the changes.

use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::sync::mpsc;

use crate::model::Ticket;
use crate::model::{Answer, Change, DigestNode, Duration, Effect, PartitionId, Query, Time, Wall};

use super::questions::Questions;
use super::queue::{Limit, Queue};
use super::scrub::Scrub;
use super::stats::Counters;
use super::writer::{Threads, start};
use super::{
    Door, Engine, Error, FjallSnapshot, OpenOptions, Opened, Reader, Refill, Snapshot, StoreStats,
    recover,
};

/// Changes that may wait for the writer.
const CHANGES: Limit = Limit {
    items: 65_536,
    bytes: 64 << 20,
};

/// Events that may wait for the loop; when they are full, writer and readers wait.
const EVENTS: usize = 1024;

/// The clocks of the process: the store reads them on threads of its own.
pub trait Clock: Send + Sync + 'static {
    /// The wall clock, for timestamps.
    fn wall(&self) -> Wall;
    /// Monotonic time, to measure commits.
    fn time(&self) -> Time;
}

/// What to do when the disk or the engine has failed: it is given the reason, after it was logged. In
/// production it is [`abort`], and does not return.
pub type OnBroken = Arc<dyn Fn(&str) + Send + Sync>;

/// Ends the process at once. Nothing is closed or dropped, because the engine would sync again what the
/// disk has just refused, and might be told that all is well.
pub fn abort(_reason: &str) {
    std::process::abort();
}

/// How to run a store.
#[derive(Clone)]
pub struct StoreOptions {
    /// How to open it.
    pub open: OpenOptions,
    /// The clocks.
    pub clock: Arc<dyn Clock>,
    /// What to do when it fails.
    pub on_broken: OnBroken,
    /// What may be done about a damaged store when it is opened, or while it runs.
    pub refill: Refill,
    /// A commit that takes longer counts as failed: the disk, or a writer inside the engine, hangs.
    pub stall_max: Duration,
}

impl StoreOptions {
    /// Options as in production.
    pub fn new(open: OpenOptions, clock: Arc<dyn Clock>) -> Self {
        Self {
            open,
            clock,
            on_broken: Arc::new(abort),
            refill: Refill::default(),
            stall_max: Duration::from_secs(30),
        }
    }
}

impl std::fmt::Debug for StoreOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoreOptions")
            .field("open", &self.open)
            .finish_non_exhaustive()
    }
}

/// What a store reports.
#[derive(Clone, PartialEq, Debug)]
pub enum StoreEvent {
    /// Changes were decided, in the order given, but are not yet on disk.
    Staged(Vec<(Ticket, Effect)>),
    /// These are on disk, and readers see them.
    Durable(Vec<Ticket>),
    /// A question was answered.
    Answered {
        /// Which.
        ticket: Ticket,
        /// The answer.
        answer: Answer,
    },
}

/// The queue is full, or the store is closing: here it is back.
#[derive(Clone, PartialEq, Debug)]
pub struct Full<T>(pub T);

/// A running store. Dropping it stops it as a crash would: what is queued is lost, and the next start
/// takes a new incarnation.
#[derive(Debug)]
pub struct Store<S: Snapshot = FjallSnapshot> {
    changes: Arc<Queue<(Ticket, Change)>>,
    queries: Questions,
    reader: Reader<S>,
    counters: Arc<Counters>,
    scrub: Arc<Scrub>,
    threads: Option<Threads>,
}

impl Store {
    /// Opens the store in a data folder; blocks. The second value is what was found, the third gives the events.
    ///
    /// # Errors
    /// The folder cannot be made or opened, or what is in it is damaged or another node's.
    pub fn open(
        data: &Path,
        options: StoreOptions,
    ) -> Result<(Self, Opened, mpsc::Receiver<StoreEvent>), Error> {
        let (door, opened) = recover::open(data, &options.open, options.refill)?;
        Self::run(door, opened, options)
    }
}

impl<S: Snapshot> Store<S> {
    /// Runs a store on any engine.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn start<E: Engine<Snapshot = S>>(
        engine: E,
        options: StoreOptions,
    ) -> Result<(Self, Opened, mpsc::Receiver<StoreEvent>), Error> {
        let (door, opened) = Door::open(engine, options.open.clone())?;
        Self::run(door, opened, options)
    }

    fn run<E: Engine<Snapshot = S>>(
        door: Door<E>,
        opened: Opened,
        options: StoreOptions,
    ) -> Result<(Self, Opened, mpsc::Receiver<StoreEvent>), Error> {
        let options = Arc::new(options);
        let changes = Arc::new(Queue::new(CHANGES));
        let queries = Questions::new();
        let counters = Arc::new(Counters::default());
        let (events, receiver) = mpsc::channel(EVENTS);
        let reader = door.reader();
        let scrub = Arc::new(Scrub::default());
        let threads = start(
            door, &changes, &queries, &counters, &scrub, &events, &options,
        )?;
        let store = Self {
            changes,
            queries,
            reader,
            counters,
            scrub,
            threads: Some(threads),
        };
        Ok((store, opened, receiver))
    }

    /// Queues changes; they are staged in this order. Never blocks.
    ///
    /// # Errors
    /// The queue is full, or the store has stopped; nothing was taken.
    pub fn submit(
        &self,
        changes: Vec<(Ticket, Change)>,
    ) -> Result<(), Full<Vec<(Ticket, Change)>>> {
        self.changes
            .push(changes, |(_, change)| change_bytes(change))
            .map_err(Full)
    }

    /// Queues questions, those that read much apart from those that do not. Never blocks.
    ///
    /// # Errors
    /// A queue is full, or the store has stopped: what was not taken is given back.
    pub fn query(&self, queries: Vec<(Ticket, Query)>) -> Result<(), Full<Vec<(Ticket, Query)>>> {
        self.queries.push(queries).map_err(Full)
    }

    /// The digest of everything in a partition; nothing if it is not here. Does not touch the disk.
    pub fn root(&self, partition: PartitionId) -> Option<u128> {
        self.reader.root(partition)
    }

    /// The hashes of the children of a node of a partition's digest; nothing for a leaf or if it is not
    /// here. Does not touch the disk.
    pub fn children(&self, partition: PartitionId, node: DigestNode) -> Option<Vec<u128>> {
        self.reader.children(partition, node)
    }

    /// A way to ask without the queue; it blocks on the disk.
    pub fn reader(&self) -> Reader<S> {
        self.reader.clone()
    }

    /// Counters.
    pub fn stats(&self) -> StoreStats {
        self.counters.read(self.changes.size())
    }

    /// Its scrub.
    pub fn scrub(&self) -> Arc<Scrub> {
        Arc::clone(&self.scrub)
    }

    /// Commits and answers what is queued, marks the stop as clean, and ends the threads; blocks. Events
    /// must still be received meanwhile, or their receiver be dropped.
    ///
    /// # Errors
    /// The last commits failed; the stop is then not clean.
    pub fn close(mut self) -> Result<(), Error> {
        self.changes.close();
        self.queries.close();
        match self.threads.take() {
            Some(threads) => threads.join(),
            None => Ok(()),
        }
    }
}

impl<S: Snapshot> Drop for Store<S> {
    fn drop(&mut self) {
        if let Some(threads) = &self.threads {
            threads.abandon();
        }
        self.changes.close();
        self.queries.close();
    }
}

/// Bytes that a change takes in the queue and in a batch, roughly.
fn change_bytes(change: &Change) -> usize {
    let bytes = match change {
        Change::Write(write) => write.size(),
        Change::Append { items, .. } => items.iter().map(crate::model::LogItem::size).sum(),
        Change::Repair { key, row } => key.size() + row.size(),
        Change::Forget { key, .. } => key.size(),
        Change::Raise { .. }
        | Change::Trim { .. }
        | Change::Collect { .. }
        | Change::Retire { .. }
        | Change::Expire { .. }
        | Change::Sweep { .. }
        | Change::Fence { .. }
        | Change::Serve { .. } => 0,
        Change::Remember { told, .. } => told.position.size(),
    };
    bytes + 64
}

/// The result of the thread that owns the door.
pub(super) type WriterHandle = JoinHandle<Result<(), Error>>;
