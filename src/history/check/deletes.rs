//! What was deleted or replaced stays so (P6): nobody who must know of the later write sees the earlier one.

use std::collections::BTreeMap;

use crate::history::{Action, Ending, Record, version_words};
use crate::model::RowKey;

use super::sights::observed;
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

/// A put that had ended in a region before a delete or another put of the same key began there is never read any more
/// by who must know of that later write. This looks at no timestamp.
pub(super) fn check_replaced(records: &[Record]) -> Result<(), String> {
    let mut writes: BTreeMap<&RowKey, Vec<&Record>> = BTreeMap::new();
    let mut puts: BTreeMap<u64, &Record> = BTreeMap::new();
    for record in records.iter().filter(|record| record.is_ok()) {
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
    for record in records {
        let Ending::Read(Some(seen)) = &record.ending else {
            continue;
        };
        let put = seen.token.and_then(|token| puts.get(&token));
        let (Some(put), Some(sight)) = (put, Sight::of(record)) else {
            continue;
        };
        let later = writes.get(&record.key).into_iter().flatten();
        let mut later = later.filter(|write| sight.knows(write) && observed(write, put));
        if let Some(write) = later.find(|write| write.id != put.id) {
            return Err(format!("{record} saw {put} after {write}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::samples::{delete, key, put, read, seen};
    use super::*;
    use crate::model::RegionId;

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
        // Whatever the timestamps say.
        assert!(!with(put("a", 0, (3, 4)), read("a", 1, (5, 6))));
    }
}
