//! The topology of a cluster, and who holds what.

mod replicas;
mod topology;

pub use replicas::Placement;
pub use topology::{Keyspace, Link, LinkShape, MergePolicy, Node, Region, Topology, TopologyError};
