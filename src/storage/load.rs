//! What is read when a store is opened, and how it is believed.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use crate::digest::Tree;
use crate::model::{NodeId, PartitionId, Remembered, Row, RowKey};

use super::door::OpenOptions;
use super::engine::{Snapshot, Space};
use super::form::{self, LifeForm, MarksForm, PartitionForm};
use super::partition::Partition;
use super::published::PublishedPartition;
use super::tail::Tail;
use super::{Error, keys};

pub(super) fn load_life<S: Snapshot>(
    snapshot: &S,
    options: &OpenOptions,
) -> Result<Option<LifeForm>, Error> {
    let Some(value) = snapshot.get(Space::Meta, keys::LIFE)? else {
        if !is_empty(snapshot)? {
            return Err(Error::Corrupt {
                what: "there are records, but none says whose",
            });
        }
        return Ok(None);
    };
    let life: LifeForm = form::open(Space::Meta, keys::LIFE, &value)?;
    if life.node != options.node.0 {
        return Err(Error::Foreign {
            what: "it was written by another node",
        });
    }
    if life.partition_count != options.partition_count {
        return Err(Error::Foreign {
            what: "it was written under another number of partitions, which is fixed when a cluster is made",
        });
    }
    Ok(Some(life))
}

fn is_empty<S: Snapshot>(snapshot: &S) -> Result<bool, Error> {
    let mut is_empty = true;
    for space in Space::ALL {
        let all = keys::Span {
            from: Vec::new(),
            to: None,
        };
        snapshot.range(space, all.start(), all.end(), &mut |_, _| {
            is_empty = false;
            ControlFlow::Break(())
        })?;
    }
    Ok(is_empty)
}

/// A life later than the one before, and than one that only the tail remembers: whichever copy of a disk is started,
/// no number is given twice.
pub(super) fn next_life(
    known: Option<LifeForm>,
    tail: Option<Tail>,
    options: &OpenOptions,
) -> LifeForm {
    let millis = (options.wall.0 / 1000) & ((1 << 44) - 1);
    let fresh = (millis << 20) | (options.chance & ((1 << 20) - 1));
    let known = known.map(|life| life.incarnation);
    let last = known.max(tail.map(|tail| tail.incarnation));
    let incarnation = match last {
        Some(last) => fresh.max(last.saturating_add(1)),
        None => fresh,
    };
    LifeForm {
        node: options.node.0,
        incarnation,
        partition_count: options.partition_count,
    }
}

pub(super) fn load_partition<S: Snapshot>(
    snapshot: &S,
    partition: PartitionId,
    count: u16,
) -> Result<PublishedPartition, Error> {
    let mut known = Partition::default();
    let key = keys::partition(partition);
    if let Some(value) = snapshot.get(Space::Meta, &key)? {
        let form: PartitionForm = form::open(Space::Meta, &key, &value)?;
        known.is_serving = form.is_serving;
        known.has_served = form.has_served;
        known.unswept = form.retired.keys().copied().collect();
        known.retired = form.retired;
    }
    let key = keys::row(&RowKey::of_expiry(partition, count));
    if let Some(value) = snapshot.get(Space::Rows, &key)?
        && let Row::Expiry(expiry) = form::open_row(&key, &value)?.row
    {
        known.cut = expiry.upto;
    }
    for_each(
        snapshot,
        Space::Meta,
        &keys::marks_span(partition),
        |key, value| {
            let actor = keys::parse_actor(key).ok_or(Error::Corrupt {
                what: "the name of a record is too short",
            })?;
            let marks: MarksForm = form::open(Space::Meta, key, value)?;
            known.logs.insert(actor, marks.into());
            Ok(())
        },
    )?;
    Ok(PublishedPartition {
        partition: known,
        tree: load_tree(snapshot, partition)?,
    })
}

/// What the other replicas of a partition once told.
pub(super) fn load_remembered<S: Snapshot>(
    snapshot: &S,
    partition: PartitionId,
) -> Result<BTreeMap<NodeId, Remembered>, Error> {
    let mut remembered = BTreeMap::new();
    let span = keys::remembered_span(partition);
    for_each(snapshot, Space::Meta, &span, |key, value| {
        let node = keys::parse_remembered(key).ok_or(Error::Corrupt {
            what: "the name of a record is too short",
        })?;
        remembered.insert(node, form::open(Space::Meta, key, value)?);
        Ok(())
    })?;
    Ok(remembered)
}

/// The digest of a partition, out of its stored leaves.
pub(super) fn load_tree<S: Snapshot>(snapshot: &S, partition: PartitionId) -> Result<Tree, Error> {
    let mut tree = Tree::new();
    for_each(
        snapshot,
        Space::Meta,
        &keys::leaf_span(partition),
        |key, value| {
            let leaf = keys::parse_leaf(key).ok_or(Error::Corrupt {
                what: "the name of a record is too short",
            })?;
            tree.add(leaf, form::open(Space::Meta, key, value)?);
            Ok(())
        },
    )?;
    Ok(tree)
}

/// Visits a range, stopping at the first error.
pub(super) fn for_each<S: Snapshot>(
    snapshot: &S,
    space: Space,
    span: &keys::Span,
    mut visit: impl FnMut(&[u8], &[u8]) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut outcome = Ok(());
    snapshot.range(space, span.start(), span.end(), &mut |key, value| {
        outcome = visit(key, &value);
        if outcome.is_err() {
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    })?;
    outcome
}
