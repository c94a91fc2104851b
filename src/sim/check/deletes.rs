//! Tombstones go in the end (P6).

use crate::model::{Once, Part, Row, RowKey};
use crate::sim::history::{key_words, row_words};

use super::{Dump, incomplete};

/// No replica keeps a tombstone when all replicas have been up for a while; but for shares of a counter in which an
/// operation is whose time is not over.
pub(super) fn check_collected(dumps: &[Dump]) -> Result<(), String> {
    for dump in dumps {
        let mut tombstones = dump.rows.iter().filter(|(_, row)| row.is_tombstone());
        let left = tombstones.find(|(key, _)| !has_operation(dump, key));
        if let Some((key, row)) = left {
            let (node, key) = (dump.node, key_words(key));
            let row = row_words(Some(row));
            return Err(format!(
                "n{node} keeps the tombstone of {key}: {row}; incomplete: {}",
                incomplete(dumps, dump.partition)
            ));
        }
    }
    Ok(())
}

/// Whether a row is a share of a counter in which some operation is that is not spent.
fn has_operation(dump: &Dump, key: &RowKey) -> bool {
    let Some(Part::Share(place, actor)) = key.part() else {
        return false;
    };
    dump.rows.iter().any(|(other, row)| {
        let is_of = matches!(other.part(), Some(Part::Once(at, _)) if at == place);
        let names = |once: &Once| once.applied.keys().any(|dot| dot.actor == actor);
        let is_open = matches!(row, Row::Once(once) if !once.is_spent && names(once));
        is_of && is_open && (other.keyspace, &other.key) == (key.keyspace, &key.key)
    })
}

#[cfg(test)]
mod tests {
    use super::super::samples::{key, partition, row};
    use super::*;
    use crate::model::{Position, RegionId};

    #[test]
    fn a_tombstone_that_stays_is_found() {
        let dump = |token| Dump {
            node: 0,
            region: RegionId(1),
            partition: partition(),
            rows: [(key("a"), row(1, token))].into(),
            root: 0,
            position: Position::default(),
        };
        assert!(check_collected(&[dump(Some(1))]).is_ok());
        assert!(check_collected(&[dump(None)]).is_err());
    }
}
