//! One session: what has been compared, what is being compared, what is still to be.

use std::collections::{BTreeSet, VecDeque};

use bytes::Bytes;

use crate::model::{
    Answer, Change, DIGEST_BUSY, DIGEST_FANOUT, DIGEST_LEVELS, DigestNode, Dot, NodeId, Part,
    PartitionId, Position, Query, Row, RowKey, Run, Sum, Summary, Time,
};
use crate::protocol::core::{Core, Purpose, send};
use crate::protocol::message::{Lane, Message};
use crate::protocol::replica::Replica;
use crate::protocol::step::Output;

use super::compare::{Difference, Listing, Pull, compare, wanted_graves};
use super::doubts::Doubts;
use super::runs::{self, Piece, SUMMED_BYTES, Task};
use super::{Half, Mode, Told, listing};

/// Nodes of the digest tree asked for at once.
const NODES_MAX: usize = 64;
/// Summaries in one page of a listing.
pub(in crate::protocol) const LEAF_ROWS_MAX: usize = 1024;
/// Rows asked for, or given, at once.
const ROWS_MAX: usize = 512;
/// Leaves that do not differ and are listed all the same, between two that do.
const LEAVES_BETWEEN: u16 = 16;

/// Hashes of one side: those of the children of each node asked for.
type Hashes = (Position, Vec<Vec<u128>>);

/// What the session waits for.
#[derive(Debug)]
enum Step {
    /// Nothing: the next step waits for budget.
    Ready,
    Digest {
        id: u64,
        nodes: Vec<DigestNode>,
        mine: Option<Hashes>,
        theirs: Option<Hashes>,
    },
    Leaf {
        id: u64,
        run: Run,
        mine: Option<Box<Listing>>,
        theirs: Option<Box<Listing>>,
    },
    /// Our own rows are being summed up.
    Cutting {
        id: u64,
        run: Run,
        pieces: Vec<Piece>,
    },
    /// The peer sums up the same pieces.
    Summing {
        id: u64,
        run: Run,
        pieces: Vec<Piece>,
        theirs: Vec<Sum>,
    },
    Pulling {
        id: u64,
        pulls: Vec<Pull>,
    },
    /// Our own rows are being read.
    Loading {
        id: u64,
        keys: Vec<RowKey>,
    },
    Pushing {
        id: u64,
    },
    /// The peer lists tombstones.
    Graves {
        id: u64,
    },
    /// Our own rows of those names are being read.
    Graved {
        id: u64,
        rows: Vec<(RowKey, Summary)>,
    },
}

/// How far the peer's tombstones have been listed: the last thing that a refill does.
#[derive(Debug)]
enum Graves {
    /// From here on.
    After(Option<Bytes>),
    /// All of them, or none is to be.
    Listed,
}

/// A session.
#[derive(Debug)]
pub(super) struct Session {
    /// By which it knows its own rows: those of a session that it has replaced may still be on their way to the disk.
    pub(super) id: u64,
    pub(super) peer: NodeId,
    pub(super) mode: Mode,
    /// The peer's position when we began.
    pub(super) base: Option<Position>,
    /// Rows that differed.
    pub(super) rows: u64,
    pub(super) active_at: Time,
    /// Leaves that were put off in this round, and in the one before.
    pub(super) doubts: Doubts,
    before: Doubts,
    nodes: VecDeque<DigestNode>,
    /// Leaves that differ.
    leaves: VecDeque<u16>,
    /// What to do about runs of them.
    tasks: VecDeque<Task>,
    pull: VecDeque<Pull>,
    push: VecDeque<RowKey>,
    graves: Graves,
    mending: usize,
    step: Step,
}

impl Session {
    /// A session; `before` is what was put off in the round before with this peer.
    pub(super) fn new(id: u64, now: Time, peer: NodeId, mode: Mode, before: Doubts) -> Self {
        Self {
            id,
            peer,
            mode,
            base: None,
            rows: 0,
            active_at: now,
            doubts: Doubts::default(),
            before,
            nodes: VecDeque::from([DigestNode { level: 0, index: 0 }]),
            leaves: VecDeque::new(),
            tasks: VecDeque::new(),
            pull: VecDeque::new(),
            push: VecDeque::new(),
            graves: match mode {
                Mode::Refill => Graves::After(None),
                Mode::Routine => Graves::Listed,
            },
            mending: 0,
            step: Step::Ready,
        }
    }

    /// Whether nothing is left to do.
    pub(super) fn is_done(&self) -> bool {
        let looks = self.nodes.len() + self.leaves.len() + self.tasks.len();
        let queues = looks + self.pull.len() + self.push.len();
        let is_listed = matches!(self.graves, Graves::Listed);
        matches!(self.step, Step::Ready) && queues == 0 && self.mending == 0 && is_listed
    }

    /// Whether the next word is the peer's: not while budget or our own disk is waited for.
    pub(super) fn waits_for_peer(&self) -> bool {
        match &self.step {
            Step::Digest { theirs, .. } => theirs.is_none(),
            Step::Leaf { theirs, .. } => theirs.is_none(),
            Step::Summing { .. }
            | Step::Pulling { .. }
            | Step::Pushing { .. }
            | Step::Graves { .. } => true,
            Step::Ready | Step::Cutting { .. } | Step::Loading { .. } | Step::Graved { .. } => {
                false
            }
        }
    }

    /// Whether our own half of this question is waited for: it may also be of a session that this one has replaced.
    pub(super) fn waits_for_half(&self, asked: u64) -> bool {
        match &self.step {
            Step::Digest { id, mine, .. } => *id == asked && mine.is_none(),
            Step::Leaf { id, mine, .. } => *id == asked && mine.is_none(),
            Step::Cutting { id, .. } | Step::Loading { id, .. } | Step::Graved { id, .. } => {
                *id == asked
            }
            Step::Ready
            | Step::Summing { .. }
            | Step::Pulling { .. }
            | Step::Pushing { .. }
            | Step::Graves { .. } => false,
        }
    }

    pub(super) fn waits_for(&self, asked: u64) -> bool {
        match &self.step {
            Step::Digest { id, theirs, .. } => *id == asked && theirs.is_none(),
            Step::Leaf { id, theirs, .. } => *id == asked && theirs.is_none(),
            Step::Summing { id, .. }
            | Step::Pulling { id, .. }
            | Step::Pushing { id }
            | Step::Graves { id } => *id == asked,
            Step::Ready | Step::Cutting { .. } | Step::Loading { .. } | Step::Graved { .. } => {
                false
            }
        }
    }

    pub(super) fn on_mended(&mut self) {
        self.mending = self.mending.saturating_sub(1);
    }

    /// Begins the next step if none is under way; returns bytes spent.
    pub(super) fn advance(
        &mut self,
        core: &mut Core,
        partition: PartitionId,
        outputs: &mut Vec<Output>,
    ) -> usize {
        if !matches!(self.step, Step::Ready) {
            return 0;
        }
        let id = core.id();
        if !self.pull.is_empty() {
            let pulls: Vec<Pull> = self.pull.drain(..self.pull.len().min(ROWS_MAX)).collect();
            let keys: Vec<RowKey> = pulls.iter().map(|pull| pull.key.clone()).collect();
            let bytes = keys.iter().map(RowKey::size).sum();
            let ask = Message::Read {
                id,
                keys,
                whole: true,
            };
            send(outputs, self.peer, Lane::Reconcile, ask);
            self.step = Step::Pulling { id, pulls };
            return bytes;
        }
        if !self.push.is_empty() {
            let keys: Vec<RowKey> = self.push.drain(..self.push.len().min(ROWS_MAX)).collect();
            core.query(
                outputs,
                Purpose::Reconcile(partition, Half::Push(id)),
                Query::Rows(keys.clone()),
            );
            self.step = Step::Loading { id, keys };
            return 0;
        }
        if !self.nodes.is_empty() {
            return self.ask_digests(core, partition, id, outputs);
        }
        if let Some(task) = self.next_task() {
            self.ask_run(core, partition, id, task, outputs);
        } else if let Graves::After(after) = &self.graves {
            let ask = Message::GravesAsk {
                id,
                partition,
                after: after.clone(),
            };
            send(outputs, self.peer, Lane::Reconcile, ask);
            self.step = Step::Graves { id };
        }
        0
    }

    fn ask_digests(
        &mut self,
        core: &mut Core,
        partition: PartitionId,
        id: u64,
        outputs: &mut Vec<Output>,
    ) -> usize {
        let count = self.nodes.len().min(NODES_MAX);
        let nodes: Vec<DigestNode> = self.nodes.drain(..count).collect();
        let ask = Message::DigestAsk {
            id,
            partition,
            nodes: nodes.clone(),
        };
        send(outputs, self.peer, Lane::Reconcile, ask);
        let query = Query::Digest {
            partition,
            nodes: nodes.clone(),
        };
        let own = Purpose::Reconcile(partition, Half::Compare(id));
        core.query(outputs, own, query);
        let bytes = nodes.len() * 16 * usize::from(DIGEST_FANOUT);
        self.step = Step::Digest {
            id,
            nodes,
            mine: None,
            theirs: None,
        };
        bytes
    }

    /// Asks for what is to be known of a run.
    fn ask_run(
        &mut self,
        core: &mut Core,
        partition: PartitionId,
        id: u64,
        task: Task,
        outputs: &mut Vec<Output>,
    ) {
        let own = Purpose::Reconcile(partition, Half::Compare(id));
        self.step = match task {
            Task::Cut { run, pieces, next } => {
                core.query(outputs, own, runs::cut(partition, run.clone(), next));
                Step::Cutting { id, run, pieces }
            }
            Task::Sum {
                run,
                pieces,
                theirs,
                next,
            } => {
                let so_far = (theirs.len(), next);
                let ask = runs::ask(id, partition, run.clone(), &pieces, so_far);
                send(outputs, self.peer, Lane::Reconcile, ask);
                Step::Summing {
                    id,
                    run,
                    pieces,
                    theirs,
                }
            }
            Task::List(run) => {
                let ask = Message::LeafAsk {
                    id,
                    partition,
                    run: run.clone(),
                };
                send(outputs, self.peer, Lane::Reconcile, ask);
                let query = Query::Leaf {
                    partition,
                    run: run.clone(),
                    rows_max: LEAF_ROWS_MAX,
                };
                core.query(outputs, own, query);
                Step::Leaf {
                    id,
                    run,
                    mine: None,
                    theirs: None,
                }
            }
        };
    }

    /// What to do next; the next leaves that differ, with equal ones between them: a few rows more cost less than a
    /// round trip for every leaf.
    fn next_task(&mut self) -> Option<Task> {
        if let Some(task) = self.tasks.pop_front() {
            return Some(task);
        }
        let first = self.leaves.pop_front()?;
        let mut last = first;
        while let Some(next) = self.leaves.front().copied() {
            if next > last.saturating_add(LEAVES_BETWEEN) || next <= last {
                break;
            }
            last = next;
            self.leaves.pop_front();
        }
        Some(Task::new(Run::of_leaves(first, last)))
    }

    /// Some of our own rows are summed up; returns what that cost.
    fn on_cut(&mut self, ends: Vec<RowKey>, sums: Vec<Sum>, next: Option<RowKey>) -> usize {
        let bytes = summed(&sums);
        if let Step::Cutting { run, pieces, .. } = std::mem::replace(&mut self.step, Step::Ready) {
            let task = runs::on_cut(run, pieces, (ends, sums), next);
            self.tasks.push_front(task);
        }
        bytes
    }

    /// The peer has summed up some rows; returns what that cost.
    fn on_sums(&mut self, sums: Vec<Sum>, next: Option<RowKey>) -> usize {
        let bytes = summed(&sums);
        let step = std::mem::replace(&mut self.step, Step::Ready);
        if let Step::Summing {
            run,
            pieces,
            theirs,
            ..
        } = step
        {
            let tasks = runs::on_sums(run, pieces, theirs, sums, next);
            for task in tasks.into_iter().rev() {
                self.tasks.push_front(task);
            }
        }
        bytes
    }

    /// Our own half is there; returns bytes spent.
    pub(super) fn on_half(
        &mut self,
        core: &mut Core,
        partition: PartitionId,
        half: Half,
        answer: Answer,
        outputs: &mut Vec<Output>,
    ) -> usize {
        match (half, answer) {
            (Half::Compare(at), Answer::Digest { position, hashes }) => {
                if let Step::Digest { id, mine, .. } = &mut self.step
                    && *id == at
                {
                    *mine = Some((position, hashes));
                    self.compare_digests();
                }
                0
            }
            (
                Half::Compare(at),
                Answer::Leaf {
                    position,
                    rows,
                    next,
                },
            ) => {
                if let Step::Leaf { id, mine, .. } = &mut self.step
                    && *id == at
                {
                    *mine = Some(Box::new(listing(position, rows, next)));
                    self.compare_listings(core, partition, outputs);
                }
                0
            }
            (Half::Compare(at), Answer::Sums { ends, sums, next }) => {
                if matches!(&self.step, Step::Cutting { id, .. } if *id == at) {
                    self.on_cut(ends, sums, next)
                } else {
                    0
                }
            }
            (Half::Push(at), Answer::Rows(rows)) => self.give(core, at, rows, outputs),
            (Half::Graves(at), Answer::Rows(rows)) => {
                self.compare_graves(core, partition, at, &rows);
                0
            }
            // An answer to another question; an unreadable one ends the session before it comes here.
            (
                Half::Compare(_) | Half::Push(_) | Half::Graves(_),
                Answer::Unreadable { .. }
                | Answer::Rows(_)
                | Answer::Selected { .. }
                | Answer::Count(_)
                | Answer::Graves { .. }
                | Answer::Log(_)
                | Answer::Scan { .. }
                | Answer::Digest { .. }
                | Answer::Leaf { .. }
                | Answer::Sums { .. },
            ) => {
                self.step = Step::Ready;
                0
            }
        }
    }

    /// The peer's half is there; returns bytes spent.
    pub(super) fn on_told(
        &mut self,
        core: &mut Core,
        partition: PartitionId,
        told: Told,
        outputs: &mut Vec<Output>,
    ) -> usize {
        match told {
            Told::Digest(position, hashes) => {
                let bytes = hashes.iter().map(|children| children.len() * 16).sum();
                self.base.get_or_insert_with(|| position.clone());
                if let Step::Digest { theirs, .. } = &mut self.step {
                    *theirs = Some((position, hashes));
                    self.compare_digests();
                }
                bytes
            }
            Told::Sums(sums, next) => self.on_sums(sums, next),
            Told::Leaf(position, rows, next) => {
                let bytes = rows.iter().map(|(key, _)| key.size() + 40).sum();
                if let Step::Leaf { theirs, .. } = &mut self.step {
                    *theirs = Some(Box::new(listing(position, rows, next)));
                    self.compare_listings(core, partition, outputs);
                }
                bytes
            }
            Told::Rows(rows) => self.take(core, partition, rows, outputs),
            Told::Graves(rows, next) => self.on_graves(core, partition, rows, next, outputs),
            Told::Repaired => {
                self.step = Step::Ready;
                0
            }
        }
    }

    fn compare_digests(&mut self) {
        let Step::Digest {
            nodes,
            mine: Some((my_position, mine)),
            theirs: Some((their_position, theirs)),
            ..
        } = &self.step
        else {
            return;
        };
        for ((node, mine), theirs) in nodes.iter().zip(mine).zip(theirs) {
            let children = (0..DIGEST_FANOUT).map(|child| node.index * DIGEST_FANOUT + child);
            let pairs = mine.iter().copied().zip(theirs.iter().copied());
            for (index, hashes) in children.zip(pairs) {
                let level = node.level + 1;
                let is_busy = hashes.0 == DIGEST_BUSY || hashes.1 == DIGEST_BUSY;
                if hashes.0 == hashes.1 && !is_busy {
                    continue;
                }
                if level < DIGEST_LEVELS {
                    self.nodes.push_back(DigestNode { level, index });
                    continue;
                }
                let positions = (my_position, their_position);
                let is_put_off = self.mode == Mode::Routine
                    && (is_busy || self.doubts.puts_off(&self.before, index, hashes, positions));
                if !is_put_off {
                    self.leaves.push_back(index);
                }
            }
        }
        self.step = Step::Ready;
    }

    fn compare_listings(
        &mut self,
        core: &mut Core,
        partition: PartitionId,
        outputs: &mut Vec<Output>,
    ) {
        let Step::Leaf {
            run,
            mine: Some(mine),
            theirs: Some(theirs),
            ..
        } = &self.step
        else {
            return;
        };
        let Some(replica) = core.replicas.get(&partition) else {
            return;
        };
        let is_delivered =
            |dot: Dot| is_delivered(core, replica, dot) || theirs.position.covers(dot);
        let Difference {
            pull,
            push,
            forget,
            next,
        } = compare(self.mode, mine, theirs, is_delivered);
        self.rows += [pull.len(), push.len(), forget.len()]
            .into_iter()
            .map(|n| n as u64)
            .sum::<u64>();
        if let Some(after) = next {
            self.tasks.push_front(Task::List(run.clone().from(after)));
        }
        self.pull.extend(pull);
        self.push.extend(push);
        self.step = Step::Ready;
        self.mending += forget.len();
        for (key, expected) in forget {
            core.change(
                outputs,
                Purpose::Mend(partition, self.id),
                Change::Forget { key, expected },
            );
        }
    }

    /// A page of the peer's tombstones came: see what is here of the same rows.
    fn on_graves(
        &mut self,
        core: &mut Core,
        partition: PartitionId,
        rows: Vec<(RowKey, Summary)>,
        next: Option<Bytes>,
        outputs: &mut Vec<Output>,
    ) -> usize {
        let Step::Graves { id } = self.step else {
            return 0;
        };
        let bytes = rows.iter().map(|(key, _)| key.size() + 40).sum();
        self.graves = next.map_or(Graves::Listed, |next| Graves::After(Some(next)));
        if rows.is_empty() {
            self.step = Step::Ready;
            return bytes;
        }
        let keys = rows.iter().map(|(key, _)| key.clone()).collect();
        core.query(
            outputs,
            Purpose::Reconcile(partition, Half::Graves(id)),
            Query::Rows(keys),
        );
        self.step = Step::Graved { id, rows };
        bytes
    }

    fn compare_graves(
        &mut self,
        core: &Core,
        partition: PartitionId,
        at: u64,
        mine: &[Option<Row>],
    ) {
        let Step::Graved { id, rows } = &self.step else {
            return;
        };
        let Some(replica) = core.replicas.get(&partition).filter(|_| *id == at) else {
            return;
        };
        let mine: Vec<_> = mine
            .iter()
            .map(|row| row.as_ref().map(Row::summary))
            .collect();
        let base = self.base.clone().unwrap_or_default();
        let wanted = wanted_graves(&replica.position, &base, rows, &mine);
        self.rows += wanted.len() as u64;
        self.pull.extend(wanted);
        self.step = Step::Ready;
    }

    /// Rows came that we asked for: perhaps not all of them at once.
    fn take(
        &mut self,
        core: &mut Core,
        partition: PartitionId,
        rows: Vec<Option<Row>>,
        outputs: &mut Vec<Output>,
    ) -> usize {
        let Step::Pulling { pulls, .. } = std::mem::replace(&mut self.step, Step::Ready) else {
            return 0;
        };
        let mut bytes = 0;
        let came = rows.len();
        for pull in pulls.iter().skip(came.max(1)).rev() {
            self.pull.push_front(pull.clone());
        }
        for (Pull { key, gone }, row) in pulls.into_iter().zip(rows) {
            let Some(mut row) = row else { continue };
            bytes += row.size();
            row.recall(&gone);
            let replica = core.replicas.get(&partition);
            let is_ahead = |replica| is_ahead(core, replica, &replica.position, (&key, &row));
            if self.mode == Mode::Routine && replica.is_some_and(is_ahead) {
                continue;
            }
            self.mending += 1;
            core.change(
                outputs,
                Purpose::Mend(partition, self.id),
                Change::Repair { key, row },
            );
        }
        bytes
    }

    /// Our own rows are read: give them, as many as one message may hold.
    fn give(
        &mut self,
        core: &Core,
        at: u64,
        rows: Vec<Option<Row>>,
        outputs: &mut Vec<Output>,
    ) -> usize {
        let Step::Loading { id, keys } = &mut self.step else {
            return 0;
        };
        if *id != at {
            return 0;
        }
        let (id, keys) = (at, std::mem::take(keys));
        self.step = Step::Ready;
        let mut bytes = 0;
        let mut given = Vec::new();
        for (key, row) in keys.into_iter().zip(rows) {
            let Some(row) = row else { continue };
            let replica = core.replicas.get(&core.partition(&key));
            if let (Some(replica), Some(there)) = (replica, &self.base)
                && is_ahead(core, replica, there, (&key, &row))
            {
                continue;
            }
            if bytes > 0 && bytes + row.size() > core.limits.batch_bytes_max {
                self.push.push_back(key);
                continue;
            }
            bytes += row.size();
            given.push((key, row));
        }
        if !given.is_empty() {
            send(
                outputs,
                self.peer,
                Lane::Reconcile,
                Message::Repair { id, rows: given },
            );
            self.step = Step::Pushing { id };
        }
        bytes
    }
}

/// Whether somebody's log will bring a change to whoever lacks it.
fn is_delivered(core: &Core, replica: &Replica, dot: Dot) -> bool {
    let mut others = replica.others();
    let by_others =
        others.any(|(node, other)| core.peers.is_up(node) && other.position.covers(dot));
    by_others || replica.position.covers(dot)
}

/// Whether a row is a share of a counter that holds more than whoever stands at this position has operations of. Its
/// actor's log brings both, in order, if anybody has it.
fn is_ahead(
    core: &Core,
    replica: &Replica,
    position: &Position,
    (key, row): (&RowKey, &Row),
) -> bool {
    let (Some(Part::Share(_, actor)), Row::Share(share)) = (key.part(), row) else {
        return false;
    };
    let n = share.own.n;
    let dot = Dot { actor, n };
    !position.covers(dot) && is_delivered(core, replica, dot)
}

/// What sums cost those who looked at the rows.
fn summed(sums: &[Sum]) -> usize {
    let rows: u64 = sums.iter().map(|sum| sum.rows).sum();
    usize::try_from(rows)
        .unwrap_or(usize::MAX)
        .saturating_mul(SUMMED_BYTES)
}

/// The rows that were asked for, as many of the first as one message may hold.
pub(in crate::protocol) fn within(rows: Vec<Option<Row>>, bytes_max: usize) -> Vec<Option<Row>> {
    let mut bytes = 0;
    let mut kept = Vec::new();
    for row in rows {
        let size = row.as_ref().map_or(0, Row::size);
        if bytes > 0 && bytes + size > bytes_max {
            break;
        }
        bytes += size;
        kept.push(row);
    }
    kept
}

/// No two keys alike: what a peer may ask for at once is bounded by the door, not by trust.
pub(in crate::protocol) fn is_reasonable(keys: &[RowKey]) -> bool {
    keys.len() <= ROWS_MAX && keys.iter().collect::<BTreeSet<_>>().len() == keys.len()
}
