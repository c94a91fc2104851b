//! Refills that came to nothing: those that fail again and again must not keep others from theirs, nor one peer the
//! others from being asked.

use std::collections::BTreeMap;

use crate::model::{NodeId, PartitionId};

/// The failures of partitions since each was filled last.
#[derive(Debug, Default)]
pub(super) struct Failures {
    /// From whom, and the how manyth of all the last one was.
    last: BTreeMap<(PartitionId, NodeId), u64>,
    count: u64,
}

impl Failures {
    pub(super) fn note(&mut self, partition: PartitionId, peer: NodeId) {
        self.count += 1;
        self.last.insert((partition, peer), self.count);
    }

    /// The partition is filled.
    pub(super) fn forget(&mut self, partition: PartitionId) {
        self.last.retain(|(at, _), _| *at != partition);
    }

    /// Orders peers: those with whom it has not failed, then those with whom that was longest ago.
    pub(super) fn of_peer(&self, partition: PartitionId, peer: NodeId) -> Option<u64> {
        self.last.get(&(partition, peer)).copied()
    }

    /// Orders partitions likewise.
    pub(super) fn of(&self, partition: PartitionId) -> Option<u64> {
        let peers = (partition, NodeId(0))..=(partition, NodeId(u32::MAX));
        self.last.range(peers).map(|(_, order)| *order).max()
    }
}
