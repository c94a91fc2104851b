//! What changes do, one by one: refusals first, then rows, log entries, marks, graves and digest together.

use crate::hlc::Ahead;
use crate::model::{
    Change, Dot, Effect, LogItem, PartitionId, Position, Row, RowKey, Token, Wall, Write, WriteOp,
};

use super::engine::Engine;
use super::form::StoredRow;
use super::keys::KEY_BYTES_MAX;
use super::{Door, Error};

/// Longest value that a peer may send, whatever the limits say: limits refuse clients' writes, never merges,
/// lest replicas with different limits stay different.
const VALUE_BYTES_MAX: usize = 16 << 20;

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
            } => Ok(self.raise(*partition, position)),
            Change::Trim {
                partition,
                actor,
                to,
            } => self.trim(*partition, *actor, *to),
            Change::Collect { partition, floor } => self.collect(*partition, floor),
            Change::Serve { partition } => Ok(self.serve(*partition)),
            Change::Retire { .. }
            | Change::Expire { .. }
            | Change::Sweep { .. }
            | Change::Fence { .. } => Ok(Effect::Done),
        }
    }

    fn write(&mut self, wall: Wall, write: &Write) -> Result<Effect, Error> {
        let Write { key, op, above, .. } = write;
        let above = *above;
        let partition = match self.check_write(key, op) {
            Ok(partition) => partition,
            Err(reason) => return Ok(Effect::Refused { reason }),
        };
        let actor = self.actor;
        let marks = self.marks(partition, actor);
        let Some(n) = marks.reach.applied.checked_add(1) else {
            return Ok(Effect::Refused {
                reason: "the log is at its end",
            });
        };
        let old = self.load(key)?;
        let floor = old
            .as_ref()
            .map_or(above, |old| old.row.summary().timestamp.max(above));
        let timestamp = self.clock.stamp(wall, floor);
        if timestamp <= floor {
            return Ok(Effect::Refused {
                reason: "no timestamp is above the row's",
            });
        }

        let value = match op {
            WriteOp::Put(value) => Some(value.clone()),
            WriteOp::Delete => None,
            _ => {
                return Ok(Effect::Refused {
                    reason: "not built yet",
                });
            }
        };
        let written = Row::Register(crate::model::Version {
            timestamp,
            dot: Dot { actor, n },
            replaced: floor,
            expires: write.expires,
            after: write.after.clone(),
            value,
        });
        let (row, mut entries) = match &old {
            Some(old) => {
                let mut row = old.row.clone();
                let has_won = row.merge(&written);
                assert!(has_won, "a write wins over what it replaces");
                (row, old.entries.clone())
            }
            None => (written, Vec::new()),
        };
        self.log(partition, Dot { actor, n }, key, &mut entries)?;
        self.store(
            partition,
            key,
            old.as_ref(),
            Some(StoredRow {
                row: row.clone(),
                entries,
            }),
        )?;
        self.change_marks(partition, actor, |marks| {
            // An own log that came back from elsewhere (this disk is an old copy) may have holes.
            if marks.reach.complete == marks.reach.applied {
                marks.reach.complete = n;
            }
            marks.reach.applied = n;
        });
        self.hold_log_bytes(partition, actor)?;
        Ok(Effect::Written {
            partition,
            items: vec![LogItem {
                n,
                key: key.clone(),
                row,
            }],
        })
    }

    fn repair(&mut self, wall: Wall, key: &RowKey, row: &Row) -> Result<Effect, Error> {
        let partition = match self.check_merge(key, row) {
            Ok(partition) => partition,
            Err(reason) => return Ok(Effect::Refused { reason }),
        };
        let summary = row.summary();
        if let Err(Ahead { seen, .. }) = self.clock.observe(wall, summary.timestamp) {
            return Ok(Effect::Early {
                partition,
                timestamp: seen,
            });
        }
        let old = self.load(key)?;
        if old.as_ref().is_some_and(|old| is_forged(&old.row, row)) {
            return Ok(Effect::Refused { reason: FORGED });
        }
        let merged = match &old {
            None if self.is_covered(partition, row) => None,
            None => Some(StoredRow {
                row: row.clone(),
                entries: Vec::new(),
            }),
            Some(old) => {
                let mut merged = old.clone();
                merged.row.merge(row);
                Some(merged)
            }
        };
        let summary = merged.as_ref().map(|merged| merged.row.summary());
        if merged != old {
            self.store(partition, key, old.as_ref(), merged)?;
        }
        Ok(Effect::Repaired { summary })
    }

    fn forget(&mut self, key: &RowKey, expected: u64) -> Result<Effect, Error> {
        let partition = match self.check_key(key) {
            Ok(partition) => partition,
            Err(reason) => return Ok(Effect::Refused { reason }),
        };
        let old = self.load(key)?;
        if let Some(old) = old.filter(|old| old.row.summary().state == expected) {
            self.remove(partition, key, &old)?;
        }
        Ok(Effect::Done)
    }

    /// Takes over a peer's position. Between the old mark and the new one this log has holes, so it is
    /// not read from there any more, also where only `complete` rises: an entry that was passed over
    /// for a later one which is not here yet would be missing.
    fn raise(&mut self, partition: PartitionId, position: &Position) -> Effect {
        if !self.partitions.contains_key(&partition) {
            return Effect::Refused { reason: NOT_HERE };
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
        Effect::Done
    }

    fn serve(&mut self, partition: PartitionId) -> Effect {
        let Some(known) = self.partitions.get_mut(&partition) else {
            return Effect::Refused { reason: NOT_HERE };
        };
        if !known.is_serving {
            known.is_serving = true;
            self.dirty_partitions.insert(partition);
        }
        Effect::Done
    }

    fn check_key(&self, key: &RowKey) -> Result<PartitionId, Refusal> {
        if key.key.is_empty() {
            return Err("the key is empty");
        }
        if key.key.len() > KEY_BYTES_MAX || key.subkey.len() > KEY_BYTES_MAX {
            return Err("the key is too long");
        }
        if key.token != Token::of(&key.key) {
            return Err("the token is not the key's");
        }
        let partition = key.partition(self.partition_count);
        if !self.partitions.contains_key(&partition) {
            return Err(NOT_HERE);
        }
        Ok(partition)
    }

    fn check_write(&self, key: &RowKey, op: &WriteOp) -> Result<PartitionId, Refusal> {
        let partition = self.check_key(key)?;
        let key_bytes_max = self.limits.key_bytes_max;
        if key.key.len() > key_bytes_max || key.subkey.len() > key_bytes_max {
            return Err("the key is too long");
        }
        let value_bytes = match op {
            WriteOp::Put(value) => value.len(),
            _ => 0,
        };
        if value_bytes > self.limits.value_bytes_max.min(VALUE_BYTES_MAX) {
            return Err("the value is too long");
        }
        Ok(partition)
    }

    pub(super) fn check_merge(&self, key: &RowKey, row: &Row) -> Result<PartitionId, Refusal> {
        let partition = self.check_key(key)?;
        if row.size() > VALUE_BYTES_MAX * 64 {
            return Err("the value is too long");
        }
        Ok(partition)
    }

    /// Whether every version in this state was here once: if the row is absent, it was deleted and collected.
    pub(super) fn is_covered(&self, partition: PartitionId, row: &Row) -> bool {
        let dots = row.dots();
        dots.iter()
            .all(|dot| dot.n <= self.marks(partition, dot.actor).reach.complete)
    }
}

pub(super) const FORGED: Refusal = "two different changes carry the same dot";

/// Whether two states claim to be the same change and are not. Neither may then win silently.
pub(super) fn is_forged(mine: &Row, theirs: &Row) -> bool {
    mine.summary().dot == theirs.summary().dot && mine != theirs
}
