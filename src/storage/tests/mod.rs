//! Tests of the door on the engine in memory, and helpers for all of them.

mod conformance;
mod convergence;
mod crash;
mod door;
mod fjall;
mod forms;
mod log;
mod store;

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{Door, Memory, MemoryDisk, OpenOptions, Opened, Space, keys, load, rows};
use crate::model::{
    Actor, Answer, Change, Effect, KeyspaceId, Limits, LogItem, LogPage, LogQuery, NodeId,
    PartitionId, Position, Query, Row, RowKey, Wall, Write, WriteOp,
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
    }
}

pub(super) fn open(disk: &MemoryDisk, node: u32) -> (Door<Memory>, Opened) {
    Door::open(disk.engine(), options(node)).unwrap()
}

/// A door on an empty disk.
pub(super) fn fresh(node: u32) -> Door<Memory> {
    open(&MemoryDisk::new(), node).0
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
    for (partition, known) in &door.partitions {
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
}

/// Records in a space.
pub(super) fn count(door: &Door<Memory>, space: Space, prefix: &[u8]) -> usize {
    use super::Snapshot as _;
    let mut count = 0;
    let all = (std::ops::Bound::Unbounded, std::ops::Bound::Unbounded);
    door.snapshot
        .range(space, all.0, all.1, &mut |key, _| {
            count += usize::from(key.starts_with(prefix));
            std::ops::ControlFlow::Continue(())
        })
        .unwrap();
    count
}
