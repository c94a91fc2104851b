//! What must be here before a read is answered, or a write done that takes away or compares: what the client has seen, or all that was
//! written up to a time.
//!
//! Such an operation waits here until the watermarks of other regions have come far enough. If they do not in time, a region
//! that has it is asked, once, or the client is told to come again.

use std::collections::BTreeMap;

use crate::model::{
    Actor, Behind, Duration, Gate, Level, NodeId, PartitionId, RegionId, Session, Time,
};

use crate::model::planted::{Guard, is_left_out};

use super::core::Core;
use super::message::Operation;
use super::operation::Accepted;
use super::replica::Replica;
use super::timers::Timer;

/// What to do with an operation now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    /// All that it must have seen is here.
    Open,
    /// It may wait for it.
    Wait,
    /// This region, of which most is missing, is to be asked.
    Forward(RegionId),
    /// It is not here.
    Refuse,
}

#[derive(Debug)]
struct Pending {
    accepted: Accepted,
    until: Time,
}

/// All operations that wait.
#[derive(Debug, Default)]
pub(super) struct Gates(BTreeMap<u64, Pending>);

impl Gates {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether one more may wait: while a region is cut off they all wait as long as they may, and must not take the
    /// places of those that need not.
    pub(super) fn has_room(&self, core: &Core) -> bool {
        self.0.len() < core.limits.requests_max.div_ceil(2)
    }

    /// Lets an operation wait.
    pub(super) fn wait(&mut self, now: Time, core: &mut Core, accepted: Accepted) {
        let id = core.id();
        let until = now
            .after(Duration::from_micros(accepted.gate.wait_micros))
            .min(accepted.deadline);
        core.timers.set(until, Timer::Gate(id));
        self.0.insert(id, Pending { accepted, until });
    }

    /// Something has come: those that need not wait any more.
    pub(super) fn settle(&mut self, core: &mut Core) -> Vec<Accepted> {
        let open = |pending: &Pending| missing(core, &pending.accepted).is_none();
        let pending = self.0.iter().filter(|(_, pending)| open(pending));
        let ids: Vec<u64> = pending.map(|(id, _)| *id).collect();
        let mut settled = Vec::new();
        for id in ids {
            if let Some(pending) = self.0.remove(&id) {
                core.timers.clear(pending.until, Timer::Gate(id));
                settled.push(pending.accepted);
            }
        }
        settled
    }

    /// An operation has waited long enough.
    pub(super) fn on_timer(&mut self, id: u64) -> Option<Accepted> {
        let pending = self.0.remove(&id);
        pending.map(|pending| pending.accepted.without_wait())
    }
}

/// What to do with an operation on partitions that are here.
pub(super) fn verdict(core: &Core, accepted: &Accepted) -> Verdict {
    let gate = &accepted.gate;
    match missing(core, accepted) {
        None => Verdict::Open,
        Some(_) if gate.wait_micros > 0 => Verdict::Wait,
        // A condition is looked at in its own region.
        Some(region)
            if gate.behind == Behind::Forward
                && region != core.region
                && !is_conditional(&accepted.operation) =>
        {
            Verdict::Forward(region)
        }
        Some(_) => Verdict::Refuse,
    }
}

fn is_conditional(operation: &Operation) -> bool {
    matches!(operation, Operation::Write(write) if write.condition.is_some())
}

/// The region of which most is missing for an operation; nothing if all is here.
fn missing(core: &Core, accepted: &Accepted) -> Option<RegionId> {
    if accepted.gate.is_open() {
        return None;
    }
    let replicas = concerned(core, accepted);
    let missing = replicas.filter_map(|replica| {
        let regions = replica.regions().iter();
        let others = regions.filter(|(region, _)| {
            *region != core.region || matches!(accepted.level, Level::One | Level::UnsafeOne)
        });
        others
            .filter_map(|(region, nodes)| {
                let need = lacking(core, replica, *region, nodes, &accepted.gate)?;
                Some((need, *region))
            })
            .max()
    });
    missing.max().map(|(_, region)| region)
}

/// The partitions here that an operation is about.
fn concerned<'a>(
    core: &'a Core,
    accepted: &Accepted,
) -> impl Iterator<Item = &'a Replica> + use<'a> {
    let first = accepted.partition;
    let last = match accepted.operation {
        Operation::List { .. } => PartitionId {
            index: u16::MAX,
            ..first
        },
        Operation::Get { .. }
        | Operation::Select { .. }
        | Operation::Count { .. }
        | Operation::Write(_)
        | Operation::Wait { .. } => first,
    };
    core.replicas
        .range(first..=last)
        .map(|(_, replica)| replica)
}

/// The latest time up to which changes of a region are needed and not here.
fn lacking(
    core: &Core,
    replica: &Replica,
    region: RegionId,
    nodes: &[NodeId],
    gate: &Gate,
) -> Option<u64> {
    let fresh = gate.fresh_as_of.filter(|_| !is_left_out(Guard::FreshGate));
    let fresh = fresh.map_or(0, |wall| wall.0);
    let need = |node: &NodeId| {
        if is_left_out(Guard::SessionGate) {
            return fresh;
        }
        gate.session.need(region, *node).max(fresh)
    };
    let lacking = nodes
        .iter()
        .filter(|node| !has_all_of(core, replica, **node, need(node)));
    lacking.map(need).max()
}

/// Whether all that a session has seen is in a partition here.
pub(super) fn has_session(core: &Core, replica: &Replica, session: &Session) -> bool {
    replica.regions().iter().all(|(region, nodes)| {
        nodes
            .iter()
            .all(|node| has_all_of(core, replica, *node, session.need(*region, *node)))
    })
}

/// Whether all that a node did in a partition up to a time is here: by the watermark of its present life, and of its
/// earlier ones all that anybody has, for a crash may have left the node itself with less.
fn has_all_of(core: &Core, replica: &Replica, node: NodeId, micros: u64) -> bool {
    if node == core.me || micros == 0 {
        return true;
    }
    let Some(other) = replica.other(node) else {
        return false;
    };
    let heard = core.peers.get(node).and_then(|peer| peer.incarnation);
    let incarnation = heard.map_or(other.incarnation, |heard| heard.max(other.incarnation));
    let actor = Actor { node, incarnation };
    let is_here = replica
        .mark(actor)
        .is_some_and(|mark| mark.micros >= micros);
    let is_earlier = |actor: &Actor| actor.node == node && actor.incarnation < incarnation;
    let has_earlier = replica.others().all(|(_, known)| {
        let mut earlier = known
            .position
            .reaches
            .iter()
            .filter(|(actor, _)| is_earlier(actor));
        earlier.all(|(actor, reach)| replica.position.reach(*actor).complete >= reach.complete)
    });
    is_here && other.incarnation == incarnation && !other.is_old_copy() && has_earlier
}
