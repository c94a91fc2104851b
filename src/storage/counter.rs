//! Writes of counters: a share of this actor, a row for an operation id, and resets of all shares.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{
    Actor, Denial, Once, OpId, Part, Place, Row, RowKey, Share, Stamp, Tally, Timestamp, Wall,
    share_prefix,
};

use crate::model::planted::{Guard, is_left_out};

use super::engine::{Engine, Space};
use super::form;
use super::keys;
use super::write::{Own, Plan, Stop};
use super::{Door, Error};

/// Rows that one write may change: shares of counters are many where nodes were started often.
const ROWS_MAX: usize = 65_536;

impl<E: Engine> Door<E> {
    pub(super) fn plan_add(
        &mut self,
        plan: &mut Plan<'_>,
        place: &Place,
        delta: i64,
        id: Option<OpId>,
    ) -> Result<(), Stop> {
        if let Some(id) = id
            && !self.plan_once(plan, place, delta, id)?
        {
            return Ok(());
        }
        let key = plan.write.key.with(&Part::Share(place.clone(), self.actor));
        let old = self.load(&key)?;
        let mut share = match old.as_ref().map(|old| &old.row) {
            Some(Row::Share(share)) => share.clone(),
            Some(_) | None => Share {
                stamp: NONE,
                own: Tally::default(),
                reset: Tally::default(),
            },
        };
        share.stamp = self.plan_stamp(plan, old.as_ref().map(|old| &old.row))?;
        let n = share.stamp.dot.n;
        share.own = if share.is_reset() {
            Tally {
                n,
                since: n,
                sum: delta,
            }
        } else {
            let sum = share.own.sum.checked_add(delta);
            let sum = sum.ok_or(Denial::CounterRange)?;
            Tally {
                n,
                since: share.own.since,
                sum,
            }
        };
        let row = Row::Share(share);
        plan.rows.push(Own { key, old, row });
        Ok(())
    }

    /// Plans the row of an operation id, which comes before the share; false if the id is known.
    fn plan_once(
        &mut self,
        plan: &mut Plan<'_>,
        place: &Place,
        delta: i64,
        id: OpId,
    ) -> Result<bool, Stop> {
        let key = plan.write.key.with(&Part::Once(place.clone(), id));
        let old = self.load(&key)?;
        let known = match old.as_ref().map(|old| &old.row) {
            Some(Row::Once(once)) => Some(once.clone()),
            Some(_) | None => None,
        };
        if let Some(once) = &known
            && self.is_applied(&plan.write.key, place, once)?
            && !is_left_out(Guard::KnownOnce)
        {
            return Ok(false);
        }
        let stamp = self.plan_stamp(plan, old.as_ref().map(|old| &old.row))?;
        let window = self.limits.operation_window.as_micros();
        let window = u64::try_from(window).unwrap_or(u64::MAX);
        let mut once = known.unwrap_or(Once {
            stamp,
            applied: BTreeMap::new(),
            gone: BTreeSet::new(),
            expires: Wall(plan.wall.0.saturating_add(window)),
            is_spent: false,
        });
        once.stamp = stamp;
        once.applied.insert(stamp.dot, delta);
        let row = Row::Once(once);
        plan.rows.push(Own { key, old, row });
        Ok(true)
    }

    /// Whether an operation that is known here has been added here. Its row alone may have come, by a read or a log
    /// that broke off, and the share be lost with its disk.
    fn is_applied(&self, key: &RowKey, place: &Place, once: &Once) -> Result<bool, Error> {
        let actors: BTreeSet<Actor> = once.applied.keys().map(|dot| dot.actor).collect();
        let mut shares = BTreeMap::new();
        for actor in actors {
            let share = self.load(&key.with(&Part::Share(place.clone(), actor)))?;
            if let Some(Row::Share(share)) = share.map(|share| share.row) {
                shares.insert(actor, share.reach());
            }
        }
        Ok(once.is_applied(|actor| shares.get(&actor).copied()))
    }

    pub(super) fn plan_reset(&mut self, plan: &mut Plan<'_>, place: &Place) -> Result<(), Stop> {
        self.plan_resets(plan, &share_prefix(place))
    }

    /// Plans to reset every share whose subkey begins so, as far as it is known here.
    pub(super) fn plan_resets(&mut self, plan: &mut Plan<'_>, prefix: &[u8]) -> Result<(), Stop> {
        let left = ROWS_MAX.saturating_sub(plan.rows.len());
        let shares = self.parts(&plan.write.key, prefix, left + 1)?;
        if shares.len() > left {
            return Err(Denial::Parts.into());
        }
        for key in shares {
            let Some(old) = self.load(&key)? else {
                continue;
            };
            let Row::Share(share) = &old.row else {
                continue;
            };
            if share.is_reset() && self.is_told(plan.partition, &old) {
                continue;
            }
            let stamp = self.plan_stamp(plan, Some(&old.row))?;
            let row = Row::Share(Share {
                stamp,
                own: share.own,
                reset: share.reset.max(share.own),
            });
            let old = Some(old);
            plan.rows.push(Own { key, old, row });
        }
        Ok(())
    }

    /// The names of the first rows of a key whose subkeys begin so, as staged.
    pub(super) fn parts(
        &self,
        key: &RowKey,
        prefix: &[u8],
        count_max: usize,
    ) -> Result<Vec<RowKey>, Error> {
        let found = self.list(Space::Rows, &keys::parts(key, prefix), count_max)?;
        found
            .iter()
            .map(|(stored, value)| Ok(form::open_named_row(stored, value)?.0))
            .collect()
    }
}

const NONE: Stamp = Stamp {
    timestamp: Timestamp::ZERO,
    dot: crate::model::Dot::NONE,
};
