//! Two replicas of one great leaf: what is said between them until they are alike.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "what a session does not say is an error here, whatever it is"
)]

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;

use bytes::Bytes;

use super::doubts::Doubts;
use super::session::Session;
use super::{Mode, Reconciler, Told};
use crate::model::{
    Answer, Change, Cuts, DIGEST_FANOUT, DIGEST_LEVELS, Dot, KeyspaceId, NodeId, Position, Query,
    Row, RowKey, Run, Stamp, Sum, Time, Timestamp, Version,
};
use crate::protocol::core::{Core, Purpose};
use crate::protocol::message::Message;
use crate::protocol::samples::{PARTITION, actor, core, now, position};
use crate::protocol::step::Output;

use super::Summing;

const PEER: NodeId = NodeId(2);
/// The leaf that holds everything.
const LEAF: u16 = 1234;

/// A replica's store, simple-minded.
#[derive(Clone, Default)]
struct Side {
    position: Position,
    rows: BTreeMap<RowKey, Row>,
}

fn row(at: u64) -> (RowKey, Row) {
    row_at(at, at + 1)
}

/// A row at place `at`, written as change `n`.
fn row_at(at: u64, n: u64) -> (RowKey, Row) {
    let key = RowKey {
        subkey: Bytes::from(format!("member-{at:06}")),
        ..RowKey::plain(KeyspaceId(1), Bytes::from_static(b"big"))
    };
    let dot = Dot {
        actor: actor(3, 1),
        n,
    };
    let timestamp = Timestamp {
        micros: n,
        logical: 0,
    };
    let version = Version::new(Stamp { timestamp, dot }, Some(Bytes::new()));
    (key, Row::Register(version))
}

impl Side {
    fn of(rows: impl Iterator<Item = u64>) -> Self {
        Self {
            position: Position::default(),
            rows: rows.map(row).collect(),
        }
    }

    fn run(&self, run: &Run) -> impl Iterator<Item = (&RowKey, &Row)> {
        assert!(run.first <= LEAF && LEAF <= run.last);
        let after = run.after.as_ref();
        let upto = run.upto.as_ref();
        let after = after.map_or(Bound::Unbounded, Bound::Excluded);
        let upto = upto.map_or(Bound::Unbounded, Bound::Included);
        self.rows.range::<RowKey, _>((after, upto))
    }

    fn sum(rows: &[(&RowKey, &Row)]) -> Sum {
        let hash = |(key, row): &(&RowKey, &Row)| {
            let bytes = postcard::to_allocvec(&(key, row)).unwrap();
            xxhash_rust::xxh3::xxh3_128(&bytes)
        };
        Sum {
            rows: rows.len() as u64,
            hash: rows.iter().map(hash).fold(0, u128::wrapping_add),
        }
    }

    fn answer(&self, query: &Query) -> Answer {
        match query {
            Query::Digest { nodes, .. } => {
                let all: Vec<_> = self.rows.iter().collect();
                let hash = Self::sum(&all).hash;
                let children = |node: &crate::model::DigestNode| {
                    let below = u32::from(DIGEST_LEVELS - node.level - 1);
                    let holder = LEAF / DIGEST_FANOUT.pow(below);
                    let first = node.index * DIGEST_FANOUT;
                    let children = first..first + DIGEST_FANOUT;
                    children
                        .map(|child| if child == holder { hash } else { 0 })
                        .collect()
                };
                Answer::Digest {
                    position: self.position.clone(),
                    hashes: nodes.iter().map(children).collect(),
                }
            }
            Query::Leaf { run, rows_max, .. } => {
                let rows: Vec<_> = self
                    .run(run)
                    .take(*rows_max)
                    .map(|(key, row)| (key.clone(), row.summary()))
                    .collect();
                let next = rows.last().filter(|_| rows.len() == *rows_max);
                Answer::Leaf {
                    position: self.position.clone(),
                    next: next.map(|(key, _)| key.clone()),
                    rows,
                }
            }
            Query::Sums {
                run,
                cuts,
                rows_max,
                ..
            } => {
                let rows: Vec<_> = self.run(run).take(*rows_max).collect();
                let next = rows.last().filter(|_| rows.len() == *rows_max);
                let next = next.map(|(key, _)| (*key).clone());
                let (ends, sums) = match cuts {
                    Cuts::Even => {
                        let pieces = rows.chunks(rows.len() / 64 + 1);
                        let ends = pieces.clone().map(|piece| piece[piece.len() - 1].0.clone());
                        (ends.collect(), pieces.map(Self::sum).collect())
                    }
                    Cuts::After(cuts) => {
                        let mut sums = Vec::new();
                        let mut rest = &rows[..];
                        for cut in cuts {
                            if next.as_ref().is_some_and(|next| next <= cut) {
                                break;
                            }
                            let (piece, more) =
                                rest.split_at(rest.partition_point(|(key, _)| *key <= cut));
                            sums.push(Self::sum(piece));
                            rest = more;
                        }
                        sums.push(Self::sum(rest));
                        (Vec::new(), sums)
                    }
                };
                Answer::Sums { ends, sums, next }
            }
            Query::Rows(keys) => {
                Answer::Rows(keys.iter().map(|key| self.rows.get(key).cloned()).collect())
            }
            _ => panic!("{query:?} is not asked"),
        }
    }

    fn merge(&mut self, key: RowKey, row: Row) {
        let is_newer = |old: &Row| row.summary().is_newer_than(&old.summary());
        if self.rows.get(&key).is_none_or(is_newer) {
            self.rows.insert(key, row);
        }
    }
}

/// What was said in a session.
#[derive(Debug, Default)]
struct Talk {
    bytes: usize,
    listings: usize,
    sums: usize,
    messages: usize,
}

struct Pair {
    mine: Side,
    theirs: Side,
    core: Core,
    their_core: Core,
    reconciler: Reconciler,
}

impl Pair {
    fn new(mine: Side, theirs: Side) -> Self {
        Self {
            core: core(mine.position.clone()),
            their_core: core(theirs.position.clone()),
            mine,
            theirs,
            reconciler: Reconciler::new(Time::default(), 1 << 30),
        }
    }

    /// One routine round.
    fn round(&mut self) -> Talk {
        let before = self.reconciler.doubts.remove(&(PARTITION, PEER));
        let before: Doubts = before.unwrap_or_default();
        let session = Session::new(0, now(1).time, PEER, Mode::Routine, before);
        self.reconciler.sessions.insert(PARTITION, session);
        let mut outputs = Vec::new();
        self.reconciler
            .advance(now(1), &mut self.core, PARTITION, &mut outputs);
        let mut talk = Talk::default();
        let mut queue: VecDeque<Output> = outputs.into();
        while let Some(output) = queue.pop_front() {
            let mut outputs = Vec::new();
            self.on_output(output, &mut talk, &mut outputs);
            queue.extend(outputs);
        }
        assert_eq!(self.reconciler.len(), 0, "it came to its end");
        talk
    }

    fn on_output(&mut self, output: Output, talk: &mut Talk, outputs: &mut Vec<Output>) {
        match output {
            Output::Query { ticket, query } => {
                let answer = self.mine.answer(&query);
                let Some(Purpose::Reconcile(partition, half)) = self.core.tickets.remove(&ticket)
                else {
                    panic!("whose is {query:?}");
                };
                self.reconciler
                    .on_half(now(1), &mut self.core, partition, half, answer, outputs);
            }
            Output::Change { change, .. } => {
                match change {
                    Change::Repair { key, row } => self.mine.merge(key, row),
                    Change::Forget { key, .. } => drop(self.mine.rows.remove(&key)),
                    _ => panic!("{change:?} is not wanted"),
                }
                self.reconciler
                    .on_mended(now(1), &mut self.core, (PARTITION, 0), outputs);
            }
            Output::Send { message, .. } => {
                let count = |talk: &mut Talk, message: &Message| {
                    talk.bytes += postcard::to_allocvec(message).unwrap().len();
                    talk.messages += 1;
                };
                count(talk, &message);
                let (id, tell) = self.on_message(message, talk);
                count(talk, &tell);
                let told = match tell {
                    Message::DigestTell {
                        position, hashes, ..
                    } => Told::Digest(position, hashes),
                    Message::LeafTell {
                        position,
                        rows,
                        next,
                        ..
                    } => Told::Leaf(position, rows, next),
                    Message::SumsTell { sums, next, .. } => Told::Sums(sums, next),
                    Message::Rows { rows, .. } => Told::Rows(rows),
                    Message::Repaired { .. } => Told::Repaired,
                    other => panic!("{other:?} is no answer"),
                };
                self.reconciler
                    .on_told(now(1), &mut self.core, PEER, id, told, outputs);
            }
            Output::Reply { .. } | Output::Report(_) => {}
        }
    }

    /// The peer answers.
    fn on_message(&mut self, message: Message, talk: &mut Talk) -> (u64, Message) {
        match message {
            Message::DigestAsk {
                id,
                partition,
                nodes,
            } => {
                let answer = self.theirs.answer(&Query::Digest { partition, nodes });
                (id, crate::protocol::answer::digest(id, answer))
            }
            Message::LeafAsk { id, partition, run } => {
                talk.listings += 1;
                let rows_max = super::LEAF_ROWS_MAX;
                let answer = self.theirs.answer(&Query::Leaf {
                    partition,
                    run,
                    rows_max,
                });
                (id, crate::protocol::answer::digest(id, answer))
            }
            Message::SumsAsk {
                id,
                partition,
                run,
                cuts,
            } => {
                talk.sums += 1;
                let mut outputs = Vec::new();
                let summing = Summing::new((PEER, id), partition, run, cuts);
                summing.begin(&mut self.their_core, &mut outputs);
                loop {
                    match outputs.pop() {
                        Some(Output::Query { ticket, query }) => {
                            let Some(Purpose::PeerSums(summing)) =
                                self.their_core.tickets.remove(&ticket)
                            else {
                                panic!("whose is {query:?}");
                            };
                            let answer = self.theirs.answer(&query);
                            summing.go_on(&mut self.their_core, answer, &mut outputs);
                        }
                        Some(Output::Send { message, .. }) => return (id, message),
                        other => panic!("{other:?} instead of sums"),
                    }
                }
            }
            Message::Read { id, keys, .. } => {
                let rows = keys.iter().map(|key| self.theirs.rows.get(key).cloned());
                let rows = rows.collect();
                (id, Message::Rows { id, rows })
            }
            Message::Repair { id, rows } => {
                for (key, row) in rows {
                    self.theirs.merge(key, row);
                }
                (id, Message::Repaired { id, held: None })
            }
            other => panic!("{other:?} is no question"),
        }
    }
}

#[test]
fn one_row_that_differs_in_a_great_leaf_costs_some_kilobytes() {
    for missing in [0, 1, 7_777, 19_998, 19_999] {
        let all = Side::of(0..20_000);
        let some = Side::of((0..20_000).filter(|n| *n != missing));
        for (mine, theirs) in [(all.clone(), some.clone()), (some, all.clone())] {
            let mut pair = Pair::new(mine, theirs);
            let talk = pair.round();
            assert!(talk.bytes < 12_000, "{talk:?}");
            assert!(talk.sums <= 2 && talk.listings == 1, "{talk:?}");
            assert!(pair.mine.rows == all.rows && pair.theirs.rows == all.rows);
        }
    }
}

#[test]
fn a_leaf_of_more_rows_than_are_summed_up_at_once_is_compared_too() {
    let all = Side::of(0..300_000);
    let mut pair = Pair::new(
        Side::of((0..300_000).filter(|n| *n != 222_222)),
        all.clone(),
    );
    let talk = pair.round();
    assert!(talk.bytes < 20_000, "{talk:?}");
    assert_eq!(pair.mine.rows.len(), 300_000);
}

#[test]
fn whatever_differs_is_the_same_after_a_round() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    for differing in [0, 1, 2, 30, 500, 3000] {
        for rows in [1, 10, 64, 65, 100, 1500, 3000] {
            let (mut mine, mut theirs) = (Side::of(0..rows), Side::of(0..rows));
            for _ in 0..differing {
                let at = rng.u64(0..rows * 2);
                let side = if rng.bool() { &mut mine } else { &mut theirs };
                let (key, row) = row_at(at, rng.u64(rows * 2..rows * 9));
                if rng.u8(0..3) == 0 {
                    side.rows.remove(&key);
                } else {
                    side.merge(key, row);
                }
            }
            let mut pair = Pair::new(mine, theirs);
            let talk = pair.round();
            assert!(pair.mine.rows == pair.theirs.rows, "{differing} of {rows}");
            let all = 60 * pair.mine.rows.len() + 2_000;
            assert!(talk.bytes < 5 * all, "{differing} of {rows}: {talk:?}");
        }
    }
}

#[test]
fn a_side_that_is_empty_is_filled_by_plain_listings() {
    for (mine, theirs) in [(0, 5000), (5000, 0)] {
        let mut pair = Pair::new(Side::of(0..mine), Side::of(0..theirs));
        let talk = pair.round();
        assert!(talk.sums <= 1, "{talk:?}");
        assert!(pair.mine.rows == pair.theirs.rows);
        assert_eq!(pair.mine.rows.len(), 5000);
    }
}

#[test]
fn nothing_is_listed_while_changes_are_only_on_their_way() {
    let at = |n| position(&[(actor(3, 1), n)]);
    let mut pair = Pair::new(Side::of(0..5000), Side::of(0..5000));
    for n in 5000..5006 {
        // The peer is always one change ahead; what it had in the round before has come here.
        pair.mine.position = at(n);
        pair.theirs.position = at(n + 1);
        let (key, row) = row(n);
        pair.theirs.rows.insert(key, row);
        let talk = pair.round();
        assert_eq!((talk.listings, talk.sums), (0, 0), "{talk:?}");
        assert!(talk.bytes < 3_000, "{talk:?}");
        let (key, row) = self::row(n);
        pair.mine.rows.insert(key, row);
    }
    // All has come, but a row is lost: now it is seen at once.
    pair.mine.position = at(5006);
    let (key, _) = row(17);
    pair.theirs.rows.remove(&key);
    let talk = pair.round();
    assert!(talk.listings > 0, "{talk:?}");
    assert!(pair.mine.rows == pair.theirs.rows);
}

#[test]
fn a_difference_is_found_while_changes_go_on_elsewhere() {
    let at = |n| position(&[(actor(3, 1), n)]);
    let mut pair = Pair::new(Side::of(0..500), Side::of(0..499));
    for (n, listings) in [(600, 0), (700, 1)] {
        // Every time one side is ahead, by changes that touch other leaves.
        pair.mine.position = at(n);
        pair.theirs.position = at(n + 50);
        assert_eq!(pair.round().listings, listings);
    }
}
