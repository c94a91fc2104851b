//! Operations passed on to a replica, for a node that does not hold the partition, does not serve it yet, or is slow.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::model::{NodeId, RegionId};

use crate::model::planted::{Guard, is_left_out};

use super::core::{Core, Counter, reply, send};
use super::message::{Lane, Message, Operation, Outcome, Request, Unavailable, Unknown};
use super::operation::Accepted;
use super::step::{Now, Output};
use super::timers::Timer;

/// Why an operation is passed on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Why {
    /// It is for another replica of this region.
    NotHere,
    /// What it must have seen is not here: this region is asked.
    Behind(RegionId),
    /// The disk here is slow: a neighbour is asked. If none can take it, it is done here.
    Slow,
}

impl Why {
    /// What is said if nobody can take it.
    fn outcome(self) -> Outcome {
        match self {
            Self::NotHere | Self::Slow => Outcome::Unavailable(Unavailable::Replicas),
            Self::Behind(_) => Outcome::NotYet,
        }
    }
}

#[derive(Debug)]
struct Passed {
    request: Accepted,
    why: Why,
    to: NodeId,
    /// Replicas that could not take it.
    tried: Vec<NodeId>,
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
            return is_left_out(Guard::ForwardOnce);
        }
        self.order.push_back((peer, id));
        if self.order.len() > SEEN_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.ids.remove(&oldest);
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

    /// Passes an operation on that cannot be done here, to the first replica in line that is up, of this region or the one
    /// that is asked; one that cannot take it says so, and then the next is asked.
    pub(super) fn start(
        &mut self,
        now: Now,
        core: &mut Core,
        why: Why,
        request: Accepted,
        outputs: &mut Vec<Output>,
    ) {
        core.count(Counter::Forwarded, 1);
        let back = self.pass(now, core, (why, request), Vec::new(), outputs);
        debug_assert!(back.is_none(), "it cannot be done here");
    }

    /// Offers an operation that could be done here to the neighbours. Gives it back if none can take it.
    pub(super) fn offer(
        &mut self,
        now: Now,
        core: &mut Core,
        request: Accepted,
        outputs: &mut Vec<Output>,
    ) -> Option<Accepted> {
        core.count(Counter::Outpaced, 1);
        self.pass(now, core, (Why::Slow, request), Vec::new(), outputs)
    }

    fn pass(
        &mut self,
        now: Now,
        core: &mut Core,
        (why, request): (Why, Accepted),
        tried: Vec<NodeId>,
        outputs: &mut Vec<Output>,
    ) -> Option<Accepted> {
        let Some(to) = target(core, why, &request, &tried) else {
            if why == Why::Slow {
                return Some(request);
            }
            reply(outputs, request.origin, why.outcome());
            return None;
        };
        let id = core.id();
        core.timers.set(request.deadline, Timer::Forward(id));
        let left = request.deadline.since(now.time);
        let message = Message::Forward {
            id,
            request: Request {
                operation: request.operation.clone(),
                level: Some(request.level),
                gate: request.gate.clone(),
            },
            micros_left: u64::try_from(left.as_micros()).unwrap_or(u64::MAX),
        };
        let passed = Passed {
            request,
            why,
            to,
            tried,
        };
        self.0.insert(id, passed);
        send(outputs, to, Lane::Request, message);
        None
    }

    /// The replica answered. Gives the operation back if no other replica can take it either, and it is to be done here.
    pub(super) fn on_outcome(
        &mut self,
        now: Now,
        core: &mut Core,
        id: u64,
        from: NodeId,
        outcome: Outcome,
        outputs: &mut Vec<Output>,
    ) -> Option<Accepted> {
        let mut passed = self.0.remove(&id)?;
        if passed.to != from {
            self.0.insert(id, passed);
            return None;
        }
        core.timers
            .clear(passed.request.deadline, Timer::Forward(id));
        // Nothing happened, and another replica may have the quorum, or the room.
        let is_short = matches!(
            outcome,
            Outcome::Unavailable(Unavailable::Replicas | Unavailable::Disk)
        );
        let is_busy = matches!(outcome, Outcome::Unavailable(Unavailable::Overloaded));
        let may_pass = is_short || (is_busy && passed.why == Why::Slow);
        if !may_pass {
            reply(outputs, passed.request.origin, outcome);
            return None;
        }
        passed.tried.push(from);
        let again = (passed.why, passed.request);
        self.pass(now, core, again, passed.tried, outputs)
    }

    /// It did not answer in time.
    pub(super) fn on_deadline(&mut self, id: u64, outputs: &mut Vec<Output>) {
        if let Some(passed) = self.0.remove(&id) {
            reply(
                outputs,
                passed.request.origin,
                lost(&passed, Unavailable::Deadline),
            );
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
                core.timers
                    .clear(passed.request.deadline, Timer::Forward(id));
                reply(
                    outputs,
                    passed.request.origin,
                    lost(&passed, Unavailable::Replicas),
                );
            }
        }
    }
}

/// The first replica in line that is up and was not asked yet; one that is slow or late only if there is no other. But
/// conditions are all looked at by the first in line, whoever that is; and a node that could do it itself passes it only
/// to one that serves.
fn target(core: &Core, why: Why, request: &Accepted, tried: &[NodeId]) -> Option<NodeId> {
    let region = match why {
        Why::NotHere | Why::Slow => core.region,
        Why::Behind(region) => region,
    };
    let line = core.placement.replicas(request.partition, region).iter();
    let may_take =
        |node: &NodeId| *node != core.me && !tried.contains(node) && core.peers.is_up(*node);
    let mut line = line.copied().filter(may_take);
    let is_conditional =
        matches!(&request.operation, Operation::Write(write) if write.condition.is_some());
    let is_well = |node: &NodeId| !core.paces.is_asked_last(*node);
    let replica = core.replicas.get(&request.partition);
    let serves = |node: &NodeId| replica.is_some_and(|replica| core.is_serving(replica, *node));
    match why {
        Why::Slow => line.find(|node| is_well(node) && serves(node)),
        Why::NotHere | Why::Behind(_) if is_conditional => line.next(),
        Why::NotHere | Why::Behind(_) => line.clone().find(is_well).or_else(|| line.next()),
    }
}

fn lost(passed: &Passed, reason: Unavailable) -> Outcome {
    match passed.request.operation {
        Operation::Write(_) => Outcome::Unknown(Unknown::Coordinator),
        Operation::Get { .. }
        | Operation::Select { .. }
        | Operation::Count { .. }
        | Operation::Wait { .. }
        | Operation::List { .. } => match passed.why {
            // Here nothing is amiss: what was to be seen is not here yet.
            Why::Behind(_) => passed.why.outcome(),
            Why::NotHere | Why::Slow => Outcome::Unavailable(reason),
        },
    }
}
