//! Positions: how far a replica has applied every actor's log of one partition.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Actor, Dot, Incarnation, NodeId};

/// How far one actor's log has been applied.
///
/// A newer log entry of an actor for a row replaces the older one, so a receiver that is catching up may
/// have passed a number whose row it will only meet later, under the newer number. Hence two marks.
/// Invariant: `complete <= applied`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Reach {
    /// The log is resumed after this number.
    pub applied: u64,
    /// Every change up to this number, or something newer of its row, is in the rows.
    /// Only this mark may be used to conclude anything (what was deleted, what may be collected).
    pub complete: u64,
}

impl Reach {
    /// Both marks at the end of time: the log of an actor that is retired.
    pub const ALL: Self = Self::upto(u64::MAX);

    /// Both marks at a number.
    pub const fn upto(n: u64) -> Self {
        Self {
            applied: n,
            complete: n,
        }
    }
}

/// A version vector over the actors of one partition, with both marks.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Position {
    /// By actor. Actors that are retired are not named.
    pub reaches: BTreeMap<Actor, Reach>,
    /// Of these nodes, all that they did in this incarnation or an earlier one is here and everywhere, so that
    /// it need not be counted any more. Incarnations of a node only rise, so one number stands for all.
    pub retired: BTreeMap<NodeId, Incarnation>,
}

impl FromIterator<(Actor, Reach)> for Position {
    fn from_iter<I: IntoIterator<Item = (Actor, Reach)>>(reaches: I) -> Self {
        Self {
            reaches: reaches.into_iter().collect(),
            retired: BTreeMap::new(),
        }
    }
}

impl Position {
    /// Bytes it takes, roughly, in memory and on disk.
    pub fn size(&self) -> usize {
        self.reaches.len() * 28 + self.retired.len() * 12
    }

    /// How far `actor`'s log has been applied; zero for an actor never heard of.
    pub fn reach(&self, actor: Actor) -> Reach {
        if self.has_retired(actor) {
            return Reach::ALL;
        }
        self.reaches.get(&actor).copied().unwrap_or_default()
    }

    /// Whether all that this actor ever did is everywhere.
    pub fn has_retired(&self, actor: Actor) -> bool {
        self.retired
            .get(&actor.node)
            .is_some_and(|upto| actor.incarnation <= *upto)
    }

    /// Whether the change of this dot, or something newer of its row, is certainly in the rows.
    pub fn covers(&self, dot: Dot) -> bool {
        dot.n <= self.reach(dot.actor).complete
    }

    /// Raises both marks, each to at least the given one.
    pub fn raise(&mut self, actor: Actor, reach: Reach) {
        if self.has_retired(actor) {
            return;
        }
        let mine = self.reaches.entry(actor).or_default();
        mine.applied = mine.applied.max(reach.applied);
        mine.complete = mine.complete.max(reach.complete);
    }

    /// Retires a node's incarnations up to this one.
    pub fn retire(&mut self, node: NodeId, upto: Incarnation) {
        let mine = self.retired.entry(node).or_insert(upto);
        *mine = (*mine).max(upto);
        let upto = *mine;
        self.reaches
            .retain(|actor, _| actor.node != node || actor.incarnation > upto);
    }

    /// Raises every actor's marks to at least those of `other`.
    pub fn join(&mut self, other: &Self) {
        for (node, upto) in &other.retired {
            self.retire(*node, *upto);
        }
        for (actor, reach) in &other.reaches {
            self.raise(*actor, *reach);
        }
    }

    /// Whether every log is complete at least as far as in `other`. Actors that `other` has retired are not asked
    /// after: a replica that had a part in it has them too, and one that had not is filled (see `protocol`).
    pub fn includes(&self, other: &Self) -> bool {
        other
            .reaches
            .iter()
            .all(|(actor, reach)| self.reach(*actor).complete >= reach.complete)
    }
}
