//! Registers that were the newest of their row here before their log came.

use std::collections::BTreeSet;

use crate::model::{Actor, Dot};

/// Most that are remembered in a partition; the least is forgotten first.
const STOOD_MAX: usize = 1024;

/// Versions that a read's repair brought, while they were the newest here. When their log comes they may have been
/// replaced; but they stood, and what replaced them does not hide them from their writer. In memory only: after a crash their writer
/// may be told that it cannot know.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Stood(BTreeSet<Dot>);

impl Stood {
    /// A version has come to stand.
    pub(super) fn note(&mut self, dot: Dot) {
        self.0.insert(dot);
        if self.0.len() > STOOD_MAX {
            self.0.pop_first();
        }
    }

    pub(super) fn has(&self, dot: Dot) -> bool {
        self.0.contains(&dot)
    }

    /// The log of an actor is here up to a number.
    pub(super) fn forget(&mut self, actor: Actor, upto: u64) {
        while let Some(dot) = self
            .0
            .range(Dot { actor, n: 0 }..=Dot { actor, n: upto })
            .next()
        {
            let dot = *dot;
            self.0.remove(&dot);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Incarnation, NodeId};

    fn dot(node: u32, n: u64) -> Dot {
        let actor = Actor {
            node: NodeId(node),
            incarnation: Incarnation(1),
        };
        Dot { actor, n }
    }

    #[test]
    fn what_stood_is_known_until_its_log_is_here() {
        let mut stood = Stood::default();
        for dot in [dot(1, 3), dot(1, 5), dot(2, 4)] {
            stood.note(dot);
        }
        stood.forget(dot(1, 0).actor, 4);
        let has = [dot(1, 3), dot(1, 5), dot(2, 4)].map(|dot| stood.has(dot));
        assert_eq!(has, [false, true, true]);
    }

    #[test]
    fn it_is_bounded() {
        let mut stood = Stood::default();
        for n in 0..=STOOD_MAX as u64 {
            stood.note(dot(1, n));
        }
        assert_eq!((stood.0.len(), stood.has(dot(1, 0))), (STOOD_MAX, false));
    }
}
