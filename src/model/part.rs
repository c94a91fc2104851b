//! The parts of a key: what the subkey of a row says.
//!
//! A collection is as many rows as it has members or fields, all under one key and so in one partition, in the
//! order of their names.

use bytes::{BufMut as _, Bytes, BytesMut};

use super::{Actor, Dot, Incarnation, NodeId, OpId};

/// A kind of collection.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, serde::Serialize, serde::Deserialize,
)]
pub enum Collection {
    /// A set of members.
    Set,
    /// A map of fields.
    Map,
}

/// Where a counter stands.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, serde::Serialize, serde::Deserialize)]
pub enum Place {
    /// It is the key's own.
    Key,
    /// It is a field of the key's map.
    Field(Bytes),
}

/// What a row is of its key.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Part {
    /// The plain value.
    Plain,
    /// How much of a collection was deleted as a whole.
    Clear(Collection),
    /// A member of the set.
    Member(Bytes),
    /// A register field of the map.
    Field(Bytes),
    /// One actor's share of a counter.
    Share(Place, Actor),
    /// An increment of a counter that has an operation id.
    Once(Place, OpId),
    /// A version that lost to a concurrent one, kept for a time.
    Conflict(Dot),
    /// Up to when rows of the partition have expired; the key is empty.
    Expiry,
}

const CLEAR_SET: u8 = 0x01;
const CLEAR_MAP: u8 = 0x02;
const EXPIRY: u8 = 0x03;
// Operations stand before the shares of their counters, so that who takes rows in order has them first.
const FIELD_ONCE: u8 = b'b';
const FIELD_SHARE: u8 = b'c';
const FIELD: u8 = b'f';
const MEMBER: u8 = b'm';
const ONCE: u8 = b'o';
const SHARE: u8 = b's';
const CONFLICT: u8 = b'x';

impl Part {
    /// The subkey.
    pub fn subkey(&self) -> Bytes {
        let mut out = BytesMut::new();
        match self {
            Self::Plain => {}
            Self::Clear(Collection::Set) => out.put_u8(CLEAR_SET),
            Self::Clear(Collection::Map) => out.put_u8(CLEAR_MAP),
            Self::Expiry => out.put_u8(EXPIRY),
            Self::Member(name) => named(&mut out, MEMBER, name),
            Self::Field(name) => named(&mut out, FIELD, name),
            Self::Share(place, actor) => {
                out.extend_from_slice(&share_prefix(place));
                put_actor(&mut out, *actor);
            }
            Self::Once(place, OpId(id)) => {
                placed(&mut out, place, ONCE, FIELD_ONCE);
                out.put_u128(*id);
            }
            Self::Conflict(dot) => {
                out.put_u8(CONFLICT);
                put_actor(&mut out, dot.actor);
                out.put_u64(dot.n);
            }
        }
        out.freeze()
    }

    /// The part of a subkey; nothing if there is no such part.
    pub fn of(subkey: &Bytes) -> Option<Self> {
        let Some(tag) = subkey.first() else {
            return Some(Self::Plain);
        };
        let rest = subkey.slice(1..);
        match *tag {
            CLEAR_SET if rest.is_empty() => Some(Self::Clear(Collection::Set)),
            CLEAR_MAP if rest.is_empty() => Some(Self::Clear(Collection::Map)),
            EXPIRY if rest.is_empty() => Some(Self::Expiry),
            MEMBER => Some(Self::Member(rest)),
            FIELD => Some(Self::Field(rest)),
            SHARE => Some(Self::Share(Place::Key, actor(&rest)?)),
            FIELD_SHARE => {
                let (name, rest) = name(&rest)?;
                Some(Self::Share(Place::Field(name), actor(&rest)?))
            }
            ONCE => Some(Self::Once(Place::Key, op_id(&rest)?)),
            FIELD_ONCE => {
                let (name, rest) = name(&rest)?;
                Some(Self::Once(Place::Field(name), op_id(&rest)?))
            }
            CONFLICT => {
                let (head, n) = rest.split_last_chunk::<8>()?;
                let n = u64::from_be_bytes(*n);
                let actor = actor(head)?;
                Some(Self::Conflict(Dot { actor, n }))
            }
            _ => None,
        }
    }

    /// The collection that this is a member or field of, and is cleared with.
    pub fn collection(&self) -> Option<Collection> {
        match self {
            Self::Member(_) => Some(Collection::Set),
            Self::Field(_) => Some(Collection::Map),
            Self::Plain
            | Self::Clear(_)
            | Self::Share(..)
            | Self::Once(..)
            | Self::Conflict(_)
            | Self::Expiry => None,
        }
    }
}

/// With what the subkeys of all shares of a counter begin.
pub fn share_prefix(place: &Place) -> Bytes {
    let mut out = BytesMut::new();
    placed(&mut out, place, SHARE, FIELD_SHARE);
    out.freeze()
}

/// With what the subkeys of all operations of a counter begin.
pub fn once_prefix(place: &Place) -> Bytes {
    let mut out = BytesMut::new();
    placed(&mut out, place, ONCE, FIELD_ONCE);
    out.freeze()
}

/// The subkeys of a collection's parts, from the first prefix to the last: members, or counters and then
/// registers.
pub fn collection_prefixes(collection: Collection) -> &'static [u8] {
    match collection {
        Collection::Set => &[MEMBER],
        Collection::Map => &[FIELD_SHARE, FIELD],
    }
}

fn named(out: &mut BytesMut, tag: u8, name: &[u8]) {
    out.put_u8(tag);
    out.extend_from_slice(name);
}

fn placed(out: &mut BytesMut, place: &Place, own: u8, field: u8) {
    match place {
        Place::Key => out.put_u8(own),
        Place::Field(name) => {
            out.put_u8(field);
            out.put_u16(u16::try_from(name.len()).unwrap_or(u16::MAX));
            out.extend_from_slice(name);
        }
    }
}

/// A name with its length before it, and what follows.
fn name(rest: &Bytes) -> Option<(Bytes, Bytes)> {
    let (length, _) = rest.split_first_chunk::<2>()?;
    let end = 2 + usize::from(u16::from_be_bytes(*length));
    if rest.len() < end {
        return None;
    }
    Some((rest.slice(2..end), rest.slice(end..)))
}

fn put_actor(out: &mut BytesMut, actor: Actor) {
    out.put_u32(actor.node.0);
    out.put_u64(actor.incarnation.0);
}

fn actor(bytes: &[u8]) -> Option<Actor> {
    let (node, rest) = bytes.split_first_chunk::<4>()?;
    let incarnation = rest.try_into().ok()?;
    Some(Actor {
        node: NodeId(u32::from_be_bytes(*node)),
        incarnation: Incarnation(u64::from_be_bytes(incarnation)),
    })
}

fn op_id(bytes: &[u8]) -> Option<OpId> {
    Some(OpId(u128::from_be_bytes(bytes.try_into().ok()?)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parts() -> impl Strategy<Value = Part> {
        let name = || proptest::collection::vec(any::<u8>(), 0..5).prop_map(Bytes::from);
        let place = prop_oneof![Just(Place::Key), name().prop_map(Place::Field)];
        let actor = (any::<u32>(), any::<u64>()).prop_map(|(node, incarnation)| Actor {
            node: NodeId(node),
            incarnation: Incarnation(incarnation),
        });
        prop_oneof![
            Just(Part::Plain),
            Just(Part::Expiry),
            Just(Part::Clear(Collection::Set)),
            Just(Part::Clear(Collection::Map)),
            name().prop_map(Part::Member),
            name().prop_map(Part::Field),
            (place.clone(), actor.clone()).prop_map(|(place, actor)| Part::Share(place, actor)),
            (place, any::<u128>()).prop_map(|(place, id)| Part::Once(place, OpId(id))),
            (actor, any::<u64>()).prop_map(|(actor, n)| Part::Conflict(Dot { actor, n })),
        ]
    }

    fn places() -> impl Strategy<Value = Place> {
        // Few letters and lengths, so that names begin alike.
        let name = proptest::collection::vec(0u8..3, 0..4).prop_map(Bytes::from);
        prop_oneof![1 => Just(Place::Key), 4 => name.prop_map(Place::Field)]
    }

    proptest! {
        #[test]
        fn a_prefix_is_that_of_its_place_alone(part in parts(), at in places(), place in places(), id: u128) {
            let own = |part: &Part| match part {
                Part::Share(of, _) => (*of == place, false),
                Part::Once(of, _) => (false, *of == place),
                Part::Plain
                | Part::Clear(_)
                | Part::Member(_)
                | Part::Field(_)
                | Part::Conflict(_)
                | Part::Expiry => (false, false),
            };
            let share = Part::Share(at.clone(), Dot::NONE.actor);
            for part in [part, share, Part::Once(at, OpId(id))] {
                let subkey = part.subkey();
                let begins = |prefix: Bytes| subkey.starts_with(&prefix);
                let found = (begins(share_prefix(&place)), begins(once_prefix(&place)));
                prop_assert_eq!(found, own(&part));
            }
        }

        #[test]
        fn members_and_fields_stand_by_name(a: Vec<u8>, b: Vec<u8>) {
            let order = a.cmp(&b);
            let (a, b) = (Bytes::from(a), Bytes::from(b));
            let member = |name: &Bytes| Part::Member(name.clone()).subkey();
            let field = |name: &Bytes| Part::Field(name.clone()).subkey();
            prop_assert_eq!(member(&a).cmp(&member(&b)), order);
            prop_assert_eq!(field(&a).cmp(&field(&b)), order);
        }

        #[test]
        fn no_two_parts_share_a_subkey(a in parts(), b in parts()) {
            prop_assert_eq!(a.subkey() == b.subkey(), a == b);
        }

        #[test]
        fn a_collection_lies_between_its_prefixes(part in parts()) {
            let subkey = part.subkey();
            let within = |collection| {
                let prefixes = collection_prefixes(collection);
                subkey.first().is_some_and(|tag| prefixes.contains(tag))
            };
            let is_counter = matches!(part, Part::Share(Place::Field(_), _));
            prop_assert_eq!(within(Collection::Set), part.collection() == Some(Collection::Set));
            let in_map = part.collection() == Some(Collection::Map) || is_counter;
            prop_assert_eq!(within(Collection::Map), in_map);
        }

        #[test]
        fn parts_come_back(part in parts()) {
            prop_assert_eq!(Part::of(&part.subkey()), Some(part));
        }

        #[test]
        fn any_bytes_are_one_part_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let bytes = Bytes::from(bytes);
            prop_assert!(Part::of(&bytes).is_none_or(|part| part.subkey() == bytes));
        }
    }
}
