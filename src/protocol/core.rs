//! What all conversations of the machine share: who we are, whom we hear, what we hold, and the names of
//! what was given to the store.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use crate::model::planted::{Guard, is_left_out};
use crate::model::{
    Actor, Change, Duration, Incarnation, Limits, NodeId, PartitionId, Position, Query, RegionId,
    Row, RowKey, Ticket, Time, Wall,
};
use crate::placement::Placement;

use super::message::{Append, Lane, Message, Outcome};
use super::other::Other;
use super::pace::{News, Paces};
use super::peers::{Peer, Peers};
use super::reconcile::{Half, Summing};
use super::replica::Replica;
use super::sender::StreamId;
use super::step::{Config, Now, Output, Report, RequestId, Room};
use super::timers::Timers;

/// At least so long between two times that a sender is asked to go back to a number of a log, or does.
pub(super) const REWIND_EVERY: Duration = Duration::from_millis(150);

/// Who asked for an operation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Origin {
    /// A client of this node.
    Client(RequestId),
    /// A peer, with its id of it.
    Peer(NodeId, u64),
}

/// A piece of log, and who sent it.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Arrival {
    pub(super) from: NodeId,
    pub(super) append: Append,
}

/// Why something was given to the store: who is told when it is done.
#[derive(Clone, Debug)]
pub(super) enum Purpose {
    /// A coordinated write.
    Write(u64),
    /// A piece of log from a peer.
    Append(Arrival),
    /// This node's own part of a read.
    Read(u64),
    /// This node's own part of a read's repair.
    ReadRepair(u64),
    /// This node's own part of a read of several rows.
    Select(u64),
    SelectOperations(u64),
    /// This node's own part of its repair.
    SelectRepair(u64),
    /// The members of a collection are counted for somebody.
    Count(Origin),
    /// A page of rows for a listing.
    List(u64),
    /// A page of log for a stream, and which.
    LogPage(StreamId, u64),
    /// A peer reads here.
    PeerRead {
        peer: NodeId,
        id: u64,
        whole: bool,
        lane: Lane,
    },
    /// A peer reads several rows of a key here.
    PeerSelect {
        peer: NodeId,
        id: u64,
        whole: bool,
    },
    /// A peer repairs here; the last change of its message tells it.
    PeerRepair {
        peer: NodeId,
        id: u64,
        lane: Lane,
        is_last: bool,
    },
    /// A peer asks for digests or listings.
    PeerDigest {
        peer: NodeId,
        id: u64,
    },
    /// A peer asks for sums: what is known of them so far.
    PeerSums(Box<Summing>),
    /// This node's own half of a step of reconciliation.
    Reconcile(PartitionId, Half),
    /// A row that a session of reconciliation mends here.
    Mend(PartitionId, u64),
    /// The position after reconciliation.
    Raise(PartitionId, Position),
    /// What a replica does by itself.
    Upkeep,
    /// Lives of a node that are over need not be counted any more.
    Retire(PartitionId, NodeId, Incarnation),
    /// A partition begins to serve.
    Serve(PartitionId),
}

/// Counters since the start; each is a metric.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Counter {
    WritesOk,
    WritesUnknown,
    WritesUnavailable,
    WritesRestamped,
    WritesDenied,
    ConditionsCrossed,
    GatesWaited,
    GatesForwarded,
    GatesRefused,
    ReadsOk,
    ReadsRepaired,
    ReadsRestarted,
    ReadsUnavailable,
    Forwarded,
    Outpaced,
    AppendsApplied,
    AppendsDuplicate,
    Gaps,
    ClockAhead,
    LogPages,
    Rewinds,
    ReconcileRounds,
    ReconcileRows,
    ReconcileBytes,
    Refills,
    Relayed,
    Fenced,
    Retired,
    NoRoom,
}

impl Counter {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::WritesOk => "writes_ok_total",
            Self::WritesUnknown => "writes_unknown_total",
            Self::WritesUnavailable => "writes_unavailable_total",
            Self::WritesRestamped => "writes_restamped_total",
            Self::WritesDenied => "writes_denied_total",
            Self::ConditionsCrossed => "conditions_crossed_total",
            Self::GatesWaited => "gates_waited_total",
            Self::GatesForwarded => "gates_forwarded_total",
            Self::GatesRefused => "gates_refused_total",
            Self::ReadsOk => "reads_ok_total",
            Self::ReadsRepaired => "reads_repaired_total",
            Self::ReadsRestarted => "reads_restarted_total",
            Self::ReadsUnavailable => "reads_unavailable_total",
            Self::Forwarded => "forwarded_total",
            Self::Outpaced => "outpaced_total",
            Self::AppendsApplied => "appends_applied_total",
            Self::AppendsDuplicate => "appends_duplicate_total",
            Self::Gaps => "gaps_total",
            Self::ClockAhead => "clock_ahead_total",
            Self::LogPages => "log_pages_total",
            Self::Rewinds => "rewinds_total",
            Self::ReconcileRounds => "reconcile_rounds_total",
            Self::ReconcileRows => "reconcile_rows_total",
            Self::ReconcileBytes => "reconcile_bytes_total",
            Self::Refills => "refills_total",
            Self::Relayed => "relayed_appends_total",
            Self::Fenced => "fenced_total",
            Self::Retired => "retired_total",
            Self::NoRoom => "no_room_total",
        }
    }
}

/// The shared part.
#[derive(Debug)]
pub(super) struct Core {
    pub(super) me: NodeId,
    pub(super) actor: Actor,
    pub(super) region: RegionId,
    pub(super) placement: Arc<Placement>,
    pub(super) limits: Limits,
    pub(super) peers: Peers,
    pub(super) replicas: BTreeMap<PartitionId, Replica>,
    pub(super) timers: Timers,
    pub(super) tickets: BTreeMap<Ticket, Purpose>,
    pub(super) counters: BTreeMap<Counter, u64>,
    /// The wall clock of the step that is under way.
    pub(super) wall: Wall,
    /// The time of that step.
    pub(super) time: Time,
    /// When the machine was made.
    pub(super) began: Time,
    /// The greatest time up to which this node has said that its log is told; what it stamps later is above it.
    pub(super) vouched: u64,
    /// Own writes that the door has not decided on yet; each will be stamped above this time.
    pub(super) at_door: BTreeMap<Ticket, u64>,
    /// Peers' repairs under way of which a row could not be merged.
    pub(super) spoilt: BTreeSet<(NodeId, u64)>,
    /// Partitions in which there is more to be swept, in turn. The timer is set as long as there is one.
    pub(super) sweeping: VecDeque<PartitionId>,
    /// Versions of this node that lost to concurrent ones, by the region of the winner.
    pub(super) lost: BTreeMap<RegionId, u64>,
    /// What this node's disk has room for.
    pub(super) room: Room,
    /// Whether the node stops.
    pub(super) is_stopping: bool,
    /// Who is slow.
    pub(super) paces: Paces,
    /// Own changes of which it is open whether they stand, so that they may yet be stamped again: they do not leave the region.
    pub(super) undecided: BTreeSet<(PartitionId, u64)>,
    next_id: u64,
}

/// Where a life's ids begin: far from those of the lives before it, so that a peer can tell a repeated question from a new
/// one, also if the clock has gone back meanwhile. By the golden ratio, as in Knuth's multiplicative hashing.
fn first_id(life: Incarnation) -> u64 {
    life.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 1
}

impl Core {
    pub(super) fn new(
        now: Now,
        config: Config,
        replicas: BTreeMap<PartitionId, Replica>,
        region: RegionId,
    ) -> Self {
        let me = config.node;
        let nodes = config
            .placement
            .nodes()
            .iter()
            .map(|(node, region)| (*node, *region));
        Self {
            me,
            actor: config.actor,
            region,
            peers: Peers::new(
                nodes.filter(|(node, _)| *node != me),
                config.limits.silence_max,
            ),
            placement: Arc::clone(&config.placement),
            limits: config.limits,
            replicas,
            timers: Timers::default(),
            tickets: BTreeMap::new(),
            counters: BTreeMap::new(),
            wall: now.wall,
            time: now.time,
            began: now.time,
            vouched: 0,
            at_door: BTreeMap::new(),
            spoilt: BTreeSet::new(),
            sweeping: VecDeque::new(),
            lost: BTreeMap::new(),
            room: Room::default(),
            is_stopping: false,
            paces: Paces::default(),
            undecided: BTreeSet::new(),
            next_id: first_id(config.actor.incarnation),
        }
    }

    /// A name not used before in this life of the machine.
    pub(super) fn id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    pub(super) fn count(&mut self, counter: Counter, by: u64) {
        *self.counters.entry(counter).or_default() += by;
    }

    /// Counts versions of this node that lost, by the node that won.
    pub(super) fn count_lost(&mut self, lost: &BTreeMap<NodeId, u64>) {
        for (node, count) in lost {
            if let Some(region) = self.region_of(*node) {
                *self.lost.entry(region).or_default() += count;
            }
        }
    }

    pub(super) fn partition(&self, key: &RowKey) -> PartitionId {
        key.partition(self.placement.partition_count())
    }

    pub(super) fn region_of(&self, node: NodeId) -> Option<RegionId> {
        self.placement.region_of(node)
    }

    /// There and back, as the topology has it.
    pub(super) fn rtt(&self, node: NodeId) -> Option<Duration> {
        let region = self.region_of(node)?;
        Some(self.placement.rtt(self.region, region))
    }

    pub(super) fn is_here(&self, node: NodeId) -> bool {
        self.region_of(node) == Some(self.region)
    }

    /// Whether a node is this one or a peer that is up.
    pub(super) fn is_live(&self, node: NodeId) -> bool {
        node == self.me || self.peers.is_up(node)
    }

    /// Whether a replica serves, as far as it is known: here, or by its own full word in this life of both.
    pub(super) fn is_serving(&self, replica: &Replica, node: NodeId) -> bool {
        if node == self.me {
            replica.is_serving
        } else {
            self.peers.is_up(node) && replica.other(node).is_some_and(Other::is_serving)
        }
    }

    /// Whether a quorum of this region has all that a row shows, so that no later read of a quorum sees less.
    pub(super) fn is_settled(&self, key: &RowKey, row: &Row) -> bool {
        let Some(replica) = self.replicas.get(&self.partition(key)) else {
            return false;
        };
        let summary = row.summary();
        let mut dots = summary.others.iter().chain([&summary.dot]);
        dots.all(|dot| {
            replica.position.has_retired(dot.actor) || dot.n <= replica.stable(dot.actor)
        }) || is_left_out(Guard::Settled)
    }

    /// How far a log may leave this region: of this node's own, nothing that may yet be stamped again, for there somebody
    /// could replace what he was shown.
    pub(super) fn decided(&self, partition: PartitionId, actor: Actor) -> u64 {
        let mut undecided = self.undecided.range((partition, 0)..=(partition, u64::MAX));
        let first = undecided.next().filter(|_| actor == self.actor);
        let first = first.filter(|_| !is_left_out(Guard::Decided));
        first.map_or(u64::MAX, |(_, n)| n - 1)
    }

    /// A replica reads here for a client.
    pub(super) fn on_reader(&mut self, key: Option<&RowKey>, reader: NodeId) {
        let partition = key.map(|key| self.partition(key));
        if let Some(replica) = partition.and_then(|partition| self.replicas.get_mut(&partition)) {
            replica.read_at.insert(reader, self.time);
        }
    }

    /// The replicas of this region that serve, by what they said or have asked lately.
    pub(super) fn serving_here<'a>(
        &'a self,
        replica: &'a Replica,
    ) -> impl Iterator<Item = NodeId> + 'a {
        let is_late = |at: &Time| self.time.since(*at) >= self.limits.silence_max;
        let reads = move |node: &NodeId| replica.read_at.get(node).is_some_and(|at| !is_late(at));
        let here = replica.replicas_in(self.region).iter().copied();
        here.filter(move |node| self.is_serving(replica, *node) || reads(node))
    }

    /// These have not answered a read in time: neighbours among them are asked after others soon.
    pub(super) fn on_silence(&mut self, silent: impl Iterator<Item = NodeId>) {
        for node in silent {
            if node != self.me && self.is_here(node) {
                self.paces.on_silence(node);
            }
        }
    }

    /// Looks anew at who is slow.
    pub(super) fn judge_paces(&mut self, outputs: &mut Vec<Output>) {
        let here = |peer: &Peer| peer.is_up && peer.region == self.region;
        let neighbours = self.peers.iter().filter(|(_, peer)| here(peer));
        let mut disks: Vec<(NodeId, u64)> = neighbours
            .map(|(node, peer)| (node, peer.disk_micros))
            .collect();
        let neighbours: Vec<NodeId> = disks.iter().map(|(node, _)| *node).collect();
        self.paces.judge_answers(&neighbours);
        disks.push((self.me, self.paces.disk_micros(self.time)));
        for (node, news) in self.paces.judge_disks(&disks) {
            let news = match news {
                News::Slow => Report::Slow(node),
                News::Well => Report::Well(node),
            };
            report(outputs, news);
        }
    }

    /// Up to which time every own write is in the log, or was decided on by the door and is known here.
    pub(super) fn vouchable(&self) -> u64 {
        let before = self.wall.0.saturating_sub(1);
        self.at_door.values().copied().fold(before, u64::min)
    }

    /// Remembers that a peer may be told a watermark now.
    pub(super) fn vouch(&mut self) {
        self.vouched = self.vouched.max(self.vouchable());
    }

    pub(super) fn change(
        &mut self,
        outputs: &mut Vec<Output>,
        purpose: Purpose,
        change: Change,
    ) -> Ticket {
        let ticket = Ticket(self.id());
        self.tickets.insert(ticket, purpose);
        outputs.push(Output::Change { ticket, change });
        ticket
    }

    pub(super) fn query(&mut self, outputs: &mut Vec<Output>, purpose: Purpose, query: Query) {
        let ticket = Ticket(self.id());
        self.tickets.insert(ticket, purpose);
        outputs.push(Output::Query { ticket, query });
    }
}

/// Answers whoever asked.
pub(super) fn reply(outputs: &mut Vec<Output>, origin: Origin, outcome: Outcome) {
    match origin {
        Origin::Client(id) => outputs.push(Output::Reply { id, outcome }),
        Origin::Peer(peer, id) => {
            send(
                outputs,
                peer,
                Lane::Request,
                Message::Forwarded { id, outcome },
            );
        }
    }
}

/// Sends a message.
pub(super) fn send(outputs: &mut Vec<Output>, to: NodeId, lane: Lane, message: Message) {
    outputs.push(Output::Send { to, lane, message });
}

/// Reports to the operator.
pub(super) fn report(outputs: &mut Vec<Output>, report: Report) {
    outputs.push(Output::Report(report));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lives_that_follow_each_other_have_ids_of_their_own() {
        let mut firsts: Vec<u64> = (0..1000)
            .map(|life| first_id(Incarnation((1 << 60) + life)))
            .collect();
        firsts.sort_unstable();
        let gaps = firsts.iter().zip(firsts.iter().skip(1));
        assert!(gaps.map(|(a, b)| b - a).min() > Some(1 << 50));
    }
}
