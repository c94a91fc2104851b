//! This replica's side of what peers ask and repair here.

use std::collections::BTreeMap;

use crate::model::{Actor, Answer, Change, NodeId, Position, Query, Row, RowKey, Selection, Token};

use super::core::{Core, Purpose, send};
use super::message::{Lane, Message, Outcome, Unavailable};
use super::reconcile::{is_reasonable, within};
use super::sides::Side;
use super::step::Output;

/// Bytes of rows beyond which they do not fit a message.
const SELECTED_BYTES_MAX: usize = 18 << 20;

/// A peer reads rows here: several of them when it reconciles.
pub(super) fn on_read(
    core: &mut Core,
    peer: NodeId,
    id: u64,
    keys: Vec<RowKey>,
    whole: bool,
    outputs: &mut Vec<Output>,
) {
    let lane = lane(keys.len());
    let is_serving = |key: &RowKey| {
        let replica = core.replicas.get(&core.partition(key));
        replica.is_some_and(|replica| replica.is_serving)
    };
    if !keys.iter().all(is_serving) || !is_reasonable(&keys) {
        send(outputs, peer, lane, Message::CannotRead { id });
        return;
    }
    let purpose = Purpose::PeerRead {
        peer,
        id,
        whole,
        lane,
    };
    core.query(outputs, purpose, Query::Rows(keys));
}

/// A peer gives rows to be merged here; it is told when the last of them is on disk.
pub(super) fn on_repair(
    core: &mut Core,
    peer: NodeId,
    id: u64,
    rows: Vec<(RowKey, Row)>,
    outputs: &mut Vec<Output>,
) {
    let lane = lane(rows.len());
    let last = rows.len().saturating_sub(1);
    for (at, (key, row)) in rows.into_iter().enumerate() {
        let purpose = Purpose::PeerRepair {
            peer,
            id,
            lane,
            is_last: at == last,
        };
        core.change(outputs, purpose, Change::Repair { key, row });
    }
}

/// A peer asks for digests, or for a listing of rows or tombstones.
pub(super) fn on_digest_ask(
    core: &mut Core,
    peer: NodeId,
    id: u64,
    query: Query,
    outputs: &mut Vec<Output>,
) {
    core.query(outputs, Purpose::PeerDigest { peer, id }, query);
}

/// A peer selects parts of a key here.
pub(super) fn on_select(
    core: &mut Core,
    peer: NodeId,
    id: u64,
    selection: Selection,
    whole: Option<Position>,
    outputs: &mut Vec<Output>,
) {
    let partition = selection.key().map(|key| core.partition(key));
    let replica = partition.and_then(|partition| core.replicas.get(&partition));
    let is_serving = replica.is_some_and(|replica| replica.is_serving);
    if !is_serving || !is_of_one_key(&selection) {
        send(outputs, peer, Lane::Request, Message::CannotRead { id });
        return;
    }
    let purpose = Purpose::PeerSelect {
        peer,
        id,
        whole: whole.is_some(),
    };
    let beyond = whole;
    core.query(outputs, purpose, Query::Select { selection, beyond });
}

/// Whether a selection is of parts of one key that there are.
pub(super) fn is_of_one_key(selection: &Selection) -> bool {
    let Some(first) = selection.key() else {
        return false;
    };
    let name = |key: &RowKey| (key.keyspace, key.token, key.key.clone());
    let is_whole_key = !first.key.is_empty() && first.token == Token::of(&first.key);
    is_whole_key
        && match selection {
            Selection::Rows(rows) => rows
                .iter()
                .all(|key| name(key) == name(first) && key.part().is_some()),
            Selection::Counter { .. } | Selection::Page { .. } => true,
        }
}

/// The floor by which the partition of some rows last collected tombstones, if there are any that remember such.
fn floor(core: &Core, side: &Side) -> BTreeMap<Actor, u64> {
    let mut rows = side.rows.iter();
    let first = rows.find(|(_, row)| matches!(row, Row::Siblings(_)));
    let replica = first.and_then(|(key, _)| core.replicas.get(&core.partition(key)));
    replica.map_or_else(BTreeMap::new, |replica| replica.collected.clone())
}

/// What a peer selected.
pub(super) fn selected(core: &Core, id: u64, whole: bool, answer: Answer) -> Message {
    let Answer::Selected {
        position,
        rows,
        next,
    } = answer
    else {
        return Message::CannotRead { id };
    };
    let size = rows.iter().map(|(key, row)| key.size() + row.size());
    if whole && size.sum::<usize>() > SELECTED_BYTES_MAX {
        return Message::CannotRead { id };
    }
    let side = Side::new(position, rows, next.clone());
    let collected = floor(core, &side);
    let state = side.state(&collected);
    let rows = if whole {
        side.rows.into_iter().collect()
    } else {
        Vec::new()
    };
    Message::Selected {
        id,
        position: side.position,
        state,
        collected,
        rows,
        next,
    }
}

/// What a peer wanted to read.
pub(super) fn rows(core: &Core, id: u64, whole: bool, answer: Answer) -> Message {
    let Answer::Rows(rows) = answer else {
        return Message::CannotRead { id };
    };
    if whole {
        let rows = within(rows, core.limits.batch_bytes_max);
        return Message::Rows { id, rows };
    }
    let summary = |row: &Option<Row>| row.as_ref().map(Row::summary);
    let summaries = rows.iter().map(summary).collect();
    Message::Summaries { id, summaries }
}

/// The digests or listing that a peer asked for.
pub(super) fn digest(id: u64, answer: Answer) -> Message {
    match answer {
        Answer::Digest { position, hashes } => Message::DigestTell {
            id,
            position,
            hashes,
        },
        Answer::Leaf {
            position,
            rows,
            next,
        } => Message::LeafTell {
            id,
            position,
            rows,
            next,
        },
        Answer::Graves { rows, next } => Message::GravesTell { id, rows, next },
        Answer::Rows(_)
        | Answer::Log(_)
        | Answer::Selected { .. }
        | Answer::Count(_)
        | Answer::Scan { .. }
        | Answer::Sums { .. }
        | Answer::Unreadable { .. } => Message::CannotRead { id },
    }
}

/// Many rows go on the lane of reconciliation, so that they do not delay clients.
fn lane(rows: usize) -> Lane {
    if rows > 1 {
        Lane::Reconcile
    } else {
        Lane::Request
    }
}

/// How many members or fields were counted here.
pub(super) fn count(answer: &Answer) -> Outcome {
    if let Answer::Count(count) = answer {
        Outcome::Counted(*count)
    } else {
        Outcome::Unavailable(Unavailable::Replicas)
    }
}
