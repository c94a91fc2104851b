//! The rules of replication as a value: [`Machine::step`] takes what happened and says what to do.
//!
//! The machine knows no socket, disk, clock or chance. Order of effects: durable before acknowledged,
//! stable on a regional quorum before it leaves the region, acknowledged by all before it is trimmed.

mod answer;
mod attain;
mod core;
mod forward;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod gate;
mod heartbeat;
mod list;
mod machine;
mod message;
mod observe;
mod operation;
mod other;
mod own;
mod pace;
mod peers;
mod quorum;
mod read;
mod read_quorum;
mod receiver;
mod recent;
mod reconcile;
mod replica;
mod retire;
#[cfg(test)]
mod samples;
mod select;
mod sender;
mod sides;
mod standing;
mod step;
mod stored;
#[cfg(test)]
mod tests;
mod timers;
mod upkeep;
mod view;
mod wait;
mod write;

pub use machine::Machine;
pub use message::{
    Ack, Append, Heartbeat, Known, Lane, Mark, Message, Operation, Outcome, Refusal, Request,
    Unavailable, Unknown, Want, Written,
};
pub use step::{Config, Input, Now, Output, Report, RequestId, Room};
pub use view::{PeerView, RegionView, View};
