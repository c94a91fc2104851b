//! What a client has seen, as it carries it from request to request: the `Sterna-Session` token.
//!
//! It knows the topology's nodes and regions, but no clock: whether a session is too far ahead is for its reader
//! to say. The sent form is base64url without padding of
//!
//! - a version byte;
//! - 3 bytes of check, a hash of the rest and of the ids of the topology's nodes;
//! - the latest time in it, in microseconds, as a varint;
//! - for each region the index of the node as a varint (in the order of the ids), and two ages before the latest
//!   time: of that node's change, and of those of the region's other nodes ([`NONE`] if there are none).
//!
//! An age is 2 bytes: 10 bits to the power that the 6 others say. It is measured from marks of a fixed grid, never
//! from the last token, and rounded so that a session only ever asks for more, by a thousandth of the age; so that
//! tokens that are handed on and on do not drift. Ten regions come to less than 100 characters.

use axum::http::HeaderValue;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::model::{NodeId, RegionId, Seen, Session};
use crate::placement::Topology;

use super::problem::{Code, Problem};

/// The version of the sent form.
const VERSION: u8 = 1;
/// Version and check.
const HEAD_BYTES: usize = 4;
/// Longest token that is looked at: one for some hundred regions.
const CHARS_MAX: usize = 2048;
/// No other node's change.
const NONE: u16 = u16::MAX;
const FRACTION_BITS: u32 = 10;

/// Writes and reads tokens, by a topology.
#[derive(Debug)]
pub(super) struct Tokens {
    /// All nodes with their regions, by id: a token names a node by its index.
    nodes: Vec<(NodeId, RegionId)>,
    /// A hash of their ids.
    seed: u64,
}

impl Tokens {
    /// Those of a topology.
    pub(super) fn of(topology: &Topology) -> Self {
        let regions = topology.regions.iter();
        let nodes = regions.flat_map(|region| region.nodes.iter().map(|node| (node.id, region.id)));
        Self::of_nodes(nodes.collect())
    }

    /// Those of these nodes.
    pub(super) fn of_nodes(mut nodes: Vec<(NodeId, RegionId)>) -> Self {
        nodes.sort_unstable();
        let ids: Vec<u8> = nodes
            .iter()
            .flat_map(|(node, _)| node.0.to_be_bytes())
            .collect();
        Self {
            seed: xxh3_64(&ids),
            nodes,
        }
    }

    /// The region of a node; nothing if it is not in the topology.
    pub(super) fn region(&self, node: NodeId) -> Option<RegionId> {
        let (_, region) = self.nodes.get(self.index(node)?)?;
        Some(*region)
    }

    /// The token of a session; nothing if it has seen nothing.
    pub(super) fn encode(&self, session: &Session) -> Option<HeaderValue> {
        let latest = session.latest();
        let mut raw = start(12 + session.regions.len() * 6, latest);
        for (region, seen) in &session.regions {
            self.entry(&mut raw, latest, *region, *seen);
        }
        (latest > 0).then(|| self.finish(raw)).flatten()
    }

    /// The token of a session that has seen only this change: the usual one, without a map.
    pub(super) fn encode_one(&self, node: NodeId, micros: u64) -> Option<HeaderValue> {
        let region = self.region(node)?;
        let mut raw = start(18, micros);
        let rest = 0;
        self.entry(&mut raw, micros, region, Seen { node, micros, rest });
        self.finish(raw)
    }

    /// Reads a token.
    pub(super) fn decode(&self, value: &HeaderValue) -> Result<Session, Problem> {
        self.read(value.as_bytes()).ok_or_else(|| {
            Problem::new(
                Code::BadSession,
                "the session is damaged or of another cluster, or nodes came or left since: start a new one, without Sterna-Session",
            )
        })
    }

    /// The token whose contents, behind the check, are these bytes.
    #[cfg(any(test, fuzzing))]
    pub(super) fn sealed(&self, contents: &[u8]) -> Option<HeaderValue> {
        self.finish([&[0; HEAD_BYTES], contents].concat())
    }

    /// The contents of a token.
    #[cfg(test)]
    pub(super) fn opened(text: &[u8]) -> Vec<u8> {
        URL_SAFE_NO_PAD.decode(text).unwrap().split_off(HEAD_BYTES)
    }

    fn index(&self, node: NodeId) -> Option<usize> {
        self.nodes.binary_search_by_key(&node, |(id, _)| *id).ok()
    }

    /// Appends an entry. If the node has left, another of its region stands for it: more is asked for, not less;
    /// with the whole region gone there is nobody to wait for.
    fn entry(&self, raw: &mut Vec<u8>, latest: u64, region: RegionId, seen: Seen) {
        let index = self
            .index(seen.node)
            .or_else(|| self.nodes.iter().position(|(_, of)| *of == region));
        let Some(index) = index else {
            return;
        };
        put_varint(raw, u64::try_from(index).unwrap_or(u64::MAX));
        raw.extend_from_slice(&age(latest, seen.micros).to_be_bytes());
        let rest = (seen.rest > 0).then(|| age(latest, seen.rest));
        raw.extend_from_slice(&rest.unwrap_or(NONE).to_be_bytes());
    }

    fn finish(&self, mut raw: Vec<u8>) -> Option<HeaderValue> {
        let (head, rest) = raw.split_at_mut_checked(HEAD_BYTES)?;
        let check = self.check(rest);
        head.copy_from_slice(&[VERSION, check[0], check[1], check[2]]);
        HeaderValue::from_maybe_shared(bytes::Bytes::from(URL_SAFE_NO_PAD.encode(raw))).ok()
    }

    fn check(&self, rest: &[u8]) -> [u8; 3] {
        let [a, b, c, ..] = xxh3_64_with_seed(rest, self.seed).to_be_bytes();
        [a, b, c]
    }

    fn read(&self, text: &[u8]) -> Option<Session> {
        if text.len() > CHARS_MAX {
            return None;
        }
        let raw = URL_SAFE_NO_PAD.decode(text).ok()?;
        let ([version, check @ ..], mut rest) = raw.split_first_chunk::<HEAD_BYTES>()?;
        if *version != VERSION || *check != self.check(rest) {
            return None;
        }
        let latest = take_varint(&mut rest)?;
        let mut session = Session::default();
        while !rest.is_empty() {
            let index = usize::try_from(take_varint(&mut rest)?).ok()?;
            let (node, region) = *self.nodes.get(index)?;
            let micros = time(latest, take_age(&mut rest)?)?;
            let rest = match take_age(&mut rest)? {
                NONE => 0,
                age => time(latest, age)?,
            };
            let seen = Seen { node, micros, rest };
            if session.regions.insert(region, seen).is_some() {
                return None;
            }
        }
        Some(session)
    }
}

fn start(bytes: usize, latest: u64) -> Vec<u8> {
    let mut raw = Vec::with_capacity(HEAD_BYTES + bytes);
    raw.extend_from_slice(&[0; HEAD_BYTES]);
    put_varint(&mut raw, latest);
    raw
}

/// How long before `latest` a time is: the least power of two with whose grid it can be said in ten bits.
/// Invariant: never longer than it is.
fn age(latest: u64, micros: u64) -> u16 {
    let fraction = |power: u32| (latest >> power).saturating_sub(ceiling(micros, power));
    let is_enough = |power: &u32| fraction(*power) < 1 << FRACTION_BITS;
    let power = (0..63).find(is_enough).unwrap_or(0);
    let age = u64::from(power) << FRACTION_BITS | fraction(power);
    u16::try_from(age).unwrap_or(0)
}

/// The time that is so long before `latest`.
fn time(latest: u64, age: u16) -> Option<u64> {
    let power = u32::from(age >> FRACTION_BITS);
    let fraction = u64::from(age) & ((1 << FRACTION_BITS) - 1);
    let whole = (latest >> power).checked_sub(fraction)?;
    Some(whole << power)
}

/// In how many steps of the grid a time is reached.
fn ceiling(micros: u64, power: u32) -> u64 {
    let down = micros >> power;
    down + u64::from(down << power != micros)
}

fn take_age(rest: &mut &[u8]) -> Option<u16> {
    let (age, after) = rest.split_first_chunk::<2>()?;
    *rest = after;
    Some(u16::from_be_bytes(*age))
}

fn put_varint(raw: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        raw.push(u8::try_from(number & 0x7f).unwrap_or(0) | 0x80);
        number >>= 7;
    }
    raw.push(u8::try_from(number).unwrap_or(0));
}

fn take_varint(rest: &mut &[u8]) -> Option<u64> {
    let mut number = 0u64;
    for shift in (0..64).step_by(7) {
        let (byte, after) = rest.split_first()?;
        *rest = after;
        let bits = u64::from(byte & 0x7f);
        if bits.leading_zeros() < shift {
            return None;
        }
        number |= bits << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: u64 = 1_764_000_000_123_456;

    fn tokens(regions: u32, nodes: u32) -> Tokens {
        let node = |region, node| (NodeId(node * 100 + region * 7), RegionId(region));
        let mut nodes: Vec<_> = (0..regions)
            .flat_map(|region| (0..nodes).map(move |n| node(region, n)))
            .collect();
        nodes.sort_unstable();
        let seed = u64::try_from(nodes.len()).unwrap();
        Tokens { nodes, seed }
    }

    /// What ten regions of three nodes have done at some times before now.
    fn sessions() -> impl Strategy<Value = Session> {
        let age = || prop_oneof![0..5_000u64, 0..90_000_000u64, 0..NOW];
        let seen = (0..10u32, 0..3u32, age(), proptest::option::of(age()));
        proptest::collection::vec(seen, 0..12).prop_map(|seen| {
            let entry = |(region, node, micros, rest): (u32, u32, u64, Option<u64>)| {
                let seen = Seen {
                    node: NodeId(node * 100 + region * 7),
                    micros: NOW - micros,
                    rest: rest.map_or(0, |rest| NOW - rest),
                };
                (RegionId(region), seen)
            };
            Session {
                regions: seen.into_iter().map(entry).collect(),
            }
        })
    }

    fn is_close(got: u64, given: u64, latest: u64) -> bool {
        got >= given && got <= latest && got - given <= (latest - given) / 500
    }

    proptest! {
        #[test]
        fn sessions_come_back_and_ask_for_hardly_more(session in sessions()) {
            let tokens = tokens(10, 3);
            let Some(text) = tokens.encode(&session) else {
                prop_assert!(session.is_empty());
                return Ok(());
            };
            prop_assert!(text.len() < 100, "{} characters", text.len());
            let back = tokens.decode(&text).unwrap();
            prop_assert_eq!(back.regions.len(), session.regions.len());
            let latest = session.latest();
            prop_assert_eq!(back.latest(), latest);
            for (region, given) in &session.regions {
                let got = back.regions[region];
                prop_assert_eq!(got.node, given.node);
                prop_assert!(is_close(got.micros, given.micros, latest), "{got:?} {given:?}");
                prop_assert!(
                    (given.rest == 0 && got.rest == 0) || is_close(got.rest, given.rest, latest)
                );
            }
            // Handed on and on, it stays what it is.
            prop_assert_eq!(tokens.decode(&tokens.encode(&back).unwrap()).unwrap(), back);
        }

        #[test]
        fn tokens_that_are_handed_on_do_not_drift(steps in proptest::collection::vec(1..3_000_000u64, 1..200)) {
            let tokens = tokens(2, 1);
            let mut session = Session::default();
            session.observe(RegionId(0), NodeId(0), crate::model::Timestamp { micros: NOW, logical: 0 });
            let mut micros = NOW;
            for step in steps {
                micros += step;
                session.observe(RegionId(1), NodeId(7), crate::model::Timestamp { micros, logical: 0 });
                session = tokens.decode(&tokens.encode(&session).unwrap()).unwrap();
                prop_assert!(is_close(session.regions[&RegionId(0)].micros, NOW, micros));
            }
        }

        #[test]
        fn what_is_changed_on_the_way_is_refused(session in sessions(), at in 0..200usize, to in any::<u8>()) {
            let tokens = tokens(10, 3);
            let Some(text) = tokens.encode(&session) else { return Ok(()) };
            let mut bytes = text.as_bytes().to_vec();
            let at = at % bytes.len();
            let is_same = bytes[at] == to;
            bytes[at] = to;
            let read = tokens.read(&bytes);
            // Three bytes of check let one of many millions pass, and it is a session like any other then.
            prop_assert_eq!(read.is_some(), is_same);
            prop_assert!(tokens.read(&bytes[..at]).is_none());
        }

        #[test]
        fn any_bytes_are_a_session_or_none(raw in proptest::collection::vec(any::<u8>(), 0..80)) {
            let tokens = tokens(10, 3);
            tokens.read(&raw);
            let mut head = vec![VERSION];
            head.extend_from_slice(&tokens.check(&raw));
            head.extend_from_slice(&raw);
            // Even with a good check, only what can be encoded is read.
            if let Some(session) = tokens.read(URL_SAFE_NO_PAD.encode(head).as_bytes()) {
                tokens.encode(&session);
            }
        }
    }

    #[test]
    fn a_token_of_another_topology_is_refused() {
        let text = tokens(10, 3).encode_one(NodeId(107), NOW).unwrap();
        assert!(tokens(10, 3).decode(&text).is_ok());
        let problem = tokens(10, 2).decode(&text).unwrap_err();
        assert_eq!(problem.code, Code::BadSession);
    }

    #[test]
    fn one_change_is_spelled_as_a_session_of_one() {
        let tokens = tokens(3, 3);
        let mut session = Session::default();
        let timestamp = crate::model::Timestamp {
            micros: NOW,
            logical: 9,
        };
        session.observe(RegionId(1), NodeId(107), timestamp);
        let one = tokens.encode_one(NodeId(107), NOW).unwrap();
        assert_eq!(tokens.encode(&session).unwrap(), one);
        assert!(one.len() < 28);
    }

    #[test]
    fn nodes_that_have_left_are_waited_for_at_others() {
        let tokens = tokens(2, 2);
        let mut session = Session::default();
        let timestamp = crate::model::Timestamp {
            micros: NOW,
            logical: 0,
        };
        session.observe(RegionId(1), NodeId(999), timestamp);
        session.observe(RegionId(5), NodeId(998), timestamp);
        let back = tokens.decode(&tokens.encode(&session).unwrap()).unwrap();
        assert_eq!(back.regions.len(), 1);
        assert_eq!(back.regions[&RegionId(1)].micros, NOW);
    }
}
