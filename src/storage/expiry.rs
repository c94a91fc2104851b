//! Expiry. Rows whose values expire are noted by time; the partition's cut, a row that is logged as any other, says
//! up to when they have expired on every replica that has it.

use crate::model::{Effect, Expiry, PartitionId, Row, RowKey, Timestamp, Wall};

use super::engine::{Engine, Space};
use super::form;
use super::keys::{self, Span};
use super::stage::NOT_HERE;
use super::write::Own;
use super::{Door, Error};

/// Rows that one move of the cut lets expire, roughly, so that a batch stays short.
const EXPIRED_MAX: usize = 4096;

impl<E: Engine> Door<E> {
    /// Up to when rows of the partition have expired.
    pub(super) fn cut(&self, partition: PartitionId) -> Wall {
        self.partitions
            .get(&partition)
            .map_or(Wall(0), |known| known.cut)
    }

    /// Moves the cut on if a value is due; else nothing is written.
    pub(super) fn expire(
        &mut self,
        wall: Wall,
        partition: PartitionId,
        now: Wall,
    ) -> Result<Effect, Error> {
        if !self.partitions.contains_key(&partition) {
            return Ok(Effect::Refused { reason: NOT_HERE });
        }
        let now = now.min(wall);
        let due = self.due(&keys::expiry_span(partition, now))?;
        let Some((_, last, _)) = due.last() else {
            return Ok(Effect::Done);
        };
        let upto = if due.len() < EXPIRED_MAX { now } else { *last };
        let key = RowKey::of_expiry(partition, self.partition_count);
        let old = self.load(&key)?;
        let floor = old
            .as_ref()
            .map_or(Timestamp::ZERO, |old| old.row.stamp().timestamp);
        let stamp = match self.next_stamp(wall, partition, floor, 0) {
            Ok(stamp) => stamp,
            Err(stop) => return stop.into_effect(),
        };
        let row = Row::Expiry(Expiry { stamp, upto });
        let items = self.stage_own(partition, vec![Own { key, old, row }])?;
        Ok(Effect::Written { partition, items })
    }

    /// Takes away all values that have expired by a cut.
    pub(super) fn apply_cut(&mut self, partition: PartitionId, upto: Wall) -> Result<(), Error> {
        match self.partitions.get_mut(&partition) {
            Some(known) if known.cut < upto => known.cut = upto,
            Some(_) | None => return Ok(()),
        }
        let mut span = keys::expiry_span(partition, upto);
        loop {
            let due = self.due(&span)?;
            let Some((last, _, _)) = due.last() else {
                return Ok(());
            };
            // Not from the start again: what was taken away is passed over each time.
            span = span.after(last.clone());
            for (note, _, key) in due {
                self.staged.remove(Space::Meta, note);
                if let Some(old) = self.load(&key)? {
                    let mut new = old.clone();
                    new.row.expire(upto);
                    self.store(partition, &key, Some(&old), Some(new))?;
                }
            }
        }
    }

    /// Notes when the next value of a row expires.
    pub(super) fn change_expiry(
        &mut self,
        partition: PartitionId,
        key: &RowKey,
        old: Option<&Row>,
        new: Option<&Row>,
    ) -> Result<(), Error> {
        let (old, new) = (
            old.and_then(Row::next_expiry),
            new.and_then(Row::next_expiry),
        );
        if old == new {
            return Ok(());
        }
        if let Some(at) = old {
            self.staged
                .remove(Space::Meta, keys::expiry(partition, at, key));
        }
        if let Some(at) = new {
            let stored = keys::expiry(partition, at, key);
            let value = form::seal(Space::Meta, &stored, &())?;
            self.staged.put(Space::Meta, stored, value);
        }
        Ok(())
    }

    /// The first notes of a range of times at which values expire.
    fn due(&self, span: &Span) -> Result<Vec<(Vec<u8>, Wall, RowKey)>, Error> {
        let found = self.list(Space::Meta, span, EXPIRED_MAX)?;
        let parsed = found.into_iter().map(|(stored, _)| {
            let (at, key) = keys::parse_expiry(&stored).ok_or(Error::Corrupt {
                what: "the name of a record is damaged",
            })?;
            Ok((stored, at, key))
        });
        parsed.collect()
    }
}
