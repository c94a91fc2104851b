//! Opening and closing, writes, repairs, deletes and their collection.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{
    WALL, apply, check_store, count, delete, dump, feed, fresh, key, open, options, piece,
    position, put, roots, row, value, written,
};
use crate::model::{
    Answer, Change, DigestNode, Effect, Position, Query, Reach, RowKey, Run, Timestamp, Token,
    Wall, Wanted, Write, WriteOp,
};
use crate::storage::{Door, Error, MemoryDisk, OpenOptions, Space};

#[test]
fn a_new_disk_gives_a_new_actor_and_nothing_serves() {
    let (_, opened) = open(&MemoryDisk::new(), 1);
    assert!(opened.is_new && !opened.was_clean);
    assert_eq!(opened.actor.incarnation.0, ((WALL.0 / 1000) << 20) | 5);
    assert!(opened.partitions.iter().all(|known| !known.is_serving));
}

#[test]
fn every_start_takes_a_new_incarnation_and_says_whether_the_stop_was_clean() {
    let disk = MemoryDisk::new();
    let (door, first) = open(&disk, 1);
    door.close().unwrap();
    let copy = disk.copy();
    let (door, second) = open(&disk, 1);
    assert!(second.was_clean && !second.is_new);
    assert!(second.actor > first.actor);
    drop(door);
    let (door, third) = open(&disk, 1);
    assert!(!third.was_clean);
    assert!(third.actor > second.actor);
    drop(door);
    // Also when the wall clock went back, and with the same chance.
    let early = OpenOptions {
        wall: Wall(0),
        ..options(1)
    };
    let (_, fourth) = Door::open(disk.engine(), early).unwrap();
    assert!(fourth.actor > third.actor);
    let (_, elsewhere) = Door::open(
        copy.engine(),
        OpenOptions {
            chance: 6,
            ..options(1)
        },
    )
    .unwrap();
    assert!(elsewhere.actor > first.actor);
}

#[test]
fn state_is_as_it_was_after_opening_again() {
    let disk = MemoryDisk::new();
    let (mut door, _) = open(&disk, 1);
    for i in 0..50 {
        apply(&mut door, put(&format!("k{i}"), "v"));
    }
    apply(&mut door, delete("k7"));
    let serving = options(1).partitions[2];
    apply(&mut door, Change::Serve { partition: serving });
    let (rows, digests) = (dump(&door), roots(&door));
    let positions: Vec<Position> = options(1)
        .partitions
        .iter()
        .map(|id| position(&door, *id))
        .collect();
    drop(door);
    disk.crash(0);
    let (door, opened) = open(&disk, 1);
    assert_eq!((dump(&door), roots(&door)), (rows, digests));
    for (known, position) in opened.partitions.iter().zip(positions) {
        assert_eq!(known.position, position);
        assert_eq!(known.is_serving, known.partition == serving);
    }
    check_store(&door);
}

#[test]
fn a_disk_of_another_node_or_cluster_is_refused() {
    let disk = MemoryDisk::new();
    drop(open(&disk, 1));
    let other = Door::open(disk.engine(), options(2));
    assert!(matches!(other, Err(Error::Foreign { .. })));
    let changed = OpenOptions {
        partition_count: 8,
        ..options(1)
    };
    assert!(matches!(
        Door::open(disk.engine(), changed),
        Err(Error::Foreign { .. })
    ));
}

#[test]
fn a_lost_batch_is_noticed_in_every_space() {
    use crate::storage::{Batch, Engine as _, keys};
    for space in Space::ALL {
        for slot in [1, 3, 6] {
            let disk = MemoryDisk::new();
            let (mut door, _) = open(&disk, 1);
            for i in 0..5 {
                apply(&mut door, put(&format!("k{i}"), "v"));
            }
            drop(door);
            let mut batch = Batch::default();
            batch.remove(space, keys::batch(slot));
            disk.engine().commit(batch).unwrap();
            let again = Door::open(disk.engine(), options(1));
            assert!(matches!(again, Err(Error::Lost { .. })), "{space} {slot}");
        }
    }
}

#[test]
fn timestamps_do_not_repeat_after_a_crash_though_the_wall_went_back() {
    let disk = MemoryDisk::new();
    let (mut door, _) = open(&disk, 1);
    let before = written(apply(&mut door, put("a", "1")))
        .row
        .summary()
        .timestamp;
    drop(door);
    let (mut door, _) = open(&disk, 1);
    let effects = door.stage(Wall(1), &[put("b", "1")]).unwrap();
    let after = written(effects.into_iter().next().unwrap())
        .row
        .summary()
        .timestamp;
    assert!(after > before);
    let ahead = after.micros - before.micros;
    assert!(ahead <= 500_000, "peers would not accept {ahead}");
}

#[test]
fn a_write_is_stamped_above_the_row_and_above_what_is_known_elsewhere() {
    let mut door = fresh(1);
    let first = written(apply(&mut door, put("a", "1")));
    let second = written(apply(&mut door, put("a", "2")));
    assert!(second.row.summary().timestamp > first.row.summary().timestamp);
    let above = Timestamp {
        micros: WALL.0 + 3_600_000_000,
        logical: 3,
    };
    let far = Change::Write(Write {
        above,
        ..Write::new(key("a"), WriteOp::Put(Bytes::from("3")))
    });
    assert!(written(apply(&mut door, far)).row.summary().timestamp > above);
    let other = written(apply(&mut door, put("b", "1")))
        .row
        .summary()
        .timestamp;
    assert!(other.micros < WALL.0 + 500_000, "the clock did not follow");
    assert!(
        written(apply(&mut door, put("a", "4")))
            .row
            .summary()
            .timestamp
            > above
    );
    assert_eq!(value(&door, "a"), Some(Bytes::from("4")));
}

#[test]
fn numbers_are_dense_and_a_batch_sees_its_own_changes() {
    let mut door = fresh(1);
    let same: Vec<Change> = (0..5).map(|i| put("a", &i.to_string())).collect();
    let effects = door.stage(WALL, &same).unwrap();
    assert_eq!(row(&door, "a"), None, "not seen before it is durable");
    let numbers: Vec<u64> = effects
        .into_iter()
        .map(|effect| written(effect).n)
        .collect();
    assert_eq!(numbers, [1, 2, 3, 4, 5]);
    door.commit().unwrap();
    assert_eq!(value(&door, "a"), Some(Bytes::from("4")));
    assert_eq!(
        count(&door, Space::Log, b""),
        1,
        "a newer entry replaces the older"
    );
    check_store(&door);
}

#[test]
fn sizes_and_strangers_are_refused_at_the_door() {
    let mut door = fresh(1);
    let refused =
        |door: &mut Door<_>, change| matches!(apply(door, change), Effect::Refused { .. });
    let size = Effect::Denied(crate::model::Denial::Size);
    assert_eq!(apply(&mut door, put("", "v")), size);
    assert_eq!(apply(&mut door, put(&"k".repeat((8 << 10) + 1), "v")), size);
    assert_ne!(apply(&mut door, put(&"k".repeat(8 << 10), "v")), size);
    assert_eq!(apply(&mut door, put("k", &"v".repeat((1 << 20) + 1))), size);
    assert_ne!(apply(&mut door, put("k", &"v".repeat(1 << 20))), size);
    let misplaced = RowKey {
        token: Token(1),
        ..key("k")
    };
    let item = written(apply(&mut door, put("k", "v")));
    assert!(refused(
        &mut door,
        Change::Repair {
            key: misplaced,
            row: item.row.clone()
        }
    ));
    let elsewhere = RowKey {
        keyspace: crate::model::KeyspaceId(1),
        ..key("k")
    };
    assert!(refused(
        &mut door,
        Change::Repair {
            key: elsewhere,
            row: item.row
        }
    ));
    // A peer's limits may be larger: merges pass.
    let mut wide = Door::open(
        MemoryDisk::new().engine(),
        OpenOptions {
            limits: crate::model::Limits {
                value_bytes_max: 8 << 20,
                ..Default::default()
            },
            ..options(2)
        },
    )
    .unwrap()
    .0;
    let big = written(apply(&mut wide, put("k", &"v".repeat(4 << 20))));
    assert!(!refused(
        &mut door,
        Change::Repair {
            key: big.key,
            row: big.row
        }
    ));
    check_store(&door);
}

#[test]
fn a_timestamp_too_far_ahead_waits_and_changes_nothing() {
    let mut ahead = fresh(1);
    let mut door = fresh(2);
    let late = Wall(WALL.0 + 10_000_000);
    ahead.stage(late, &[put("a", "1")]).unwrap();
    ahead.commit().unwrap();
    let partition = key("a").partition(super::COUNT);
    let change = piece(&ahead, &door, partition, ahead.actor).unwrap();
    let item = row(&ahead, "a").unwrap();
    let effect = apply(&mut door, change.clone());
    assert!(matches!(effect, Effect::Early { .. }));
    let repair = Change::Repair {
        key: key("a"),
        row: item,
    };
    assert!(matches!(apply(&mut door, repair), Effect::Early { .. }));
    assert_eq!(row(&door, "a"), None);
    assert_eq!(position(&door, partition), Position::default());
    let effects = door.stage(Wall(WALL.0 + 9_600_000), &[change]).unwrap();
    assert!(matches!(effects[0], Effect::Appended { .. }));
    // Also if the wall went back between a piece and its repetition.
    let Change::Append {
        from, to, items, ..
    } = piece(&ahead, &fresh(3), partition, ahead.actor).unwrap()
    else {
        panic!("nothing to send");
    };
    let mut again = fresh(4);
    let actor = ahead.actor;
    let incomplete = Change::Append {
        partition,
        actor,
        from,
        to,
        complete_from: None,
        items,
    };
    let effects = again
        .stage(late, std::slice::from_ref(&incomplete))
        .unwrap();
    assert!(matches!(effects[0], Effect::Appended { .. }));
    assert!(matches!(
        apply(&mut again, incomplete),
        Effect::Early { .. }
    ));
}

#[test]
fn repair_merges_and_is_not_logged() {
    let (mut a, mut b) = (fresh(1), fresh(2));
    let item = written(apply(&mut a, put("k", "old")));
    let newer = written(apply(&mut b, put("k", "new")));
    let effect = apply(
        &mut a,
        Change::Repair {
            key: key("k"),
            row: newer.row.clone(),
        },
    );
    assert_eq!(
        effect,
        Effect::Repaired {
            summary: Some(newer.row.summary()),
            written: Vec::new(),
            lost: BTreeMap::from([(crate::model::NodeId(2), 1)]),
        }
    );
    let effect = apply(
        &mut b,
        Change::Repair {
            key: key("k"),
            row: item.row,
        },
    );
    assert_eq!(
        effect,
        Effect::Repaired {
            summary: Some(newer.row.summary()),
            written: Vec::new(),
            lost: BTreeMap::new(),
        }
    );
    assert_eq!((roots(&a), dump(&a)), (roots(&b), dump(&b)));
    assert_eq!(
        count(&a, Space::Log, b""),
        1,
        "its own entry is still there"
    );
    check_store(&a);
}

#[test]
fn two_changes_with_one_dot_are_refused() {
    let (mut a, mut twin, mut b) = (fresh(1), fresh(1), fresh(2));
    apply(&mut a, put("k", "one"));
    let other = written(apply(&mut twin, put("k", "two")));
    feed(&a, &mut b);
    let effect = apply(
        &mut b,
        Change::Repair {
            key: key("k"),
            row: other.row,
        },
    );
    assert!(matches!(effect, Effect::Refused { .. }));
    assert_eq!(value(&b, "k"), Some(Bytes::from("one")));
}

#[test]
fn what_is_deleted_and_collected_does_not_come_back() {
    let (mut a, mut b) = (fresh(1), fresh(2));
    let old = written(apply(&mut a, put("k", "v")));
    let partition = key("k").partition(super::COUNT);
    let stale = piece(&a, &b, partition, a.actor).unwrap();
    feed(&a, &mut b);
    apply(&mut b, delete("k"));
    feed(&b, &mut a);
    assert_eq!(roots(&a), vec![0; 4], "a tombstone counts as nothing");
    let floor = BTreeMap::from([(a.actor, 1), (b.actor, 1)]);
    for door in [&mut a, &mut b] {
        assert_eq!(count(door, Space::Meta, b"G"), 1);
        apply(
            door,
            Change::Collect {
                partition,
                floor: floor.clone(),
            },
        );
        assert_eq!(row(door, "k"), None);
        assert_eq!(count(door, Space::Meta, b"G"), 0);
        assert_eq!(count(door, Space::Log, b""), 0);
        check_store(door);
    }
    apply(&mut b, stale);
    let effect = apply(
        &mut b,
        Change::Repair {
            key: key("k"),
            row: old.row,
        },
    );
    assert!(matches!(effect, Effect::Repaired { summary: None, .. }));
    assert_eq!(row(&b, "k"), None);
}

#[test]
fn a_tombstone_is_kept_while_it_is_not_covered_or_was_written_over() {
    let mut door = fresh(1);
    apply(&mut door, put("k", "v"));
    apply(&mut door, delete("k"));
    let partition = key("k").partition(super::COUNT);
    let actor = door.actor;
    let collect = |n| Change::Collect {
        partition,
        floor: BTreeMap::from([(actor, n)]),
    };
    apply(&mut door, collect(1));
    assert!(row(&door, "k").is_some_and(|row| row.is_tombstone()));
    apply(&mut door, put("k", "again"));
    assert_eq!(count(&door, Space::Meta, b"G"), 0);
    apply(&mut door, collect(9));
    assert_eq!(value(&door, "k"), Some(Bytes::from("again")));
    check_store(&door);
}

#[test]
fn what_is_written_after_a_collected_tombstone_is_above_it() {
    let mut door = fresh(1);
    let partition = key("k").partition(super::COUNT);
    let above = Timestamp {
        micros: WALL.0 + 10_000_000,
        logical: u32::MAX,
    };
    let ahead = |op| {
        Change::Write(Write {
            above,
            ..Write::new(key("k"), op)
        })
    };
    apply(&mut door, ahead(WriteOp::Put(Bytes::from("one"))));
    let tombstone = written(apply(&mut door, ahead(WriteOp::Delete))).row;
    let collect = Change::Collect {
        partition,
        floor: BTreeMap::from([(door.actor, 2)]),
    };
    apply(&mut door, collect.clone());
    assert_eq!(row(&door, "k"), Some(tombstone.clone()), "not in its time");

    let then = Wall(above.micros);
    door.stage(then, &[collect]).unwrap();
    door.commit().unwrap();
    assert_eq!(row(&door, "k"), None);
    let again = written(apply(&mut door, ahead(WriteOp::Put(Bytes::from("two"))))).row;
    assert!(tombstone.stamp().timestamp < again.stamp().timestamp);
    check_store(&door);
}

#[test]
fn forget_removes_only_the_version_it_names() {
    let mut door = fresh(1);
    let first = written(apply(&mut door, put("k", "1")));
    let second = written(apply(&mut door, put("k", "2")));
    let forget = |expected: u64| Change::Forget {
        key: key("k"),
        expected,
    };
    apply(&mut door, forget(first.row.summary().state));
    assert_eq!(value(&door, "k"), Some(Bytes::from("2")));
    apply(&mut door, forget(second.row.summary().state));
    assert_eq!(row(&door, "k"), None);
    assert_eq!(roots(&door), vec![0; 4]);
    assert_eq!(count(&door, Space::Log, b""), 0);
    check_store(&door);
}

#[test]
fn rotten_rows_are_never_served_and_stop_the_door() {
    let disk = MemoryDisk::new();
    let (mut door, _) = open(&disk, 1);
    apply(&mut door, put("k", "v"));
    for pick in 0..90 {
        let copy = disk.copy();
        assert!(copy.rot(Space::Rows, pick));
        let (mut rotten, _) = open(&copy, 1);
        let answer = rotten.reader().answer(&Query::Rows(vec![key("k")]));
        assert!(
            matches!(answer, Answer::Unreadable { .. }),
            "{pick}: {answer:?}"
        );
        let partition = key("k").partition(super::COUNT);
        let scan = Query::Scan {
            partition,
            wanted: Wanted::Values,
            after: None,
            rows_max: 9,
            bytes_max: 9,
        };
        assert!(matches!(
            rotten.reader().answer(&scan),
            Answer::Unreadable { .. }
        ));
        assert!(matches!(
            rotten.stage(WALL, &[put("k", "w")]),
            Err(Error::Corrupt { .. })
        ));
        assert!(matches!(rotten.commit(), Err(Error::Stopped)));
    }
}

#[test]
fn digests_are_asked_from_the_root_down_to_the_leaf() {
    let mut door = fresh(1);
    let item = written(apply(&mut door, put("k", "v")));
    let partition = key("k").partition(super::COUNT);
    let ask = |nodes| door.reader().answer(&Query::Digest { partition, nodes });
    let mut node = DigestNode { level: 0, index: 0 };
    while node.level < 3 {
        let Answer::Digest { position, hashes } = ask(vec![node]) else {
            panic!("unreadable");
        };
        assert_eq!(
            position.reach(door.actor),
            Reach {
                applied: 1,
                complete: 1
            }
        );
        let at = hashes[0].iter().position(|hash| *hash != 0).unwrap();
        node = DigestNode {
            level: node.level + 1,
            index: node.index * 16 + u16::try_from(at).unwrap(),
        };
    }
    assert!(
        matches!(ask(vec![node]), Answer::Unreadable { .. }),
        "a leaf has no children"
    );
    let leaf = Query::Leaf {
        partition,
        run: Run::of_leaves(node.index, node.index),
        rows_max: 10,
    };
    let Answer::Leaf { rows, next, .. } = door.reader().answer(&leaf) else {
        panic!("unreadable");
    };
    assert_eq!((rows, next), (vec![(key("k"), item.row.summary())], None));
}

#[test]
fn pages_of_scans_and_leaves_go_on_where_they_stopped() {
    let mut door = fresh(1);
    let changes: Vec<Change> = (0..200).map(|i| put(&format!("k{i}"), "v")).collect();
    door.stage(WALL, &changes).unwrap();
    door.stage(
        WALL,
        &(0..50)
            .map(|i| delete(&format!("k{i}")))
            .collect::<Vec<_>>(),
    )
    .unwrap();
    door.commit().unwrap();
    let mut found = Vec::new();
    for partition in options(1).partitions {
        let mut after = None;
        loop {
            let query = Query::Scan {
                partition,
                wanted: Wanted::Values,
                after,
                rows_max: 7,
                bytes_max: 100,
            };
            let Answer::Scan { rows, next } = door.reader().answer(&query) else {
                panic!("unreadable");
            };
            assert!(rows.len() <= 7);
            found.extend(rows.into_iter().map(|(key, _)| key));
            if next.is_none() {
                break;
            }
            after = next;
        }
    }
    assert!(found.is_sorted());
    assert_eq!(found, dump(&door).into_keys().collect::<Vec<_>>());
    assert_eq!(found.len(), 150);
}
