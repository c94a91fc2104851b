//! What this node knows of one partition that it holds: its own position, on disk and staged, and the
//! positions of the other replicas.

use std::collections::BTreeMap;

use crate::model::{
    Actor, Incarnation, NodeId, PartitionId, PartitionState, Position, Reach, RegionId, Time, Wall,
};

use super::message::Known;

/// A replica elsewhere, as far as it is known.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Other {
    pub(super) incarnation: Incarnation,
    pub(super) position: Position,
    pub(super) is_serving: bool,
}

impl Other {
    fn new(known: &Known) -> Self {
        Self {
            incarnation: known.incarnation,
            position: known.position.clone(),
            is_serving: known.is_serving,
        }
    }
}

/// How much of what it knows a node has told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Told {
    /// All of it.
    All,
    /// What has changed.
    Changes,
}

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

/// One partition here.
#[derive(Debug)]
pub(super) struct Replica {
    pub(super) partition: PartitionId,
    pub(super) is_serving: bool,
    /// A request to serve was given to the store.
    pub(super) is_about_to_serve: bool,
    /// On disk.
    pub(super) position: Position,
    /// Staged by the door: at or beyond the position.
    staged: Position,
    pub(super) trimmed: BTreeMap<Actor, u64>,
    others: BTreeMap<NodeId, Other>,
    /// What must be reached before this replica serves: the first word of every other replica of the region.
    targets: BTreeMap<NodeId, Position>,
    marks: BTreeMap<Actor, Watermark>,
    pending_marks: BTreeMap<Actor, (u64, u64)>,
    /// Replicas of all regions, by region.
    regions: Vec<(RegionId, Vec<NodeId>)>,
    /// The other replicas of this region.
    pub(super) neighbours: Vec<NodeId>,
    /// When routine reconciliation was last begun, and with which peers it goes on.
    pub(super) reconciled_at: Time,
    pub(super) reconcile_turn: usize,
    /// The floor by which tombstones were last collected, and the next collection in preparation.
    pub(super) collected: BTreeMap<Actor, u64>,
    pub(super) collecting: Option<Collecting>,
    /// Rounds of upkeep since the last collection.
    pub(super) idle_rounds: u32,
}

impl Replica {
    pub(super) fn new(
        state: PartitionState,
        me: NodeId,
        region: RegionId,
        regions: &[(RegionId, Vec<NodeId>)],
    ) -> Self {
        let neighbours = regions
            .iter()
            .filter(|(name, _)| *name == region)
            .flat_map(|(_, nodes)| nodes.iter().copied())
            .filter(|node| *node != me)
            .collect();
        Self {
            partition: state.partition,
            is_serving: state.is_serving,
            is_about_to_serve: false,
            staged: state.position.clone(),
            position: state.position,
            trimmed: state.trimmed,
            others: BTreeMap::new(),
            targets: BTreeMap::new(),
            marks: BTreeMap::new(),
            pending_marks: BTreeMap::new(),
            regions: regions.to_vec(),
            neighbours,
            reconciled_at: Time::default(),
            reconcile_turn: 0,
            collected: BTreeMap::new(),
            collecting: None,
            idle_rounds: 0,
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
        if let Some((n, micros)) = self.pending_marks.get(&actor).copied()
            && self.position.reach(actor).complete >= n
        {
            self.pending_marks.remove(&actor);
            self.on_mark(wall, actor, n, micros);
        }
    }

    /// Takes in a position that reconciliation reached; the entries that lead there are not in our logs.
    pub(super) fn on_raised(&mut self, wall: Wall, position: &Position) {
        for (actor, reach) in &position.reaches {
            let risen = reach.complete;
            if risen > self.staged_complete(*actor) {
                self.trimmed.insert(*actor, risen);
            }
            self.reach(
                wall,
                *actor,
                Reach {
                    applied: risen,
                    complete: risen,
                },
            );
        }
    }

    /// Takes in a watermark: at once if it is satisfied, later otherwise.
    pub(super) fn on_mark(&mut self, wall: Wall, actor: Actor, n: u64, micros: u64) {
        if self.position.reach(actor).complete < n {
            self.pending_marks.entry(actor).or_insert((n, micros));
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

    pub(super) fn mark(&self, actor: Actor) -> Option<Watermark> {
        self.marks.get(&actor).copied()
    }

    /// Takes in what a replica says of itself: all of it, or what has changed.
    pub(super) fn on_first_hand(&mut self, known: &Known, told: Told) {
        let node = known.node;
        let is_new = self
            .others
            .get(&node)
            .is_none_or(|other| other.incarnation != known.incarnation);
        if is_new {
            self.others.insert(node, Other::new(known));
            self.targets.remove(&node);
        } else if let Some(other) = self.others.get_mut(&node) {
            other.position.join(&known.position);
            other.is_serving = known.is_serving;
        }
        if told == Told::All && self.neighbours.contains(&node) && !self.is_serving {
            self.targets
                .entry(node)
                .or_insert_with(|| known.position.clone());
        }
    }

    /// Takes in what a third node says of a replica; the word of an older life counts for nothing.
    pub(super) fn on_hearsay(&mut self, known: &Known) {
        match self.others.get_mut(&known.node) {
            Some(other) if other.incarnation == known.incarnation => {
                other.position.join(&known.position);
            }
            Some(other) if other.incarnation > known.incarnation => {}
            Some(_) | None => {
                self.others.insert(known.node, Other::new(known));
            }
        }
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

    /// Whether all that the other replicas of the region held when they first spoke is here.
    pub(super) fn has_caught_up(&self) -> bool {
        self.neighbours.iter().all(|node| {
            self.targets
                .get(node)
                .is_some_and(|target| self.position.includes(target))
        })
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

    /// The least `complete` of all replicas of all regions, of which `me` is one.
    pub(super) fn floor(&self, me: NodeId) -> BTreeMap<Actor, u64> {
        let others = || {
            self.regions
                .iter()
                .flat_map(|(_, nodes)| nodes)
                .filter(|node| **node != me)
        };
        self.position
            .reaches
            .iter()
            .map(|(actor, reach)| {
                let least = others().map(|node| self.complete_at(*node, *actor)).min();
                (
                    *actor,
                    least.map_or(reach.complete, |least| least.min(reach.complete)),
                )
            })
            .filter(|(_, n)| *n > 0)
            .collect()
    }

    /// All actors whose logs exist here or at another replica.
    pub(super) fn actors(&self) -> std::collections::BTreeSet<Actor> {
        let mine = self.position.reaches.keys();
        let theirs = self
            .others
            .values()
            .flat_map(|other| other.position.reaches.keys());
        mine.chain(theirs).copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::KeyspaceId;

    fn actor(node: u32) -> Actor {
        Actor {
            node: NodeId(node),
            incarnation: Incarnation(1),
        }
    }

    fn at(n: u64) -> Position {
        Position {
            reaches: [(actor(1), Reach::upto(n))].into_iter().collect(),
            ..Position::default()
        }
    }

    fn known(node: u32, incarnation: u64, position: Position) -> Known {
        Known {
            node: NodeId(node),
            incarnation: Incarnation(incarnation),
            partition: PartitionId {
                keyspace: KeyspaceId(1),
                index: 0,
            },
            position,
            is_serving: true,
        }
    }

    fn replica(own: u64) -> Replica {
        let partition = PartitionId {
            keyspace: KeyspaceId(1),
            index: 0,
        };
        let state = PartitionState {
            partition,
            position: at(own),
            trimmed: BTreeMap::new(),
            is_serving: false,
        };
        let nodes = vec![NodeId(1), NodeId(2), NodeId(3)];
        Replica::new(state, NodeId(1), RegionId(1), &[(RegionId(1), nodes)])
    }

    #[test]
    fn stable_is_what_a_quorum_holds() {
        let mut replica = replica(9);
        assert_eq!(replica.stable(actor(1)), 0);
        replica.on_first_hand(&known(2, 2, at(4)), Told::All);
        assert_eq!(replica.stable(actor(1)), 4);
        replica.on_first_hand(&known(3, 3, at(7)), Told::All);
        assert_eq!(replica.stable(actor(1)), 7);
    }

    #[test]
    fn the_floor_falls_when_a_replica_is_reborn_empty() {
        let mut replica = replica(9);
        replica.on_first_hand(&known(2, 2, at(9)), Told::All);
        replica.on_first_hand(&known(3, 3, at(5)), Told::All);
        assert_eq!(replica.floor(NodeId(1)).get(&actor(1)), Some(&5));
        replica.on_first_hand(&known(3, 4, Position::default()), Told::All);
        assert_eq!(replica.floor(NodeId(1)).get(&actor(1)), None);
        replica.on_hearsay(&known(3, 3, at(9)));
        assert_eq!(replica.floor(NodeId(1)).get(&actor(1)), None);
    }

    #[test]
    fn a_new_replica_serves_only_after_it_has_what_every_neighbour_had() {
        let mut replica = replica(0);
        replica.on_first_hand(&known(2, 2, at(0)), Told::All);
        assert!(!replica.has_caught_up());
        replica.on_first_hand(&known(3, 3, at(5)), Told::All);
        assert!(!replica.has_caught_up());
        replica.reach(
            Wall(0),
            actor(1),
            Reach {
                applied: 5,
                complete: 5,
            },
        );
        assert!(replica.has_caught_up());
    }
}
