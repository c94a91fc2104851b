//! A write that FAILED is never seen, and whatever is seen was written by somebody (P5).

use std::collections::BTreeMap;

use crate::history::{Action, Ending, Record, Seen, key_words, version_words};
use crate::model::RowKey;

use super::Shown;

/// Checks every value that was read or is left.
pub(super) fn check(records: &[Record], shown: &Shown) -> Result<(), String> {
    let mut puts: BTreeMap<u64, &Record> = BTreeMap::new();
    for record in records {
        if let Action::Put(token) = record.action {
            puts.insert(token, record);
        }
    }
    for record in records {
        if let Ending::Read(Some(seen)) = &record.ending {
            check_seen(&puts, &record.key, seen).map_err(|words| format!("{words} in {record}"))?;
        }
    }
    for (key, seen) in shown {
        if let Some(seen) = seen {
            check_seen(&puts, key, seen).map_err(|words| format!("{words} in the end"))?;
        }
    }
    Ok(())
}

fn check_seen(puts: &BTreeMap<u64, &Record>, key: &RowKey, seen: &Seen) -> Result<(), String> {
    if seen.summary.is_tombstone {
        return Ok(());
    }
    let what = version_words(&seen.summary);
    let put = seen.token.and_then(|token| puts.get(&token));
    let Some(put) = put.filter(|put| put.key == *key) else {
        return Err(format!("{what} of {}, which nobody wrote,", key_words(key)));
    };
    match &put.ending {
        Ending::Failed => Err(format!("{what} of failed {put}")),
        // A write may be stamped again before it is acknowledged, never afterwards.
        Ending::Written(summary) if seen.summary.is_newer_than(summary) => Err(format!(
            "{what} of {put}, stamped again after it was acknowledged,"
        )),
        Ending::NotYet => Err(format!("{what} of refused {put}")),
        Ending::Written(_)
        | Ending::Pending
        | Ending::Unknown
        | Ending::Done
        | Ending::Read(_)
        | Ending::Siblings(..)
        | Ending::Counted(_)
        | Ending::Members(_)
        | Ending::Fields(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::{self, bad_put, key, put, read, summary};
    use super::*;

    #[test]
    fn failed_and_unwritten_values_are_found() {
        let nothing = Shown::new();
        let seen = read("a", 1, (3, 4));
        let check = |put: Record, shown: &Shown| check(&[put, seen.clone()], shown);
        assert!(check(put("a", 1, (1, 2)), &nothing).is_ok());
        assert!(check(bad_put("a", 1, (1, 2), Ending::Unknown), &nothing).is_ok());
        assert!(check(bad_put("a", 1, (1, 2), Ending::Failed), &nothing).is_err());
        assert!(check(put("b", 1, (1, 2)), &nothing).is_err());
        let mut once = put("a", 1, (1, 2));
        once.ending = Ending::Written(summary(0, false));
        assert!(check(once, &nothing).is_err());
        let left = [(key("a"), Some(samples::seen(9, Some(9))))].into();
        assert!(check(put("a", 1, (1, 2)), &left).is_err());
    }
}
