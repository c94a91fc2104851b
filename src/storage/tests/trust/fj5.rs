//! FJ5: the engine fails at its n-th commit with an error of the disk: nothing that failed is called durable, the node
//! stops, and what the next start is told depends on the error.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, mpsc};

use super::{factor, folder, options};
use crate::model::Ticket;
use crate::storage::damage::{COMMIT, Fate, read_mark};
use crate::storage::tests::put;
use crate::storage::tests::store::Ticking;
use crate::storage::{
    Batch, Engine, Error, Fjall, FjallSnapshot, Refill, Store, StoreEvent, StoreOptions, Tail,
};

/// An engine that fails once.
struct Faulty {
    engine: Fjall,
    fails_at: usize,
    number: i32,
}

impl Engine for Faulty {
    type Snapshot = FjallSnapshot;

    fn snapshot(&self) -> FjallSnapshot {
        self.engine.snapshot()
    }

    fn commit(&mut self, batch: Batch) -> Result<(), Error> {
        if self.fails_at == 0 {
            let cause = fjall::Error::Io(io::Error::from_raw_os_error(self.number));
            return Err(Error::Engine {
                deed: COMMIT,
                cause,
            });
        }
        self.fails_at -= 1;
        self.engine.commit(batch)
    }

    fn folder(&self) -> Option<&Path> {
        self.engine.folder()
    }

    fn tail(&self) -> Option<Tail> {
        self.engine.tail()
    }

    fn note_tail(&mut self, tail: Tail) {
        self.engine.note_tail(tail);
    }
}

/// Writes until the engine fails; the last write that was durable, and what the folder was marked with.
fn run(fails_at: usize, number: i32) -> (Option<u64>, Option<Fate>, u64) {
    let folder = folder();
    let engine = Faulty {
        engine: Fjall::open(folder.path()).unwrap(),
        fails_at,
        number,
    };
    let (sender, happened) = mpsc::channel();
    let failed = Mutex::new(sender.clone());
    let mut store_options = StoreOptions::new(options(1), Arc::new(Ticking::default()));
    store_options.on_broken = Arc::new(move |reason: &str| {
        assert!(reason.contains(COMMIT), "{reason}");
        failed.lock().unwrap().send(None).unwrap();
    });
    let (store, _, mut events) = Store::start(engine, store_options).unwrap();
    let receiver = std::thread::spawn(move || {
        while let Some(event) = events.blocking_recv() {
            if let StoreEvent::Durable(tickets) = event {
                sender.send(tickets.last().map(|ticket| ticket.0)).unwrap();
            }
        }
    });
    let mut durable = None;
    for i in 0.. {
        let change = (Ticket(i), put(&format!("k{i}"), "v"));
        if store.submit(vec![change]).is_err() {
            break;
        }
        match happened.recv().unwrap() {
            Some(last) => durable = Some(last),
            None => break,
        }
    }
    assert!(store.close().is_err());
    receiver.join().unwrap();
    let fate = read_mark(folder.path()).map(|mark| mark.fate);
    // What the node had called durable is there.
    let opened = crate::storage::recover::open(folder.path(), &options(1), Refill::Forced).unwrap();
    let rows = super::values(&opened.0).len();
    (durable, fate, u64::try_from(rows).unwrap())
}

#[test]
fn an_error_of_the_disk_is_never_taken_for_a_commit() {
    for fails_at in (1..4 * factor() + 4).step_by(2) {
        // No space, quota, read-only.
        for number in [28, 122, 30] {
            let (durable, fate, rows) = run(fails_at, number);
            assert_eq!(fate, None, "no damage");
            assert_eq!(rows, durable.map_or(0, |last| last + 1));
        }
        // The disk lost what it was given: the store is set aside.
        let (_, fate, rows) = run(fails_at, 5);
        assert_eq!((fate, rows), (Some(Fate::Damaged), 0));
    }
}
