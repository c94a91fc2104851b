//! Values that expire: at a cut that all replicas agree on, and for good.

use std::collections::BTreeMap;

use super::{
    COUNT, WALL, apply, bytes, check_store, count, feed, fresh, key, open, put, roots, row, value,
    written,
};
use crate::model::{Change, Effect, LogItem, PartitionId, Row, RowKey, Wall, Write, WriteOp};
use crate::storage::{Door, Memory, MemoryDisk, Space};

fn brief(name: &str, micros: u64) -> Change {
    Change::Write(Write {
        expires: Some(Wall(WALL.0 + micros)),
        ..Write::new(key(name), WriteOp::Put(bytes("v")))
    })
}

fn partition() -> PartitionId {
    key("k").partition(COUNT)
}

/// Expires at a later time.
fn expire(door: &mut Door<Memory>, micros: u64) -> Vec<LogItem> {
    let now = Wall(WALL.0 + micros);
    let partition = partition();
    let effects = door
        .stage(Wall(now.0 + 1), &[Change::Expire { partition, now }])
        .unwrap();
    door.commit().unwrap();
    let effect = effects.into_iter().next().unwrap();
    if effect == Effect::Done {
        return Vec::new();
    }
    let Effect::Written { items, .. } = effect else {
        panic!("not written: {effect:?}");
    };
    items
}

#[test]
fn replicas_with_the_same_log_agree_before_and_after_the_cut() {
    let (mut a, mut b) = (fresh(1), fresh(2));
    let early = written(apply(&mut a, put("k", "old")));
    apply(&mut a, brief("k", 100));
    feed(&a, &mut b);
    assert_eq!(roots(&a), roots(&b));
    assert!(expire(&mut a, 99).is_empty(), "nothing is due");
    let items = expire(&mut a, 150);
    assert_eq!(items.len(), 1);
    assert_eq!(items[0].key, RowKey::of_expiry(partition(), COUNT));
    assert_eq!(value(&a, "k"), None);
    assert!(row(&a, "k").unwrap().is_tombstone());
    assert_ne!(roots(&a), roots(&b));
    feed(&a, &mut b);
    assert_eq!(roots(&a), roots(&b));
    assert!(expire(&mut b, 150).is_empty());
    // What it replaced does not come back.
    let repair = Change::Repair {
        key: key("k"),
        row: early.row,
    };
    apply(&mut b, repair);
    assert_eq!(value(&b, "k"), None);
    check_store(&a);
    check_store(&b);
    let floor = BTreeMap::from([(a.actor, 9)]);
    let partition = partition();
    for door in [&mut a, &mut b] {
        let floor = floor.clone();
        apply(door, Change::Collect { partition, floor });
        assert_eq!(row(door, "k"), None, "it is collected as any tombstone");
        assert_eq!(count(door, Space::Rows, b""), 1, "the cut stays");
        check_store(door);
    }
    assert_eq!(roots(&a), roots(&b));
}

#[test]
fn what_comes_after_the_cut_and_has_expired_is_stored_as_gone() {
    let (mut a, mut b) = (fresh(1), fresh(2));
    apply(&mut a, brief("k", 50));
    let held = super::piece(&a, &b, partition(), a.actor).unwrap();
    apply(&mut b, brief("k", 60));
    expire(&mut b, 100);
    apply(&mut b, held);
    assert_eq!(value(&b, "k"), None);
    check_store(&b);
    feed(&b, &mut a);
    assert_eq!(roots(&a), roots(&b));
    check_store(&a);
    // The same change, with its value and without, is no forgery.
    let mut c = fresh(3);
    feed(&b, &mut c);
    feed(&a, &mut c);
    assert_eq!(roots(&c), roots(&b));
}

#[test]
fn a_cut_survives_a_crash_and_moves_some_rows_at_a_time() {
    let disk = MemoryDisk::new();
    let (mut door, _) = open(&disk, 1);
    let names = (0..).map(|i: u32| format!("n{i}"));
    let names = names.filter(|name| key(name).partition(COUNT) == partition());
    let changes: Vec<Change> = (0u64..5000)
        .zip(names)
        .map(|(i, name)| brief(&name, i + 1))
        .collect();
    door.stage(WALL, &changes).unwrap();
    door.commit().unwrap();
    let upto = |items: Vec<LogItem>| {
        let Row::Expiry(expiry) = items[0].row else {
            panic!("no cut");
        };
        expiry.upto.0 - WALL.0
    };
    assert_eq!(upto(expire(&mut door, 10_000)), 4096);
    drop(door);
    disk.crash(0);
    let (mut door, _) = open(&disk, 1);
    assert_eq!(door.cut(partition()), Wall(WALL.0 + 4096));
    check_store(&door);
    assert_eq!(upto(expire(&mut door, 10_000)), 10_000);
    assert!(expire(&mut door, 20_000).is_empty());
    assert_eq!(count(&door, Space::Meta, b"X"), 0);
    assert_eq!(count(&door, Space::Meta, b"G"), 5000);
    check_store(&door);
}

#[test]
fn without_expiry_nothing_is_noted() {
    let mut door = fresh(1);
    apply(&mut door, put("k", "v"));
    let before = door.batch_sequence();
    assert!(expire(&mut door, 1_000_000).is_empty());
    assert_eq!(door.batch_sequence(), before, "nothing was committed");
    assert_eq!(count(&door, Space::Meta, b"X"), 0);
}

#[test]
fn a_cut_ahead_of_its_own_timestamp_is_refused() {
    let mut door = fresh(1);
    let mut other = fresh(2);
    apply(&mut other, brief("k", 1));
    let mut item = expire(&mut other, 100).remove(0);
    let Row::Expiry(expiry) = &mut item.row else {
        panic!("no cut");
    };
    expiry.upto = Wall(expiry.stamp.timestamp.micros + 1);
    let repair = Change::Repair {
        key: item.key,
        row: item.row,
    };
    let effect = apply(&mut door, repair);
    assert!(matches!(effect, Effect::Refused { .. }), "{effect:?}");
    assert_eq!(door.cut(partition()), Wall(0));
}
