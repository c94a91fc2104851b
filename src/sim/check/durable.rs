//! Every acknowledged write survives, or what won over it does (P1, P4).

use std::collections::BTreeMap;

use crate::model::{Row, RowKey};
use crate::sim::history::{Ending, Record, row_words};

use super::Tombstones;

/// No key may end with something older than an acknowledged write; and with nothing only if a later delete was
/// stamped, acknowledged or not.
pub(super) fn check(
    records: &[Record],
    state: &BTreeMap<RowKey, Row>,
    tombstones: &Tombstones,
) -> Result<(), String> {
    for record in records {
        let Ending::Written(written) = &record.ending else {
            continue;
        };
        match state.get(&record.key) {
            Some(row) => {
                if written.is_newer_than(&row.summary()) {
                    return Err(format!("{} is older than {record}", row_words(Some(row))));
                }
            }
            None => {
                let grave = tombstones.get(&record.key);
                let is_deleted = grave.is_some_and(|grave| !written.is_newer_than(grave));
                if !written.is_tombstone && !is_deleted {
                    return Err(format!("nothing is left of {record}"));
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::samples::{delete, key, put, row, summary};
    use super::*;

    #[test]
    fn a_lost_write_is_found() {
        let records = [put("a", 1, (1, 2)), put("a", 2, (3, 4))];
        let none = Tombstones::new();
        let state = |n| [(key("a"), row(n, Some(n)))].into();
        assert!(check(&records, &state(2), &none).is_ok());
        assert!(check(&records, &state(3), &none).is_ok());
        assert!(check(&records, &state(1), &none).is_err());
        assert!(check(&records, &BTreeMap::new(), &none).is_err());
    }

    #[test]
    fn a_delete_explains_an_absent_row() {
        let records = [put("a", 1, (1, 2)), delete("a", 2, (3, 4))];
        let stamped = |n| [(key("a"), summary(n, true))].into();
        assert!(check(&records, &BTreeMap::new(), &stamped(2)).is_ok());
        let records = [delete("a", 1, (1, 2)), put("a", 2, (3, 4))];
        assert!(check(&records, &BTreeMap::new(), &stamped(1)).is_err());
    }
}
