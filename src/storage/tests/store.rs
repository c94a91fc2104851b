//! The threads around the door.

use std::ops::{Bound, ControlFlow};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};

use bytes::Bytes;
use tokio::sync::mpsc::Receiver;

use super::{COUNT, WALL, key, options, put};
use crate::model::Ticket;
use crate::model::{Answer, Duration, Effect, Query, Time, Wall};
use crate::storage::writer::RECORDS_MAX;
use crate::storage::{
    Batch, Clock, Engine, Error, Memory, MemoryDisk, MemorySnapshot, Snapshot, Space, Store,
    StoreEvent, StoreOptions,
};

/// Clocks that go on by a microsecond with every look.
#[derive(Default)]
pub(super) struct Ticking(AtomicU64);

impl Clock for Ticking {
    fn wall(&self) -> Wall {
        Wall(WALL.0 + self.0.fetch_add(1, Ordering::Relaxed))
    }

    fn time(&self) -> Time {
        Time(self.0.fetch_add(1, Ordering::Relaxed))
    }
}

/// Options under which a failure is passed to the test.
pub(super) fn watched() -> (StoreOptions, mpsc::Receiver<String>) {
    let (failed, failures) = mpsc::channel();
    let failed = Mutex::new(failed);
    let mut options = StoreOptions::new(options(1), Arc::new(Ticking::default()));
    options.on_broken = Arc::new(move |reason: &str| {
        failed.lock().unwrap().send(reason.to_owned()).unwrap();
    });
    (options, failures)
}

/// Receives until this ticket is durable; the effects so far, and the events in order.
pub(super) fn until_durable(events: &mut Receiver<StoreEvent>, last: Ticket) -> Vec<StoreEvent> {
    let mut seen = Vec::new();
    loop {
        let event = events.blocking_recv().unwrap();
        let is_last = matches!(&event, StoreEvent::Durable(tickets) if tickets.contains(&last));
        seen.push(event);
        if is_last {
            return seen;
        }
    }
}

pub(super) fn puts(range: std::ops::Range<u64>) -> Vec<(Ticket, crate::model::Change)> {
    range
        .map(|i| (Ticket(i), put(&format!("k{}", i % 10), &i.to_string())))
        .collect()
}

#[test]
fn changes_are_staged_in_order_then_durable_and_then_read() {
    let folder = tempfile::tempdir().unwrap();
    let (options, _failures) = watched();
    let (store, opened, mut events) = Store::open(folder.path(), options.clone()).unwrap();
    assert!(opened.is_new);
    store.submit(puts(0..1000)).unwrap();
    let seen = until_durable(&mut events, Ticket(999));
    let (mut staged, mut durable) = (Vec::new(), Vec::new());
    for event in seen {
        match event {
            StoreEvent::Staged(effects) => {
                let is_written =
                    |(_, effect): &(Ticket, Effect)| matches!(effect, Effect::Written { .. });
                assert!(effects.iter().all(is_written));
                staged.extend(effects.into_iter().map(|(ticket, _)| ticket));
            }
            StoreEvent::Durable(tickets) => {
                durable.extend(tickets);
                assert!(staged.starts_with(&durable), "staged before durable");
            }
            StoreEvent::Answered { .. } => panic!("nobody asked"),
        }
    }
    let all: Vec<Ticket> = (0..1000).map(Ticket).collect();
    assert_eq!((&staged, &durable), (&all, &all));

    store
        .query(vec![(Ticket(5000), Query::Rows(vec![key("k9")]))])
        .unwrap();
    let Some(StoreEvent::Answered {
        ticket,
        answer: Answer::Rows(rows),
    }) = events.blocking_recv()
    else {
        panic!("no answer");
    };
    assert_eq!(ticket, Ticket(5000));
    let Some(crate::model::Row::Register(version)) = &rows[0] else {
        panic!("absent");
    };
    assert_eq!(version.value, Some(Bytes::from("999")));
    assert!(
        store
            .root(key("k9").partition(COUNT))
            .is_some_and(|root| root != 0)
    );
    let stats = store.stats();
    assert_eq!(
        (stats.changes, stats.queries, stats.queued_changes),
        (1000, 1, 0)
    );
    assert!(stats.commits < 500, "commits are shared: {stats:?}");

    // What is queued when the store closes is still written.
    store.submit(puts(1000..1010)).unwrap();
    store.close().unwrap();
    until_durable(&mut events, Ticket(1009));
    let (store, again, _events) = Store::open(folder.path(), options).unwrap();
    assert!(again.was_clean);
    assert!(again.actor > opened.actor);
    drop(store);
}

/// Upkeep of many partitions comes at once, and each change of it may touch thousands of records.
#[test]
fn what_would_be_too_much_for_one_batch_becomes_several() {
    const MEMBERS: usize = 1_000;
    const CHANGES: u64 = 50;
    let disk = MemoryDisk::new();
    let (options, _failures) = watched();
    let (store, _, mut events) = Store::start(disk.engine(), options).unwrap();
    let add = (0..MEMBERS).map(|n| Bytes::from(n.to_string())).collect();
    let remove = Vec::new();
    let members = crate::model::WriteOp::Members { add, remove };
    let change = |n: u64| {
        let write = crate::model::Write::new(key(&n.to_string()), members.clone());
        (Ticket(n), crate::model::Change::Write(write))
    };
    store.submit((0..CHANGES).map(change).collect()).unwrap();
    let seen = until_durable(&mut events, Ticket(CHANGES - 1));
    let mut staged = Vec::new();
    for event in seen {
        match event {
            StoreEvent::Staged(effects) => {
                staged.extend(effects.into_iter().map(|(ticket, _)| ticket));
            }
            StoreEvent::Durable(tickets) => {
                // A member is a row and an entry of the log.
                let most = RECORDS_MAX / (2 * MEMBERS) + 1;
                assert!(tickets.len() <= most, "{} in one batch", tickets.len());
                assert!(tickets.iter().all(|ticket| staged.contains(ticket)));
            }
            StoreEvent::Answered { .. } => panic!("nobody asked"),
        }
    }
    let all: Vec<Ticket> = (0..CHANGES).map(Ticket).collect();
    assert_eq!(staged, all);
    store.close().unwrap();
}

#[test]
fn a_dropped_store_did_not_stop_cleanly() {
    let disk = MemoryDisk::new();
    let (options, _failures) = watched();
    let (store, first, mut events) = Store::start(disk.engine(), options.clone()).unwrap();
    store.submit(puts(0..10)).unwrap();
    until_durable(&mut events, Ticket(9));
    drop(store);
    while events.blocking_recv().is_some() {}
    let (store, second, _events) = Store::start(disk.engine(), options).unwrap();
    assert!(!second.was_clean);
    assert!(second.actor > first.actor);
    store.close().unwrap();
}

#[test]
fn a_full_queue_gives_the_changes_back() {
    let disk = MemoryDisk::new();
    let (options, _failures) = watched();
    let (store, _, mut events) = Store::start(disk.engine(), options).unwrap();
    // Nobody receives, so the writer comes to a halt, and then the queue fills.
    let mut next = 0;
    let refused = loop {
        let changes = puts(next..next + 4096);
        if let Err(full) = store.submit(changes) {
            break full.0;
        }
        next += 4096;
        assert!(next < 4_000_000, "there is a limit");
    };
    assert_eq!(
        refused.first().map(|(ticket, _)| *ticket),
        Some(Ticket(next))
    );
    until_durable(&mut events, Ticket(next - 1));
    drop(events);
    store.close().unwrap();
}

/// An engine that fails, or hangs until it is let go, at its second commit.
struct Failing {
    engine: Memory,
    commits: usize,
    hang: Option<mpsc::Receiver<()>>,
}

#[derive(Clone, Debug)]
struct Same(MemorySnapshot);

impl Snapshot for Same {
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>, Error> {
        self.0.get(space, key)
    }

    fn range(
        &self,
        space: Space,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        visit: &mut dyn FnMut(&[u8], Bytes) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        self.0.range(space, from, to, visit)
    }
}

impl Engine for Failing {
    type Snapshot = Same;

    fn snapshot(&self) -> Same {
        Same(self.engine.snapshot())
    }

    fn commit(&mut self, batch: Batch) -> Result<(), Error> {
        self.commits += 1;
        if self.commits < 2 {
            return self.engine.commit(batch);
        }
        match &self.hang {
            Some(hang) => hang.recv().map_err(|_gone| Error::Stopped),
            None => Err(Error::Corrupt {
                what: "the disk is full",
            }),
        }
    }
}

#[test]
fn a_failed_commit_stops_the_node_and_nothing_is_durable() {
    let (options, failures) = watched();
    let engine = Failing {
        engine: MemoryDisk::new().engine(),
        commits: 0,
        hang: None,
    };
    let (store, _, mut events) = Store::start(engine, options).unwrap();
    store.submit(puts(0..3)).unwrap();
    assert!(failures.recv().unwrap().contains("the disk is full"));
    assert!(store.submit(puts(3..4)).is_err());
    assert!(store.close().is_err());
    while let Some(event) = events.blocking_recv() {
        assert!(!matches!(event, StoreEvent::Durable(_)), "{event:?}");
    }
}

#[test]
fn a_commit_that_hangs_stops_the_node() {
    let (mut options, failures) = watched();
    options.stall_max = Duration::from_micros(5);
    let (release, hang) = mpsc::channel();
    let engine = Failing {
        engine: MemoryDisk::new().engine(),
        commits: 0,
        hang: Some(hang),
    };
    let (store, _, _events) = Store::start(engine, options).unwrap();
    store.submit(puts(0..1)).unwrap();
    assert!(failures.recv().unwrap().contains("has not ended"));
    drop(release);
    assert!(store.close().is_err());
}
