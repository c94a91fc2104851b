//! Collections that are deleted as a whole: one row in the log, unseen at once, swept later.

use std::collections::BTreeMap;

use super::{
    COUNT, apply, bytes, change, check_store, count, feed, fresh, key, members, open, position,
    roots,
};
use crate::model::{
    Answer, Change, Collection, Context, Effect, Place, Query, Row, RowKey, Wall, WriteOp,
};
use crate::storage::{Door, Memory, MemoryDisk, Space};

fn add(names: impl Iterator<Item = usize>) -> WriteOp {
    WriteOp::Members {
        add: names.map(|i| bytes(&format!("m{i:05}"))).collect(),
        remove: Vec::new(),
    }
}

fn clear(collection: Collection) -> WriteOp {
    WriteOp::Clear {
        collection,
        seen: Context::default(),
    }
}

fn size(door: &Door<Memory>) -> u64 {
    let query = Query::Count {
        key: key("s"),
        collection: Collection::Set,
        now: Wall(0),
    };
    let Answer::Count(count) = door.reader().answer(&query) else {
        panic!("not counted");
    };
    count
}

fn sweep(door: &mut Door<Memory>) {
    let partition = key("s").partition(COUNT);
    assert_eq!(apply(door, Change::Sweep { partition }), Effect::Done);
}

fn collect(door: &mut Door<Memory>, floor: &BTreeMap<crate::model::Actor, u64>) {
    let partition = key("s").partition(COUNT);
    let floor = floor.clone();
    apply(door, Change::Collect { partition, floor });
}

fn filled(node: u32, count: usize) -> Door<Memory> {
    let mut door = fresh(node);
    for first in (0..count).step_by(500) {
        change(&mut door, "s", add(first..count.min(first + 500)));
    }
    door
}

#[test]
fn many_members_are_cleared_by_one_entry_and_swept_by_and_by() {
    let (mut a, mut b) = (filled(1, 2000), fresh(2));
    feed(&a, &mut b);
    assert_eq!((size(&a), size(&b)), (2000, 2000));
    assert_eq!(change(&mut a, "s", clear(Collection::Set)).len(), 1);
    assert_eq!((size(&a), members(&a, "s").len()), (0, 0), "unseen at once");
    let rows = count(&a, Space::Rows, b"");
    assert_eq!(rows, 1001, "the first thousand went with it");
    check_store(&a);
    let member = key("s").with(&crate::model::Part::Member(bytes("m01999")));
    let asked = a.reader().answer(&Query::Rows(vec![member.clone()]));
    assert_eq!(asked, Answer::Rows(vec![None]));

    // A member that comes later is not covered, and one that is covered does not come back.
    let old = {
        let found = b.reader().answer(&Query::Rows(vec![member.clone()]));
        let Answer::Rows(rows) = found else {
            panic!("unreadable");
        };
        rows.into_iter().next().unwrap().unwrap()
    };
    change(&mut a, "s", add(1999..2000));
    assert_eq!(members(&a, "s"), [bytes("m01999")]);
    let repair = Change::Repair {
        key: member,
        row: old,
    };
    apply(&mut a, repair);
    assert_eq!(members(&a, "s"), [bytes("m01999")]);

    // A replica that has swept and one that has not are alike, for those who compare.
    feed(&a, &mut b);
    assert_eq!(size(&b), 1);
    sweep(&mut a);
    assert_ne!(
        count(&a, Space::Rows, b""),
        count(&b, Space::Rows, b""),
        "one has not swept yet"
    );
    assert_eq!(roots(&a), roots(&b));
    check_store(&a);
    check_store(&b);
    sweep(&mut b);
    assert_eq!(roots(&a), roots(&b));
    for door in [&mut a, &mut b] {
        assert_eq!(count(door, Space::Meta, b"S"), 0);
        assert_eq!(count(door, Space::Rows, b""), 2);
        check_store(door);
        let before = door.batch_sequence();
        sweep(door);
        assert_eq!(door.batch_sequence(), before, "nothing to do costs nothing");
    }
}

#[test]
fn a_sweep_goes_on_after_a_crash_and_a_clear_stays_until_it_is_done() {
    let disk = MemoryDisk::new();
    let (mut door, _) = open(&disk, 1);
    for first in 0..42 {
        change(&mut door, "s", add(first * 500..(first + 1) * 500));
    }
    change(&mut door, "s", clear(Collection::Set));
    drop(door);
    disk.crash(0);
    let (mut door, _) = open(&disk, 1);
    let partition = key("s").partition(COUNT);
    let floor: BTreeMap<_, _> = position(&door, partition)
        .reaches
        .iter()
        .map(|(actor, reach)| (*actor, reach.complete))
        .collect();
    for left in [20_001, 10_001, 1] {
        assert_eq!(count(&door, Space::Rows, b""), left);
        assert_eq!(size(&door), 0);
        collect(&mut door, &floor);
        if left > 1 {
            assert_eq!(
                count(&door, Space::Rows, b""),
                left,
                "the clear is still needed"
            );
            let clear = key("s").with(&crate::model::Part::Clear(Collection::Set));
            let Answer::Rows(rows) = door.reader().answer(&Query::Rows(vec![clear.clone()])) else {
                panic!("unreadable");
            };
            let expected = rows[0].as_ref().unwrap().summary().state;
            apply(
                &mut door,
                Change::Forget {
                    key: clear,
                    expected,
                },
            );
            sweep(&mut door);
        }
        check_store(&door);
    }
    sweep(&mut door);
    collect(&mut door, &floor);
    assert_eq!(count(&door, Space::Rows, b""), 0);
    assert_eq!(count(&door, Space::Meta, b"G"), 0);
    check_store(&door);
}

#[test]
fn what_a_clear_did_not_see_stays() {
    let (mut a, mut b) = (filled(1, 3), fresh(2));
    feed(&a, &mut b);
    change(&mut a, "s", clear(Collection::Set));
    change(&mut b, "s", add(1..2));
    feed(&a, &mut b);
    feed(&b, &mut a);
    assert_eq!(members(&a, "s"), [bytes("m00001")]);
    assert_eq!(members(&b, "s"), [bytes("m00001")]);
    assert_eq!(roots(&a), roots(&b));
    check_store(&a);
}

#[test]
fn clearing_nothing_writes_nothing() {
    let mut door = fresh(1);
    assert!(change(&mut door, "s", clear(Collection::Set)).is_empty());
    change(&mut door, "s", add(0..1));
    assert_eq!(change(&mut door, "s", clear(Collection::Set)).len(), 1);
    assert!(change(&mut door, "s", clear(Collection::Set)).is_empty());
    assert!(change(&mut door, "s", clear(Collection::Map)).is_empty());
    // Unless somebody else is known to have had something.
    let elsewhere = crate::model::Dot {
        actor: fresh(2).actor,
        n: 3,
    };
    let op = WriteOp::Clear {
        collection: Collection::Set,
        seen: [elsewhere].into_iter().collect(),
    };
    assert_eq!(change(&mut door, "s", op.clone()).len(), 1);
    let mut other = fresh(2);
    change(&mut other, "s", add(0..3));
    feed(&other, &mut door);
    assert!(members(&door, "s").is_empty());
    check_store(&door);
}

#[test]
fn a_cleared_map_resets_its_counters() {
    let (mut a, mut b) = (fresh(1), fresh(2));
    let fields = WriteOp::Fields {
        put: vec![(bytes("r"), bytes("v"))],
        add: vec![(bytes("c"), 2), (bytes("d"), 3)],
        remove: Vec::new(),
        id: None,
    };
    change(&mut a, "m", fields.clone());
    feed(&a, &mut b);
    change(&mut b, "m", fields);
    feed(&b, &mut a);
    let items = change(&mut a, "m", clear(Collection::Map));
    assert_eq!(items.len(), 5, "the clear, and four shares");
    let add = WriteOp::Add {
        place: Place::Field(bytes("c")),
        delta: 1,
        id: None,
    };
    change(&mut b, "m", add);
    feed(&a, &mut b);
    feed(&b, &mut a);
    for door in [&a, &b] {
        let rows: Vec<(RowKey, Row)> = super::page(door, "m", Collection::Map);
        let fields = crate::model::fields(&rows, Wall(0));
        assert_eq!(fields, [(bytes("c"), crate::model::FieldValue::Counter(1))]);
        check_store(door);
    }
    assert_eq!(roots(&a), roots(&b));
}
