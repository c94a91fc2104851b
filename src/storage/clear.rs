//! What a clear of a whole collection covers is taken away here by and by: it is one row in the log, however many
//! members or fields it covers, and every replica sweeps for itself. Readers do not see what is not swept yet.

use bytes::Bytes;

use crate::model::{Collection, Context, Effect, Part, PartitionId, Row, RowKey};

use super::engine::{Engine, Snapshot, Space};
use super::form::{self, SweepForm};
use super::keys;
use super::rows::share;
use super::stage::NOT_HERE;
use super::{Door, Error};

/// Rows that are looked at in the batch of the clear itself: most collections are smaller.
const FIRST_MAX: usize = 1000;

/// Rows that one change looks at later.
const NEXT_MAX: usize = 10_000;

/// Rows that are read at once to be counted.
const COUNTED_MAX: usize = 10_000;

/// Sweeps of one partition that one change looks at.
const SWEEPS_MAX: usize = 16;

impl<E: Engine> Door<E> {
    /// Sweeps for a clear that was just stored; notes it if there may be more. From now on the digest counts only
    /// what it leaves, so all that there is of the collection is read, in this batch: about a second for a million.
    pub(super) fn begin_sweep(
        &mut self,
        partition: PartitionId,
        clear: &RowKey,
        before: Option<&Context>,
        cleared: &Context,
    ) -> Result<(), Error> {
        if before != Some(cleared) {
            self.recount(partition, clear, before, cleared)?;
        }
        let (_, next) = self.sweep_parts(partition, clear, cleared, None, FIRST_MAX)?;
        self.note_sweep(partition, clear, next)
    }

    /// Counts a collection by what a clear leaves of it, in place of what the clear before it did.
    fn recount(
        &mut self,
        partition: PartitionId,
        clear: &RowKey,
        before: Option<&Context>,
        cleared: &Context,
    ) -> Result<(), Error> {
        let Some(Part::Clear(collection)) = clear.part() else {
            return Ok(());
        };
        let mut span = keys::parts(clear, &cleared_prefix(collection));
        loop {
            let found = self.list(Space::Rows, &span, COUNTED_MAX)?;
            let Some((last, _)) = found.last() else {
                return Ok(());
            };
            span = span.after(last.clone());
            let mut delta = 0_u128;
            for (stored, value) in found {
                let (key, stored) = form::open_named_row(&stored, &value)?;
                let now = share(&key, &stored.row, Some(cleared));
                delta = delta.wrapping_add(now.wrapping_sub(share(&key, &stored.row, before)));
            }
            self.count_in(partition, clear, delta);
        }
    }

    /// Goes on with what is noted. Nothing is staged if nothing is.
    pub(super) fn continue_sweeps(&mut self, partition: PartitionId) -> Result<Effect, Error> {
        if !self.partitions.contains_key(&partition) {
            return Ok(Effect::Refused { reason: NOT_HERE });
        }
        let sweeps = self.list(Space::Meta, &keys::sweep_span(partition), SWEEPS_MAX)?;
        let mut left = NEXT_MAX;
        for (stored, value) in sweeps {
            let form: SweepForm = form::open(Space::Meta, &stored, &value)?;
            let clear = keys::parse_sweep(&stored).ok_or(Error::Corrupt {
                what: "the name of a record is damaged",
            })?;
            let next = match self.load(&clear)?.map(|clear| clear.row) {
                Some(Row::Clear(row)) => {
                    let after = Some(form.after);
                    let (looked_at, next) =
                        self.sweep_parts(partition, &clear, &row.cleared, after, left)?;
                    left = left.saturating_sub(looked_at);
                    next
                }
                Some(_) | None => None,
            };
            self.note_sweep(partition, &clear, next)?;
            if left == 0 {
                break;
            }
        }
        Ok(Effect::Done)
    }

    /// Strips rows of what is cleared, and removes those of which nothing is left. Says how many it looked at, and
    /// the last one if there may be more.
    fn sweep_parts(
        &mut self,
        partition: PartitionId,
        clear: &RowKey,
        cleared: &Context,
        after: Option<Bytes>,
        rows_max: usize,
    ) -> Result<(usize, Option<Bytes>), Error> {
        let Some(Part::Clear(collection)) = clear.part() else {
            return Ok((0, None));
        };
        let mut span = keys::parts(clear, &cleared_prefix(collection));
        if let Some(subkey) = after {
            let after = RowKey {
                subkey,
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

    fn note_sweep(
        &mut self,
        partition: PartitionId,
        clear: &RowKey,
        next: Option<Bytes>,
    ) -> Result<(), Error> {
        let stored = keys::sweep(partition, clear);
        match next {
            Some(after) => {
                let value = form::seal(Space::Meta, &stored, &SweepForm { after })?;
                self.staged.put(Space::Meta, stored, value);
            }
            None if self.get(Space::Meta, &stored)?.is_some() => {
                self.staged.remove(Space::Meta, stored);
            }
            None => {}
        }
        Ok(())
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
