//! Counters: a share for every actor, and operations that are counted once though they were applied twice.
//!
//! A counter's value is the sum of its shares. Only its own actor adds to a share, so the greater number is the
//! newer state. A reset writes into a share how far it had observed it, and takes away only that (the
//! `PN-Counter` of Shapiro et al., "A comprehensive study of Convergent and Commutative Replicated Data Types",
//! 2011, with a sum for the two halves, since one writer needs no join).
//!
//! An increment with an operation id also writes a row for that id, which names the change. If a retry was
//! applied by another actor, that row has two changes when it has merged, and all but the first are taken
//! off again. So the id is part of what merges, and needs nobody's memory.
//!
//! Invariant: wherever a share stands, the operations in it stand too, until their time is over. Their changes come
//! right before the share's in its actor's log, and reads and repairs carry them before shares.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::planted::{Guard, is_left_out};
use super::{Actor, Dot, Stamp, Wall};

/// An operation id that a client gave: the hash of its `Idempotency-Key`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct OpId(pub u128);

/// How far a share has come.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
pub struct Tally {
    /// The number, in its actor's log, of the last increment in it.
    pub n: u64,
    /// The number of the first one: a share that was reset as a whole begins anew.
    pub since: u64,
    /// The sum of the increments.
    pub sum: i64,
}

/// One actor's share of a counter.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Share {
    /// The last change of this row, by its own actor or by a reset.
    pub stamp: Stamp,
    /// What its actor added.
    pub own: Tally,
    /// What of it was observed and reset.
    pub reset: Tally,
}

impl Share {
    /// What it adds to the counter.
    pub fn value(&self) -> i128 {
        if self.is_reset() {
            return 0;
        }
        i128::from(self.own.sum) - i128::from(self.observed().sum)
    }

    /// What was reset of it since it last began; nothing if the reset came before. A replica that has collected
    /// the share in between has forgotten such a reset and another has not, so that only this may be compared.
    pub fn observed(&self) -> Tally {
        if self.reset.n >= self.own.since {
            self.reset
        } else {
            Tally::default()
        }
    }

    /// Up to which number, in its actor's log, it is known here, by itself or by a reset of it.
    pub fn reach(&self) -> u64 {
        self.own.n.max(self.reset.n)
    }

    /// Whether all of it was reset, and perhaps more that is not here yet.
    pub fn is_reset(&self) -> bool {
        self.reset.n >= self.own.n
    }

    pub(super) fn merge(&mut self, other: &Self) {
        self.stamp = self.stamp.max(other.stamp);
        self.own = self.own.max(other.own);
        self.reset = self.reset.max(other.reset);
    }
}

/// An increment with an operation id: which changes applied it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Once {
    /// The last change of this row.
    pub stamp: Stamp,
    /// The changes that applied it, with what each added, by dot.
    pub applied: BTreeMap<Dot, i64>,
    /// Those of them whose share was reset, and collected since: nothing else tells of it any more.
    pub gone: BTreeSet<Dot>,
    /// Until when a retry is sure to find it.
    pub expires: Wall,
    /// Whether it has expired at a cut that all replicas agree on.
    pub is_spent: bool,
}

impl Once {
    /// Whether it was applied more than once.
    pub fn is_repeated(&self) -> bool {
        self.applied.len() > 1
    }

    /// Whether nothing that it added can count any more, so that it need not be told from what was added once.
    pub fn is_settled(&self) -> bool {
        !self.is_repeated() || self.applied.keys().all(|dot| self.gone.contains(dot))
    }

    /// Whether one of its changes is in a share, counted or reset, given how far the shares of its actors
    /// reach here. If none is,
    /// this row was brought by a reader, or its log broke off before the share.
    pub fn is_applied(&self, mut upto: impl FnMut(Actor) -> Option<u64>) -> bool {
        let mut dots = self.applied.keys();
        !self.gone.is_empty() || dots.any(|dot| upto(dot.actor).is_some_and(|upto| dot.n <= upto))
    }

    /// Notes that a share is collected which was reset up to here. Says whether it tells of one of these changes.
    pub fn forget(&mut self, actor: Actor, upto: u64) -> bool {
        let before = self.gone.len();
        let dots = self.applied.keys();
        let gone = dots.filter(|dot| dot.actor == actor && dot.n <= upto);
        self.gone.extend(gone);
        self.gone.len() > before
    }

    /// What is to be taken off the counter, given its shares: all that was added but by the first change, and if
    /// any of the changes was reset, that of the first too, for the increment was observed by the reset.
    fn surplus(&self, shares: &BTreeMap<Actor, &Share>) -> i128 {
        let share = |dot: &Dot| shares.get(&dot.actor);
        // A share that began anew was reset before, and perhaps collected in between. Its own change comes right
        // after that of the operation.
        let has_begun_since = |dot: &Dot, share: &Share| dot.n.saturating_add(1) < share.own.since;
        let is_reset = |dot: &Dot| {
            let is_in = |share: &&Share| dot.n <= share.reset.n || has_begun_since(dot, share);
            self.gone.contains(dot) || share(dot).is_some_and(is_in)
        };
        let is_counted =
            |dot: &Dot| share(dot).is_some_and(|share| dot.n <= share.own.n) && !is_reset(dot);
        let was_reset = self.applied.keys().any(is_reset);
        let counted = self.applied.iter().filter(|(dot, _)| is_counted(dot));
        let spared = usize::from(!was_reset);
        counted.skip(spared).map(|(_, sum)| i128::from(*sum)).sum()
    }

    pub(super) fn merge(&mut self, other: &Self) {
        self.stamp = self.stamp.max(other.stamp);
        for (dot, sum) in &other.applied {
            self.applied.entry(*dot).or_insert(*sum);
        }
        self.gone.extend(&other.gone);
        // The least, so that a cut between the two takes both, be they merged before it or after.
        self.expires = self.expires.min(other.expires);
        self.is_spent |= other.is_spent;
    }
}

/// The value of a counter: its shares, less what was applied more than once.
pub fn counter_value<'a>(
    shares: &BTreeMap<Actor, &Share>,
    repeated: impl Iterator<Item = &'a Once>,
) -> i128 {
    let sum: i128 = shares.values().map(|share| share.value()).sum();
    if is_left_out(Guard::Surplus) {
        return sum;
    }
    sum - repeated.map(|once| once.surplus(shares)).sum::<i128>()
}
