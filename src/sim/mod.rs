//! The simulator: a whole cluster on one thread, with virtual clocks, network and disks, out of one seed.
//!
//! It runs the same machines and the same door as production. It knows no real time, socket or file; all
//! chance comes from the seed, so a seed replays a run event for event. (`wan` is apart: it stands between real
//! sockets, in real time.)

mod actions;
mod bugs;
pub mod check;
mod choices;
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
#[cfg(test)]
mod planted;
mod run;
#[cfg(test)]
mod scenario;
#[cfg(test)]
mod tests;
mod trace;
pub mod wan;
mod world;

pub use bugs::Bug;
pub use check::Violation;
pub use history::{Action, Ending, FieldSeen, History, Record, Seen, Wishes};
pub use kinds::{Kind, Tally};
pub use run::{Options, Outcomes, Report, run};
