//! What was deleted or replaced stays so (P6): nobody who must know of the later write sees the earlier one.

use std::collections::BTreeMap;

use crate::history::{Action, Ending, Record, version_words};
use crate::model::{RegionId, RowKey};

use super::sights::{Scope, is_near, observed};
use super::{Shown, Sight};

/// A key whose greatest acknowledged write is a delete holds nothing, or something stamped later. Of two writes with one
/// timestamp a history of real processes does not tell which is the later.
pub(super) fn check(records: &[Record], shown: &Shown) -> Result<(), String> {
    let mut last: BTreeMap<&RowKey, &Record> = BTreeMap::new();
    for record in records {
        if let (Ending::Written(new), Some(old)) = (&record.ending, last.get(&record.key))
            && let Ending::Written(old) = &old.ending
            && !new.is_newer_than(old)
        {
            continue;
        }
        if let Ending::Written(_) = record.ending {
            last.insert(&record.key, record);
        }
    }
    for (key, record) in last {
        if let (Ending::Written(delete), Some(Some(seen))) = (&record.ending, shown.get(key))
            && delete.is_tombstone
            && !seen.summary.is_tombstone
            && delete.is_newer_than(&seen.summary)
        {
            let left = version_words(&seen.summary);
            return Err(format!("{left} came back after {record}"));
        }
    }
    Ok(())
}

/// A put that had ended in a region, or that a quorum there had shown, before a delete or another put of the same key
/// began there is never read any more by who must know of that later write. This looks at no timestamp.
pub(super) fn check_replaced(records: &[Record]) -> Result<(), String> {
    let mut writes: BTreeMap<&RowKey, Vec<&Record>> = BTreeMap::new();
    let mut puts: BTreeMap<u64, &Record> = BTreeMap::new();
    for record in records.iter().filter(|record| record.may_count()) {
        match record.action {
            Action::Put(token) => {
                puts.insert(token, record);
                writes.entry(&record.key).or_default().push(record);
            }
            Action::Delete => writes.entry(&record.key).or_default().push(record),
            Action::Get
            | Action::PutSibling { .. }
            | Action::DeleteSiblings { .. }
            | Action::Count(_)
            | Action::Add { .. }
            | Action::Reset(_)
            | Action::List(_)
            | Action::Members { .. }
            | Action::Fields { .. }
            | Action::Clear(_) => {}
        }
    }
    let shown = first_shown(records);
    for record in records {
        let (Some(token), Some(sight)) = (token_of(record), Sight::of(record)) else {
            continue;
        };
        let Some(put) = puts.get(&token) else {
            continue;
        };
        let was_shown = |write: &Record| {
            let first = shown.get(&(token, write.region));
            is_near(write, put) && first.is_some_and(|at| *at < write.invoked)
        };
        let later = writes.get(&record.key).into_iter().flatten();
        let mut later = later.filter(|write| sight.knows(write));
        let replaces = |write: &&&Record| observed(write, put) || was_shown(write);
        if let Some(write) = later.find(|write| write.id != put.id && replaces(write)) {
            return Err(format!("{record} saw {put} after {write}"));
        }
    }
    Ok(())
}

/// The token of the value that a read saw.
fn token_of(record: &Record) -> Option<u64> {
    if let Ending::Read(Some(seen)) = &record.ending {
        seen.token
    } else {
        None
    }
}

/// When a quorum of a region first showed a value, by its token.
fn first_shown(records: &[Record]) -> BTreeMap<(u64, RegionId), u64> {
    let mut shown = BTreeMap::new();
    for record in records {
        let (Some(token), Some(sight)) = (token_of(record), Sight::of(record)) else {
            continue;
        };
        if sight.scope != Scope::None {
            let first = shown.entry((token, record.region)).or_insert(sight.ended);
            *first = sight.ended.min(*first);
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::super::samples::{delete, key, put, read, seen};
    use super::*;

    #[test]
    fn a_value_that_comes_back_is_found() {
        let records = [put("a", 1, (1, 2)), delete("a", 2, (3, 4))];
        let with = |left| check(&records, &[(key("a"), left)].into()).is_ok();
        assert!(with(None));
        assert!(!with(Some(seen(1, Some(1)))));
        assert!(with(Some(seen(3, Some(3)))));
        assert!(with(Some(seen(2, Some(2)))), "stamped alike");
    }

    #[test]
    fn a_value_that_is_read_after_its_delete_is_found() {
        let with = |delete: Record, read: Record| {
            let records = [put("a", 1, (1, 2)), delete, read];
            check_replaced(&records).is_ok()
        };
        assert!(!with(delete("a", 2, (3, 4)), read("a", 1, (5, 6))));
        assert!(
            with(delete("a", 2, (3, 4)), read("a", 1, (4, 6))),
            "at once"
        );
        assert!(
            with(delete("a", 2, (2, 4)), read("a", 1, (5, 6))),
            "at once"
        );
        let mut elsewhere = delete("a", 2, (3, 4));
        elsewhere.region = RegionId(2);
        assert!(with(elsewhere, read("a", 1, (5, 6))));
        // A quorum has shown it: so it was finished, whenever its writer was told.
        let late = |read: Record| {
            let records = [
                put("a", 1, (1, 9)),
                super::super::samples::read("a", 1, (2, 3)),
                delete("a", 2, (4, 5)),
                read,
            ];
            check_replaced(&records).is_ok()
        };
        assert!(!late(read("a", 1, (6, 7))));
        assert!(late(read("a", 1, (5, 7))), "at once");
        // Whatever the timestamps say.
        assert!(!with(put("a", 0, (3, 4)), read("a", 1, (5, 6))));
    }
}
