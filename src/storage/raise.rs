//! What is known of a partition as a whole: positions that were taken over from peers, actors that are retired, and
//! whether it serves.

use crate::model::{Effect, Incarnation, NodeId, PartitionId, Position};

use crate::model::planted::{Guard, is_left_out};

use super::engine::{Engine, Space};
use super::keys;
use super::stage::NOT_HERE;
use super::{Door, Error};

/// Whether a partition serves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Serving {
    Yes,
    No,
}

impl<E: Engine> Door<E> {
    /// Takes over a peer's position. Between the old mark and the new one this log has holes, so it is
    /// not read from there any more, also where only `complete` rises: an entry that was passed over
    /// for a later one which is not here yet would be missing.
    pub(super) fn raise(
        &mut self,
        partition: PartitionId,
        position: &Position,
    ) -> Result<Effect, Error> {
        if !self.partitions.contains_key(&partition) {
            return Ok(Effect::Refused { reason: NOT_HERE });
        }
        for (node, upto) in &position.retired {
            if !self.is_alive(*node, *upto) {
                self.note_retired(partition, *node, *upto);
            }
        }
        for (actor, theirs) in &position.reaches {
            if theirs.complete <= self.marks(partition, *actor).reach.complete {
                continue;
            }
            self.change_marks(partition, *actor, |marks| {
                marks.reach.complete = theirs.complete;
                marks.reach.applied = marks.reach.applied.max(theirs.complete);
                marks.trimmed = marks.trimmed.max(theirs.complete);
            });
        }
        Ok(Effect::Done)
    }

    /// Retires a node's incarnations. What is left of their logs is swept later.
    pub(super) fn retire(
        &mut self,
        partition: PartitionId,
        node: NodeId,
        upto: Incarnation,
    ) -> Result<Effect, Error> {
        if !self.partitions.contains_key(&partition) {
            return Ok(Effect::Refused { reason: NOT_HERE });
        }
        if self.is_alive(node, upto) {
            return Ok(Effect::Refused {
                reason: "this life of the node has not ended",
            });
        }
        self.note_retired(partition, node, upto);
        Ok(Effect::Done)
    }

    /// Removes entries of logs that are retired; rows have forgotten them. Says how many of `entries_max` are left over
    /// for other work.
    pub(super) fn sweep_retired(
        &mut self,
        partition: PartitionId,
        entries_max: usize,
    ) -> Result<usize, Error> {
        let mut left = entries_max;
        while left > 0 {
            let Some(known) = self.partitions.get(&partition) else {
                break;
            };
            let Some(node) = known.unswept.first().copied() else {
                break;
            };
            let Some(upto) = known.retired.get(&node).copied() else {
                break;
            };
            let count = self.drop_logs(partition, node, upto, left)?;
            if count < left
                && let Some(known) = self.partitions.get_mut(&partition)
            {
                known.unswept.remove(&node);
            }
            left = left.saturating_sub(count);
        }
        Ok(left)
    }

    pub(super) fn set_serving(&mut self, partition: PartitionId, serving: Serving) -> Effect {
        let Some(known) = self.partitions.get_mut(&partition) else {
            return Effect::Refused { reason: NOT_HERE };
        };
        let is_serving = serving == Serving::Yes;
        if known.is_serving != is_serving {
            known.is_serving = is_serving;
            known.has_served |= is_serving;
            if is_serving || !is_left_out(Guard::FenceKept) {
                self.dirty_partitions.insert(partition);
            }
        }
        Effect::Done
    }

    fn is_alive(&self, node: NodeId, upto: Incarnation) -> bool {
        node == self.actor.node && upto >= self.actor.incarnation
    }

    /// Removes entries of these actors' logs; says how many.
    fn drop_logs(
        &mut self,
        partition: PartitionId,
        node: NodeId,
        upto: Incarnation,
        entries_max: usize,
    ) -> Result<usize, Error> {
        let span = keys::retired_log_span(partition, node, upto);
        let found = self.list(Space::Log, &span, entries_max)?;
        let count = found.len();
        for (stored, _) in found {
            self.staged.remove(Space::Log, stored);
        }
        Ok(count)
    }

    fn note_retired(&mut self, partition: PartitionId, node: NodeId, upto: Incarnation) {
        let Some(known) = self.partitions.get_mut(&partition) else {
            return;
        };
        let mine = known.retired.get(&node);
        if mine.is_some_and(|mine| *mine >= upto) {
            return;
        }
        known.retired.insert(node, upto);
        known.unswept.insert(node);
        let actors = known.logs.keys().copied();
        let gone: Vec<_> = actors.filter(|actor| known.has_retired(*actor)).collect();
        for actor in gone {
            known.logs.remove(&actor);
            self.dirty.insert((partition, actor));
        }
        self.dirty_partitions.insert(partition);
    }
}
