//! Replicas at rest hold the same rows and equal digests, and listings show just these rows (P3, P9).

use std::collections::BTreeMap;

use crate::model::{PartitionId, RegionId, Row, RowKey};
use crate::sim::history::{key_words, row_words};

use super::{Dump, incomplete};

/// All replicas of a partition, in all regions, must be equal.
pub(super) fn check(dumps: &[Dump]) -> Result<(), String> {
    let mut first: BTreeMap<PartitionId, &Dump> = BTreeMap::new();
    for dump in dumps {
        let Some(other) = first.get(&dump.partition) else {
            first.insert(dump.partition, dump);
            continue;
        };
        let at = format!(
            "partition {}, n{} and n{}",
            dump.partition, other.node, dump.node
        );
        if let Some(words) = difference(&other.rows, &dump.rows) {
            let behind = incomplete(dumps, dump.partition);
            return Err(format!("{at}: {words}; incomplete: {behind}"));
        }
        if other.root != dump.root {
            return Err(format!("{at}: equal rows, different digests"));
        }
    }
    Ok(())
}

fn difference(one: &BTreeMap<RowKey, Row>, two: &BTreeMap<RowKey, Row>) -> Option<String> {
    let mut keys: Vec<&RowKey> = one.keys().chain(two.keys()).collect();
    keys.sort();
    keys.dedup();
    keys.into_iter()
        .find(|key| !is_same(one.get(*key), two.get(*key)))
        .map(|key| {
            let (here, there) = (row_words(one.get(key)), row_words(two.get(key)));
            format!("{} is {here} here, {there} there", key_words(key))
        })
}

/// Whether two replicas hold the same state of a row. What is gone from siblings, or
/// was reset before a share began anew, they may forget at different times. Who has moved the cut of expiry to where it
/// is, is no part of it: two may do so, and a refill takes no row whose state is the same. Nor is which of an operation's shares
/// are gone: who has collected a share notes it; where it began anew before that, it shows by itself.
pub(crate) fn is_same(one: Option<&Row>, two: Option<&Row>) -> bool {
    match (one, two) {
        (Some(Row::Siblings(one)), Some(Row::Siblings(two))) => one.versions() == two.versions(),
        (Some(Row::Share(one)), Some(Row::Share(two))) => {
            (one.own, one.observed()) == (two.own, two.observed())
        }
        (Some(Row::Once(one)), Some(Row::Once(two))) => {
            (&one.applied, one.is_spent) == (&two.applied, two.is_spent)
        }
        (Some(Row::Expiry(one)), Some(Row::Expiry(two))) => one.upto == two.upto,
        (one, two) => one == two,
    }
}

/// What clients listed in a region must be the rows with values that its replicas hold, each once.
pub(super) fn check_listings(
    listings: &[(RegionId, Vec<(RowKey, Row)>)],
    expected: &BTreeMap<RegionId, BTreeMap<RowKey, Row>>,
) -> Result<(), String> {
    let nothing = BTreeMap::new();
    for (region, listed) in listings {
        let expected = expected.get(region).unwrap_or(&nothing);
        let rows: BTreeMap<RowKey, Row> = listed.iter().cloned().collect();
        if rows.len() != listed.len() {
            return Err(format!("a listing in region {region:?} shows a row twice"));
        }
        if let Some(words) = difference(expected, &rows) {
            return Err(format!(
                "stored and listed in region {region:?} differ: {words}"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::samples::{key, partition, row};
    use super::*;
    use crate::model::Position;

    fn dump(node: usize, n: u64, root: u128) -> Dump {
        Dump {
            node,
            region: RegionId(1),
            partition: partition(),
            rows: [(key("a"), row(n, Some(n)))].into(),
            root,
            position: Position::default(),
        }
    }

    #[test]
    fn different_rows_or_digests_are_found() {
        assert!(check(&[dump(0, 1, 7), dump(1, 1, 7)]).is_ok());
        assert!(check(&[dump(0, 1, 7), dump(1, 2, 7)]).is_err());
        assert!(check(&[dump(0, 1, 7), dump(1, 1, 8)]).is_err());
    }

    #[test]
    fn listings_show_each_row_once() {
        let rows = vec![(key("a"), row(1, Some(1)))];
        let expected = [(RegionId(1), rows.iter().cloned().collect())].into();
        assert!(check_listings(&[(RegionId(1), rows.clone())], &expected).is_ok());
        assert!(check_listings(&[(RegionId(1), Vec::new())], &expected).is_err());
        let twice = [rows.clone(), rows].concat();
        assert!(check_listings(&[(RegionId(1), twice)], &expected).is_err());
    }
}
