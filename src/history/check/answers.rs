//! When everything is healed, every request is answered, and well. (That a live node answers in time at all
//! is watched by the clients.)

use crate::history::Record;

/// Every operation invoked from `since` on must have succeeded.
pub(super) fn check(records: &[Record], since: u64) -> Result<(), String> {
    for record in records.iter().filter(|record| since <= record.invoked) {
        if !record.is_ok() {
            return Err(format!("in a healed cluster: {record}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::samples::{bad_put, read};
    use super::*;
    use crate::history::Ending;

    #[test]
    fn failures_count_only_after_healing() {
        let failed = bad_put("a", 1, (10, 20), Ending::Failed);
        let records = [failed, read("a", 1, (30, 40))];
        assert!(check(&records, 25).is_ok());
        assert!(check(&records, 10).is_err());
    }
}
