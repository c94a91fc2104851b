//! Coordinating writes: shown to the coordinator what they hang on, stamped by the door, sent to the replicas, answered
//! when enough have them on disk.
//!
//! What the replicas say of a write is judged in `standing`: it *stands*, and is done when a quorum has it; it is *hidden*, by
//! something that may have finished before it (P2), and is stamped again above that; or that is open, and it waits. Stamped again
//! after somebody has read it, it would undo what was written over it. A conditional write is not stamped again: it has seen a quorum, so that
//! nothing hides it which had finished before, and is told that it was merged.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use crate::model::{
    Change, Context, Denial, Effect, Level, LogItem, NodeId, PartitionId, Selection, Summary,
    Ticket, Time, Timestamp, WriteOp,
};

use crate::model::planted::{Guard, is_left_out};

use super::core::{Core, Counter, Origin, Purpose, reply};
use super::message::{Ack, Outcome, Unavailable, Unknown, Written};
use super::observe;
use super::other::Other;
use super::own;
use super::quorum::{Kind, Quorum};
use super::read_quorum::Terms;
use super::select::{Asker, Observed, SelectRequest};
use super::sender::Sender;
use super::standing::{Heard, Standing, Word};
use super::step::Output;
use super::timers::Timer;

/// A write as it was asked for.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct WriteRequest {
    pub(super) origin: Origin,
    pub(super) write: crate::model::Write,
    pub(super) level: Level,
    pub(super) deadline: Time,
}

/// Where a write stands.
#[derive(Debug)]
enum Stage {
    /// Waiting until this node's own rows hold what a quorum holds, by so many reads.
    Observing { left: usize, seen: Context },
    /// Given to the door, for the first time or again.
    Stamping { is_first: bool },
    /// Stamped; waiting for disks.
    Waiting {
        numbers: RangeInclusive<u64>,
        summary: Summary,
        /// What the replicas of this region say of it.
        heard: Heard,
    },
    /// There was nothing to do; waiting until a quorum has that for which there was not.
    Confirming { left: usize },
}

#[derive(Debug)]
struct Write {
    request: WriteRequest,
    partition: PartitionId,
    quorum: Quorum,
    stage: Stage,
    is_crossed: bool,
}

/// All writes that this node coordinates now.
#[derive(Debug, Default)]
pub(super) struct Writes {
    writes: BTreeMap<u64, Write>,
    /// Waiting writes by their last number in our log.
    waiting: BTreeMap<(PartitionId, u64), u64>,
    /// Reads that writes hang on, to be begun.
    wishes: Vec<(PartitionId, SelectRequest)>,
}

impl Writes {
    pub(super) fn len(&self) -> usize {
        self.writes.len()
    }

    /// Reads that writes hang on.
    pub(super) fn take_wishes(&mut self) -> Vec<(PartitionId, SelectRequest)> {
        std::mem::take(&mut self.wishes)
    }

    /// Begins a write on a partition that serves here.
    pub(super) fn start(
        &mut self,
        core: &mut Core,
        request: WriteRequest,
        outputs: &mut Vec<Output>,
    ) {
        let partition = core.partition(&request.write.key);
        let Some(replica) = core.replicas.get(&partition) else {
            let outcome = Outcome::Unavailable(Unavailable::Replicas);
            reply(outputs, request.origin, outcome);
            return;
        };
        let quorum = Quorum::new(
            Kind::Write,
            request.level,
            core.region,
            core.me,
            replica.regions(),
        );
        // A replica of this region that does not serve cannot say that a write stands (decision 26).
        let must_stand = request.write.op.writes_registers();
        let counts = |node: NodeId| {
            if must_stand && core.is_here(node) {
                core.is_serving(replica, node)
            } else {
                core.is_live(node)
            }
        };
        if !quorum.is_met(counts) {
            core.count(Counter::WritesUnavailable, 1);
            reply(
                outputs,
                request.origin,
                Outcome::Unavailable(Unavailable::Replicas),
            );
            return;
        }
        let seen = Context::from(&replica.position);
        let id = core.id();
        core.timers.set(request.deadline, Timer::Write(id));
        let selections = if request.level == Level::UnsafeOne || is_left_out(Guard::Observe) {
            Vec::new()
        } else {
            observe::selections(&request.write)
        };
        let left = selections.len();
        self.wish(id, partition, &request, selections);
        let write = Write {
            request,
            partition,
            quorum,
            stage: Stage::Observing { left, seen },
            is_crossed: false,
        };
        self.writes.insert(id, write);
        if left == 0 {
            self.stamp(core, id, outputs);
        }
    }

    fn wish(
        &mut self,
        id: u64,
        partition: PartitionId,
        request: &WriteRequest,
        selections: Vec<Selection>,
    ) {
        let terms = Terms {
            level: observe::level(request.level),
            deadline: request.deadline,
            is_session: false,
        };
        let wish = |selection| SelectRequest {
            asker: Asker::Write(id),
            selection,
            terms,
        };
        let wishes = selections.into_iter().map(wish);
        self.wishes
            .extend(wishes.map(|request| (partition, request)));
    }

    /// One of the reads that a write hangs on is done: this node's store holds what a quorum holds of it.
    pub(super) fn on_observed(
        &mut self,
        core: &mut Core,
        observed: Observed,
        outputs: &mut Vec<Output>,
    ) {
        let id = observed.write;
        let Some(write) = self.writes.get_mut(&id) else {
            return;
        };
        let Some((position, next)) = observed.seen else {
            self.on_unseen(core, id, outputs);
            return;
        };
        let rest = observe::rest(&observed.selection, next);
        let left = match &mut write.stage {
            Stage::Observing { left, seen } => {
                seen.join(&Context::from(&position));
                left
            }
            Stage::Confirming { left } => left,
            Stage::Stamping { .. } | Stage::Waiting { .. } => return,
        };
        if let Some(rest) = rest {
            let (partition, request) = (write.partition, write.request.clone());
            self.wish(id, partition, &request, vec![rest]);
            return;
        }
        *left = left.saturating_sub(1);
        if *left > 0 {
            return;
        }
        if matches!(write.stage, Stage::Observing { .. }) {
            self.stamp(core, id, outputs);
        } else {
            self.finish(core, id, None, outputs);
        }
    }

    /// Too few replicas could be read.
    fn on_unseen(&mut self, core: &mut Core, id: u64, outputs: &mut Vec<Output>) {
        let Some(write) = self.end(core, id) else {
            return;
        };
        let outcome = fate(core, &write.stage, Unavailable::Replicas);
        reply(outputs, write.request.origin, outcome);
    }

    /// Gives a write to the door, for the first time.
    fn stamp(&mut self, core: &mut Core, id: u64, outputs: &mut Vec<Output>) {
        let Some(write) = self.writes.get_mut(&id) else {
            return;
        };
        if let (WriteOp::Clear { seen, .. }, Stage::Observing { seen: observed, .. }) =
            (&mut write.request.write.op, &write.stage)
        {
            seen.join(observed);
        }
        write.stage = Stage::Stamping { is_first: true };
        let change = write.request.write.clone();
        give(core, id, change, outputs);
    }

    /// The door stamped a write (or refused it): send it to whoever wants our log.
    pub(super) fn on_staged(
        &mut self,
        core: &mut Core,
        sender: &mut Sender,
        (id, ticket): (u64, Ticket),
        effect: &Effect,
        outputs: &mut Vec<Output>,
    ) {
        core.at_door.remove(&ticket);
        match effect {
            Effect::Written { partition, items } => {
                own::log(core, sender, *partition, items);
                self.on_stamped(core, *partition, id, items);
            }
            Effect::Denied(denial) => self.on_refused(core, id, Some(denial), outputs),
            Effect::Refused { .. }
            | Effect::Appended { .. }
            | Effect::Gap { .. }
            | Effect::Early { .. }
            | Effect::Repaired { .. }
            | Effect::Trimmed { .. }
            | Effect::Swept { .. }
            | Effect::Done => self.on_refused(core, id, None, outputs),
        }
    }

    fn on_stamped(&mut self, core: &Core, partition: PartitionId, id: u64, items: &[LogItem]) {
        let (Some(first), Some(last)) = (items.first(), items.last()) else {
            return;
        };
        let Some(replica) = core.replicas.get(&partition) else {
            return;
        };
        let mut heard = Heard::new(replica.lives_here().collect());
        heard.note_serving(core.serving_here(replica));
        let Some(write) = self.writes.get_mut(&id) else {
            return;
        };
        write.stage = Stage::Waiting {
            numbers: first.n..=last.n,
            summary: last.row.summary(),
            heard,
        };
        self.waiting.insert((partition, last.n), id);
    }

    fn on_refused(
        &mut self,
        core: &mut Core,
        id: u64,
        denial: Option<&Denial>,
        outputs: &mut Vec<Output>,
    ) {
        let Some(write) = self.end(core, id) else {
            return;
        };
        // Stamped again, its first stamp may be seen; else nothing happened.
        let outcome = match (write.stage, denial) {
            (Stage::Stamping { is_first: true }, Some(denial)) => {
                core.count(Counter::WritesDenied, 1);
                Outcome::Denied(denial.clone())
            }
            (Stage::Stamping { is_first: true } | Stage::Observing { .. }, _) => {
                Outcome::Unavailable(Unavailable::Overloaded)
            }
            (
                Stage::Stamping { is_first: false }
                | Stage::Waiting { .. }
                | Stage::Confirming { .. },
                _,
            ) => Outcome::Unknown(Unknown::Acknowledgements),
        };
        reply(outputs, write.request.origin, outcome);
    }

    /// A write is on this node's disk: its last number, or nothing if there was nothing to do.
    pub(super) fn on_durable(
        &mut self,
        core: &mut Core,
        id: u64,
        last: Option<u64>,
        outputs: &mut Vec<Output>,
    ) {
        let Some(write) = self.writes.get_mut(&id) else {
            return;
        };
        match (&write.stage, last) {
            (Stage::Waiting { numbers, .. }, Some(n)) if *numbers.end() == n => {
                let replica = core.replicas.get(&write.partition);
                let word = Word {
                    from: core.me,
                    life: core.actor.incarnation,
                    held: Timestamp::ZERO,
                    is_serving: replica.is_some_and(|replica| replica.is_serving),
                };
                self.on_held(core, id, word);
                self.settle(core, id, outputs);
            }
            (Stage::Stamping { .. }, None) => self.confirm(core, id, outputs),
            _ => {}
        }
    }

    /// There was nothing to do. What says so may be known to this node alone: let a quorum have it too.
    fn confirm(&mut self, core: &mut Core, id: u64, outputs: &mut Vec<Output>) {
        let Some(write) = self.writes.get_mut(&id) else {
            return;
        };
        let is_alone = write.request.level == Level::UnsafeOne || is_left_out(Guard::Confirm);
        let selections = if is_alone {
            Vec::new()
        } else {
            observe::confirmations(&write.request.write)
        };
        let left = selections.len();
        write.stage = Stage::Confirming { left };
        let (partition, request) = (write.partition, write.request.clone());
        self.wish(id, partition, &request, selections);
        if left == 0 {
            self.finish(core, id, None, outputs);
        }
    }

    /// A replica acknowledged a piece of our log.
    pub(super) fn on_ack(
        &mut self,
        core: &mut Core,
        from: NodeId,
        ack: &Ack,
        outputs: &mut Vec<Output>,
    ) {
        // A piece may pass over a number whose row stands again under a greater one; only what the replica is
        // complete up to is certainly on its disk.
        let complete = ack.reached.iter().find(|(node, ..)| *node == from);
        let Some((_, life, complete)) = complete.copied() else {
            return;
        };
        let upto = ack.applied.min(complete);
        if ack.from >= upto {
            self.settle_all(core, ack.partition, outputs);
            return;
        }
        // That its disk is an old copy may be known here before it is known there.
        let replica = core.replicas.get(&ack.partition);
        let other = replica.and_then(|replica| replica.other(from));
        let is_serving = ack.is_serving && !other.is_some_and(Other::is_old_copy);
        let range = (ack.partition, ack.from + 1)..=(ack.partition, upto);
        let ids: Vec<(u64, u64)> = self
            .waiting
            .range(range)
            .map(|((_, n), id)| (*n, *id))
            .collect();
        for (n, id) in ids {
            let word = Word {
                from,
                life,
                held: self.held(ack, id, n),
                is_serving,
            };
            self.cross(id, &ack.crossed);
            self.on_held(core, id, word);
            self.settle(core, id, outputs);
        }
        if !core.is_here(from) {
            self.settle_all(core, ack.partition, outputs);
        }
    }

    /// The greatest timestamp that a replica held when it first met a number of our log, or what stands for it; zero if
    /// nothing was newer.
    fn held(&self, ack: &Ack, id: u64, n: u64) -> Timestamp {
        if ack.stood.contains(&n) {
            return Timestamp::ZERO;
        }
        let newer = ack.newer.iter();
        let of_it =
            newer.filter(|(at, _)| *at == n || self.may_be_same_row(ack.partition, id, n, *at));
        of_it
            .map(|(_, held)| *held)
            .max()
            .unwrap_or(Timestamp::ZERO)
    }

    /// Whether a later number of our log may be the same row, written again: a piece then passes over the first one,
    /// and what was newer at the replica is told of the last one only.
    fn may_be_same_row(&self, partition: PartitionId, id: u64, n: u64, at: u64) -> bool {
        let mut later = self.waiting.range((partition, at)..=(partition, u64::MAX));
        let later = later.next().and_then(|(_, later)| self.writes.get(later));
        let write = self.writes.get(&id);
        let key = |write: &Write| write.request.write.key.clone();
        // A number that no write waits for any more may have been any row's.
        n < at && later.is_none_or(|later| write.is_some_and(|write| key(write) == key(later)))
    }

    /// What is known of other regions changed: writes that wait for them may be done.
    pub(super) fn settle_all(
        &mut self,
        core: &mut Core,
        partition: PartitionId,
        outputs: &mut Vec<Output>,
    ) {
        let range = (partition, 0)..=(partition, u64::MAX);
        let afar = |write: &Write| matches!(write.request.level, Level::EachQuorum | Level::All);
        let ids: Vec<u64> = self
            .waiting
            .range(range)
            .map(|(_, id)| *id)
            .filter(|id| self.writes.get(id).is_some_and(afar))
            .collect();
        for id in ids {
            self.settle(core, id, outputs);
        }
    }

    /// The deadline has passed: the write may or may not be seen later.
    pub(super) fn on_deadline(
        &mut self,
        core: &mut Core,
        sender: &mut Sender,
        id: u64,
        outputs: &mut Vec<Output>,
    ) {
        let Some(write) = self.end(core, id) else {
            return;
        };
        // What was undecided may leave the region now.
        sender.touch(write.partition, core.actor);
        let outcome = fate(core, &write.stage, Unavailable::Deadline);
        reply(outputs, write.request.origin, outcome);
    }

    /// Somebody else was writing the same rows.
    fn cross(&mut self, id: u64, crossed: &[u64]) {
        if let Some(write) = self.writes.get_mut(&id)
            && let Stage::Waiting { numbers, .. } = &write.stage
        {
            write.is_crossed |= crossed.iter().any(|n| numbers.contains(n));
        }
    }

    /// A replica has a write on disk. Other regions merge; only within a region must a finished write never be hidden.
    fn on_held(&mut self, core: &Core, id: u64, word: Word) {
        let write = self.writes.get_mut(&id);
        if let Some(write) = write.filter(|_| core.is_here(word.from))
            && let Stage::Waiting { summary, heard, .. } = &mut write.stage
        {
            heard.hear(summary, word);
        }
    }

    /// Answers a write that enough replicas have, or stamps it again if something newer may hide it.
    fn settle(&mut self, core: &mut Core, id: u64, outputs: &mut Vec<Output>) {
        let Some(write) = self.writes.get_mut(&id) else {
            return;
        };
        let Stage::Waiting {
            numbers,
            summary,
            heard,
        } = &mut write.stage
        else {
            return;
        };
        let n = *numbers.end();
        let Some(replica) = core.replicas.get(&write.partition) else {
            return;
        };
        heard.note_serving(core.serving_here(replica));
        let standing = heard.standing(replica.replicas_in(core.region).len());
        // In this region a replica must have told what it held; elsewhere it is enough to have the change.
        let has = |node: NodeId| {
            if core.is_here(node) {
                heard.has_told(node)
            } else {
                replica.complete_at(node, core.actor) >= n
            }
        };
        let is_met = write.quorum.is_met(has) || is_left_out(Guard::WriteQuorum);
        let at = (write.partition, n);
        if standing == Standing::Stands {
            core.undecided.remove(&at);
        } else {
            core.undecided.insert(at);
        }
        let is_hidden = match standing {
            Standing::Stands => false,
            Standing::Hidden => true,
            Standing::Open => is_met && is_left_out(Guard::StandFirst),
        };
        // It has observed a quorum: what hides it had not finished before it began. Stamped again, it would undo what its
        // condition has not seen.
        let is_conditional =
            write.request.write.condition.is_some() && !is_left_out(Guard::RestampCondition);
        if is_hidden && !is_conditional && !is_left_out(Guard::Restamp) {
            let newer = heard.newer();
            self.stop_waiting(core, at);
            self.restamp(core, id, newer, outputs);
        } else if is_met && (is_hidden || standing == Standing::Stands) {
            let summary = summary.clone();
            write.is_crossed |= is_hidden;
            self.finish(core, id, Some(summary), outputs);
        }
    }

    /// A number of our log is waited for no more.
    fn stop_waiting(&mut self, core: &mut Core, at: (PartitionId, u64)) {
        self.waiting.remove(&at);
        core.undecided.remove(&at);
    }

    /// Takes a write away with all that names it.
    fn end(&mut self, core: &mut Core, id: u64) -> Option<Write> {
        let write = self.writes.remove(&id)?;
        core.timers.clear(write.request.deadline, Timer::Write(id));
        if let Stage::Waiting { numbers, .. } = &write.stage {
            self.stop_waiting(core, (write.partition, *numbers.end()));
        }
        Some(write)
    }

    /// Stamps a write again, above what may hide it.
    fn restamp(&mut self, core: &mut Core, id: u64, newer: Timestamp, outputs: &mut Vec<Output>) {
        let Some(write) = self.writes.get_mut(&id) else {
            return;
        };
        write.stage = Stage::Stamping { is_first: false };
        write.is_crossed = true;
        let change = crate::model::Write {
            above: newer,
            // None comes here with one, but for a planted bug.
            condition: None,
            ..write.request.write.clone()
        };
        core.count(Counter::WritesRestamped, 1);
        give(core, id, change, outputs);
    }

    /// Answers OK.
    fn finish(
        &mut self,
        core: &mut Core,
        id: u64,
        summary: Option<Summary>,
        outputs: &mut Vec<Output>,
    ) {
        let Some(write) = self.end(core, id) else {
            return;
        };
        core.count(Counter::WritesOk, 1);
        if write.is_crossed && write.request.write.condition.is_some() {
            core.count(Counter::ConditionsCrossed, 1);
        }
        let now = Timestamp {
            micros: core.wall.0,
            logical: 0,
        };
        let written = Written {
            node: core.me,
            timestamp: summary.as_ref().map_or(now, |summary| summary.timestamp),
            summary,
            is_crossed: write.is_crossed && !is_left_out(Guard::Crossed),
        };
        reply(outputs, write.request.origin, Outcome::Written(written));
    }
}

/// What is to be said of a write that did not come to its end.
fn fate(core: &mut Core, stage: &Stage, reason: Unavailable) -> Outcome {
    match stage {
        Stage::Observing { .. } => {
            core.count(Counter::WritesUnavailable, 1);
            Outcome::Unavailable(reason)
        }
        Stage::Stamping { .. } | Stage::Waiting { .. } | Stage::Confirming { .. } => {
            core.count(Counter::WritesUnknown, 1);
            Outcome::Unknown(Unknown::Acknowledgements)
        }
    }
}

/// Gives a write to the door, to be stamped above all that this node has vouched for and its session has seen, and
/// not before now: so a mark may speak of the time until now while the door has not decided.
fn give(core: &mut Core, id: u64, mut write: crate::model::Write, outputs: &mut Vec<Output>) {
    let session = write.after.as_ref().map_or(0, |session| session.latest());
    let vouched = if is_left_out(Guard::StampVouched) {
        0
    } else {
        core.vouched
    };
    let before = vouched.max(core.wall.0.saturating_sub(1));
    write.above = write.above.max(Timestamp::bound(before.max(session)));
    let ticket = core.change(outputs, Purpose::Write(id), Change::Write(write));
    core.at_door.insert(ticket, before);
}
