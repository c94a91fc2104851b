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
mod damage;
mod disk;
mod drive;
mod faults;
mod guard;
#[cfg(test)]
mod histories;
mod kinds;
mod looks;
mod messages;
mod network;
mod node;
mod paths;
mod plan;
#[cfg(test)]
mod planted;
mod run;
#[cfg(test)]
mod scenario;
mod shrink;
mod sketch;
mod strike;
#[cfg(test)]
mod tests;
mod trace;
pub mod wan;
mod world;

use crate::history;

pub use bugs::Bug;
pub use guard::name_seeds_in_panics;
pub use history::Violation;
pub use kinds::{Kind, Tally};
pub use plan::{Plan, PlanError};
pub use run::{Options, Outcomes, Report, run, run_plan, run_with_history};
pub use shrink::{Shrunk, shrink};
pub use strike::BadStrike;
