//! What a clear of a whole collection covers is taken away here by and by: it is one row in the log, however many
//! members or fields it covers, and every replica sweeps for itself. Readers do not see what is not swept yet.
//!
//! The digest does: it counts rows as they are stored. So as long as a sweep is noted, its leaf is *busy*, and is not
//! compared with that of another replica.
//!
//! Invariant: where no sweep is noted, nothing is stored that a clear covers: what is stored later is stripped first.

use bytes::Bytes;

use crate::model::{Collection, Context, Effect, Part, PartitionId, Row, RowKey, Wall};

use super::engine::{Engine, Snapshot, Space};
use super::form::{self, SweepForm};
use super::keys;
use super::stage::NOT_HERE;
use super::{Door, Error};

/// Sweeps of one partition that one change looks at.
const SWEEPS_MAX: usize = 16;

impl<E: Engine> Door<E> {
    /// Sweeps for a clear that was just stored, as much as a batch may take; notes it if there may be more. A sweep of
    /// the same collection that is under way goes on where it stands, and begins again at its end.
    pub(super) fn begin_sweep(
        &mut self,
        partition: PartitionId,
        clear: &RowKey,
        before: Option<&Context>,
        cleared: &Context,
    ) -> Result<(), Error> {
        if before == Some(cleared) {
            return Ok(());
        }
        let stored = keys::sweep(partition, clear);
        let noted = match self.get(Space::Meta, &stored)? {
            Some(value) => {
                let form: SweepForm = form::open(Space::Meta, &stored, &value)?;
                let again = form.again || !form.after.is_empty();
                SweepForm { again, ..form }
            }
            None => SweepForm::default(),
        };
        self.sweep_on(partition, clear, cleared, noted, self.sweep_rows)?;
        Ok(())
    }

    /// Goes on with what is noted, and with a collection: each has its share, since a sweep may begin again for ever.
    /// Nothing is staged if there is nothing to do.
    pub(super) fn continue_sweeps(
        &mut self,
        wall: Wall,
        partition: PartitionId,
    ) -> Result<Effect, Error> {
        if !self.partitions.contains_key(&partition) {
            return Ok(Effect::Refused { reason: NOT_HERE });
        }
        let left = self.sweep_retired(partition, self.sweep_rows)?;
        let share = if self.is_collecting(partition) {
            left.div_ceil(2)
        } else {
            left
        };
        let looked_at = self.take_turns(partition, share)?;
        // Never nothing, whatever else was swept: a collection must come to its end, too.
        let rest = left.saturating_sub(looked_at).max(1);
        self.continue_collecting(wall, partition, rest)?;
        let span = keys::sweep_span(partition);
        let known = self.partitions.get(&partition);
        let is_unswept = known.is_some_and(|known| !known.unswept.is_empty());
        let has_more = is_unswept
            || self.is_collecting(partition)
            || !self.list(Space::Meta, &span, 1)?.is_empty();
        Ok(Effect::Swept {
            partition,
            has_more,
        })
    }

    /// Goes on with sweeps until they have looked at so many rows, each in its turn. Says how many they looked at.
    fn take_turns(&mut self, partition: PartitionId, rows_max: usize) -> Result<usize, Error> {
        let mut left = rows_max;
        for (stored, value) in self.next_sweeps(partition)? {
            if left == 0 {
                break;
            }
            let noted: SweepForm = form::open(Space::Meta, &stored, &value)?;
            let clear = keys::parse_sweep(&stored).ok_or(Error::Corrupt {
                what: "the name of a record is damaged",
            })?;
            if let Some(known) = self.partitions.get_mut(&partition) {
                known.last_sweep.clone_from(&stored);
            }
            match self.load(&clear)?.map(|clear| clear.row) {
                Some(Row::Clear(row)) => {
                    let looked_at = self.sweep_on(partition, &clear, &row.cleared, noted, left)?;
                    left = left.saturating_sub(looked_at);
                }
                Some(_) | None => self.staged.remove(Space::Meta, stored),
            }
        }
        Ok(rows_max - left)
    }

    /// The sweeps whose turn it is: those behind the one that was gone on with last, and then those from the first to it.
    fn next_sweeps(&self, partition: PartitionId) -> Result<Vec<(Vec<u8>, Bytes)>, Error> {
        let known = self.partitions.get(&partition);
        let last = known.map_or_else(Vec::new, |known| known.last_sweep.clone());
        let span = keys::sweep_span(partition);
        let first = self.list(Space::Meta, &span, SWEEPS_MAX)?;
        let mut sweeps = self.list(Space::Meta, &span.after(last.clone()), SWEEPS_MAX)?;
        sweeps.extend(first.into_iter().filter(|(stored, _)| *stored <= last));
        sweeps.truncate(SWEEPS_MAX);
        Ok(sweeps)
    }

    /// Goes on with one sweep, and notes how far it came. Says how many rows it looked at.
    fn sweep_on(
        &mut self,
        partition: PartitionId,
        clear: &RowKey,
        cleared: &Context,
        noted: SweepForm,
        rows_max: usize,
    ) -> Result<usize, Error> {
        let SweepForm { after, again } = noted;
        let (looked_at, next) = self.sweep_parts(partition, clear, cleared, after, rows_max)?;
        let stored = keys::sweep(partition, clear);
        let noted = match next {
            Some(after) => Some(SweepForm { after, again }),
            None => again.then(SweepForm::default),
        };
        match noted {
            Some(noted) => {
                let value = form::seal(Space::Meta, &stored, &noted)?;
                self.staged.put(Space::Meta, stored, value);
            }
            None if self.get(Space::Meta, &stored)?.is_some() => {
                self.staged.remove(Space::Meta, stored);
            }
            None => {}
        }
        Ok(looked_at)
    }

    /// Strips rows of what is cleared, and removes those of which nothing is left. Says how many it looked at, and
    /// the last one if there may be more.
    fn sweep_parts(
        &mut self,
        partition: PartitionId,
        clear: &RowKey,
        cleared: &Context,
        after: Bytes,
        rows_max: usize,
    ) -> Result<(usize, Option<Bytes>), Error> {
        let Some(Part::Clear(collection)) = clear.part() else {
            return Ok((0, None));
        };
        let mut span = keys::parts(clear, &cleared_prefix(collection));
        if !after.is_empty() {
            let after = RowKey {
                subkey: after,
                ..clear.clone()
            };
            span = span.after(keys::row(&after));
        }
        let found = self.list(Space::Rows, &span, rows_max)?;
        let mut last = None;
        for (stored, value) in &found {
            let (key, _) = form::open_named_row(stored, value)?;
            last = Some(key.subkey.clone());
            let Some(old) = self.load(&key)? else {
                continue;
            };
            let mut new = old.clone();
            new.row.clear(cleared);
            if new.row.is_cleared_by(cleared) {
                self.remove(partition, &key, &old)?;
            } else if new != old {
                self.store(partition, &key, Some(&old), Some(new))?;
            }
        }
        let next = last.filter(|_| found.len() >= rows_max);
        Ok((found.len(), next))
    }
}

/// With what the subkeys of the parts begin that a clear covers.
fn cleared_prefix(collection: Collection) -> Bytes {
    let first = match collection {
        Collection::Set => Part::Member(Bytes::new()),
        Collection::Map => Part::Field(Bytes::new()),
    };
    first.subkey()
}

/// What was cleared, as rows are visited in order: looked up once for each collection.
#[derive(Debug, Default)]
pub(super) struct Clears {
    of: Option<(RowKey, Option<Context>)>,
}

impl Clears {
    /// What was cleared of the collection that a row is a part of.
    pub(super) fn over<S: Snapshot>(
        &mut self,
        snapshot: &S,
        key: &RowKey,
    ) -> Result<Option<&Context>, Error> {
        if key.subkey.is_empty() {
            return Ok(None);
        }
        let Some(collection) = key.part().and_then(|part| part.collection()) else {
            return Ok(None);
        };
        let clear = key.with(&Part::Clear(collection));
        if self.of.as_ref().is_none_or(|(known, _)| *known != clear) {
            let stored = keys::row(&clear);
            let cleared = match snapshot.get(Space::Rows, &stored)? {
                Some(value) => match form::open_row(&stored, &value)?.row {
                    Row::Clear(clear) => Some(clear.cleared),
                    Row::Register(_)
                    | Row::Siblings(_)
                    | Row::Share(_)
                    | Row::Once(_)
                    | Row::Expiry(_)
                    | Row::Conflict(_) => None,
                },
                None => None,
            };
            self.of = Some((clear, cleared));
        }
        Ok(self.of.as_ref().and_then(|(_, cleared)| cleared.as_ref()))
    }
}
