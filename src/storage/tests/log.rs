//! Logs: pieces, gaps, positions, trimming.

use std::collections::BTreeMap;

use super::{
    WALL, apply, check_store, count, delete, dump, feed, fresh, log_page, names, options, piece,
    position, put, roots, row, written,
};
use crate::model::{Answer, Change, Effect, Limits, LogQuery, PartitionId, Position, Query, Reach};
use crate::storage::{Door, Memory, MemoryDisk, OpenOptions, Space};

fn first() -> PartitionId {
    options(0).partitions[0]
}

/// A door with so many rows in its first partition.
fn filled(node: u32, rows: usize) -> Door<Memory> {
    let mut door = fresh(node);
    let changes: Vec<Change> = names(first())
        .take(rows)
        .map(|name| put(&name, "v"))
        .collect();
    door.stage(WALL, &changes).unwrap();
    door.commit().unwrap();
    door
}

fn reach(door: &Door<Memory>, sender: &Door<Memory>) -> Reach {
    position(door, first()).reach(sender.actor)
}

#[test]
fn a_gap_changes_nothing() {
    let (a, mut b) = (filled(1, 5), fresh(2));
    let page = log_page(&a, first(), a.actor, 2);
    let change = Change::Append {
        partition: first(),
        actor: a.actor,
        from: 2,
        to: 5,
        complete_from: Some(2),
        items: page.items,
    };
    let effect = apply(&mut b, change);
    assert_eq!(
        effect,
        Effect::Gap {
            partition: first(),
            actor: a.actor,
            applied: 0
        }
    );
    assert!(dump(&b).is_empty());
}

#[test]
fn a_log_is_passed_on_entry_for_entry() {
    let (a, mut b, mut c) = (filled(1, 5), fresh(2), fresh(3));
    feed(&a, &mut b);
    assert_eq!(
        reach(&b, &a),
        Reach {
            applied: 5,
            complete: 5
        }
    );
    assert_eq!(
        log_page(&b, first(), a.actor, 0),
        log_page(&a, first(), a.actor, 0)
    );
    feed(&b, &mut c);
    assert_eq!((dump(&c), roots(&c)), (dump(&a), roots(&a)));
    check_store(&c);
}

#[test]
fn pages_of_a_log_lead_on_and_only_the_last_completes() {
    let a = filled(1, 10);
    let mut after = 0;
    let mut numbers = Vec::new();
    loop {
        let query = LogQuery {
            partition: first(),
            actor: a.actor,
            after,
            upto: 9,
            bytes_max: 100,
        };
        let Answer::Log(page) = a.reader().answer(&Query::Log(query)) else {
            panic!("unreadable");
        };
        assert!(page.to > after && !page.items.is_empty());
        assert!(!page.complete, "upto is before the head");
        numbers.extend(page.items.iter().map(|item| item.n));
        after = page.to;
        if after == 9 {
            break;
        }
    }
    assert_eq!(numbers, (1..=9).collect::<Vec<_>>());
    assert!(log_page(&a, first(), a.actor, 9).complete);
    let beyond = log_page(&a, first(), a.actor, 50);
    assert_eq!((beyond.to, beyond.complete), (50, false));
}

#[test]
fn only_a_piece_that_starts_where_the_receiver_was_complete_completes_it() {
    let (a, mut b) = (filled(1, 6), fresh(2));
    let items = log_page(&a, first(), a.actor, 0).items;
    let part = |from: u64, to: u64, complete_from| Change::Append {
        partition: first(),
        actor: a.actor,
        from,
        to,
        complete_from,
        items: items
            .iter()
            .filter(|item| item.n > from && item.n <= to)
            .cloned()
            .collect(),
    };
    apply(&mut b, part(0, 3, None));
    assert_eq!(
        reach(&b, &a),
        Reach {
            applied: 3,
            complete: 0
        }
    );
    apply(&mut b, part(3, 4, Some(3)));
    assert_eq!(
        reach(&b, &a),
        Reach {
            applied: 4,
            complete: 0
        }
    );
    apply(&mut b, part(4, 6, Some(0)));
    assert_eq!(
        reach(&b, &a),
        Reach {
            applied: 6,
            complete: 6
        }
    );
    apply(&mut b, part(0, 3, Some(0)));
    assert_eq!(
        reach(&b, &a),
        Reach {
            applied: 6,
            complete: 6
        }
    );
}

/// A sender that is ahead passes over a number for a later one; a sender that is behind still has it.
#[test]
fn a_number_passed_over_is_taken_from_the_sender_that_has_it() {
    let mut a = filled(1, 1);
    let name = names(first()).next().unwrap();
    let mut behind = fresh(2);
    apply(&mut a, put(&names(first()).nth(1).unwrap(), "v"));
    feed(&a, &mut behind);
    apply(&mut a, put(&name, "later"));
    let mut c = fresh(3);
    let ahead = log_page(&a, first(), a.actor, 0);
    assert_eq!(
        ahead.items.iter().map(|item| item.n).collect::<Vec<_>>(),
        [2, 3]
    );
    let short = Change::Append {
        partition: first(),
        actor: a.actor,
        from: 0,
        to: 2,
        complete_from: None,
        items: ahead.items.into_iter().take(1).collect(),
    };
    apply(&mut c, short);
    assert_eq!(row(&c, &name), None);
    let rest = piece(&behind, &c, first(), a.actor).unwrap();
    apply(&mut c, rest);
    assert_eq!(
        reach(&c, &a),
        Reach {
            applied: 2,
            complete: 2
        }
    );
    assert!(row(&c, &name).is_some(), "what is claimed complete is here");
}

#[test]
fn a_repeated_piece_changes_nothing() {
    let (mut a, mut b) = (fresh(1), fresh(2));
    let name = names(first()).next().unwrap();
    apply(&mut a, put(&name, "a"));
    let newer = written(apply(&mut b, put(&name, "b")));
    let change = piece(&a, &b, first(), a.actor).unwrap();
    let Effect::Appended { newer: told, .. } = apply(&mut b, change.clone()) else {
        panic!("not appended");
    };
    assert_eq!(told, [(1, newer.row.summary().timestamp)]);
    let after = (dump(&b), roots(&b), count(&b, Space::Log, b""));
    apply(&mut b, change);
    assert_eq!((dump(&b), roots(&b), count(&b, Space::Log, b"")), after);
    check_store(&b);
}

/// The window of a stream still holds both: the later must be merged with what the earlier made of the row.
#[test]
fn a_piece_may_name_a_row_twice() {
    let (mut a, mut b) = (fresh(1), fresh(2));
    let name = names(first()).next().unwrap();
    let items = ["first", "second"].map(|value| written(apply(&mut a, put(&name, value))));
    let change = Change::Append {
        partition: first(),
        actor: a.actor,
        from: 0,
        to: 2,
        complete_from: Some(0),
        items: items.to_vec(),
    };
    apply(&mut b, change);
    assert_eq!((dump(&b), roots(&b)), (dump(&a), roots(&a)));
    assert_eq!(
        count(&b, Space::Log, b""),
        1,
        "the later entry stands for both"
    );
    check_store(&b);
}

/// Rows that are too large to be kept between being checked and being merged are read again.
#[test]
fn a_piece_may_meet_large_rows() {
    let (mut a, mut b) = (fresh(1), fresh(2));
    let names: Vec<String> = names(first()).take(6).collect();
    let large = "x".repeat(1 << 20);
    for name in &names {
        apply(&mut a, put(name, &large));
    }
    feed(&a, &mut b);
    let news = names
        .iter()
        .map(|name| written(apply(&mut a, put(name, "new"))))
        .collect();
    let change = Change::Append {
        partition: first(),
        actor: a.actor,
        from: 6,
        to: 12,
        complete_from: Some(6),
        items: news,
    };
    apply(&mut b, change);
    assert_eq!((dump(&b), roots(&b)), (dump(&a), roots(&a)));
    assert_eq!(count(&b, Space::Log, b""), 6, "an entry for each row");
    check_store(&b);
}

/// A read brought it here, it was read and deleted, and only then its log came: it is not hidden (adversary).
#[test]
fn what_a_repair_has_brought_stood_whatever_came_since() {
    let (mut a, mut b) = (fresh(1), fresh(2));
    apply(&mut b, Change::Serve { partition: first() });
    let name = names(first()).next().unwrap();
    let first_put = written(apply(&mut a, put(&name, "a")));
    let (key, row) = (first_put.key.clone(), first_put.row.clone());
    apply(&mut b, Change::Repair { key, row });
    apply(&mut b, put(&name, "b"));
    apply(&mut b, delete(&name));
    let late = piece(&a, &b, first(), a.actor).unwrap();
    let Effect::Appended { stood, .. } = apply(&mut b, late) else {
        panic!("not appended");
    };
    assert_eq!(stood, [1]);
}

/// Before it serves, what had finished may be missing here: it stands only if it is still the newest then.
#[test]
fn what_a_repair_has_brought_before_it_served_stands_only_if_it_still_does_then() {
    for is_early in [true, false] {
        let (mut a, mut b, mut c) = (fresh(1), fresh(2), fresh(3));
        let name = names(first()).next().unwrap();
        let repair = |change: Effect| {
            let item = written(change);
            let (key, row) = (item.key, item.row);
            Change::Repair { key, row }
        };
        let older = repair(apply(&mut a, put(&name, "a")));
        apply(&mut c, older.clone());
        let newer = repair(apply(&mut c, put(&name, "c")));
        apply(&mut b, older);
        let serve = Change::Serve { partition: first() };
        let changes = if is_early {
            [newer, serve]
        } else {
            [serve, newer]
        };
        for change in changes {
            apply(&mut b, change);
        }
        let late = piece(&a, &b, first(), a.actor).unwrap();
        let Effect::Appended { stood, .. } = apply(&mut b, late) else {
            panic!("not appended");
        };
        assert_eq!(stood.is_empty(), is_early);
    }
}

/// So, too, if its log had brought it, in a pass with holes, and brings it again (adversary).
#[test]
fn what_a_pass_with_holes_has_brought_stood() {
    let (mut a, mut b) = (fresh(1), fresh(2));
    apply(&mut b, Change::Serve { partition: first() });
    let name = names(first()).next().unwrap();
    apply(&mut a, put(&name, "a"));
    let whole = piece(&a, &b, first(), a.actor).unwrap();
    let mut holed = whole.clone();
    if let Change::Append { complete_from, .. } = &mut holed {
        *complete_from = None;
    }
    let told = |effect| {
        let Effect::Appended { stood, .. } = effect else {
            panic!("not appended");
        };
        stood
    };
    assert!(told(apply(&mut b, holed)).is_empty());
    apply(&mut b, put(&name, "b"));
    assert_eq!(told(apply(&mut b, whole.clone())), [1]);
    assert!(told(apply(&mut b, whole)).is_empty(), "told once");
}

/// So, too, if the writer has written the row again since, and that one is hidden.
#[test]
fn what_stood_is_told_though_the_piece_passes_over_it() {
    let (mut a, mut b) = (fresh(1), fresh(2));
    apply(&mut b, Change::Serve { partition: first() });
    let name = names(first()).next().unwrap();
    let first_put = written(apply(&mut a, put(&name, "a")));
    let (key, row) = (first_put.key.clone(), first_put.row.clone());
    apply(&mut b, Change::Repair { key, row });
    apply(&mut a, put(&name, "again"));
    let newer = written(apply(&mut b, put(&name, "b")));
    let late = piece(&a, &b, first(), a.actor).unwrap();
    let Effect::Appended {
        newer: told, stood, ..
    } = apply(&mut b, late)
    else {
        panic!("not appended");
    };
    assert_eq!(
        (told, stood),
        (vec![(2, newer.row.stamp().timestamp)], vec![1])
    );
}

/// A read's repair brought the coordinator a finished write that is newer than its own, before any other replica had that:
/// nobody will hold anything that is newer than what the entry stands for now (simulator, seed 2102389).
#[test]
fn a_piece_tells_of_what_hid_an_entry_at_its_sender() {
    let (mut a, mut b, mut c) = (fresh(1), fresh(2), fresh(3));
    let name = names(first()).next().unwrap();
    apply(&mut a, put(&name, "a"));
    let newer = written(apply(&mut b, put(&name, "b")));
    for door in [&mut a, &mut c] {
        let (key, row) = (newer.key.clone(), newer.row.clone());
        apply(door, Change::Repair { key, row });
    }
    let change = piece(&a, &c, first(), a.actor).unwrap();
    let Effect::Appended { newer: told, .. } = apply(&mut c, change) else {
        panic!("not appended");
    };
    assert_eq!(told, [(1, newer.row.summary().timestamp)]);
}

#[test]
fn entries_out_of_order_or_of_another_partition_are_refused() {
    let (a, mut b) = (filled(1, 3), fresh(2));
    let items = log_page(&a, first(), a.actor, 0).items;
    let change = |partition, from, to, items| Change::Append {
        partition,
        actor: a.actor,
        from,
        to,
        complete_from: None,
        items,
    };
    let backwards = items.iter().rev().cloned().collect();
    for bad in [
        change(first(), 0, 3, backwards),
        change(options(0).partitions[1], 0, 3, items.clone()),
        change(first(), 0, 2, items.clone()),
        change(first(), 1, 3, items.clone()),
        change(first(), 3, 0, Vec::new()),
        change(first(), 0, u64::MAX, items),
    ] {
        assert!(matches!(apply(&mut b, bad), Effect::Refused { .. }));
    }
    assert_eq!(position(&b, first()), Position::default());
}

#[test]
fn a_trimmed_log_says_so_and_keeps_count() {
    let mut a = filled(1, 10);
    let actor = a.actor;
    let trim = |to| Change::Trim {
        partition: first(),
        actor,
        to,
    };
    let effect = apply(&mut a, trim(4));
    assert_eq!(
        effect,
        Effect::Trimmed {
            partition: first(),
            actor,
            to: 4
        }
    );
    assert_eq!(count(&a, Space::Log, b""), 6);
    let page = log_page(&a, first(), actor, 2);
    assert_eq!((page.trimmed, page.complete), (4, false));
    assert!(log_page(&a, first(), actor, 4).complete);
    // A row whose entry is gone can be written again.
    let name = names(first()).next().unwrap();
    apply(&mut a, put(&name, "again"));
    check_store(&a);
    apply(&mut a, trim(100));
    assert_eq!(count(&a, Space::Log, b""), 0);
    assert_eq!(a.marks(first(), actor).bytes, 0);
    assert_eq!(a.marks(first(), actor).trimmed, 11);
    check_store(&a);
}

#[test]
fn a_log_beyond_its_limit_loses_its_oldest_entries() {
    let limits = Limits {
        log_bytes_max: 1000,
        ..Limits::default()
    };
    let options = OpenOptions {
        limits,
        ..options(1)
    };
    let (mut a, _) = Door::open(MemoryDisk::new().engine(), options).unwrap();
    let actor = a.actor;
    for name in names(first()).take(100) {
        apply(&mut a, put(&name, "v"));
        apply(&mut a, delete(&name));
    }
    let marks = a.marks(first(), actor);
    assert!(marks.bytes <= 1000 && marks.bytes > 500, "{marks:?}");
    let page = log_page(&a, first(), actor, marks.trimmed);
    assert!(page.complete && page.items.len() > 10);
    assert_eq!(
        count(&a, Space::Meta, b"G"),
        100,
        "tombstones are found by their graves"
    );
    let floor = BTreeMap::from([(actor, 200)]);
    apply(
        &mut a,
        Change::Collect {
            partition: first(),
            floor,
        },
    );
    assert_eq!(count(&a, Space::Rows, b""), 0);
    assert_eq!(a.marks(first(), actor).bytes, 0);
}

#[test]
fn a_raised_position_leaves_a_log_that_starts_there() {
    let (mut a, mut b) = (filled(1, 5), fresh(2));
    let actor = a.actor;
    let partial = log_page(&a, first(), actor, 0).items;
    apply(
        &mut b,
        Change::Append {
            partition: first(),
            actor,
            from: 0,
            to: 2,
            complete_from: Some(0),
            items: partial.into_iter().take(2).collect(),
        },
    );
    for (key, row) in dump(&a) {
        apply(&mut b, Change::Repair { key, row });
    }
    let raise = Change::Raise {
        partition: first(),
        position: position(&a, first()),
    };
    apply(&mut b, raise.clone());
    assert_eq!(
        reach(&b, &a),
        Reach {
            applied: 5,
            complete: 5
        }
    );
    let page = log_page(&b, first(), actor, 0);
    assert_eq!(
        (page.trimmed, page.items.len(), page.complete),
        (5, 0, false)
    );
    // What was there is swept with the next trim, and the log goes on.
    apply(&mut a, put(&names(first()).next().unwrap(), "more"));
    feed(&a, &mut b);
    assert_eq!(log_page(&b, first(), actor, 5).items.len(), 1);
    apply(
        &mut b,
        Change::Trim {
            partition: first(),
            actor,
            to: 5,
        },
    );
    assert_eq!(count(&b, Space::Log, b""), 1);
    apply(
        &mut b,
        Change::Trim {
            partition: first(),
            actor,
            to: 6,
        },
    );
    assert_eq!(b.marks(first(), actor).bytes, 0);
    let before = position(&b, first());
    apply(&mut b, raise);
    assert_eq!(position(&b, first()), before);
    assert_eq!((dump(&a), roots(&a)), (dump(&b), roots(&b)));
    check_store(&b);
}
