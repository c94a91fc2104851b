//! Who of the region is slow. A disk that limps without failing, or a node that is starved, makes everything limp that waits
//! for it (Gunawi et al., "Fail-Slow at Scale", FAST 2018; Huang et al., "Gray Failure", HotOS 2017). So every node tells its
//! neighbours how long its disk takes, and notes how long they take to answer; and what another replica can do as
//! well is not left to one that is slow.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{Duration, Effect, NodeId, Time};

/// A replica that has not answered a read after so long is not waited for alone.
pub(super) const HEDGE: Duration = Duration::from_millis(8);
/// A disk that takes less is never slow, in microseconds.
const DISK_MIN: u64 = 20_000;
/// Answers that take less are never late, in microseconds: a quarter of what is waited for.
const ANSWER_MIN: u64 = 2_000;
/// It is slow, or late, when it takes more than so many times what others take.
const TIMES: u64 = 3;
/// A node that is slow is so until it takes less than one part in so many of what made it slow.
const RELIEF: u64 = 2;
/// A sample moves a smoothed value by one part in so many of what it differs.
const SMOOTHING: u64 = 8;
/// Rounds of upkeep after which it is not known any more how long somebody takes who was not needed.
const FORGET_AFTER: u32 = 5;
/// A node is slow when it was found so as often as this in a row: once every heartbeat. A spike is not worth a word.
const SLOW_AFTER: u32 = 10;

/// A smoothed time: known while it is used, and for some rounds after.
#[derive(Clone, Copy, Debug, Default)]
struct Smoothed {
    micros: Option<u64>,
    unused: u32,
}

impl Smoothed {
    fn add(&mut self, took: Duration) {
        let took = micros(took);
        let kept = |old: u64| old - old / SMOOTHING;
        let next = |old: u64| kept(old).saturating_add(took / SMOOTHING);
        self.micros = Some(self.micros.map_or(took, next));
        self.unused = 0;
    }

    fn on_round(&mut self) {
        self.unused = self.unused.saturating_add(1);
        if self.unused > FORGET_AFTER {
            self.micros = None;
        }
    }
}

/// What to say of the disk of a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum News {
    /// It has been slow for a while.
    Slow,
    /// It was, and is well again.
    Well,
}

/// How long this node's disk takes and its peers' do, and how long those take to answer.
#[derive(Debug, Default)]
pub(super) struct Paces {
    disk: Smoothed,
    /// When the batch that is on its way to the disk was begun.
    began: Option<Time>,
    answers: BTreeMap<NodeId, Smoothed>,
    /// Nodes of this region whose disk was found slow, this one perhaps among them, and how often in a row.
    slow: BTreeMap<NodeId, u32>,
    /// Neighbours that answer late, and what they were found to be above.
    late: BTreeSet<NodeId>,
    late_above: u64,
}

impl Paces {
    /// A change was decided by the door. One that writes nothing tells nothing of the disk.
    pub(super) fn on_staged(&mut self, now: Time, effect: &Effect) {
        let is_written = match effect {
            Effect::Written { items, .. } => !items.is_empty(),
            Effect::Appended { .. } => true,
            Effect::Denied(_)
            | Effect::Gap { .. }
            | Effect::Early { .. }
            | Effect::Repaired { .. }
            | Effect::Trimmed { .. }
            | Effect::Swept { .. }
            | Effect::Done
            | Effect::Refused { .. } => false,
        };
        if is_written {
            self.began = self.began.or(Some(now));
        }
    }

    /// A batch is on disk.
    pub(super) fn on_durable(&mut self, now: Time) {
        if let Some(began) = self.began.take() {
            self.disk.add(now.since(began));
        }
    }

    /// A peer answered a question of which others are asked too from this time on. Whether it was asked before tells
    /// nobody after.
    pub(super) fn on_answer(&mut self, peer: NodeId, now: Time, hedge_at: Time) {
        if now < hedge_at {
            let took = HEDGE.saturating_sub(hedge_at.since(now));
            self.answers.entry(peer).or_default().add(took);
        }
    }

    /// A neighbour has not answered in time, and others are asked too; soon they are asked before it.
    pub(super) fn on_silence(&mut self, peer: NodeId) {
        let answer = self.answers.entry(peer).or_default();
        answer.add(HEDGE);
        if answer.micros > Some(self.late_above.max(ANSWER_MIN)) {
            self.late.insert(peer);
        }
    }

    /// A round of upkeep: what was long ago says nothing of now.
    pub(super) fn on_round(&mut self) {
        self.disk.on_round();
        for answer in self.answers.values_mut() {
            answer.on_round();
        }
    }

    /// How long this node takes until a change is on its disk, in microseconds; zero if that is not known. A batch that
    /// hangs says so before it ends.
    pub(super) fn disk_micros(&self, now: Time) -> u64 {
        let hangs = self.began.map(|began| micros(now.since(began)));
        self.disk.micros.max(hangs).unwrap_or(0)
    }

    /// Whether a node's disk is slow, as far as its region goes.
    pub(super) fn is_slow(&self, node: NodeId) -> bool {
        self.slow
            .get(&node)
            .is_some_and(|count| *count >= SLOW_AFTER)
    }

    /// Whether a neighbour answers late.
    pub(super) fn is_late(&self, node: NodeId) -> bool {
        self.late.contains(&node)
    }

    /// Whether a node is better asked after others.
    pub(super) fn is_asked_last(&self, node: NodeId) -> bool {
        self.is_slow(node) || self.is_late(node)
    }

    /// Looks anew at which disks are slow, of all nodes of this region that are up, each with how long its disk takes, or
    /// zero. Slow is what is far from the median of what is known, so it is never most of them.
    pub(super) fn judge_disks(&mut self, disks: &[(NodeId, u64)]) -> Vec<(NodeId, News)> {
        let known = disks.iter().filter(|(_, micros)| *micros > 0);
        let mut sorted: Vec<u64> = known.map(|(_, micros)| *micros).collect();
        sorted.sort_unstable();
        let median = sorted.get(sorted.len() / 2).copied().unwrap_or(0);
        let bar = median.saturating_mul(TIMES).max(DISK_MIN);
        let before = std::mem::take(&mut self.slow);
        let mut news = Vec::new();
        for (node, micros) in disks {
            let count = before.get(node).copied();
            let count = count.unwrap_or(0);
            let relief = if count >= SLOW_AFTER { RELIEF } else { 1 };
            if *micros > bar / relief {
                self.slow.insert(*node, count.saturating_add(1));
                news.extend((count + 1 == SLOW_AFTER).then_some((*node, News::Slow)));
            } else if count >= SLOW_AFTER {
                news.push((*node, News::Well));
            }
        }
        news
    }

    /// Looks anew at which neighbours answer late, of all that are up: far later than the first of those that are known.
    pub(super) fn judge_answers(&mut self, neighbours: &[NodeId]) {
        let known = |node: &NodeId| Some((*node, self.answers.get(node)?.micros?));
        let known: Vec<(NodeId, u64)> = neighbours.iter().filter_map(known).collect();
        let least = known.iter().map(|(_, micros)| *micros).min().unwrap_or(0);
        let bar = least.saturating_mul(TIMES).max(ANSWER_MIN);
        self.late_above = bar;
        let late = known.iter().filter(|(_, micros)| *micros > bar);
        self.late = late.map(|(node, _)| *node).collect();
    }
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Reach;
    use crate::protocol::samples::{ME, PARTITION};

    const MILLI: u64 = 1_000;

    fn at(millis: u64) -> Time {
        Time(0).after(Duration::from_millis(millis))
    }

    fn written() -> Effect {
        Effect::Appended {
            partition: PARTITION,
            actor: ME,
            reach: Reach::default(),
            newer: Vec::new(),
            stood: Vec::new(),
            crossed: Vec::new(),
            written: Vec::new(),
            lost: BTreeMap::new(),
        }
    }

    fn millis(all: &[u64]) -> Vec<(NodeId, u64)> {
        let micros = all.iter().map(|millis| millis * MILLI);
        (1..).map(NodeId).zip(micros).collect()
    }

    fn slow(paces: &Paces) -> Vec<u32> {
        let nodes = paces.slow.keys().filter(|node| paces.is_slow(**node));
        nodes.map(|node| node.0).collect()
    }

    fn judge_often(paces: &mut Paces, all: &[u64]) {
        for _ in 0..SLOW_AFTER {
            paces.judge_disks(&millis(all));
        }
    }

    #[test]
    fn a_pace_follows_the_disk() {
        let mut paces = Paces::default();
        for batch in 0..64 {
            paces.on_staged(at(batch * 100), &written());
            paces.on_staged(at(batch * 100 + 30), &written());
            paces.on_durable(at(batch * 100 + 60));
        }
        let took = paces.disk_micros(at(10_000));
        assert!((55 * MILLI..=60 * MILLI).contains(&took), "{took}");
    }

    #[test]
    fn what_writes_nothing_says_nothing() {
        let mut paces = Paces::default();
        paces.on_staged(at(0), &Effect::Done);
        paces.on_durable(at(500));
        assert_eq!(paces.disk_micros(at(500)), 0);
    }

    #[test]
    fn a_batch_that_hangs_is_slow_before_it_ends() {
        let mut paces = Paces::default();
        paces.on_staged(at(0), &written());
        assert_eq!(paces.disk_micros(at(700)), 700 * MILLI);
    }

    #[test]
    fn a_pace_is_forgotten_when_the_disk_rests() {
        let mut paces = Paces::default();
        paces.on_staged(at(0), &written());
        paces.on_durable(at(800));
        for _ in 0..FORGET_AFTER {
            paces.on_round();
            assert_eq!(paces.disk_micros(at(800)), 800 * MILLI);
        }
        paces.on_round();
        assert_eq!(paces.disk_micros(at(800)), 0);
    }

    #[test]
    fn a_disk_that_is_seldom_used_is_known_all_the_same() {
        let mut paces = Paces::default();
        for second in (0..20).step_by(3) {
            paces.on_staged(at(second * 1_000), &written());
            paces.on_durable(at(second * 1_000 + 60));
            for _ in 0..3 {
                paces.on_round();
            }
            let took = paces.disk_micros(at(second * 1_000 + 60));
            assert!((55 * MILLI..=60 * MILLI).contains(&took), "{took}");
        }
    }

    #[test]
    fn slow_is_what_is_far_from_the_median() {
        for (all, expected) in [
            (&[60, 2, 2][..], &[1][..]),
            (&[2, 2, 2], &[]),
            (&[19, 2, 2], &[]),
            (&[60, 30, 30], &[]),
            (&[60, 60, 2], &[]),
            (&[60, 2], &[]),
            (&[60], &[]),
            (&[60, 60, 2, 2, 2], &[1, 2]),
            (&[25, 25, 0, 0, 0], &[]),
            (&[], &[]),
        ] {
            let mut paces = Paces::default();
            judge_often(&mut paces, all);
            assert_eq!(slow(&paces), expected, "{all:?}");
        }
    }

    #[test]
    fn who_was_slow_is_so_until_it_is_well_again() {
        let mut paces = Paces::default();
        for (all, expected) in [
            (&[15, 2, 2], &[][..]),
            (&[60, 2, 2], &[1]),
            (&[15, 2, 2], &[1]),
            (&[9, 2, 2], &[]),
            (&[15, 2, 2], &[]),
        ] {
            judge_often(&mut paces, all);
            assert_eq!(slow(&paces), expected, "{all:?}");
        }
    }

    #[test]
    fn a_spike_is_not_worth_a_word() {
        let mut paces = Paces::default();
        let mut judge = |all: &[u64]| paces.judge_disks(&millis(all));
        for _ in 1..SLOW_AFTER {
            assert_eq!(judge(&[60, 2, 2]), []);
        }
        assert_eq!(judge(&[2, 2, 2]), []);
        for _ in 1..SLOW_AFTER {
            assert_eq!(judge(&[60, 2, 2]), []);
        }
        assert_eq!(judge(&[60, 2, 2]), [(NodeId(1), News::Slow)]);
        assert_eq!(judge(&[60, 2, 2]), [], "once");
        assert_eq!(judge(&[2, 2, 2]), [(NodeId(1), News::Well)]);
        assert_eq!(judge(&[2, 2, 2]), []);
    }

    #[test]
    fn late_is_who_answers_far_later_than_the_first() {
        for (all, expected) in [
            (&[1, 7][..], &[2][..]),
            (&[7, 7], &[]),
            (&[1, 1], &[]),
            (&[2, 3, 7], &[3]),
            (&[7], &[]),
        ] {
            let mut paces = Paces::default();
            let mut peers = Vec::new();
            for (peer, micros) in millis(all) {
                peers.push(peer);
                for _ in 0..64 {
                    paces.on_answer(peer, Time(micros), Time(0).after(HEDGE));
                }
            }
            paces.judge_answers(&peers);
            let late: Vec<u32> = paces.late.iter().map(|node| node.0).collect();
            assert_eq!(late, expected, "{all:?}");
        }
    }

    #[test]
    fn who_is_silent_is_late_at_once() {
        let mut paces = Paces::default();
        paces.on_answer(NodeId(1), at(1), at(8));
        assert!(!paces.is_asked_last(NodeId(1)));
        for _ in 0..3 {
            paces.on_silence(NodeId(1));
        }
        assert!(paces.is_asked_last(NodeId(1)));
        paces.on_silence(NodeId(2));
        assert!(paces.is_asked_last(NodeId(2)));
    }

    #[test]
    fn an_answer_that_may_be_to_a_later_question_says_nothing() {
        let mut paces = Paces::default();
        paces.on_answer(NodeId(1), at(9), at(8));
        assert!(paces.answers.is_empty());
    }

    #[test]
    fn who_was_late_is_tried_again_after_a_while() {
        let mut paces = Paces::default();
        paces.on_silence(NodeId(2));
        for _ in 0..=FORGET_AFTER {
            paces.on_answer(NodeId(1), at(1), at(8));
            paces.judge_answers(&[NodeId(1), NodeId(2)]);
            assert!(paces.is_asked_last(NodeId(2)));
            paces.on_round();
        }
        paces.judge_answers(&[NodeId(1), NodeId(2)]);
        assert!(!paces.is_asked_last(NodeId(2)));
    }
}
