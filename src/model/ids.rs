//! Names. A name in a topology file becomes a 32-bit hash, so that it costs the same everywhere and
//! never depends on the order of a file; `placement` refuses a file in which two names collide.

use std::fmt;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

fn hash32(name: &str, seed: u64) -> u32 {
    let [a, b, c, d, ..] = xxh3_64_with_seed(name.as_bytes(), seed).to_be_bytes();
    u32::from_be_bytes([a, b, c, d])
}

/// A node of the cluster: the hash of its id in the topology file.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct NodeId(pub u32);

/// A region of the cluster: the hash of its name in the topology file.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct RegionId(pub u32);

/// A keyspace: the hash of its name in the topology file.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct KeyspaceId(pub u32);

impl NodeId {
    /// The id of the node with this name.
    pub fn of(name: &str) -> Self {
        Self(hash32(name, 1))
    }
}

impl RegionId {
    /// The id of the region with this name.
    pub fn of(name: &str) -> Self {
        Self(hash32(name, 2))
    }
}

impl KeyspaceId {
    /// The id of the keyspace with this name.
    pub fn of(name: &str) -> Self {
        Self(hash32(name, 3))
    }
}

/// One life of a node that it can vouch for: new whenever the last stop was not provably clean.
/// Milliseconds since 1970 in the upper 44 bits and chance in the lower 20, so that a wiped node
/// never meets its old self, and always greater than the one before it on the same disk.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Incarnation(pub u64);

/// Who coordinated a change: a node in one of its incarnations.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Actor {
    /// The node.
    pub node: NodeId,
    /// Which of its lives.
    pub incarnation: Incarnation,
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}.{:x}", self.node.0, self.incarnation.0)
    }
}

/// The n-th change that an actor coordinated in one partition; n is dense from 1.
/// Invariant: no two different changes ever carry the same dot (the door stamps, incarnations change).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Dot {
    /// The coordinator.
    pub actor: Actor,
    /// Its number in the partition's log of that actor.
    pub n: u64,
}

impl Dot {
    /// No change: what has this dot was never written.
    pub const NONE: Self = Self {
        actor: Actor {
            node: NodeId(0),
            incarnation: Incarnation(0),
        },
        n: 0,
    };
}

/// The 64-bit hash of a key; rows are stored in token order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Token(pub u64);

impl Token {
    /// The token of a key.
    pub fn of(key: &[u8]) -> Self {
        Self(xxh3_64(key))
    }

    /// The partition, of `count`, whose range of tokens holds this one.
    pub fn partition_index(self, count: u16) -> u16 {
        let product = u128::from(self.0) * u128::from(count);
        u16::try_from(product >> 64).unwrap_or(u16::MAX)
    }

    /// Which of `leaves` equal ranges of its partition (of `count`) holds this token.
    pub fn leaf_index(self, count: u16, leaves: u16) -> u16 {
        let product = u128::from(self.0) * u128::from(count);
        let within = product & u128::from(u64::MAX);
        u16::try_from((within * u128::from(leaves)) >> 64).unwrap_or(u16::MAX)
    }

    /// The first token of leaf `leaf` (of `leaves`) of partition `index` (of `count`).
    pub fn leaf_start(index: u16, count: u16, leaf: u16, leaves: u16) -> Self {
        let cells = u128::from(count) * u128::from(leaves);
        let cell = u128::from(index) * u128::from(leaves) + u128::from(leaf);
        let start = (cell << 64).div_ceil(cells);
        Self(u64::try_from(start).unwrap_or(u64::MAX))
    }
}

/// A contiguous range of the tokens of one keyspace: the unit of placement, log, position and digest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct PartitionId {
    /// The keyspace.
    pub keyspace: KeyspaceId,
    /// Which range, from 0 to the cluster's number of partitions less one.
    pub index: u16,
}

impl fmt::Display for PartitionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}/{}", self.keyspace.0, self.index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaf_start_is_the_first_token_of_its_leaf() {
        for count in [1u16, 3, 16, 1000] {
            for leaves in [16u16, 4096] {
                for index in [0, count / 2, count - 1] {
                    for leaf in [0, 1, leaves / 2, leaves - 1] {
                        let start = Token::leaf_start(index, count, leaf, leaves);
                        assert_eq!(start.partition_index(count), index);
                        assert_eq!(start.leaf_index(count, leaves), leaf);
                        if let Some(before) = start.0.checked_sub(1) {
                            let before = Token(before);
                            let same = before.partition_index(count) == index
                                && before.leaf_index(count, leaves) == leaf;
                            assert!(!same, "{count} {leaves} {index} {leaf}");
                        }
                    }
                }
            }
        }
    }
}
