//! What a write must have seen before it is done: which rows, so that this node's own store holds what a quorum holds.

use crate::model::{Collection, Level, Part, Place, RowKey, Selection, Write, WriteOp};
use bytes::Bytes;

/// Rows asked for at once; a value may be long.
const ROWS_MAX: usize = 8;
/// Rows of a page of a map whose counters are looked for.
const PAGE_ROWS: u32 = 1_000;
/// Bytes of such a page.
const PAGE_BYTES: u32 = 1 << 20;

/// Which rows a write hangs on: all that must be on a quorum, and here, before it goes to the door.
pub(super) fn selections(write: &Write) -> Vec<Selection> {
    let key = &write.key;
    let mut rows = Vec::new();
    let mut selections = Vec::new();
    if write.condition.is_some() {
        rows.push(key.clone());
    }
    match &write.op {
        WriteOp::DeleteSiblings { seen: None } if rows.is_empty() => rows.push(key.clone()),
        WriteOp::Put(_)
        | WriteOp::Delete
        | WriteOp::PutSibling { .. }
        | WriteOp::DeleteSiblings { .. } => {}
        WriteOp::Add { place, id, .. } => {
            rows.extend(id.map(|id| key.with(&Part::Once(place.clone(), id))));
        }
        WriteOp::Reset { place } => selections.push(counter(key, place.clone())),
        WriteOp::Members { remove, .. } => {
            let member = |name: &Bytes| key.with(&Part::Member(name.clone()));
            rows.extend(remove.iter().map(member));
        }
        WriteOp::Fields {
            add, remove, id, ..
        } => {
            for name in remove {
                rows.push(key.with(&Part::Field(name.clone())));
                selections.push(counter(key, Place::Field(name.clone())));
            }
            for (name, _) in add {
                let once = |id| key.with(&Part::Once(Place::Field(name.clone()), id));
                rows.extend(id.map(once));
            }
        }
        WriteOp::Clear { collection, .. } => selections.push(page(key, *collection, None)),
    }
    let chunks = rows.chunks(ROWS_MAX);
    selections.extend(chunks.map(|rows| Selection::Rows(rows.to_vec())));
    selections
}

/// Which rows must be on a quorum before a write is answered that found nothing to do: what it found may be known
/// to this node alone.
pub(super) fn confirmations(write: &Write) -> Vec<Selection> {
    let mut selections = selections(write);
    match &write.op {
        WriteOp::Add {
            place, id: Some(_), ..
        } => selections.push(counter(&write.key, place.clone())),
        WriteOp::Fields {
            add, id: Some(_), ..
        } => {
            let place = |(name, _): &(Bytes, i64)| Place::Field(name.clone());
            selections.extend(add.iter().map(|field| counter(&write.key, place(field))));
        }
        WriteOp::Add { id: None, .. }
        | WriteOp::Fields { id: None, .. }
        | WriteOp::Put(_)
        | WriteOp::Delete
        | WriteOp::PutSibling { .. }
        | WriteOp::DeleteSiblings { seen: None }
        | WriteOp::Reset { .. }
        | WriteOp::Members { .. }
        | WriteOp::Clear { .. } => {}
        WriteOp::DeleteSiblings { seen: Some(_) } => {
            selections.push(Selection::Rows(vec![write.key.clone()]));
        }
    }
    selections
}

/// What is still to be looked at after a page: to clear a map is to reset all its counters, which come first.
pub(super) fn rest(selection: &Selection, next: Option<Bytes>) -> Option<Selection> {
    let Selection::Page {
        key,
        collection: Collection::Map,
        ..
    } = selection
    else {
        return None;
    };
    let next = next.filter(|next| matches!(Part::of(next), Some(Part::Share(..))))?;
    Some(page(key, Collection::Map, Some(next)))
}

/// The level of the read before a write: what the write waits for, the read has seen.
pub(super) fn level(write: Level) -> Level {
    match write {
        Level::One => Level::LocalQuorum,
        Level::LocalQuorum | Level::EachQuorum | Level::All | Level::UnsafeOne => write,
    }
}

fn counter(key: &RowKey, place: Place) -> Selection {
    let key = key.clone();
    Selection::Counter { key, place }
}

/// Of a set, the positions are all that a clear must learn; of a map, its counters too.
fn page(key: &RowKey, collection: Collection, after: Option<Bytes>) -> Selection {
    let rows_max = match collection {
        Collection::Set => 1,
        Collection::Map => PAGE_ROWS,
    };
    Selection::Page {
        key: key.clone(),
        collection,
        after,
        upto: None,
        rows_max,
        bytes_max: PAGE_BYTES,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{KeyspaceId, OpId};

    fn write(op: WriteOp) -> Write {
        Write::new(RowKey::plain(KeyspaceId(1), Bytes::from_static(b"k")), op)
    }

    fn name(name: &'static str) -> Bytes {
        Bytes::from_static(name.as_bytes())
    }

    #[test]
    fn what_needs_to_observe_asks_for_rows_and_nothing_else_does() {
        let fields = |remove: Vec<Bytes>, id| WriteOp::Fields {
            put: vec![(name("p"), name("v"))],
            add: vec![(name("a"), 1)],
            remove,
            id,
        };
        for (op, rows) in [
            (WriteOp::Put(name("v")), 0),
            (WriteOp::Delete, 0),
            (WriteOp::DeleteSiblings { seen: None }, 1),
            (WriteOp::Reset { place: Place::Key }, 1),
            (fields(vec![], None), 0),
            (fields(vec![], Some(OpId(1))), 1),
            (fields(vec![name("r")], None), 2),
        ] {
            let write = write(op);
            assert_eq!(selections(&write).len(), rows, "{write:?}");
            assert_eq!(write.op.needs_to_observe(), rows > 0, "{write:?}");
        }
    }

    #[test]
    fn a_map_is_looked_through_as_far_as_its_counters_go() {
        let key = RowKey::plain(KeyspaceId(1), name("k"));
        let first = page(&key, Collection::Map, None);
        let actor = crate::model::Dot::NONE.actor;
        let counter = Part::Share(Place::Field(name("n")), actor).subkey();
        let counter = super::super::sides::page_end(&counter);
        assert!(rest(&first, Some(counter)).is_some());
        assert!(rest(&first, Some(Part::Field(name("n")).subkey())).is_none());
        assert!(rest(&first, None).is_none());
        let set = page(&key, Collection::Set, None);
        assert!(rest(&set, Some(Part::Member(name("n")).subkey())).is_none());
    }
}
