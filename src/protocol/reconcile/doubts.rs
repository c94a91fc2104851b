//! Leaves that differed, but perhaps only by changes that were on their way: they are put off until it is known that
//! the logs do not mend them.
//!
//! Two replicas whose positions are equal have the same changes, so what differs is a difference. If one has changes
//! that the other lacks, it may be these. A leaf then waits: until both have all that either had when it was last
//! looked at, and its hashes are still those of then, for the changes that came since touched something else; or, a leaf that
//! changes all the time, until it was put off so often that it is looked at anyway.

use std::collections::BTreeMap;

use crate::model::Position;

/// Rounds with one peer in which a leaf is put off.
const ROUNDS_MAX: u8 = 8;
/// Leaves that are put off in one round; what differs beyond them is compared.
const LEAVES_MAX: usize = 1024;

/// A leaf that was put off.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Doubt {
    hashes: (u128, u128),
    rounds: u8,
}

/// The leaves of a partition that were put off in one round with a peer.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct Doubts {
    leaves: BTreeMap<u16, Doubt>,
    /// All that either side had.
    position: Position,
}

/// Both sides of a leaf, or of more of them: mine, theirs.
pub(super) type Pair<T> = (T, T);

impl Doubts {
    pub(super) fn is_empty(&self) -> bool {
        self.leaves.is_empty()
    }

    /// Whether a leaf that differs is put off, given those of the round before.
    pub(super) fn puts_off(
        &mut self,
        before: &Self,
        leaf: u16,
        hashes: Pair<u128>,
        (mine, theirs): Pair<&Position>,
    ) -> bool {
        if mine.includes(theirs) && theirs.includes(mine) {
            return false;
        }
        let known = before.leaves.get(&leaf);
        let is_still = known.is_some_and(|doubt| doubt.hashes == hashes)
            && mine.includes(&before.position)
            && theirs.includes(&before.position);
        let rounds = known.map_or(0, |doubt| doubt.rounds);
        if is_still || rounds >= ROUNDS_MAX || self.leaves.len() >= LEAVES_MAX {
            return false;
        }
        let rounds = rounds + 1;
        self.leaves.insert(leaf, Doubt { hashes, rounds });
        self.position.join(mine);
        self.position.join(theirs);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::samples::{actor, position};

    fn at(n: u64) -> Position {
        position(&[(actor(1, 1), n)])
    }

    #[test]
    fn between_equal_positions_nothing_is_put_off() {
        let mut doubts = Doubts::default();
        assert!(!doubts.puts_off(&Doubts::default(), 3, (1, 2), (&at(5), &at(5))));
        assert!(doubts.is_empty());
    }

    #[test]
    fn a_leaf_that_no_change_touched_is_compared_when_what_was_on_its_way_has_come() {
        let mut first = Doubts::default();
        assert!(first.puts_off(&Doubts::default(), 3, (1, 2), (&at(5), &at(7))));
        let mut second = Doubts::default();
        let behind = (&at(6), &at(9));
        assert!(second.puts_off(&first, 3, (1, 2), behind), "not yet");
        let mut second = Doubts::default();
        let on = (&at(8), &at(9));
        assert!(second.puts_off(&first, 3, (1, 4), on), "it changes");
        assert!(!second.puts_off(&first, 3, (1, 2), on));
    }

    #[test]
    fn a_leaf_that_changes_all_the_time_is_compared_now_and_then() {
        let mut before = Doubts::default();
        for round in 0..u64::from(ROUNDS_MAX) {
            let mut doubts = Doubts::default();
            let hash = u128::from(round);
            let ends = (&at(round), &at(round + 1));
            assert!(doubts.puts_off(&before, 3, (hash, hash + 1), ends));
            before = doubts;
        }
        let ends = (&at(50), &at(51));
        assert!(!Doubts::default().puts_off(&before, 3, (50, 51), ends));
    }

    #[test]
    fn what_is_put_off_is_bounded() {
        let mut doubts = Doubts::default();
        let ends = (&at(1), &at(2));
        let put_off =
            (0..4096).filter(|leaf| doubts.puts_off(&Doubts::default(), *leaf, (1, 2), ends));
        assert_eq!(put_off.count(), LEAVES_MAX);
    }
}
