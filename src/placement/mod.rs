//! The topology of a cluster, and who holds what.
//!
//! This room turns the text of a topology file into checked values, and those into the replicas of every
//! partition. It does not know files, sockets, or which nodes are up: whoever reads the file hands the text
//! in, and `protocol` decides what to do with a replica that is down.

mod check;
mod draw;
mod form;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod replicas;
mod topology;

#[cfg(test)]
mod refusals;
#[cfg(test)]
mod samples;

pub use replicas::Placement;
pub use topology::{Keyspace, Link, LinkShape, MergePolicy, Node, Region, Topology, TopologyError};
