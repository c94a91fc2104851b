//! Operations passed on to a replica, for a node that does not hold the partition or does not serve it yet.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::model::{Level, NodeId, PartitionId, Time};

use super::core::{Core, Counter, Origin, send};
use super::machine::{Now, Output};
use super::message::{Lane, Message, Operation, Outcome, Unavailable, Unknown};
use super::timers::Timer;

#[derive(Debug)]
struct Passed {
    origin: Origin,
    to: NodeId,
    deadline: Time,
    is_write: bool,
}

/// Operations of peers that are remembered, so that one that arrives twice is done once.
const SEEN_MAX: usize = 16_384;

/// Operations that peers have passed on to this node, the last of them.
#[derive(Debug, Default)]
pub(super) struct Seen {
    ids: BTreeSet<(NodeId, u64)>,
    order: VecDeque<(NodeId, u64)>,
}

impl Seen {
    /// Whether this operation is new.
    pub(super) fn is_new(&mut self, peer: NodeId, id: u64) -> bool {
        if !self.ids.insert((peer, id)) {
            return false;
        }
        self.order.push_back((peer, id));
        if self.order.len() > SEEN_MAX {
            if let Some(oldest) = self.order.pop_front() {
                self.ids.remove(&oldest);
            }
        }
        true
    }
}

/// All operations that this node has passed on.
#[derive(Debug, Default)]
pub(super) struct Forwards(BTreeMap<u64, Passed>);

impl Forwards {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Passes an operation on to the first replica of this region that serves.
    pub(super) fn start(
        &mut self,
        now: Now,
        core: &mut Core,
        partition: PartitionId,
        origin: Origin,
        operation: Operation,
        level: Level,
        deadline: Time,
        outputs: &mut Vec<Output>,
    ) {
        let target = core
            .placement
            .replicas(partition, core.region)
            .iter()
            .copied()
            .find(|node| *node != core.me && core.peers.is_up(*node));
        let Some(to) = target else {
            core.reply(outputs, origin, Outcome::Unavailable(Unavailable::Replicas));
            return;
        };
        let id = core.id();
        let is_write = matches!(operation, Operation::Write { .. });
        core.timers.set(deadline, Timer::Forward(id));
        core.count(Counter::Forwarded, 1);
        self.0.insert(
            id,
            Passed {
                origin,
                to,
                deadline,
                is_write,
            },
        );
        let left = deadline.since(now.time);
        let micros_left = u64::try_from(left.as_micros()).unwrap_or(u64::MAX);
        let message = Message::Forward {
            id,
            operation,
            level,
            micros_left,
        };
        send(outputs, to, Lane::Request, message);
    }

    /// The replica answered.
    pub(super) fn on_outcome(
        &mut self,
        core: &mut Core,
        id: u64,
        from: NodeId,
        outcome: Outcome,
        outputs: &mut Vec<Output>,
    ) {
        if self.0.get(&id).is_none_or(|passed| passed.to != from) {
            return;
        }
        if let Some(passed) = self.0.remove(&id) {
            core.timers.clear(passed.deadline, Timer::Forward(id));
            core.reply(outputs, passed.origin, outcome);
        }
    }

    /// It did not answer in time.
    pub(super) fn on_deadline(&mut self, core: &mut Core, id: u64, outputs: &mut Vec<Output>) {
        if let Some(passed) = self.0.remove(&id) {
            core.reply(outputs, passed.origin, lost(&passed, Unavailable::Deadline));
        }
    }

    /// The replica is gone, and with it what it was asked.
    pub(super) fn on_peer_lost(
        &mut self,
        core: &mut Core,
        peer: NodeId,
        outputs: &mut Vec<Output>,
    ) {
        let ids: Vec<u64> = self
            .0
            .iter()
            .filter(|(_, passed)| passed.to == peer)
            .map(|(id, _)| *id)
            .collect();
        for id in ids {
            if let Some(passed) = self.0.remove(&id) {
                core.timers.clear(passed.deadline, Timer::Forward(id));
                core.reply(outputs, passed.origin, lost(&passed, Unavailable::Replicas));
            }
        }
    }
}

fn lost(passed: &Passed, reason: Unavailable) -> Outcome {
    if passed.is_write {
        Outcome::Unknown(Unknown::Coordinator)
    } else {
        Outcome::Unavailable(reason)
    }
}
