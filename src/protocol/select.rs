//! Coordinating reads of rows that merge by causality, and of several rows of a key: this node's own, and a hash from
//! the others. What differs is fetched whole and merged by the positions of all, written back until a quorum has it,
//! and only then answered.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::model::{
    Actor, Answer, Change, NodeId, Part, PartitionId, Place, Position, Query, Row, RowKey,
    Selection, Summary,
};

use crate::model::planted::{Guard, is_left_out};

use super::core::{Core, Counter, Origin, Purpose, reply, send};
use super::message::{Lane, Message, Outcome, Unavailable};
use super::read_quorum::{Own, ReadQuorum, Terms};
use super::sides::{Side, is_hidden};
use super::step::Output;
use super::timers::Timer;

/// Bytes of rows in one message of repair, if it holds more than one.
const REPAIR_BYTES: usize = 1 << 20;

/// Who wants to know.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Asker {
    /// A client, who asked for one row.
    Row(Origin),
    /// A client, who asked for a selection.
    Rows(Origin),
    /// A write of this node, which must see it first.
    Write(u64),
}

/// A read as it was asked for.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct SelectRequest {
    pub(super) asker: Asker,
    pub(super) selection: Selection,
    pub(super) terms: Terms,
}

/// What a write has been shown.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Observed {
    /// The write.
    pub(super) write: u64,
    /// What was asked for.
    pub(super) selection: Selection,
    /// What the replicas had applied, all together, and where to go on; nothing if too few of them answered.
    pub(super) seen: Option<(Position, Option<Bytes>)>,
}

/// What a replica said.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Told {
    pub(super) position: Position,
    pub(super) state: u128,
    /// The floor by which it leaves out what was seen go: what one replica knows to be everywhere is.
    pub(super) collected: BTreeMap<Actor, u64>,
    pub(super) rows: Vec<(RowKey, Row)>,
    pub(super) next: Option<Bytes>,
}

#[derive(Debug)]
enum Word {
    /// It told a hash, before this node's own rows were read.
    Early(Told),
    /// It has what this node has.
    Same(Position),
    /// It has something else, which is being fetched.
    Fetching,
    /// All that it has.
    Whole(Side),
}

#[derive(Debug)]
enum Stage {
    Asking,
    /// Waiting for the operations that this node holds beside what was selected, and some replica may lack.
    Completing(Vec<(NodeId, Side)>),
    /// Waiting until a quorum has the merged rows on disk.
    Repairing {
        merged: Side,
        has: BTreeSet<NodeId>,
        /// Messages, or changes, that are on their way.
        pending: BTreeMap<NodeId, usize>,
    },
}

#[derive(Debug)]
struct Select {
    request: SelectRequest,
    /// What the replicas are asked for: more than was wished for, if that hangs on it.
    asking: Selection,
    quorum: ReadQuorum,
    own: Own<Side>,
    said: BTreeMap<NodeId, Word>,
    stage: Stage,
}

/// All such reads that this node coordinates now.
#[derive(Debug, Default)]
pub(super) struct Selects {
    selects: BTreeMap<u64, Select>,
    observed: Vec<Observed>,
}

impl Selects {
    /// Those that clients wait for.
    pub(super) fn len(&self) -> usize {
        let is_client = |select: &&Select| !matches!(select.request.asker, Asker::Write(_));
        self.selects.values().filter(is_client).count()
    }

    /// What writes wanted to see, and have been shown.
    pub(super) fn take_observed(&mut self) -> Vec<Observed> {
        std::mem::take(&mut self.observed)
    }

    /// Begins a read on a partition that serves here.
    pub(super) fn start(
        &mut self,
        core: &mut Core,
        partition: PartitionId,
        request: SelectRequest,
        outputs: &mut Vec<Output>,
    ) {
        let Some(replica) = core.replicas.get(&partition) else {
            self.fail(core, request, Unavailable::Replicas, outputs);
            return;
        };
        let Some(quorum) = ReadQuorum::first(core, replica, request.terms.level) else {
            self.fail(core, request, Unavailable::Replicas, outputs);
            return;
        };
        let id = core.id();
        let asking = widened(&request.selection);
        core.timers.set(request.terms.deadline, Timer::Select(id));
        let own = Query::Select {
            selection: asking.clone(),
            beyond: None,
        };
        core.query(outputs, Purpose::Select(id), own);
        quorum.set_hedge(core, Timer::SelectHedge(id));
        let select = Select {
            request,
            asking,
            quorum,
            own: Own::Awaited,
            said: BTreeMap::new(),
            stage: Stage::Asking,
        };
        if !select.is_page() {
            select.ask_all(core.me, id, outputs);
        }
        self.selects.insert(id, select);
    }

    /// This node's own rows were read.
    pub(super) fn on_own(
        &mut self,
        core: &mut Core,
        id: u64,
        answer: Answer,
        outputs: &mut Vec<Output>,
    ) {
        let Some(select) = self.selects.get_mut(&id) else {
            return;
        };
        if let Answer::Selected {
            position,
            rows,
            next,
        } = answer
        {
            let side = Side::new(position, rows, next);
            select.end_page(side.next.as_ref());
            select.own = Own::Here(side);
        } else {
            select.own = Own::Unreadable;
        }
        if select.is_page() {
            select.ask_all(core.me, id, outputs);
        }
        if select.own.here().is_none() {
            self.ask_rest(core, id, outputs);
        }
        self.settle(core, id, outputs);
    }

    /// Somebody is slow: ask the other replicas too.
    pub(super) fn on_hedge(&mut self, core: &mut Core, id: u64, outputs: &mut Vec<Output>) {
        if let Some(select) = self.selects.get(&id).filter(|select| !select.is_page()) {
            let has_answered = |node| select.said.contains_key(&node);
            select.quorum.on_silence(core, has_answered);
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
        let asked = self
            .selects
            .iter()
            .filter(|(_, select)| select.waits_for(peer));
        let ids: Vec<u64> = asked.map(|(id, _)| *id).collect();
        for id in ids {
            let Some(select) = self.selects.get_mut(&id) else {
                continue;
            };
            if matches!(select.stage, Stage::Repairing { .. }) {
                self.restart(core, id, outputs);
                continue;
            }
            select.quorum.on_lost(peer);
            select.said.remove(&peer);
            self.ask_rest(core, id, outputs);
        }
    }

    /// A replica is up: reads that wait for too few ask it.
    pub(super) fn on_peer_up(&mut self, core: &Core, outputs: &mut Vec<Output>) {
        let overdue = |select: &Select| select.quorum.is_overdue(core.time);
        let ids = self.selects.iter().filter(|(_, select)| overdue(select));
        let ids: Vec<u64> = ids.map(|(id, _)| *id).collect();
        for id in ids {
            self.ask_rest(core, id, outputs);
        }
    }

    /// Asks the replicas that were not asked yet.
    fn ask_rest(&mut self, core: &Core, id: u64, outputs: &mut Vec<Output>) {
        let Some(select) = self.selects.get_mut(&id) else {
            return;
        };
        let is_early = select.is_page() && select.own.is_awaited();
        if !matches!(select.stage, Stage::Asking) || is_early {
            return;
        }
        for node in select.quorum.rest(core) {
            select.ask(node, id, None, outputs);
        }
    }

    /// A replica told what it has.
    pub(super) fn on_told(
        &mut self,
        core: &mut Core,
        id: u64,
        from: NodeId,
        told: Told,
        outputs: &mut Vec<Output>,
    ) {
        let Some(select) = self.selects.get_mut(&id) else {
            return;
        };
        if !matches!(select.stage, Stage::Asking) || !select.quorum.contains(from) {
            return;
        }
        match select.said.get(&from) {
            None => {
                if !select.is_page() {
                    select.quorum.on_answer(core, from);
                }
                select.said.insert(from, Word::Early(told));
            }
            Some(Word::Fetching) => {
                let state = told.state;
                let side = Side::new(told.position, told.rows, told.next);
                // A hash that was repeated is not the rows.
                if !side.is_of(state) {
                    return;
                }
                select.said.insert(from, Word::Whole(side));
            }
            Some(Word::Early(_) | Word::Same(_) | Word::Whole(_)) => return,
        }
        self.settle(core, id, outputs);
    }

    /// A replica cannot answer: ask the others.
    pub(super) fn on_cannot(
        &mut self,
        core: &Core,
        id: u64,
        from: NodeId,
        outputs: &mut Vec<Output>,
    ) {
        if let Some(select) = self.selects.get_mut(&id) {
            select.said.remove(&from);
        }
        self.ask_rest(core, id, outputs);
    }

    /// A replica has a part of the merged rows on disk. If a register is not the newest there any more, all are asked anew; of
    /// other rows, one that is not there was had, and collected.
    pub(super) fn on_repaired(
        &mut self,
        core: &mut Core,
        id: u64,
        from: NodeId,
        held: Option<&Summary>,
        outputs: &mut Vec<Output>,
    ) {
        let Some(select) = self.selects.get_mut(&id) else {
            return;
        };
        let Stage::Repairing {
            merged,
            has,
            pending,
        } = &mut select.stage
        else {
            return;
        };
        // The door does a write by this node's own row, whatever that is by then.
        let is_shown = !matches!(select.request.asker, Asker::Write(_)) && core.is_here(from);
        if is_shown && merged.register().is_some_and(|row| is_hidden(held, row)) {
            self.restart(core, id, outputs);
            return;
        }
        let Some(left) = pending.get_mut(&from) else {
            return;
        };
        *left = left.saturating_sub(1);
        if *left > 0 {
            return;
        }
        has.insert(from);
        if select.request.is_enough(core.me, &select.quorum, has) {
            self.finish(core, id, outputs);
        }
    }

    /// What was merged is not the newest any more: all are asked anew.
    fn restart(&mut self, core: &mut Core, id: u64, outputs: &mut Vec<Output>) {
        if let Some(select) = self.end(core, id) {
            core.count(Counter::ReadsRestarted, 1);
            self.ask_anew(core, select.request, outputs);
        }
    }

    /// A session has met something at one replica that a quorum may not have: the read is made one of a quorum.
    fn ask_more(&mut self, core: &mut Core, id: u64, outputs: &mut Vec<Output>) {
        if let Some(select) = self.end(core, id) {
            let terms = select.request.terms.at_quorum();
            let request = SelectRequest {
                terms,
                ..select.request
            };
            self.ask_anew(core, request, outputs);
        }
    }

    /// Begins a read once more: under another id, so that what still answers the first does not count.
    fn ask_anew(&mut self, core: &mut Core, request: SelectRequest, outputs: &mut Vec<Output>) {
        let partition = request.selection.key().map(|key| core.partition(key));
        match partition {
            Some(partition) => self.start(core, partition, request, outputs),
            None => self.fail(core, request, Unavailable::Replicas, outputs),
        }
    }

    /// This node's own store did not take the merged rows: a write that hangs on them must not be done.
    pub(super) fn on_unrepaired(&mut self, core: &mut Core, id: u64, outputs: &mut Vec<Output>) {
        let is_write = |select: &mut Select| matches!(select.request.asker, Asker::Write(_));
        if self.selects.get_mut(&id).is_some_and(is_write)
            && let Some(select) = self.end(core, id)
        {
            self.fail(core, select.request, Unavailable::Replicas, outputs);
        }
    }

    /// The deadline has passed; a read that was not answered has no effect that counts.
    pub(super) fn on_deadline(&mut self, core: &mut Core, id: u64, outputs: &mut Vec<Output>) {
        if let Some(select) = self.end(core, id) {
            self.fail(core, select.request, Unavailable::Deadline, outputs);
        }
    }

    fn end(&mut self, core: &mut Core, id: u64) -> Option<Select> {
        let select = self.selects.remove(&id)?;
        core.timers
            .clear(select.request.terms.deadline, Timer::Select(id));
        select.quorum.clear_hedge(core, Timer::SelectHedge(id));
        Some(select)
    }

    fn fail(
        &mut self,
        core: &mut Core,
        request: SelectRequest,
        reason: Unavailable,
        outputs: &mut Vec<Output>,
    ) {
        match request.asker {
            Asker::Row(origin) | Asker::Rows(origin) => {
                core.count(Counter::ReadsUnavailable, 1);
                reply(outputs, origin, Outcome::Unavailable(reason));
            }
            Asker::Write(write) => self.observed.push(Observed {
                write,
                selection: request.selection,
                seen: None,
            }),
        }
    }

    /// Fetches what differs; if enough replicas have told all they have, merges it and writes it back.
    fn settle(&mut self, core: &mut Core, id: u64, outputs: &mut Vec<Output>) {
        let Some(select) = self.selects.get_mut(&id) else {
            return;
        };
        if !matches!(select.stage, Stage::Asking) || select.own.is_awaited() {
            return;
        }
        let mut differing = Vec::new();
        let own = select.own.here();
        for (node, word) in &mut select.said {
            if let Word::Early(told) = word {
                let is_same = own.is_some_and(|own| {
                    let is_alike = told.state == own.state(&told.collected);
                    is_alike && told.next.is_none() && own.is_known_at(&told.position)
                });
                if is_same {
                    *word = Word::Same(std::mem::take(&mut told.position));
                } else {
                    *word = Word::Fetching;
                    differing.push(*node);
                }
            }
        }
        // A node whose own rows cannot be read needs all operations, for it has none.
        let here = own.map(|own| own.position.clone()).unwrap_or_default();
        for node in differing {
            select.ask(node, id, Some(here.clone()), outputs);
        }
        if !select.quorum.is_met(|node| select.has_told(core.me, node)) {
            return;
        }
        let sides = select.sides(core.me);
        let Some(query) = select.completion(core.me, &sides) else {
            self.merge(core, id, &sides, outputs);
            return;
        };
        select.stage = Stage::Completing(sides);
        core.query(outputs, Purpose::SelectOperations(id), query);
    }

    /// The operations that this node holds beside what was selected were read.
    pub(super) fn on_operations(
        &mut self,
        core: &mut Core,
        id: u64,
        answer: Answer,
        outputs: &mut Vec<Output>,
    ) {
        let Some(select) = self.selects.get_mut(&id) else {
            return;
        };
        let Stage::Completing(sides) = &mut select.stage else {
            return;
        };
        let mut sides = std::mem::take(sides);
        let own = sides.iter_mut().find(|(node, _)| *node == core.me);
        if let (Answer::Selected { rows, .. }, Some((_, own))) = (answer, own) {
            own.add_operations(rows);
            self.merge(core, id, &sides, outputs);
        } else if let Some(select) = self.end(core, id) {
            // Without them, what was counted twice would not be known.
            self.fail(core, select.request, Unavailable::Replicas, outputs);
        }
    }

    /// Merges what the replicas hold, and writes it back where it is lacking.
    fn merge(
        &mut self,
        core: &mut Core,
        id: u64,
        sides: &[(NodeId, Side)],
        outputs: &mut Vec<Output>,
    ) {
        let Some(select) = self.selects.get_mut(&id) else {
            return;
        };
        let merged = merged(sides);
        let lacking: Vec<(NodeId, Vec<(RowKey, Row)>)> = sides
            .iter()
            .map(|(node, side)| (*node, side.lacks(&merged)))
            .collect();
        let has: BTreeSet<NodeId> = lacking
            .iter()
            .filter(|(_, rows)| rows.is_empty())
            .map(|(node, _)| *node)
            .collect();
        let is_settled = |(key, row): (&RowKey, &Row)| core.is_settled(key, row);
        if select.request.terms.must_be_settled() && !merged.rows.iter().all(is_settled) {
            self.ask_more(core, id, outputs);
            return;
        }
        let is_done = select.request.is_enough(core.me, &select.quorum, &has)
            || is_left_out(Guard::WriteBack);
        let pending = BTreeMap::new();
        select.stage = Stage::Repairing {
            merged,
            has,
            pending,
        };
        if is_done {
            self.finish(core, id, outputs);
            return;
        }
        core.count(Counter::ReadsRepaired, 1);
        for (node, rows) in lacking {
            self.repair(core, id, node, rows, outputs);
        }
    }

    /// Brings a replica to the merged rows.
    fn repair(
        &mut self,
        core: &mut Core,
        id: u64,
        node: NodeId,
        rows: Vec<(RowKey, Row)>,
        outputs: &mut Vec<Output>,
    ) {
        let Some(select) = self.selects.get_mut(&id) else {
            return;
        };
        let Stage::Repairing { pending, .. } = &mut select.stage else {
            return;
        };
        if node == core.me {
            pending.insert(node, rows.len());
            for (key, row) in rows {
                core.change(
                    outputs,
                    Purpose::SelectRepair(id),
                    Change::Repair { key, row },
                );
            }
            return;
        }
        let pieces = pieces(rows);
        pending.insert(node, pieces.len());
        for rows in pieces {
            send(outputs, node, Lane::Request, Message::Repair { id, rows });
        }
    }

    fn finish(&mut self, core: &mut Core, id: u64, outputs: &mut Vec<Output>) {
        let Some(select) = self.end(core, id) else {
            return;
        };
        let Stage::Repairing { merged, .. } = select.stage else {
            return;
        };
        let SelectRequest {
            asker, selection, ..
        } = select.request;
        let mut rows = merged.rows;
        if let Selection::Rows(wished) = &selection {
            rows.retain(|key, _| wished.contains(key));
        } else {
            rows.retain(|_, row| !matches!(row, Row::Once(once) if !once.is_repeated()));
        }
        match asker {
            Asker::Row(origin) => {
                core.count(Counter::ReadsOk, 1);
                let row = rows.into_values().next();
                reply(outputs, origin, Outcome::Read(row));
            }
            Asker::Rows(origin) => {
                core.count(Counter::ReadsOk, 1);
                let rows = rows.into_iter().collect();
                let next = merged.next;
                reply(outputs, origin, Outcome::Selected { rows, next });
            }
            Asker::Write(write) => self.observed.push(Observed {
                write,
                selection,
                seen: Some((merged.position, merged.next)),
            }),
        }
    }
}

impl SelectRequest {
    /// Whether enough replicas have the merged rows. The door does a write by this node's own rows: so they count
    /// with any quorum.
    fn is_enough(&self, me: NodeId, quorum: &ReadQuorum, has: &BTreeSet<NodeId>) -> bool {
        let has_own = match self.asker {
            Asker::Write(_) => has.contains(&me),
            Asker::Row(_) | Asker::Rows(_) => true,
        };
        has_own && quorum.is_met(|node| has.contains(&node))
    }
}

impl Select {
    /// Whether this replica has yet to do something for it.
    fn waits_for(&self, node: NodeId) -> bool {
        match &self.stage {
            Stage::Asking => {
                let word = self.said.get(&node);
                self.quorum.contains(node) && matches!(word, None | Some(Word::Fetching))
            }
            Stage::Completing(_) => false,
            Stage::Repairing { has, pending, .. } => {
                pending.contains_key(&node) && !has.contains(&node)
            }
        }
    }

    fn ask_all(&self, me: NodeId, id: u64, outputs: &mut Vec<Output>) {
        for node in self.quorum.others(me) {
            self.ask(node, id, None, outputs);
        }
    }

    fn ask(&self, node: NodeId, id: u64, whole: Option<Position>, outputs: &mut Vec<Output>) {
        let selection = self.asking.clone();
        let message = Message::Select {
            id,
            selection,
            whole,
        };
        send(outputs, node, Lane::Request, message);
    }

    /// The others are asked for what lies in this node's own page. They may have more in it.
    fn end_page(&mut self, next: Option<&Bytes>) {
        if let Selection::Page {
            upto,
            rows_max,
            bytes_max,
            ..
        } = &mut self.asking
            && let Some(next) = next
        {
            *upto = Some(next.clone());
            *rows_max = rows_max.saturating_mul(2);
            *bytes_max = bytes_max.saturating_mul(2);
        }
    }

    /// Where a page ends is not known before this node's own was read, and so the others are asked later.
    fn is_page(&self) -> bool {
        matches!(self.asking, Selection::Page { .. })
    }

    fn has_told(&self, me: NodeId, node: NodeId) -> bool {
        if node == me {
            return self.own.here().is_some();
        }
        let word = self.said.get(&node);
        matches!(word, Some(Word::Same(_) | Word::Whole(_)))
    }

    /// What of this node's operations the merged shares of counters hang on, beside what it has read; nothing if no
    /// share comes from elsewhere.
    fn completion(&self, me: NodeId, sides: &[(NodeId, Side)]) -> Option<Query> {
        let key = match &self.asking {
            Selection::Rows(_) => return None,
            Selection::Counter { key, .. } | Selection::Page { key, .. } => key.clone(),
        };
        let words = self.said.values();
        let is_whole = |word: &Word| matches!(word, Word::Whole(_));
        let is_mixed = self.own.here().is_some() && words.clone().any(is_whole);
        let others = sides.iter().filter(|(node, _)| *node != me);
        let sides = || sides.iter().map(|(_, side)| side);
        let places: BTreeSet<Place> = sides().flat_map(Side::places).collect();
        let query = Query::Operations {
            key,
            places,
            names: sides().flat_map(Side::operations).cloned().collect(),
            beyond: others.map(|(_, side)| side.position.clone()).collect(),
        };
        let has_counters = matches!(&query, Query::Operations { places, .. } if !places.is_empty());
        (is_mixed && has_counters).then_some(query)
    }

    /// What those hold that have told it, this node first.
    fn sides(&self, me: NodeId) -> Vec<(NodeId, Side)> {
        let own = self.own.here();
        let mut sides: Vec<(NodeId, Side)> = own.map(|own| (me, own.clone())).into_iter().collect();
        for (node, word) in &self.said {
            match word {
                Word::Same(position) => sides.extend(own.map(|own| {
                    let side = Side {
                        position: position.clone(),
                        ..own.clone()
                    };
                    (*node, side)
                })),
                Word::Whole(side) => sides.push((*node, side.clone())),
                Word::Early(_) | Word::Fetching => {}
            }
        }
        sides
    }
}

fn merged(sides: &[(NodeId, Side)]) -> Side {
    let mut sides = sides.iter().map(|(_, side)| side);
    let mut merged = sides.next().cloned().unwrap_or_default();
    for side in sides {
        merged.join(side);
    }
    merged.apply_clears();
    merged
}

/// A member or field may have gone with its whole collection: the row that says so is asked for too.
fn widened(selection: &Selection) -> Selection {
    let Selection::Rows(rows) = selection else {
        return selection.clone();
    };
    let mut rows = rows.clone();
    let clears: BTreeSet<RowKey> = rows
        .iter()
        .filter_map(|key| Some(key.with(&Part::Clear(key.part()?.collection()?))))
        .collect();
    rows.extend(clears);
    rows.sort_unstable();
    rows.dedup();
    Selection::Rows(rows)
}

/// Rows in pieces that are not too long for a message.
fn pieces(rows: Vec<(RowKey, Row)>) -> Vec<Vec<(RowKey, Row)>> {
    let mut pieces: Vec<Vec<(RowKey, Row)>> = Vec::new();
    let mut bytes = 0usize;
    for (key, row) in rows {
        let size = key.size() + row.size();
        match pieces.last_mut() {
            Some(piece) if bytes + size <= REPAIR_BYTES => {
                bytes += size;
                piece.push((key, row));
            }
            Some(_) | None => {
                bytes = size;
                pieces.push(vec![(key, row)]);
            }
        }
    }
    pieces
}
