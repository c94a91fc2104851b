//! The stored names of things: big-endian and escaped, so that bytes sort as their meanings do.
//!
//! Rows sort by keyspace, token, key and subkey, so a partition's rows, and a digest leaf's, are contiguous.

use std::ops::Bound;

use bytes::Bytes;

use crate::model::{
    Actor, DIGEST_LEAVES, Dot, Incarnation, KeyspaceId, NodeId, PartitionId, RowKey, Token, Wall,
};

/// Longest key or subkey that this room stores, whatever the limits say: escaped, both fit the engine's
/// 65 535 bytes.
pub(super) const KEY_BYTES_MAX: usize = 16 << 10;

/// What the node knows of itself.
pub(super) const LIFE: &[u8] = b"I";
/// Present after a clean stop.
pub(super) const CLEAN: &[u8] = b"K";
/// A bound on all timestamps given.
pub(super) const CLOCK: &[u8] = b"T";

const PARTITION: u8 = b'P';
const MARKS: u8 = b'A';
const LEAF: u8 = b'L';
const GRAVE: u8 = b'G';
const BATCH: u8 = b'N';
const EXPIRY: u8 = b'X';
const REPEATED: u8 = b'R';
const OPERATION: u8 = b'O';
const SWEEP: u8 = b'S';
const REMEMBERED: u8 = b'W';

/// A range of stored keys: from the first (inclusive) to the end (exclusive; nothing means to the last).
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Span {
    /// The first key.
    pub(super) from: Vec<u8>,
    /// The end.
    pub(super) to: Option<Vec<u8>>,
}

impl Span {
    /// All keys that begin with these bytes.
    pub(super) fn prefix(prefix: Vec<u8>) -> Self {
        let to = after_prefix(&prefix);
        Self { from: prefix, to }
    }

    /// The same without what comes up to and with a key.
    pub(super) fn after(mut self, key: Vec<u8>) -> Self {
        if key >= self.from {
            self.from = key;
            self.from.push(0);
        }
        self
    }

    /// Whether no key can lie in it.
    pub(super) fn is_void(&self) -> bool {
        self.to.as_ref().is_some_and(|to| self.from >= *to)
    }

    pub(super) fn start(&self) -> Bound<&[u8]> {
        Bound::Included(&self.from)
    }

    pub(super) fn end(&self) -> Bound<&[u8]> {
        match &self.to {
            Some(to) => Bound::Excluded(to),
            None => Bound::Unbounded,
        }
    }
}

/// The least key above all that begin with these bytes.
fn after_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if let Some(next) = last.checked_add(1) {
            end.push(next);
            return Some(end);
        }
    }
    None
}

/// The stored name of a row.
pub(super) fn row(key: &RowKey) -> Vec<u8> {
    let mut out = Vec::with_capacity(16 + key.key.len() + key.subkey.len());
    out.extend_from_slice(&key.keyspace.0.to_be_bytes());
    out.extend_from_slice(&key.token.0.to_be_bytes());
    for byte in &key.key {
        out.push(*byte);
        if *byte == 0 {
            out.push(0xff);
        }
    }
    out.extend_from_slice(&[0, 1]);
    out.extend_from_slice(&key.subkey);
    out
}

/// The row of a stored name.
pub(super) fn parse_row(bytes: &[u8]) -> Option<RowKey> {
    let (keyspace, rest) = bytes.split_first_chunk::<4>()?;
    let (token, rest) = rest.split_first_chunk::<8>()?;
    let mut key = Vec::with_capacity(rest.len());
    let mut rest = rest.iter();
    loop {
        match *rest.next()? {
            0 => match *rest.next()? {
                0xff => key.push(0),
                1 => break,
                _ => return None,
            },
            byte => key.push(byte),
        }
    }
    Some(RowKey {
        keyspace: KeyspaceId(u32::from_be_bytes(*keyspace)),
        token: Token(u64::from_be_bytes(*token)),
        key: Bytes::from(key),
        subkey: Bytes::copy_from_slice(rest.as_slice()),
    })
}

/// The rows of a partition.
pub(super) fn partition_rows(partition: PartitionId, count: u16) -> Span {
    Span {
        from: leaf_from(partition, count, 0),
        to: leaf_to(partition, count, DIGEST_LEAVES - 1),
    }
}

/// The rows of some leaves of a partition's digest, from `first` to `last`.
pub(super) fn leaf_rows(partition: PartitionId, count: u16, first: u16, last: u16) -> Span {
    Span {
        from: leaf_from(partition, count, first),
        to: leaf_to(partition, count, last),
    }
}

fn leaf_from(partition: PartitionId, count: u16, leaf: u16) -> Vec<u8> {
    let token = Token::leaf_start(partition.index, count, leaf, DIGEST_LEAVES);
    let mut out = partition.keyspace.0.to_be_bytes().to_vec();
    out.extend_from_slice(&token.0.to_be_bytes());
    out
}

fn leaf_to(partition: PartitionId, count: u16, leaf: u16) -> Option<Vec<u8>> {
    if leaf + 1 < DIGEST_LEAVES {
        return Some(leaf_from(partition, count, leaf + 1));
    }
    if partition.index + 1 < count {
        let next = PartitionId {
            index: partition.index + 1,
            ..partition
        };
        return Some(leaf_from(next, count, 0));
    }
    after_prefix(&partition.keyspace.0.to_be_bytes())
}

fn push_partition(out: &mut Vec<u8>, partition: PartitionId) {
    out.extend_from_slice(&partition.keyspace.0.to_be_bytes());
    out.extend_from_slice(&partition.index.to_be_bytes());
}

fn push_actor(out: &mut Vec<u8>, actor: Actor) {
    out.extend_from_slice(&actor.node.0.to_be_bytes());
    out.extend_from_slice(&actor.incarnation.0.to_be_bytes());
}

/// The stored name of a log entry.
pub(super) fn log(partition: PartitionId, actor: Actor, n: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(26);
    push_partition(&mut out, partition);
    push_actor(&mut out, actor);
    out.extend_from_slice(&n.to_be_bytes());
    out
}

/// An actor's log entries after `after` and up to `upto`.
pub(super) fn log_span(partition: PartitionId, actor: Actor, after: u64, upto: u64) -> Span {
    numbered(log, partition, actor, after, upto)
}

/// The stored name of a grave: a row whose present state is the tombstone of this dot.
pub(super) fn grave(partition: PartitionId, actor: Actor, n: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(27);
    out.push(GRAVE);
    out.extend_from_slice(&log(partition, actor, n));
    out
}

/// The graves of an actor's tombstones after `after` and up to `upto`.
pub(super) fn grave_span(partition: PartitionId, actor: Actor, after: u64, upto: u64) -> Span {
    numbered(grave, partition, actor, after, upto)
}

/// The graves of all tombstones of a partition.
pub(super) fn graves_span(partition: PartitionId) -> Span {
    let mut out = vec![GRAVE];
    push_partition(&mut out, partition);
    Span::prefix(out)
}

/// The graves of the tombstones of a node's incarnations up to this one.
pub(super) fn retired_graves_span(partition: PartitionId, node: NodeId, upto: Incarnation) -> Span {
    retired(vec![GRAVE], partition, node, upto)
}

/// The log entries of a node's incarnations up to this one.
pub(super) fn retired_log_span(partition: PartitionId, node: NodeId, upto: Incarnation) -> Span {
    retired(Vec::new(), partition, node, upto)
}

fn retired(prefix: Vec<u8>, partition: PartitionId, node: NodeId, upto: Incarnation) -> Span {
    let mut from = prefix;
    push_partition(&mut from, partition);
    from.extend_from_slice(&node.0.to_be_bytes());
    let mut last = from.clone();
    last.extend_from_slice(&upto.0.to_be_bytes());
    Span {
        from,
        to: after_prefix(&last),
    }
}

/// The rows of a key whose subkeys begin with these bytes.
pub(super) fn parts(key: &RowKey, prefix: &[u8]) -> Span {
    Span::prefix(row(&RowKey {
        subkey: Bytes::copy_from_slice(prefix),
        ..key.clone()
    }))
}

/// The stored name of a note that a row has a value that expires at a time.
pub(super) fn expiry(partition: PartitionId, at: Wall, key: &RowKey) -> Vec<u8> {
    let mut out = expiry_from(partition, at);
    out.extend_from_slice(&row(key));
    out
}

fn expiry_from(partition: PartitionId, at: Wall) -> Vec<u8> {
    let mut out = vec![EXPIRY];
    push_partition(&mut out, partition);
    out.extend_from_slice(&at.0.to_be_bytes());
    out
}

/// Such notes of a partition, up to a time.
pub(super) fn expiry_span(partition: PartitionId, upto: Wall) -> Span {
    Span {
        from: expiry_from(partition, Wall(0)),
        to: after_prefix(&expiry_from(partition, upto)),
    }
}

/// When, and which row.
pub(super) fn parse_expiry(bytes: &[u8]) -> Option<(Wall, RowKey)> {
    let (at, name) = bytes.get(7..)?.split_first_chunk::<8>()?;
    Some((Wall(u64::from_be_bytes(*at)), parse_row(name)?))
}

/// The stored name of a note that an operation was applied more than once.
pub(super) fn repeated(key: &RowKey) -> Vec<u8> {
    let mut out = vec![REPEATED];
    out.extend_from_slice(&row(key));
    out
}

/// Such notes of a key whose subkeys begin with these bytes.
pub(super) fn repeated_span(key: &RowKey, prefix: &[u8]) -> Span {
    Span::prefix(repeated(&RowKey {
        subkey: Bytes::copy_from_slice(prefix),
        ..key.clone()
    }))
}

/// The row of such a note.
pub(super) fn parse_repeated(bytes: &[u8]) -> Option<RowKey> {
    parse_row(bytes.get(1..)?)
}

/// The stored name of a note which operation a change of a counter is, by the counter's place (see
/// [`crate::model::once_prefix`]).
pub(super) fn operation(key: &RowKey, place: &[u8], dot: Dot) -> Vec<u8> {
    let mut out = operations_from(key, place);
    push_actor(&mut out, dot.actor);
    out.extend_from_slice(&dot.n.to_be_bytes());
    out
}

/// Such notes of a counter.
pub(super) fn operations(key: &RowKey, place: &[u8]) -> Span {
    Span::prefix(operations_from(key, place))
}

/// Such notes of an actor's changes of a counter, after `after` and up to `upto`.
pub(super) fn operations_of(
    key: &RowKey,
    place: &[u8],
    actor: Actor,
    after: u64,
    upto: u64,
) -> Span {
    let name = |n| operation(key, place, Dot { actor, n });
    between(name(after), name(upto.max(after)))
}

fn operations_from(key: &RowKey, place: &[u8]) -> Vec<u8> {
    let mut out = vec![OPERATION];
    out.extend_from_slice(&row(&RowKey {
        subkey: Bytes::copy_from_slice(place),
        ..key.clone()
    }));
    out
}

/// The stored name of a sweep that is not done, by the row of the clear.
pub(super) fn sweep(partition: PartitionId, clear: &RowKey) -> Vec<u8> {
    let mut out = vec![SWEEP];
    push_partition(&mut out, partition);
    out.extend_from_slice(&row(clear));
    out
}

/// All sweeps of a partition that are not done.
pub(super) fn sweep_span(partition: PartitionId) -> Span {
    let mut out = vec![SWEEP];
    push_partition(&mut out, partition);
    Span::prefix(out)
}

/// The sweeps of some leaves of a partition, from `first` to `last`, that are not done.
pub(super) fn leaf_sweeps(partition: PartitionId, count: u16, first: u16, last: u16) -> Span {
    let mut head = vec![SWEEP];
    push_partition(&mut head, partition);
    let rows = leaf_rows(partition, count, first, last);
    let to = match rows.to {
        Some(to) => Some([head.clone(), to].concat()),
        None => after_prefix(&head),
    };
    let from = [head, rows.from].concat();
    Span { from, to }
}

/// The row of the clear.
pub(super) fn parse_sweep(bytes: &[u8]) -> Option<RowKey> {
    parse_row(bytes.get(7..)?)
}

fn numbered(
    name: fn(PartitionId, Actor, u64) -> Vec<u8>,
    partition: PartitionId,
    actor: Actor,
    after: u64,
    upto: u64,
) -> Span {
    between(
        name(partition, actor, after),
        name(partition, actor, upto.max(after)),
    )
}

/// What comes after one key, up to and with another.
fn between(mut after: Vec<u8>, mut upto: Vec<u8>) -> Span {
    after.push(0);
    upto.push(0);
    Span {
        from: after,
        to: Some(upto),
    }
}

/// The number at the end of the stored name of a log entry or grave.
pub(super) fn parse_number(bytes: &[u8]) -> Option<u64> {
    let (_, n) = bytes.split_last_chunk::<8>()?;
    Some(u64::from_be_bytes(*n))
}

/// The change at the end of the stored name of a log entry or grave.
pub(super) fn parse_dot(bytes: &[u8]) -> Option<Dot> {
    let (rest, n) = bytes.split_last_chunk::<8>()?;
    Some(Dot {
        actor: parse_actor(rest)?,
        n: u64::from_be_bytes(*n),
    })
}

/// The stored name of a partition's own record.
pub(super) fn partition(partition: PartitionId) -> Vec<u8> {
    let mut out = vec![PARTITION];
    push_partition(&mut out, partition);
    out
}

/// The stored name of an actor's marks.
pub(super) fn marks(partition: PartitionId, actor: Actor) -> Vec<u8> {
    let mut out = vec![MARKS];
    push_partition(&mut out, partition);
    push_actor(&mut out, actor);
    out
}

/// The marks of all actors of a partition.
pub(super) fn marks_span(partition: PartitionId) -> Span {
    let mut out = vec![MARKS];
    push_partition(&mut out, partition);
    Span::prefix(out)
}

/// The actor at the end of the stored name of marks.
pub(super) fn parse_actor(bytes: &[u8]) -> Option<Actor> {
    let (rest, incarnation) = bytes.split_last_chunk::<8>()?;
    let (_, node) = rest.split_last_chunk::<4>()?;
    Some(Actor {
        node: NodeId(u32::from_be_bytes(*node)),
        incarnation: Incarnation(u64::from_be_bytes(*incarnation)),
    })
}

/// The stored name of the sum of a leaf.
pub(super) fn leaf(partition: PartitionId, leaf: u16) -> Vec<u8> {
    let mut out = vec![LEAF];
    push_partition(&mut out, partition);
    out.extend_from_slice(&leaf.to_be_bytes());
    out
}

/// The stored name of what another replica once told of a partition.
pub(super) fn remembered(partition: PartitionId, node: NodeId) -> Vec<u8> {
    let mut out = vec![REMEMBERED];
    push_partition(&mut out, partition);
    out.extend_from_slice(&node.0.to_be_bytes());
    out
}

/// What all other replicas once told of a partition.
pub(super) fn remembered_span(partition: PartitionId) -> Span {
    let mut out = vec![REMEMBERED];
    push_partition(&mut out, partition);
    Span::prefix(out)
}

/// The node at the end of such a name.
pub(super) fn parse_remembered(bytes: &[u8]) -> Option<NodeId> {
    let (_, node) = bytes.split_last_chunk::<4>()?;
    Some(NodeId(u32::from_be_bytes(*node)))
}

/// The sums of all leaves of a partition.
pub(super) fn leaf_span(partition: PartitionId) -> Span {
    let mut out = vec![LEAF];
    push_partition(&mut out, partition);
    Span::prefix(out)
}

/// The leaf at the end of its stored name.
pub(super) fn parse_leaf(bytes: &[u8]) -> Option<u16> {
    let (_, leaf) = bytes.split_last_chunk::<2>()?;
    Some(u16::from_be_bytes(*leaf))
}

/// The slot in which a batch's number is noted; in every space.
pub(super) fn batch(slot: u16) -> Vec<u8> {
    let mut out = vec![BATCH];
    out.extend_from_slice(&slot.to_be_bytes());
    out
}

/// All such slots, and perhaps others.
pub(super) fn batch_span() -> Span {
    Span::prefix(vec![BATCH])
}

/// Whether this is the name of such a slot. Names of rows and log entries are longer, and no range of them holds one.
pub(super) fn is_batch(bytes: &[u8]) -> bool {
    matches!(bytes, [BATCH, _, _])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn keys() -> impl Strategy<Value = RowKey> {
        let byte = prop_oneof![Just(0u8), Just(1), Just(254), Just(255), any::<u8>()];
        let bytes = proptest::collection::vec(byte, 0..5);
        (0u32..2, 0u64..2, bytes.clone(), bytes).prop_map(|(keyspace, token, key, subkey)| RowKey {
            keyspace: KeyspaceId(keyspace),
            token: Token(token),
            key: Bytes::from(key),
            subkey: Bytes::from(subkey),
        })
    }

    proptest! {
        #[test]
        fn stored_rows_sort_as_rows_and_come_back(a in keys(), b in keys()) {
            prop_assert_eq!(row(&a).cmp(&row(&b)), a.cmp(&b));
            prop_assert_eq!(parse_row(&row(&a)), Some(a));
        }

        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let parsed = parse_row(&bytes);
            prop_assert!(parsed.is_none_or(|key| row(&key) == bytes));
            parse_number(&bytes);
            parse_actor(&bytes);
        }

        #[test]
        fn a_row_lies_in_its_partition_and_leaf(
            key in proptest::collection::vec(any::<u8>(), 1..9),
            keyspace in prop_oneof![Just(u32::MAX), any::<u32>()],
            count in 1u16..100,
        ) {
            let key = RowKey::plain(KeyspaceId(keyspace), Bytes::from(key));
            let stored = row(&key);
            let partition = key.partition(count);
            let leaf = key.token.leaf_index(count, DIGEST_LEAVES);
            for span in [partition_rows(partition, count), leaf_rows(partition, count, leaf, leaf)] {
                prop_assert!(span.from <= stored);
                prop_assert!(span.to.is_none_or(|to| stored < to));
            }
        }
    }

    #[test]
    fn the_longest_key_fits_the_engine() {
        let worst = Bytes::from(vec![0u8; KEY_BYTES_MAX]);
        let key = RowKey {
            subkey: worst.clone(),
            ..RowKey::plain(KeyspaceId(1), worst)
        };
        assert!(row(&key).len() <= 65_535);
    }

    #[test]
    fn the_last_leaf_holds_the_last_token() {
        let partition = PartitionId {
            keyspace: KeyspaceId(u32::MAX),
            index: 6,
        };
        assert_eq!(leaf_rows(partition, 7, 0, DIGEST_LEAVES - 1).to, None);
        let before = PartitionId {
            index: 5,
            ..partition
        };
        assert_eq!(
            leaf_rows(before, 7, 0, DIGEST_LEAVES - 1).to,
            Some(leaf_rows(partition, 7, 0, 0).from)
        );
    }
}
