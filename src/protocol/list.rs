//! Listing a keyspace in token order, partition by partition, from this node's own rows (level `one`).

use std::collections::BTreeMap;

use crate::model::{Answer, KeyspaceId, PartitionId, Query, Row, RowKey, Wanted};

use super::core::{Core, Origin, Purpose, reply};
use super::message::{Outcome, Unavailable};
use super::step::Output;

/// A page of a listing, as it was asked for.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct ListRequest {
    pub(super) origin: Origin,
    pub(super) keyspace: KeyspaceId,
    pub(super) wanted: Wanted,
    pub(super) index: u16,
    pub(super) after: Option<RowKey>,
    pub(super) rows_max: usize,
    pub(super) bytes_max: usize,
}

#[derive(Debug)]
struct List {
    request: ListRequest,
    rows: Vec<(RowKey, Row)>,
    bytes: usize,
}

/// All listings under way.
#[derive(Debug, Default)]
pub(super) struct Lists(BTreeMap<u64, List>);

impl Lists {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Begins a page at a partition that serves here.
    pub(super) fn start(
        &mut self,
        core: &mut Core,
        request: ListRequest,
        outputs: &mut Vec<Output>,
    ) {
        let id = core.id();
        self.0.insert(
            id,
            List {
                request,
                rows: Vec::new(),
                bytes: 0,
            },
        );
        self.ask(core, id, outputs);
    }

    /// Rows came: go on with the next partition while it serves here and the page has room.
    pub(super) fn on_rows(
        &mut self,
        core: &mut Core,
        id: u64,
        answer: Answer,
        outputs: &mut Vec<Output>,
    ) {
        let Answer::Scan { rows, next } = answer else {
            if let Some(list) = self.0.remove(&id) {
                reply(
                    outputs,
                    list.request.origin,
                    Outcome::Unavailable(Unavailable::Replicas),
                );
            }
            return;
        };
        let Some(list) = self.0.get_mut(&id) else {
            return;
        };
        list.bytes += rows
            .iter()
            .map(|(key, row)| key.size() + row.size())
            .sum::<usize>();
        list.rows.extend(rows);
        let request = &mut list.request;
        match next {
            Some(after) => request.after = Some(after),
            None => {
                request.index += 1;
                request.after = None;
            }
        }
        let partition = PartitionId {
            keyspace: request.keyspace,
            index: request.index,
        };
        let is_end = request.index >= core.placement.partition_count();
        let is_full = list.rows.len() >= request.rows_max || list.bytes >= request.bytes_max;
        let is_here = core
            .replicas
            .get(&partition)
            .is_some_and(|replica| replica.is_serving);
        if !is_end && !is_full && is_here {
            self.ask(core, id, outputs);
            return;
        }
        if let Some(list) = self.0.remove(&id) {
            let next = (!is_end).then_some((list.request.index, list.request.after));
            reply(
                outputs,
                list.request.origin,
                Outcome::Page {
                    rows: list.rows,
                    next,
                },
            );
        }
    }

    fn ask(&mut self, core: &mut Core, id: u64, outputs: &mut Vec<Output>) {
        let Some(list) = self.0.get(&id) else { return };
        let query = Query::Scan {
            partition: PartitionId {
                keyspace: list.request.keyspace,
                index: list.request.index,
            },
            wanted: list.request.wanted,
            after: list.request.after.clone(),
            rows_max: list.request.rows_max.saturating_sub(list.rows.len()).max(1),
            bytes_max: list.request.bytes_max.saturating_sub(list.bytes).max(1),
        };
        core.query(outputs, Purpose::List(id), query);
    }
}
