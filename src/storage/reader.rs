//! Answers from the last committed state.

use std::ops::{Bound, ControlFlow};

use crate::digest::{Tree, leaf_of, row_hash};
use crate::model::{
    Answer, DigestNode, LogItem, LogPage, LogQuery, PartitionId, Row, RowKey, Wanted,
};

use super::Error;
use super::engine::{Snapshot, Space};
use super::form::{self, NameForm, StoredRow};
use super::keys::{self, Span};
use super::load::{for_each, load_tree};
use super::partition::{Marks, Partition};
use super::published::Shared;
use super::select::load_seen;

/// Log entries whose rows are looked up for one page, also if few of them are still there.
const ENTRIES_MAX: usize = 4096;

/// Rows that one page of a listing or scan looks at, tombstones included.
pub(super) const ROWS_MAX: usize = 8192;

/// A way to ask a store; clones are cheap, and each answer is of one committed state.
#[derive(Debug)]
pub struct Reader<S> {
    pub(super) shared: Shared<S>,
    pub(super) partition_count: u16,
}

impl<S> Clone for Reader<S> {
    fn clone(&self) -> Self {
        Self {
            shared: self.shared.clone(),
            partition_count: self.partition_count,
        }
    }
}

/// Why a question cannot be answered.
#[derive(Debug)]
pub(super) enum Unreadable {
    /// It asks for what is not here, or cannot be.
    Asked(&'static str),
    /// The stored state cannot be read.
    Failed(Error),
}

pub(super) const NOT_HERE: Unreadable = Unreadable::Asked("this node does not hold the partition");

impl From<Error> for Unreadable {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl Unreadable {
    /// In words.
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::Asked(reason) => reason,
            Self::Failed(error) => match error {
                Error::Corrupt { what } | Error::Foreign { what } => what,
                Error::Lost { .. } => "batches are missing",
                Error::Engine { deed, .. }
                | Error::File { deed, .. }
                | Error::Panicked { deed, .. }
                | Error::Hangs { deed, .. } => deed,
                Error::InUse | Error::Thread(_) | Error::Stopped | Error::Damaged { .. } => {
                    "the store has stopped"
                }
            },
        }
    }
}

impl<S: Snapshot> Reader<S> {
    pub(super) fn new(shared: Shared<S>, partition_count: u16) -> Self {
        Self {
            shared,
            partition_count,
        }
    }

    /// Answers a question; blocks on the disk.
    pub fn answer(&self, query: &crate::model::Query) -> Answer {
        let answer = self.try_answer(query);
        answer.unwrap_or_else(|why| Answer::Unreadable {
            reason: why.reason(),
        })
    }

    /// As [`Self::answer`], with the reason if there is none.
    pub(super) fn try_answer(&self, query: &crate::model::Query) -> Result<Answer, Unreadable> {
        use crate::model::Query;
        match query {
            Query::Rows(rows) => self.rows(rows),
            Query::Log(query) => self.log(query),
            Query::Digest { partition, nodes } => self.digest(*partition, nodes),
            Query::Leaf {
                partition,
                run,
                rows_max,
            } => self.leaves(*partition, run, *rows_max),
            Query::Sums {
                partition,
                run,
                cuts,
                rows_max,
            } => self.sums(*partition, run, cuts, *rows_max),
            Query::Scan {
                partition,
                wanted,
                after,
                rows_max,
                bytes_max,
            } => {
                let limits = (*rows_max, *bytes_max);
                self.scan(*partition, *wanted, after.as_ref(), limits)
            }
            Query::Select { selection, beyond } => self.select(selection, beyond.as_ref()),
            Query::Operations {
                key,
                places,
                names,
                beyond,
            } => self.operations(key, places, names, beyond),
            Query::Count {
                key,
                collection,
                now,
            } => self.count(key, *collection, *now),
            Query::Graves {
                partition,
                after,
                rows_max,
            } => self.graves(*partition, after.as_ref(), *rows_max),
        }
    }

    pub(super) fn shared(&self) -> &Shared<S> {
        &self.shared
    }

    /// The digest of everything in a partition; nothing if it is not here.
    pub fn root(&self, partition: PartitionId) -> Option<u128> {
        let published = self.shared.read();
        Some(published.partitions.get(&partition)?.tree.root())
    }

    /// The hashes of the children of a node of a partition's digest; nothing for a leaf or if it is not here.
    pub fn children(&self, partition: PartitionId, node: DigestNode) -> Option<Vec<u128>> {
        let published = self.shared.read();
        published.partitions.get(&partition)?.tree.children(node)
    }

    /// Recomputes the digests of all partitions from their rows, and says which differ from those that are
    /// stored or in memory. It reads everything: for tests and scrubbing.
    ///
    /// # Errors
    /// A record is damaged or the engine fails.
    pub fn verify_digests(&self) -> Result<Vec<PartitionId>, Error> {
        let (snapshot, trees) = {
            let published = self.shared.read();
            let partitions = published.partitions.iter();
            let trees: Vec<_> = partitions
                .map(|(id, known)| (*id, known.tree.clone()))
                .collect();
            (published.snapshot.clone(), trees)
        };
        let mut wrong = Vec::new();
        for (partition, tree) in trees {
            let stored = load_tree(&snapshot, partition)?;
            let computed = self.compute_tree(&snapshot, partition)?;
            if tree != stored || tree != computed {
                wrong.push(partition);
            }
        }
        Ok(wrong)
    }

    /// Visits every row of a partition in order, tombstones included: for tests, checks and backups.
    ///
    /// # Errors
    /// A record is damaged or the engine fails.
    pub fn for_each_row(
        &self,
        partition: PartitionId,
        mut visit: impl FnMut(RowKey, Row),
    ) -> Result<(), Error> {
        let snapshot = self.shared.read().snapshot.clone();
        let span = keys::partition_rows(partition, self.partition_count);
        for_each(&snapshot, Space::Rows, &span, |key, value| {
            let (key, stored) = form::open_named_row(key, value)?;
            visit(key, stored.row);
            Ok(())
        })
    }

    fn compute_tree(&self, snapshot: &S, partition: PartitionId) -> Result<Tree, Error> {
        let mut tree = Tree::new();
        let span = keys::partition_rows(partition, self.partition_count);
        for_each(snapshot, Space::Rows, &span, |key, value| {
            let (key, stored) = form::open_named_row(key, value)?;
            let leaf = leaf_of(&key, self.partition_count);
            tree.add(leaf, row_hash(&key, &stored.row));
            Ok(())
        })?;
        Ok(tree)
    }

    /// A snapshot, and what goes with it of a partition.
    pub(super) fn view<T>(
        &self,
        partition: PartitionId,
        take: impl FnOnce(&Partition) -> T,
    ) -> Result<(S, T), Unreadable> {
        let published = self.shared.read();
        let known = published.partitions.get(&partition).ok_or(NOT_HERE)?;
        Ok((published.snapshot.clone(), take(&known.partition)))
    }

    fn rows(&self, rows: &[RowKey]) -> Result<Answer, Unreadable> {
        let snapshot = {
            let published = self.shared.read();
            let is_here = rows.iter().all(|key| {
                let partition = key.partition(self.partition_count);
                published.partitions.contains_key(&partition)
            });
            if !is_here {
                return Err(NOT_HERE);
            }
            published.snapshot.clone()
        };
        let found: Result<Vec<_>, Error> =
            rows.iter().map(|key| load_seen(&snapshot, key)).collect();
        Ok(Answer::Rows(found?))
    }

    fn log(&self, query: &LogQuery) -> Result<Answer, Unreadable> {
        let (snapshot, marks) = self.view(query.partition, |known| known.marks(query.actor))?;
        let Marks { reach, trimmed, .. } = marks;
        let head = reach.applied;
        let end = query.upto.min(head);
        let span = keys::log_span(query.partition, query.actor, query.after.max(trimmed), end);
        let mut items: Vec<LogItem> = Vec::new();
        let (mut bytes, mut entries) = (0, 0);
        let mut stopped_at = None;
        let mut outcome: Result<(), Error> = Ok(());
        let mut visit = |key: &[u8], value: &[u8]| -> Result<bool, Error> {
            let n = keys::parse_number(key).unwrap_or(0);
            let name: NameForm = form::open(Space::Log, key, value)?;
            let key = name.into_key(query.partition, self.partition_count);
            if let Some(row) = load(&snapshot, &key)? {
                let item = LogItem { n, key, row };
                bytes += item.size();
                items.push(item);
            }
            entries += 1;
            let is_full = bytes >= query.bytes_max || entries >= ENTRIES_MAX;
            if is_full {
                stopped_at = Some(n);
            }
            Ok(is_full)
        };
        if end > query.after.max(trimmed) {
            snapshot.range(
                Space::Log,
                span.start(),
                span.end(),
                &mut |key, value| match visit(key, &value) {
                    Ok(false) => ControlFlow::Continue(()),
                    Ok(true) => ControlFlow::Break(()),
                    Err(error) => {
                        outcome = Err(error);
                        ControlFlow::Break(())
                    }
                },
            )?;
            outcome?;
        }
        let to = stopped_at.unwrap_or(end).max(query.after);
        Ok(Answer::Log(LogPage {
            to,
            complete: to == head && reach.complete == head && trimmed <= query.after,
            complete_upto: reach.complete,
            trimmed,
            items,
        }))
    }

    fn scan(
        &self,
        partition: PartitionId,
        wanted: Wanted,
        after: Option<&RowKey>,
        (rows_max, bytes_max): (usize, usize),
    ) -> Result<Answer, Unreadable> {
        let (snapshot, ()) = self.view(partition, |_| ())?;
        let span = keys::partition_rows(partition, self.partition_count);
        let mut rows: Vec<(RowKey, Row)> = Vec::new();
        let mut next = None;
        let (mut bytes, mut looked_at) = (0, 0);
        visit_rows(&snapshot, &span, after, |key, stored| {
            looked_at += 1;
            let last = key.clone();
            if is_wanted(&key, &stored.row, wanted) {
                bytes += key.size() + stored.row.size();
                rows.push((key, stored.row));
            }
            let is_full =
                rows.len() >= rows_max.max(1) || bytes >= bytes_max || looked_at >= ROWS_MAX;
            if is_full {
                next = Some(last);
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        })?;
        Ok(Answer::Scan { rows, next })
    }
}

/// Whether a listing shows this row.
fn is_wanted(key: &RowKey, row: &Row, wanted: Wanted) -> bool {
    let is_kind = match wanted {
        Wanted::Values => key.subkey.is_empty() && !key.key.is_empty(),
        Wanted::Conflicts => matches!(row, Row::Conflict(_)),
    };
    is_kind && !row.is_tombstone()
}

pub(super) fn load<S: Snapshot>(snapshot: &S, key: &RowKey) -> Result<Option<Row>, Error> {
    let stored = keys::row(key);
    let Some(value) = snapshot.get(Space::Rows, &stored)? else {
        return Ok(None);
    };
    Ok(Some(form::open_row(&stored, &value)?.row))
}

/// Visits the rows of a range that come after a row, in order.
pub(super) fn visit_rows<S: Snapshot>(
    snapshot: &S,
    span: &Span,
    after: Option<&RowKey>,
    mut visit: impl FnMut(RowKey, StoredRow) -> ControlFlow<()>,
) -> Result<(), Error> {
    let after = after.map(keys::row).filter(|after| *after >= span.from);
    let start = match &after {
        Some(after) => Bound::Excluded(after.as_slice()),
        None => span.start(),
    };
    if let (Some(after), Some(to)) = (&after, &span.to)
        && after >= to
    {
        return Ok(());
    }
    let mut outcome = Ok(());
    snapshot.range(
        Space::Rows,
        start,
        span.end(),
        &mut |key, value| match form::open_named_row(key, &value) {
            Ok((key, stored)) => visit(key, stored),
            Err(error) => {
                outcome = Err(error);
                ControlFlow::Break(())
            }
        },
    )?;
    outcome
}

/// Visits the rows of a range in order.
pub(super) fn visit_span<S: Snapshot>(
    snapshot: &S,
    span: &Span,
    mut visit: impl FnMut(RowKey, Row) -> ControlFlow<()>,
) -> Result<(), Error> {
    if span.is_void() {
        return Ok(());
    }
    visit_rows(snapshot, span, None, |key, stored| visit(key, stored.row))
}
