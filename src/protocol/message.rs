//! What nodes say to each other. These types *are* the sent form (see `docs/format.md`): `coding` puts a
//! version byte before them, and golden files in `tests/fixtures` hold their bytes.
//!
//! Any message may be lost, repeated or overtaken: heartbeats repeat all soft state, appends carry where
//! they begin, and answers carry the question's id.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use bytes::Bytes;

use crate::model::{
    Actor, Collection, Denial, DigestNode, Gate, Incarnation, KeyspaceId, Level, LogItem, NodeId,
    PartitionId, Position, RegionId, Row, RowKey, Run, Selection, Session, Sum, Summary, Timestamp,
    Wanted, Write,
};

/// A stream of a connection. Streams do not delay each other; a lower one is sent first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Lane {
    /// Heartbeats, wants, acknowledgements.
    Control,
    /// Requests passed on, reads, read repair, and their answers.
    Request,
    /// Changes as they happen.
    Fresh,
    /// Changes out of the log, for a receiver that is behind.
    CatchUp,
    /// Digests, listings and repaired rows.
    Reconcile,
}

impl Lane {
    /// All lanes, the most urgent first.
    pub const ALL: [Self; 5] = [
        Self::Control,
        Self::Request,
        Self::Fresh,
        Self::CatchUp,
        Self::Reconcile,
    ];
}

/// A receiver asks a sender for an actor's log, from its position on; repeated with every heartbeat.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Want {
    /// The partition.
    pub partition: PartitionId,
    /// Whose log.
    pub actor: Actor,
    /// The receiver's `applied`, on disk: acknowledges what was sent.
    pub applied: u64,
    /// The receiver's `complete`, on disk: a stream that is new, or goes back, starts here.
    pub complete: u64,
    /// True if the sender must go back to `complete` even if it has sent more: something was lost.
    pub rewind: bool,
}

/// How far a stream has been sent; what does not come though it was sent is lost. And a watermark, if there
/// is a time: "of this actor's log of this partition, everything up to time `micros` is at or below `n`".
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Mark {
    /// The partition.
    pub partition: PartitionId,
    /// Whose log.
    pub actor: Actor,
    /// The number.
    pub n: u64,
    /// Microseconds since 1970 by the actor's physical clock; 0 if no time can be vouched for.
    pub micros: u64,
}

/// What is known of one replica's position; passed on, so that it crosses a cut link through a third region.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Known {
    /// The replica.
    pub node: NodeId,
    /// Its incarnation; knowledge of an older one is worthless, but to the node itself: what it once had and lacks
    /// now is told it under incarnation 0.
    pub incarnation: Incarnation,
    /// The partition.
    pub partition: PartitionId,
    /// Its position, on disk.
    pub position: Position,
    /// Whether the partition serves there.
    pub is_serving: bool,
}

/// The soft state of a node towards one peer.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Heartbeat {
    /// The sender's actor.
    pub incarnation: Incarnation,
    /// The sender's physical clock, microseconds since 1970.
    pub micros: u64,
    /// Counts heartbeats; echoed by the peer, so that each side knows that it is heard.
    pub sequence: u64,
    /// The last sequence heard from the receiver of this message; 0 if none.
    pub heard: u64,
    /// How long the sender's disk takes until a change is durable, lately, in microseconds.
    pub disk_micros: u64,
    /// What the sender of this message wants from its receiver: all of it.
    pub wants: Vec<Want>,
    /// Watermarks for what the receiver of this message wants.
    pub marks: Vec<Mark>,
    /// Positions that changed since the last heartbeat; all of them if `is_full`.
    pub known: Vec<Known>,
    /// Whether `known` is all that the sender knows, hearsay included.
    pub is_full: bool,
}

/// A piece of an actor's log; see [`crate::model::Change::Append`].
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Append {
    /// The partition.
    pub partition: PartitionId,
    /// Whose log.
    pub actor: Actor,
    /// Where it starts (exclusive).
    pub from: u64,
    /// Where it leads (inclusive).
    pub to: u64,
    /// See [`crate::model::Change::Append`].
    pub complete_from: Option<u64>,
    /// If the piece reaches the end of the log: the time of the watermark at `to`.
    pub mark_micros: Option<u64>,
    /// The entries.
    pub items: Vec<LogItem>,
}

/// How far an actor's log is on disk.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Ack {
    /// The partition.
    pub partition: PartitionId,
    /// Whose log.
    pub actor: Actor,
    /// Replicas (the sender of this message and others of its region), in which of their lives, and the mark up
    /// to which each is complete.
    pub reached: Vec<(NodeId, Incarnation, u64)>,
    /// Where the piece that is acknowledged began here: `newer` speaks of the numbers from here to `applied`.
    pub from: u64,
    /// How far the sender of this message has applied it: what the stream's window counts by.
    pub applied: u64,
    /// Entries whose rows at the sender of this message held something newer already, or at the one that sent the
    /// piece: (n, its timestamp).
    pub newer: Vec<(u64, Timestamp)>,
    /// Entries whose registers had come there before, and then were the newest of their row: these are not hidden.
    pub stood: Vec<u64>,
    /// Entries whose registers there held what their writer had not seen, newer or older.
    pub crossed: Vec<u64>,
    /// Whether the partition served at the sender of this message when it applied them. Else what had finished before may
    /// have been missing there, and that nothing newer was there says nothing.
    pub is_serving: bool,
}

/// A client's operation, passed on to a replica.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub enum Operation {
    /// Read a row.
    Get {
        /// The row.
        key: RowKey,
    },
    /// Read some parts of a key.
    Select {
        /// Which.
        selection: Selection,
    },
    /// Count the members or fields of a collection, as this replica holds it.
    Count {
        /// The key, as the row of its plain value.
        key: RowKey,
        /// Which.
        collection: Collection,
    },
    /// Write a key.
    Write(Box<Write>),
    /// Wait until everything that the gate's session has seen is on a quorum of these regions; all of them if none
    /// is named.
    Wait {
        /// The regions.
        regions: Vec<RegionId>,
    },
    /// List rows of a keyspace in token order.
    List {
        /// The keyspace.
        keyspace: KeyspaceId,
        /// Which rows.
        wanted: Wanted,
        /// Which partition to go on with.
        index: u16,
        /// After this row.
        after: Option<RowKey>,
        /// At most so many rows.
        rows_max: u32,
        /// Stop after this many bytes.
        bytes_max: u32,
    },
}

/// An operation, and how it is wished for.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Request {
    /// What to do.
    pub operation: Operation,
    /// How surely; nothing means the keyspace's default.
    pub level: Option<Level>,
    /// What must be here before it is answered.
    pub gate: Gate,
}

impl From<Operation> for Request {
    /// Without wishes.
    fn from(operation: Operation) -> Self {
        Self {
            operation,
            level: None,
            gate: Gate::default(),
        }
    }
}

/// How an operation ended.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub enum Outcome {
    /// OK: written.
    Written(Written),
    /// OK: the row's state; nothing if it was never written or is collected.
    Read(Option<Row>),
    /// OK: parts of a key, tombstones and what has expired included.
    Selected {
        /// The rows in order.
        rows: Vec<(RowKey, Row)>,
        /// The subkey to go on after, if a page was cut short.
        next: Option<Bytes>,
    },
    /// OK: so many.
    Counted(u64),
    /// OK: the regions have it.
    Reached,
    /// OK: a page of rows.
    Page {
        /// The rows.
        rows: Vec<(RowKey, Row)>,
        /// Where to go on: (partition index, after which row); nothing at the end.
        next: Option<(u16, Option<RowKey>)>,
    },
    /// The caller's doing: nothing happened, and will not on a retry.
    Refused(Refusal),
    /// A write that was not done: what is there does not allow it.
    Denied(Denial),
    /// What the request must have seen is not here yet, nor at a region that could be asked; nothing happened.
    NotYet,
    /// FAILED: it did not happen and never will; try again or elsewhere.
    Unavailable(Unavailable),
    /// UNKNOWN: it may be seen later, whole or not at all.
    Unknown(Unknown),
}

/// How a write ended well.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Written {
    /// What was written, to be added to the writer's session: the coordinator and its last timestamp. A write
    /// that had nothing to change, or was repeated, tells of the coordinator's clock.
    pub node: NodeId,
    /// The last timestamp.
    pub timestamp: Timestamp,
    /// The last row's summary, if one was written.
    pub summary: Option<Summary>,
    /// Whether another coordinator was writing the same register: a condition was then looked at by each alone,
    /// and the two writes were merged.
    pub is_crossed: bool,
}

/// Why an operation was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Refusal {
    /// No such keyspace in the topology.
    NoKeyspace,
    /// The keyspace does not live in this node's region.
    KeyspaceElsewhere,
    /// The key is empty or longer than the limit.
    KeySize,
    /// The value is longer than the limit.
    ValueSize,
    /// The operation is not for a keyspace with this merge policy.
    MergePolicy,
    /// The selection is not of one key, or names no part that there is.
    Selection,
    /// The level is not for this kind of operation.
    Level,
}

/// Why an operation failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Unavailable {
    /// Too few replicas of the partition are up for the level.
    Replicas,
    /// The deadline passed before anything was written.
    Deadline,
    /// Too much is in flight.
    Overloaded,
    /// The node is stopping.
    Stopping,
    /// The coordinator's disk is nearly full.
    Disk,
}

/// Why the outcome is not known.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Unknown {
    /// Written here or nearby, but not acknowledged by enough replicas in time.
    Acknowledgements,
    /// The coordinator was lost while it worked.
    Coordinator,
}

/// A message between two nodes.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub enum Message {
    /// Soft state; see [`Heartbeat`].
    Heartbeat(Heartbeat),
    /// Wants that cannot wait for the next heartbeat; the others stay.
    Wants(Vec<Want>),
    /// A piece of log.
    Append(Append),
    /// Acknowledgements of pieces of log.
    Acks(Vec<Ack>),
    /// The sender's log of this actor does not reach back to what was wanted: reconcile.
    Trimmed {
        /// The partition.
        partition: PartitionId,
        /// Whose log.
        actor: Actor,
    },
    /// A client's operation, passed on.
    Forward {
        /// The asker's id of it.
        id: u64,
        /// The operation, with its level.
        request: Request,
        /// What is left of its time, in microseconds.
        micros_left: u64,
    },
    /// Its outcome.
    Forwarded {
        /// The asker's id.
        id: u64,
        /// How it ended.
        outcome: Outcome,
    },
    /// Read some rows here, as one replica.
    Read {
        /// The asker's id.
        id: u64,
        /// The rows.
        keys: Vec<RowKey>,
        /// Whether whole rows are wanted, or summaries.
        whole: bool,
    },
    /// Summaries of the rows that were asked for.
    Summaries {
        /// The asker's id.
        id: u64,
        /// In the order asked.
        summaries: Vec<Option<Summary>>,
    },
    /// The rows that were asked for.
    Rows {
        /// The asker's id.
        id: u64,
        /// In the order asked.
        rows: Vec<Option<Row>>,
    },
    /// This replica cannot answer the read now (it is being filled, or a row is unreadable).
    CannotRead {
        /// The asker's id.
        id: u64,
    },
    /// Read some parts of a key here, as one replica.
    Select {
        /// The asker's id.
        id: u64,
        /// Which.
        selection: Selection,
        /// If the rows are wanted, and not only a hash of them: the asker's position, beyond which it needs the
        /// operations of counters too.
        whole: Option<Position>,
    },
    /// What was selected.
    Selected {
        /// The asker's id.
        id: u64,
        /// The position of that moment.
        position: Position,
        /// What stands in place of the rows, deletes included (decision 27).
        state: u128,
        /// The floor of that replica by which `state` leaves out what was seen go; empty if it leaves out nothing.
        collected: BTreeMap<Actor, u64>,
        /// The rows, if they were wanted.
        rows: Vec<(RowKey, Row)>,
        /// The subkey to go on after, if a page was cut short by its limits.
        next: Option<Bytes>,
    },
    /// Summaries of tombstones, please.
    GravesAsk {
        /// The asker's id.
        id: u64,
        /// The partition.
        partition: PartitionId,
        /// Go on after this.
        after: Option<Bytes>,
    },
    /// The summaries.
    GravesTell {
        /// The asker's id.
        id: u64,
        /// The rows.
        rows: Vec<(RowKey, Summary)>,
        /// Where to go on, if there may be more.
        next: Option<Bytes>,
    },
    /// Say when everything that this session has seen is in every partition that you hold.
    Await {
        /// The asker's id.
        id: u64,
        /// The session.
        session: Session,
        /// For how long, in microseconds.
        micros_left: u64,
    },
    /// It is.
    Awaited {
        /// The asker's id.
        id: u64,
    },
    /// Merge these rows and say when they are on disk.
    Repair {
        /// The asker's id.
        id: u64,
        /// The rows.
        rows: Vec<(RowKey, Row)>,
    },
    /// They are on disk.
    Repaired {
        /// The asker's id.
        id: u64,
        /// What is there now of the last of them; nothing if it was deleted and collected.
        held: Option<Summary>,
    },
    /// Hashes of the children of some nodes of the digest tree, please.
    DigestAsk {
        /// The asker's id.
        id: u64,
        /// The partition.
        partition: PartitionId,
        /// The nodes.
        nodes: Vec<DigestNode>,
    },
    /// The hashes.
    DigestTell {
        /// The asker's id.
        id: u64,
        /// The position at that moment.
        position: Position,
        /// In the order asked.
        hashes: Vec<Vec<u128>>,
    },
    /// Summaries of the rows of a run, please.
    LeafAsk {
        /// The asker's id.
        id: u64,
        /// The partition.
        partition: PartitionId,
        /// The run.
        run: Run,
    },
    /// The summaries.
    LeafTell {
        /// The asker's id.
        id: u64,
        /// The position at that moment.
        position: Position,
        /// In order.
        rows: Vec<(RowKey, Summary)>,
        /// Where to go on, if there may be more.
        next: Option<RowKey>,
    },
    /// Sums of pieces of a run, please.
    SumsAsk {
        /// The asker's id.
        id: u64,
        /// The partition.
        partition: PartitionId,
        /// The run.
        run: Run,
        /// It is cut after each of these rows, in order.
        cuts: Vec<RowKey>,
    },
    /// The sums.
    SumsTell {
        /// The asker's id.
        id: u64,
        /// Of the pieces that were looked at, in order; of the last one perhaps in part.
        sums: Vec<Sum>,
        /// Where to go on, if there may be more.
        next: Option<RowKey>,
    },
}
