//! The scrub: it finds what nobody reads, and leaves the rest alone.

use super::store::{puts, until_durable, watched};
use crate::model::{Query, Ticket};
use crate::storage::{Batch, Engine as _, MemoryDisk, Refill, Space, Store, keys};

/// Runs a scrub over a disk with rows, after something was done to it; how many times it met damage, and whether the
/// node stopped.
fn scrubbed(refill: Refill, harm: impl FnOnce(&MemoryDisk)) -> (u64, bool) {
    let disk = MemoryDisk::new();
    let (mut options, failures) = watched();
    options.refill = refill;
    options.open.limits.scrub_bytes_per_second = 1 << 40;
    let (store, _, mut events) = Store::start(disk.engine(), options.clone()).unwrap();
    store.submit(puts(0..100)).unwrap();
    until_durable(&mut events, Ticket(99));
    drop(events);
    store.close().unwrap();
    harm(&disk);
    let (store, _, _events) = Store::start(disk.engine(), options).unwrap();
    let scrub = store.scrub();
    scrub.start();
    while scrub.stats().passes == 0 && scrub.stats().damaged == 0 {
        std::thread::yield_now();
    }
    // A pass that met damage goes on, or the node stops.
    while scrub.stats().is_running {
        std::thread::yield_now();
    }
    let has_stopped = failures.try_recv().is_ok();
    (scrub.stats().damaged, has_stopped)
}

#[test]
fn a_sound_store_is_left_alone() {
    assert_eq!(scrubbed(Refill::Peers, |_| ()), (0, false));
}

#[test]
fn a_rotten_row_stops_a_node_that_others_can_fill() {
    let rot = |disk: &MemoryDisk| assert!(disk.rot(Space::Rows, 3));
    assert_eq!(scrubbed(Refill::Peers, rot), (1, true));
    assert_eq!(scrubbed(Refill::Nobody, rot), (1, false));
}

#[test]
fn a_row_that_vanished_is_missed_by_its_leaf() {
    let lose = |disk: &MemoryDisk| {
        let mut batch = Batch::default();
        batch.remove(Space::Rows, keys::row(&super::key("k3")));
        disk.engine().commit(batch).unwrap();
    };
    assert_eq!(scrubbed(Refill::Peers, lose), (1, true));
}

#[test]
fn a_rotten_log_entry_is_found_too() {
    let rot = |disk: &MemoryDisk| assert!(disk.rot(Space::Log, 3));
    assert_eq!(scrubbed(Refill::Peers, rot), (1, true));
}

#[test]
fn a_rotten_row_that_is_read_is_looked_for_at_once() {
    let disk = MemoryDisk::new();
    let (mut options, failures) = watched();
    options.refill = Refill::Peers;
    options.open.limits.scrub_bytes_per_second = 1 << 40;
    let (store, _, mut events) = Store::start(disk.engine(), options.clone()).unwrap();
    store.submit(puts(0..1)).unwrap();
    until_durable(&mut events, Ticket(0));
    drop(events);
    store.close().unwrap();
    assert!(disk.rot(Space::Rows, 0));
    let (store, _, _events) = Store::start(disk.engine(), options).unwrap();
    let rows = Query::Rows(vec![super::key("k0")]);
    store.query(vec![(Ticket(1), rows)]).unwrap();
    failures.recv().unwrap();
    assert_eq!(store.scrub().stats().damaged, 1);
}
