//! The hash of one row.

use xxhash_rust::xxh3::Xxh3;

use crate::model::{DIGEST_LEAVES, Dot, Row, RowKey, Timestamp, Version};

/// Sets these hashes apart from tokens and checksums of the same bytes.
const SEED: u64 = 0x7374_6572_6e61_0001;

/// The share of a row in its leaf: zero for a tombstone. Only what a client would see goes into it, and which
/// change wrote it: not what a state remembers of changes that are gone, which replicas forget at different times.
pub fn row_hash(key: &RowKey, row: &Row) -> u128 {
    if row.is_tombstone() {
        return 0;
    }
    let mut hasher = Xxh3::with_seed(SEED);
    let mut head = Vec::with_capacity(64 + key.key.len() + key.subkey.len());
    head.extend_from_slice(&key.keyspace.0.to_be_bytes());
    part(&mut head, &key.key);
    part(&mut head, &key.subkey);
    match row {
        Row::Register(version) => {
            head.push(0);
            hasher.update(&head);
            version_hash(&mut hasher, version);
        }
        Row::Siblings(row) => {
            head.push(1);
            hasher.update(&head);
            for version in row.versions() {
                let value = version.value.as_ref().map_or(0, |value| value.len());
                hasher.update(&u64::try_from(value).unwrap_or(u64::MAX).to_be_bytes());
                version_hash(&mut hasher, version);
            }
        }
        Row::Share(share) => {
            head.push(2);
            for tally in [share.own, share.reset] {
                head.extend_from_slice(&tally.n.to_be_bytes());
                head.extend_from_slice(&tally.since.to_be_bytes());
                head.extend_from_slice(&tally.sum.to_be_bytes());
            }
            hasher.update(&head);
        }
        Row::Once(once) => {
            head.push(3);
            for (dot, sum) in &once.applied {
                push_dot(&mut head, *dot);
                head.extend_from_slice(&sum.to_be_bytes());
            }
            hasher.update(&head);
        }
        Row::Clear(_) => return 0,
        Row::Expiry(expiry) => {
            head.push(5);
            head.extend_from_slice(&expiry.upto.0.to_be_bytes());
            hasher.update(&head);
        }
        Row::Conflict(conflict) => {
            head.push(6);
            push_dot(&mut head, conflict.stamp.dot);
            push_dot(&mut head, conflict.winner.dot);
            hasher.update(&head);
            if let Some(loser) = &conflict.loser {
                version_hash(&mut hasher, loser);
            }
        }
    }
    hasher.digest128()
}

fn version_hash(hasher: &mut Xxh3, version: &Version) {
    let mut head = Vec::with_capacity(32);
    let Timestamp { micros, logical } = version.timestamp;
    head.extend_from_slice(&micros.to_be_bytes());
    head.extend_from_slice(&logical.to_be_bytes());
    push_dot(&mut head, version.dot);
    hasher.update(&head);
    hasher.update(version.value.as_deref().unwrap_or_default());
}

fn push_dot(into: &mut Vec<u8>, dot: Dot) {
    into.extend_from_slice(&dot.actor.node.0.to_be_bytes());
    into.extend_from_slice(&dot.actor.incarnation.0.to_be_bytes());
    into.extend_from_slice(&dot.n.to_be_bytes());
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
    use crate::model::{Actor, Incarnation, KeyspaceId, NodeId, Stamp};

    fn row(n: u64, value: Option<&'static str>) -> Row {
        let stamp = Stamp {
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
        };
        Row::Register(Version::new(stamp, value.map(Bytes::from)))
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
