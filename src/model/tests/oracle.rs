//! What is true of a history of one row, told without vectors: each operation's past is a set of operations.

use super::super::{Dot, Siblings, Stamp};
use super::dots;

/// A set of operations of one history, by their places in it; so a history has at most 64.
pub(super) type Set = u64;

/// One operation.
#[derive(Clone, Copy)]
pub(super) struct Event {
    pub(super) stamp: Stamp,
    /// The operations that it takes the place of.
    pub(super) replaces: Set,
    /// Whether it leaves a value.
    pub(super) is_put: bool,
}

/// All operations of a history.
#[derive(Clone, Default)]
pub(super) struct Oracle {
    pub(super) events: Vec<Event>,
}

impl Oracle {
    /// Adds an operation; says which set is it alone.
    pub(super) fn add(&mut self, stamp: Stamp, replaces: Set, is_put: bool) -> Set {
        assert!(self.events.len() < 64, "a set holds no more");
        self.events.push(Event {
            stamp,
            replaces,
            is_put,
        });
        1 << (self.events.len() - 1)
    }

    /// The operations of a set.
    pub(super) fn of(&self, set: Set) -> impl Iterator<Item = (Set, &Event)> {
        let all = self.events.iter().enumerate();
        let all = all.map(|(index, event)| (1 << index, event));
        all.filter(move |(one, _)| one & set != 0)
    }

    /// The values that somebody sees who knows of these operations: those that no other one has replaced.
    pub(super) fn frontier(&self, known: Set) -> Vec<Dot> {
        let replaced = self
            .of(known)
            .fold(0, |replaced, (_, event)| replaced | event.replaces);
        let left = self.of(known & !replaced);
        let left = left.filter(|(_, event)| event.is_put);
        let mut dots: Vec<Dot> = left.map(|(_, event)| event.stamp.dot).collect();
        dots.sort_unstable();
        dots
    }

    /// Fails if a row shows anything else than the frontier of what it knows.
    pub(super) fn check(&self, row: &Siblings, known: Set, trace: &dyn Fn() -> String) {
        assert_eq!(dots(row), self.frontier(known), "versions: {}", trace());
        let context = row.context();
        for (one, event) in self.of(Set::MAX) {
            let is_covered = context.covers(event.stamp.dot);
            assert!(
                !is_covered || one & known != 0,
                "a context that is false: {}",
                trace()
            );
        }
    }

    /// Fails if a row has forgotten any of what it knows.
    pub(super) fn check_memory(&self, row: &Siblings, known: Set, trace: &dyn Fn() -> String) {
        let context = row.context();
        for (_, event) in self.of(known) {
            assert!(
                context.covers(event.stamp.dot),
                "forgotten: {:?}: {}",
                event.stamp,
                trace()
            );
        }
    }
}
