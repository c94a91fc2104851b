//! Of several writes on one condition, made in one region, one goes through; if more did, each but one was told that
//! it had crossed another.

use std::collections::BTreeMap;

use crate::history::Record;
use crate::model::{RegionId, RowKey};

/// Checks all writes on a condition that went well.
pub(super) fn check(records: &[Record]) -> Result<(), String> {
    let mut done: BTreeMap<(&RowKey, RegionId, u64), &Record> = BTreeMap::new();
    for record in records.iter().filter(|record| record.is_ok()) {
        let Some(state) = record.wishes.condition else {
            continue;
        };
        if record.wishes.is_crossed || !record.is_regional() {
            continue;
        }
        if let Some(other) = done.insert((&record.key, record.region, state), record) {
            return Err(format!("both {other} and {record} found the same state"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::samples::put;
    use super::*;

    #[test]
    fn two_winners_are_found() {
        let with = |is_crossed| {
            let mut records = [put("a", 1, (1, 2)), put("a", 2, (1, 3))];
            for record in &mut records {
                record.wishes.condition = Some(7);
            }
            records[1].wishes.is_crossed = is_crossed;
            check(&records).is_ok()
        };
        assert!(with(true));
        assert!(!with(false));
    }
}
