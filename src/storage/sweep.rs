//! Taking away log entries that nobody needs. The work of one change is bounded; what is left over goes with the
//! next.

use std::ops::ControlFlow;

use bytes::Bytes;

use crate::model::{Actor, Effect, PartitionId};

use super::engine::{Engine, Snapshot, Space};
use super::keys::{self, Span};
use super::rows::entry_bytes;
use super::stage::NOT_HERE;
use super::{Door, Error};

/// Entries that one change takes away at most, so that a batch stays short.
pub(super) const SWEPT_MAX: usize = 10_000;

/// No entry is shorter: name, version and checksum, lengths of key and subkey.
const ENTRY_BYTES_MIN: u64 = 37;

impl<E: Engine> Door<E> {
    pub(super) fn trim(
        &mut self,
        partition: PartitionId,
        actor: Actor,
        to: u64,
    ) -> Result<Effect, Error> {
        if !self.partitions.contains_key(&partition) {
            return Ok(Effect::Refused { reason: NOT_HERE });
        }
        let marks = self.marks(partition, actor);
        let to = to.min(marks.reach.applied);
        if to > marks.swept {
            self.sweep(partition, actor, to, u64::MAX)?;
        }
        Ok(Effect::Trimmed {
            partition,
            actor,
            to: self.marks(partition, actor).trimmed,
        })
    }

    /// Takes the oldest entries of a log that has grown beyond its limit. Receivers that are behind them
    /// are reconciled by digest; tombstones are still found by their graves.
    pub(super) fn hold_log_bytes(
        &mut self,
        partition: PartitionId,
        actor: Actor,
    ) -> Result<(), Error> {
        let marks = self.marks(partition, actor);
        let bytes_max = self.limits.log_bytes_max;
        if marks.bytes > bytes_max {
            // An eighth at a time, so that not every change has to.
            let bytes = marks.bytes - (bytes_max - bytes_max / 8);
            self.sweep(partition, actor, marks.reach.applied, bytes)?;
        }
        Ok(())
    }

    /// Removes an actor's entries, the oldest first, none after `to`, until so many bytes or entries are gone.
    fn sweep(
        &mut self,
        partition: PartitionId,
        actor: Actor,
        to: u64,
        bytes_min: u64,
    ) -> Result<(), Error> {
        let swept = self.marks(partition, actor).swept;
        let span = keys::log_span(partition, actor, swept, to);
        let entries_max = usize::try_from(bytes_min / ENTRY_BYTES_MIN)
            .unwrap_or(SWEPT_MAX)
            .clamp(1, SWEPT_MAX);
        let found = self.list(Space::Log, &span, entries_max)?;
        let mut reached = to;
        let (mut bytes, mut entries) = (0, 0);
        for (key, value) in found {
            bytes += entry_bytes(&key, &value);
            entries += 1;
            if bytes >= bytes_min || entries >= entries_max {
                reached = keys::parse_number(&key).unwrap_or(swept);
            }
            self.staged.remove(Space::Log, key);
            if reached != to {
                break;
            }
        }
        self.change_marks(partition, actor, |marks| {
            marks.bytes = marks.bytes.saturating_sub(bytes);
            marks.swept = marks.swept.max(reached);
            marks.trimmed = marks.trimmed.max(reached);
        });
        Ok(())
    }

    /// The first records of a range, as staged.
    pub(super) fn list(
        &self,
        space: Space,
        span: &Span,
        count_max: usize,
    ) -> Result<Vec<(Vec<u8>, Bytes)>, Error> {
        if count_max == 0 {
            return Ok(Vec::new());
        }
        if span.is_void() {
            return Ok(Vec::new());
        }
        let staged = self.staged.ops(space);
        let mut found: Vec<(Vec<u8>, Bytes)> = staged
            .range::<[u8], _>((span.start(), span.end()))
            .filter_map(|(key, value)| Some((key.clone(), value.clone()?)))
            .take(count_max)
            .collect();
        let mut stored = 0;
        self.snapshot
            .range(space, span.start(), span.end(), &mut |key, value| {
                if !staged.contains_key(key) {
                    found.push((key.to_vec(), value));
                    stored += 1;
                }
                if stored < count_max {
                    ControlFlow::Continue(())
                } else {
                    ControlFlow::Break(())
                }
            })?;
        found.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        found.truncate(count_max);
        Ok(found)
    }
}
