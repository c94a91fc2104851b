//! The rules of replication as a value: [`Machine::step`] takes what happened and says what to do.
//!
//! The machine knows no socket, disk, clock or chance. Order of effects: durable before acknowledged,
//! stable on a regional quorum before it leaves the region, acknowledged by all before it is trimmed.

mod core;
mod forward;
mod heartbeat;
mod list;
mod machine;
mod message;
mod other;
mod own;
mod peers;
mod quorum;
mod read;
mod receiver;
mod recent;
mod reconcile;
mod replica;
mod retire;
mod sender;
mod timers;
mod upkeep;
mod view;
mod write;

pub use machine::{
    Config, Input, Machine, Now, Output, PeerView, RegionView, Report, RequestId, View,
};
pub use message::{
    Ack, Append, Heartbeat, Known, Lane, Mark, Message, Operation, Outcome, Refusal, Request,
    Unavailable, Unknown, Want, Written,
};
