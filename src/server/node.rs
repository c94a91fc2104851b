//! What the HTTP door needs of a node: the real handle in production, an in-memory fake in tests.

use std::future::Future;
use std::sync::Arc;

use crate::model::{DigestNode, Duration, NodeId, PartitionId, Wall};
use crate::node::{Clock, Handle, NodeStats, PartitionDigest};
use crate::placement::Topology;
use crate::protocol::{Outcome, Request, View};
use crate::storage::ScrubStats;

/// A running node; see [`Handle`], whose methods these are.
pub(super) trait Node: Send + Sync + 'static {
    /// Carries out an operation.
    fn call(&self, request: Request, timeout: Duration) -> impl Future<Output = Outcome> + Send;

    /// Whether it has as many operations in flight as it takes.
    fn is_full(&self) -> bool;

    /// The wall clock of its machine.
    fn now(&self) -> Wall;

    /// What the node sees.
    fn view(&self) -> Arc<View>;

    /// Counters of disk and network.
    fn stats(&self) -> NodeStats;

    /// The topology it runs by.
    fn topology(&self) -> &Topology;

    /// This node's id.
    fn node(&self) -> NodeId;

    /// Whether every partition here serves.
    fn is_ready(&self) -> bool;

    /// Has everything on disk read and checked now; what was done so far.
    fn scrub(&self) -> ScrubStats;

    /// The root digests of all partitions here.
    fn digests(&self) -> impl Future<Output = Vec<PartitionDigest>> + Send;

    /// The hashes of the children of a node of a partition's digest tree.
    fn digest_children(
        &self,
        partition: PartitionId,
        node: DigestNode,
    ) -> impl Future<Output = Option<Vec<u128>>> + Send;
}

impl Node for Handle {
    fn call(&self, request: Request, timeout: Duration) -> impl Future<Output = Outcome> + Send {
        Self::call(self, request, timeout)
    }

    fn is_full(&self) -> bool {
        Self::is_full(self)
    }

    fn now(&self) -> Wall {
        Clock::wall()
    }

    fn view(&self) -> Arc<View> {
        Self::view(self)
    }

    fn stats(&self) -> NodeStats {
        Self::stats(self)
    }

    fn topology(&self) -> &Topology {
        Self::topology(self)
    }

    fn node(&self) -> NodeId {
        Self::node(self)
    }

    fn is_ready(&self) -> bool {
        Self::is_ready(self)
    }

    fn scrub(&self) -> ScrubStats {
        Self::scrub(self)
    }

    fn digests(&self) -> impl Future<Output = Vec<PartitionDigest>> + Send {
        Self::digests(self)
    }

    fn digest_children(
        &self,
        partition: PartitionId,
        node: DigestNode,
    ) -> impl Future<Output = Option<Vec<u128>>> + Send {
        Self::digest_children(self, partition, node)
    }
}
