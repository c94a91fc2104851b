//! Collections that are deleted as a whole: one row in the log, unseen at once, swept later.

use std::collections::BTreeMap;

use super::{
    COUNT, apply, bytes, change, check_store, count, delete, feed, fresh, key, members, names,
    open, options, position, put, roots, row,
};
use crate::digest::leaf_of;
use crate::model::{
    Answer, Change, Collection, Context, Cuts, DIGEST_BUSY, DIGEST_FANOUT, DIGEST_LEAVES,
    DIGEST_LEVELS, DigestNode, Effect, Place, Query, Row, RowKey, Run, Sum, Wall, WriteOp,
};
use crate::storage::{Door, Memory, MemoryDisk, OpenOptions, SWEEP_ROWS, Space, keys};

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

/// Sweeps a piece; says whether there is more.
fn sweep(door: &mut Door<Memory>) -> bool {
    let partition = key("s").partition(COUNT);
    let effect = apply(door, Change::Sweep { partition });
    let Effect::Swept { has_more, .. } = effect else {
        panic!("not swept: {effect:?}");
    };
    has_more
}

fn sweep_all(door: &mut Door<Memory>) {
    while sweep(door) {}
}

/// Whether the leaf of the set is being swept, by its digest; only this leaf may be.
fn is_busy(door: &Door<Memory>) -> bool {
    let leaf = leaf_of(&key("s"), COUNT);
    let nodes = (0..DIGEST_LEAVES / DIGEST_FANOUT).map(|index| DigestNode {
        level: DIGEST_LEVELS - 1,
        index,
    });
    let query = Query::Digest {
        partition: key("s").partition(COUNT),
        nodes: nodes.collect(),
    };
    let Answer::Digest { hashes, .. } = door.reader().answer(&query) else {
        panic!("unreadable");
    };
    let leaves = (0..DIGEST_LEAVES).zip(hashes.into_iter().flatten());
    let busy: Vec<u16> = leaves
        .filter(|(_, hash)| *hash == DIGEST_BUSY)
        .map(|(leaf, _)| leaf)
        .collect();
    assert!(busy.is_empty() || busy == [leaf], "{busy:?}");
    !busy.is_empty()
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

    // A replica that has not swept yet says so to those who compare.
    feed(&a, &mut b);
    assert_eq!(size(&b), 1);
    assert!(is_busy(&a) && is_busy(&b));
    sweep_all(&mut a);
    assert!(!is_busy(&a) && is_busy(&b));
    assert_ne!(roots(&a), roots(&b), "one has not swept yet");
    check_store(&a);
    check_store(&b);
    sweep_all(&mut b);
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
    for first in 0..6 {
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
    for left in [2001, 1001, 1] {
        assert_eq!(count(&door, Space::Rows, b""), left);
        assert!(is_busy(&door));
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
            assert!(sweep(&mut door));
        }
        check_store(&door);
    }
    assert!(!sweep(&mut door));
    assert!(!is_busy(&door));
    collect(&mut door, &floor);
    assert_eq!(count(&door, Space::Rows, b""), 0);
    assert_eq!(count(&door, Space::Meta, b"G"), 0);
    check_store(&door);
}

#[test]
fn a_clear_looks_at_a_bounded_number_of_rows() {
    let (a_disk, b_disk) = (MemoryDisk::new(), MemoryDisk::new());
    let (mut a, _) = open(&a_disk, 1);
    let (mut b, _) = open(&b_disk, 2);
    for first in (0..4000).step_by(500) {
        change(&mut a, "s", add(first..first + 500));
    }
    feed(&a, &mut b);
    a_disk.take_visited();
    assert_eq!(change(&mut a, "s", clear(Collection::Set)).len(), 1);
    let first = a_disk.take_visited();
    // So does the next one, while the first is being swept; and each piece.
    change(&mut a, "s", add(0..1));
    a_disk.take_visited();
    assert_eq!(change(&mut a, "s", clear(Collection::Set)).len(), 1);
    let next = a_disk.take_visited();
    sweep(&mut a);
    let piece = a_disk.take_visited();
    b_disk.take_visited();
    feed(&a, &mut b);
    let applied = b_disk.take_visited();
    assert!(size(&b) == 0 && is_busy(&b));
    for looked_at in [first, next, piece, applied] {
        assert!(looked_at < 3 * SWEEP_ROWS, "{looked_at}");
    }
}

/// A door that sweeps ten rows at a time, and two sets of one partition, by the order of their sweeps.
fn slow(node: u32) -> (Door<Memory>, [String; 2]) {
    let options = OpenOptions {
        sweep_rows: 10,
        ..options(node)
    };
    let (door, _) = Door::open(MemoryDisk::new().engine(), options).unwrap();
    let partition = key("s").partition(COUNT);
    let mut sets: Vec<String> = names(partition).take(2).collect();
    sets.sort_unstable_by_key(|name| keys::row(&key(name)));
    (door, sets.try_into().unwrap())
}

/// Goes on with what is to be swept, while a set of this partition gets new members, behind all those before, and is
/// cleared faster than it is swept: so its sweep has no end.
fn sweep_without_end(door: &mut Door<Memory>, name: &str) {
    for first in (0..1000).step_by(50) {
        change(door, name, add(first..first + 50));
        change(door, name, clear(Collection::Set));
        assert!(sweep(door));
    }
}

#[test]
fn a_sweep_without_end_does_not_hold_up_those_behind_it() {
    let (mut door, [endless, waiting]) = slow(1);
    change(&mut door, &waiting, add(0..50));
    change(&mut door, &waiting, clear(Collection::Set));
    let of_waiting = key(&waiting).with(&crate::model::Part::Clear(Collection::Set));
    let noted = keys::sweep(key("s").partition(COUNT), &of_waiting);
    assert_eq!(count(&door, Space::Meta, &noted), 1);
    sweep_without_end(&mut door, &endless);
    assert_eq!(count(&door, Space::Meta, &noted), 0);
    sweep_all(&mut door);
    assert_eq!(count(&door, Space::Rows, b""), 2, "the clears themselves");
    check_store(&door);
}

#[test]
fn a_sweep_without_end_does_not_hold_up_a_collection() {
    let (mut door, [endless, _]) = slow(1);
    let partition = key("s").partition(COUNT);
    let rows: Vec<String> = names(partition).skip(2).take(300).collect();
    for name in &rows {
        apply(&mut door, put(name, "v"));
        apply(&mut door, delete(name));
    }
    let floor = position(&door, partition).reaches;
    let floor = floor
        .into_iter()
        .map(|(actor, reach)| (actor, reach.complete));
    collect(&mut door, &floor.collect());
    assert!(
        row(&door, &rows[299]).is_some(),
        "a hundred graves at a time"
    );
    sweep_without_end(&mut door, &endless);
    assert!(rows.iter().all(|name| row(&door, name).is_none()));
    check_store(&door);
}

#[test]
fn sweeps_have_their_turns_when_there_are_more_than_a_change_looks_at() {
    let (mut door, _) = slow(1);
    let partition = key("s").partition(COUNT);
    let sets: Vec<String> = names(partition).take(40).collect();
    for name in &sets {
        change(&mut door, name, add(0..30));
        change(&mut door, name, clear(Collection::Set));
    }
    assert_eq!(count(&door, Space::Meta, b"S"), 40);
    // Each clear took ten rows with it: two pieces are left of each, and a look at its end.
    let mut pieces = 0;
    while sweep(&mut door) {
        pieces += 1;
    }
    assert!(pieces <= 3 * 40, "{pieces}");
    assert_eq!(count(&door, Space::Rows, b""), 40, "the clears themselves");
    check_store(&door);
}

#[test]
fn what_is_cleared_in_the_middle_of_a_sweep_is_swept_too() {
    let (mut a, mut b) = (filled(1, 3000), fresh(2));
    feed(&a, &mut b);
    change(&mut a, "s", clear(Collection::Set));
    // The sweep is in the middle; a member before it is added, and cleared too.
    change(&mut a, "s", add(7..8));
    change(&mut a, "s", clear(Collection::Set));
    change(&mut a, "s", add(9..10));
    assert_eq!(members(&a, "s"), [bytes("m00009")]);
    feed(&a, &mut b);
    sweep_all(&mut a);
    sweep_all(&mut b);
    assert_eq!(roots(&a), roots(&b));
    for door in [&a, &b] {
        assert_eq!(members(door, "s"), [bytes("m00009")]);
        assert_eq!(count(door, Space::Rows, b""), 2);
        assert_eq!(count(door, Space::Meta, b"S"), 0);
        check_store(door);
    }
}

#[test]
fn listings_and_sums_leave_out_what_is_not_swept_yet() {
    let (mut a, mut b) = (filled(1, 5000), fresh(2));
    feed(&a, &mut b);
    change(&mut a, "s", clear(Collection::Set));
    change(&mut a, "s", add(4000..4003));
    feed(&a, &mut b);
    sweep_all(&mut b);
    let leaf = leaf_of(&key("s"), COUNT);
    let sum = |door: &Door<Memory>| {
        let mut run = Run::of_leaves(leaf, leaf);
        let mut total = Sum::default();
        loop {
            let query = Query::Sums {
                partition: key("s").partition(COUNT),
                run: run.clone(),
                cuts: Cuts::Even,
                rows_max: 700,
            };
            let Answer::Sums { sums, next, .. } = door.reader().answer(&query) else {
                panic!("unreadable");
            };
            sums.into_iter().for_each(|sum| total.add(sum));
            match next {
                Some(next) => run = run.from(next),
                None => return total,
            }
        }
    };
    assert!(is_busy(&a) && !is_busy(&b));
    assert_eq!(sum(&a), sum(&b));
    assert_eq!(sum(&a).rows, 4, "three members, and the clear itself");
    let query = Query::Leaf {
        partition: key("s").partition(COUNT),
        run: Run::of_leaves(leaf, leaf),
        rows_max: 1000,
    };
    let (mine, theirs) = (a.reader().answer(&query), b.reader().answer(&query));
    let (Answer::Leaf { rows: mine, .. }, Answer::Leaf { rows: theirs, .. }) = (mine, theirs)
    else {
        panic!("unreadable");
    };
    assert_eq!((mine.len(), &mine), (4, &theirs));
}

/// Sums of pieces that are cut by the rows of one side are those of the same pieces on the other, wherever the
/// reading is broken off.
#[test]
fn sums_of_pieces_add_up_over_pages() {
    let mut door = filled(1, 777);
    change(&mut door, "t", add(0..50));
    let partition = key("s").partition(COUNT);
    let all = Run::of_leaves(0, DIGEST_LEAVES - 1);
    let ask = |run: Run, cuts: Cuts, rows_max| {
        let query = Query::Sums {
            partition,
            run,
            cuts,
            rows_max,
        };
        let Answer::Sums { ends, sums, next } = door.reader().answer(&query) else {
            panic!("unreadable");
        };
        (ends, sums, next)
    };
    let (ends, sums, next) = ask(all.clone(), Cuts::Even, usize::MAX);
    assert!(
        next.is_none() && (32..=64).contains(&sums.len()),
        "{}",
        sums.len()
    );
    let cuts = &ends[..ends.len() - 1];
    for rows_max in [1, 2, 5, 16, 100, 10_000] {
        let mut run = all.clone();
        let mut total: Vec<Sum> = Vec::new();
        loop {
            let passed = total.len().saturating_sub(1);
            let rest = Cuts::After(cuts[passed..].to_vec());
            let (_, more, next) = ask(run.clone(), rest, rows_max);
            let mut more = more.into_iter();
            if let Some(last) = total.last_mut() {
                last.add(more.next().unwrap());
            }
            total.extend(more);
            match next {
                Some(next) => run = run.from(next),
                None => break,
            }
        }
        assert_eq!(total, sums, "{rows_max}");
    }
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
