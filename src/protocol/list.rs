//! Listing a keyspace in token order, partition by partition, from this node's own rows (level `one`). A page that
//! finds little is told all the same after so many scans, or when its time is short: with the last row that was looked
//! at, whether it is shown or not, so that who asks again gets further each time.

use std::collections::BTreeMap;

use crate::model::{Answer, KeyspaceId, PartitionId, Query, Row, RowKey, Time, Wanted};

use super::core::{Core, Origin, Purpose, reply};
use super::message::{Outcome, Unavailable};
use super::step::Output;
use super::timers::Timer;

/// Scans for one page. Each looks at thousands of rows, and whatever else reads much waits behind it: so a listing that
/// finds nothing must not keep the store at it until the end of the keyspace.
const SCANS_MAX: usize = 16;

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
    pub(super) deadline: Time,
}

#[derive(Debug)]
struct List {
    /// Where it goes on is kept up to date.
    request: ListRequest,
    rows: Vec<(RowKey, Row)>,
    bytes: usize,
    /// Scans that were answered.
    scans: usize,
    /// No scan begins from then on: what is left of the time is for the last one, and for the way back.
    until: Time,
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
        core.timers.set(request.deadline, Timer::List(id));
        let half = request.deadline.since(core.time) / 2;
        let list = List {
            request,
            rows: Vec::new(),
            bytes: 0,
            scans: 0,
            until: core.time.after(half),
        };
        core.query(outputs, Purpose::List(id), list.query());
        self.0.insert(id, list);
    }

    /// Rows came: go on with the next scan, or answer.
    pub(super) fn on_rows(
        &mut self,
        core: &mut Core,
        id: u64,
        answer: Answer,
        outputs: &mut Vec<Output>,
    ) {
        let Answer::Scan { rows, next } = answer else {
            self.end(core, id, Unavailable::Replicas, outputs);
            return;
        };
        let Some(list) = self.0.get_mut(&id) else {
            return;
        };
        list.take(rows, next);
        if list.goes_on(core) {
            core.query(outputs, Purpose::List(id), list.query());
        } else {
            self.end(core, id, Unavailable::Replicas, outputs);
        }
    }

    /// The deadline has passed; the scan under way is for nobody.
    pub(super) fn on_deadline(&mut self, core: &mut Core, id: u64, outputs: &mut Vec<Output>) {
        self.end(core, id, Unavailable::Deadline, outputs);
    }

    /// Answers with what there is and where to go on; if nothing was looked at yet, that would be where it began, and
    /// the reason is told.
    fn end(&mut self, core: &mut Core, id: u64, reason: Unavailable, outputs: &mut Vec<Output>) {
        let Some(list) = self.0.remove(&id) else {
            return;
        };
        core.timers.clear(list.request.deadline, Timer::List(id));
        let next = (!list.is_at_end(core)).then_some((list.request.index, list.request.after));
        let outcome = match list.scans {
            0 => Outcome::Unavailable(reason),
            1.. => Outcome::Page {
                rows: list.rows,
                next,
            },
        };
        reply(outputs, list.request.origin, outcome);
    }
}

impl List {
    fn partition(&self) -> PartitionId {
        PartitionId {
            keyspace: self.request.keyspace,
            index: self.request.index,
        }
    }

    /// The next scan.
    fn query(&self) -> Query {
        let request = &self.request;
        Query::Scan {
            partition: self.partition(),
            wanted: request.wanted,
            after: request.after.clone(),
            rows_max: request.rows_max.saturating_sub(self.rows.len()).max(1),
            bytes_max: request.bytes_max.saturating_sub(self.bytes).max(1),
        }
    }

    /// Takes in what a scan found, and where it stopped: nowhere at the end of its partition.
    fn take(&mut self, rows: Vec<(RowKey, Row)>, stopped: Option<RowKey>) {
        let sizes = rows.iter().map(|(key, row)| key.size() + row.size());
        self.bytes += sizes.sum::<usize>();
        self.rows.extend(rows);
        self.scans += 1;
        if stopped.is_none() {
            self.request.index += 1;
        }
        self.request.after = stopped;
    }

    fn is_at_end(&self, core: &Core) -> bool {
        self.request.index >= core.placement.partition_count()
    }

    /// Whether there is more to be looked at here, room on the page, and time.
    fn goes_on(&self, core: &Core) -> bool {
        let replica = core.replicas.get(&self.partition());
        let is_here = replica.is_some_and(|replica| replica.is_serving);
        let is_full =
            self.rows.len() >= self.request.rows_max || self.bytes >= self.request.bytes_max;
        let is_over = self.scans >= SCANS_MAX || core.time >= self.until;
        !self.is_at_end(core) && is_here && !is_full && !is_over
    }
}
