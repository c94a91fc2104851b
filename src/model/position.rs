//! Positions: how far a replica has applied every actor's log of one partition.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Actor, Dot};

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

/// A version vector over the actors of one partition, with both marks.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Position(pub BTreeMap<Actor, Reach>);

impl Position {
    /// How far `actor`'s log has been applied; zero for an actor never heard of.
    pub fn reach(&self, actor: Actor) -> Reach {
        self.0.get(&actor).copied().unwrap_or_default()
    }

    /// Whether the change of this dot, or something newer of its row, is certainly in the rows.
    pub fn covers(&self, dot: Dot) -> bool {
        dot.n <= self.reach(dot.actor).complete
    }

    /// Raises both marks, each to at least the given one.
    pub fn raise(&mut self, actor: Actor, reach: Reach) {
        let mine = self.0.entry(actor).or_default();
        mine.applied = mine.applied.max(reach.applied);
        mine.complete = mine.complete.max(reach.complete);
    }

    /// Raises every actor's marks to at least those of `other`.
    pub fn join(&mut self, other: &Self) {
        for (actor, reach) in &other.0 {
            self.raise(*actor, *reach);
        }
    }

    /// Whether every log is complete at least as far as in `other`.
    pub fn includes(&self, other: &Self) -> bool {
        other
            .0
            .iter()
            .all(|(actor, reach)| self.reach(*actor).complete >= reach.complete)
    }
}
