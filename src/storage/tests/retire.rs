//! Actors that are retired, partitions that are fenced, and tombstones of siblings.

use std::collections::BTreeMap;

use super::{
    COUNT, apply, bytes, change, check_store, count, delete, feed, fresh, key, log_page, names,
    open, options, piece, position, put, roots, row, value,
};
use crate::model::{Change, Effect, Position, Reach, WriteOp};
use crate::storage::{Door, Memory, MemoryDisk, OpenOptions, Space};

#[test]
fn a_retired_actor_is_not_counted_any_more() {
    let partition = key("k").partition(COUNT);
    let (disk, own) = (MemoryDisk::new(), MemoryDisk::new());
    let (mut old, _) = open(&own, 1);
    apply(&mut old, put("k", "v"));
    let dead = old.actor;
    let (mut b, _) = open(&disk, 2);
    let late = piece(&old, &b, partition, dead).unwrap();
    feed(&old, &mut b);
    drop(old);
    let (mut a, _) = open(&own, 1);
    let retire = |upto| Change::Retire {
        partition,
        node: dead.node,
        upto,
    };
    for door in [&mut a, &mut b] {
        apply(door, retire(dead.incarnation));
        let position = position(door, partition);
        assert_eq!(position.reaches.get(&dead), None);
        assert_eq!(position.reach(dead), Reach::ALL);
        apply(door, Change::Sweep { partition });
        assert_eq!(count(door, Space::Log, b""), 0);
        let page = log_page(door, partition, dead, 0);
        assert_eq!((page.trimmed, page.items.len()), (u64::MAX, 0));
        check_store(door);
    }
    let living = retire(a.actor.incarnation);
    let effect = apply(&mut a, living);
    assert!(matches!(effect, Effect::Refused { .. }), "it lives");
    let effect = apply(&mut b, late);
    assert!(
        matches!(
            effect,
            Effect::Appended {
                reach: Reach::ALL,
                ..
            }
        ),
        "{effect:?}"
    );
    apply(&mut a, put("k", "w"));
    feed(&a, &mut b);
    assert_eq!(value(&b, "k"), Some(bytes("w")));
    let before = position(&b, partition);
    drop(b);
    disk.crash(0);
    let (b, opened) = open(&disk, 2);
    assert_eq!(position(&b, partition), before);
    let known = opened
        .partitions
        .iter()
        .find(|known| known.partition == partition);
    assert_eq!(known.unwrap().position, before);
    check_store(&b);
}

#[test]
fn a_raise_brings_what_is_retired() {
    let partition = key("k").partition(COUNT);
    let (mut a, mut b) = (fresh(1), fresh(2));
    apply(&mut a, put("k", "v"));
    feed(&a, &mut b);
    let mut theirs = Position::default();
    theirs.retire(a.actor.node, a.actor.incarnation);
    theirs.retire(b.actor.node, b.actor.incarnation);
    apply(
        &mut b,
        Change::Raise {
            partition,
            position: theirs,
        },
    );
    assert_eq!(position(&b, partition).reach(a.actor), Reach::ALL);
    assert_eq!(
        position(&b, partition).reach(b.actor),
        Reach::default(),
        "itself lives"
    );
    apply(&mut b, Change::Sweep { partition });
    assert_eq!(count(&b, Space::Log, b""), 0);
    apply(&mut b, delete("k"));
    check_store(&b);
}

/// A store that sweeps one row at a time, and looks at ten graves.
fn slow(disk: &MemoryDisk, node: u32) -> Door<Memory> {
    let options = OpenOptions {
        sweep_rows: 1,
        ..options(node)
    };
    Door::open(disk.engine(), options).unwrap().0
}

#[test]
fn a_life_is_retired_at_once_and_its_log_swept_by_and_by() {
    let (disk, partition) = (MemoryDisk::new(), key("k").partition(COUNT));
    let mut a = fresh(1);
    for name in names(partition).take(3) {
        apply(&mut a, put(&name, "v"));
    }
    let mut b = slow(&disk, 2);
    feed(&a, &mut b);
    let retire = Change::Retire {
        partition,
        node: a.actor.node,
        upto: a.actor.incarnation,
    };
    apply(&mut b, retire);
    drop(b);
    disk.crash(0);
    let mut b = slow(&disk, 2);
    assert_eq!(position(&b, partition).reach(a.actor), Reach::ALL);
    for left in [2, 1, 0] {
        let effect = apply(&mut b, Change::Sweep { partition });
        assert!(matches!(effect, Effect::Swept { has_more: true, .. }));
        assert_eq!(count(&b, Space::Log, b""), left);
    }
    let effect = apply(&mut b, Change::Sweep { partition });
    assert!(matches!(
        effect,
        Effect::Swept {
            has_more: false,
            ..
        }
    ));
    check_store(&b);
}

#[test]
fn graves_that_may_not_go_hide_none_behind_them() {
    let (disk, partition) = (MemoryDisk::new(), key("k").partition(COUNT));
    let mut a = slow(&disk, 1);
    let unknown = crate::model::Dot {
        actor: fresh(2).actor,
        n: 5,
    };
    let seen: crate::model::Context = [unknown].into_iter().collect();
    let all: Vec<String> = names(partition).take(21).collect();
    for name in &all[..20] {
        let seen = Some(seen.clone());
        change(&mut a, name, WriteOp::DeleteSiblings { seen });
    }
    let value = bytes("v");
    change(&mut a, &all[20], WriteOp::PutSibling { value, seen: None });
    change(&mut a, &all[20], WriteOp::DeleteSiblings { seen: None });
    let graves = count(&a, Space::Meta, b"G");
    let floor = BTreeMap::from([(a.actor, 100)]);
    for _ in 0..4 {
        let floor = floor.clone();
        apply(&mut a, Change::Collect { partition, floor });
    }
    assert_eq!(count(&a, Space::Meta, b"G"), graves - 1);
}

#[test]
fn tombstones_of_the_retired_are_collected_one_round_later() {
    let partition = key("k").partition(COUNT);
    let (mut a, mut b) = (fresh(1), fresh(2));
    apply(&mut a, put("k", "v"));
    apply(&mut a, delete("k"));
    feed(&a, &mut b);
    let retire = Change::Retire {
        partition,
        node: a.actor.node,
        upto: a.actor.incarnation,
    };
    apply(&mut b, retire);
    for left in [1, 0] {
        let floor = BTreeMap::new();
        apply(&mut b, Change::Collect { partition, floor });
        assert_eq!(count(&b, Space::Meta, b"G"), left);
    }
    assert_eq!(row(&b, "k"), None);
    check_store(&b);
}

#[test]
fn a_fence_is_durable() {
    let disk = MemoryDisk::new();
    let partition = key("k").partition(COUNT);
    let (mut door, _) = open(&disk, 1);
    apply(&mut door, Change::Serve { partition });
    apply(&mut door, Change::Fence { partition });
    drop(door);
    disk.crash(0);
    let (_, opened) = open(&disk, 1);
    assert!(opened.partitions.iter().all(|known| !known.is_serving));
}

#[test]
fn a_tombstone_of_siblings_waits_for_all_that_it_saw_and_contexts_shrink() {
    let partition = key("k").partition(COUNT);
    let (mut a, mut b) = (fresh(1), fresh(2));
    let (one, two) = (a.actor, b.actor);
    let put = |value: &str| WriteOp::PutSibling {
        value: bytes(value),
        seen: None,
    };
    change(&mut a, "k", put("a"));
    change(&mut b, "k", put("b"));
    feed(&a, &mut b);
    change(&mut b, "k", WriteOp::DeleteSiblings { seen: None });
    let collect = |floor: &[(crate::model::Actor, u64)]| Change::Collect {
        partition,
        floor: floor.iter().copied().collect(),
    };
    apply(&mut b, collect(&[(two, 2)]));
    assert!(row(&b, "k").is_some(), "a's version may still come");
    feed(&b, &mut a);
    change(&mut a, "k", put("again"));
    let Some(crate::model::Row::Siblings(known)) = row(&a, "k") else {
        panic!("absent");
    };
    assert_eq!(known.context().len(), 2);
    apply(&mut a, collect(&[(one, 2), (two, 2)]));
    let seen = Some(known.context());
    change(
        &mut a,
        "k",
        WriteOp::PutSibling {
            value: bytes("new"),
            seen: seen.filter(|_| false),
        },
    );
    let Some(crate::model::Row::Siblings(known)) = row(&a, "k") else {
        panic!("absent");
    };
    assert_eq!(known.context().len(), 1, "b's part of it is everywhere");
    apply(&mut b, collect(&[(one, 1), (two, 2)]));
    assert_eq!(row(&b, "k"), None);
    feed(&a, &mut b);
    assert_eq!(roots(&a), roots(&b));
    check_store(&a);
    check_store(&b);
}
