//! The machine of one node: what goes in, what comes out, and who gets it.

use std::sync::Arc;

use crate::model::{
    Actor, Answer, Change, Effect, Level, Limits, NodeId, PartitionId, PartitionState, Query,
    RegionId, Time, Wall,
};
use crate::placement::Placement;

use super::message::{Lane, Message, Operation, Outcome};

/// Names one request of a client of this node.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct RequestId(pub u64);

/// Names one change or query that was given to the store.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Ticket(pub u64);

/// The present, as the loop reads it once a step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Now {
    /// For deadlines.
    pub time: Time,
    /// For watermarks and lag.
    pub wall: Wall,
}

/// What a machine is made of.
#[derive(Clone, Debug)]
pub struct Config {
    /// This node.
    pub node: NodeId,
    /// This life of it.
    pub actor: Actor,
    /// Who holds what.
    pub placement: Arc<Placement>,
    /// The limits.
    pub limits: Limits,
}

/// What happened.
#[derive(Clone, Debug)]
pub enum Input {
    /// Nothing but time.
    Tick,
    /// A client asks.
    Request {
        /// Its name, for the reply.
        id: RequestId,
        /// What it wants.
        operation: Operation,
        /// How surely; nothing means the keyspace's default.
        level: Option<Level>,
        /// Until when.
        deadline: Time,
    },
    /// A connection to a peer is up (again): what was in flight on an older one is lost.
    Connected {
        /// The peer.
        peer: NodeId,
    },
    /// The connection to a peer is gone.
    Disconnected {
        /// The peer.
        peer: NodeId,
    },
    /// A peer says something.
    Message {
        /// The peer, as its certificate names it.
        from: NodeId,
        /// What it says.
        message: Message,
    },
    /// Changes were decided by the door, in this order, but are not yet on disk.
    Staged(Vec<(Ticket, Effect)>),
    /// The changes of these tickets are on disk.
    Durable(Vec<Ticket>),
    /// A query was answered.
    Answered {
        /// Which.
        ticket: Ticket,
        /// The answer.
        answer: Answer,
    },
}

/// What to do.
#[derive(Clone, Debug)]
pub enum Output {
    /// Send a message; it may be dropped if the peer is not connected.
    Send {
        /// To whom.
        to: NodeId,
        /// On which stream.
        lane: Lane,
        /// What.
        message: Message,
    },
    /// Give a change to the door; changes are staged in the order given.
    Change {
        /// Its name.
        ticket: Ticket,
        /// The change.
        change: Change,
    },
    /// Ask the store.
    Query {
        /// Its name.
        ticket: Ticket,
        /// The question.
        query: Query,
    },
    /// Answer a client.
    Reply {
        /// Which request.
        id: RequestId,
        /// How it ended.
        outcome: Outcome,
    },
    /// Say something to the operator, once.
    Report(Report),
}

/// Something that an operator should know; logged once, by the loop.
#[derive(Clone, PartialEq, Debug)]
pub enum Report {
    /// A peer is heard in both directions.
    PeerUp(NodeId),
    /// A peer is not heard any more.
    PeerDown(NodeId),
    /// A peer's timestamps lie further ahead than `max_offset`: its changes wait.
    ClockAhead(NodeId),
    /// A partition has caught up with its region and serves.
    Serving(PartitionId),
    /// A log was trimmed past our position: the partition is reconciled with this peer.
    Reconciling(PartitionId, NodeId),
    /// Reconciliation raised the position; so many rows were exchanged.
    Reconciled {
        /// The partition.
        partition: PartitionId,
        /// With whom.
        peer: NodeId,
        /// Rows that differed and were merged.
        rows: u64,
    },
    /// Peers hold changes of this very incarnation that this disk does not know: the disk is an old copy.
    /// The loop must stop the process; the next start takes a new incarnation.
    Amnesia(PartitionId),
}

/// What a node knows of the way from another region (or peer) to itself and back, for status and metrics.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct View {
    /// This node's actor, in words.
    pub actor: String,
    /// Partitions here.
    pub partitions: usize,
    /// Of them, those that serve.
    pub serving: usize,
    /// Requests in flight.
    pub requests: usize,
    /// Per peer.
    pub peers: Vec<PeerView>,
    /// Per region that this node receives changes of, other than its own.
    pub regions: Vec<RegionView>,
    /// Counters since the start, by stable name (`reads_repaired_total`, …).
    pub counters: Vec<(&'static str, u64)>,
    /// Entries in flight or queued, by stable name; each has a limit.
    pub queues: Vec<(&'static str, usize)>,
}

/// A peer, as this node sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PeerView {
    /// The peer.
    pub node: NodeId,
    /// Whether it is heard in both directions.
    pub is_up: bool,
    /// Changes in this node's own log, stable here, that the peer has not got, over all partitions it holds.
    pub backlog: u64,
}

/// Another region, as this node sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RegionView {
    /// The region.
    pub region: RegionId,
    /// Age of the oldest watermark of that region's live actors satisfied here, in milliseconds: the lag.
    pub lag_ms: Option<u64>,
    /// Changes of this node's own log, stable here, that no quorum of that region is known to have.
    pub backlog: u64,
    /// Rows found different and not in flight in the last round of reconciliation with that region.
    pub divergence: u64,
}

impl Machine {
    /// A machine for a node whose store was opened with this state.
    pub fn new(now: Now, config: Config, opened: Vec<PartitionState>) -> Self {
        todo!()
    }

    /// Takes in what happened and says what to do. Outputs are appended; their order counts.
    pub fn step(&mut self, now: Now, input: Input, outputs: &mut Vec<Output>) {
        todo!()
    }

    /// When to step with [`Input::Tick`] at the latest.
    pub fn next_deadline(&self) -> Time {
        todo!()
    }

    /// What it sees, for status and metrics.
    pub fn view(&self, now: Now) -> View {
        todo!()
    }
}

/// The machine.
#[derive(Debug)]
pub struct Machine {}
