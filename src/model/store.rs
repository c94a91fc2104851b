//! What may be asked of a store: changes, which all pass its one door, and queries.
//!
//! These are the words that `protocol` speaks and `storage` answers; neither knows the other.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use bytes::Bytes;

use super::{
    Actor, Collection, Denial, Incarnation, NodeId, PartitionId, Place, Position, Row, RowKey,
    Summary, Timestamp, Wall, Write,
};

/// Children of a node of the digest tree.
pub const DIGEST_FANOUT: u16 = 16;
/// Levels below the root; the last one holds the leaves.
pub const DIGEST_LEVELS: u8 = 3;
/// Leaves of a partition's digest: equal ranges of its tokens.
pub const DIGEST_LEAVES: u16 = 4096;
/// What is said in place of the hash of a leaf that is *busy*: it still counts rows that a clear covers and that are not
/// swept yet, so that its hash says nothing. (That a leaf has this very hash is as likely as that two hashes collide.)
pub const DIGEST_BUSY: u128 = u128::MAX;

/// Names one change or query that was given to the store.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Ticket(pub u64);

/// A node of a partition's digest tree: level 0 is the root, level [`DIGEST_LEVELS`] the leaves.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct DigestNode {
    /// The level, from 0 (the root).
    pub level: u8,
    /// The index within the level.
    pub index: u16,
}

/// Consecutive rows of a partition.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Run {
    /// The first leaf.
    pub first: u16,
    /// The last one.
    pub last: u16,
    /// Rows after this one; nothing means from the beginning of the first leaf.
    pub after: Option<RowKey>,
    /// And up to this one; nothing means to the end of the last leaf.
    pub upto: Option<RowKey>,
}

impl Run {
    /// All rows of some leaves.
    pub fn of_leaves(first: u16, last: u16) -> Self {
        Self {
            first,
            last,
            after: None,
            upto: None,
        }
    }

    /// What of it comes after a row.
    #[must_use]
    pub fn from(self, after: RowKey) -> Self {
        Self {
            after: Some(after),
            ..self
        }
    }

    /// What of it comes before and with a row.
    #[must_use]
    pub fn to(self, upto: RowKey) -> Self {
        Self {
            upto: Some(upto),
            ..self
        }
    }
}

/// The rows of a run in short: two replicas that hold the same rows there have the same hash.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Sum {
    /// How many there are, tombstones included, which the hash does not count.
    pub rows: u64,
    /// The sum of their hashes.
    pub hash: u128,
}

impl Sum {
    /// Adds rows of another run to it.
    pub fn add(&mut self, other: Self) {
        self.rows = self.rows.saturating_add(other.rows);
        self.hash = self.hash.wrapping_add(other.hash);
    }
}

/// Where to cut a run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Cuts {
    /// Into pieces of about as many rows each.
    Even,
    /// After each of these rows, in order.
    After(Vec<RowKey>),
}

/// One entry of a log, with the state of the row that it names.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LogItem {
    /// The number of the change in its actor's log.
    pub n: u64,
    /// The row that it touched.
    pub key: RowKey,
    /// The state of that row, at this change or later.
    pub row: Row,
}

impl LogItem {
    /// Bytes this item takes, roughly, in memory and in a message.
    pub fn size(&self) -> usize {
        self.key.size() + self.row.size() + 8
    }
}

/// A change: everything that can happen to the data of a partition.
#[derive(Clone, PartialEq, Debug)]
pub enum Change {
    /// A client's write, coordinated here: each row that it touches gets this node's next dot and a timestamp
    /// above the write's own, above the row's, and above everything this node's clock has seen. All of them
    /// or none; the condition is looked at in the same moment.
    Write(Write),
    /// A piece of an actor's log from a peer, leading from `from` (exclusive) to `to` (inclusive).
    Append {
        /// The partition.
        partition: PartitionId,
        /// Whose log.
        actor: Actor,
        /// Where the piece starts: refused with [`Effect::Gap`] if it is beyond the position here.
        from: u64,
        /// Where it leads.
        to: u64,
        /// If the receiver was complete up to this number, it is complete up to `to` afterwards
        /// (see [`super::Reach`]); with nothing here it is not known to be.
        complete_from: Option<u64>,
        /// The entries, ascending in n.
        items: Vec<LogItem>,
    },
    /// A row's state from a replica, by read repair or reconciliation; merged, not logged.
    Repair {
        /// The row.
        key: RowKey,
        /// Its state there.
        row: Row,
    },
    /// A row that a peer, whose position covers it, no longer has: it was deleted and collected there.
    Forget {
        /// The row.
        key: RowKey,
        /// Nothing happens if the row's state (see [`Summary::state`]) is not this one any more.
        expected: u64,
    },
    /// All rows up to `position` were reconciled with a peer: take over its position, and mark the logs
    /// as trimmed there, for their entries are not here.
    Raise {
        /// The partition.
        partition: PartitionId,
        /// The peer's position when reconciliation began.
        position: Position,
    },
    /// Drop an actor's log up to `to`.
    Trim {
        /// The partition.
        partition: PartitionId,
        /// Whose log.
        actor: Actor,
        /// The last number to go.
        to: u64,
    },
    /// Every replica in every region has everything up to `floor`: remove tombstones that it covers.
    Collect {
        /// The partition.
        partition: PartitionId,
        /// The least `complete` of all replicas, by actor.
        floor: BTreeMap<Actor, u64>,
    },
    /// All that a node did in this incarnation or an earlier one is on every replica: it need not be counted
    /// any more (see [`Position::retired`]).
    Retire {
        /// The partition.
        partition: PartitionId,
        /// The node.
        node: NodeId,
        /// The last of its incarnations to go.
        upto: Incarnation,
    },
    /// Move the partition's cut of expiry on if rows here have expired by `now`: a write of this node.
    Expire {
        /// The partition.
        partition: PartitionId,
        /// What has expired before this is due; behind the clock, so that no clock is ahead of it.
        now: Wall,
    },
    /// Take away rows that a clear covers, entries of logs that are retired, and tombstones that a floor covers, some at a
    /// time.
    Sweep {
        /// The partition.
        partition: PartitionId,
    },
    /// The partition has caught up with its region: it may serve from now on.
    Serve {
        /// The partition.
        partition: PartitionId,
    },
    /// Peers hold changes of this node that its disk does not know: the partition may not serve until it has
    /// caught up.
    Fence {
        /// The partition.
        partition: PartitionId,
    },
    /// Another replica of this region has told what it has on its disk: remember it, in place of what was remembered
    /// before, so that it can be told if its disk is ever an old copy, also after this node was started again.
    Remember {
        /// The partition.
        partition: PartitionId,
        /// The replica.
        node: NodeId,
        /// What it has.
        told: Remembered,
    },
}

/// What another replica once told that it has on its disk.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Remembered {
    /// Its life when it did.
    pub incarnation: Incarnation,
    /// All that it told.
    pub position: Position,
}

/// What became of a change. It is known when the change is staged, and counts when it is durable.
#[derive(Clone, PartialEq, Debug)]
pub enum Effect {
    /// A write was stamped.
    Written {
        /// The partition.
        partition: PartitionId,
        /// The log entries: numbers in this node's own log, dense, with rows and states. None if there was
        /// nothing to change.
        items: Vec<LogItem>,
    },
    /// A write was not done, and will not be.
    Denied(Denial),
    /// A piece of log was applied (or was known already).
    Appended {
        /// The partition.
        partition: PartitionId,
        /// Whose log.
        actor: Actor,
        /// The new marks.
        reach: super::Reach,
        /// Entries whose register already held something newer, here or at the sender: (n, its timestamp).
        newer: Vec<(u64, Timestamp)>,
        /// Registers of this log that had come before, and then were the newest of their row here, whatever holds now.
        stood: Vec<u64>,
        /// Entries whose register here held something that their writer had not seen, newer or older.
        crossed: Vec<u64>,
        /// Entries of this node's own log that came of it: versions of its own that lost to what was applied
        /// without having been seen, kept where the keyspace asks for it.
        written: Vec<LogItem>,
        /// How many of this node's own versions lost so, by the node that won.
        lost: BTreeMap<NodeId, u64>,
    },
    /// A piece of log began beyond the position here; nothing was applied.
    Gap {
        /// The partition.
        partition: PartitionId,
        /// Whose log.
        actor: Actor,
        /// The position here.
        applied: u64,
    },
    /// A timestamp lies further ahead of this node's clock than is allowed; nothing was applied.
    Early {
        /// The partition.
        partition: PartitionId,
        /// The timestamp.
        timestamp: Timestamp,
    },
    /// A row was merged (or was covered already): what it is now, nothing if it is absent.
    Repaired {
        /// Its summary.
        summary: Option<Summary>,
        /// As in [`Effect::Appended`].
        written: Vec<LogItem>,
        /// As in [`Effect::Appended`].
        lost: BTreeMap<NodeId, u64>,
    },
    /// A log was trimmed.
    Trimmed {
        /// The partition.
        partition: PartitionId,
        /// Whose log.
        actor: Actor,
        /// Up to this number nothing is left.
        to: u64,
    },
    /// A piece of what may go was taken away.
    Swept {
        /// The partition.
        partition: PartitionId,
        /// Whether there is more to be done.
        has_more: bool,
    },
    /// Another change is done.
    Done,
    /// The change was refused: a size beyond the limits, or a partition that is not here. Nothing happened.
    Refused {
        /// Why, in words.
        reason: &'static str,
    },
}

/// Reads a piece of an actor's log.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct LogQuery {
    /// The partition.
    pub partition: PartitionId,
    /// Whose log.
    pub actor: Actor,
    /// Entries after this number.
    pub after: u64,
    /// And up to this one.
    pub upto: u64,
    /// Stop after this many bytes (at least one entry is read).
    pub bytes_max: usize,
}

/// Which rows of one key.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Selection {
    /// These, all of one key.
    Rows(Vec<RowKey>),
    /// All that the value of a counter hangs on: its shares, and the operations that were applied twice.
    Counter {
        /// The key, as the row of its plain value.
        key: RowKey,
        /// Where the counter stands.
        place: Place,
    },
    /// A page of a collection: members of a set; counters and then registers of a map. What was cleared is left
    /// out; the row of the clear itself is the first. A counter's rows are never parted.
    Page {
        /// The key, as the row of its plain value.
        key: RowKey,
        /// Which.
        collection: Collection,
        /// Rows after this subkey.
        after: Option<Bytes>,
        /// And up to this one; nothing means to the end, or as far as the limits allow.
        upto: Option<Bytes>,
        /// At most so many rows that are no tombstones.
        rows_max: u32,
        /// Stop after this many bytes (at least one row is read).
        bytes_max: u32,
    },
}

impl Selection {
    /// The key, as one of its rows; nothing for an empty list.
    pub fn key(&self) -> Option<&RowKey> {
        match self {
            Self::Rows(rows) => rows.first(),
            Self::Counter { key, .. } | Self::Page { key, .. } => Some(key),
        }
    }
}

/// What a scan of a partition looks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Wanted {
    /// Plain values.
    Values,
    /// Versions that lost to concurrent ones.
    Conflicts,
}

/// A question about the stored state; answered from one durable snapshot.
#[derive(Clone, PartialEq, Debug)]
pub enum Query {
    /// The states of some rows.
    Rows(Vec<RowKey>),
    /// A piece of a log with the rows' present states.
    Log(LogQuery),
    /// The hashes of the children of some nodes of the digest tree, [`DIGEST_FANOUT`] each.
    Digest {
        /// The partition.
        partition: PartitionId,
        /// The nodes; none of them a leaf.
        nodes: Vec<DigestNode>,
    },
    /// Summaries of the rows of some leaves, tombstones included.
    Leaf {
        /// The partition.
        partition: PartitionId,
        /// Which of their rows.
        run: Run,
        /// At most so many rows.
        rows_max: usize,
    },
    /// The sums of pieces of a run, without what clears cover.
    Sums {
        /// The partition.
        partition: PartitionId,
        /// The run.
        run: Run,
        /// Where to cut it.
        cuts: Cuts,
        /// Look at so many rows at most.
        rows_max: usize,
    },
    /// Rows of one key.
    Select {
        /// Which.
        selection: Selection,
        /// Beside them, the operations of each counter that are not all known at this position: who merges shares
        /// must know of all operations in them, and which are repeated shows only when they meet.
        beyond: Option<Position>,
    },
    /// Operations of some counters of one key: these, and those that are not all known at one of the positions.
    Operations {
        /// The key, as the row of its plain value.
        key: RowKey,
        /// The counters.
        places: BTreeSet<Place>,
        /// The rows of these operations, in any case.
        names: BTreeSet<RowKey>,
        /// The positions.
        beyond: Vec<Position>,
    },
    /// How many live members or fields a collection has.
    Count {
        /// The key, as the row of its plain value.
        key: RowKey,
        /// Which.
        collection: Collection,
        /// The present, for what has expired.
        now: Wall,
    },
    /// Summaries of all tombstones, in no order that means anything.
    Graves {
        /// The partition.
        partition: PartitionId,
        /// Go on after this.
        after: Option<Bytes>,
        /// At most so many.
        rows_max: usize,
    },
    /// Rows with values in token order.
    Scan {
        /// The partition.
        partition: PartitionId,
        /// Which.
        wanted: Wanted,
        /// Rows after this one.
        after: Option<RowKey>,
        /// At most so many rows.
        rows_max: usize,
        /// Stop after this many bytes (at least one row is read).
        bytes_max: usize,
    },
}

/// The answer to a [`Query`], variant for variant.
#[derive(Clone, PartialEq, Debug)]
pub enum Answer {
    /// In the order asked.
    Rows(Vec<Option<Row>>),
    /// A piece of a log.
    Log(LogPage),
    /// Hashes in the order asked.
    Digest {
        /// The position at that moment.
        position: Position,
        /// [`DIGEST_FANOUT`] hashes for each node; [`DIGEST_BUSY`] for a leaf that is busy.
        hashes: Vec<Vec<u128>>,
    },
    /// Summaries of rows.
    Leaf {
        /// The position at that moment: never newer than the rows.
        position: Position,
        /// The rows in order.
        rows: Vec<(RowKey, Summary)>,
        /// The row to go on after, if there may be more.
        next: Option<RowKey>,
    },
    /// The sums of pieces of a run.
    Sums {
        /// The last row of each piece that was cut evenly; nothing for cuts that were given.
        ends: Vec<RowKey>,
        /// The pieces in order, those that were looked at; with cuts that were given, the last one perhaps in part.
        sums: Vec<Sum>,
        /// The row to go on after, if there may be more.
        next: Option<RowKey>,
    },
    /// Rows of one key, tombstones included.
    Selected {
        /// The position at that moment: never newer than the rows.
        position: Position,
        /// The rows in order.
        rows: Vec<(RowKey, Row)>,
        /// The subkey to go on after, if a page was cut short.
        next: Option<Bytes>,
    },
    /// How many.
    Count(u64),
    /// Summaries of tombstones.
    Graves {
        /// The rows.
        rows: Vec<(RowKey, Summary)>,
        /// Where to go on, if there may be more.
        next: Option<Bytes>,
    },
    /// Rows, tombstones left out; `next` is where to go on.
    Scan {
        /// The rows in order.
        rows: Vec<(RowKey, Row)>,
        /// The last row looked at, if there may be more after it.
        next: Option<RowKey>,
    },
    /// The row or block failed its checksum, or the partition is not here.
    Unreadable {
        /// Why, in words.
        reason: &'static str,
    },
}

/// A piece of a log.
#[derive(Clone, PartialEq, Debug)]
pub struct LogPage {
    /// Where the piece leads: all entries after `after` and up to here are in `items`.
    pub to: u64,
    /// Whether a receiver is complete up to `to` once it has applied this piece: true if the piece reached
    /// the end of the log in its snapshot and this replica is complete there. (Whatever the receiver had
    /// passed over stands in the log again under a greater number, which this piece holds.)
    pub complete: bool,
    /// Up to where this replica was complete in that snapshot: of what lies between here and `to` some may be missing.
    pub complete_upto: u64,
    /// Nothing up to this number is left in the log; beyond `after` means: reconcile.
    pub trimmed: u64,
    /// The entries.
    pub items: Vec<LogItem>,
}

/// What a store knows of a partition when it is opened.
#[derive(Clone, PartialEq, Debug)]
pub struct PartitionState {
    /// The partition.
    pub partition: PartitionId,
    /// How far every actor's log has been applied.
    pub position: Position,
    /// Up to where each actor's log is gone.
    pub trimmed: BTreeMap<Actor, u64>,
    /// Whether it has caught up with its region, and was not fenced since.
    pub is_serving: bool,
    /// Whether it ever served since its disk was empty.
    pub has_served: bool,
    /// What the other replicas of the region once told.
    pub remembered: BTreeMap<NodeId, Remembered>,
}
