//! Tombstones go in the end (P6).

use crate::model::{Context, Dot, Once, Part, Row, RowKey};
use crate::sim::history::{key_words, row_words};

use super::{Dump, incomplete};

/// No replica keeps a tombstone when all replicas have been up for a while; but for shares of a counter in which an
/// operation is whose time is not over, and for what names a change that no replica has: it was on a disk that is lost, and the
/// tombstone goes when that node writes again (`docs/reliability.md`).
pub(super) fn check_collected(dumps: &[Dump]) -> Result<(), String> {
    for dump in dumps {
        let mut tombstones = dump.rows.iter().filter(|(_, row)| row.is_tombstone());
        let left = tombstones
            .find(|(key, row)| !has_operation(dump, key) && !names_what_is_lost(dumps, dump, row));
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

fn names_what_is_lost(dumps: &[Dump], dump: &Dump, row: &Row) -> bool {
    let replicas = || {
        dumps
            .iter()
            .filter(|other| other.partition == dump.partition)
    };
    let is_lost = |dot: &Dot| replicas().all(|dump| !dump.position.covers(*dot));
    let seen = match row {
        Row::Siblings(row) => row.context(),
        Row::Clear(clear) => clear.cleared.clone(),
        Row::Register(_) | Row::Share(_) | Row::Once(_) | Row::Expiry(_) | Row::Conflict(_) => {
            Context::default()
        }
    };
    let seen = seen.seen.iter().map(|(actor, n)| Dot {
        actor: *actor,
        n: *n,
    });
    row.dots().into_iter().chain(seen).any(|dot| is_lost(&dot))
}

#[cfg(test)]
mod tests {
    use super::super::samples::{key, partition, row};
    use super::*;
    use crate::model::{Position, Reach, RegionId};

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
        let (value, mut tombstone) = (dump(Some(1)), dump(None));
        assert!(check_collected(std::slice::from_ref(&value)).is_ok());
        assert!(
            check_collected(std::slice::from_ref(&tombstone)).is_ok(),
            "it is lost"
        );
        let dots: Vec<Dot> = tombstone.rows.values().flat_map(Row::dots).collect();
        for Dot { actor, n } in dots {
            tombstone.position.raise(actor, Reach::upto(n));
        }
        assert!(check_collected(&[value, tombstone]).is_err());
    }
}
