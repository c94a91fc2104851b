//! What a client sees of the rows of one key.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{Actor, Once, Part, Place, Row, RowKey, Share, Wall, counter_value};

/// What stands under a field of a map.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum FieldValue {
    /// A register, by its last writer.
    Register(Bytes),
    /// A counter.
    Counter(i128),
}

/// The value of the counter at a place, out of its rows (see [`super::Selection::Counter`]); nothing if nobody has
/// added to it since it was last reset.
pub fn counter(rows: &[(RowKey, Row)], place: &Place) -> Option<i128> {
    let mut shares: BTreeMap<Actor, &Share> = BTreeMap::new();
    let mut repeated: Vec<&Once> = Vec::new();
    for (key, row) in rows {
        match (key.part(), row) {
            (Some(Part::Share(at, actor)), Row::Share(share)) if at == *place => {
                shares.insert(actor, share);
            }
            (Some(Part::Once(at, _)), Row::Once(once)) if at == *place => repeated.push(once),
            _ => {}
        }
    }
    if shares.values().all(|share| share.is_reset()) {
        return None;
    }
    Some(counter_value(&shares, repeated.into_iter()))
}

/// The members of a set that are there at this time, in order, out of its rows.
pub fn members(rows: &[(RowKey, Row)], now: Wall) -> Vec<Bytes> {
    let member = |(key, row): &(RowKey, Row)| match (key.part(), row) {
        (Some(Part::Member(name)), Row::Siblings(row)) => row.winner(now).map(|_| name),
        _ => None,
    };
    rows.iter().filter_map(member).collect()
}

/// The fields of a map that are there at this time, counters before registers, out of its rows.
pub fn fields(rows: &[(RowKey, Row)], now: Wall) -> Vec<(Bytes, FieldValue)> {
    let mut counters: Vec<Bytes> = Vec::new();
    let mut registers = Vec::new();
    for (key, row) in rows {
        match (key.part(), row) {
            (Some(Part::Share(Place::Field(name), _)), _) if counters.last() != Some(&name) => {
                counters.push(name);
            }
            (Some(Part::Field(name)), Row::Siblings(row)) => {
                let value = row.winner(now).and_then(|version| version.value.clone());
                registers.extend(value.map(|value| (name, FieldValue::Register(value))));
            }
            _ => {}
        }
    }
    let counter = |name: Bytes| {
        let value = counter(rows, &Place::Field(name.clone()))?;
        Some((name, FieldValue::Counter(value)))
    };
    let mut fields: Vec<(Bytes, FieldValue)> = counters.into_iter().filter_map(counter).collect();
    fields.extend(registers);
    fields
}
