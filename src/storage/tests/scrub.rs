//! The scrub: it finds what nobody reads, and leaves the rest alone.

use std::sync::Arc;

use super::store::{puts, until_durable, watched};
use super::{apply, key, names, open, options, put};
use crate::model::{Duration, Query, Ticket};
use crate::storage::scrub::{ScrubThread, Slice, first_wait};
use crate::storage::{Batch, Engine as _, MemoryDisk, Refill, Scrub, Space, Store, keys};

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
        batch.remove(Space::Rows, keys::row(&key("k3")));
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
    let rows = Query::Rows(vec![key("k0")]);
    store.query(vec![(Ticket(1), rows)]).unwrap();
    failures.recv().unwrap();
    assert_eq!(store.scrub().stats().damaged, 1);
}

/// Damage that passes meet of which each is cut short, by the stop of its node, in the second piece that it reads.
fn met_by_short_passes(disk: &MemoryDisk) -> u64 {
    let (mut options, _failures) = watched();
    options.refill = Refill::Nobody;
    // In a slice of a second: more than a piece has, and less than two.
    options.open.limits.scrub_bytes_per_second = 20 * 15_000;
    let (door, _) = open(disk, 1);
    let options = Arc::new(options);
    let met = |seed| {
        let scrub = Arc::new(Scrub::default());
        scrub.end();
        let thread = ScrubThread {
            reader: door.reader(),
            scrub: Arc::clone(&scrub),
            data: None,
            options: Arc::clone(&options),
        };
        let went = thread.pass(&mut fastrand::Rng::with_seed(seed));
        assert!(went.is_break(), "a pass came to its end");
        scrub.stats().damaged
    };
    (0..50).map(met).sum()
}

/// A disk with a row of ten kilobytes in each partition.
fn filled() -> MemoryDisk {
    let disk = MemoryDisk::new();
    let (mut door, _) = open(&disk, 1);
    for partition in options(1).partitions {
        let name = names(partition).next().unwrap();
        apply(&mut door, put(&name, &"v".repeat(10_000)));
    }
    disk
}

#[test]
fn every_partition_has_its_turn_though_no_pass_comes_to_its_end() {
    assert_eq!(met_by_short_passes(&filled()), 0);
    for partition in options(1).partitions {
        let disk = filled();
        let name = names(partition).next().unwrap();
        let mut batch = Batch::default();
        batch.remove(Space::Rows, keys::row(&key(&name)));
        disk.engine().commit(batch).unwrap();
        assert!(met_by_short_passes(&disk) > 0, "{partition}");
    }
    let disk = filled();
    assert!(disk.rot(Space::Log, 0));
    assert!(met_by_short_passes(&disk) > 0, "log and marks");
}

#[test]
fn a_node_that_is_started_again_within_every_interval_scrubs_all_the_same() {
    let every = Duration::from_hours(20);
    let waits = (0..1000).map(|seed| first_wait(every, &mut fastrand::Rng::with_seed(seed)));
    let waits: Vec<Duration> = waits.collect();
    assert!(waits.iter().all(|wait| *wait < every));
    let soon = waits.iter().filter(|wait| **wait < Duration::from_hours(1));
    assert!((25..100).contains(&soon.count()), "one start in twenty");
}

#[test]
fn a_large_record_is_waited_for_like_many_small_ones() {
    for bytes in [1, 7, 99, 100, 101, 1000, 123_456] {
        let mut slice = Slice {
            bytes_max: 100,
            used: 0,
        };
        let waited: u64 = (0..1000).map(|_| slice.charge(bytes)).sum();
        assert_eq!(waited, 10 * bytes);
    }
}
