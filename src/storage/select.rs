//! Rows of one key, as they are asked for together, and counts and lists beside the rows themselves.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use bytes::Bytes;

use crate::model::{
    Answer, Collection, Context, Dot, OpId, Part, PartitionId, Place, Position, Row, RowKey,
    Selection, Wall, collection_prefixes, once_prefix, share_prefix,
};

use super::Error;
use super::engine::{Snapshot, Space};
use super::form::{self, NameForm};
use super::keys;
use super::load::for_each;
use super::partition::Partition;
use super::reader::{ROWS_MAX, Reader, Unreadable, load, visit_span};

/// What is asked of a page.
#[derive(Clone, Copy, Debug)]
struct Page<'a> {
    key: &'a RowKey,
    collection: Collection,
    after: Option<&'a Bytes>,
    upto: Option<&'a Bytes>,
    rows_max: usize,
    bytes_max: usize,
}

impl<S: Snapshot> Reader<S> {
    pub(super) fn select(
        &self,
        selection: &Selection,
        beyond: Option<&Position>,
    ) -> Result<Answer, Unreadable> {
        let key = selection
            .key()
            .ok_or(Unreadable::Asked("no row is named"))?;
        let partition = key.partition(self.partition_count);
        let (snapshot, position): (S, Position) = self.view(partition, Partition::position)?;
        let (rows, next) = match selection {
            Selection::Rows(names) => (select_rows(&snapshot, names)?, None),
            Selection::Counter { key, place } => {
                (select_counter(&snapshot, key, place, beyond)?, None)
            }
            Selection::Page {
                key,
                collection,
                after,
                upto,
                rows_max,
                bytes_max,
            } => {
                let page = Page {
                    key,
                    collection: *collection,
                    after: after.as_ref(),
                    upto: upto.as_ref(),
                    rows_max: usize::try_from(*rows_max).unwrap_or(usize::MAX),
                    bytes_max: usize::try_from(*bytes_max).unwrap_or(usize::MAX),
                };
                select_page(&snapshot, page, beyond)?
            }
        };
        Ok(Answer::Selected {
            position,
            rows,
            next,
        })
    }

    /// Operations of counters: those that are named, and those that a position does not cover.
    pub(super) fn operations(
        &self,
        key: &RowKey,
        places: &BTreeSet<Place>,
        names: &BTreeSet<RowKey>,
        beyond: &[Position],
    ) -> Result<Answer, Unreadable> {
        let partition = key.partition(self.partition_count);
        let (snapshot, position): (S, Position) = self.view(partition, Partition::position)?;
        let mut wanted = names.clone();
        for place in places {
            wanted.extend(unknown(&snapshot, key, place, beyond)?);
        }
        let mut rows = Vec::new();
        for name in wanted {
            rows.extend(load(&snapshot, &name)?.map(|row| (name, row)));
        }
        Ok(Answer::Selected {
            position,
            rows,
            next: None,
        })
    }

    /// Live members or fields; reads all of them.
    pub(super) fn count(
        &self,
        key: &RowKey,
        collection: Collection,
        now: Wall,
    ) -> Result<Answer, Unreadable> {
        let partition = key.partition(self.partition_count);
        let (snapshot, ()) = self.view(partition, |_| ())?;
        let cleared = load_cleared(&snapshot, key, collection)?;
        let mut count = 0;
        let mut counted: Option<Bytes> = None;
        for prefix in collection_prefixes(collection) {
            visit_span(&snapshot, &keys::parts(key, &[*prefix]), |key, mut row| {
                if let Some((_, cleared)) = &cleared {
                    row.clear(cleared);
                }
                match row {
                    Row::Siblings(row) => count += u64::from(row.winner(now).is_some()),
                    // A counter is there if any of its shares is.
                    Row::Share(share) => {
                        let group = group_of(&key.subkey);
                        if !share.is_reset() && counted != group {
                            counted = group;
                            count += 1;
                        }
                    }
                    Row::Register(_)
                    | Row::Once(_)
                    | Row::Clear(_)
                    | Row::Expiry(_)
                    | Row::Conflict(_) => {}
                }
                ControlFlow::Continue(())
            })?;
        }
        Ok(Answer::Count(count))
    }

    /// Summaries of all tombstones of a partition, page by page.
    pub(super) fn graves(
        &self,
        partition: PartitionId,
        after: Option<&Bytes>,
        rows_max: usize,
    ) -> Result<Answer, Unreadable> {
        let (snapshot, ()) = self.view(partition, |_| ())?;
        let mut span = keys::graves_span(partition);
        if let Some(after) = after {
            span = span.after(after.to_vec());
        }
        let rows_max = rows_max.clamp(1, ROWS_MAX);
        let mut found: Vec<(Vec<u8>, Bytes)> = Vec::new();
        let mut next = None;
        if !span.is_void() {
            snapshot.range(Space::Meta, span.start(), span.end(), &mut |key, value| {
                if found.len() == rows_max {
                    next = found.last().map(|(key, _)| Bytes::copy_from_slice(key));
                    return ControlFlow::Break(());
                }
                found.push((key.to_vec(), value));
                ControlFlow::Continue(())
            })?;
        }
        let mut rows = Vec::new();
        for (stored, value) in found {
            let name: NameForm = form::open(Space::Meta, &stored, &value)?;
            let key = name.into_key(partition, self.partition_count);
            let row = load(&snapshot, &key)?;
            rows.extend(row.map(|row| (key, row.summary())));
        }
        Ok(Answer::Graves { rows, next })
    }
}

/// The row of a collection's clear, and what it covers.
pub(super) fn load_cleared<S: Snapshot>(
    snapshot: &S,
    key: &RowKey,
    collection: Collection,
) -> Result<Option<(RowKey, Context)>, Error> {
    let key = key.with(&Part::Clear(collection));
    Ok(match load(snapshot, &key)? {
        Some(Row::Clear(clear)) => Some((key, clear.cleared)),
        Some(_) | None => None,
    })
}

/// A row as a reader may see it: without what was cleared and is not swept yet.
pub(super) fn load_seen<S: Snapshot>(snapshot: &S, key: &RowKey) -> Result<Option<Row>, Error> {
    let Some(mut row) = load(snapshot, key)? else {
        return Ok(None);
    };
    if key.subkey.is_empty() {
        return Ok(Some(row));
    }
    let collection = key.part().and_then(|part| part.collection());
    if let Some(collection) = collection
        && let Some((_, cleared)) = load_cleared(snapshot, key, collection)?
    {
        row.clear(&cleared);
        if row.is_cleared_by(&cleared) {
            return Ok(None);
        }
    }
    Ok(Some(row))
}

fn select_rows<S: Snapshot>(snapshot: &S, names: &[RowKey]) -> Result<Vec<(RowKey, Row)>, Error> {
    let mut rows = Vec::new();
    for key in names {
        rows.extend(load_seen(snapshot, key)?.map(|row| (key.clone(), row)));
    }
    Ok(rows)
}

fn select_counter<S: Snapshot>(
    snapshot: &S,
    key: &RowKey,
    place: &Place,
    beyond: Option<&Position>,
) -> Result<Vec<(RowKey, Row)>, Error> {
    let mut rows = operations(snapshot, key, place, beyond)?;
    visit_span(
        snapshot,
        &keys::parts(key, &share_prefix(place)),
        |key, row| {
            rows.push((key, row));
            ControlFlow::Continue(())
        },
    )?;
    Ok(rows)
}

/// Operations of a counter that were applied more than once, or that are not all known at a position.
fn operations<S: Snapshot>(
    snapshot: &S,
    key: &RowKey,
    place: &Place,
    beyond: Option<&Position>,
) -> Result<Vec<(RowKey, Row)>, Error> {
    let mut names = repeated(snapshot, key, place)?;
    if let Some(beyond) = beyond {
        names.extend(unknown(snapshot, key, place, std::slice::from_ref(beyond))?);
    }
    let mut rows = Vec::new();
    for name in names {
        let row = load(snapshot, &name)?;
        let row = row.filter(|row| matches!(row, Row::Once(_)));
        rows.extend(row.map(|row| (name, row)));
    }
    Ok(rows)
}

/// Operations of a counter of which one of the positions does not cover all changes.
fn unknown<S: Snapshot>(
    snapshot: &S,
    key: &RowKey,
    place: &Place,
    beyond: &[Position],
) -> Result<BTreeSet<RowKey>, Error> {
    let prefix = once_prefix(place);
    let mut found = BTreeSet::new();
    let mut span = keys::operations(key, &prefix);
    while let Some(Dot { actor, .. }) = first(snapshot, &span)? {
        let known = beyond.iter().map(|position| position.reach(actor).complete);
        let known = known.min().unwrap_or(u64::MAX);
        let lacking = keys::operations_of(key, &prefix, actor, known, u64::MAX);
        for_each(snapshot, Space::Meta, &lacking, |stored, value| {
            let id: OpId = form::open(Space::Meta, stored, value)?;
            found.insert(key.with(&Part::Once(place.clone(), id)));
            Ok(())
        })?;
        let last = Dot { actor, n: u64::MAX };
        span = span.after(keys::operation(key, &prefix, last));
    }
    Ok(found)
}

/// The change at the end of the first name in a span.
fn first<S: Snapshot>(snapshot: &S, span: &keys::Span) -> Result<Option<Dot>, Error> {
    let mut dot = None;
    if !span.is_void() {
        snapshot.range(Space::Meta, span.start(), span.end(), &mut |key, _| {
            dot = keys::parse_dot(key);
            ControlFlow::Break(())
        })?;
    }
    Ok(dot)
}

/// Operations of a counter that were applied more than once.
fn repeated<S: Snapshot>(
    snapshot: &S,
    key: &RowKey,
    place: &Place,
) -> Result<BTreeSet<RowKey>, Error> {
    let mut names = BTreeSet::new();
    let span = keys::repeated_span(key, &once_prefix(place));
    for_each(snapshot, Space::Meta, &span, |stored, value| {
        form::open::<()>(Space::Meta, stored, value)?;
        names.extend(keys::parse_repeated(stored));
        Ok(())
    })?;
    Ok(names)
}

type Found = (Vec<(RowKey, Row)>, Option<Bytes>);

/// A page being filled.
#[derive(Debug, Default)]
struct Filling<'a> {
    /// Where those stand who merge it.
    beyond: Option<&'a Position>,
    rows: Vec<(RowKey, Row)>,
    /// Rows that are no tombstones.
    live: usize,
    bytes: usize,
    looked_at: usize,
    /// The last subkey looked at, and its group.
    last: Option<Bytes>,
    group: Option<Bytes>,
}

fn select_page<S: Snapshot>(
    snapshot: &S,
    page: Page<'_>,
    beyond: Option<&Position>,
) -> Result<Found, Error> {
    let clear = load_cleared(snapshot, page.key, page.collection)?;
    let mut filling = Filling {
        beyond,
        ..Filling::default()
    };
    if let Some((key, _)) = &clear {
        let row = load(snapshot, key)?;
        filling.rows.extend(row.map(|row| (key.clone(), row)));
    }
    let cleared = clear.map(|(_, cleared)| cleared);
    for prefix in collection_prefixes(page.collection) {
        let next = fill(snapshot, page, *prefix, cleared.as_ref(), &mut filling)?;
        end_group(snapshot, page.key, &mut filling)?;
        if next.is_some() {
            return Ok((filling.rows, next));
        }
    }
    Ok((filling.rows, None))
}

/// Adds the rows under a prefix; says where to go on if the page is full.
fn fill<S: Snapshot>(
    snapshot: &S,
    page: Page<'_>,
    prefix: u8,
    cleared: Option<&Context>,
    filling: &mut Filling<'_>,
) -> Result<Option<Bytes>, Error> {
    let mut span = keys::parts(page.key, &[prefix]);
    if let Some(after) = page.after {
        let subkey = end_of_group(after);
        let after = keys::row(&RowKey {
            subkey,
            ..page.key.clone()
        });
        span = span.after(after);
    }
    let upto = page.upto.map(end_of_group);
    let mut next = None;
    let mut outcome = Ok(());
    visit_span(snapshot, &span, |key, mut row| {
        if upto.as_ref().is_some_and(|upto| key.subkey > *upto) {
            return ControlFlow::Break(());
        }
        let group = group_of(&key.subkey);
        if group.is_none() || group != filling.group {
            let is_full = filling.live >= page.rows_max.max(1)
                || filling.bytes >= page.bytes_max
                || filling.looked_at >= ROWS_MAX;
            if is_full && filling.looked_at > 0 {
                next = filling.last.clone();
                return ControlFlow::Break(());
            }
            outcome = end_group(snapshot, page.key, filling);
            if outcome.is_err() {
                return ControlFlow::Break(());
            }
            filling.group = group;
        }
        filling.looked_at += 1;
        filling.last = Some(key.subkey.clone());
        if let Some(cleared) = cleared {
            row.clear(cleared);
            if row.is_cleared_by(cleared) {
                return ControlFlow::Continue(());
            }
        }
        filling.live += usize::from(!row.is_tombstone());
        filling.bytes += key.size() + row.size();
        filling.rows.push((key, row));
        ControlFlow::Continue(())
    })?;
    outcome?;
    Ok(next)
}

/// Adds what belongs to the counter whose shares were added last.
fn end_group<S: Snapshot>(
    snapshot: &S,
    key: &RowKey,
    filling: &mut Filling<'_>,
) -> Result<(), Error> {
    if let Some(name) = filling.group.take() {
        let rows = operations(snapshot, key, &Place::Field(name), filling.beyond)?;
        let bytes = rows.iter().map(|(key, row)| key.size() + row.size());
        filling.bytes += bytes.sum::<usize>();
        filling.rows.extend(rows);
    }
    Ok(())
}

/// The field of a counter's share.
fn group_of(subkey: &Bytes) -> Option<Bytes> {
    match Part::of(subkey) {
        Some(Part::Share(Place::Field(name), _)) => Some(name),
        Some(_) | None => None,
    }
}

/// The last subkey that belongs with this one: a replica may know shares of a counter that another does not.
fn end_of_group(subkey: &Bytes) -> Bytes {
    let Some(name) = group_of(subkey) else {
        return subkey.clone();
    };
    let mut end = share_prefix(&Place::Field(name)).to_vec();
    end.extend_from_slice(&[u8::MAX; 12]);
    Bytes::from(end)
}
