//! Small histories and dumps for the checkers' own tests.

use bytes::Bytes;

use crate::history::{self, Action, Ending, Record, Seen, Wishes, value_of};
use crate::model::{
    Actor, Dot, Incarnation, KeyspaceId, Level, NodeId, PartitionId, RegionId, Row, RowKey, Stamp,
    Summary, Timestamp, Version,
};

pub(crate) fn key(name: &'static str) -> RowKey {
    RowKey::plain(KeyspaceId(1), Bytes::from_static(name.as_bytes()))
}

pub(crate) fn partition() -> PartitionId {
    PartitionId {
        keyspace: KeyspaceId(1),
        index: 0,
    }
}

pub(crate) fn actor(node: u32) -> Actor {
    Actor {
        node: NodeId(node),
        incarnation: Incarnation(1),
    }
}

/// The summary of the n-th write; its timestamp is n.
pub(crate) fn summary(n: u64, is_tombstone: bool) -> Summary {
    row(n, (!is_tombstone).then_some(n)).summary()
}

/// The row of the n-th write.
pub(crate) fn row(n: u64, token: Option<u64>) -> Row {
    let stamp = Stamp {
        timestamp: Timestamp {
            micros: n,
            logical: 0,
        },
        dot: Dot { actor: actor(1), n },
    };
    Row::Register(Version::new(stamp, token.map(|token| value_of(token, 0))))
}

/// What a reader sees of the n-th write.
pub(crate) fn seen(n: u64, token: Option<u64>) -> Seen {
    history::seen(&row(n, token))
}

/// An operation of client 0 in region 1.
pub(crate) fn record(
    name: &'static str,
    action: Action,
    when: (u64, u64),
    ending: Ending,
) -> Record {
    Record {
        id: when.0,
        client: 0,
        region: RegionId(1),
        node: NodeId(1),
        level: Level::LocalQuorum,
        key: key(name),
        action,
        wishes: Wishes::default(),
        invoked: when.0,
        ended: Some(when.1),
        ending,
    }
}

/// A put of token n, acknowledged as the n-th write.
pub(crate) fn put(name: &'static str, n: u64, when: (u64, u64)) -> Record {
    record(
        name,
        Action::Put(n),
        when,
        Ending::Written(summary(n, false)),
    )
}

/// A delete, acknowledged as the n-th write.
pub(crate) fn delete(name: &'static str, n: u64, when: (u64, u64)) -> Record {
    record(
        name,
        Action::Delete,
        when,
        Ending::Written(summary(n, true)),
    )
}

/// A put of token n that ended in some other way.
pub(crate) fn bad_put(name: &'static str, n: u64, when: (u64, u64), ending: Ending) -> Record {
    record(name, Action::Put(n), when, ending)
}

/// A read of the n-th write, which was a put of token n.
pub(crate) fn read(name: &'static str, n: u64, when: (u64, u64)) -> Record {
    let seen = Seen {
        summary: summary(n, false),
        token: Some(n),
    };
    record(name, Action::Get, when, Ending::Read(Some(seen)))
}

/// A read of nothing.
pub(crate) fn read_nothing(name: &'static str, when: (u64, u64)) -> Record {
    record(name, Action::Get, when, Ending::Read(None))
}
