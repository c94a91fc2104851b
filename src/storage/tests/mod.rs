//! Tests of the door on the engine in memory, and helpers for all of them.

mod clear;
mod conflict;
mod conformance;
mod convergence;
mod crash;
mod damage;
mod door;
mod expiry;
mod fjall;
mod forms;
mod kinds;
mod log;
mod pages;
mod retire;
mod scrub;
mod store;
mod trust;
mod write;

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{Door, Memory, MemoryDisk, OpenOptions, Opened, SWEEP_ROWS, Space, keys, load, rows};
use crate::model::{
    Actor, Answer, Change, Collection, Effect, KeyspaceId, Limits, LogItem, LogPage, LogQuery,
    NodeId, PartitionId, Place, Position, Query, Row, RowKey, Selection, Wall, Write, WriteOp,
};

pub(super) const SPACE: KeyspaceId = KeyspaceId(7);
pub(super) const COUNT: u16 = 4;
pub(super) const WALL: Wall = Wall(1_700_000_000_000_000);

pub(super) fn key(name: &str) -> RowKey {
    RowKey::plain(SPACE, Bytes::copy_from_slice(name.as_bytes()))
}

pub(super) fn options(node: u32) -> OpenOptions {
    OpenOptions {
        node: NodeId(node),
        partitions: (0..COUNT)
            .map(|index| PartitionId {
                keyspace: SPACE,
                index,
            })
            .collect(),
        partition_count: COUNT,
        limits: Limits::default(),
        conflicts_kept: BTreeMap::new(),
        wall: WALL,
        chance: 5,
        sweep_rows: SWEEP_ROWS,
    }
}

pub(super) fn open(disk: &MemoryDisk, node: u32) -> (Door<Memory>, Opened) {
    Door::open(disk.engine(), options(node)).unwrap()
}

/// A door on an empty disk.
pub(super) fn fresh(node: u32) -> Door<Memory> {
    open(&MemoryDisk::new(), node).0
}

/// Keys of one partition.
pub(super) fn names(partition: PartitionId) -> impl Iterator<Item = String> {
    (0..)
        .map(|i: u32| format!("n{i}"))
        .filter(move |name| key(name).partition(COUNT) == partition)
}

pub(super) fn put(name: &str, value: &str) -> Change {
    let value = Bytes::copy_from_slice(value.as_bytes());
    Change::Write(Write::new(key(name), WriteOp::Put(value)))
}

pub(super) fn delete(name: &str) -> Change {
    Change::Write(Write::new(key(name), WriteOp::Delete))
}

/// Stages and commits one change.
pub(super) fn apply(door: &mut Door<Memory>, change: Change) -> Effect {
    let effects = door.stage(WALL, &[change]).unwrap();
    door.commit().unwrap();
    effects.into_iter().next().unwrap()
}

pub(super) fn written(effect: Effect) -> LogItem {
    let Effect::Written { items, .. } = effect else {
        panic!("not written: {effect:?}");
    };
    items.into_iter().next().unwrap()
}

pub(super) fn row(door: &Door<Memory>, name: &str) -> Option<Row> {
    let Answer::Rows(rows) = door.reader().answer(&Query::Rows(vec![key(name)])) else {
        panic!("unreadable");
    };
    rows.into_iter().next().unwrap()
}

pub(super) fn value(door: &Door<Memory>, name: &str) -> Option<Bytes> {
    row(door, name).and_then(|row| {
        let Row::Register(version) = row else {
            panic!("not a register: {row:?}");
        };
        version.value
    })
}

pub(super) fn log_page(
    door: &Door<Memory>,
    partition: PartitionId,
    actor: Actor,
    after: u64,
) -> LogPage {
    let query = LogQuery {
        partition,
        actor,
        after,
        upto: u64::MAX,
        bytes_max: usize::MAX,
    };
    let Answer::Log(page) = door.reader().answer(&Query::Log(query)) else {
        panic!("unreadable");
    };
    page
}

/// The piece of log that leads from the receiver's position as far as the sender can.
pub(super) fn piece(
    sender: &Door<Memory>,
    receiver: &Door<Memory>,
    partition: PartitionId,
    actor: Actor,
) -> Option<Change> {
    let reach = receiver.marks(partition, actor).reach;
    let page = log_page(sender, partition, actor, reach.complete);
    if page.trimmed > reach.complete || page.to <= reach.complete {
        return None;
    }
    Some(Change::Append {
        partition,
        actor,
        from: reach.complete,
        to: page.to,
        complete_from: page.complete.then_some(reach.complete),
        items: page.items,
    })
}

/// A write that must happen; its rows.
pub(super) fn change(door: &mut Door<Memory>, name: &str, op: WriteOp) -> Vec<LogItem> {
    let effect = write(door, name, op);
    let Effect::Written { items, .. } = effect else {
        panic!("not written: {effect:?}");
    };
    items
}

pub(super) fn write(door: &mut Door<Memory>, name: &str, op: WriteOp) -> Effect {
    apply(door, Change::Write(Write::new(key(name), op)))
}

pub(super) fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

/// Rows of one key.
pub(super) fn select(
    door: &Door<Memory>,
    selection: Selection,
) -> (Vec<(RowKey, Row)>, Option<Bytes>) {
    let answer = door.reader().answer(&Query::Select {
        selection,
        beyond: None,
    });
    let Answer::Selected { rows, next, .. } = answer else {
        panic!("not selected: {answer:?}");
    };
    (rows, next)
}

/// A whole collection.
pub(super) fn page(door: &Door<Memory>, name: &str, collection: Collection) -> Vec<(RowKey, Row)> {
    let selection = Selection::Page {
        key: key(name),
        collection,
        after: None,
        upto: None,
        rows_max: u32::MAX,
        bytes_max: u32::MAX,
    };
    select(door, selection).0
}

pub(super) fn members(door: &Door<Memory>, name: &str) -> Vec<Bytes> {
    crate::model::members(&page(door, name, Collection::Set), WALL)
}

pub(super) fn counter(door: &Door<Memory>, name: &str) -> Option<i128> {
    let place = Place::Key;
    let selection = Selection::Counter {
        key: key(name),
        place: place.clone(),
    };
    crate::model::counter(&select(door, selection).0, &place)
}

pub(super) fn position(door: &Door<Memory>, partition: PartitionId) -> Position {
    door.partitions.get(&partition).unwrap().position()
}

/// Gives the receiver everything in the sender's logs.
pub(super) fn feed(sender: &Door<Memory>, receiver: &mut Door<Memory>) {
    for partition in options(0).partitions {
        for actor in position(sender, partition).reaches.into_keys() {
            if let Some(change) = piece(sender, receiver, partition, actor) {
                let effect = apply(receiver, change);
                assert!(matches!(effect, Effect::Appended { .. }), "{effect:?}");
            }
        }
    }
}

/// Everything in a store, tombstones left out.
pub(super) fn dump(door: &Door<Memory>) -> BTreeMap<RowKey, Row> {
    let mut rows = BTreeMap::new();
    for partition in options(0).partitions {
        let reader = door.reader();
        reader
            .for_each_row(partition, |key, row| {
                if !row.is_tombstone() {
                    rows.insert(key, row);
                }
            })
            .unwrap();
    }
    rows
}

pub(super) fn roots(door: &Door<Memory>) -> Vec<u128> {
    let reader = door.reader();
    let partitions = options(0).partitions;
    partitions
        .iter()
        .map(|id| reader.root(*id).unwrap())
        .collect()
}

/// Digests are those of the rows, and every log counts the bytes that it has.
pub(super) fn check_store(door: &Door<Memory>) {
    assert_eq!(door.reader().verify_digests().unwrap(), Vec::new());
    let (mut repeats, mut applied) = (0, 0);
    for (partition, known) in &door.partitions {
        let (mut noted, mut graves, mut repeated) = (0, 0, 0);
        let reader = door.reader();
        reader
            .for_each_row(*partition, |_, row| {
                assert!(row.next_expiry().is_none_or(|at| at > known.cut));
                noted += usize::from(row.next_expiry().is_some());
                graves += usize::from(row.is_tombstone());
                if let Row::Once(once) = &row {
                    repeated += usize::from(once.is_repeated());
                    applied += once.applied.len();
                }
            })
            .unwrap();
        let records = |span: keys::Span| {
            let mut records = 0;
            load::for_each(&door.snapshot, Space::Meta, &span, |_, _| {
                records += 1;
                Ok(())
            })
            .unwrap();
            records
        };
        assert_eq!(
            records(keys::expiry_span(*partition, Wall(u64::MAX))),
            noted
        );
        assert_eq!(records(keys::graves_span(*partition)), graves);
        repeats += repeated;
        for (actor, marks) in &known.logs {
            let span = keys::log_span(*partition, *actor, 0, u64::MAX);
            let mut bytes = 0;
            load::for_each(&door.snapshot, Space::Log, &span, |key, value| {
                bytes += rows::entry_bytes(key, value);
                Ok(())
            })
            .unwrap();
            assert_eq!(marks.bytes, bytes, "{partition} {actor}");
        }
    }
    assert_eq!(count(door, Space::Meta, b"R"), repeats);
    assert_eq!(count(door, Space::Meta, b"O"), applied);
}

/// Records in a space, numbers of batches left out.
pub(super) fn count(door: &Door<Memory>, space: Space, prefix: &[u8]) -> usize {
    use super::Snapshot as _;
    let mut count = 0;
    let all = (std::ops::Bound::Unbounded, std::ops::Bound::Unbounded);
    door.snapshot
        .range(space, all.0, all.1, &mut |key, _| {
            count += usize::from(key.starts_with(prefix) && !keys::is_batch(key));
            std::ops::ControlFlow::Continue(())
        })
        .unwrap();
    count
}
