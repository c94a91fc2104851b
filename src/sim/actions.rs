//! What clients do: an action as it is sent, and what the answer to it shows.
//!
//! It reads rows as a door to clients does: what has expired is not there.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::model::{
    Collection, Condition, Context, FieldValue, OpId, Row, RowKey, Selection, Wall, Write, WriteOp,
    counter, fields, members,
};
use crate::protocol::{Operation, Outcome, Written};

use super::history::{
    Action, Ending, FieldSeen, Record, name_of, number_of, seen, token_of, value_of,
};

/// A page is large enough for any collection of these small worlds.
const PAGE_ROWS: u32 = 10_000;
const PAGE_BYTES: u32 = 1 << 24;

fn names(numbers: &[u8]) -> Vec<Bytes> {
    numbers.iter().copied().map(name_of).collect()
}

/// An action as it is sent, its value filled up to `value_bytes`; `seen` is the context of the read that it names.
pub(crate) fn operation(
    record: &Record,
    value_bytes: usize,
    seen: Option<Context>,
    expires: Option<Wall>,
) -> Operation {
    let key = record.key.clone();
    let op = match &record.action {
        Action::Get => return Operation::Get { key },
        Action::Count(place) => {
            let place = place.clone();
            let selection = Selection::Counter { key, place };
            return Operation::Select { selection };
        }
        Action::List(collection) => return list(key, *collection),
        Action::Put(token) => WriteOp::Put(value_of(*token, value_bytes)),
        Action::Delete => WriteOp::Delete,
        Action::PutSibling { token, .. } => {
            let value = value_of(*token, value_bytes);
            WriteOp::PutSibling { value, seen }
        }
        Action::DeleteSiblings { .. } => WriteOp::DeleteSiblings { seen },
        Action::Add { place, delta, id } => WriteOp::Add {
            place: place.clone(),
            delta: *delta,
            id: id.map(|id| OpId(u128::from(id))),
        },
        Action::Reset(place) => WriteOp::Reset {
            place: place.clone(),
        },
        Action::Members { add, remove } => WriteOp::Members {
            add: names(add),
            remove: names(remove),
        },
        Action::Fields { put, add, remove } => WriteOp::Fields {
            put: put
                .iter()
                .map(|(name, token)| (name_of(*name), value_of(*token, value_bytes)))
                .collect(),
            add: add.iter().map(|(name, n)| (name_of(*name), *n)).collect(),
            remove: names(remove),
            id: None,
        },
        Action::Clear(collection) => WriteOp::Clear {
            collection: *collection,
            seen: Context::default(),
        },
    };
    let mut write = Write::new(key, op);
    write.expires = expires;
    write.condition = record.wishes.condition.map(Condition::State);
    if let Some(session) = &record.wishes.session {
        write.after = Some(session.clone())
            .filter(|session| !session.is_empty())
            .map(Box::new);
    }
    Operation::Write(Box::new(write))
}

/// Reads a whole collection.
pub(crate) fn list(key: RowKey, collection: Collection) -> Operation {
    let selection = Selection::Page {
        key,
        collection,
        after: None,
        upto: None,
        rows_max: PAGE_ROWS,
        bytes_max: PAGE_BYTES,
    };
    Operation::Select { selection }
}

/// How an operation ended, as a client sees it at this time; nothing if that is no answer to it.
pub(crate) fn ending(record: &Record, outcome: &Outcome, now: Wall) -> Option<Ending> {
    let is_write = record.is_write();
    Some(match outcome {
        Outcome::Written(written) if is_write => written_ending(record, written)?,
        Outcome::Read(row) if record.action == Action::Get => read_ending(row.as_ref(), now)?,
        Outcome::Selected { rows, .. } => selected_ending(&record.action, rows, now)?,
        Outcome::Denied(_) if is_write => Ending::Failed,
        Outcome::Refused(_) | Outcome::Unavailable(_) => Ending::Failed,
        Outcome::Unknown(_) => Ending::Unknown,
        Outcome::NotYet if record.wishes.session.is_some() => Ending::NotYet,
        Outcome::NotYet if record.wishes.fresh_as_of.is_some() => Ending::NotYet,
        Outcome::Written(_)
        | Outcome::Read(_)
        | Outcome::Denied(_)
        | Outcome::NotYet
        | Outcome::Counted(_)
        | Outcome::Reached
        | Outcome::Page { .. } => return None,
    })
}

fn written_ending(record: &Record, written: &Written) -> Option<Ending> {
    match record.action {
        Action::Put(_) | Action::Delete => written.summary.clone().map(Ending::Written),
        Action::PutSibling { .. }
        | Action::DeleteSiblings { .. }
        | Action::Add { .. }
        | Action::Reset(_)
        | Action::Members { .. }
        | Action::Fields { .. }
        | Action::Clear(_) => Some(Ending::Done),
        Action::Get | Action::Count(_) | Action::List(_) => None,
    }
}

fn read_ending(row: Option<&Row>, now: Wall) -> Option<Ending> {
    match row {
        None => Some(Ending::Read(None)),
        Some(row @ Row::Register(version)) => {
            let mut seen = seen(row);
            if !version.is_live(now) {
                seen.token = None;
                seen.summary.is_tombstone = true;
            }
            Some(Ending::Read(Some(seen)))
        }
        Some(Row::Siblings(row)) => {
            let live = row.versions().iter().filter(|version| version.is_live(now));
            Some(Ending::Siblings(
                live.filter_map(token_of).collect(),
                row.context(),
            ))
        }
        Some(Row::Share(_) | Row::Once(_) | Row::Clear(_) | Row::Expiry(_) | Row::Conflict(_)) => {
            None
        }
    }
}

fn selected_ending(action: &Action, rows: &[(RowKey, Row)], now: Wall) -> Option<Ending> {
    match action {
        Action::Count(place) => Some(Ending::Counted(counter(rows, place))),
        Action::List(Collection::Set) => Some(Ending::Members(members_of(rows, now))),
        Action::List(Collection::Map) => Some(Ending::Fields(fields_of(rows, now))),
        Action::Get
        | Action::Put(_)
        | Action::Delete
        | Action::PutSibling { .. }
        | Action::DeleteSiblings { .. }
        | Action::Add { .. }
        | Action::Reset(_)
        | Action::Members { .. }
        | Action::Fields { .. }
        | Action::Clear(_) => None,
    }
}

fn members_of(rows: &[(RowKey, Row)], now: Wall) -> BTreeSet<u8> {
    members(rows, now).iter().filter_map(number_of).collect()
}

fn fields_of(rows: &[(RowKey, Row)], now: Wall) -> BTreeMap<u8, FieldSeen> {
    let mut all: BTreeMap<u8, FieldSeen> = BTreeMap::new();
    for (name, value) in fields(rows, now) {
        let Some(number) = number_of(&name) else {
            continue;
        };
        let field = all.entry(number).or_default();
        match value {
            FieldValue::Register(value) => {
                let token = value.first_chunk::<8>();
                field.token = token.map(|token| u64::from_be_bytes(*token));
            }
            FieldValue::Counter(value) => field.count = Some(value),
        }
    }
    all
}

/// What the replicas at rest show of a key: an answer to each kind of read.
pub(crate) fn at_rest(
    rows: &BTreeMap<RowKey, Row>,
    key: &RowKey,
    action: &Action,
    now: Wall,
) -> Option<Ending> {
    let rows: Vec<(RowKey, Row)> = rows
        .range(key.clone()..)
        .take_while(|(row, _)| row.key == key.key && row.keyspace == key.keyspace)
        .map(|(key, row)| (key.clone(), row.clone()))
        .collect();
    if *action == Action::Get {
        let plain = rows.iter().find(|(row, _)| row.subkey.is_empty());
        return read_ending(plain.map(|(_, row)| row), now);
    }
    selected_ending(action, &rows, now)
}
