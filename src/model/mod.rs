//! The words of Sterna as types: names, versions, rows, positions, and what may be asked of a store.
//!
//! This room knows no disk, no network, no clock and no chance. It decides what a row is and how two
//! states of a row merge; everything above it moves those values about.

mod collection;
mod context;
mod counter;
mod ids;
mod level;
mod limits;
mod marks;
mod part;
pub(crate) mod planted;
mod position;
mod row;
mod session;
mod siblings;
mod store;
#[cfg(test)]
mod tests;
mod time;
mod version;
mod write;

pub use collection::{FieldValue, counter, fields, members};
pub use context::Context;
pub use counter::{Once, OpId, Share, Tally, counter_value};
pub use ids::{Actor, Dot, Incarnation, KeyspaceId, NodeId, PartitionId, RegionId, Token};
pub use level::Level;
pub use limits::Limits;
pub use marks::{Clear, Conflict, Expiry};
pub use part::{Collection, Part, Place, collection_prefixes, once_prefix, share_prefix};
pub use position::{Position, Reach};
pub use row::{Row, RowKey, Summary};
pub use session::{Behind, Gate, Seen, Session};
pub use siblings::Siblings;
pub use store::{
    Answer, Change, Cuts, DIGEST_BUSY, DIGEST_FANOUT, DIGEST_LEAVES, DIGEST_LEVELS, DigestNode,
    Effect, LogItem, LogPage, LogQuery, PartitionState, Query, Remembered, Run, Selection, Sum,
    Ticket, Wanted,
};
pub use time::{Duration, Time, Timestamp, Wall};
pub use version::{Stamp, Version};
pub use write::{Condition, Denial, Write, WriteOp};
