//! What goes into a machine and what comes out of it.
//!
//! Whoever turns the machine does what the outputs say; these types know nothing of how.

use std::sync::Arc;

use crate::model::{
    Actor, Answer, Change, Effect, Limits, NodeId, PartitionId, Query, Ticket, Time, Wall,
};
use crate::placement::Placement;

use super::message::{Lane, Message, Outcome, Request};

/// Names one request of a client of this node.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct RequestId(pub u64);

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

/// Room on this node's disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Room {
    /// Enough.
    #[default]
    Enough,
    /// Clients' writes are refused, but for those that take data away; what peers send is still taken.
    Low,
    /// Nothing is taken.
    Full,
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
        request: Request,
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
    /// The room on this node's disk has become another.
    Room(Room),
    /// The node stops: it takes nothing on for its peers any more, so that they ask others.
    Stopping,
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
    /// No log brings any more what this replica lacks: the partition is filled from this peer by digest.
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
    /// Peers hold changes of an earlier life of this node that this disk does not know: the disk is an old copy.
    /// The partition does not serve before it has caught up.
    Fenced(PartitionId),
    /// A peer claims changes of this very life that this node never made: its word is not taken in.
    Impossible(PartitionId, NodeId),
    /// A node of this region (this one, perhaps) has taken far longer than its neighbours to make changes durable, for a
    /// while: what another replica can do is not left to it.
    Slow(NodeId),
    /// It is as the others again.
    Well(NodeId),
}
