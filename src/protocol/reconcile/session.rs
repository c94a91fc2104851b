//! One session: what has been compared, what is being compared, what is still to be.

use std::collections::{BTreeSet, VecDeque};

use bytes::Bytes;

use crate::model::{
    Answer, Change, DIGEST_FANOUT, DIGEST_LEVELS, DigestNode, Dot, NodeId, Part, PartitionId,
    Position, Query, Row, RowKey, Summary, Time,
};
use crate::protocol::core::{Core, Purpose, send};
use crate::protocol::message::{Lane, Message};
use crate::protocol::replica::Replica;
use crate::protocol::step::Output;

use super::compare::{Difference, Listing, Pull, compare, wanted_graves};
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
        first: u16,
        last: u16,
        mine: Option<Listing>,
        theirs: Option<Listing>,
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
    pub(super) peer: NodeId,
    pub(super) mode: Mode,
    /// The peer's position when we began.
    pub(super) base: Option<Position>,
    /// Rows that differed.
    pub(super) rows: u64,
    pub(super) active_at: Time,
    nodes: VecDeque<DigestNode>,
    /// Leaves that differ: from, to, and after which row.
    leaves: VecDeque<(u16, u16, Option<RowKey>)>,
    pull: VecDeque<Pull>,
    push: VecDeque<RowKey>,
    graves: Graves,
    mending: usize,
    step: Step,
}

impl Session {
    pub(super) fn new(now: Time, peer: NodeId, mode: Mode) -> Self {
        Self {
            peer,
            mode,
            base: None,
            rows: 0,
            active_at: now,
            nodes: VecDeque::from([DigestNode { level: 0, index: 0 }]),
            leaves: VecDeque::new(),
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
        let queues = self.nodes.len() + self.leaves.len() + self.pull.len() + self.push.len();
        let is_listed = matches!(self.graves, Graves::Listed);
        matches!(self.step, Step::Ready) && queues == 0 && self.mending == 0 && is_listed
    }

    pub(super) fn waits_for(&self, asked: u64) -> bool {
        match &self.step {
            Step::Digest { id, theirs, .. } => *id == asked && theirs.is_none(),
            Step::Leaf { id, theirs, .. } => *id == asked && theirs.is_none(),
            Step::Pulling { id, .. } | Step::Pushing { id } | Step::Graves { id } => *id == asked,
            Step::Ready | Step::Loading { .. } | Step::Graved { .. } => false,
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
        if let Some(leaves) = self.next_leaves() {
            self.ask_leaves(core, partition, id, leaves, outputs);
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

    fn ask_leaves(
        &mut self,
        core: &mut Core,
        partition: PartitionId,
        id: u64,
        (first, last, after): (u16, u16, Option<RowKey>),
        outputs: &mut Vec<Output>,
    ) {
        let ask = Message::LeafAsk {
            id,
            partition,
            first,
            last,
            after: after.clone(),
        };
        send(outputs, self.peer, Lane::Reconcile, ask);
        let query = Query::Leaf {
            partition,
            first,
            last,
            after,
            rows_max: LEAF_ROWS_MAX,
        };
        let own = Purpose::Reconcile(partition, Half::Compare(id));
        core.query(outputs, own, query);
        self.step = Step::Leaf {
            id,
            first,
            last,
            mine: None,
            theirs: None,
        };
    }

    /// The next leaves that differ, with equal ones between them: a few summaries more cost less than a
    /// round trip for every leaf.
    fn next_leaves(&mut self) -> Option<(u16, u16, Option<RowKey>)> {
        let (first, mut last, after) = self.leaves.pop_front()?;
        while let Some((next, end, None)) = self.leaves.front() {
            if *next > last.saturating_add(LEAVES_BETWEEN) || *next <= last {
                break;
            }
            last = *end;
            self.leaves.pop_front();
        }
        Some((first, last, after))
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
                    more,
                },
            ) => {
                if let Step::Leaf { id, mine, .. } = &mut self.step
                    && *id == at
                {
                    *mine = Some(listing(position, rows, more));
                    self.compare_listings(core, partition, outputs);
                }
                0
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
                | Answer::Leaf { .. },
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
            Told::Leaf(position, rows, more) => {
                let bytes = rows.iter().map(|(key, _)| key.size() + 40).sum();
                if let Step::Leaf { theirs, .. } = &mut self.step {
                    *theirs = Some(listing(position, rows, more));
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
            mine: Some((_, mine)),
            theirs: Some((_, theirs)),
            ..
        } = &self.step
        else {
            return;
        };
        let mut deeper = Vec::new();
        for ((node, mine), theirs) in nodes.iter().zip(mine).zip(theirs) {
            let children = (0..DIGEST_FANOUT).map(|child| node.index * DIGEST_FANOUT + child);
            let pairs = mine.iter().zip(theirs);
            deeper.extend(
                children
                    .zip(pairs)
                    .filter(|(_, (a, b))| a != b)
                    .map(|(index, _)| (node.level + 1, index)),
            );
        }
        for (level, index) in deeper {
            if level < DIGEST_LEVELS {
                self.nodes.push_back(DigestNode { level, index });
            } else {
                self.leaves.push_back((index, index, None));
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
            first,
            last,
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
            self.leaves.push_front((*first, *last, Some(after)));
        }
        self.pull.extend(pull);
        self.push.extend(push);
        self.step = Step::Ready;
        self.mending += forget.len();
        for (key, expected) in forget {
            core.change(
                outputs,
                Purpose::Mend(partition),
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
                Purpose::Mend(partition),
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
        let Step::Loading { id, keys } = std::mem::replace(&mut self.step, Step::Ready) else {
            return 0;
        };
        if id != at {
            self.step = Step::Loading { id, keys };
            return 0;
        }
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
