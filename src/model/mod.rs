//! The words of Sterna as types: names, versions, rows, positions, and what may be asked of a store.
//!
//! This room knows no disk, no network, no clock and no chance. It decides what a row is and how two
//! states of a row merge; everything above it moves those values about.

mod ids;
mod level;
mod limits;
mod position;
mod row;
mod store;
mod time;

pub use ids::{Actor, Dot, Incarnation, KeyspaceId, NodeId, PartitionId, RegionId, Token};
pub use level::Level;
pub use limits::Limits;
pub use position::{Position, Reach};
pub use row::{Row, RowKey, Summary, Version, WriteOp};
pub use store::{
    Answer, Change, DIGEST_FANOUT, DIGEST_LEAVES, DIGEST_LEVELS, DigestNode, Effect, LogItem,
    LogPage, LogQuery, PartitionState, Query, Ticket,
};
pub use time::{Duration, Time, Timestamp, Wall};
