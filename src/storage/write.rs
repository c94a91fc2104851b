//! Clients' writes: each is planned as a whole, with every reason not to do it, and only then staged. Its rows get
//! this node's next numbers, one each.

use crate::model::{
    Condition, Context, Denial, Dot, Effect, LogItem, PartitionId, Row, RowKey, Siblings, Stamp,
    Timestamp, Version, Wall, Write, WriteOp,
};

use crate::model::planted::{Guard, is_left_out};

use super::engine::Engine;
use super::form::StoredRow;
use super::stage::{Refusal, VALUE_BYTES_MAX};
use super::{Door, Error};

/// Actors that a client's context may name: more than a row that this cluster wrote ever has.
const CONTEXT_MAX: usize = 4096;

/// Bytes to which a client may make a row grow that has siblings. Regions that write at once may each come so far before
/// they merge, and a row goes in one message.
const SIBLINGS_BYTES_MAX: usize = 2 << 20;

/// Why nothing was staged.
#[derive(Debug)]
pub(super) enum Stop {
    /// The caller must do something else.
    Denied(Denial),
    /// The change is no good.
    Refused(Refusal),
    /// The store is no good.
    Broken(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Broken(error)
    }
}

impl From<Denial> for Stop {
    fn from(denial: Denial) -> Self {
        Self::Denied(denial)
    }
}

impl Stop {
    pub(super) fn into_effect(self) -> Result<Effect, Error> {
        match self {
            Self::Denied(denial) => Ok(Effect::Denied(denial)),
            Self::Refused(reason) => Ok(Effect::Refused { reason }),
            Self::Broken(error) => Err(error),
        }
    }
}

/// A row that this node changes: its stamp has this node's next number.
#[derive(Debug)]
pub(super) struct Own {
    pub(super) key: RowKey,
    /// As it is stored.
    pub(super) old: Option<StoredRow>,
    /// As it will be.
    pub(super) row: Row,
}

/// What a write comes to.
#[derive(Debug)]
pub(super) struct Plan<'a> {
    pub(super) wall: Wall,
    pub(super) partition: PartitionId,
    pub(super) write: &'a Write,
    /// The rows so far, in the order of their numbers.
    pub(super) rows: Vec<Own>,
}

impl Plan<'_> {
    /// A version by this write.
    pub(super) fn version(&self, stamp: Stamp, value: bytes::Bytes) -> Version {
        Version {
            expires: self.write.expires,
            after: self.write.after.clone(),
            ..Version::new(stamp, Some(value))
        }
    }
}

impl<E: Engine> Door<E> {
    pub(super) fn write(&mut self, wall: Wall, write: &Write) -> Result<Effect, Error> {
        let partition = match self.check_write(wall, write) {
            Ok(partition) => partition,
            Err(stop) => return stop.into_effect(),
        };
        let mut plan = Plan {
            wall,
            partition,
            write,
            rows: Vec::new(),
        };
        if let Err(stop) = self.plan(&mut plan) {
            return stop.into_effect();
        }
        let items = self.stage_own(partition, plan.rows)?;
        Ok(Effect::Written { partition, items })
    }

    fn plan(&mut self, plan: &mut Plan<'_>) -> Result<(), Stop> {
        let write = plan.write;
        if let Some(condition) = write.condition {
            self.check_condition(plan.wall, &write.key, condition)?;
        }
        match &write.op {
            WriteOp::Put(value) => self.plan_register(plan, Some(value.clone())),
            WriteOp::Delete => self.plan_register(plan, None),
            WriteOp::PutSibling { value, seen } => {
                self.plan_sibling(plan, value.clone(), seen.as_ref())
            }
            WriteOp::DeleteSiblings { seen } => self.plan_delete_siblings(plan, seen.as_ref()),
            WriteOp::Add { place, delta, id } => self.plan_add(plan, place, *delta, *id),
            WriteOp::Reset { place } => self.plan_reset(plan, place),
            WriteOp::Members { add, remove } => self.plan_members(plan, add, remove),
            WriteOp::Fields {
                put,
                add,
                remove,
                id,
            } => self.plan_fields(plan, put, add, remove, *id),
            WriteOp::Clear { collection, seen } => self.plan_clear(plan, *collection, seen),
        }
    }

    fn plan_register(
        &mut self,
        plan: &mut Plan<'_>,
        value: Option<bytes::Bytes>,
    ) -> Result<(), Stop> {
        let key = plan.write.key.clone();
        let old = self.load(&key)?;
        let replaced = match old.as_ref().map(|old| &old.row) {
            None => Timestamp::ZERO,
            Some(Row::Register(version)) => version.timestamp,
            Some(_) => return Err(OTHER_KIND),
        };
        let stamp = self.plan_stamp(plan, old.as_ref().map(|old| &old.row))?;
        plan.rows.push(Own {
            key,
            old,
            row: Row::Register(Version {
                replaced: replaced.max(known_of_row(plan.write.above)),
                expires: plan.write.expires.filter(|_| value.is_some()),
                after: plan.write.after.clone(),
                ..Version::new(stamp, value)
            }),
        });
        Ok(())
    }

    fn plan_sibling(
        &mut self,
        plan: &mut Plan<'_>,
        value: bytes::Bytes,
        seen: Option<&Context>,
    ) -> Result<(), Stop> {
        let key = plan.write.key.clone();
        let old = self.load(&key)?;
        let mut row = self.siblings(plan.partition, old.as_ref())?;
        // A condition that holds says what its writer has seen: all that is here.
        let seen = match seen {
            Some(seen) => seen.clone(),
            None if plan.write.condition.is_some() => row.context(),
            None => Context::default(),
        };
        let count_before = row.versions().len();
        let bytes_before = old.as_ref().map_or(0, |old| old.row.size());
        let stamp = self.plan_stamp(plan, old.as_ref().map(|old| &old.row))?;
        let seen = self.relevant(plan.partition, &row, seen);
        row.put(plan.version(stamp, value), &seen);
        let count = row.versions().len();
        let row = Row::Siblings(row);
        let is_more = count > self.limits.siblings_max.max(count_before);
        let is_larger = row.size() > SIBLINGS_BYTES_MAX.max(bytes_before);
        // A value that stands alone has its own limit, and whoever has seen all of a full row must be able to resolve it.
        if count > 1 && (is_more || is_larger) {
            return Err(Denial::Siblings.into());
        }
        plan.rows.push(Own { key, old, row });
        Ok(())
    }

    fn plan_delete_siblings(
        &mut self,
        plan: &mut Plan<'_>,
        seen: Option<&Context>,
    ) -> Result<(), Stop> {
        let key = plan.write.key.clone();
        let old = self.load(&key)?;
        let mut row = self.siblings(plan.partition, old.as_ref())?;
        let seen = match seen {
            Some(seen) => self.relevant(plan.partition, &row, seen.clone()),
            None => row.context(),
        };
        // What the writer saw may not have come here yet: then the delete must be here before it.
        let is_gone = row
            .versions()
            .iter()
            .all(|version| !seen.covers(version.dot));
        if is_gone && self.is_known(plan.partition, &row.context(), &seen) {
            return Ok(());
        }
        let stamp = self.plan_stamp(plan, old.as_ref().map(|old| &old.row))?;
        row.remove(stamp, &seen);
        let row = Row::Siblings(row);
        plan.rows.push(Own { key, old, row });
        Ok(())
    }

    /// The siblings of a row as they are written upon: without what is everywhere.
    pub(super) fn siblings(
        &self,
        partition: PartitionId,
        old: Option<&StoredRow>,
    ) -> Result<Siblings, Stop> {
        match old.map(|old| &old.row) {
            None => Ok(Siblings::default()),
            Some(Row::Siblings(row)) => {
                let mut row = row.clone();
                if let Some(known) = self.partitions.get(&partition) {
                    row.compact(&known.collected);
                }
                Ok(row)
            }
            Some(_) => Err(OTHER_KIND),
        }
    }

    /// What of a client's context is remembered in a row.
    fn relevant(&self, partition: PartitionId, row: &Siblings, seen: Context) -> Context {
        let seen = self.own_known(partition, seen);
        match self.partitions.get(&partition) {
            Some(known) => row.relevant(&seen, &known.collected),
            None => seen,
        }
    }

    /// A client's context without changes of this node that it has not made: they could not have been seen.
    fn own_known(&self, partition: PartitionId, mut seen: Context) -> Context {
        let actor = self.actor;
        let applied = self.marks(partition, actor).reach.applied;
        if let Some(n) = seen.seen.get_mut(&actor)
            && !is_left_out(Guard::OwnContext)
        {
            *n = (*n).min(applied);
        }
        seen.retired.retain(|node, _| *node != actor.node);
        seen
    }

    /// Whether whoever has our log up to here knows of the last change of this row: it is ours, or everybody has it. What
    /// another has removed may be known here alone: a write that removes it once more, and other things with it, must tell
    /// that, too, before it counts.
    pub(super) fn is_told(&self, partition: PartitionId, old: &StoredRow) -> bool {
        let last = old.row.stamp().dot;
        let known = self.partitions.get(&partition);
        let is_everywhere = old.entries.is_empty() && known.is_some_and(|known| known.covers(last));
        last.actor == self.actor || is_everywhere
    }

    /// Whether all that was seen of a row has been here.
    pub(super) fn is_known(&self, partition: PartitionId, row: &Context, seen: &Context) -> bool {
        let Some(known) = self.partitions.get(&partition) else {
            return false;
        };
        let is_covered = |(actor, n): (&crate::model::Actor, &u64)| {
            let dot = Dot {
                actor: *actor,
                n: *n,
            };
            row.covers(dot) || known.covers(dot)
        };
        let mut retired = seen.retired.iter();
        seen.seen.iter().all(is_covered)
            && retired.all(|(node, upto)| known.retired.get(node).is_some_and(|mine| mine >= upto))
    }

    fn check_condition(&self, wall: Wall, key: &RowKey, condition: Condition) -> Result<(), Stop> {
        let row = self.load(key)?.map(|old| old.row);
        let is_live = match &row {
            Some(Row::Register(version)) => version.is_live(wall),
            Some(Row::Siblings(row)) => row.winner(wall).is_some(),
            Some(_) => return Err(OTHER_KIND),
            None => false,
        };
        let summary = row.as_ref().map(Row::summary);
        let holds = match condition {
            Condition::Absent => !is_live,
            Condition::State(state) => {
                is_live && summary.as_ref().is_some_and(|row| row.state == state)
            }
        };
        if holds || is_left_out(Guard::Condition) {
            Ok(())
        } else {
            Err(Denial::Condition(summary).into())
        }
    }

    /// The stamp of the plan's next row: above the row, above what the write names, and above the clock.
    pub(super) fn plan_stamp(&mut self, plan: &Plan<'_>, old: Option<&Row>) -> Result<Stamp, Stop> {
        let above = plan.write.above;
        let floor = old.map_or(above, |old| old.stamp().timestamp.max(above));
        self.next_stamp(plan.wall, plan.partition, floor, plan.rows.len())
    }

    /// The stamp of a row of this node that comes after so many that are not staged yet.
    pub(super) fn next_stamp(
        &mut self,
        wall: Wall,
        partition: PartitionId,
        above: Timestamp,
        planned: usize,
    ) -> Result<Stamp, Stop> {
        let actor = self.actor;
        let last = self.marks(partition, actor).reach.applied;
        let next = u64::try_from(planned)
            .ok()
            .and_then(|planned| planned.checked_add(1));
        let n = next.and_then(|next| last.checked_add(next));
        let n = n.ok_or(Stop::Refused("the log is at its end"))?;
        let mut timestamp = self.clock.stamp(wall, above);
        if is_left_out(Guard::StampAbove) {
            timestamp = Timestamp {
                micros: wall.0,
                logical: 0,
            };
        } else if timestamp <= above {
            return Err(Stop::Refused("no timestamp is above the row's"));
        }
        let dot = Dot { actor, n };
        Ok(Stamp { timestamp, dot })
    }

    /// Stages rows of this node, and logs them.
    pub(super) fn stage_own(
        &mut self,
        partition: PartitionId,
        own: Vec<Own>,
    ) -> Result<Vec<LogItem>, Error> {
        let actor = self.actor;
        let mut items = Vec::with_capacity(own.len());
        for Own { key, old, mut row } in own {
            let dot = row.stamp().dot;
            let n = self.marks(partition, actor).reach.applied + 1;
            assert!(dot == Dot { actor, n }, "own changes are numbered in order");
            row.expire(self.cut(partition));
            let mut entries = old
                .as_ref()
                .map_or_else(Vec::new, |old| old.entries.clone());
            self.log(partition, dot, &key, &mut entries)?;
            let stored = StoredRow {
                row: row.clone(),
                entries,
            };
            self.store(partition, &key, old.as_ref(), Some(stored))?;
            self.change_marks(partition, actor, |marks| {
                // An own log that came back from elsewhere may have holes.
                if marks.reach.complete == marks.reach.applied {
                    marks.reach.complete = n;
                }
                marks.reach.applied = n;
            });
            self.follow(partition, &key, old.as_ref().map(|old| &old.row), &row)?;
            items.push(LogItem { n, key, row });
        }
        if !items.is_empty() {
            self.hold_log_bytes(partition, actor)?;
        }
        Ok(items)
    }

    /// What comes of a row that says something of others.
    pub(super) fn follow(
        &mut self,
        partition: PartitionId,
        key: &RowKey,
        before: Option<&Row>,
        row: &Row,
    ) -> Result<(), Error> {
        let before = match before {
            Some(Row::Clear(before)) => Some(&before.cleared),
            Some(_) | None => None,
        };
        match row {
            Row::Clear(clear) => self.begin_sweep(partition, key, before, &clear.cleared),
            Row::Expiry(expiry) => self.apply_cut(partition, expiry.upto),
            Row::Register(_)
            | Row::Siblings(_)
            | Row::Share(_)
            | Row::Once(_)
            | Row::Conflict(_) => Ok(()),
        }
    }

    fn check_write(&self, wall: Wall, write: &Write) -> Result<PartitionId, Stop> {
        let key = &write.key;
        let name_bytes_max = self.limits.key_bytes_max;
        let is_name = |name: &[u8]| !name.is_empty() && name.len() <= name_bytes_max;
        if !is_name(&key.key) || !has_sizes(&write.op, is_name, self.value_bytes_max()) {
            return Err(Denial::Size.into());
        }
        if !key.subkey.is_empty() {
            return Err(Stop::Refused("a write names the key, not a part of it"));
        }
        let partition = self.check_key(key).map_err(Stop::Refused)?;
        if write.op.parts() > self.limits.parts_max {
            return Err(Denial::Parts.into());
        }
        // Only the session speaks for itself: a row may have been stamped by a clock that was wrong, and must
        // still be written over.
        let latest = write.after.as_ref().map_or(0, |after| after.latest());
        let seen = Timestamp {
            micros: latest,
            logical: 0,
        };
        if self.clock.check(wall, seen).is_err() {
            return Err(Denial::Ahead.into());
        }
        Ok(partition)
    }

    fn value_bytes_max(&self) -> usize {
        self.limits.value_bytes_max.min(VALUE_BYTES_MAX)
    }
}

const OTHER_KIND: Stop =
    Stop::Refused("the row is of another kind: is the keyspace's policy another?");

/// What `above` says of the row itself: nothing if it is a bound in time, of a session or of a mark that was told to others; in a
/// write that is stamped again it is a row's own timestamp.
fn known_of_row(above: Timestamp) -> Timestamp {
    if above.is_bound() {
        Timestamp::ZERO
    } else {
        above
    }
}

/// Whether names, values and contexts are within the limits.
fn has_sizes(op: &WriteOp, is_name: impl Fn(&[u8]) -> bool, value_bytes_max: usize) -> bool {
    use crate::model::Place;
    let is_value = |value: &[u8]| value.len() <= value_bytes_max;
    let is_context =
        |seen: &Option<Context>| seen.as_ref().is_none_or(|seen| seen.len() <= CONTEXT_MAX);
    let is_place = |place: &Place| match place {
        Place::Key => true,
        Place::Field(name) => is_name(name),
    };
    match op {
        WriteOp::Put(value) => is_value(value),
        WriteOp::PutSibling { value, seen } => is_value(value) && is_context(seen),
        WriteOp::DeleteSiblings { seen } => is_context(seen),
        WriteOp::Add { place, .. } | WriteOp::Reset { place } => is_place(place),
        WriteOp::Members { add, remove } => add.iter().chain(remove).all(|name| is_name(name)),
        WriteOp::Fields {
            put, add, remove, ..
        } => {
            let values = put
                .iter()
                .all(|(name, value)| is_name(name) && is_value(value));
            let counters = add.iter().all(|(name, _)| is_name(name));
            values && counters && remove.iter().all(|name| is_name(name))
        }
        WriteOp::Delete | WriteOp::Clear { .. } => true,
    }
}
