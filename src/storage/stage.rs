//! What changes do, one by one: refusals first, then rows, log entries, marks, graves and digest together. Here is
//! who does what, and what names a row that may be.

use crate::model::{
    Change, Dot, Effect, NodeId, Part, PartitionId, Remembered, Row, RowKey, Token, Wall,
};

use super::engine::{Engine, Space};
use super::form;
use super::keys::{self, KEY_BYTES_MAX};
use super::raise::Serving;
use super::{Door, Error};

/// Longest value that a peer may send, whatever the limits say: limits refuse clients' writes, never merges,
/// lest replicas with different limits stay different.
pub(super) const VALUE_BYTES_MAX: usize = 16 << 20;

/// A reason to refuse a change.
pub(super) type Refusal = &'static str;

pub(super) const NOT_HERE: Refusal = "this node does not hold the partition";

impl<E: Engine> Door<E> {
    pub(super) fn stage_one(&mut self, wall: Wall, change: &Change) -> Result<Effect, Error> {
        match change {
            Change::Write(write) => self.write(wall, write),
            Change::Append {
                partition,
                actor,
                from,
                to,
                complete_from,
                items,
            } => {
                let piece = super::append::Piece {
                    partition: *partition,
                    actor: *actor,
                    from: *from,
                    to: *to,
                    complete_from: *complete_from,
                    items,
                };
                self.append(wall, piece)
            }
            Change::Repair { key, row } => self.repair(wall, key, row),
            Change::Forget { key, expected } => self.forget(key, *expected),
            Change::Raise {
                partition,
                position,
            } => self.raise(*partition, position),
            Change::Trim {
                partition,
                actor,
                to,
            } => self.trim(*partition, *actor, *to),
            Change::Collect { partition, floor } => self.collect(wall, *partition, floor),
            Change::Retire {
                partition,
                node,
                upto,
            } => self.retire(*partition, *node, *upto),
            Change::Expire { partition, now } => self.expire(wall, *partition, *now),
            Change::Sweep { partition } => self.continue_sweeps(wall, *partition),
            Change::Serve { partition } => Ok(self.set_serving(*partition, Serving::Yes)),
            Change::Fence { partition } => Ok(self.set_serving(*partition, Serving::No)),
            Change::Remember {
                partition,
                node,
                told,
            } => self.remember(*partition, *node, told),
        }
    }

    fn forget(&mut self, key: &RowKey, expected: u64) -> Result<Effect, Error> {
        let partition = match self.check_key(key) {
            Ok(partition) => partition,
            Err(reason) => return Ok(Effect::Refused { reason }),
        };
        // A row that still has to take others with it stays until they are gone, and goes when it is collected.
        if self
            .get(Space::Meta, &keys::sweep(partition, key))?
            .is_some()
            || key.key.is_empty()
        {
            return Ok(Effect::Done);
        }
        let old = self.load(key)?;
        if let Some(old) = old.filter(|old| old.row.summary().state == expected) {
            self.remove(partition, key, &old)?;
        }
        Ok(Effect::Done)
    }

    fn remember(
        &mut self,
        partition: PartitionId,
        node: NodeId,
        told: &Remembered,
    ) -> Result<Effect, Error> {
        if !self.partitions.contains_key(&partition) {
            return Ok(Effect::Refused { reason: NOT_HERE });
        }
        let stored = keys::remembered(partition, node);
        let value = form::seal(Space::Meta, &stored, told)?;
        self.staged.put(Space::Meta, stored, value);
        Ok(Effect::Done)
    }

    pub(super) fn check_key(&self, key: &RowKey) -> Result<PartitionId, Refusal> {
        if key.key.len() > KEY_BYTES_MAX || key.subkey.len() > KEY_BYTES_MAX {
            return Err("the key is too long");
        }
        let partition = key.partition(self.partition_count);
        if key.key.is_empty() {
            if *key != RowKey::of_expiry(partition, self.partition_count) {
                return Err("the key is empty");
            }
        } else if key.token != Token::of(&key.key) {
            return Err("the token is not the key's");
        }
        if !self.partitions.contains_key(&partition) {
            return Err(NOT_HERE);
        }
        Ok(partition)
    }

    pub(super) fn check_merge(&self, key: &RowKey, row: &Row) -> Result<PartitionId, Refusal> {
        let partition = self.check_key(key)?;
        if !fits(key, row) {
            return Err("the row is not of the kind that its name says");
        }
        if row.stamp().dot == Dot::NONE {
            return Err("the row names no change");
        }
        // Timestamps are bounded by clocks, and so a cut is: a clock that is far ahead must not let everything expire.
        if matches!(row, Row::Expiry(expiry) if expiry.upto.0 > expiry.stamp.timestamp.micros) {
            return Err("the cut of expiry lies ahead of its own timestamp");
        }
        if row.size() > VALUE_BYTES_MAX * 64 {
            return Err("the value is too long");
        }
        Ok(partition)
    }
}

/// Whether a row of this name may be of this kind.
fn fits(key: &RowKey, row: &Row) -> bool {
    if key.subkey.is_empty() {
        return matches!(row, Row::Register(_) | Row::Siblings(_));
    }
    match key.part() {
        Some(Part::Plain) | None => false,
        Some(Part::Member(_) | Part::Field(_)) => matches!(row, Row::Siblings(_)),
        Some(Part::Share(..)) => matches!(row, Row::Share(_)),
        Some(Part::Once(..)) => matches!(row, Row::Once(_)),
        Some(Part::Clear(_)) => matches!(row, Row::Clear(_)),
        Some(Part::Conflict(_)) => matches!(row, Row::Conflict(_)),
        Some(Part::Expiry) => key.key.is_empty() && matches!(row, Row::Expiry(_)),
    }
}
