//! Coordinating writes: stamped by the door, sent to the replicas, answered when enough have it on disk.
//!
//! A replica that already holds something newer says so; then the write is stamped again above it before
//! anyone is told that it is done. Otherwise two coordinators with skewed clocks could answer OK to a write
//! that an older, finished write hides (P2).

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{Change, Effect, Level, NodeId, PartitionId, Summary, Time, Timestamp};

use super::core::{Core, Counter, Origin, Purpose, reply};
use super::message::{Ack, Outcome, Unavailable, Unknown, Written};
use super::own;
use super::quorum::{Kind, Quorum};
use super::sender::Sender;
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
    /// Given to the door, for the first time or again.
    Stamping { is_first: bool },
    /// Stamped; waiting for disks.
    Waiting {
        n: u64,
        summary: Summary,
        vouched: BTreeSet<NodeId>,
        newer: Timestamp,
    },
}

#[derive(Debug)]
struct Write {
    request: WriteRequest,
    partition: PartitionId,
    quorum: Quorum,
    stage: Stage,
}

/// All writes that this node coordinates now.
#[derive(Debug, Default)]
pub(super) struct Writes {
    writes: BTreeMap<u64, Write>,
    /// Waiting writes by their number in our log.
    waiting: BTreeMap<(PartitionId, u64), u64>,
}

impl Writes {
    pub(super) fn len(&self) -> usize {
        self.writes.len()
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
            return;
        };
        let quorum = Quorum::new(
            Kind::Write,
            request.level,
            core.region,
            core.me,
            replica.regions(),
        );
        if !quorum.is_met(|node| core.is_live(node)) {
            core.count(Counter::WritesUnavailable, 1);
            reply(
                outputs,
                request.origin,
                Outcome::Unavailable(Unavailable::Replicas),
            );
            return;
        }
        let id = core.id();
        core.timers.set(request.deadline, Timer::Write(id));
        let change = Change::Write(request.write.clone());
        self.writes.insert(
            id,
            Write {
                request,
                partition,
                quorum,
                stage: Stage::Stamping { is_first: true },
            },
        );
        core.change(outputs, Purpose::Write(id), change);
    }

    /// The door stamped a write (or refused it): send it to whoever wants our log.
    pub(super) fn on_staged(
        &mut self,
        core: &mut Core,
        sender: &mut Sender,
        id: u64,
        effect: &Effect,
        outputs: &mut Vec<Output>,
    ) {
        let Effect::Written { partition, items } = effect else {
            if let Some(write) = self.writes.remove(&id) {
                core.timers.clear(write.request.deadline, Timer::Write(id));
                // Stamped again, its first stamp may be seen; else nothing happened.
                let outcome = match write.stage {
                    Stage::Stamping { is_first: true } => {
                        Outcome::Unavailable(Unavailable::Overloaded)
                    }
                    Stage::Stamping { is_first: false } | Stage::Waiting { .. } => {
                        Outcome::Unknown(Unknown::Acknowledgements)
                    }
                };
                reply(outputs, write.request.origin, outcome);
            }
            return;
        };
        own::log(core, sender, *partition, items);
        let Some(item) = items.last() else { return };
        let Some(write) = self.writes.get_mut(&id) else {
            return;
        };
        write.stage = Stage::Waiting {
            n: item.n,
            summary: item.row.summary(),
            vouched: BTreeSet::new(),
            newer: Timestamp::ZERO,
        };
        self.waiting.insert((*partition, item.n), id);
    }

    /// A write is on this node's disk.
    pub(super) fn on_durable(
        &mut self,
        core: &mut Core,
        partition: PartitionId,
        n: u64,
        outputs: &mut Vec<Output>,
    ) {
        if let Some(id) = self.waiting.get(&(partition, n)).copied() {
            self.vouch(core, id, core.me, Timestamp::ZERO);
            self.settle(core, id, outputs);
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
        let held = complete.map_or(0, |(.., n)| ack.applied.min(*n));
        if ack.from >= held {
            self.settle_all(core, ack.partition, outputs);
            return;
        }
        let range = (ack.partition, ack.from + 1)..=(ack.partition, held);
        let ids: Vec<(u64, u64)> = self
            .waiting
            .range(range)
            .map(|((_, n), id)| (*n, *id))
            .collect();
        for (n, id) in ids {
            let newer = ack
                .newer
                .iter()
                .filter(|(at, _)| *at == n)
                .map(|(_, newer)| *newer)
                .max();
            self.vouch(core, id, from, newer.unwrap_or(Timestamp::ZERO));
            self.settle(core, id, outputs);
        }
        if !core.is_here(from) {
            self.settle_all(core, ack.partition, outputs);
        }
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
    pub(super) fn on_deadline(&mut self, core: &mut Core, id: u64, outputs: &mut Vec<Output>) {
        let Some(write) = self.writes.remove(&id) else {
            return;
        };
        if let Stage::Waiting { n, .. } = write.stage {
            self.waiting.remove(&(write.partition, n));
        }
        core.count(Counter::WritesUnknown, 1);
        reply(
            outputs,
            write.request.origin,
            Outcome::Unknown(Unknown::Acknowledgements),
        );
    }

    fn vouch(&mut self, core: &Core, id: u64, from: NodeId, held: Timestamp) {
        let Some(write) = self.writes.get_mut(&id) else {
            return;
        };
        if let Stage::Waiting { vouched, newer, .. } = &mut write.stage {
            vouched.insert(from);
            // Other regions merge; only within a region must a finished write never be hidden.
            if core.is_here(from) {
                *newer = (*newer).max(held);
            }
        }
    }

    /// Answers a write that enough replicas have, or stamps it again if something newer was there before.
    fn settle(&mut self, core: &mut Core, id: u64, outputs: &mut Vec<Output>) {
        let Some(write) = self.writes.get_mut(&id) else {
            return;
        };
        let Stage::Waiting {
            n,
            summary,
            vouched,
            newer,
        } = &write.stage
        else {
            return;
        };
        let (n, summary, newer) = (*n, summary.clone(), *newer);
        let Some(replica) = core.replicas.get(&write.partition) else {
            return;
        };
        // In this region a replica must have told what it held; elsewhere it is enough to have the change.
        let has = |node: NodeId| {
            if core.is_here(node) {
                vouched.contains(&node)
            } else {
                replica.complete_at(node, core.actor) >= n
            }
        };
        if !write.quorum.is_met(has) {
            return;
        }
        self.waiting.remove(&(write.partition, n));
        // Equal timestamps are told apart by the dot, and the replica said that its own wins.
        if newer >= summary.timestamp {
            write.stage = Stage::Stamping { is_first: false };
            let change = Change::Write(crate::model::Write {
                above: newer,
                ..write.request.write.clone()
            });
            core.count(Counter::WritesRestamped, 1);
            core.change(outputs, Purpose::Write(id), change);
            return;
        }
        if let Some(write) = self.writes.remove(&id) {
            core.timers.clear(write.request.deadline, Timer::Write(id));
            core.count(Counter::WritesOk, 1);
            reply(
                outputs,
                write.request.origin,
                Outcome::Written(Written {
                    node: core.me,
                    timestamp: summary.timestamp,
                    summary: Some(summary),
                    is_crossed: false,
                }),
            );
        }
    }
}
