//! What this node knows of one partition that it holds: its own position, on disk and staged, and the
//! positions of the other replicas.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::model::{
    Actor, Incarnation, NodeId, PartitionId, PartitionState, Position, Reach, RegionId, Remembered,
    Time, Wall,
};

use crate::model::planted::{Guard, is_left_out};

use super::attain::attainable;
use super::message::Known;
use super::other::{Other, Told, lacks};
use super::retire::Noted;

/// A watermark that came, and when.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Watermark {
    /// The time it speaks of.
    pub(super) micros: u64,
    /// The log is complete up to here at that time.
    pub(super) n: u64,
    /// When it was satisfied here.
    pub(super) satisfied: Wall,
}

/// A collection of tombstones in preparation; see `upkeep`.
#[derive(Debug)]
pub(super) struct Collecting {
    pub(super) floor: BTreeMap<Actor, u64>,
    pub(super) target: Position,
}

/// Watermarks of one log that wait until its entries are here; of more, the newest one takes the last place.
const PENDING_MARKS_MAX: usize = 8;

/// What a partition's disk has seen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Past {
    /// It was empty, and has not caught up since.
    New,
    /// It has served; if it does not now, peers have shown that it is behind.
    Served,
    /// It has served, and has lost what it had vouched for since; or perhaps so: it was fenced in an earlier life.
    Lost,
}

/// One partition here.
#[derive(Debug)]
pub(super) struct Replica {
    pub(super) me: NodeId,
    pub(super) partition: PartitionId,
    pub(super) is_serving: bool,
    past: Past,
    /// A request to serve was given to the store.
    pub(super) is_about_to_serve: bool,
    /// On disk.
    pub(super) position: Position,
    /// Staged by the door: at or beyond the position.
    staged: Position,
    pub(super) trimmed: BTreeMap<Actor, u64>,
    others: BTreeMap<NodeId, Other>,
    /// What the disk here remembers of the others in this region.
    remembered: BTreeMap<NodeId, Remembered>,
    /// What must be reached before this replica serves: the first word of every other replica of the region,
    /// and whatever shows that the disk here is an old copy.
    targets: BTreeMap<NodeId, Position>,
    /// What it has waited for until it served, be it that nobody had it: it need not be reminded of it again.
    settled: Position,
    marks: BTreeMap<Actor, Watermark>,
    /// Watermarks whose numbers are not complete here yet, the oldest first: number and time.
    pending_marks: BTreeMap<Actor, VecDeque<(u64, u64)>>,
    /// Replicas of all regions, by region.
    regions: Vec<(RegionId, Vec<NodeId>)>,
    /// The other replicas of this region.
    pub(super) neighbours: Vec<NodeId>,
    /// When the last round of reconciliation was begun, and with which peer in line the next one is.
    pub(super) reconciled_at: Time,
    pub(super) reconcile_turn: usize,
    /// The floor by which tombstones were last collected, and the next collection in preparation.
    pub(super) collected: BTreeMap<Actor, u64>,
    pub(super) collecting: Option<Collecting>,
    /// Rounds of upkeep since the last collection.
    pub(super) idle_rounds: u32,
    /// Lives that are over, and of which every replica was seen to have the same.
    pub(super) noted: BTreeMap<Actor, Noted>,
    /// Peers whose word was impossible; each is reported once.
    pub(super) doubted: BTreeSet<NodeId>,
    /// When others last read here for a client: so they served, whether this node had heard of it or not.
    pub(super) read_at: BTreeMap<NodeId, Time>,
}

impl Replica {
    pub(super) fn new(
        state: PartitionState,
        me: NodeId,
        region: RegionId,
        regions: &[(RegionId, Vec<NodeId>)],
    ) -> Self {
        let neighbours: Vec<NodeId> = regions
            .iter()
            .filter(|(name, _)| *name == region)
            .flat_map(|(_, nodes)| nodes.iter().copied())
            .filter(|node| *node != me)
            .collect();
        let remembered: BTreeMap<NodeId, Remembered> = state.remembered;
        let others = remembered.iter();
        let others = others.filter(|(node, _)| neighbours.contains(node));
        let others = others.map(|(node, told)| (*node, Other::remembered(told)));
        Self {
            me,
            partition: state.partition,
            is_serving: state.is_serving,
            past: match (state.has_served, state.is_serving) {
                (false, _) => Past::New,
                (true, true) => Past::Served,
                (true, false) => Past::Lost,
            },
            is_about_to_serve: false,
            staged: state.position.clone(),
            position: state.position,
            trimmed: state.trimmed,
            others: others.collect(),
            remembered,
            targets: BTreeMap::new(),
            settled: Position::default(),
            marks: BTreeMap::new(),
            pending_marks: BTreeMap::new(),
            regions: regions.to_vec(),
            neighbours,
            reconciled_at: Time::default(),
            reconcile_turn: 0,
            collected: BTreeMap::new(),
            collecting: None,
            idle_rounds: 0,
            noted: BTreeMap::new(),
            doubted: BTreeSet::new(),
            read_at: BTreeMap::new(),
        }
    }

    pub(super) fn regions(&self) -> &[(RegionId, Vec<NodeId>)] {
        &self.regions
    }

    pub(super) fn replicas_in(&self, region: RegionId) -> &[NodeId] {
        self.regions
            .iter()
            .find(|(name, _)| *name == region)
            .map_or(&[], |(_, nodes)| nodes.as_slice())
    }

    /// All replicas of all regions, this one included.
    pub(super) fn nodes(&self) -> impl Iterator<Item = NodeId> {
        let nodes = self.regions.iter().flat_map(|(_, nodes)| nodes);
        nodes.copied()
    }

    pub(super) fn is_replica(&self, node: NodeId) -> bool {
        self.regions.iter().any(|(_, nodes)| nodes.contains(&node))
    }

    pub(super) fn other(&self, node: NodeId) -> Option<&Other> {
        self.others.get(&node)
    }

    pub(super) fn others(&self) -> impl Iterator<Item = (NodeId, &Other)> {
        self.others.iter().map(|(node, other)| (*node, other))
    }

    /// `applied`, counting what is staged.
    pub(super) fn staged(&self, actor: Actor) -> u64 {
        self.staged.reach(actor).applied
    }

    /// Both marks, counting what is staged.
    pub(super) fn staged_reach(&self, actor: Actor) -> Reach {
        self.staged.reach(actor)
    }

    /// `complete`, counting what is staged.
    pub(super) fn staged_complete(&self, actor: Actor) -> u64 {
        self.staged.reach(actor).complete
    }

    pub(super) fn stage(&mut self, actor: Actor, reach: Reach) {
        self.staged.raise(actor, reach);
    }

    /// Takes in what is on disk now; satisfied watermarks follow.
    pub(super) fn reach(&mut self, wall: Wall, actor: Actor, reach: Reach) {
        self.position.raise(actor, reach);
        self.stage(actor, reach);
        let complete = self.position.reach(actor).complete;
        let pending = self.pending_marks.entry(actor).or_default();
        let mut satisfied = None;
        while let Some((n, micros)) = pending.front().copied().filter(|(n, _)| *n <= complete) {
            pending.pop_front();
            satisfied = Some((n, micros));
        }
        if pending.is_empty() {
            self.pending_marks.remove(&actor);
        }
        if let Some((n, micros)) = satisfied {
            self.on_mark(wall, actor, n, micros);
        }
    }

    /// The door has taken over a position that reconciliation reached; the entries that lead there are not in our logs.
    /// What the door decides next builds on it, so it counts before it is on disk. Says which logs have risen.
    pub(super) fn stage_raised(&mut self, position: &Position) -> Vec<Actor> {
        let mut risen = Vec::new();
        for (actor, reach) in &position.reaches {
            if self.staged_complete(*actor) < reach.complete {
                let trimmed = self.trimmed.entry(*actor).or_default();
                *trimmed = (*trimmed).max(reach.complete);
                self.stage(*actor, Reach::upto(reach.complete));
                risen.push(*actor);
            }
        }
        risen
    }

    /// A position that reconciliation reached is on disk.
    pub(super) fn on_raised(&mut self, wall: Wall, position: &Position) {
        for (node, upto) in &position.retired {
            self.retire(*node, *upto);
        }
        for (actor, reach) in &position.reaches {
            self.reach(wall, *actor, Reach::upto(reach.complete));
        }
    }

    /// Takes in that lives of a node need not be counted any more.
    pub(super) fn retire(&mut self, node: NodeId, upto: Incarnation) {
        self.position.retire(node, upto);
        self.staged.retire(node, upto);
        let is_kept = |actor: &Actor| actor.node != node || actor.incarnation > upto;
        self.trimmed.retain(|actor, _| is_kept(actor));
        self.marks.retain(|actor, _| is_kept(actor));
        self.pending_marks.retain(|actor, _| is_kept(actor));
        self.collected.retain(|actor, _| is_kept(actor));
        self.noted.retain(|actor, _| is_kept(actor));
    }

    /// Takes in a watermark: at once if it is satisfied, later otherwise.
    pub(super) fn on_mark(&mut self, wall: Wall, actor: Actor, n: u64, micros: u64) {
        if self.position.has_retired(actor) {
            return;
        }
        if self.position.reach(actor).complete < n && !is_left_out(Guard::MarkWaits) {
            let pending = self.pending_marks.entry(actor).or_default();
            if pending
                .back()
                .is_some_and(|(at, told)| n < *at || micros <= *told)
            {
                return;
            }
            if pending.len() == PENDING_MARKS_MAX {
                pending.pop_back();
            }
            pending.push_back((n, micros));
            return;
        }
        let mark = Watermark {
            micros,
            n,
            satisfied: wall,
        };
        let last = self.marks.entry(actor).or_insert(mark);
        if last.micros <= micros {
            *last = mark;
        }
    }

    /// The latest time of which it was told that an actor's log up to it lies within the first `upto` numbers,
    /// whether or not they are here: what may be passed on with those numbers.
    pub(super) fn told(&self, actor: Actor, upto: u64) -> Option<u64> {
        let satisfied = self.marks.get(&actor).map(|mark| (mark.n, mark.micros));
        let pending = self
            .pending_marks
            .get(&actor)
            .into_iter()
            .flatten()
            .copied();
        let marks = satisfied.into_iter().chain(pending);
        marks
            .filter(|(n, _)| *n <= upto)
            .map(|(_, micros)| micros)
            .max()
    }

    pub(super) fn mark(&self, actor: Actor) -> Option<Watermark> {
        self.marks.get(&actor).copied()
    }

    /// Takes in what a replica says of itself: all of it, or what has changed.
    pub(super) fn on_first_hand(&mut self, known: &Known, told: Told) {
        let node = known.node;
        let old = self.others.get(&node).map(|other| other.incarnation);
        if old != Some(known.incarnation) {
            let other = match self.others.get(&node) {
                Some(old) if old.incarnation < known.incarnation => old.reborn(known, told),
                Some(_) | None => Other::new(known, told),
            };
            self.others.insert(node, other);
            self.targets.remove(&node);
        }
        if let Some(other) = self.others.get_mut(&node) {
            other.hear_itself(known, told);
        }
        // As soon as it has told all once: a region must not wait for its next full word to count on it.
        if (self.others.get(&node)).is_some_and(|other| other.has_spoken) {
            self.believe(node);
        }
        if told == Told::All && self.neighbours.contains(&node) && !self.is_serving {
            self.targets
                .entry(node)
                .or_insert_with(|| known.position.clone());
        }
    }

    /// Forgets what a replica once had when it has it again, but for what nobody has.
    fn believe(&mut self, node: NodeId) {
        let other = self.others.get(&node);
        let Some((other, once)) = other.and_then(|other| Some((other, other.once.as_ref()?)))
        else {
            return;
        };
        let has_all =
            !lacks(&other.position, &attainable(self, node, once)) || is_left_out(Guard::OnceHeld);
        if let Some(other) = self.others.get_mut(&node).filter(|_| has_all) {
            other.once = None;
        }
    }

    /// Takes in what a third node says of a replica; the word of an older life counts for nothing.
    pub(super) fn on_hearsay(&mut self, known: &Known, told: Told) {
        match self.others.get_mut(&known.node) {
            Some(other) if other.incarnation == known.incarnation => other.hear(known, told),
            Some(other) if other.incarnation > known.incarnation => {}
            Some(old) => {
                let reborn = old.reborn(known, told);
                self.others.insert(known.node, reborn);
            }
            None => {
                self.others.insert(known.node, Other::new(known, told));
            }
        }
    }

    /// Whether somebody who has this position holds more of an earlier life of this node than its disk does.
    pub(super) fn lacks_own(&self, me: Actor, position: &Position) -> bool {
        position.reaches.iter().any(|(actor, reach)| {
            let is_earlier = actor.node == me.node && *actor != me;
            is_earlier && reach.complete > self.staged_complete(*actor)
        })
    }

    /// The disk here is behind what this node once held, as this replica's word shows: nothing is served before what
    /// it has is here, and what the neighbours have. Says whether this replica served.
    ///
    /// Of a replica elsewhere what it has of its own region's logs is not waited for: that may be on no quorum there, and
    /// never comes if it dies.
    pub(super) fn fence(&mut self, claimant: NodeId) -> bool {
        let has_served = std::mem::take(&mut self.is_serving);
        self.is_about_to_serve = false;
        let spoken = |node: &&NodeId| self.others.get(node).is_some_and(|other| other.has_spoken);
        let neighbours: Vec<NodeId> = self.neighbours.iter().filter(spoken).copied().collect();
        for node in neighbours.into_iter().chain([claimant]) {
            if let Some(other) = self.others.get(&node) {
                let has = if self.neighbours.contains(&node) {
                    other.position.clone()
                } else {
                    self.without_region_of(node, &other.position)
                };
                self.targets.entry(node).or_default().join(&has);
            }
        }
        has_served
    }

    /// What a position says of the logs of other regions than that of a replica.
    fn without_region_of(&self, replica: NodeId, position: &Position) -> Position {
        let mut regions = self.regions.iter().map(|(_, nodes)| nodes);
        let region = regions.find(|nodes| nodes.contains(&replica));
        let is_kept = |node: &NodeId| region.is_none_or(|nodes| !nodes.contains(node));
        let reaches = position.reaches.iter();
        let reaches = reaches.filter(|(actor, _)| is_kept(&actor.node));
        let retired = position.retired.iter().filter(|(node, _)| is_kept(node));
        Position {
            reaches: reaches.map(|(actor, reach)| (*actor, *reach)).collect(),
            retired: retired.map(|(node, upto)| (*node, *upto)).collect(),
        }
    }

    /// What is to be remembered of the others in this region, and is not: where they have more on their disks than the
    /// disk here says that they had.
    pub(super) fn remember_others(&mut self) -> Vec<(NodeId, Remembered)> {
        let mut news = Vec::new();
        for node in &self.neighbours {
            let other = self.others.get(node).filter(|other| other.has_spoken);
            let Some(told) = other.map(Other::to_remember) else {
                continue;
            };
            // Also less than before, once it is believed: what nobody has any more must not be waited for after a restart.
            let is_believed = other.is_some_and(|other| other.once.is_none());
            let is_news = self.remembered.get(node).is_none_or(|known| {
                lacks(&known.position, &told.position)
                    || (is_believed && lacks(&told.position, &known.position))
            });
            if is_news {
                self.remembered.insert(*node, told.clone());
                news.push((*node, told));
            }
        }
        news
    }

    /// A peer remembers what this node once had on its disk. Says whether the replica served, though it lacks some.
    pub(super) fn remind(&mut self, peer: NodeId, once: &Position) -> bool {
        if !lacks(&self.position, once) || !lacks(&self.settled, once) {
            return false;
        }
        if self.past == Past::Served {
            self.past = Past::Lost;
        }
        self.targets.entry(peer).or_default().join(once);
        self.fence(peer)
    }

    /// It has caught up, and the store is to note that it serves.
    pub(super) fn prepare_to_serve(&mut self) {
        self.is_about_to_serve = true;
        for target in self.targets.values() {
            self.settled.join(target);
        }
    }

    /// The store has noted that this partition serves.
    pub(super) fn begin_to_serve(&mut self) {
        self.is_serving = true;
        self.past = Past::Served;
        self.targets.clear();
    }

    /// Takes in that a replica has one log on its disk up to here.
    pub(super) fn on_reached(
        &mut self,
        (node, incarnation): (NodeId, Incarnation),
        actor: Actor,
        complete: u64,
    ) {
        let other = self.others.get_mut(&node);
        if let Some(other) = other.filter(|other| other.incarnation == incarnation) {
            other.position.raise(
                actor,
                Reach {
                    applied: complete,
                    complete,
                },
            );
        }
    }

    /// Whether all that the other replicas of the region held when they first spoke is here, and every other
    /// target too, but for what nobody has any more.
    ///
    /// A replica whose disk was empty waits for the word of all of them, for any of them may be the only other one
    /// that has what this one once acknowledged. One that has lost what it had vouched for waits for so many that one
    /// of them has had a part in every quorum of which it was one itself: whoever fenced it need not be that one. A
    /// fenced one that has lost nothing of the kind, by all that is known, waits for a quorum with itself: after
    /// a crash it lacks only what it had passed on before its own disk had it; a region must not wait for a third
    /// replica then. If it is an old copy, whoever holds more fences it again by speaking.
    pub(super) fn has_caught_up(&self) -> bool {
        let heard = self
            .neighbours
            .iter()
            .filter(|node| self.targets.contains_key(node));
        let wanted = match self.past {
            Past::New => self.neighbours.len(),
            // Of the others W - 1 were in its quorum, W of all being one.
            Past::Lost => self.neighbours.len() + 1 - self.neighbours.len().div_ceil(2),
            Past::Served => self.neighbours.len().div_ceil(2),
        };
        let wanted = wanted.min(self.neighbours.len());
        if is_left_out(Guard::CaughtUp) {
            return true;
        }
        heard.count() >= wanted
            && !(self.targets.values())
                .any(|target| lacks(&self.position, &attainable(self, self.me, target)))
    }

    /// The lives that the other replicas of this region live, as far as it is known.
    pub(super) fn lives_here(&self) -> impl Iterator<Item = (NodeId, Incarnation)> + '_ {
        let neighbours = self.neighbours.iter();
        neighbours.filter_map(|node| Some((*node, self.other(*node)?.incarnation)))
    }

    /// Up to where an actor's log is complete on a quorum of this region's replicas, this one included.
    pub(super) fn stable(&self, actor: Actor) -> u64 {
        let mut marks: Vec<u64> = self
            .neighbours
            .iter()
            .map(|node| self.complete_at(*node, actor))
            .chain([self.position.reach(actor).complete])
            .collect();
        marks.sort_unstable_by(|a, b| b.cmp(a));
        marks.get(marks.len() / 2).copied().unwrap_or(0)
    }

    /// Up to where an actor's log is known to be complete at another replica.
    pub(super) fn complete_at(&self, node: NodeId, actor: Actor) -> u64 {
        self.others
            .get(&node)
            .map_or(0, |other| other.position.reach(actor).complete)
    }

    /// The least `complete` of all replicas of all regions, of which `me` is one, by all that is known: log entries
    /// up to here may go.
    pub(super) fn trimmable(&self, me: NodeId) -> BTreeMap<Actor, u64> {
        self.floor(me, |other| &other.position)
    }

    /// The least `complete` of all replicas in what each of them had at some one moment: for collecting.
    pub(super) fn collectable(&self, me: NodeId) -> BTreeMap<Actor, u64> {
        self.floor(me, |other| {
            if is_left_out(Guard::Moments) {
                &other.position
            } else {
                &other.snapshot
            }
        })
    }

    fn floor(&self, me: NodeId, known: impl Fn(&Other) -> &Position) -> BTreeMap<Actor, u64> {
        let complete = |node: &NodeId, actor: Actor| {
            let other = self.others.get(node);
            other.map_or(0, |other| known(other).reach(actor).complete)
        };
        let others: Vec<NodeId> = self.nodes().filter(|node| *node != me).collect();
        let reaches = self.position.reaches.iter();
        reaches
            .map(|(actor, reach)| {
                let least = others.iter().map(|node| complete(node, *actor)).min();
                let least = least.map_or(reach.complete, |least| least.min(reach.complete));
                (*actor, least)
            })
            .filter(|(_, n)| *n > 0)
            .collect()
    }

    /// All actors whose logs exist here or at another replica, but for those that are retired here.
    pub(super) fn actors(&self) -> BTreeSet<Actor> {
        let mine = self.position.reaches.keys();
        let theirs = self
            .others
            .values()
            .flat_map(|other| other.position.reaches.keys());
        let is_counted = |actor: &&Actor| !self.position.has_retired(**actor);
        mine.chain(theirs).filter(is_counted).copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::samples::{actor, at, known, replica};

    #[test]
    fn stable_is_what_a_quorum_holds() {
        let mut replica = replica(at(9));
        assert_eq!(replica.stable(actor(1, 1)), 0);
        replica.on_first_hand(&known(2, 2, at(4)), Told::All);
        assert_eq!(replica.stable(actor(1, 1)), 4);
        replica.on_first_hand(&known(3, 3, at(7)), Told::All);
        assert_eq!(replica.stable(actor(1, 1)), 7);
    }

    #[test]
    fn the_floors_fall_when_a_replica_is_reborn_empty() {
        let mut replica = replica(at(9));
        let floors = |replica: &Replica| {
            let me = NodeId(1);
            let of = |floor: BTreeMap<Actor, u64>| floor.get(&actor(1, 1)).copied();
            (of(replica.trimmable(me)), of(replica.collectable(me)))
        };
        replica.on_first_hand(&known(2, 2, at(9)), Told::All);
        replica.on_first_hand(&known(3, 3, at(5)), Told::All);
        assert_eq!(floors(&replica), (Some(5), Some(5)));
        replica.on_first_hand(&known(3, 4, Position::default()), Told::All);
        assert_eq!(floors(&replica), (None, None));
        replica.on_hearsay(&known(3, 3, at(9)), Told::All);
        assert_eq!(floors(&replica), (None, None));
    }

    #[test]
    fn what_is_learnt_by_acknowledgements_and_changes_is_trimmed_and_not_collected() {
        let mut replica = replica(at(9));
        replica.on_first_hand(&known(2, 2, at(3)), Told::All);
        replica.on_first_hand(&known(3, 3, at(3)), Told::All);
        replica.on_reached((NodeId(2), Incarnation(2)), actor(1, 1), 9);
        replica.on_first_hand(&known(3, 3, at(8)), Told::Changes);
        assert_eq!(replica.trimmable(NodeId(1)).get(&actor(1, 1)), Some(&8));
        assert_eq!(replica.collectable(NodeId(1)).get(&actor(1, 1)), Some(&3));
        replica.on_hearsay(&known(2, 2, at(6)), Told::All);
        replica.on_hearsay(&known(3, 3, at(9)), Told::Changes);
        replica.on_first_hand(&known(3, 3, at(9)), Told::All);
        assert_eq!(replica.collectable(NodeId(1)).get(&actor(1, 1)), Some(&6));
    }

    #[test]
    fn a_new_replica_serves_only_after_it_has_what_every_neighbour_had() {
        let mut replica = replica(at(0));
        replica.is_serving = false;
        replica.on_first_hand(&known(2, 2, at(0)), Told::All);
        assert!(!replica.has_caught_up());
        replica.on_first_hand(&known(3, 3, at(5)), Told::All);
        assert!(!replica.has_caught_up());
        replica.reach(Wall(0), actor(1, 1), Reach::upto(5));
        assert!(replica.has_caught_up());
    }

    #[test]
    fn who_has_lost_what_it_vouched_for_waits_for_one_of_every_quorum_with_it() {
        for (others, crashed, lost) in [(1, 1, 1), (2, 1, 2), (3, 2, 2), (4, 2, 3), (6, 3, 4)] {
            for (wanted, is_lost) in [(crashed, false), (lost, true)] {
                let mut replica = replica(at(5));
                replica.past = Past::Served;
                replica.neighbours = (0..others).map(|other| NodeId(2 + other)).collect();
                if is_lost {
                    assert!(replica.remind(NodeId(9), &at(6)));
                } else {
                    assert!(replica.fence(NodeId(9)));
                }
                replica.reach(Wall(0), actor(1, 1), Reach::upto(6));
                for heard in 0..others {
                    let case = format!("{heard} of {others}, {is_lost}");
                    assert_eq!(replica.has_caught_up(), heard >= wanted, "{case}");
                    replica.on_first_hand(&known(2 + heard, 1, at(6)), Told::All);
                }
                assert!(replica.has_caught_up());
            }
        }
    }

    /// A disk that is an old copy, in a region all of whose nodes were started again (simulator, seed 1100758).
    #[test]
    fn what_a_neighbour_told_is_remembered_by_the_disk_and_the_neighbour_reminded() {
        let mut before = replica(at(9));
        assert_eq!(before.remember_others(), vec![]);
        before.on_first_hand(&known(2, 2, at(6)), Told::All);
        let told = before.remember_others();
        assert_eq!(told.len(), 1);
        assert_eq!(before.remember_others(), vec![], "nothing new");
        let state = PartitionState {
            partition: before.partition,
            position: at(9),
            trimmed: BTreeMap::new(),
            is_serving: true,
            has_served: true,
            remembered: told.into_iter().collect(),
        };
        let regions = before.regions().to_vec();
        let mut now = Replica::new(state, before.me, RegionId(1), &regions);
        let once = |replica: &Replica| {
            replica
                .other(NodeId(2))
                .and_then(|other| other.once.clone())
        };
        now.on_first_hand(&known(2, 3, at(5)), Told::All);
        assert_eq!(once(&now), Some(at(6)));
        assert!(!now.other(NodeId(2)).is_some_and(Other::is_serving));
        now.on_first_hand(&known(2, 3, at(6)), Told::Changes);
        assert_eq!(once(&now), None);
    }

    /// A change that only a lost disk had: it was given up, and must not come back with the memory of a third replica.
    #[test]
    fn what_was_given_up_is_remembered_no_more() {
        let mut replica = replica(at(4));
        replica.on_first_hand(&known(2, 2, at(9)), Told::All);
        replica.on_first_hand(&known(3, 1, at(4)), Told::All);
        let remembered = |replica: &mut Replica| {
            let told = replica.remember_others().into_iter();
            let of_second = told.filter(|(node, _)| *node == NodeId(2));
            of_second.map(|(_, told)| told.position).collect::<Vec<_>>()
        };
        assert_eq!(remembered(&mut replica), vec![at(9)]);
        let silent = |n| Known {
            is_serving: false,
            ..known(2, 3, at(n))
        };
        replica.on_first_hand(&silent(3), Told::All);
        assert_eq!(remembered(&mut replica), vec![]);
        replica.on_first_hand(&silent(4), Told::All);
        assert_eq!(remembered(&mut replica), vec![at(4)], "all have spoken");
    }

    #[test]
    fn what_a_neighbour_has_retired_must_be_here_too() {
        let mut replica = replica(at(0));
        replica.is_serving = false;
        let mut theirs = at(0);
        theirs.retire(NodeId(3), Incarnation(1));
        replica.on_first_hand(&known(2, 2, theirs.clone()), Told::All);
        replica.on_first_hand(&known(3, 3, at(0)), Told::All);
        assert!(!replica.has_caught_up());
        replica.on_raised(Wall(0), &theirs);
        assert!(replica.has_caught_up());
    }

    #[test]
    fn a_peer_counts_only_after_it_has_told_all_itself() {
        let mut replica = replica(at(0));
        let is_serving =
            |replica: &Replica| replica.other(NodeId(2)).is_some_and(Other::is_serving);
        replica.on_hearsay(&known(2, 2, at(1)), Told::All);
        replica.on_first_hand(&known(2, 2, at(1)), Told::Changes);
        assert!(!is_serving(&replica));
        replica.on_first_hand(&known(2, 2, at(1)), Told::All);
        assert!(is_serving(&replica));
        replica.on_hearsay(&known(2, 3, at(1)), Told::All);
        assert!(!is_serving(&replica), "it lives anew");
    }
}
