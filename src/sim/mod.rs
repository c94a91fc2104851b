//! The simulator: a whole cluster on one thread, with virtual clocks, network and disks, out of one seed.
//!
//! It runs the same machines and the same door as production. It knows no real time, socket or file; all
//! chance comes from the seed, so a seed replays a run event for event. (`wan` is apart: it stands between real
//! sockets, in real time.)

pub mod check;
mod clients;
mod clock;
mod cluster;
mod connections;
mod disk;
mod drive;
mod faults;
mod history;
mod kinds;
mod looks;
mod messages;
mod network;
mod node;
mod run;
#[cfg(test)]
mod tests;
mod trace;
pub mod wan;
mod world;

pub use check::Violation;
pub use history::{Action, Ending, History, Record, Seen};
pub use kinds::{Kind, Tally};
pub use run::{Options, Outcomes, Report, run};

/// A bug planted in the harness, to prove that the checkers find it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bug {
    /// The disk reports changes as durable at once and syncs later.
    AckBeforeSync,
    /// After a crash the door believes that it was stopped cleanly, and goes on with its old incarnation.
    ReuseDot,
    /// Now and then a node collects every tombstone it has, whoever else lacks it.
    DropTombstonesEarly,
}
