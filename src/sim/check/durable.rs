//! Every acknowledged write survives, or what won over it does (P1, P4).

use std::collections::BTreeMap;

use crate::model::{Row, RowKey};
use crate::sim::history::{Ending, Record};

/// No key may end with something older than an acknowledged put, and none with nothing after one, unless an
/// acknowledged or unanswered delete may have won.
pub(super) fn check(records: &[Record], state: &BTreeMap<RowKey, Row>) -> Result<(), String> {
    for record in records {
        let Ending::Written(written) = &record.ending else {
            continue;
        };
        match state.get(&record.key) {
            Some(row) => {
                if written.is_newer_than(&row.summary()) {
                    return Err(format!("{row:?} is older than acknowledged {record:?}"));
                }
            }
            None => {
                if !written.is_tombstone && !may_be_deleted_after(records, record) {
                    return Err(format!("nothing is left of {record:?}"));
                }
            }
        }
    }
    Ok(())
}

fn may_be_deleted_after(records: &[Record], put: &Record) -> bool {
    let Ending::Written(written) = &put.ending else {
        return true;
    };
    let deletes = records.iter().filter(|other| {
        other.key == put.key && other.action == crate::sim::history::Action::Delete
    });
    deletes.into_iter().any(|delete| match &delete.ending {
        Ending::Written(deleted) => deleted.is_newer_than(written),
        Ending::Pending | Ending::Unknown => true,
        Ending::Failed | Ending::Read(_) => false,
    })
}

#[cfg(test)]
mod tests {
    use super::super::samples::{delete, key, put, row};
    use super::*;

    #[test]
    fn a_lost_write_is_found() {
        let records = [put("a", 1, (1, 2)), put("a", 2, (3, 4))];
        let state = |n| [(key("a"), row(n, Some(n)))].into();
        assert!(check(&records, &state(2)).is_ok());
        assert!(check(&records, &state(3)).is_ok());
        assert!(check(&records, &state(1)).is_err());
        assert!(check(&records, &BTreeMap::new()).is_err());
    }

    #[test]
    fn a_delete_explains_an_absent_row() {
        let records = [put("a", 1, (1, 2)), delete("a", 2, (3, 4))];
        assert!(check(&records, &BTreeMap::new()).is_ok());
        let records = [delete("a", 1, (1, 2)), put("a", 2, (3, 4))];
        assert!(check(&records, &BTreeMap::new()).is_err());
    }
}
