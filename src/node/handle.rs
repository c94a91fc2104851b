//! The way into a node for the doors above it: HTTP, the dev command, tests.

use std::sync::Arc;

use crate::model::{DigestNode, Duration, Level, NodeId, PartitionId};
use crate::placement::Topology;
use crate::protocol::{Operation, Outcome, View};

/// A handle to a running node; cheap to clone.
#[derive(Clone, Debug)]
pub struct Handle {}

/// The digest of one partition on this node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PartitionDigest {
    /// The partition.
    pub partition: PartitionId,
    /// The hash of everything in it.
    pub root: u128,
}

/// Counters of the node's disk and network, for metrics.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct NodeStats {
    /// Counters and gauges, by stable metric name without prefix (`commits_total`, `fsync_micros_total`, …).
    pub values: Vec<(&'static str, u64)>,
    /// Bytes of frames sent to each peer, as they went on the wire, QUIC's own overhead left out.
    pub sent_bytes: Vec<(NodeId, u64)>,
    /// Bytes of frames received from each peer.
    pub received_bytes: Vec<(NodeId, u64)>,
}

impl Handle {
    /// Carries out an operation; always answers, at the latest when the time is over.
    pub async fn call(
        &self,
        operation: Operation,
        level: Option<Level>,
        timeout: Duration,
    ) -> Outcome {
        todo!()
    }

    /// What the node sees; refreshed several times a second.
    pub fn view(&self) -> Arc<View> {
        todo!()
    }

    /// Counters of disk and network.
    pub fn stats(&self) -> NodeStats {
        todo!()
    }

    /// The topology it runs by.
    pub fn topology(&self) -> &Topology {
        todo!()
    }

    /// This node's id.
    pub fn node(&self) -> NodeId {
        todo!()
    }

    /// Whether every partition here serves and the node is not stopping.
    pub fn is_ready(&self) -> bool {
        todo!()
    }

    /// The root digests of all partitions on this node.
    pub async fn digests(&self) -> Vec<PartitionDigest> {
        todo!()
    }

    /// The hashes of the children of one node of a partition's digest tree; nothing if it is not here.
    pub async fn digest_children(
        &self,
        partition: PartitionId,
        node: DigestNode,
    ) -> Option<Vec<u128>> {
        todo!()
    }
}
