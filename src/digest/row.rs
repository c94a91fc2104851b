//! The hash of one row.

use xxhash_rust::xxh3::Xxh3;

use crate::model::planted::{Guard, is_left_out};
use crate::model::{DIGEST_LEAVES, Dot, Row, RowKey, Timestamp, Version};

/// Sets these hashes apart from tokens and checksums of the same bytes.
const SEED: u64 = 0x7374_6572_6e61_0001;

/// The share of a row in its leaf: zero for a tombstone. Only what a client would see goes into it, and which
/// change wrote it: not what a state remembers of changes that are gone, which replicas forget at different times.
pub fn row_hash(key: &RowKey, row: &Row) -> u128 {
    if row.is_tombstone() && !is_left_out(Guard::DigestGraves) {
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
                let value = version.value.as_ref().map_or(0, bytes::Bytes::len);
                hasher.update(&u64::try_from(value).unwrap_or(u64::MAX).to_be_bytes());
                version_hash(&mut hasher, version);
            }
        }
        Row::Share(share) => {
            head.push(2);
            for tally in [share.own, share.observed()] {
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
    use std::collections::{BTreeMap, BTreeSet};

    use bytes::Bytes;

    use super::*;
    use crate::model::{
        Actor, Clear, Conflict, Context, Expiry, Incarnation, KeyspaceId, NodeId, Once, Share,
        Siblings, Stamp, Tally, Wall,
    };

    fn dot(n: u64) -> Dot {
        let actor = Actor {
            node: NodeId(1),
            incarnation: Incarnation(2),
        };
        Dot { actor, n }
    }

    fn stamp(n: u64) -> Stamp {
        let timestamp = Timestamp {
            micros: 5,
            logical: 1,
        };
        Stamp {
            timestamp,
            dot: dot(n),
        }
    }

    fn version(n: u64, value: Option<&'static str>) -> Version {
        Version::new(stamp(n), value.map(Bytes::from))
    }

    fn row(n: u64, value: Option<&'static str>) -> Row {
        Row::Register(version(n, value))
    }

    fn key(key: &'static str, subkey: &'static str) -> RowKey {
        RowKey {
            subkey: Bytes::from(subkey),
            ..RowKey::plain(KeyspaceId(9), Bytes::from(key))
        }
    }

    fn hash(row: &Row) -> u128 {
        row_hash(&key("k", ""), row)
    }

    fn siblings(versions: &[(u64, &'static str)], seen: &[u64]) -> Siblings {
        let mut row = Siblings::default();
        for (n, value) in versions {
            row.put(version(*n, Some(value)), &Context::default());
        }
        let other = |n: &u64| Dot {
            actor: Actor {
                node: NodeId(7),
                incarnation: Incarnation(1),
            },
            n: *n,
        };
        row.forget(&seen.iter().map(other).collect());
        row
    }

    fn tally(n: u64, since: u64, sum: i64) -> Tally {
        Tally { n, since, sum }
    }

    fn share(own: Tally, reset: Tally) -> Row {
        let stamp = stamp(9);
        Row::Share(Share { stamp, own, reset })
    }

    fn once(applied: &[(u64, i64)], is_spent: bool) -> Row {
        let applied = applied.iter().map(|(n, sum)| (dot(*n), *sum));
        Row::Once(Once {
            stamp: stamp(9),
            applied: applied.collect::<BTreeMap<_, _>>(),
            gone: BTreeSet::new(),
            expires: Wall(50),
            is_spent,
        })
    }

    fn conflict(n: u64, winner: u64, loser: Option<&'static str>) -> Row {
        Row::Conflict(Conflict {
            stamp: stamp(n),
            winner: stamp(winner),
            loser: loser.map(|value| version(1, Some(value))),
            expires: Wall(50),
        })
    }

    fn expiry(n: u64, upto: u64) -> Row {
        Row::Expiry(Expiry {
            stamp: stamp(n),
            upto: Wall(upto),
        })
    }

    /// All of these hash differently, and none as a tombstone.
    fn check_apart(rows: &[Row]) {
        let hashes: Vec<u128> = rows.iter().map(hash).collect();
        for (index, hash) in hashes.iter().enumerate() {
            assert_ne!(*hash, 0, "{:?}", rows[index]);
            assert!(!hashes[..index].contains(hash), "{:?}", rows[index]);
        }
    }

    #[test]
    fn every_part_of_the_name_counts() {
        let hash = row_hash(&key("k", ""), &row(1, Some("v")));
        assert_ne!(hash, row_hash(&key("l", ""), &row(1, Some("v"))));
        assert_ne!(hash, row_hash(&key("k", "v"), &row(1, Some(""))));
    }

    #[test]
    fn every_part_of_a_state_counts() {
        let of = |versions| Row::Siblings(siblings(versions, &[]));
        check_apart(&[
            row(1, Some("v")),
            row(2, Some("v")),
            row(1, Some("w")),
            of(&[(1, "v")]),
            of(&[(2, "v")]),
            of(&[(1, "w")]),
            of(&[(1, "v"), (2, "v")]),
            of(&[(1, "v"), (2, "w")]),
            of(&[(1, "")]),
            share(tally(5, 1, 3), Tally::default()),
            share(tally(5, 1, 4), Tally::default()),
            share(tally(6, 1, 3), Tally::default()),
            share(tally(5, 2, 3), Tally::default()),
            share(tally(5, 1, 3), tally(4, 1, 3)),
            share(tally(5, 1, 3), tally(4, 1, 2)),
            once(&[(1, 3)], false),
            once(&[(2, 3)], false),
            once(&[(1, 4)], false),
            once(&[(1, 3), (2, 3)], false),
            expiry(1, 40),
            expiry(1, 41),
            conflict(1, 2, Some("v")),
            conflict(3, 2, Some("v")),
            conflict(1, 3, Some("v")),
            conflict(1, 2, Some("w")),
        ]);
    }

    #[test]
    fn a_tombstone_counts_as_nothing() {
        let mut removed = siblings(&[(1, "v")], &[]);
        removed.remove(stamp(2), &removed.context());
        let clear = Row::Clear(Clear {
            stamp: stamp(1),
            cleared: Context::from_iter([dot(1)]),
        });
        for tombstone in [
            row(1, None),
            Row::Siblings(removed),
            share(tally(5, 1, 3), tally(5, 1, 3)),
            once(&[(1, 3)], true),
            clear,
            conflict(1, 2, None),
        ] {
            assert_eq!(hash(&tombstone), 0, "{tombstone:?}");
        }
    }

    #[test]
    fn what_is_remembered_of_the_gone_does_not_count() {
        let plain = hash(&Row::Siblings(siblings(&[(1, "v")], &[])));
        assert_eq!(hash(&Row::Siblings(siblings(&[(1, "v")], &[8]))), plain);
        let mut removed = siblings(&[(1, "v")], &[]);
        removed.put(version(2, Some("w")), &Context::default());
        removed.remove(stamp(3), &Context::from_iter([dot(1)]));
        let mut compacted = removed.clone();
        compacted.compact(&removed.context());
        assert_ne!(removed, compacted);
        assert_eq!(
            hash(&Row::Siblings(removed)),
            hash(&Row::Siblings(compacted))
        );
        // A share that began anew: one replica has collected it in between, another has not.
        let anew = tally(8, 7, 3);
        assert_eq!(
            hash(&share(anew, tally(5, 1, 9))),
            hash(&share(anew, Tally::default()))
        );
        assert_ne!(
            hash(&share(anew, tally(7, 7, 2))),
            hash(&share(anew, Tally::default()))
        );
    }

    #[test]
    fn the_last_change_of_a_merged_row_does_not_count() {
        assert_eq!(hash(&expiry(1, 40)), hash(&expiry(2, 40)));
    }

    #[test]
    fn hashes_never_change() {
        let hash = row_hash(&key("k", "s"), &row(1, Some("v")));
        assert_eq!(format!("{hash:032x}"), "e5c821a255c6a82327381fb971fbdb71");
    }
}
