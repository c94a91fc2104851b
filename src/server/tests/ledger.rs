//! The rows of the fake node: what a store of one replica would make of each operation.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use bytes::Bytes;

use crate::model::{
    Actor, Clear, Collection, Condition, Context, Denial, Dot, Incarnation, Limits, NodeId, Once,
    OpId, Part, Place, Position, Reach, Row, RowKey, Selection, Share, Siblings, Stamp, Tally,
    Timestamp, Version, Wall, Wanted, Write, WriteOp, fields, members,
};
use crate::protocol::{Outcome, Written};

use super::super::siblings::winner;
use super::fake::PARTITIONS;

/// All rows, and how many changes there were.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    pub(super) rows: BTreeMap<RowKey, Row>,
    n: u64,
}

/// The actor of the fake node.
pub(super) fn actor() -> Actor {
    Actor {
        node: NodeId::of("us-1"),
        incarnation: Incarnation(0xbeef),
    }
}

impl Ledger {
    /// Carries out a write.
    pub(super) fn write(&mut self, write: &Write, now: Wall, limits: &Limits) -> Outcome {
        if let Err(denial) = self.check(write, now, limits) {
            return Outcome::Denied(denial);
        }
        let mut touched = None;
        match &write.op {
            WriteOp::Put(value) => touched = Some(self.put(write, Some(value.clone()))),
            WriteOp::Delete => touched = Some(self.put(write, None)),
            WriteOp::PutSibling { value, seen } => {
                let seen = seen.clone().unwrap_or_default();
                touched = Some(self.put_sibling(&write.key, write, value.clone(), &seen));
            }
            WriteOp::DeleteSiblings { seen } => {
                let seen = seen.clone().unwrap_or_else(|| self.seen(&write.key));
                touched = Some(self.remove(&write.key, &seen));
            }
            WriteOp::Add { place, delta, id } => self.add(&write.key, place, *delta, *id),
            WriteOp::Reset { place } => self.reset(&write.key, place),
            WriteOp::Members { add, remove } => {
                for name in remove.iter().filter(|name| !add.contains(name)) {
                    let key = write.key.with(&Part::Member(name.clone()));
                    self.remove(&key, &self.seen(&key));
                }
                for name in add {
                    let key = write.key.with(&Part::Member(name.clone()));
                    self.put_sibling(&key, write, Bytes::new(), &self.seen(&key));
                }
            }
            WriteOp::Fields {
                put,
                add,
                remove,
                id,
            } => {
                for (name, value) in put {
                    let key = write.key.with(&Part::Field(name.clone()));
                    self.put_sibling(&key, write, value.clone(), &self.seen(&key));
                }
                for (name, delta) in add {
                    self.add(&write.key, &Place::Field(name.clone()), *delta, *id);
                }
                for name in remove {
                    let key = write.key.with(&Part::Field(name.clone()));
                    self.remove(&key, &self.seen(&key));
                    self.reset(&write.key, &Place::Field(name.clone()));
                }
            }
            WriteOp::Clear { collection, .. } => self.clear(&write.key, *collection),
        }
        let last = touched.and_then(|key| self.rows.get(&key));
        let summary = last.map(Row::summary);
        let stamp = stamp(self.n);
        Outcome::Written(Written {
            node: stamp.dot.actor.node,
            timestamp: stamp.timestamp,
            summary,
            is_crossed: false,
        })
    }

    fn check(&self, write: &Write, now: Wall, limits: &Limits) -> Result<(), Denial> {
        if write.op.parts() > limits.parts_max {
            return Err(Denial::Parts);
        }
        let row = self.rows.get(&write.key);
        let is_live = row.is_some_and(|row| winner(row, now).is_some());
        let summary = row.map(Row::summary);
        let holds = match write.condition {
            None => true,
            Some(Condition::Absent) => !is_live,
            Some(Condition::State(state)) => {
                is_live && summary.as_ref().is_some_and(|found| found.state == state)
            }
        };
        if !holds {
            return Err(Denial::Condition(summary));
        }
        match (&write.op, row) {
            (WriteOp::PutSibling { seen: None, .. }, Some(Row::Siblings(row)))
                if row.versions().len() >= limits.siblings_max =>
            {
                Err(Denial::Siblings)
            }
            (WriteOp::Add { place, delta, .. }, _) => {
                let key = write.key.with(&Part::Share(place.clone(), actor()));
                match self.rows.get(&key) {
                    Some(Row::Share(share))
                        if !share.is_reset() && share.own.sum.checked_add(*delta).is_none() =>
                    {
                        Err(Denial::CounterRange)
                    }
                    _ => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }

    fn stamp(&mut self) -> Stamp {
        self.n += 1;
        stamp(self.n)
    }

    fn version(&mut self, write: &Write, value: Option<Bytes>) -> Version {
        Version {
            expires: write.expires,
            after: write.after.clone(),
            ..Version::new(self.stamp(), value)
        }
    }

    fn put(&mut self, write: &Write, value: Option<Bytes>) -> RowKey {
        let version = self.version(write, value);
        self.rows.insert(write.key.clone(), Row::Register(version));
        write.key.clone()
    }

    fn siblings(&mut self, key: &RowKey) -> &mut Siblings {
        let none = || Row::Siblings(Siblings::default());
        let row = self.rows.entry(key.clone()).or_insert_with(none);
        let Row::Siblings(row) = row else {
            panic!("another row");
        };
        row
    }

    fn seen(&self, key: &RowKey) -> Context {
        match self.rows.get(key) {
            Some(Row::Siblings(row)) => row.context(),
            _ => Context::default(),
        }
    }

    fn put_sibling(&mut self, key: &RowKey, write: &Write, value: Bytes, seen: &Context) -> RowKey {
        let version = self.version(write, Some(value));
        self.siblings(key).put(version, seen);
        key.clone()
    }

    fn remove(&mut self, key: &RowKey, seen: &Context) -> RowKey {
        let stamp = self.stamp();
        self.siblings(key).remove(stamp, seen);
        key.clone()
    }

    fn add(&mut self, key: &RowKey, place: &Place, delta: i64, id: Option<OpId>) {
        if let Some(id) = id {
            let once = key.with(&Part::Once(place.clone(), id));
            if self.rows.contains_key(&once) {
                return;
            }
            let stamp = self.stamp();
            let row = Once {
                stamp,
                applied: [(stamp.dot, delta)].into(),
                gone: BTreeSet::new(),
                expires: Wall(u64::MAX),
                is_spent: false,
            };
            self.rows.insert(once, Row::Once(row));
        }
        let stamp = self.stamp();
        let key = key.with(&Part::Share(place.clone(), actor()));
        let fresh = Share {
            stamp,
            own: Tally::default(),
            reset: Tally::default(),
        };
        let Row::Share(share) = self.rows.entry(key).or_insert(Row::Share(fresh)) else {
            panic!("another row");
        };
        let is_new = share.is_reset();
        share.stamp = stamp;
        share.own = Tally {
            n: stamp.dot.n,
            since: if is_new { stamp.dot.n } else { share.own.since },
            sum: if is_new { 0 } else { share.own.sum } + delta,
        };
    }

    fn reset(&mut self, key: &RowKey, place: &Place) {
        let key = key.with(&Part::Share(place.clone(), actor()));
        let stamp = self.stamp();
        if let Some(Row::Share(share)) = self.rows.get_mut(&key) {
            share.stamp = stamp;
            share.reset = share.own;
        }
    }

    fn clear(&mut self, key: &RowKey, collection: Collection) {
        let reach = Reach {
            applied: self.n,
            complete: self.n,
        };
        let position = Position {
            reaches: [(actor(), reach)].into(),
            ..Position::default()
        };
        let clear = Clear {
            stamp: self.stamp(),
            cleared: Context::from(&position),
        };
        let row = key.with(&Part::Clear(collection));
        self.rows.insert(row, Row::Clear(clear));
        let places: Vec<Place> = self
            .of(key)
            .filter_map(|(key, _)| match key.part() {
                Some(Part::Share(place @ Place::Field(_), _)) => Some(place),
                _ => None,
            })
            .collect();
        if collection == Collection::Map {
            for place in places {
                self.reset(key, &place);
            }
        }
    }

    fn of(&self, key: &RowKey) -> impl Iterator<Item = (RowKey, Row)> {
        let key = key.key.clone();
        let all = self.rows.iter().filter(move |(known, _)| known.key == key);
        all.map(|(key, row)| (key.clone(), row.clone()))
    }

    /// Reads parts of a key.
    pub(super) fn select(&self, selection: &Selection) -> Outcome {
        let (rows, next) = match selection {
            Selection::Rows(keys) => {
                let found = keys.iter().filter_map(|key| {
                    let row = self.rows.get(key)?;
                    Some((key.clone(), row.clone()))
                });
                (found.collect(), None)
            }
            Selection::Counter { key, place } => {
                let mut rows: Vec<_> = self.of(key).collect();
                rows.retain(|(key, _)| match key.part() {
                    Some(Part::Share(at, _) | Part::Once(at, _)) => at == *place,
                    _ => false,
                });
                (rows, None)
            }
            Selection::Page {
                key,
                collection,
                after,
                rows_max,
                ..
            } => self.page(key, *collection, after.as_ref(), *rows_max),
        };
        Outcome::Selected { rows, next }
    }

    fn page(
        &self,
        key: &RowKey,
        collection: Collection,
        after: Option<&Bytes>,
        rows_max: u32,
    ) -> (Vec<(RowKey, Row)>, Option<Bytes>) {
        let is_part = |part: &Part| match (collection, part) {
            (_, Part::Clear(of)) => *of == collection,
            (Collection::Set, Part::Member(_))
            | (Collection::Map, Part::Field(_) | Part::Share(Place::Field(_), _)) => true,
            _ => false,
        };
        let (mut rows, mut live) = (Vec::new(), 0);
        for (key, row) in self.of(key) {
            let Some(part) = key.part().filter(is_part) else {
                continue;
            };
            let is_clear = matches!(part, Part::Clear(_));
            if !is_clear && after.is_some_and(|after| key.subkey <= *after) {
                continue;
            }
            live += u32::from(!row.is_tombstone());
            if live > rows_max {
                let last = rows
                    .last()
                    .map(|(key, _): &(RowKey, Row)| key.subkey.clone());
                return (rows, last);
            }
            rows.push((key, row));
        }
        (rows, None)
    }

    /// Counts a collection.
    pub(super) fn count(&self, key: &RowKey, collection: Collection, now: Wall) -> Outcome {
        let mut rows: Vec<_> = self.of(key).collect();
        super::super::page::strip(&mut rows, collection);
        let count = match collection {
            Collection::Set => members(&rows, now).len(),
            Collection::Map => fields(&rows, now).len(),
        };
        Outcome::Counted(count as u64)
    }

    /// A page of a keyspace.
    pub(super) fn list(
        &self,
        (keyspace, index): (crate::model::KeyspaceId, u16),
        wanted: Wanted,
        after: Option<RowKey>,
        rows_max: u32,
    ) -> Outcome {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut found = self
            .rows
            .range((start, Bound::Unbounded))
            .filter(|(key, row)| {
                let is_wanted = match key.part() {
                    Some(Part::Plain) => wanted == Wanted::Values,
                    Some(Part::Conflict(_)) => wanted == Wanted::Conflicts,
                    _ => false,
                };
                is_wanted
                    && key.keyspace == keyspace
                    && key.token.partition_index(PARTITIONS) == index
                    && !row.is_tombstone()
            });
        let page: Vec<_> = found
            .by_ref()
            .take(rows_max as usize)
            .map(|(key, row)| (key.clone(), row.clone()))
            .collect();
        let last = page.last().map(|(key, _)| key.clone());
        let next = if found.next().is_some() {
            Some((index, last))
        } else {
            (index + 1 < PARTITIONS).then_some((index + 1, None))
        };
        Outcome::Page { rows: page, next }
    }
}

/// The stamp of the n-th change.
pub(super) fn stamp(n: u64) -> Stamp {
    Stamp {
        timestamp: Timestamp {
            micros: 1_000_000 + n,
            logical: 2,
        },
        dot: Dot { actor: actor(), n },
    }
}
