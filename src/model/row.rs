//! Rows, and the one function that merges two states of a row.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{Dot, KeyspaceId, PartitionId, Timestamp, Token};

/// The name of a row. Ordered as rows are stored: keyspace, token, key, subkey.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct RowKey {
    /// The keyspace.
    pub keyspace: KeyspaceId,
    /// The hash of `key`.
    pub token: Token,
    /// The client's key: any bytes, at least one.
    pub key: Bytes,
    /// Empty for a plain value; names a part of a collection otherwise.
    pub subkey: Bytes,
}

impl RowKey {
    /// The row of a plain value.
    pub fn plain(keyspace: KeyspaceId, key: Bytes) -> Self {
        Self {
            keyspace,
            token: Token::of(&key),
            key,
            subkey: Bytes::new(),
        }
    }

    /// The partition of this row in a cluster of `count` partitions.
    pub fn partition(&self, count: u16) -> PartitionId {
        PartitionId {
            keyspace: self.keyspace,
            index: self.token.partition_index(count),
        }
    }

    /// Bytes this name takes, roughly, in memory and in a message.
    pub fn size(&self) -> usize {
        self.key.len() + self.subkey.len() + 16
    }
}

/// One version of a register. Without a value it is a tombstone.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Version {
    /// When, by the coordinator's HLC; above everything the coordinator had seen for the key.
    pub timestamp: Timestamp,
    /// Which change made it.
    pub dot: Dot,
    /// The value, or nothing if this is a delete.
    pub value: Option<Bytes>,
}

/// What a client does to a register.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum WriteOp {
    /// Set the value.
    Put(Bytes),
    /// Delete it.
    Delete,
}

/// The state of a row: a sum over the merge policies.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Row {
    /// A register of an `lww` keyspace: the greatest (timestamp, dot) wins.
    Register(Version),
}

/// What must be known of a row to tell whether two replicas hold the same state of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Summary {
    /// The greatest timestamp in the row.
    pub timestamp: Timestamp,
    /// The dot of that version.
    pub dot: Dot,
    /// Whether the row holds no value.
    pub is_tombstone: bool,
}

impl Row {
    /// Merges another state of the same row into this one: associative, commutative, idempotent, and it
    /// never drops a version that is not older than the result. Says whether this state changed.
    pub fn merge(&mut self, other: &Self) -> bool {
        match (&mut *self, other) {
            (Self::Register(mine), Self::Register(theirs)) => {
                let wins = (theirs.timestamp, theirs.dot) > (mine.timestamp, mine.dot);
                if wins {
                    *mine = theirs.clone();
                }
                wins
            }
        }
    }

    /// What this client's write makes of a row that was (or was not) there.
    pub fn write(op: &WriteOp, timestamp: Timestamp, dot: Dot) -> Self {
        let value = match op {
            WriteOp::Put(value) => Some(value.clone()),
            WriteOp::Delete => None,
        };
        Self::Register(Version {
            timestamp,
            dot,
            value,
        })
    }

    /// The summary of this state.
    pub fn summary(&self) -> Summary {
        match self {
            Self::Register(version) => Summary {
                timestamp: version.timestamp,
                dot: version.dot,
                is_tombstone: version.value.is_none(),
            },
        }
    }

    /// Whether the row holds no value: it is kept only until every replica has it.
    pub fn is_tombstone(&self) -> bool {
        self.summary().is_tombstone
    }

    /// The dots of all versions in this state.
    pub fn dots(&self) -> Vec<Dot> {
        match self {
            Self::Register(version) => vec![version.dot],
        }
    }

    /// Bytes this state takes, roughly, in memory and in a message.
    pub fn size(&self) -> usize {
        match self {
            Self::Register(version) => version.value.as_ref().map_or(0, Bytes::len) + 40,
        }
    }
}

impl Summary {
    /// Whether a row of this summary would win over one of `other`.
    pub fn is_newer_than(&self, other: &Self) -> bool {
        (self.timestamp, self.dot) > (other.timestamp, other.dot)
    }
}
