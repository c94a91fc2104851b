//! What has expired is never read. (Sets, maps and siblings check this with the rest of what they show.)

use std::collections::BTreeMap;

use crate::history::{Action, Ending, Record};

/// Checks every read of a register. Clocks may be off by `slack` microseconds.
pub(super) fn check(records: &[Record], slack: u64) -> Result<(), String> {
    let mut puts: BTreeMap<u64, &Record> = BTreeMap::new();
    for record in records {
        if let Action::Put(token) = record.action {
            puts.insert(token, record);
        }
        let Ending::Read(Some(seen)) = &record.ending else {
            continue;
        };
        let put = seen.token.and_then(|token| puts.get(&token));
        let expires = put.and_then(|put| put.wishes.expires);
        if let (Some(put), Some(at)) = (put, expires)
            && at + slack < record.invoked
        {
            return Err(format!("{record} saw what expired at {at}: {put}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::samples::{put, read};
    use super::*;

    #[test]
    fn what_has_expired_is_found() {
        let mut short = put("a", 1, (1, 2));
        short.wishes.expires = Some(50);
        let with = |at| check(&[short.clone(), read("a", 1, (at, at + 1))], 10).is_ok();
        assert!(with(40) && with(55));
        assert!(!with(61));
    }
}
