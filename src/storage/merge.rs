//! Merging a row's state from a peer with the one here, whichever way it came.

use crate::hlc::Ahead;
use crate::model::{
    Dot, Effect, Once, Part, PartitionId, Row, RowKey, Share, Tally, Timestamp, Version, Wall,
};

use crate::model::planted::{Guard, is_left_out};

use super::conflict::Lost;
use super::engine::Engine;
use super::form::StoredRow;
use super::stage::Refusal;
use super::{Door, Error};

pub(super) const FORGED: Refusal = "two different changes carry the same dot";

/// What came of merging one row.
#[derive(Debug, Default)]
pub(super) struct Met {
    /// The timestamp of the register here, if it was newer already.
    pub(super) newer: Option<Timestamp>,
    /// Whether what was here had not been seen by the other's writer, nor the other's by the writer here.
    pub(super) is_crossed: bool,
    /// A version of this node that lost.
    pub(super) lost: Option<Lost>,
}

impl<E: Engine> Door<E> {
    pub(super) fn repair(&mut self, wall: Wall, key: &RowKey, row: &Row) -> Result<Effect, Error> {
        let partition = match self.check_merge(key, row) {
            Ok(partition) => partition,
            Err(reason) => return Ok(Effect::Refused { reason }),
        };
        if let Err(Ahead { seen, .. }) = self.clock.observe(wall, row.stamp().timestamp) {
            return Ok(Effect::Early {
                partition,
                timestamp: seen,
            });
        }
        let old = self.load(key)?;
        if old.as_ref().is_some_and(|old| is_forged(&old.row, row)) {
            return Ok(Effect::Refused { reason: FORGED });
        }
        let met = self.merge_row(partition, key, old.as_ref(), row, None)?;
        let (written, lost) = self.keep_lost(wall, partition, met.lost.into_iter().collect())?;
        let summary = self.load(key)?.map(|now| now.row.summary());
        if let (Row::Register(theirs), Some(now), Some(known)) =
            (row, &summary, self.partitions.get_mut(&partition))
            && now.dot == theirs.dot
            && !known.covers(theirs.dot)
        {
            known.stood.note(theirs.dot);
        }
        Ok(Effect::Repaired {
            summary,
            written,
            lost,
        })
    }

    /// Merges a row, and logs it if it came with a log entry that is not trimmed here.
    pub(super) fn merge_row(
        &mut self,
        partition: PartitionId,
        key: &RowKey,
        old: Option<&StoredRow>,
        theirs: &Row,
        entry: Option<Dot>,
    ) -> Result<Met, Error> {
        let mine = old.map(|old| &old.row);
        let early = entry.and_then(|entry| self.only_reset(partition, key, mine, theirs, entry));
        let theirs = early.as_ref().unwrap_or(theirs);
        let Some(mut row) = self.merged(partition, key, mine, theirs) else {
            return Ok(Met::default());
        };
        let met = match old {
            Some(old) => self.meet(key, &old.row, theirs, &row),
            None => meet_none(&row),
        };
        if let Some(collection) = part_collection(key)
            && let Some(cleared) = self.cleared_of(key, collection)?
            && !is_left_out(Guard::LateClear)
        {
            row.clear(&cleared);
            if row.is_cleared_by(&cleared) {
                if let Some(old) = old {
                    self.remove(partition, key, old)?;
                }
                return Ok(met);
            }
        }
        if !is_left_out(Guard::LateExpiry) {
            row.expire(self.cut(partition));
        }
        if let Row::Once(once) = &mut row {
            self.note_gone(partition, key, once)?;
        }
        let mut entries = old.map_or_else(Vec::new, |old| old.entries.clone());
        if let Some(dot) = entry
            && dot.n > self.marks(partition, dot.actor).trimmed
        {
            self.log(partition, dot, key, &mut entries)?;
        }
        let new = StoredRow { row, entries };
        if old != Some(&new) {
            let speaks = match &new.row {
                Row::Clear(_) | Row::Expiry(_) => Some(new.row.clone()),
                Row::Register(_)
                | Row::Siblings(_)
                | Row::Share(_)
                | Row::Once(_)
                | Row::Conflict(_) => None,
            };
            let has_changed = old.is_none_or(|old| old.row != new.row);
            if let (Some(Row::Register(mine)), Row::Register(now)) = (mine, &new.row)
                && mine.dot != now.dot
                && let Some(known) = self.partitions.get_mut(&partition)
            {
                known.note_replaced(mine.dot);
            }
            self.store(partition, key, old, Some(new))?;
            if let Some(row) = speaks.filter(|_| has_changed) {
                self.follow(partition, key, old.as_ref().map(|old| &old.row), &row)?;
            }
        }
        Ok(met)
    }

    /// The reset of a share, if it came by the log of who reset it before the operations that were added since: these
    /// come by the share's own log, and what was added with them.
    fn only_reset(
        &self,
        partition: PartitionId,
        key: &RowKey,
        mine: Option<&Row>,
        theirs: &Row,
        entry: Dot,
    ) -> Option<Row> {
        let (Row::Share(share), Some(Part::Share(_, actor))) = (theirs, key.part()) else {
            return None;
        };
        let n = share.own.n;
        if share.is_reset() || entry.actor == actor {
            return None;
        }
        if self.partitions.get(&partition)?.covers(Dot { actor, n }) {
            return None;
        }
        let own = match mine {
            Some(Row::Share(mine)) => mine.own,
            Some(_) | None => Tally::default(),
        };
        Some(Row::Share(Share {
            own,
            ..share.clone()
        }))
    }

    /// Notes of an operation which of the shares that it was added to are gone: known here, and not there any more, so
    /// they were reset and collected before this came.
    fn note_gone(
        &self,
        partition: PartitionId,
        key: &RowKey,
        once: &mut Once,
    ) -> Result<(), Error> {
        let (Some(Part::Once(place, _)), Some(known)) =
            (key.part(), self.partitions.get(&partition))
        else {
            return Ok(());
        };
        // The change of the share comes right after that of the operation.
        let is_known = |dot: &Dot| {
            known.covers(Dot {
                n: dot.n.saturating_add(1),
                ..*dot
            })
        };
        let known = once.applied.keys().filter(|dot| is_known(dot));
        let dots: Vec<Dot> = known.copied().collect();
        for Dot { actor, n } in dots {
            let share = key.with(&Part::Share(place.clone(), actor));
            if self.load(&share)?.is_none() {
                once.forget(actor, n);
            }
        }
        Ok(())
    }

    /// The merged state; nothing if the row was here, and was deleted and collected.
    fn merged(
        &self,
        partition: PartitionId,
        key: &RowKey,
        mine: Option<&Row>,
        theirs: &Row,
    ) -> Option<Row> {
        let known = self.partitions.get(&partition)?;
        let is_known = |dot| known.covers(dot) && !is_left_out(Guard::Absorb);
        let Some(mine) = mine else {
            return unknown(key, theirs, is_known);
        };
        let mut row = mine.clone();
        row.compact(&known.collected);
        row.absorb(theirs, is_known);
        // Only now: what they have seen go may still be here, if this disk was an old copy.
        row.compact(&known.collected);
        if let Row::Siblings(row) = &row
            && is_left_out(Guard::MergeAll)
            && row.versions().len() > self.limits.siblings_max
        {
            return Some(mine.clone());
        }
        Some(row)
    }

    /// What a state here and one from elsewhere say of each other.
    pub(super) fn meet(&self, key: &RowKey, mine: &Row, theirs: &Row, merged: &Row) -> Met {
        match (mine, theirs) {
            (Row::Register(mine), Row::Register(theirs)) => {
                if mine.stamp() == theirs.stamp() {
                    return Met::default();
                }
                if mine.stamp() > theirs.stamp() {
                    return Met {
                        newer: Some(mine.timestamp),
                        is_crossed: theirs.is_concurrent_with(mine),
                        lost: None,
                    };
                }
                let is_crossed = mine.is_concurrent_with(theirs);
                Met {
                    newer: None,
                    is_crossed,
                    lost: is_crossed.then(|| self.lost(key, mine, theirs)).flatten(),
                }
            }
            _ => meet_none(merged),
        }
    }
}

/// Siblings tell by themselves that they were written concurrently.
fn meet_none(merged: &Row) -> Met {
    let is_crossed = matches!(merged, Row::Siblings(row) if row.versions().len() > 1);
    Met {
        is_crossed,
        ..Met::default()
    }
}

/// The collection that a row is a member or field of; plain rows need not be looked at closely.
fn part_collection(key: &RowKey) -> Option<crate::model::Collection> {
    if key.subkey.is_empty() {
        return None;
    }
    key.part()?.collection()
}

/// What is left of a state where the row is absent. A share may have been added to after the change that its stamp
/// names, so its own number counts too.
fn unknown(key: &RowKey, theirs: &Row, is_known: impl Fn(Dot) -> bool) -> Option<Row> {
    if let Row::Share(share) = theirs
        && let Some(Part::Share(_, actor)) = key.part()
        && !is_known(Dot {
            actor,
            n: share.own.n,
        })
    {
        return Some(theirs.clone());
    }
    theirs.unknown(is_known)
}

/// Whether two states claim to hold the same change and do not. Neither may then win silently.
pub(super) fn is_forged(mine: &Row, theirs: &Row) -> bool {
    match (mine, theirs) {
        (Row::Register(mine), Row::Register(theirs)) => is_other(mine, theirs),
        (Row::Siblings(mine), Row::Siblings(theirs)) => {
            let mut versions = mine.versions().iter();
            versions.any(|mine| {
                theirs
                    .versions()
                    .iter()
                    .any(|theirs| is_other(mine, theirs))
            })
        }
        (Row::Share(mine), Row::Share(theirs)) => {
            mine.own.n == theirs.own.n && mine.own != theirs.own
        }
        (Row::Once(mine), Row::Once(theirs)) => {
            let mut applied = mine.applied.iter();
            applied.any(|(dot, sum)| theirs.applied.get(dot).is_some_and(|other| other != sum))
        }
        (Row::Conflict(mine), Row::Conflict(theirs)) => {
            let stamps = mine.stamp.dot == theirs.stamp.dot;
            stamps && mine.loser.is_some() && theirs.loser.is_some() && mine != theirs
        }
        _ => mine.stamp().dot == theirs.stamp().dot && mine.stamp() != theirs.stamp(),
    }
}

/// Whether two versions of one dot differ by more than that one of them has expired.
fn is_other(mine: &Version, theirs: &Version) -> bool {
    if mine.dot != theirs.dot || mine == theirs {
        return false;
    }
    let has_expired = mine.expires.is_some() && mine.value.is_none() != theirs.value.is_none();
    let same = (mine.timestamp, mine.replaced, mine.expires)
        == (theirs.timestamp, theirs.replaced, theirs.expires);
    !(same && has_expired)
}
