//! Coordinating reads: the whole row from one replica, summaries from others; what differs is merged and
//! written back to the replicas that were asked, and only then answered.
//!
//! Summaries do not tell a replica that has collected a delete from one that has not met it. Such a read is left to
//! those that go by positions (see [`super::select`]).

use std::collections::BTreeMap;

use crate::model::{Answer, Change, NodeId, PartitionId, Query, Row, RowKey, Selection, Summary};

use crate::model::planted::{Guard, is_left_out};

use super::core::{Core, Counter, Origin, Purpose, reply, send};
use super::message::{Lane, Message, Outcome, Unavailable};
use super::read_quorum::{Own, ReadQuorum, Terms};
use super::select::{Asker, SelectRequest};
use super::sides::is_hidden;
use super::step::Output;
use super::timers::Timer;

/// A read as it was asked for.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct ReadRequest {
    pub(super) origin: Origin,
    pub(super) key: RowKey,
    pub(super) terms: Terms,
}

/// How far a read has come.
#[derive(Debug)]
enum Stage {
    /// Waiting for summaries.
    Asking,
    /// Waiting for the whole row from the replica that has the newest.
    Fetching(NodeId),
    /// Waiting until a quorum has the merged row on disk.
    Repairing { row: Row },
}

#[derive(Debug)]
struct Read {
    request: ReadRequest,
    quorum: ReadQuorum,
    own: Own<Option<Row>>,
    /// What the replicas said, this one included.
    said: BTreeMap<NodeId, Option<Summary>>,
    stage: Stage,
}

/// All reads that this node coordinates now.
#[derive(Debug, Default)]
pub(super) struct Reads {
    reads: BTreeMap<u64, Read>,
    /// Reads that hang on what the positions of the replicas cover.
    doubtful: Vec<SelectRequest>,
}

impl Reads {
    pub(super) fn len(&self) -> usize {
        self.reads.len() + self.doubtful.len()
    }

    /// Reads that need the positions of the replicas to be answered.
    pub(super) fn take_doubtful(&mut self) -> Vec<SelectRequest> {
        std::mem::take(&mut self.doubtful)
    }

    /// Begins a read on a partition that serves here.
    pub(super) fn start(
        &mut self,
        core: &mut Core,
        partition: PartitionId,
        request: ReadRequest,
        outputs: &mut Vec<Output>,
    ) {
        let replica = core.replicas.get(&partition);
        let first = |replica| ReadQuorum::first(core, replica, request.terms.level);
        let Some(quorum) = replica.and_then(first) else {
            fail(core, &request, Unavailable::Replicas, outputs);
            return;
        };
        let id = core.id();
        core.timers.set(request.terms.deadline, Timer::Read(id));
        core.query(
            outputs,
            Purpose::Read(id),
            Query::Rows(vec![request.key.clone()]),
        );
        for node in quorum.others(core.me) {
            ask(outputs, node, id, &request.key, false);
        }
        quorum.set_hedge(core, Timer::Hedge(id));
        let stage = Stage::Asking;
        let read = Read {
            request,
            quorum,
            own: Own::Awaited,
            said: BTreeMap::new(),
            stage,
        };
        self.reads.insert(id, read);
    }

    /// Somebody is slow: ask the other replicas too.
    pub(super) fn on_hedge(&mut self, core: &mut Core, id: u64, outputs: &mut Vec<Output>) {
        if let Some(read) = self.reads.get(&id) {
            let has_answered = |node| read.said.contains_key(&node);
            read.quorum.on_silence(core, has_answered);
        }
        self.ask_rest(core, id, outputs);
    }

    /// A replica is gone, with what it was asked: others are.
    pub(super) fn on_peer_lost(
        &mut self,
        core: &mut Core,
        peer: NodeId,
        outputs: &mut Vec<Output>,
    ) {
        let asked = self.reads.iter().filter(|(_, read)| read.waits_for(peer));
        let ids: Vec<u64> = asked.map(|(id, _)| *id).collect();
        for id in ids {
            let Some(read) = self.reads.get_mut(&id) else {
                continue;
            };
            if matches!(read.stage, Stage::Repairing { .. }) {
                self.restart(core, id, outputs);
                continue;
            }
            read.quorum.on_lost(peer);
            read.said.remove(&peer);
            read.stage = Stage::Asking;
            self.ask_rest(core, id, outputs);
        }
    }

    /// A replica is up: reads that wait for too few ask it.
    pub(super) fn on_peer_up(&mut self, core: &Core, outputs: &mut Vec<Output>) {
        let overdue = |read: &Read| read.quorum.is_overdue(core.time);
        let ids = self.reads.iter().filter(|(_, read)| overdue(read));
        let ids: Vec<u64> = ids.map(|(id, _)| *id).collect();
        for id in ids {
            self.ask_rest(core, id, outputs);
        }
    }

    /// Asks the replicas that were not asked yet.
    fn ask_rest(&mut self, core: &Core, id: u64, outputs: &mut Vec<Output>) {
        let Some(read) = self.reads.get_mut(&id) else {
            return;
        };
        if !matches!(read.stage, Stage::Asking) {
            return;
        }
        for node in read.quorum.rest(core) {
            ask(outputs, node, id, &read.request.key, false);
        }
    }

    /// This node's own row was read.
    pub(super) fn on_own(
        &mut self,
        core: &mut Core,
        id: u64,
        answer: Answer,
        outputs: &mut Vec<Output>,
    ) {
        let Some(read) = self.reads.get_mut(&id) else {
            return;
        };
        if let Answer::Rows(rows) = answer {
            let row = rows.into_iter().next().flatten();
            read.said.insert(core.me, row.as_ref().map(Row::summary));
            read.own = Own::Here(row);
        } else {
            read.own = Own::Unreadable;
            self.ask_rest(core, id, outputs);
        }
        self.settle(core, id, outputs);
    }

    /// A replica told its summary.
    pub(super) fn on_summary(
        &mut self,
        core: &mut Core,
        id: u64,
        from: NodeId,
        summary: Option<Summary>,
        outputs: &mut Vec<Output>,
    ) {
        let Some(read) = self.reads.get_mut(&id) else {
            return;
        };
        if matches!(read.stage, Stage::Asking) && read.quorum.contains(from) {
            read.quorum.on_answer(core, from);
            read.said.insert(from, summary);
            self.settle(core, id, outputs);
        }
    }

    /// A replica sent its whole row.
    pub(super) fn on_row(
        &mut self,
        core: &mut Core,
        id: u64,
        from: NodeId,
        row: Option<Row>,
        outputs: &mut Vec<Output>,
    ) {
        let Some(read) = self.reads.get_mut(&id) else {
            return;
        };
        if !matches!(read.stage, Stage::Fetching(asked) if asked == from) {
            return;
        }
        let Some(theirs) = row else {
            // It was collected meanwhile.
            self.restart(core, id, outputs);
            return;
        };
        read.said.insert(from, Some(theirs.summary()));
        let mut merged = theirs;
        if let Some(Some(mine)) = read.own.here() {
            merged.merge(mine);
        }
        self.repair(core, id, merged, outputs);
    }

    /// What was said is no longer true: all are asked anew.
    fn restart(&mut self, core: &mut Core, id: u64, outputs: &mut Vec<Output>) {
        if let Some(read) = self.end(core, id) {
            core.count(Counter::ReadsRestarted, 1);
            self.ask_anew(core, read.request, outputs);
        }
    }

    /// A session has met something at one replica that a quorum may not have, and the next read of the session may be one
    /// of a quorum: so this one is made that, too.
    fn ask_more(&mut self, core: &mut Core, id: u64, outputs: &mut Vec<Output>) {
        if let Some(read) = self.end(core, id) {
            let terms = read.request.terms.at_quorum();
            let request = ReadRequest {
                terms,
                ..read.request
            };
            self.ask_anew(core, request, outputs);
        }
    }

    /// Begins a read once more: under another id, so that what still answers the first does not count.
    fn ask_anew(&mut self, core: &mut Core, request: ReadRequest, outputs: &mut Vec<Output>) {
        let partition = core.partition(&request.key);
        self.start(core, partition, request, outputs);
    }

    /// A replica cannot answer: ask the others.
    pub(super) fn on_cannot(
        &mut self,
        core: &Core,
        id: u64,
        from: NodeId,
        outputs: &mut Vec<Output>,
    ) {
        if let Some(read) = self.reads.get_mut(&id)
            && matches!(read.stage, Stage::Fetching(asked) if asked == from)
        {
            read.said.remove(&from);
            read.stage = Stage::Asking;
        }
        self.ask_rest(core, id, outputs);
    }

    /// A replica has the merged row on disk, or something newer that came meanwhile. Then the row may never have been
    /// the newest there, and a writer of this region may yet stamp it again, above what has replaced it: it is not shown.
    pub(super) fn on_repaired(
        &mut self,
        core: &mut Core,
        id: u64,
        from: NodeId,
        held: Option<&Summary>,
        outputs: &mut Vec<Output>,
    ) {
        let Some(read) = self.reads.get_mut(&id) else {
            return;
        };
        let Stage::Repairing { row } = &read.stage else {
            return;
        };
        if core.is_here(from) && is_hidden(held, row) {
            self.restart(core, id, outputs);
            return;
        }
        let summary = Some(row.summary());
        read.said.insert(from, summary.clone());
        if read
            .quorum
            .is_met(|node| read.said.get(&node) == Some(&summary))
        {
            let row = row.clone();
            self.finish(core, id, Some(row), outputs);
        }
    }

    /// The deadline has passed; a read that was not answered has no effect that counts.
    pub(super) fn on_deadline(&mut self, core: &mut Core, id: u64, outputs: &mut Vec<Output>) {
        if let Some(read) = self.end(core, id) {
            fail(core, &read.request, Unavailable::Deadline, outputs);
        }
    }

    /// If enough replicas have spoken: answer, or fetch what is newest.
    fn settle(&mut self, core: &mut Core, id: u64, outputs: &mut Vec<Output>) {
        let Some(read) = self.reads.get_mut(&id) else {
            return;
        };
        if read.own.is_awaited() {
            return;
        }
        let has_spoken = |node| read.said.contains_key(&node);
        if !read.quorum.is_met(has_spoken) && !is_left_out(Guard::ReadQuorum) {
            return;
        }
        let newest = read
            .said
            .iter()
            .filter_map(|(node, summary)| {
                let stamp = summary.as_ref()?.stamp();
                Some((stamp.timestamp, stamp.dot, *node))
            })
            .max();
        let own = read.own.here();
        let row = own.cloned().flatten();
        let mine = row.as_ref().map(Row::summary);
        let is_same = own.is_some() && read.said.values().all(|summary| *summary == mine);
        match (newest, row) {
            (_, row) if is_same => {
                let is_settled = |row: &Row| core.is_settled(&read.request.key, row);
                if read.request.terms.must_be_settled() && !row.as_ref().is_none_or(is_settled) {
                    self.ask_more(core, id, outputs);
                } else {
                    self.finish(core, id, row, outputs);
                }
            }
            (Some((.., node)), _) if read.is_doubtful(node) => self.doubt(core, id),
            (Some((_, dot, _)), Some(row)) if mine.as_ref().is_some_and(|mine| mine.dot == dot) => {
                self.repair(core, id, row, outputs);
            }
            (Some((_, _, node)), _) => {
                read.stage = Stage::Fetching(node);
                ask(outputs, node, id, &read.request.key, true);
            }
            (None, row) => self.finish(core, id, row, outputs),
        }
    }

    /// Brings every replica that spoke to the merged row.
    fn repair(&mut self, core: &mut Core, id: u64, row: Row, outputs: &mut Vec<Output>) {
        let Some(read) = self.reads.get_mut(&id) else {
            return;
        };
        let summary = Some(row.summary());
        let has = |node: NodeId| read.said.get(&node) == Some(&summary);
        let behind: Vec<NodeId> = read
            .said
            .keys()
            .copied()
            .filter(|node| !has(*node))
            .collect();
        if read.quorum.is_met(has) || is_left_out(Guard::WriteBack) {
            self.finish(core, id, Some(row), outputs);
            return;
        }
        core.count(Counter::ReadsRepaired, 1);
        let key = read.request.key.clone();
        for node in &behind {
            if *node == core.me {
                let change = Change::Repair {
                    key: key.clone(),
                    row: row.clone(),
                };
                core.change(outputs, Purpose::ReadRepair(id), change);
            } else {
                let rows = vec![(key.clone(), row.clone())];
                send(outputs, *node, Lane::Request, Message::Repair { id, rows });
            }
        }
        read.stage = Stage::Repairing { row };
    }

    /// Leaves a read to those that go by positions: a repair would not be kept where the delete was collected, and
    /// every read would send it again.
    fn doubt(&mut self, core: &mut Core, id: u64) {
        let request = self.end(core, id).map(|read| read.request);
        self.doubtful.extend(request.map(|request| SelectRequest {
            asker: Asker::Row(request.origin),
            selection: Selection::Rows(vec![request.key]),
            terms: request.terms,
        }));
    }

    fn end(&mut self, core: &mut Core, id: u64) -> Option<Read> {
        let read = self.reads.remove(&id)?;
        core.timers
            .clear(read.request.terms.deadline, Timer::Read(id));
        read.quorum.clear_hedge(core, Timer::Hedge(id));
        Some(read)
    }

    fn finish(&mut self, core: &mut Core, id: u64, row: Option<Row>, outputs: &mut Vec<Output>) {
        let Some(read) = self.end(core, id) else {
            return;
        };
        core.count(Counter::ReadsOk, 1);
        reply(outputs, read.request.origin, Outcome::Read(row));
    }
}

impl Read {
    /// Whether this replica has yet to do something for it.
    fn waits_for(&self, node: NodeId) -> bool {
        match &self.stage {
            Stage::Asking => self.quorum.contains(node) && !self.said.contains_key(&node),
            Stage::Fetching(asked) => *asked == node,
            Stage::Repairing { row } => {
                let said = self.said.get(&node);
                said.is_some_and(|said| said.as_ref() != Some(&row.summary()))
            }
        }
    }

    /// Whether the newest that was told, by this node, is a delete that another has not got, and a quorum has not.
    fn is_doubtful(&self, newest: NodeId) -> bool {
        let newest = self.said.get(&newest);
        let is_delete = newest.is_some_and(|summary| {
            let summary = summary.as_ref();
            summary.is_some_and(|summary| summary.is_tombstone)
        });
        is_delete
            && self.said.values().any(Option::is_none)
            && !self.quorum.is_met(|node| self.said.get(&node) == newest)
    }
}

fn fail(core: &mut Core, request: &ReadRequest, reason: Unavailable, outputs: &mut Vec<Output>) {
    core.count(Counter::ReadsUnavailable, 1);
    reply(outputs, request.origin, Outcome::Unavailable(reason));
}

fn ask(outputs: &mut Vec<Output>, node: NodeId, id: u64, key: &RowKey, whole: bool) {
    send(
        outputs,
        node,
        Lane::Request,
        Message::Read {
            id,
            keys: vec![key.clone()],
            whole,
        },
    );
}
