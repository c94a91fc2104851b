//! Writes of every kind at one door: what they stage, and what they do not.

use std::collections::BTreeMap;

use super::{
    COUNT, WALL, apply, bytes, change, check_store, count, counter, delete, feed, fresh, key,
    members, open, options, page, piece, position, put, row, value, write, written,
};
use crate::model::{
    Actor, Change, Collection, Condition, Context, Denial, Dot, Effect, FieldValue, Limits, NodeId,
    OpId, Part, Place, RegionId, Row, Session, Siblings, Timestamp, Wall, Write, WriteOp,
};
use crate::storage::{Door, Memory, MemoryDisk, OpenOptions, Space};

fn add(delta: i64, id: Option<u128>) -> WriteOp {
    WriteOp::Add {
        place: Place::Key,
        delta,
        id: id.map(OpId),
    }
}

fn sibling(value: &str, seen: Option<Context>) -> WriteOp {
    WriteOp::PutSibling {
        value: bytes(value),
        seen,
    }
}

fn siblings(door: &Door<Memory>, name: &str) -> Siblings {
    match row(door, name) {
        Some(Row::Siblings(row)) => row,
        row => panic!("no siblings: {row:?}"),
    }
}

fn numbers(effect: &[crate::model::LogItem]) -> Vec<u64> {
    effect.iter().map(|item| item.n).collect()
}

#[test]
fn siblings_stand_side_by_side_until_they_were_seen() {
    let mut door = fresh(1);
    change(&mut door, "k", sibling("a", None));
    change(&mut door, "k", sibling("b", None));
    assert_eq!(siblings(&door, "k").versions().len(), 2);
    let seen = siblings(&door, "k").context();
    change(&mut door, "k", sibling("c", Some(seen.clone())));
    assert_eq!(siblings(&door, "k").versions().len(), 1);
    let delete = WriteOp::DeleteSiblings {
        seen: Some(seen.clone()),
    };
    assert!(
        change(&mut door, "k", delete).is_empty(),
        "what was seen is gone"
    );
    let delete = WriteOp::DeleteSiblings { seen: None };
    assert_eq!(change(&mut door, "k", delete.clone()).len(), 1);
    assert!(row(&door, "k").unwrap().is_tombstone());
    assert!(change(&mut door, "k", delete).is_empty());
    // A delete of what has not come here yet must be here before it.
    let mut other = fresh(2);
    let item = change(&mut other, "k", sibling("d", None));
    let delete = WriteOp::DeleteSiblings {
        seen: Some(item[0].row.dots().into_iter().collect()),
    };
    assert_eq!(change(&mut door, "k", delete).len(), 1);
    feed(&other, &mut door);
    assert!(row(&door, "k").unwrap().is_tombstone());
    check_store(&door);
}

#[test]
fn a_version_that_came_back_with_an_old_disk_goes_when_others_recall_it() {
    let (mut old, mut other) = (fresh(1), fresh(2));
    change(&mut old, "k", sibling("gone", None));
    let gone = siblings(&old, "k").versions()[0].dot;
    // Elsewhere it was seen, replaced, collected and so forgotten.
    change(&mut other, "k", sibling("new", None));
    let mut known = row(&other, "k").unwrap();
    let partition = key("k").partition(COUNT);
    let floor = [(old.actor, 1), (other.actor, 1)].into();
    let repair = |door: &mut Door<Memory>, row: &Row| {
        let change = Change::Repair {
            key: key("k"),
            row: row.clone(),
        };
        apply(door, change);
        siblings(door, "k").versions().len()
    };
    assert_eq!(repair(&mut old, &known), 2);
    let raise = Change::Raise {
        partition,
        position: position(&other, partition),
    };
    apply(&mut old, raise);
    apply(&mut old, Change::Collect { partition, floor });
    known.recall(&[gone]);
    assert_eq!(repair(&mut old, &known), 1);
    check_store(&old);
}

#[test]
fn too_many_siblings_are_denied_but_merges_never_are() {
    let limits = Limits {
        siblings_max: 2,
        ..Limits::default()
    };
    let options = OpenOptions {
        limits,
        ..options(1)
    };
    let mut door = Door::open(MemoryDisk::new().engine(), options).unwrap().0;
    change(&mut door, "k", sibling("a", None));
    change(&mut door, "k", sibling("b", None));
    let denied = Effect::Denied(Denial::Siblings);
    assert_eq!(write(&mut door, "k", sibling("c", None)), denied);
    let mut other = fresh(2);
    change(&mut other, "k", sibling("d", None));
    change(&mut other, "k", sibling("e", None));
    feed(&other, &mut door);
    let all = siblings(&door, "k");
    assert_eq!(all.versions().len(), 4);
    // A write that makes it better passes, though it is still too much.
    let seen = [all.versions()[0].dot].into_iter().collect();
    change(&mut door, "k", sibling("f", Some(seen)));
    assert_eq!(siblings(&door, "k").versions().len(), 4);
    check_store(&door);
}

#[test]
fn siblings_do_not_grow_beyond_what_a_message_carries() {
    let mut door = fresh(1);
    let large = |megabytes: usize| "v".repeat(megabytes << 20);
    let put = |door: &mut Door<Memory>, value: &str, seen: &[Dot]| {
        let seen = seen.iter().copied().collect();
        let effect = write(door, "k", sibling(value, Some(seen)));
        if let Effect::Denied(denial) = effect {
            return Err(denial);
        }
        Ok(written(effect).row.stamp().dot)
    };
    door.limits.value_bytes_max = 16 << 20;
    let small = put(&mut door, "small", &[]).unwrap();
    let other = put(&mut door, "other", &[]).unwrap();
    // There are not more of them, but they would be too large beside each other.
    let denied = Err(Denial::Siblings);
    assert_eq!(put(&mut door, &large(3), &[small]), denied);
    assert_eq!(siblings(&door, "k").versions().len(), 2);
    // Alone a value may be as large as any.
    let alone = put(&mut door, &large(3), &[small, other]).unwrap();
    assert_eq!(put(&mut door, "beside", &[]), denied);

    // What has grown by merging may shrink, and not grow.
    let mut elsewhere = fresh(2);
    change(&mut elsewhere, "k", sibling(&large(1), None));
    feed(&elsewhere, &mut door);
    assert_eq!(siblings(&door, "k").versions().len(), 2);
    assert_eq!(put(&mut door, &large(4), &[alone]), denied);
    let less = put(&mut door, &large(2), &[alone]).unwrap();
    assert_eq!(put(&mut door, &large(3), &[less]), denied);
    let all = siblings(&door, "k").context();
    change(&mut door, "k", sibling("resolved", Some(all)));
    assert_eq!(siblings(&door, "k").versions().len(), 1);
    check_store(&door);
}

#[test]
fn a_context_cannot_claim_what_this_node_will_write() {
    let mut door = fresh(1);
    let future = Dot {
        actor: door.actor,
        n: u64::MAX,
    };
    let seen = [future].into_iter().collect();
    change(&mut door, "k", sibling("a", Some(seen)));
    let mut other = fresh(2);
    feed(&door, &mut other);
    assert_eq!(siblings(&other, "k").versions().len(), 1);
}

#[test]
fn a_counter_counts_every_change_and_an_id_once() {
    let mut door = fresh(1);
    assert_eq!(counter(&door, "c"), None);
    change(&mut door, "c", add(5, None));
    change(&mut door, "c", add(-2, None));
    let items = change(&mut door, "c", add(10, Some(7)));
    assert_eq!(numbers(&items), [3, 4]);
    assert!(matches!(items[0].row, Row::Once(_)) && matches!(items[1].row, Row::Share(_)));
    assert!(change(&mut door, "c", add(10, Some(7))).is_empty());
    assert_eq!(counter(&door, "c"), Some(13));
    assert_eq!(
        change(&mut door, "c", WriteOp::Reset { place: Place::Key }).len(),
        1
    );
    assert_eq!(counter(&door, "c"), None);
    assert!(change(&mut door, "c", WriteOp::Reset { place: Place::Key }).is_empty());
    change(&mut door, "c", add(i64::MAX, None));
    assert_eq!(counter(&door, "c"), Some(i128::from(i64::MAX)));
    let before = position(&door, key("c").partition(COUNT));
    let denied = Effect::Denied(Denial::CounterRange);
    assert_eq!(write(&mut door, "c", add(1, Some(9))), denied);
    assert_eq!(
        position(&door, key("c").partition(COUNT)),
        before,
        "nothing was staged"
    );
    change(&mut door, "c", add(-1, Some(9)));
    check_store(&door);
}

#[test]
fn an_id_that_two_nodes_applied_counts_once_when_they_meet() {
    let (mut a, mut b) = (fresh(1), fresh(2));
    change(&mut a, "c", add(3, None));
    change(&mut a, "c", add(5, Some(1)));
    change(&mut b, "c", add(5, Some(1)));
    feed(&a, &mut b);
    feed(&b, &mut a);
    assert_eq!((counter(&a, "c"), counter(&b, "c")), (Some(8), Some(8)));
    assert_eq!(count(&a, Space::Meta, b"R"), 1);
    change(&mut a, "c", WriteOp::Reset { place: Place::Key });
    change(&mut b, "c", add(1, None));
    feed(&a, &mut b);
    feed(&b, &mut a);
    assert_eq!((counter(&a, "c"), counter(&b, "c")), (Some(1), Some(1)));
    // Shares that such an operation hangs on stay.
    let partition = key("c").partition(COUNT);
    let floor = BTreeMap::from([(a.actor, 99), (b.actor, 99)]);
    apply(&mut a, Change::Collect { partition, floor });
    assert_eq!(counter(&a, "c"), Some(1));
    check_store(&a);
    check_store(&b);
}

#[test]
fn members_are_added_and_removed_in_one_write() {
    let mut door = fresh(1);
    let op = |add: &[&str], remove: &[&str]| WriteOp::Members {
        add: add.iter().map(|name| bytes(name)).collect(),
        remove: remove.iter().map(|name| bytes(name)).collect(),
    };
    let items = change(&mut door, "s", op(&["b", "a", "b"], &["a", "x"]));
    assert_eq!(numbers(&items), [1, 2]);
    assert_eq!(members(&door, "s"), ["a", "b"]);
    assert_eq!(change(&mut door, "s", op(&["c"], &["a"])).len(), 2);
    assert_eq!(members(&door, "s"), ["b", "c"]);
    assert!(change(&mut door, "s", op(&[], &["a", "x"])).is_empty());
    let denied = |op| matches!(write(&mut fresh(3), "s", op), Effect::Denied(Denial::Size));
    assert!(denied(op(&[""], &[])));
    assert!(denied(op(&[], &[&"m".repeat((8 << 10) + 1)])));
    let many: Vec<String> = (0..1025).map(|i| i.to_string()).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert_eq!(
        write(&mut door, "s", op(&many, &[])),
        Effect::Denied(Denial::Parts)
    );
    assert_eq!(change(&mut door, "s", op(&many[..1024], &[])).len(), 1024);
    check_store(&door);
}

/// What another has removed may be here alone, so that whoever removes it once more, with other things, tells it, too
/// (simulator, seed 15001300).
#[test]
fn what_another_has_removed_is_removed_once_more() {
    let (mut a, mut b) = (fresh(1), fresh(2));
    let op = |add: &[&str], remove: &[&str]| WriteOp::Members {
        add: add.iter().map(|name| bytes(name)).collect(),
        remove: remove.iter().map(|name| bytes(name)).collect(),
    };
    let reset = || WriteOp::Reset { place: Place::Key };
    change(&mut a, "s", op(&["a", "b"], &[]));
    change(&mut a, "c", add(5, None));
    feed(&a, &mut b);
    change(&mut a, "s", op(&[], &["a"]));
    change(&mut a, "c", reset());
    feed(&a, &mut b);
    assert_eq!(change(&mut b, "s", op(&[], &["a", "b"])).len(), 2);
    assert_eq!(change(&mut b, "c", reset()).len(), 1);
    assert_eq!(change(&mut b, "s", op(&[], &["a", "b"])).len(), 0, "told");
    assert_eq!(change(&mut b, "c", reset()).len(), 0, "told");
    feed(&b, &mut a);
    assert_eq!((members(&a, "s").len(), counter(&a, "c")), (0, None));
    check_store(&a);
    check_store(&b);
}

#[test]
fn an_add_wins_over_a_remove_that_did_not_see_it() {
    let (mut a, mut b) = (fresh(1), fresh(2));
    let add = WriteOp::Members {
        add: vec![bytes("m")],
        remove: Vec::new(),
    };
    let remove = WriteOp::Members {
        add: Vec::new(),
        remove: vec![bytes("m")],
    };
    change(&mut a, "s", add.clone());
    feed(&a, &mut b);
    change(&mut a, "s", add);
    change(&mut b, "s", remove);
    feed(&a, &mut b);
    feed(&b, &mut a);
    assert_eq!(
        (members(&a, "s"), members(&b, "s")),
        (vec![bytes("m")], vec![bytes("m")])
    );
}

/// Gives the receiver one actor's log.
fn feed_log(sender: &Door<Memory>, receiver: &mut Door<Memory>, actor: Actor) {
    let partition = key("n").partition(COUNT);
    let change = piece(sender, receiver, partition, actor).unwrap();
    let effect = apply(receiver, change);
    assert!(matches!(effect, Effect::Appended { .. }), "{effect:?}");
}

#[test]
fn a_reset_that_overtakes_a_log_brings_no_increments_without_their_ids() {
    let (mut a, mut b, mut c) = (fresh(1), fresh(2), fresh(3));
    change(&mut a, "n", add(1, None));
    feed(&a, &mut b);
    change(&mut b, "n", WriteOp::Reset { place: Place::Key });
    feed(&b, &mut a);
    change(&mut a, "n", add(7, Some(1)));
    feed(&a, &mut b);
    feed_log(&b, &mut c, b.actor);
    assert_eq!(counter(&c, "n"), None);
    check_store(&c);
    feed_log(&b, &mut c, a.actor);
    assert_eq!(counter(&c, "n"), Some(7));
    assert_eq!(change(&mut c, "n", add(7, Some(1))).len(), 0);
}

#[test]
fn an_id_whose_share_is_not_here_is_applied_here() {
    let (mut a, mut b) = (fresh(1), fresh(2));
    let items = change(&mut a, "n", add(7, Some(1)));
    let (key, row) = (items[0].key.clone(), items[0].row.clone());
    assert!(matches!(row, Row::Once(_)));
    apply(&mut b, Change::Repair { key, row });
    assert_eq!(change(&mut b, "n", add(7, Some(1))).len(), 2);
    assert_eq!(counter(&b, "n"), Some(7));
    feed(&a, &mut b);
    assert_eq!(counter(&b, "n"), Some(7));
    assert_eq!(change(&mut b, "n", add(7, Some(1))).len(), 0);
    check_store(&b);
}

#[test]
fn fields_are_registers_and_counters() {
    let mut door = fresh(1);
    let op = |put: &[(&str, &str)], add: &[(&str, i64)], remove: &[&str]| WriteOp::Fields {
        put: put
            .iter()
            .map(|(name, value)| (bytes(name), bytes(value)))
            .collect(),
        add: add
            .iter()
            .map(|(name, delta)| (bytes(name), *delta))
            .collect(),
        remove: remove.iter().map(|name| bytes(name)).collect(),
        id: Some(OpId(4)),
    };
    let fields =
        |door: &Door<Memory>| crate::model::fields(&page(door, "m", Collection::Map), WALL);
    let first = op(
        &[("r", "1"), ("r", "2")],
        &[("c", 1), ("c", 2), ("d", 5)],
        &[],
    );
    assert_eq!(change(&mut door, "m", first.clone()).len(), 5);
    let expected = vec![
        (bytes("c"), FieldValue::Counter(3)),
        (bytes("d"), FieldValue::Counter(5)),
        (bytes("r"), FieldValue::Register(bytes("2"))),
    ];
    assert_eq!(fields(&door), expected);
    change(&mut door, "m", first);
    assert_eq!(fields(&door), expected, "an id counts once");
    assert_eq!(
        change(&mut door, "m", op(&[], &[], &["c", "r", "x"])).len(),
        2
    );
    assert_eq!(fields(&door), expected[1..2]);
    check_store(&door);
}

#[test]
fn a_condition_is_looked_at_in_the_same_moment() {
    let mut door = fresh(1);
    let put_if = |value: &str, condition| {
        Change::Write(Write {
            condition: Some(condition),
            ..Write::new(key("k"), WriteOp::Put(bytes(value)))
        })
    };
    let effects = door
        .stage(
            WALL,
            &[
                put_if("1", Condition::Absent),
                put_if("2", Condition::Absent),
            ],
        )
        .unwrap();
    assert!(matches!(effects[0], Effect::Written { .. }));
    door.commit().unwrap();
    let now = row(&door, "k").unwrap().summary();
    assert_eq!(
        effects[1],
        Effect::Denied(Denial::Condition(Some(now.clone())))
    );
    let state = Condition::State(now.state);
    assert!(matches!(
        apply(&mut door, put_if("3", state)),
        Effect::Written { .. }
    ));
    assert!(matches!(
        apply(&mut door, put_if("4", state)),
        Effect::Denied(_)
    ));
    assert_eq!(value(&door, "k"), Some(bytes("3")));
    apply(&mut door, delete("k"));
    let gone = row(&door, "k").unwrap().summary().state;
    assert!(matches!(
        apply(&mut door, put_if("5", Condition::State(gone))),
        Effect::Denied(_)
    ));
    assert!(matches!(
        apply(&mut door, put_if("6", Condition::Absent)),
        Effect::Written { .. }
    ));
    // What has expired by the clock is absent, though nothing was swept.
    let short = Change::Write(Write {
        expires: Some(Wall(WALL.0 + 5)),
        ..Write::new(key("t"), WriteOp::Put(bytes("v")))
    });
    apply(&mut door, short);
    let absent = Write {
        condition: Some(Condition::Absent),
        ..Write::new(key("t"), WriteOp::Put(bytes("w")))
    };
    let absent = [Change::Write(absent)];
    assert!(matches!(
        door.stage(WALL, &absent).unwrap()[0],
        Effect::Denied(_)
    ));
    let later = door.stage(Wall(WALL.0 + 5), &absent).unwrap();
    assert!(matches!(later[0], Effect::Written { .. }));
}

#[test]
fn a_condition_that_holds_replaces_the_siblings_that_it_stands_for() {
    let mut door = fresh(1);
    let put_if = |value: &str, condition| {
        Change::Write(Write {
            condition: Some(condition),
            ..Write::new(key("k"), sibling(value, None))
        })
    };
    written(apply(&mut door, put_if("1", Condition::Absent)));
    let state = row(&door, "k").unwrap().summary().state;
    written(apply(&mut door, put_if("2", Condition::State(state))));
    let versions = siblings(&door, "k").versions().to_vec();
    assert_eq!(versions.len(), 1, "{versions:?}");
    assert_eq!(versions[0].value, Some(bytes("2")));
}

#[test]
fn a_session_too_far_ahead_is_denied_and_a_stamp_again_is_not() {
    let mut door = fresh(1);
    let mut session = Session::default();
    let far = Timestamp {
        micros: WALL.0 + 600_000,
        logical: 0,
    };
    session.observe(RegionId(1), NodeId(9), far);
    let above = Timestamp {
        logical: u32::MAX,
        ..far
    };
    let write = |after: Option<Session>, above| {
        Change::Write(Write {
            above,
            after: after.map(Box::new),
            ..Write::new(key("k"), WriteOp::Put(bytes("v")))
        })
    };
    let denied = Effect::Denied(Denial::Ahead);
    assert_eq!(apply(&mut door, write(Some(session), above)), denied);
    let item = written(apply(&mut door, write(None, far)));
    let Row::Register(version) = item.row else {
        panic!("no register");
    };
    assert!(version.timestamp > far);
    assert_eq!(version.replaced, far, "it names the row");
    let mut door = fresh(1);
    let item = written(apply(&mut door, write(None, above)));
    let Row::Register(version) = item.row else {
        panic!("no register");
    };
    assert_eq!(
        version.replaced,
        Timestamp::ZERO,
        "a bound is no knowledge of the row"
    );
}

#[test]
fn kinds_that_do_not_fit_their_names_are_refused() {
    let mut door = fresh(1);
    let register = written(apply(&mut fresh(2), put("k", "v"))).row;
    let share = change(&mut fresh(2), "k", add(1, None));
    let expiry = crate::model::RowKey::of_expiry(options(1).partitions[1], COUNT);
    let part = |part| key("k").with(&part);
    use crate::model::Part;
    for (key, row) in [
        (part(Part::Member(bytes("m"))), register.clone()),
        (part(Part::Clear(Collection::Set)), register.clone()),
        (part(Part::Expiry), register.clone()),
        (key("k"), share[0].row.clone()),
        (expiry, register.clone()),
        (
            crate::model::RowKey {
                subkey: bytes("?"),
                ..key("k")
            },
            register.clone(),
        ),
    ] {
        let effect = apply(&mut door, Change::Repair { key, row });
        assert!(matches!(effect, Effect::Refused { .. }), "{effect:?}");
    }
    apply(&mut door, put("k", "v"));
    let effect = write(&mut door, "k", sibling("v", None));
    assert!(matches!(effect, Effect::Refused { .. }), "{effect:?}");
}

/// Rows of one write are there together or not at all, wherever the power goes.
#[test]
fn a_write_of_several_rows_survives_as_a_whole() {
    for keep in 0..=6 {
        let disk = MemoryDisk::new();
        let (mut door, _) = open(&disk, 1);
        disk.sync();
        disk.set_lazy(true);
        for id in 0..6 {
            change(&mut door, "c", add(1, Some(id)));
        }
        drop(door);
        disk.crash(keep);
        disk.set_lazy(false);
        let (door, _) = open(&disk, 1);
        let sum = counter(&door, "c").unwrap_or(0);
        assert_eq!(sum, i128::try_from(keep).unwrap());
        assert_eq!(count(&door, Space::Rows, b""), keep + usize::from(keep > 0));
        check_store(&door);
    }
}

/// An operation that came after its share had been reset and collected here: nobody tells it any
/// more that the share is gone, and what was added twice would be taken off a counter that has it no more.
#[test]
fn an_operation_that_comes_late_finds_that_its_share_is_gone() {
    let (place, id) = (Place::Key, OpId(7));
    let key = key("k").with(&Part::Once(place.clone(), id));
    let (mut a, mut b) = (fresh(1), fresh(2));
    let add = WriteOp::Add {
        place: place.clone(),
        delta: 6,
        id: Some(id),
    };
    change(&mut a, "k", add);
    let load = |door: &Door<Memory>| match door.load(&key).unwrap().map(|old| old.row) {
        Some(Row::Once(once)) => Some(once),
        Some(_) | None => None,
    };
    let mut once = load(&a).unwrap();
    change(&mut a, "k", WriteOp::Reset { place });
    feed(&a, &mut b);
    let expected = Row::Once(once.clone()).summary().state;
    apply(
        &mut b,
        Change::Forget {
            key: key.clone(),
            expected,
        },
    );
    let collect = Change::Collect {
        partition: key.partition(COUNT),
        floor: [(a.actor, 9)].into(),
    };
    apply(&mut b, collect);
    let again = Dot {
        actor: fresh(3).actor,
        n: 5,
    };
    let first = Dot {
        actor: a.actor,
        n: 1,
    };
    once.applied.insert(again, 6);
    let row = Row::Once(once);
    apply(
        &mut b,
        Change::Repair {
            key: key.clone(),
            row,
        },
    );
    let late = load(&b).unwrap();
    assert_eq!(late.applied.len(), 2);
    assert_eq!(late.gone, [first].into());
}
