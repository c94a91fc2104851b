//! Taking away tombstones that every replica has.

use std::collections::BTreeMap;

use crate::model::{
    Actor, Context, Dot, Effect, OpId, Part, PartitionId, Place, Row, RowKey, Wall, once_prefix,
};

use super::engine::{Engine, Space};
use super::form::{self, NameForm};
use super::keys::{self, Span};
use super::partition::Collecting;
use super::stage::NOT_HERE;
use super::sweep::SWEPT_MAX;
use super::{Door, Error};

/// Graves that one collection looks at, for each row that one sweep does: they are short.
const GRAVES: usize = 10;

impl<E: Engine> Door<E> {
    /// Removes tombstones that every replica has. The floor is clamped to what is complete here: nobody
    /// may know better than we do what we have.
    ///
    /// Retired actors are not in the floor. All that they did is everywhere, but what others wrote beside it may
    /// still be on its way: so they count only if they were retired when something was collected before, since
    /// a floor takes two rounds of telling.
    ///
    /// A tombstone that lies ahead of what the clock may follow stays until its time has come. When it goes, only
    /// the clock knows that what is written next must be above it: below it, that would lose to the same tombstone
    /// where that is not collected yet.
    pub(super) fn collect(
        &mut self,
        wall: Wall,
        partition: PartitionId,
        floor: &BTreeMap<Actor, u64>,
    ) -> Result<Effect, Error> {
        let Some(known) = self.partitions.get_mut(&partition) else {
            return Ok(Effect::Refused { reason: NOT_HERE });
        };
        let before = std::mem::replace(&mut known.retired_before, known.retired.clone());
        let seen = floor
            .iter()
            .filter(|(actor, _)| !known.has_retired(**actor));
        let clamp =
            |(actor, n): (&Actor, &u64)| (*actor, known.marks(*actor).reach.complete.min(*n));
        let upto = Context {
            seen: seen.map(clamp).filter(|(_, n)| *n > 0).collect(),
            retired: before,
        };
        known.collected.join(&upto);
        let before = known.collecting.take();
        let collecting = Collecting {
            floor: upto,
            again: before.is_some(),
            after: before.map_or_else(Vec::new, |before| before.after),
        };
        self.collect_on(wall, partition, collecting, self.sweep_rows)?;
        Ok(Effect::Swept {
            partition,
            has_more: self.is_collecting(partition),
        })
    }

    /// Goes on with a collection that did not come to its end, if there is one.
    pub(super) fn continue_collecting(
        &mut self,
        wall: Wall,
        partition: PartitionId,
        rows_max: usize,
    ) -> Result<(), Error> {
        let known = self.partitions.get_mut(&partition);
        match known.and_then(|known| known.collecting.take()) {
            Some(collecting) => self.collect_on(wall, partition, collecting, rows_max),
            None => Ok(()),
        }
    }

    pub(super) fn is_collecting(&self, partition: PartitionId) -> bool {
        let known = self.partitions.get(&partition);
        known.is_some_and(|known| known.collecting.is_some())
    }

    /// Looks at some graves, each once until the end: those that may not go yet must not hide those behind them.
    fn collect_on(
        &mut self,
        wall: Wall,
        partition: PartitionId,
        collecting: Collecting,
        rows_max: usize,
    ) -> Result<(), Error> {
        let Collecting {
            floor,
            mut after,
            again,
        } = collecting;
        let numbered = floor.seen.iter();
        let numbered = numbered.map(|(actor, n)| keys::grave_span(partition, *actor, 0, *n));
        let retired = floor.retired.iter();
        let retired =
            retired.map(|(node, upto)| keys::retired_graves_span(partition, *node, *upto));
        let mut spans: Vec<Span> = numbered.chain(retired).collect();
        spans.sort_unstable_by(|a, b| a.from.cmp(&b.from));
        let mut left = rows_max.saturating_mul(GRAVES);
        for span in spans {
            let graves = self.list(Space::Meta, &span.after(after.clone()), left)?;
            left = left.saturating_sub(graves.len());
            for (stored, value) in graves {
                after.clone_from(&stored);
                self.open_grave(wall, partition, &floor, stored, &value)?;
            }
        }
        let rest = if left == 0 {
            Some((after, again))
        } else {
            again.then(|| (Vec::new(), false))
        };
        if let Some(known) = self.partitions.get_mut(&partition) {
            known.collecting = rest.map(|(after, again)| Collecting {
                floor,
                after,
                again,
            });
        }
        Ok(())
    }

    fn open_grave(
        &mut self,
        wall: Wall,
        partition: PartitionId,
        floor: &Context,
        stored: Vec<u8>,
        value: &[u8],
    ) -> Result<(), Error> {
        let name: NameForm = form::open(Space::Meta, &stored, value)?;
        let key = name.into_key(partition, self.partition_count);
        let dot = keys::parse_dot(&stored);
        let old = self.load(&key)?;
        match old.filter(|old| old.row.is_tombstone() && Some(old.row.stamp().dot) == dot) {
            Some(old) => {
                let timestamp = old.row.stamp().timestamp;
                if self.may_go(partition, floor, &key, &old.row)?
                    && self.clock.observe(wall, timestamp).is_ok()
                {
                    self.remove(partition, &key, &old)?;
                }
                Ok(())
            }
            None => {
                self.staged.remove(Space::Meta, stored);
                Ok(())
            }
        }
    }

    /// Whether the floor has all that a tombstone stands for, so that nothing can come that only it would stop.
    fn may_go(
        &mut self,
        partition: PartitionId,
        floor: &Context,
        key: &RowKey,
        row: &Row,
    ) -> Result<bool, Error> {
        if !row.dots().into_iter().all(|dot| floor.covers(dot)) {
            return Ok(false);
        }
        Ok(match row {
            Row::Register(_) | Row::Conflict(_) | Row::Once(_) => true,
            Row::Siblings(row) => floor.includes(&row.context()),
            Row::Clear(clear) => {
                let sweep = keys::sweep(partition, key);
                floor.includes(&clear.cleared) && self.get(Space::Meta, &sweep)?.is_none()
            }
            Row::Share(share) => match key.part() {
                Some(Part::Share(place, actor)) => {
                    let n = share.reach();
                    floor.covers(Dot { actor, n })
                        && self.hand_over(partition, key, &place, (actor, n))?
                }
                _ => false,
            },
            Row::Expiry(_) => false,
        })
    }

    /// Tells operations that were applied more than once that a share of theirs was reset, so that it may go. One
    /// that was applied once, and may yet turn out to have been applied elsewhere, is waited for: it goes when its
    /// time is over. Says whether none is left that needs the share.
    fn hand_over(
        &mut self,
        partition: PartitionId,
        key: &RowKey,
        place: &Place,
        (actor, upto): (Actor, u64),
    ) -> Result<bool, Error> {
        let mut span = keys::operations_of(key, &once_prefix(place), actor, 0, upto);
        let mut told = 0;
        while told < SWEPT_MAX {
            let Some((stored, value)) = self.list(Space::Meta, &span, 1)?.pop() else {
                return Ok(true);
            };
            let id: OpId = form::open(Space::Meta, &stored, &value)?;
            span = span.after(stored);
            let key = key.with(&Part::Once(place.clone(), id));
            let Some(old) = self.load(&key)? else {
                continue;
            };
            let mut new = old.clone();
            let Row::Once(once) = &mut new.row else {
                continue;
            };
            if !once.is_repeated() {
                return Ok(false);
            }
            if once.forget(actor, upto) {
                self.store(partition, &key, Some(&old), Some(new))?;
                told += 1;
            }
        }
        Ok(false)
    }
}
