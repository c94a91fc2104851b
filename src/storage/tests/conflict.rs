//! Versions that lost to concurrent ones: counted once, at the node that wrote them, and kept if asked.

use std::collections::BTreeMap;

use super::{
    COUNT, SPACE, apply, check_store, delete, feed, fresh, key, options, piece, position, put,
    value,
};
use crate::model::{Answer, Change, Duration, Effect, LogItem, NodeId, Part, Query, Row, Wanted};
use crate::storage::{Door, Memory, MemoryDisk, OpenOptions};

fn keeping(node: u32) -> Door<Memory> {
    let options = OpenOptions {
        conflicts_kept: BTreeMap::from([(SPACE, Duration::from_secs(60))]),
        ..options(node)
    };
    Door::open(MemoryDisk::new().engine(), options).unwrap().0
}

/// A key of another partition: writing it moves the clock on.
fn elsewhere() -> String {
    let mut names = (0..).map(|i: u32| format!("e{i}"));
    let is_other = |name: &String| key(name).partition(COUNT) != key("k").partition(COUNT);
    names.find(is_other).unwrap()
}

struct Told {
    newer: usize,
    crossed: Vec<u64>,
    written: Vec<LogItem>,
    lost: BTreeMap<NodeId, u64>,
}

fn give(from: &Door<Memory>, to: &mut Door<Memory>) -> Told {
    let partition = key("k").partition(COUNT);
    let change = piece(from, to, partition, from.actor).unwrap();
    let effect = apply(to, change);
    let Effect::Appended {
        newer,
        crossed,
        written,
        lost,
        ..
    } = effect
    else {
        panic!("not appended: {effect:?}");
    };
    Told {
        newer: newer.len(),
        crossed,
        written,
        lost,
    }
}

#[test]
fn a_lost_version_is_counted_and_kept_where_it_was_written() {
    let (mut a, mut b) = (keeping(1), keeping(2));
    apply(&mut a, put("k", "loser"));
    apply(&mut b, put(&elsewhere(), "x"));
    apply(&mut b, put("k", "winner"));
    let told = give(&a, &mut b);
    assert_eq!((told.newer, told.crossed, told.lost.len()), (1, vec![1], 0));
    let told = give(&b, &mut a);
    assert_eq!((told.newer, told.crossed), (0, vec![1]));
    assert_eq!(told.lost, BTreeMap::from([(NodeId(2), 1)]));
    assert_eq!(told.written.len(), 1);
    assert_eq!(told.written[0].n, 2);
    let partition = key("k").partition(COUNT);
    assert_eq!(position(&a, partition).reach(a.actor).complete, 2);
    feed(&a, &mut b);
    feed(&b, &mut a);
    assert_eq!(super::roots(&a), super::roots(&b));
    for door in [&a, &b] {
        let scan = |wanted| {
            let query = Query::Scan {
                partition,
                wanted,
                after: None,
                rows_max: 9,
                bytes_max: 999,
            };
            let Answer::Scan { rows, .. } = door.reader().answer(&query) else {
                panic!("unreadable");
            };
            rows
        };
        let values = scan(Wanted::Values);
        assert_eq!(values.len(), 1);
        assert_eq!(values[0].0, key("k"));
        let conflicts = scan(Wanted::Conflicts);
        assert_eq!(conflicts.len(), 1);
        let (name, Row::Conflict(conflict)) = &conflicts[0] else {
            panic!("no conflict");
        };
        let loser = conflict.loser.as_ref().unwrap();
        assert_eq!(name.part(), Some(Part::Conflict(loser.dot)));
        assert_eq!(loser.value.as_deref(), Some(&b"loser"[..]));
        check_store(door);
    }
    assert_eq!(value(&a, "k").as_deref(), Some(&b"winner"[..]));
}

#[test]
fn a_version_that_was_seen_or_is_of_another_node_is_not_lost() {
    let (mut a, mut b, mut c) = (keeping(1), keeping(2), keeping(3));
    apply(&mut a, put("k", "seen"));
    feed(&a, &mut b);
    feed(&a, &mut c);
    apply(&mut b, put("k", "after"));
    let told = give(&b, &mut a);
    assert_eq!(
        (told.crossed.len(), told.lost.len(), told.written.len()),
        (0, 0, 0)
    );
    apply(&mut a, delete("k"));
    apply(&mut c, put("k", "beside"));
    apply(&mut c, put("k", "later"));
    feed(&a, &mut b);
    let told = give(&c, &mut b);
    assert_eq!(
        (told.crossed, told.lost.len()),
        (vec![2], 0),
        "not b's version"
    );
    let told = give(&c, &mut a);
    assert_eq!(
        told.lost,
        BTreeMap::from([(NodeId(3), 1)]),
        "deletes lose too"
    );
}

#[test]
fn without_a_wish_conflicts_are_only_counted_also_by_repair() {
    let (mut a, mut b) = (fresh(1), fresh(2));
    apply(&mut a, put("k", "loser"));
    apply(&mut b, put(&elsewhere(), "x"));
    let winner = super::written(apply(&mut b, put("k", "winner")));
    let repair = Change::Repair {
        key: winner.key,
        row: winner.row,
    };
    let Effect::Repaired { written, lost, .. } = apply(&mut a, repair) else {
        panic!("not repaired");
    };
    assert_eq!((written.len(), lost), (0, BTreeMap::from([(NodeId(2), 1)])));
    let told = give(&b, &mut a);
    assert_eq!(told.lost.len(), 0, "counted once");
}
