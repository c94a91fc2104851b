//! Within a region, quorum reads see every write and every quorum read that ended before they began (P2).
//!
//! After Garage's `reg-read-after-write`: versions are ordered by (timestamp, dot), so it is enough to keep,
//! for each key and region, the greatest version that a finished operation has shown, and to compare.

use std::collections::{BTreeMap, BTreeSet};

use crate::history::{Ending, Record, version_words};
use crate::model::{Level, RegionId, RowKey, Summary};

use super::Graves;
use super::graves::is_behind;

/// A region's knowledge of a key: from this time on, reads show at least this version.
type Floors = Vec<(u64, Summary)>;

/// Checks every quorum read.
pub(super) fn check(records: &[Record], graves: &Graves<'_>) -> Result<(), String> {
    let regions: BTreeSet<RegionId> = records.iter().map(|record| record.region).collect();
    let floors = floors(records, &regions);
    for record in records {
        if !matches!(record.ending, Ending::Read(_)) {
            continue;
        }
        let asked: Vec<RegionId> = match record.level {
            Level::One | Level::UnsafeOne => continue,
            // Perhaps another region was asked.
            _ if !record.is_regional() => continue,
            Level::LocalQuorum => vec![record.region],
            Level::EachQuorum | Level::All => regions.iter().copied().collect(),
        };
        for region in asked {
            let Some(floor) = floor_at(&floors, (&record.key, region), record.invoked) else {
                continue;
            };
            if is_behind(record, &floor, graves) {
                let floor = version_words(&floor);
                return Err(format!(
                    "{record} is behind {floor} of region {:08x}",
                    region.0
                ));
            }
        }
    }
    Ok(())
}

/// For each key and region, the greatest version shown by operations that had ended, by time.
fn floors<'a>(
    records: &'a [Record],
    regions: &BTreeSet<RegionId>,
) -> BTreeMap<(&'a RowKey, RegionId), Floors> {
    let mut ended: Vec<&Record> = records.iter().collect();
    ended.sort_by_key(|record| record.ended);
    let mut floors: BTreeMap<(&RowKey, RegionId), Floors> = BTreeMap::new();
    for record in ended {
        let Some(at) = record.ended else {
            continue;
        };
        if !record.is_regional() {
            continue;
        }
        let (shown, everywhere) = match (&record.ending, record.level) {
            (Ending::Written(_), Level::UnsafeOne) => continue,
            (Ending::Written(summary), Level::EachQuorum | Level::All) => (summary.clone(), true),
            (Ending::Written(summary), Level::One | Level::LocalQuorum) => (summary.clone(), false),
            (Ending::Read(_), Level::One | Level::UnsafeOne) => continue,
            (Ending::Read(Some(seen)), _) => (seen.summary.clone(), false),
            (
                Ending::Read(None)
                | Ending::Pending
                | Ending::Done
                | Ending::Siblings(..)
                | Ending::Counted(_)
                | Ending::Members(_)
                | Ending::Fields(_)
                | Ending::NotYet
                | Ending::Failed
                | Ending::Unknown,
                _,
            ) => continue,
        };
        for region in regions {
            if everywhere || *region == record.region {
                let floors = floors.entry((&record.key, *region)).or_default();
                if floors
                    .last()
                    .is_none_or(|(_, floor)| shown.is_newer_than(floor))
                {
                    floors.push((at, shown.clone()));
                }
            }
        }
    }
    floors
}

fn floor_at(
    floors: &BTreeMap<(&RowKey, RegionId), Floors>,
    of: (&RowKey, RegionId),
    invoked: u64,
) -> Option<Summary> {
    let floors = floors.get(&of)?;
    let before = floors.partition_point(|(at, _)| *at < invoked);
    let (_, floor) = floors.get(before.checked_sub(1)?)?;
    Some(floor.clone())
}

#[cfg(test)]
mod tests {
    use super::super::Tombstones;
    use super::super::samples::{delete, key, put, read, read_nothing, summary};
    use super::*;

    fn check(records: &[Record]) -> Result<(), String> {
        super::check(records, &Graves::Told(&Tombstones::new()))
    }

    #[test]
    fn a_read_that_misses_a_finished_write_is_found() {
        let writes = [put("a", 1, (1, 2)), put("a", 2, (3, 4))];
        let with = |read: Record| check(&[&writes[..], &[read]].concat());
        assert!(with(read("a", 2, (5, 6))).is_ok());
        assert!(
            with(read("a", 1, (3, 6))).is_ok(),
            "the second write had not ended"
        );
        assert!(with(read("a", 1, (5, 6))).is_err());
        assert!(with(read_nothing("a", (5, 6))).is_err());
    }

    #[test]
    fn a_read_that_goes_back_is_found() {
        let records = [read("a", 2, (1, 2)), read("a", 1, (3, 4))];
        assert!(check(&records).is_err());
    }

    #[test]
    fn a_deleted_row_reads_as_nothing() {
        let records = [delete("a", 2, (1, 2)), read_nothing("a", (3, 4))];
        assert!(check(&records).is_ok());
        let records = [delete("a", 2, (1, 2)), read("a", 1, (3, 4))];
        assert!(check(&records).is_err());
    }

    #[test]
    fn an_older_tombstone_shows_no_more_than_an_absent_row() {
        let tombstone = |n| {
            let mut read = read_nothing("a", (5, 6));
            read.ending = Ending::Read(Some(super::super::samples::seen(n, None)));
            read
        };
        let with = |last: Record| check(&[put("a", 1, (1, 2)), last, tombstone(0)]);
        assert!(with(delete("a", 2, (3, 4))).is_ok());
        assert!(with(put("a", 2, (3, 4))).is_err());
    }

    #[test]
    fn a_delete_that_was_never_answered_explains_an_absent_row() {
        let records = [put("a", 1, (1, 2)), read_nothing("a", (3, 4))];
        assert!(check(&records).is_err());
        let stamped = [(key("a"), summary(2, true))].into();
        assert!(super::check(&records, &Graves::Told(&stamped)).is_ok());
    }

    #[test]
    fn another_region_may_be_behind_unless_each_region_was_asked() {
        let mut write = put("a", 2, (1, 2));
        write.region = RegionId(2);
        let old = read("a", 1, (3, 4));
        assert!(check(&[write.clone(), old.clone()]).is_ok());
        let mut each = old.clone();
        each.level = Level::EachQuorum;
        assert!(check(&[write.clone(), each]).is_err());
        write.level = Level::EachQuorum;
        assert!(check(&[write, old]).is_err());
    }
}
