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
    /// The disk here is slow. If nobody else can take it, it is done here.
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
pub(super) struct Forwards {
    passed: BTreeMap<u64, Passed>,
    /// Operations that nobody else could take, to be done here.
    returned: Vec<Accepted>,
}

impl Forwards {
    pub(super) fn len(&self) -> usize {
        self.passed.len()
    }

    /// Operations that nobody else could take, and that this node can do itself.
    pub(super) fn take_returned(&mut self) -> Vec<Accepted> {
        std::mem::take(&mut self.returned)
    }

    /// Passes an operation on to the first replica in line that is up, of this region or the one that is asked;
    /// one that cannot take it says so, and then the next is asked.
    pub(super) fn start(
        &mut self,
        now: Now,
        core: &mut Core,
        why: Why,
        request: Accepted,
        outputs: &mut Vec<Output>,
    ) {
        core.count(Counter::Forwarded, 1);
        self.pass(now, core, (why, request), Vec::new(), outputs);
    }

    fn pass(
        &mut self,
        now: Now,
        core: &mut Core,
        (why, request): (Why, Accepted),
        tried: Vec<NodeId>,
        outputs: &mut Vec<Output>,
    ) {
        let Some(to) = target(core, why, &request, &tried) else {
            if why == Why::Slow {
                self.returned.push(request);
            } else {
                reply(outputs, request.origin, why.outcome());
            }
            return;
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
        self.passed.insert(id, passed);
        send(outputs, to, Lane::Request, message);
    }

    /// The replica answered.
    pub(super) fn on_outcome(
        &mut self,
        now: Now,
        core: &mut Core,
        id: u64,
        from: NodeId,
        outcome: Outcome,
        outputs: &mut Vec<Output>,
    ) {
        if self.passed.get(&id).is_none_or(|passed| passed.to != from) {
            return;
        }
        let Some(mut passed) = self.passed.remove(&id) else {
            return;
        };
        core.timers
            .clear(passed.request.deadline, Timer::Forward(id));
        // Nothing happened, and another replica may have the quorum, or the room.
        let may_pass = matches!(
            outcome,
            Outcome::Unavailable(Unavailable::Replicas | Unavailable::Disk)
        );
        if may_pass {
            passed.tried.push(from);
            let again = (passed.why, passed.request);
            self.pass(now, core, again, passed.tried, outputs);
        } else {
            reply(outputs, passed.request.origin, outcome);
        }
    }

    /// It did not answer in time.
    pub(super) fn on_deadline(&mut self, id: u64, outputs: &mut Vec<Output>) {
        if let Some(passed) = self.passed.remove(&id) {
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
            .passed
            .iter()
            .filter(|(_, passed)| passed.to == peer)
            .map(|(id, _)| *id)
            .collect();
        for id in ids {
            if let Some(passed) = self.passed.remove(&id) {
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

/// The first replica in line that is up and was not asked yet; one that is slow only if there is no other. But
/// conditions are all looked at by the first in line, whatever its disk.
fn target(core: &Core, why: Why, request: &Accepted, tried: &[NodeId]) -> Option<NodeId> {
    let region = match why {
        Why::NotHere | Why::Slow => core.region,
        Why::Behind(region) => region,
    };
    let line = core.placement.replicas(request.partition, region).iter();
    let mut line = line
        .copied()
        .filter(|node| *node != core.me && !tried.contains(node) && core.peers.is_up(*node));
    let is_conditional =
        matches!(&request.operation, Operation::Write(write) if write.condition.is_some());
    let is_well = |node: &NodeId| !core.paces.is_last(*node);
    match why {
        Why::Slow => line.find(is_well),
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
        | Operation::List { .. } => Outcome::Unavailable(reason),
    }
}
