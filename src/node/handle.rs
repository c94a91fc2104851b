//! The way into a node for the doors above it: HTTP, the dev command, tests.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, oneshot};

use crate::model::{DigestNode, Duration, NodeId, PartitionId, Time};
use crate::net::Network;
use crate::placement::{Placement, Topology};
use crate::protocol::{Operation, Outcome, Request, Unavailable, Unknown, View};
use crate::storage::{FjallSnapshot, Reader, Scrub, ScrubStats, StoreStats};

use super::clock::Clock;
use super::latency::{Latency, Recent};

/// What a door is given beyond an operation's own deadline before it is told that the loop is gone.
const GRACE: Duration = Duration::from_secs(1);

/// An operation on its way to the loop.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) request: Request,
    pub(super) begun: Time,
    pub(super) deadline: Time,
    pub(super) reply: oneshot::Sender<Outcome>,
}

/// What handles and loop share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) node: NodeId,
    pub(super) topology: Arc<Topology>,
    pub(super) placement: Arc<Placement>,
    pub(super) clock: Clock,
    pub(super) network: Network,
    pub(super) reader: Reader<FjallSnapshot>,
    pub(super) store_stats: ArcSwap<StoreStats>,
    pub(super) scrub: Arc<Scrub>,
    /// Free bytes of the data folder's file system, as last seen.
    pub(super) disk_free: AtomicU64,
    pub(super) view: ArcSwap<View>,
    pub(super) is_stopping: AtomicBool,
    /// Operations of doors that are not answered yet.
    pub(super) in_flight: AtomicUsize,
    pub(super) writes: Latency,
    pub(super) reads: Latency,
}

/// A handle to a running node; cheap to clone.
#[derive(Clone, Debug)]
pub struct Handle {
    pub(super) shared: Arc<Shared>,
    pub(super) calls: mpsc::Sender<Call>,
}

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

/// An operation's place among those in flight, given back when it is dropped.
struct Place<'a>(&'a AtomicUsize);

impl<'a> Place<'a> {
    fn take(shared: &'a Shared) -> Option<Self> {
        let limit = shared.topology.limits.requests_max;
        let taken = shared.in_flight.fetch_add(1, Ordering::Relaxed);
        let place = Self(&shared.in_flight);
        (taken < limit).then_some(place)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Handle {
    /// Carries out an operation; always answers, at the latest soon after the time is over.
    pub async fn call(&self, request: Request, timeout: Duration) -> Outcome {
        if self.shared.is_stopping.load(Ordering::Relaxed) {
            return Outcome::Unavailable(Unavailable::Stopping);
        }
        // Refused here, an operation costs the loop nothing.
        let Some(_place) = Place::take(&self.shared) else {
            return Outcome::Unavailable(Unavailable::Overloaded);
        };
        let is_write = matches!(request.operation, Operation::Write(_));
        let (reply, answer) = oneshot::channel();
        let begun = self.shared.clock.time();
        let deadline = begun.after(timeout);
        if self
            .calls
            .try_send(Call {
                request,
                begun,
                deadline,
                reply,
            })
            .is_err()
        {
            return Outcome::Unavailable(Unavailable::Overloaded);
        }
        match tokio::time::timeout(timeout + GRACE, answer).await {
            Ok(Ok(outcome)) => outcome,
            // The loop has ended, or does not turn: nobody can say what became of a write.
            Ok(Err(_)) | Err(_) if is_write => Outcome::Unknown(Unknown::Coordinator),
            Ok(Err(_)) | Err(_) => Outcome::Unavailable(Unavailable::Deadline),
        }
    }

    /// Whether an operation would be refused as one too many, so that a door need not read it first.
    pub fn is_full(&self) -> bool {
        let limit = self.shared.topology.limits.requests_max;
        self.shared.in_flight.load(Ordering::Relaxed) >= limit
    }

    /// What the node sees; refreshed several times a second.
    pub fn view(&self) -> Arc<View> {
        self.shared.view.load_full()
    }

    /// Counters of disk and network.
    pub fn stats(&self) -> NodeStats {
        let peers = self.shared.network.stats();
        let sum = |field: fn(&crate::net::NetStats) -> u64| peers.iter().map(field).sum::<u64>();
        let mut values = store_values(&self.shared.store_stats.load());
        values.extend(scrub_values(self.shared.scrub.stats()));
        values.push(("disk_free_bytes", self.disk_free()));
        values.extend([
            ("net_sent_messages_total", sum(|peer| peer.sent_messages)),
            (
                "net_received_messages_total",
                sum(|peer| peer.received_messages),
            ),
            ("net_dropped_messages_total", sum(|peer| peer.dropped_full)),
            ("net_unsent_messages_total", sum(|peer| peer.dropped_unsent)),
            ("net_connects_total", sum(|peer| peer.connects)),
            ("net_udp_sent_bytes_total", sum(|peer| peer.udp_sent_bytes)),
            ("net_lost_packets_total", sum(|peer| peer.lost_packets)),
        ]);
        NodeStats {
            values,
            sent_bytes: peers
                .iter()
                .map(|peer| (peer.peer, peer.sent_bytes))
                .collect(),
            received_bytes: peers
                .iter()
                .map(|peer| (peer.peer, peer.received_bytes))
                .collect(),
        }
    }

    /// Has everything on disk read and checked now.
    pub fn scrub(&self) -> ScrubStats {
        self.shared.scrub.start();
        self.shared.scrub.stats()
    }

    /// Free bytes of the data folder's file system, as last seen.
    pub fn disk_free(&self) -> u64 {
        self.shared.disk_free.load(Ordering::Relaxed)
    }

    /// Latencies of writes that were answered OK since this was last asked.
    pub fn recent_writes(&self) -> Recent {
        self.shared.writes.take()
    }

    /// Latencies of reads that were answered OK since this was last asked.
    pub fn recent_reads(&self) -> Recent {
        self.shared.reads.take()
    }

    /// The topology it runs by.
    pub fn topology(&self) -> &Topology {
        &self.shared.topology
    }

    /// This node's id.
    pub fn node(&self) -> NodeId {
        self.shared.node
    }

    /// Whether every partition here serves with a quorum of its region, the node has settled in, and is not stopping.
    pub fn is_ready(&self) -> bool {
        let view = self.shared.view.load();
        view.is_ready && !self.shared.is_stopping.load(Ordering::Relaxed)
    }

    /// The root digests of all partitions on this node.
    #[expect(
        clippy::unused_async,
        reason = "a door must not count on the digests being in memory"
    )]
    pub async fn digests(&self) -> Vec<PartitionDigest> {
        let partitions = self.shared.placement.partitions_of(self.shared.node);
        let digest = |partition: &PartitionId| {
            let root = self.shared.reader.root(*partition)?;
            Some(PartitionDigest {
                partition: *partition,
                root,
            })
        };
        partitions.iter().filter_map(digest).collect()
    }

    /// The hashes of the children of one node of a partition's digest tree; nothing if it is not here.
    #[expect(
        clippy::unused_async,
        reason = "a door must not count on the digests being in memory"
    )]
    pub async fn digest_children(
        &self,
        partition: PartitionId,
        node: DigestNode,
    ) -> Option<Vec<u128>> {
        self.shared.reader.children(partition, node)
    }
}

fn store_values(stats: &StoreStats) -> Vec<(&'static str, u64)> {
    vec![
        ("commits_total", stats.commits),
        ("changes_total", stats.changes),
        ("changes_per_commit_max", stats.changes_per_commit_max),
        ("commit_micros_total", stats.commit_micros),
        ("commit_micros_max", stats.commit_micros_max),
        ("slow_commits_total", stats.slow_commits),
        ("store_queries_total", stats.queries),
        ("store_unreadable_total", stats.unreadable),
        ("store_queued_changes", stats.queued_changes),
        ("store_queued_bytes", stats.queued_bytes),
    ]
}

fn scrub_values(stats: ScrubStats) -> [(&'static str, u64); 5] {
    [
        ("scrub_running", u64::from(stats.is_running)),
        ("scrub_passes_total", stats.passes),
        ("scrub_bytes_total", stats.bytes),
        ("scrub_partitions_done", stats.partitions_done),
        ("scrub_damaged_total", stats.damaged),
    ]
}
