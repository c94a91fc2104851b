//! The threads of a store: the writer, the readers, and the one that watches the writer.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use tokio::sync::mpsc::Sender;

use crate::model::Ticket;
use crate::model::{Answer, Change, Duration, Time};

use super::damage::{Fate, mark};
use super::questions::{Line, Questions};
use super::queue::{Limit, Queue};
use super::reader::Unreadable;
use super::scrub::{Scrub, ScrubThread};
use super::stats::Counters;
use super::store::{OnBroken, StoreEvent, StoreOptions, WriterHandle};
use super::supervise::watch_thread;
use super::{Door, Engine, Error, Reader, Refill, Snapshot};

/// One batch at most: what one sync may cost, and what is lost together.
const BATCH: Limit = Limit {
    items: 4096,
    bytes: 16 << 20,
};

/// Records that one batch puts or removes, and a single change more at most: upkeep of many partitions comes at once, and
/// each may take away thousands.
pub(super) const RECORDS_MAX: usize = 20_000;

/// Changes that are staged before their effects are passed on: the first need not wait for the last.
const STAGE: usize = 256;

/// Threads that answer questions, of each line.
const READERS: usize = 2;

/// The running threads.
#[derive(Debug)]
pub(super) struct Threads {
    writer: WriterHandle,
    others: Vec<JoinHandle<()>>,
    watch: Arc<Watch>,
    scrub: Arc<Scrub>,
}

impl Threads {
    /// Waits until the queues, which are closed, are empty.
    pub(super) fn join(self) -> Result<(), Error> {
        let result = self.writer.join().unwrap_or(Err(Error::Stopped));
        self.watch.end();
        self.scrub.end();
        for thread in self.others {
            if thread.join().is_err() {
                return Err(Error::Stopped);
            }
        }
        result
    }

    /// Lets the writer end without a clean stop.
    pub(super) fn abandon(&self) {
        self.watch.is_abandoned.store(true, Ordering::Relaxed);
        self.watch.end();
        self.scrub.end();
    }
}

/// What the watching thread sees of the writer.
#[derive(Debug, Default)]
struct Watch {
    /// When the present stage or commit began, plus one; zero between them.
    busy_since: AtomicU64,
    is_abandoned: AtomicBool,
    has_ended: Mutex<bool>,
    ended: Condvar,
}

impl Watch {
    fn begin(&self, now: Time) {
        self.busy_since
            .store(now.0.saturating_add(1), Ordering::Relaxed);
    }

    fn rest(&self) {
        self.busy_since.store(0, Ordering::Relaxed);
    }

    fn is_abandoned(&self) -> bool {
        self.is_abandoned.load(Ordering::Relaxed)
    }

    fn end(&self) {
        *self
            .has_ended
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = true;
        self.ended.notify_all();
    }
}

/// Starts the threads.
pub(super) fn start<E: Engine>(
    door: Door<E>,
    changes: &Arc<Queue<(Ticket, Change)>>,
    queries: &Questions,
    counters: &Arc<Counters>,
    scrub: &Arc<Scrub>,
    events: &Sender<StoreEvent>,
    options: &Arc<StoreOptions>,
) -> Result<Threads, Error> {
    let watch = Arc::new(Watch::default());
    let data = door.folder();
    let mut others = Vec::new();
    let lines = [&queries.short, &queries.long];
    for line in lines.into_iter().cycle().take(lines.len() * READERS) {
        let reader = ReaderThread {
            reader: door.reader(),
            queries: Arc::clone(line),
            counters: Arc::clone(counters),
            events: events.clone(),
            watch: Arc::clone(&watch),
            data: data.clone(),
            options: Arc::clone(options),
            scrub: Arc::clone(scrub),
        };
        others.push(spawn("sterna-reader", move || reader.run())?);
    }
    let thread = ScrubThread {
        reader: door.reader(),
        scrub: Arc::clone(scrub),
        data: data.clone(),
        options: Arc::clone(options),
    };
    others.push(spawn("sterna-scrub", move || thread.run())?);
    let (seen, all) = (Arc::clone(&watch), Arc::clone(options));
    others.push(spawn("sterna-watch", move || watch_writer(&seen, &all))?);
    let writer = Writer {
        door,
        data,
        changes: Arc::clone(changes),
        counters: Arc::clone(counters),
        events: events.clone(),
        watch: Arc::clone(&watch),
        options: Arc::clone(options),
    };
    Ok(Threads {
        writer: spawn("sterna-writer", move || writer.run())?,
        others,
        watch,
        scrub: Arc::clone(scrub),
    })
}

fn spawn<T: Send + 'static>(
    name: &str,
    run: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>, Error> {
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(run)
        .map_err(Error::Thread)
}

/// Logs why the store cannot go on, once, and ends the process (or whatever a test does instead).
fn broken(reason: &str, on_broken: &OnBroken) {
    tracing::error!(reason, "the store has failed, the node stops");
    on_broken(reason);
}

/// As [`broken`], after leaving a mark for the next start if the data may be damaged.
pub(super) fn fail(error: &Error, data: Option<&Path>, on_broken: &OnBroken) {
    let reason = error.to_string();
    if let Some(data) = data {
        mark(data, error.fate(), &reason);
    }
    broken(&reason, on_broken);
}

struct Writer<E: Engine> {
    door: Door<E>,
    data: Option<PathBuf>,
    changes: Arc<Queue<(Ticket, Change)>>,
    counters: Arc<Counters>,
    events: Sender<StoreEvent>,
    watch: Arc<Watch>,
    options: Arc<StoreOptions>,
}

impl<E: Engine> Writer<E> {
    fn run(mut self) -> Result<(), Error> {
        watch_thread(self.data.as_deref(), Fate::Suspect);
        while let Some(batch) = self.changes.take(BATCH) {
            if self.watch.is_abandoned() {
                return Ok(());
            }
            if let Err(error) = self.write(batch) {
                return self.fail(error);
            }
        }
        if self.watch.is_abandoned() {
            return Ok(());
        }
        self.door.close()
    }

    /// Stages and commits what was queued: as one batch, if it does not come to too much.
    fn write(&mut self, changes: Vec<(Ticket, Change)>) -> Result<(), Error> {
        let mut tickets = Vec::with_capacity(changes.len());
        let mut staged = Vec::new();
        for (ticket, change) in changes {
            let wall = self.options.clock.wall();
            let effects = self.watched(|door| door.stage(wall, std::slice::from_ref(&change)))?;
            staged.extend(effects.into_iter().map(|effect| (ticket, effect)));
            tickets.push(ticket);
            let is_full = self.door.staged_records() >= RECORDS_MAX;
            if is_full || staged.len() == STAGE {
                send(
                    &self.events,
                    StoreEvent::Staged(std::mem::take(&mut staged)),
                );
            }
            if is_full {
                self.commit(std::mem::take(&mut tickets))?;
            }
        }
        if !staged.is_empty() {
            send(&self.events, StoreEvent::Staged(staged));
        }
        self.commit(tickets)
    }

    fn commit(&mut self, tickets: Vec<Ticket>) -> Result<(), Error> {
        if tickets.is_empty() {
            return Ok(());
        }
        let before = self.options.clock.time();
        self.watched(Door::commit)?;
        let took = self.options.clock.time().since(before);
        self.counters.on_commit(tickets.len(), took);
        send(&self.events, StoreEvent::Durable(tickets));
        Ok(())
    }

    /// Does what may hang on the disk under the eyes of the watching thread. Waiting for the receiver of events
    /// is not part of it.
    fn watched<T>(
        &mut self,
        act: impl FnOnce(&mut Door<E>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        self.watch.begin(self.options.clock.time());
        let result = act(&mut self.door);
        self.watch.rest();
        result
    }

    fn fail(self, error: Error) -> Result<(), Error> {
        self.changes.close();
        fail(&error, self.data.as_deref(), &self.options.on_broken);
        Err(error)
    }
}

/// Waits for room. A receiver that is gone is no longer interested.
fn send(events: &Sender<StoreEvent>, event: StoreEvent) {
    if events.blocking_send(event).is_err() {
        tracing::trace!("nobody receives the store's events");
    }
}

struct ReaderThread<S: Snapshot> {
    reader: Reader<S>,
    queries: Line,
    counters: Arc<Counters>,
    events: Sender<StoreEvent>,
    watch: Arc<Watch>,
    data: Option<PathBuf>,
    options: Arc<StoreOptions>,
    scrub: Arc<Scrub>,
}

impl<S: Snapshot> ReaderThread<S> {
    fn run(self) {
        watch_thread(self.data.as_deref(), Fate::Suspect);
        let one = Limit {
            items: 1,
            bytes: usize::MAX,
        };
        while let Some(taken) = self.queries.take(one) {
            if self.watch.is_abandoned() {
                return;
            }
            for (ticket, query) in taken {
                let answer = self.reader.try_answer(&query);
                self.counters.on_answer(answer.is_err());
                let answer = answer.unwrap_or_else(|error| self.unreadable(&error));
                send(&self.events, StoreEvent::Answered { ticket, answer });
            }
        }
    }
}

impl<S: Snapshot> ReaderThread<S> {
    /// Others answer in place of this node. If they can also fill it again, it stops, lest it go on without what it
    /// should hold. A row of ours that is bad is left to the scrub, which looks now: a replica that has to compare
    /// its rows with others' before it serves would not serve until then.
    fn unreadable(&self, error: &Unreadable) -> Answer {
        if let Unreadable::Failed(error) = error
            && error.fate() != Fate::Sound
            && self.options.refill != Refill::Nobody
        {
            if matches!(error, Error::Engine { .. }) {
                fail(error, self.data.as_deref(), &self.options.on_broken);
            } else {
                self.scrub.start();
            }
        }
        Answer::Unreadable {
            reason: error.reason(),
        }
    }
}

/// Ends the process when a commit takes too long: a writer may hang for ever inside the engine or the kernel,
/// and nobody else would notice.
fn watch_writer(watch: &Watch, options: &StoreOptions) {
    let pause = (options.stall_max / 16).max(Duration::from_millis(1));
    let mut has_ended = watch
        .has_ended
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    while !*has_ended {
        let waited = watch.ended.wait_timeout(has_ended, pause);
        (has_ended, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let since = watch.busy_since.load(Ordering::Relaxed);
        if since == 0 || *has_ended {
            continue;
        }
        let took = options.clock.time().since(Time(since - 1));
        if took > options.stall_max {
            let reason = format!("a commit has not ended after {} s", took.as_secs());
            broken(&reason, &options.on_broken);
            return;
        }
    }
}
