//! What explains that a register reads as nothing: a delete, or a version that expired. Its tombstone may have been
//! collected, so that the reader is told nothing of it.

use std::collections::BTreeMap;

use crate::history::record::{Action, Ending, Record};
use crate::model::{RowKey, Summary};

use super::Tombstones;

/// What may have taken the values of registers away.
#[derive(Debug)]
pub(crate) enum Graves<'a> {
    /// The greatest tombstones that were ever stamped, by who has seen them all.
    Told(&'a Tombstones),
    /// What clients asked for.
    Asked(BTreeMap<&'a RowKey, Vec<Grave>>),
}

/// A delete, or a value that expires.
#[derive(Debug)]
pub(crate) struct Grave {
    /// It takes away nothing before.
    from: u64,
    /// Its version, if it was acknowledged.
    summary: Option<Summary>,
}

impl<'a> Graves<'a> {
    /// Those that a history tells of. Clocks may be off by `slack` microseconds.
    pub(super) fn of(records: &'a [Record], slack: u64) -> Self {
        let mut graves: BTreeMap<&RowKey, Vec<Grave>> = BTreeMap::new();
        for record in records.iter().filter(|record| record.may_count()) {
            let from = match (&record.action, record.wishes.expires) {
                (Action::Delete, _) => record.invoked,
                (Action::Put(_), Some(at)) => at.saturating_sub(slack),
                _ => continue,
            };
            let summary = record.ending.written().cloned();
            let of_key = graves.entry(&record.key).or_default();
            of_key.push(Grave { from, summary });
        }
        Self::Asked(graves)
    }

    /// Whether a row of at least this version may be gone, for somebody who ended looking at `at`.
    pub(super) fn explain(&self, key: &RowKey, floor: &Summary, at: u64) -> bool {
        if floor.is_tombstone {
            return true;
        }
        match self {
            Self::Told(tombstones) => {
                let grave = tombstones.get(key);
                grave.is_some_and(|grave| !floor.is_newer_than(grave))
            }
            Self::Asked(graves) => graves.get(key).into_iter().flatten().any(|grave| {
                let is_later = |summary| !floor.is_newer_than(summary);
                grave.from <= at && grave.summary.as_ref().is_none_or(is_later)
            }),
        }
    }
}

/// Whether a read shows less than a version that its reader must see. A tombstone shows no more than an absent row
/// does: an older one may be left on some disk after all newer ones were collected.
pub(super) fn is_behind(record: &Record, floor: &Summary, graves: &Graves<'_>) -> bool {
    let is_unexplained = || !graves.explain(&record.key, floor, record.ended.unwrap_or(u64::MAX));
    match &record.ending {
        Ending::Read(Some(seen)) if !seen.summary.is_tombstone => {
            floor.is_newer_than(&seen.summary)
        }
        Ending::Read(Some(seen)) => floor.is_newer_than(&seen.summary) && is_unexplained(),
        Ending::Read(None) => is_unexplained(),
        Ending::Pending
        | Ending::Written(_)
        | Ending::Done
        | Ending::Siblings(..)
        | Ending::Counted(_)
        | Ending::Members(_)
        | Ending::Fields(_)
        | Ending::NotYet
        | Ending::Failed
        | Ending::Unknown => false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::{bad_put, delete, key, put, record, summary};
    use super::*;

    fn explain(records: &[Record], n: u64, at: u64) -> bool {
        Graves::of(records, 10).explain(&key("a"), &summary(n, false), at)
    }

    #[test]
    fn a_later_delete_explains_an_absent_row() {
        assert!(explain(&[delete("a", 5, (1, 2))], 4, 3));
        assert!(!explain(&[delete("a", 5, (1, 2))], 6, 3));
        assert!(!explain(&[delete("b", 5, (1, 2))], 4, 3));
        assert!(!explain(&[put("a", 5, (1, 2))], 4, 3));
    }

    #[test]
    fn a_delete_that_was_never_answered_may_come_at_any_time_after_it_was_asked() {
        let asked = |ending| record("a", Action::Delete, (5, 6), ending);
        assert!(explain(&[asked(Ending::Unknown)], 9, 7));
        assert!(!explain(&[asked(Ending::Unknown)], 9, 4));
        assert!(!explain(&[asked(Ending::Failed)], 9, 7));
    }

    #[test]
    fn an_expired_value_explains_an_absent_row() {
        let mut short = bad_put("a", 5, (1, 2), Ending::Unknown);
        short.wishes.expires = Some(100);
        assert!(explain(&[short.clone()], 9, 95));
        assert!(!explain(&[short], 9, 80));
    }
}
