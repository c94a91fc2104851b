//! What a client does to a key.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{Collection, Context, OpId, Place, RowKey, Session, Summary, Timestamp, Wall};

/// What a client does.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum WriteOp {
    /// Set the value of a register whose last writer wins.
    Put(Bytes),
    /// Delete it.
    Delete,
    /// Write a value beside those that the writer had not seen. Without a context it has seen none.
    PutSibling {
        /// The value.
        value: Bytes,
        /// What was read.
        seen: Option<Context>,
    },
    /// Delete the values that the writer had seen; without a context, those that the coordinator sees.
    DeleteSiblings {
        /// What was read.
        seen: Option<Context>,
    },
    /// Add to a counter.
    Add {
        /// Which.
        place: Place,
        /// What, perhaps negative.
        delta: i64,
        /// Counted once, however often it is tried with this id.
        id: Option<OpId>,
    },
    /// Take off a counter what the coordinator observes of it.
    Reset {
        /// Which.
        place: Place,
    },
    /// Change members of a set: what is in both lists is added.
    Members {
        /// Members to add.
        add: Vec<Bytes>,
        /// Members to remove, as far as the coordinator observes them.
        remove: Vec<Bytes>,
    },
    /// Change fields of a map.
    Fields {
        /// Registers to set.
        put: Vec<(Bytes, Bytes)>,
        /// Counters to add to.
        add: Vec<(Bytes, i64)>,
        /// Fields to remove, registers and counters of the name, as far as the coordinator observes them.
        remove: Vec<Bytes>,
        /// Each counter is added to once, however often it is tried with this id.
        id: Option<OpId>,
    },
    /// Delete a whole collection, as far as it was observed.
    Clear {
        /// Which.
        collection: Collection,
        /// What was observed; the coordinator fills it in.
        seen: Context,
    },
}

impl Write {
    /// Whether it takes away, or compares with, what is there: then what its session has seen must be there first.
    pub fn must_see_its_session(&self) -> bool {
        let takes_away = match &self.op {
            WriteOp::DeleteSiblings { seen } => seen.is_none(),
            WriteOp::Reset { .. } | WriteOp::Clear { .. } => true,
            WriteOp::Members { remove, .. } | WriteOp::Fields { remove, .. } => !remove.is_empty(),
            // A register's delete is stamped above what its session has seen, and a context names what it replaces.
            WriteOp::Put(_)
            | WriteOp::Delete
            | WriteOp::PutSibling { .. }
            | WriteOp::Add { .. } => false,
        };
        takes_away || self.condition.is_some()
    }
}

impl WriteOp {
    /// Whether it writes registers, of which a newer one hides an older one.
    pub fn writes_registers(&self) -> bool {
        match self {
            Self::Put(_) | Self::Delete => true,
            // Values of fields are siblings.
            Self::Fields { .. }
            | Self::PutSibling { .. }
            | Self::DeleteSiblings { .. }
            | Self::Add { .. }
            | Self::Reset { .. }
            | Self::Members { .. }
            | Self::Clear { .. } => false,
        }
    }

    /// Whether what it does hangs on what is there, so that the coordinator must read a quorum first.
    pub fn needs_to_observe(&self) -> bool {
        match self {
            Self::Put(_) | Self::Delete | Self::PutSibling { .. } => false,
            Self::DeleteSiblings { seen } => seen.is_none(),
            Self::Add { id, .. } => id.is_some(),
            Self::Reset { .. } | Self::Clear { .. } => true,
            Self::Members { remove, .. } => !remove.is_empty(),
            Self::Fields { remove, id, .. } => !remove.is_empty() || id.is_some(),
        }
    }

    /// How many parts of the key it touches, at most; a clear counts as one.
    pub fn parts(&self) -> usize {
        match self {
            Self::Members { add, remove } => add.len() + remove.len(),
            Self::Fields {
                put, add, remove, ..
            } => put.len() + add.len() + remove.len(),
            Self::Put(_)
            | Self::Delete
            | Self::PutSibling { .. }
            | Self::DeleteSiblings { .. }
            | Self::Add { .. }
            | Self::Reset { .. }
            | Self::Clear { .. } => 1,
        }
    }
}

/// What must hold of a register for a write to happen.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Condition {
    /// There is no value.
    Absent,
    /// The row's state is this one (see [`Summary::state`]), and it has a value.
    State(u64),
}

/// A client's write of one key, whatever it touches there: it happens as a whole.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Write {
    /// The key, as the row of its plain value.
    pub key: RowKey,
    /// What to do.
    pub op: WriteOp,
    /// A timestamp known to exist for the key, or in the writer's session; [`Timestamp::ZERO`] if none.
    pub above: Timestamp,
    /// From when on what is written is no longer there.
    pub expires: Option<Wall>,
    /// What the writer's session had seen.
    pub after: Option<Box<Session>>,
    /// What must hold.
    pub condition: Option<Condition>,
}

impl Write {
    /// Bytes it takes, roughly.
    pub fn size(&self) -> usize {
        let names = |names: &[Bytes]| names.iter().map(|name| name.len() + 24).sum::<usize>();
        let op = match &self.op {
            WriteOp::Put(value) | WriteOp::PutSibling { value, .. } => value.len(),
            WriteOp::Members { add, remove } => names(add) + names(remove),
            WriteOp::Fields {
                put, add, remove, ..
            } => {
                let registers = put
                    .iter()
                    .map(|(name, value)| name.len() + value.len() + 48);
                let counters = add.iter().map(|(name, _)| name.len() + 48);
                registers.chain(counters).sum::<usize>() + names(remove)
            }
            WriteOp::Delete
            | WriteOp::DeleteSiblings { .. }
            | WriteOp::Add { .. }
            | WriteOp::Reset { .. }
            | WriteOp::Clear { .. } => 0,
        };
        self.key.size() + op + 64
    }

    /// A write without wishes.
    pub fn new(key: RowKey, op: WriteOp) -> Self {
        Self {
            key,
            op,
            above: Timestamp::ZERO,
            expires: None,
            after: None,
            condition: None,
        }
    }
}

/// Why a write was not done, though nothing is wrong with the cluster: the caller must do something else.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Denial {
    /// The condition does not hold: this is the row now.
    Condition(Option<Summary>),
    /// The row has as many siblings as the limit allows: read, and write with the context.
    Siblings,
    /// The counter would leave the range of 64 bits.
    CounterRange,
    /// It touches more parts than one write may.
    Parts,
    /// A name, key or value is longer than the limit, or empty where it must not be.
    Size,
    /// The session or expiry lies further ahead than clocks may differ.
    Ahead,
}
