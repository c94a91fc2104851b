//! What the door keeps in memory of each partition: marks of every actor's log.

use std::collections::BTreeMap;

use crate::model::{Actor, PartitionId, PartitionState, Position, Reach};

use super::form::MarksForm;

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

/// A partition.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Partition {
    pub(super) is_serving: bool,
    pub(super) logs: BTreeMap<Actor, Marks>,
}

impl Partition {
    pub(super) fn marks(&self, actor: Actor) -> Marks {
        self.logs.get(&actor).copied().unwrap_or_default()
    }

    pub(super) fn position(&self) -> Position {
        let reaches = self.logs.iter();
        Position {
            reaches: reaches
                .map(|(actor, marks)| (*actor, marks.reach))
                .collect(),
            retired: BTreeMap::new(),
        }
    }

    pub(super) fn state(&self, partition: PartitionId) -> PartitionState {
        let trimmed = self.logs.iter().filter(|(_, marks)| marks.trimmed > 0);
        PartitionState {
            partition,
            position: self.position(),
            trimmed: trimmed
                .map(|(actor, marks)| (*actor, marks.trimmed))
                .collect(),
            is_serving: self.is_serving,
        }
    }
}
