//! Writes of sets and maps: members, fields, and whole collections.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::model::{
    Clear, Collection, Context, Denial, OpId, Part, Place, Position, Row, RowKey, Siblings,
    share_prefix,
};

use super::Door;
use super::engine::{Engine, Space};
use super::form::{self, StoredRow};
use super::keys;
use super::partition::Partition;
use super::write::{Own, Plan, Stop};

impl<E: Engine> Door<E> {
    pub(super) fn plan_members(
        &mut self,
        plan: &mut Plan<'_>,
        add: &[Bytes],
        remove: &[Bytes],
    ) -> Result<(), Stop> {
        let cleared = self.cleared_of(&plan.write.key, Collection::Set)?;
        let add: BTreeSet<&Bytes> = add.iter().collect();
        let remove: BTreeSet<&Bytes> = remove.iter().collect();
        for name in &add {
            let part = Part::Member(Bytes::clone(name));
            self.plan_part(plan, &part, cleared.as_ref(), Bytes::new())?;
        }
        for name in remove.difference(&add) {
            let part = Part::Member(Bytes::clone(name));
            self.plan_part_removal(plan, &part, cleared.as_ref())?;
        }
        Ok(())
    }

    /// Registers, then counters, then what is removed and not written.
    pub(super) fn plan_fields(
        &mut self,
        plan: &mut Plan<'_>,
        put: &[(Bytes, Bytes)],
        add: &[(Bytes, i64)],
        remove: &[Bytes],
        id: Option<OpId>,
    ) -> Result<(), Stop> {
        let cleared = self.cleared_of(&plan.write.key, Collection::Map)?;
        // Of two values for a field the last one counts; of two additions, both.
        let put: BTreeMap<&Bytes, &Bytes> = put.iter().map(|(name, value)| (name, value)).collect();
        let mut counters: BTreeMap<&Bytes, i64> = BTreeMap::new();
        for (name, delta) in add {
            let sum = counters.entry(name).or_default();
            *sum = sum.checked_add(*delta).ok_or(Denial::CounterRange)?;
        }
        let remove: BTreeSet<&Bytes> = remove.iter().collect();
        for (name, value) in &put {
            let part = Part::Field(Bytes::clone(name));
            self.plan_part(plan, &part, cleared.as_ref(), Bytes::clone(value))?;
        }
        for (name, delta) in &counters {
            self.plan_add(plan, &Place::Field(Bytes::clone(name)), *delta, id)?;
        }
        for name in remove {
            if !put.contains_key(name) {
                self.plan_part_removal(plan, &Part::Field(name.clone()), cleared.as_ref())?;
            }
            if !counters.contains_key(name) {
                self.plan_resets(plan, &share_prefix(&Place::Field(name.clone())))?;
            }
        }
        Ok(())
    }

    pub(super) fn plan_clear(
        &mut self,
        plan: &mut Plan<'_>,
        collection: Collection,
        seen: &Context,
    ) -> Result<(), Stop> {
        let key = plan.write.key.with(&Part::Clear(collection));
        let old = self.load(&key)?;
        let known = self.partitions.get(&plan.partition);
        let mut cleared = Context::from(&known.map_or_else(Position::default, Partition::position));
        let is_known = cleared.includes(seen);
        // What is being swept is not looked at: the engine passes over what was removed, one by one.
        let sweep = keys::sweep(plan.partition, &key);
        let is_swept = self.get(Space::Meta, &sweep)?.is_none();
        if is_known && is_swept && self.is_empty(&plan.write.key, collection)? {
            return Ok(());
        }
        cleared.join(seen);
        if let Some(Row::Clear(before)) = old.as_ref().map(|old| &old.row) {
            cleared.join(&before.cleared);
        }
        let stamp = self.plan_stamp(plan, old.as_ref().map(|old| &old.row))?;
        let row = Row::Clear(Clear { stamp, cleared });
        plan.rows.push(Own { key, old, row });
        match collection {
            Collection::Set => Ok(()),
            Collection::Map => self.plan_resets(plan, field_shares()),
        }
    }

    /// Puts a member or a register field. What this node sees of it is replaced: so one coordinator makes no siblings.
    fn plan_part(
        &mut self,
        plan: &mut Plan<'_>,
        part: &Part,
        cleared: Option<&Context>,
        value: Bytes,
    ) -> Result<(), Stop> {
        let (key, old, mut row) = self.load_part(plan, part, cleared)?;
        let stamp = self.plan_stamp(plan, old.as_ref().map(|old| &old.row))?;
        let seen = row.context();
        row.put(plan.version(stamp, value), &seen);
        let row = Row::Siblings(row);
        plan.rows.push(Own { key, old, row });
        Ok(())
    }

    fn plan_part_removal(
        &mut self,
        plan: &mut Plan<'_>,
        part: &Part,
        cleared: Option<&Context>,
    ) -> Result<(), Stop> {
        let (key, old, mut row) = self.load_part(plan, part, cleared)?;
        let is_told = |old: &StoredRow| self.is_told(plan.partition, old);
        if row.versions().is_empty() && old.as_ref().is_none_or(is_told) {
            return Ok(());
        }
        let stamp = self.plan_stamp(plan, old.as_ref().map(|old| &old.row))?;
        let seen = row.context();
        row.remove(stamp, &seen);
        let row = Row::Siblings(row);
        plan.rows.push(Own { key, old, row });
        Ok(())
    }

    /// A member or register field, without what was cleared.
    fn load_part(
        &self,
        plan: &Plan<'_>,
        part: &Part,
        cleared: Option<&Context>,
    ) -> Result<(RowKey, Option<StoredRow>, Siblings), Stop> {
        let key = plan.write.key.with(part);
        let old = self.load(&key)?;
        let mut stripped = old.clone();
        if let (Some(stripped), Some(cleared)) = (&mut stripped, cleared) {
            stripped.row.clear(cleared);
        }
        let row = self.siblings(plan.partition, stripped.as_ref())?;
        Ok((key, old, row))
    }

    /// What was cleared of a collection, if anything.
    pub(super) fn cleared_of(
        &self,
        key: &RowKey,
        collection: Collection,
    ) -> Result<Option<Context>, super::Error> {
        let clear = self.load(&key.with(&Part::Clear(collection)))?;
        Ok(match clear.map(|clear| clear.row) {
            Some(Row::Clear(clear)) => Some(clear.cleared),
            Some(_) | None => None,
        })
    }

    /// Whether there is nothing here that a clear would take away. Of many parts that are gone and not yet taken away
    /// only the first are looked at: then it is not known to be empty.
    fn is_empty(&self, key: &RowKey, collection: Collection) -> Result<bool, Stop> {
        let cleared = self.cleared_of(key, collection)?.unwrap_or_default();
        let mut left = self.sweep_rows.max(256);
        for prefix in crate::model::collection_prefixes(collection) {
            let mut span = keys::parts(key, &[*prefix]);
            loop {
                let found = self.list(Space::Rows, &span, left.clamp(1, 256))?;
                let Some((last, _)) = found.last() else {
                    break;
                };
                if left == 0 {
                    return Ok(false);
                }
                left = left.saturating_sub(found.len());
                span = span.after(last.clone());
                for (stored, value) in found {
                    let (_, mut row) = form::open_named_row(&stored, &value)?;
                    row.row.clear(&cleared);
                    if !row.row.is_tombstone() {
                        return Ok(false);
                    }
                }
            }
        }
        Ok(true)
    }
}

/// With what the subkeys of all counters of a map begin.
fn field_shares() -> &'static [u8] {
    let prefixes = crate::model::collection_prefixes(Collection::Map);
    prefixes.get(..1).unwrap_or_default()
}
