//! Who holds what: rendezvous hashing (Thaler and Ravishankar, 1998) over the nodes of each region.

use std::collections::BTreeMap;

use crate::model::{Duration, KeyspaceId, NodeId, PartitionId, RegionId};

use super::topology::{Keyspace, Topology};

/// The replicas of every partition, computed once from a topology.
#[derive(Debug)]
pub struct Placement {}

impl Placement {
    /// Computes the replicas of every partition of every keyspace in every region it lives in.
    pub fn new(topology: &Topology) -> Self {
        todo!()
    }

    /// Partitions of every keyspace.
    pub fn partition_count(&self) -> u16 {
        todo!()
    }

    /// The replicas of a partition in a region, the first in line first; empty if the keyspace is not there.
    pub fn replicas(&self, partition: PartitionId, region: RegionId) -> &[NodeId] {
        todo!()
    }

    /// The replicas of a partition in all regions, by region in order of the topology.
    pub fn regions(&self, partition: PartitionId) -> &[(RegionId, Vec<NodeId>)] {
        todo!()
    }

    /// The partitions that a node holds, in order.
    pub fn partitions_of(&self, node: NodeId) -> &[PartitionId] {
        todo!()
    }

    /// The region of a node; nothing for a node that is not in the topology.
    pub fn region_of(&self, node: NodeId) -> Option<RegionId> {
        todo!()
    }

    /// All nodes, with their regions, in order of the topology.
    pub fn nodes(&self) -> &BTreeMap<NodeId, RegionId> {
        todo!()
    }

    /// A keyspace by its id.
    pub fn keyspace(&self, keyspace: KeyspaceId) -> Option<&Keyspace> {
        todo!()
    }

    /// The round-trip time between two regions by the topology; zero inside one, and where no link is named.
    pub fn rtt(&self, a: RegionId, b: RegionId) -> Duration {
        todo!()
    }
}
