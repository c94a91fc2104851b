//! Registers that were the newest of their row here before their log was complete up to them.

use std::collections::BTreeSet;

use crate::model::{Actor, Dot};

/// Most that are remembered in a partition; the least is forgotten first.
const STOOD_MAX: usize = 1024;

/// Versions that a read's repair, or a pass over their log with holes, brought while they were the newest here. When their log
/// comes they may have been replaced; but they stood, and what replaced them does not hide them from their writer. In memory only:
/// after a crash their writer may be told that it cannot know.
///
/// What is replaced while the partition does not serve did not stand: what had finished before may be missing here.
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

    /// A version that was replaced before the partition served.
    pub(super) fn remove(&mut self, dot: Dot) {
        self.0.remove(&dot);
    }

    /// Those of an actor up to a number.
    pub(super) fn upto(&self, actor: Actor, upto: u64) -> impl Iterator<Item = Dot> + '_ {
        let range = Dot { actor, n: 0 }..=Dot { actor, n: upto };
        self.0.range(range).copied()
    }

    /// The log of an actor is here up to a number.
    pub(super) fn forget(&mut self, actor: Actor, upto: u64) {
        self.0.retain(|dot| dot.actor != actor || dot.n > upto);
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
        assert_eq!(
            stood.0.into_iter().collect::<Vec<_>>(),
            [dot(1, 5), dot(2, 4)]
        );
    }

    #[test]
    fn what_a_piece_brings_is_told_by_its_actor() {
        let mut stood = Stood::default();
        for dot in [dot(1, 3), dot(1, 5), dot(2, 4)] {
            stood.note(dot);
        }
        let told: Vec<Dot> = stood.upto(dot(1, 0).actor, 4).collect();
        assert_eq!(told, [dot(1, 3)]);
    }

    #[test]
    fn it_is_bounded() {
        let mut stood = Stood::default();
        for n in 0..=STOOD_MAX as u64 {
            stood.note(dot(1, n));
        }
        assert_eq!(stood.0.len(), STOOD_MAX);
        assert!(!stood.0.contains(&dot(1, 0)), "the least goes first");
    }
}
