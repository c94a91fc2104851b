//! Taking away: log entries that nobody needs, and tombstones that everybody has. The work of one change is bounded;
//! what is left over goes with the next.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use bytes::Bytes;

use crate::model::{Actor, Dot, Effect, PartitionId};

use super::engine::{Engine, Snapshot, Space};
use super::form::{self, NameForm};
use super::keys::{self, Span};
use super::rows::entry_bytes;
use super::stage::NOT_HERE;
use super::{Door, Error};

/// Entries or graves that one change takes away at most, so that a batch stays short.
const SWEPT_MAX: usize = 10_000;

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

    /// Removes tombstones that every replica has. The floor is clamped to what is complete here: nobody
    /// may know better than we do what we have.
    pub(super) fn collect(
        &mut self,
        partition: PartitionId,
        floor: &BTreeMap<Actor, u64>,
    ) -> Result<Effect, Error> {
        if !self.partitions.contains_key(&partition) {
            return Ok(Effect::Refused { reason: NOT_HERE });
        }
        let mut left = SWEPT_MAX;
        for (actor, upto) in floor {
            let upto = (*upto).min(self.marks(partition, *actor).reach.complete);
            let span = keys::grave_span(partition, *actor, 0, upto);
            let graves = self.list(Space::Meta, &span, left)?;
            left = left.saturating_sub(graves.len());
            for (stored, value) in graves {
                self.open_grave(partition, *actor, stored, &value)?;
            }
            if left == 0 {
                break;
            }
        }
        Ok(Effect::Done)
    }

    fn open_grave(
        &mut self,
        partition: PartitionId,
        actor: Actor,
        stored: Vec<u8>,
        value: &[u8],
    ) -> Result<(), Error> {
        let name: NameForm = form::open(Space::Meta, &stored, value)?;
        let key = name.into_key(partition);
        let dot = keys::parse_number(&stored).map(|n| Dot { actor, n });
        let old = self.load(&key)?;
        match old.filter(|old| old.row.is_tombstone() && Some(old.row.summary().dot) == dot) {
            Some(old) => self.remove(partition, &key, &old),
            None => {
                self.staged.remove(Space::Meta, stored);
                Ok(())
            }
        }
    }

    /// The first records of a range, as staged.
    fn list(
        &self,
        space: Space,
        span: &Span,
        count_max: usize,
    ) -> Result<Vec<(Vec<u8>, Bytes)>, Error> {
        if count_max == 0 {
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
