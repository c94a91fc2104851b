//! A client that takes its session from region to region reads its own writes, never reads what is older than it has
//! read, and sees what the writers of what it reads had seen; and a read that asks for what is not too old gets it.

use std::collections::BTreeMap;

use crate::history::{Action, Ending, Record, version_words};
use crate::model::{Level, RowKey, Session, Summary};

use super::Graves;
use super::graves::is_behind;

/// The least version of each key that a client must see.
type Floors = BTreeMap<RowKey, Summary>;

/// Checks every read of a register with a session, or with a limit to its age.
pub(super) fn check(records: &[Record], graves: &Graves<'_>) -> Result<(), String> {
    check_sessions(records, graves)?;
    check_fresh(records, graves)
}

fn check_sessions(records: &[Record], graves: &Graves<'_>) -> Result<(), String> {
    let mut clients: BTreeMap<usize, Floors> = BTreeMap::new();
    // What the writer of a token had seen.
    let mut seen_by_writer: BTreeMap<u64, Floors> = BTreeMap::new();
    // One client has one operation in flight, so that the order of invocation is its own; what others wrote was
    // invoked before it was read.
    for record in records {
        if record.wishes.session.is_none() || record.level == Level::UnsafeOne {
            continue;
        }
        let floors = clients.entry(record.client).or_default();
        if let Action::Put(token) = record.action {
            seen_by_writer.insert(token, floors.clone());
        }
        match &record.ending {
            Ending::Written(summary) => raise(floors, &record.key, summary),
            Ending::Read(read) => {
                let floor = floors.get(&record.key);
                check_read(record, floor, graves)?;
                // One that brings no token yet, and asks one replica, may see what the next does not.
                let is_first = record.level == Level::One
                    && record
                        .wishes
                        .session
                        .as_ref()
                        .is_some_and(Session::is_empty);
                if let Some(seen) = read.as_ref().filter(|_| !is_first) {
                    raise(floors, &record.key, &seen.summary);
                    let writer = seen.token.and_then(|token| seen_by_writer.get(&token));
                    for (key, floor) in writer.into_iter().flatten() {
                        raise(floors, key, floor);
                    }
                }
            }
            Ending::Pending
            | Ending::Done
            | Ending::Siblings(..)
            | Ending::Counted(_)
            | Ending::Members(_)
            | Ending::Fields(_)
            | Ending::NotYet
            | Ending::Failed
            | Ending::Unknown => {}
        }
    }
    Ok(())
}

fn check_fresh(records: &[Record], graves: &Graves<'_>) -> Result<(), String> {
    for record in records {
        let (Some(limit), Ending::Read(_)) = (record.wishes.fresh_as_of, &record.ending) else {
            continue;
        };
        let written = records.iter().filter(|write| write.key == record.key);
        let written = written.filter(|write| write.ended.is_some_and(|at| at < record.invoked));
        let stamps = written.filter_map(|write| write.ending.written());
        let stamps = stamps.filter(|summary| summary.timestamp.micros <= limit);
        let floor = stamps.max_by_key(|summary| summary.stamp());
        check_read(record, floor, graves)?;
    }
    Ok(())
}

fn raise(floors: &mut Floors, key: &RowKey, summary: &Summary) {
    let old = floors.get(key);
    if old.is_none_or(|old| summary.is_newer_than(old)) {
        floors.insert(key.clone(), summary.clone());
    }
}

fn check_read(record: &Record, floor: Option<&Summary>, graves: &Graves<'_>) -> Result<(), String> {
    let Some(floor) = floor else {
        return Ok(());
    };
    if is_behind(record, floor, graves) {
        return Err(format!("{record} is behind {}", version_words(floor)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::Tombstones;
    use super::super::samples::{put, read, read_nothing};
    use super::*;
    use crate::model::{RegionId, Session};

    fn of(client: usize, mut record: Record) -> Record {
        record.client = client;
        record.region = RegionId(u32::try_from(record.invoked).unwrap());
        record.wishes.session = Some(Session::default());
        record
    }

    fn is_good(records: &[Record]) -> bool {
        check(records, &Graves::Told(&Tombstones::new())).is_ok()
    }

    #[test]
    fn own_writes_are_read() {
        let write = of(1, put("a", 5, (1, 2)));
        assert!(is_good(&[write.clone(), of(1, read("a", 5, (3, 4)))]));
        assert!(!is_good(&[write.clone(), of(1, read("a", 4, (3, 4)))]));
        assert!(!is_good(&[write.clone(), of(1, read_nothing("a", (3, 4)))]));
        assert!(is_good(&[write, of(2, read_nothing("a", (3, 4)))]));
    }

    #[test]
    fn reads_do_not_go_back() {
        let first = of(1, read("a", 5, (1, 2)));
        assert!(!is_good(&[first, of(1, read("a", 4, (3, 4)))]));
    }

    #[test]
    fn what_the_writer_had_seen_is_seen() {
        let records = [
            of(1, read("a", 5, (1, 2))),
            of(1, put("b", 7, (3, 4))),
            of(2, read("b", 7, (5, 6))),
        ];
        let with = |read: Record| is_good(&[&records[..], &[of(2, read)]].concat());
        assert!(with(read("a", 5, (7, 8))));
        assert!(!with(read("a", 4, (7, 8))));
    }

    #[test]
    fn what_is_too_old_is_found() {
        let fresh = |limit, n| {
            let mut read = read("a", n, (3, 4));
            read.wishes.fresh_as_of = Some(limit);
            is_good(&[put("a", 5, (1, 2)), read])
        };
        assert!(fresh(5, 5) && fresh(4, 4));
        assert!(!fresh(5, 4));
    }
}
