//! The hash of one row.

use xxhash_rust::xxh3::Xxh3;

use crate::model::{DIGEST_LEAVES, Row, RowKey};

/// Sets these hashes apart from tokens and checksums of the same bytes.
const SEED: u64 = 0x7374_6572_6e61_0001;

/// The share of a row in its leaf: zero for a tombstone.
pub fn row_hash(key: &RowKey, row: &Row) -> u128 {
    let Row::Register(version) = row;
    let Some(value) = &version.value else {
        return 0;
    };
    let mut hasher = Xxh3::with_seed(SEED);
    let mut head = Vec::with_capacity(64 + key.key.len() + key.subkey.len());
    head.extend_from_slice(&key.keyspace.0.to_be_bytes());
    part(&mut head, &key.key);
    part(&mut head, &key.subkey);
    // The kind of row.
    head.push(0);
    head.extend_from_slice(&version.timestamp.micros.to_be_bytes());
    head.extend_from_slice(&version.timestamp.logical.to_be_bytes());
    head.extend_from_slice(&version.dot.actor.node.0.to_be_bytes());
    head.extend_from_slice(&version.dot.actor.incarnation.0.to_be_bytes());
    head.extend_from_slice(&version.dot.n.to_be_bytes());
    hasher.update(&head);
    hasher.update(value);
    hasher.digest128()
}

/// A part of varying length, so written that no two lists of parts give the same bytes.
fn part(into: &mut Vec<u8>, bytes: &[u8]) {
    let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    into.extend_from_slice(&length.to_be_bytes());
    into.extend_from_slice(bytes);
}

/// The leaf of its partition's digest that a row counts in, in a cluster of so many partitions.
pub fn leaf_of(key: &RowKey, partition_count: u16) -> u16 {
    key.token.leaf_index(partition_count, DIGEST_LEAVES)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::model::{Actor, Dot, Incarnation, KeyspaceId, NodeId, Timestamp, Version};

    fn row(n: u64, value: Option<&'static str>) -> Row {
        Row::Register(Version {
            timestamp: Timestamp {
                micros: 5,
                logical: 1,
            },
            dot: Dot {
                actor: Actor {
                    node: NodeId(1),
                    incarnation: Incarnation(2),
                },
                n,
            },
            value: value.map(Bytes::from),
        })
    }

    fn key(key: &'static str, subkey: &'static str) -> RowKey {
        RowKey {
            subkey: Bytes::from(subkey),
            ..RowKey::plain(KeyspaceId(9), Bytes::from(key))
        }
    }

    #[test]
    fn every_part_counts() {
        let hash = row_hash(&key("k", ""), &row(1, Some("v")));
        assert_ne!(hash, row_hash(&key("l", ""), &row(1, Some("v"))));
        assert_ne!(hash, row_hash(&key("k", "v"), &row(1, Some(""))));
        assert_ne!(hash, row_hash(&key("k", ""), &row(2, Some("v"))));
        assert_ne!(hash, row_hash(&key("k", ""), &row(1, Some("w"))));
        assert_ne!(hash, 0);
    }

    #[test]
    fn a_tombstone_counts_as_nothing() {
        assert_eq!(row_hash(&key("k", ""), &row(1, None)), 0);
    }

    #[test]
    fn hashes_never_change() {
        let hash = row_hash(&key("k", "s"), &row(1, Some("v")));
        assert_eq!(format!("{hash:032x}"), "e5c821a255c6a82327381fb971fbdb71");
    }
}
