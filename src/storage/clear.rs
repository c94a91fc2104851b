//! What a clear of a whole collection covers is taken away here by and by: it is one row in the log, however many
//! members or fields it covers, and every replica sweeps for itself. Readers do not see what is not swept yet.

use bytes::Bytes;

use crate::model::{Collection, Context, Effect, Part, PartitionId, Row, RowKey};

use super::engine::{Engine, Space};
use super::form::{self, SweepForm};
use super::keys;
use super::stage::NOT_HERE;
use super::{Door, Error};

/// Rows that are looked at in the batch of the clear itself: most collections are smaller.
const FIRST_MAX: usize = 1000;

/// Rows that one change looks at later.
const NEXT_MAX: usize = 2000;

/// Sweeps of one partition that one change looks at.
const SWEEPS_MAX: usize = 16;

impl<E: Engine> Door<E> {
    /// Sweeps for a clear that was just stored; notes it if there may be more.
    pub(super) fn begin_sweep(
        &mut self,
        partition: PartitionId,
        clear: &RowKey,
        cleared: &Context,
    ) -> Result<(), Error> {
        let (_, next) = self.sweep_parts(partition, clear, cleared, None, FIRST_MAX)?;
        self.note_sweep(partition, clear, next)
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
