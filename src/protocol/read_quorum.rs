//! What all reads of several replicas have in common: on which terms they are asked for, what this node itself has, and whom they have
//! asked: as many replicas as the level needs, and all others once one of them keeps silent.

use std::collections::BTreeSet;

use crate::model::{Level, NodeId, Time};

use super::core::Core;
use super::pace::HEDGE;
use super::quorum::{Kind, Quorum};
use super::replica::Replica;
use super::timers::Timer;

/// On which terms a read is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Terms {
    pub(super) level: Level,
    pub(super) deadline: Time,
    /// Whether it is one of a session, whose later reads must not see less.
    pub(super) is_session: bool,
}

impl Terms {
    /// Whether it may show only what a quorum has, though it asks one replica.
    pub(super) fn must_be_settled(self) -> bool {
        self.is_session && self.level == Level::One
    }

    /// The same of a quorum of this region: what the next read of the session may ask.
    pub(super) fn at_quorum(self) -> Self {
        Self {
            level: Level::LocalQuorum,
            ..self
        }
    }
}

/// What this node itself has of what is read.
#[derive(Debug)]
pub(super) enum Own<T> {
    /// That is being read.
    Awaited,
    /// Nobody can know: it does not count.
    Unreadable,
    /// This.
    Here(T),
}

impl<T> Own<T> {
    /// What it has.
    pub(super) fn here(&self) -> Option<&T> {
        match self {
            Self::Here(own) => Some(own),
            Self::Awaited | Self::Unreadable => None,
        }
    }

    /// Whether that is not known yet.
    pub(super) fn is_awaited(&self) -> bool {
        matches!(self, Self::Awaited)
    }
}

/// The quorum of a read of a level; nothing if too few replicas serve.
pub(super) fn served(core: &Core, replica: &Replica, level: Level) -> Option<Quorum> {
    let quorum = Quorum::new(Kind::Read, level, core.region, core.me, replica.regions());
    let is_met = quorum.is_met(|node| core.is_serving(replica, node));
    is_met.then_some(quorum)
}

/// The replicas that a read has asked, this node among them, and how many must answer.
#[derive(Debug)]
pub(super) struct ReadQuorum {
    quorum: Quorum,
    nodes: BTreeSet<NodeId>,
    hedge_at: Time,
}

impl ReadQuorum {
    /// As many as a level needs, those that are slow only if need be; nothing if too few serve.
    pub(super) fn first(core: &Core, replica: &Replica, level: Level) -> Option<Self> {
        let quorum = served(core, replica, level)?;
        let nodes = quorum.first(
            core.me,
            |node| core.is_serving(replica, node),
            |node| core.paces.is_asked_last(node),
        );
        Some(Self {
            quorum,
            nodes,
            hedge_at: core.time.after(HEDGE),
        })
    }

    /// Whether enough replicas satisfy `has`.
    pub(super) fn is_met(&self, has: impl Fn(NodeId) -> bool) -> bool {
        self.quorum.is_met(has)
    }

    /// Whether a replica was asked.
    pub(super) fn contains(&self, node: NodeId) -> bool {
        self.nodes.contains(&node)
    }

    /// The replicas that were asked, but this node.
    pub(super) fn others(&self, me: NodeId) -> impl Iterator<Item = NodeId> + '_ {
        self.nodes.iter().copied().filter(move |node| *node != me)
    }

    /// Sets the timer after which the others are asked, if anybody can keep silent.
    pub(super) fn set_hedge(&self, core: &mut Core, timer: Timer) {
        if self.nodes.len() > 1 {
            core.timers.set(self.hedge_at, timer);
        }
    }

    /// Clears that timer.
    pub(super) fn clear_hedge(&self, core: &mut Core, timer: Timer) {
        core.timers.clear(self.hedge_at, timer);
    }

    /// A replica answered: how long it took is noted.
    pub(super) fn on_answer(&self, core: &mut Core, from: NodeId) {
        core.paces.on_answer(from, core.time, self.hedge_at);
    }

    /// Those that have not answered in time are noted as late.
    pub(super) fn on_silence(&self, core: &mut Core, has_answered: impl Fn(NodeId) -> bool) {
        let silent = self.nodes.iter().copied();
        core.on_silence(silent.filter(|node| !has_answered(*node)));
    }

    /// A replica is gone: it will not answer, and may be asked anew.
    pub(super) fn on_lost(&mut self, node: NodeId) {
        self.nodes.remove(&node);
    }

    /// Whether somebody has kept silent for too long.
    pub(super) fn is_overdue(&self, now: Time) -> bool {
        now >= self.hedge_at
    }

    /// The replicas that were not asked yet, and are up: now they are asked.
    pub(super) fn rest(&mut self, core: &Core) -> Vec<NodeId> {
        let all = self.quorum.groups.iter().flat_map(|group| &group.replicas);
        let up = all.copied().filter(|node| core.peers.is_up(*node));
        up.filter(|node| self.nodes.insert(*node)).collect()
    }
}
