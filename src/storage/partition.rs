//! What the door keeps in memory of each partition: marks of every actor's log, and what it knows of the whole.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{
    Actor, Context, Dot, Incarnation, NodeId, PartitionId, PartitionState, Position, Reach,
    Remembered, Wall,
};

use super::form::{MarksForm, PartitionForm};
use super::stood::Stood;

/// An actor's log in one partition.
/// Invariant: `swept <= trimmed <= applied`, and entries above `trimmed` that rows name are in the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Marks {
    /// How far it is applied, and complete.
    pub(super) reach: Reach,
    /// Nothing up to here may be read from the log any more.
    pub(super) trimmed: u64,
    /// Nothing up to here is left on disk.
    pub(super) swept: u64,
    /// Bytes of entries on disk.
    pub(super) bytes: u64,
}

impl From<MarksForm> for Marks {
    fn from(form: MarksForm) -> Self {
        Self {
            reach: Reach {
                applied: form.applied,
                complete: form.complete,
            },
            trimmed: form.trimmed,
            swept: form.swept,
            bytes: form.bytes,
        }
    }
}

impl From<Marks> for MarksForm {
    fn from(marks: Marks) -> Self {
        Self {
            applied: marks.reach.applied,
            complete: marks.reach.complete,
            trimmed: marks.trimmed,
            swept: marks.swept,
            bytes: marks.bytes,
        }
    }
}

/// Tombstones are being collected, some at a time.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Collecting {
    /// What every replica has.
    pub(super) floor: Context,
    /// The grave that was looked at last; nothing at the beginning.
    pub(super) after: Vec<u8>,
    /// Whether the floor has risen since it began, so that it has to begin again when it comes to the end.
    pub(super) again: bool,
}

/// A partition.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Partition {
    pub(super) is_serving: bool,
    pub(super) has_served: bool,
    /// Actors that are retired are not among them.
    pub(super) logs: BTreeMap<Actor, Marks>,
    /// See [`Position::retired`].
    pub(super) retired: BTreeMap<NodeId, Incarnation>,
    /// Nodes of whose retired logs entries may be left on disk: all of them after a start.
    pub(super) unswept: BTreeSet<NodeId>,
    /// The name of the sweep that was gone on with last: they have their turns.
    pub(super) last_sweep: Vec<u8>,
    /// A collection that did not come to its end.
    pub(super) collecting: Option<Collecting>,
    /// Up to when rows have expired: what the row of the partition says.
    pub(super) cut: Wall,
    /// What was collected since the start: every replica has it, and everything that was written beside it.
    pub(super) collected: Context,
    /// What was retired when something was collected last.
    pub(super) retired_before: BTreeMap<NodeId, Incarnation>,
    /// Registers that stood here before their log came.
    pub(super) stood: Stood,
}

impl Partition {
    pub(super) fn has_retired(&self, actor: Actor) -> bool {
        let upto = self.retired.get(&actor.node);
        upto.is_some_and(|upto| actor.incarnation <= *upto)
    }

    /// The marks of an actor's log; if it is retired, all of it was here and is gone.
    pub(super) fn marks(&self, actor: Actor) -> Marks {
        if self.has_retired(actor) {
            return Marks {
                reach: Reach::ALL,
                trimmed: u64::MAX,
                swept: u64::MAX,
                bytes: 0,
            };
        }
        self.logs.get(&actor).copied().unwrap_or_default()
    }

    /// A register is not the newest of its row any more. Before the partition serves, it did not stand for that.
    pub(super) fn note_replaced(&mut self, dot: Dot) {
        if !self.is_serving {
            self.stood.remove(dot);
        }
    }

    /// Whether the change of this dot, or something newer of its row, is certainly in the rows.
    pub(super) fn covers(&self, dot: Dot) -> bool {
        dot.n <= self.marks(dot.actor).reach.complete
    }

    pub(super) fn position(&self) -> Position {
        let reaches = self.logs.iter();
        Position {
            reaches: reaches
                .map(|(actor, marks)| (*actor, marks.reach))
                .collect(),
            retired: self.retired.clone(),
        }
    }

    pub(super) fn form(&self) -> PartitionForm {
        PartitionForm {
            is_serving: self.is_serving,
            has_served: self.has_served,
            retired: self.retired.clone(),
        }
    }

    pub(super) fn state(
        &self,
        partition: PartitionId,
        remembered: BTreeMap<NodeId, Remembered>,
    ) -> PartitionState {
        let trimmed = self.logs.iter().filter(|(_, marks)| marks.trimmed > 0);
        PartitionState {
            partition,
            position: self.position(),
            trimmed: trimmed
                .map(|(actor, marks)| (*actor, marks.trimmed))
                .collect(),
            is_serving: self.is_serving,
            has_served: self.has_served,
            remembered,
        }
    }
}
