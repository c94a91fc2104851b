//! What every change is made of: marks, rows, graves and log entries, as staged. Each function keeps what
//! belongs together in the batch together.

use std::collections::BTreeSet;

use bytes::Bytes;

use crate::digest::{leaf_of, row_hash};
use crate::model::{Actor, Dot, Part, PartitionId, Row, RowKey, once_prefix};

use crate::model::planted::{Guard, is_left_out};

use super::engine::{Engine, Snapshot, Space};
use super::form::{self, NameForm, StoredRow};
use super::partition::Marks;
use super::{Door, Error, keys};

impl<E: Engine> Door<E> {
    pub(super) fn marks(&self, partition: PartitionId, actor: Actor) -> Marks {
        self.partitions
            .get(&partition)
            .map(|known| known.marks(actor))
            .unwrap_or_default()
    }

    pub(super) fn change_marks(
        &mut self,
        partition: PartitionId,
        actor: Actor,
        change: impl FnOnce(&mut Marks),
    ) {
        let Some(known) = self.partitions.get_mut(&partition) else {
            return;
        };
        if known.has_retired(actor) {
            return;
        }
        let marks = known.logs.entry(actor).or_default();
        let before = *marks;
        change(marks);
        assert!(
            marks.reach.applied >= before.reach.applied
                && marks.reach.complete >= before.reach.complete,
            "positions never go back"
        );
        assert!(
            marks.reach.complete <= marks.reach.applied,
            "what is complete is applied"
        );
        if *marks != before {
            self.dirty.insert((partition, actor));
        }
    }

    /// A stored value, as staged.
    pub(super) fn get(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>, Error> {
        match self.staged.ops(space).get(key) {
            Some(value) => Ok(value.clone()),
            None => self.snapshot.get(space, key),
        }
    }

    /// Whether a row has been changed or removed since the last commit.
    pub(super) fn is_staged(&self, key: &RowKey) -> bool {
        self.staged.ops(Space::Rows).contains_key(&keys::row(key))
    }

    /// A row, as staged, with the log entries that still name it.
    pub(super) fn load(&self, key: &RowKey) -> Result<Option<StoredRow>, Error> {
        let stored = keys::row(key);
        let Some(value) = self.get(Space::Rows, &stored)? else {
            return Ok(None);
        };
        let mut row = form::open_row(&stored, &value)?;
        let partition = key.partition(self.partition_count);
        row.entries
            .retain(|(actor, n)| *n > self.marks(partition, *actor).trimmed);
        Ok(Some(row))
    }

    /// Replaces a row, and with it all that names it but log entries: its grave, its place among rows that expire
    /// and among operations, and its share in the digest. What has expired at the partition's
    /// cut is taken away first.
    pub(super) fn store(
        &mut self,
        partition: PartitionId,
        key: &RowKey,
        old: Option<&StoredRow>,
        mut new: Option<StoredRow>,
    ) -> Result<(), Error> {
        if let Some(new) = &mut new
            && !is_left_out(Guard::LateExpiry)
        {
            new.row.expire(self.cut(partition));
        }
        let old_row = old.map(|old| &old.row);
        let new_row = new.as_ref().map(|new| &new.row);
        self.change_grave(partition, key, old_row, new_row)?;
        self.change_expiry(partition, key, old_row, new_row)?;
        self.change_repeated(key, old_row, new_row)?;
        self.change_operation(key, old_row, new_row)?;
        let share = |row: Option<&Row>| row.map_or(0, |row| row_hash(key, row));
        let delta = share(new_row).wrapping_sub(share(old_row));
        if delta != 0 {
            let leaf = leaf_of(key, self.partition_count);
            let sum = self.leaves.entry((partition, leaf)).or_default();
            *sum = sum.wrapping_add(delta);
        }
        let stored = keys::row(key);
        match new {
            Some(new) => {
                let value = form::seal_row(&stored, new)?;
                self.staged.put(Space::Rows, stored, value);
            }
            None => self.staged.remove(Space::Rows, stored),
        }
        Ok(())
    }

    /// Removes a row with everything that names it.
    pub(super) fn remove(
        &mut self,
        partition: PartitionId,
        key: &RowKey,
        old: &StoredRow,
    ) -> Result<(), Error> {
        for (actor, n) in &old.entries {
            self.unlog(
                partition,
                Dot {
                    actor: *actor,
                    n: *n,
                },
                key,
            )?;
        }
        self.store(partition, key, Some(old), None)
    }

    fn change_grave(
        &mut self,
        partition: PartitionId,
        key: &RowKey,
        old: Option<&Row>,
        new: Option<&Row>,
    ) -> Result<(), Error> {
        let grave = |row: Option<&Row>| {
            row.filter(|row| row.is_tombstone())
                .map(|row| row.stamp().dot)
        };
        let (old, new) = (grave(old), grave(new));
        if old == new {
            return Ok(());
        }
        if let Some(dot) = old {
            self.staged
                .remove(Space::Meta, keys::grave(partition, dot.actor, dot.n));
        }
        if let Some(dot) = new {
            let stored = keys::grave(partition, dot.actor, dot.n);
            let value = form::seal(Space::Meta, &stored, &NameForm::of(key))?;
            self.staged.put(Space::Meta, stored, value);
        }
        Ok(())
    }

    /// Notes operations that were applied more than once, so that a counter finds them without reading all.
    fn change_repeated(
        &mut self,
        key: &RowKey,
        old: Option<&Row>,
        new: Option<&Row>,
    ) -> Result<(), Error> {
        let is_repeated =
            |row: Option<&Row>| matches!(row, Some(Row::Once(once)) if once.is_repeated());
        let (old, new) = (is_repeated(old), is_repeated(new));
        if old == new {
            return Ok(());
        }
        let stored = keys::repeated(key);
        if new {
            let value = form::seal(Space::Meta, &stored, &())?;
            self.staged.put(Space::Meta, stored, value);
        } else {
            self.staged.remove(Space::Meta, stored);
        }
        Ok(())
    }

    /// Notes of each change of an operation which one it is, so that what a replica lacks is found by its position.
    fn change_operation(
        &mut self,
        key: &RowKey,
        old: Option<&Row>,
        new: Option<&Row>,
    ) -> Result<(), Error> {
        let is_once = |row: &Row| matches!(row, Row::Once(_));
        if !old.or(new).is_some_and(is_once) {
            return Ok(());
        }
        let Some(Part::Once(place, id)) = key.part() else {
            return Ok(());
        };
        let applied = |row: Option<&Row>| match row {
            Some(Row::Once(once)) => once.applied.keys().copied().collect(),
            Some(_) | None => BTreeSet::<Dot>::new(),
        };
        let (old, new) = (applied(old), applied(new));
        let place = once_prefix(&place);
        for dot in old.difference(&new) {
            let stored = keys::operation(key, &place, *dot);
            self.staged.remove(Space::Meta, stored);
        }
        for dot in new.difference(&old) {
            let stored = keys::operation(key, &place, *dot);
            let value = form::seal(Space::Meta, &stored, &id)?;
            self.staged.put(Space::Meta, stored, value);
        }
        Ok(())
    }

    /// Puts a log entry that names a row, in place of that actor's older one. An entry older than one
    /// that is there already is not needed.
    pub(super) fn log(
        &mut self,
        partition: PartitionId,
        dot: Dot,
        key: &RowKey,
        entries: &mut Vec<(Actor, u64)>,
    ) -> Result<(), Error> {
        let older = entries
            .iter()
            .find(|(actor, _)| *actor == dot.actor)
            .copied();
        match older {
            Some((_, n)) if n >= dot.n => return Ok(()),
            Some((actor, n)) => self.unlog(partition, Dot { actor, n }, key)?,
            None => {}
        }
        entries.retain(|(actor, _)| *actor != dot.actor);
        entries.push((dot.actor, dot.n));
        entries.sort_unstable();
        let stored = keys::log(partition, dot.actor, dot.n);
        let value = form::seal(Space::Log, &stored, &NameForm::of(key))?;
        let bytes = entry_bytes(&stored, &value);
        self.staged.put(Space::Log, stored, value);
        self.change_marks(partition, dot.actor, |marks| marks.bytes += bytes);
        Ok(())
    }

    /// Removes a log entry that names a row.
    fn unlog(&mut self, partition: PartitionId, dot: Dot, key: &RowKey) -> Result<(), Error> {
        let stored = keys::log(partition, dot.actor, dot.n);
        // As long as it was when it was put, for the name is the same.
        let value = form::seal(Space::Log, &stored, &NameForm::of(key))?;
        let bytes = entry_bytes(&stored, &value);
        self.staged.remove(Space::Log, stored);
        self.change_marks(partition, dot.actor, |marks| {
            marks.bytes = marks.bytes.saturating_sub(bytes);
        });
        Ok(())
    }
}

/// Bytes that an entry counts in its log.
pub(super) fn entry_bytes(key: &[u8], value: &[u8]) -> u64 {
    u64::try_from(key.len() + value.len()).unwrap_or(u64::MAX)
}
