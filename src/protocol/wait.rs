//! Waiting until what a client has seen is on a quorum of some regions, in every partition.
//!
//! Whoever is asked sees to its own partitions and says when all is there. Questions are asked again until they are
//! answered, for any message may be lost.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{Duration, NodeId, PartitionId, RegionId, Session, Time};
use crate::placement::Placement;

use super::core::{Core, Origin, reply, send};
use super::gate::has_session;
use super::message::{Lane, Message, Outcome};
use super::step::Output;
use super::timers::Timer;

/// Between two times of asking.
const AGAIN: Duration = Duration::from_secs(1);

/// A wait as it was asked for.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct WaitRequest {
    pub(super) origin: Origin,
    /// All of them if none is named.
    pub(super) regions: Vec<RegionId>,
    pub(super) session: Session,
    pub(super) deadline: Time,
}

#[derive(Debug)]
struct Wait {
    request: WaitRequest,
    reached: BTreeSet<NodeId>,
    due: Time,
}

/// A question to this node: of a peer, or of a wait of its own.
#[derive(Debug)]
struct Question {
    session: Session,
    until: Time,
    /// Up to this partition all is here.
    from: Option<PartitionId>,
}

/// All waits of this node's clients, and what is asked of this node.
#[derive(Debug, Default)]
pub(super) struct Waits {
    waits: BTreeMap<u64, Wait>,
    questions: BTreeMap<(NodeId, u64), Question>,
}

impl Waits {
    pub(super) fn len(&self) -> usize {
        self.waits.len()
    }

    /// Questions that this node has not answered yet.
    pub(super) fn questions(&self) -> usize {
        self.questions.len()
    }

    /// Begins to wait.
    pub(super) fn start(
        &mut self,
        now: Time,
        core: &mut Core,
        mut request: WaitRequest,
        outputs: &mut Vec<Output>,
    ) {
        if request.regions.is_empty() {
            request.regions = core.placement.nodes().values().copied().collect();
        }
        let id = core.id();
        let wait = Wait {
            request,
            reached: BTreeSet::new(),
            due: now,
        };
        self.waits.insert(id, wait);
        self.ask(now, core, id, outputs);
        self.conclude(core, id, outputs);
        self.settle(now, core, outputs);
    }

    /// Asks again, or gives up.
    pub(super) fn on_timer(
        &mut self,
        now: Time,
        core: &mut Core,
        id: u64,
        outputs: &mut Vec<Output>,
    ) {
        let Some(wait) = self.waits.get(&id) else {
            return;
        };
        if now < wait.request.deadline {
            self.ask(now, core, id, outputs);
            return;
        }
        self.questions.remove(&(core.me, id));
        if let Some(wait) = self.waits.remove(&id) {
            reply(outputs, wait.request.origin, Outcome::NotYet);
        }
    }

    /// Asks all who have not answered.
    fn ask(&mut self, now: Time, core: &mut Core, id: u64, outputs: &mut Vec<Output>) {
        let Some(wait) = self.waits.get_mut(&id) else {
            return;
        };
        wait.due = now.after(AGAIN).min(wait.request.deadline);
        core.timers.set(wait.due, Timer::Wait(id));
        let left = wait.request.deadline.since(now);
        let nodes = core.placement.nodes().iter();
        let asked = nodes.filter(|(node, region)| {
            wait.request.regions.contains(region)
                && !core.placement.partitions_of(**node).is_empty()
                && !wait.reached.contains(node)
        });
        for (node, _) in asked {
            let session = wait.request.session.clone();
            if *node == core.me {
                self.questions.entry((core.me, id)).or_insert(Question {
                    session,
                    until: wait.request.deadline,
                    from: None,
                });
                continue;
            }
            let message = Message::Await {
                id,
                session,
                micros_left: u64::try_from(left.as_micros()).unwrap_or(u64::MAX),
            };
            send(outputs, *node, Lane::Request, message);
        }
    }

    /// A peer asks. If too many do, it will ask again.
    pub(super) fn on_await(
        &mut self,
        now: Time,
        core: &mut Core,
        (peer, id): (NodeId, u64),
        (session, left): (Session, Duration),
        outputs: &mut Vec<Output>,
    ) {
        if self.questions.len() >= core.limits.requests_max {
            return;
        }
        self.questions.entry((peer, id)).or_insert(Question {
            session,
            until: now.after(left),
            from: None,
        });
        self.settle(now, core, outputs);
    }

    /// A node has it all.
    pub(super) fn on_awaited(
        &mut self,
        core: &mut Core,
        id: u64,
        from: NodeId,
        outputs: &mut Vec<Output>,
    ) {
        if let Some(wait) = self.waits.get_mut(&id) {
            wait.reached.insert(from);
            self.conclude(core, id, outputs);
        }
    }

    /// Something has come here: who waited for it?
    pub(super) fn settle(&mut self, now: Time, core: &mut Core, outputs: &mut Vec<Output>) {
        let mut answered = Vec::new();
        self.questions.retain(|asker, question| {
            let is_here = question.look(core);
            if is_here {
                answered.push(*asker);
            }
            !is_here && now < question.until
        });
        for (asker, id) in answered {
            if asker == core.me {
                self.on_awaited(core, id, asker, outputs);
            } else {
                send(outputs, asker, Lane::Request, Message::Awaited { id });
            }
        }
    }

    /// Answers a wait if enough nodes have it all.
    fn conclude(&mut self, core: &mut Core, id: u64, outputs: &mut Vec<Output>) {
        let is_done = self.waits.get(&id).is_some_and(|wait| {
            is_reached(&core.placement, &wait.request.regions, |node| {
                wait.reached.contains(&node)
            })
        });
        if !is_done {
            return;
        }
        if let Some(wait) = self.waits.remove(&id) {
            core.timers.clear(wait.due, Timer::Wait(id));
            self.questions.remove(&(core.me, id));
            reply(outputs, wait.request.origin, Outcome::Reached);
        }
    }
}

impl Question {
    /// Whether all is here. What was found here once need not be looked at again.
    fn look(&mut self, core: &Core) -> bool {
        for (partition, replica) in &core.replicas {
            if self.from.is_some_and(|from| *partition <= from) {
                continue;
            }
            if !has_session(core, replica, &self.session) {
                return false;
            }
            self.from = Some(*partition);
        }
        true
    }
}

/// Whether in each of the regions, for each partition there, a quorum of the replicas has it.
fn is_reached(placement: &Placement, regions: &[RegionId], has: impl Fn(NodeId) -> bool) -> bool {
    let nodes = placement.nodes().keys();
    let partitions: BTreeSet<PartitionId> = nodes
        .flat_map(|node| placement.partitions_of(*node).iter().copied())
        .collect();
    partitions.into_iter().all(|partition| {
        let lines = placement.regions(partition).iter();
        let mut wanted = lines.filter(|(region, _)| regions.contains(region));
        wanted.all(|(_, nodes)| {
            let count = nodes.iter().filter(|node| has(**node)).count();
            count > nodes.len() / 2 || nodes.is_empty()
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::placement::Topology;

    const TOPOLOGY: &str = include_str!("../../regions/global.toml");

    #[test]
    fn every_partition_wants_a_quorum_in_every_region_that_is_named() {
        let topology = Topology::parse("global.toml", TOPOLOGY).unwrap();
        let placement = Placement::new(&topology);
        let (first, second) = (topology.regions[0].id, topology.regions[1].id);
        let in_first = |node| placement.region_of(node) == Some(first);
        assert!(is_reached(&placement, &[first], in_first));
        assert!(!is_reached(&placement, &[first, second], in_first));
        let nodes = &topology.regions[0].nodes;
        let but = |lost: usize| {
            let lost: Vec<NodeId> = nodes.iter().take(lost).map(|node| node.id).collect();
            is_reached(&placement, &[first], |node| {
                in_first(node) && !lost.contains(&node)
            })
        };
        assert!(but(1));
        assert!(!but(2));
    }
}
