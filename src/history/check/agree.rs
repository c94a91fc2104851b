//! When all is at rest, every region shows the same of a key.

use std::collections::BTreeMap;

use crate::history::record::{Ending, Record, Seen};
use crate::model::RowKey;

/// Checks what was read after the rest.
pub(super) fn check(finals: &[&Record]) -> Result<(), String> {
    let mut first: BTreeMap<(&RowKey, String), &Record> = BTreeMap::new();
    for record in finals {
        if record.is_write() || !record.is_ok() {
            continue;
        }
        let asked = format!("{:?}", record.action);
        let other = first.entry((&record.key, asked)).or_insert(record);
        if !is_same(&other.ending, &record.ending) {
            return Err(format!("at rest {other} and {record} differ"));
        }
    }
    Ok(())
}

fn is_same(one: &Ending, two: &Ending) -> bool {
    match (one, two) {
        (Ending::Read(one), Ending::Read(two)) => live(one.as_ref()) == live(two.as_ref()),
        (Ending::Siblings(one, _), Ending::Siblings(two, _)) => one == two,
        (Ending::Siblings(tokens, _), Ending::Read(None))
        | (Ending::Read(None), Ending::Siblings(tokens, _)) => tokens.is_empty(),
        (Ending::Counted(one), Ending::Counted(two)) => one.unwrap_or(0) == two.unwrap_or(0),
        (one, two) => one == two,
    }
}

/// What there is; a tombstone is nothing, and may be collected at any time.
fn live(seen: Option<&Seen>) -> Option<&Seen> {
    seen.filter(|seen| !seen.summary.is_tombstone)
}

#[cfg(test)]
mod tests {
    use super::super::samples::{read, read_nothing};
    use super::*;
    use crate::model::RegionId;

    #[test]
    fn regions_that_differ_are_found() {
        let with = |mut there: Record| {
            there.region = RegionId(2);
            check(&[&read("a", 2, (1, 2)), &there]).is_ok()
        };
        assert!(with(read("a", 2, (1, 3))));
        assert!(with(read("b", 1, (1, 3))));
        assert!(!with(read("a", 1, (1, 3))));
        assert!(!with(read_nothing("a", (1, 3))));
    }
}
