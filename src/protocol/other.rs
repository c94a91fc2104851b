//! What is known of a replica elsewhere, and by what kind of word.
//!
//! It knows nothing of this node's own state.

use crate::model::{Incarnation, Position, Remembered};

use super::message::Known;

/// How much of what it knows a node has told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Told {
    /// All of it: positions as they stood at one moment.
    All,
    /// What has changed.
    Changes,
}

/// A replica elsewhere, as far as it is known.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Other {
    pub(super) incarnation: Incarnation,
    /// All that it is known to have, by whatever word: for quorums, stability and trimming.
    pub(super) position: Position,
    /// What it had at one moment, all of it. Only this may be used to collect and to retire (see `upkeep`).
    /// Invariant: joined only with other such moments of the same life, so that it is the latest of them.
    pub(super) snapshot: Position,
    /// By its own word.
    is_serving: bool,
    /// Whether it has told all of it itself, in this life of both.
    pub(super) has_spoken: bool,
    /// What it had on its disk in earlier lives, if it has not got all of that now: its disk is an old copy, and it
    /// must be told. What nobody has does not count (see `attain`).
    pub(super) once: Option<Position>,
}

impl Other {
    /// A replica of which this is the first that is heard of its life.
    pub(super) fn new(known: &Known, told: Told) -> Self {
        let mut other = Self {
            incarnation: known.incarnation,
            position: Position::default(),
            snapshot: Position::default(),
            is_serving: known.is_serving,
            has_spoken: false,
            once: None,
        };
        other.hear(known, told);
        other
    }

    /// A replica that has not spoken in this life of ours, of which this is remembered.
    pub(super) fn remembered(remembered: &Remembered) -> Self {
        Self {
            incarnation: remembered.incarnation,
            position: Position::default(),
            snapshot: Position::default(),
            is_serving: false,
            has_spoken: false,
            once: Some(remembered.position.clone()),
        }
    }

    /// What is to be remembered of it.
    pub(super) fn to_remember(&self) -> Remembered {
        let mut position = self.position.clone();
        if let Some(once) = &self.once {
            position.join(once);
        }
        Remembered {
            incarnation: self.incarnation,
            position,
        }
    }

    /// The next life of a replica, which should have all that it had in this one.
    pub(super) fn reborn(&self, known: &Known, told: Told) -> Self {
        let mut once = self.once.clone().unwrap_or_default();
        once.join(&self.position);
        Self {
            once: Some(once),
            ..Self::new(known, told)
        }
    }

    /// Takes in a word about it, its own or another's.
    pub(super) fn hear(&mut self, known: &Known, told: Told) {
        self.position.join(&known.position);
        if told == Told::All {
            self.snapshot.join(&known.position);
        }
    }

    /// Takes in its own word.
    pub(super) fn hear_itself(&mut self, known: &Known, told: Told) {
        self.hear(known, told);
        self.is_serving = known.is_serving;
        self.has_spoken |= told == Told::All;
    }

    /// What it said, or what others say that it said.
    pub(super) fn says_serving(&self) -> bool {
        self.is_serving
    }

    /// Whether its disk is an old copy, as far as is known: it lacks what it once had.
    pub(super) fn is_old_copy(&self) -> bool {
        self.once.is_some()
    }

    /// Whether it may be counted on: it said so, after it had told all that it has, and that is what it once had.
    pub(super) fn is_serving(&self) -> bool {
        self.is_serving && self.has_spoken && !self.is_old_copy()
    }
}

/// Whether a position lacks anything of another one.
pub(super) fn lacks(mine: &Position, other: &Position) -> bool {
    let mut retired = other.retired.iter();
    !mine.includes(other)
        || retired.any(|(node, upto)| mine.retired.get(node).is_none_or(|mine| mine < upto))
}
