//! A node in memory, as strict as the real one towards the door.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tokio::sync::Semaphore;

use crate::model::{
    Actor, DigestNode, Dot, Duration, Incarnation, KeyspaceId, Level, Limits, NodeId, PartitionId,
    RegionId, Row, RowKey, Stamp, Timestamp, Version, WriteOp,
};
use crate::node::{NodeStats, PartitionDigest};
use crate::placement::{Keyspace, MergePolicy, Node, Region, Topology};
use crate::protocol::{
    Operation, Outcome, PeerView, Refusal, RegionView, Request, Unavailable, View, Written,
};

/// Partitions of the fake cluster.
pub(super) const PARTITIONS: u16 = 8;

/// One node in memory.
#[derive(Debug)]
pub(super) struct Fake {
    topology: Topology,
    rows: Mutex<BTreeMap<RowKey, Row>>,
    clock: AtomicU64,
    /// What the next calls are answered with, instead of being carried out.
    pub(super) scripted: Mutex<VecDeque<Outcome>>,
    /// The levels and timeouts of the calls so far.
    pub(super) calls: Mutex<Vec<(Option<Level>, Duration)>>,
    pub(super) is_ready: AtomicBool,
    /// While true, calls wait for `gate` after they have told `entered`.
    pub(super) is_held: AtomicBool,
    pub(super) entered: Semaphore,
    pub(super) gate: Semaphore,
}

impl Fake {
    pub(super) fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self {
            topology: topology(limits),
            rows: Mutex::default(),
            clock: AtomicU64::new(1),
            scripted: Mutex::default(),
            calls: Mutex::default(),
            is_ready: AtomicBool::new(true),
            is_held: AtomicBool::new(false),
            entered: Semaphore::new(0),
            gate: Semaphore::new(0),
        })
    }

    /// Answers the next call with this.
    pub(super) fn script(&self, outcome: Outcome) {
        self.scripted.lock().unwrap().push_back(outcome);
    }

    fn carry_out(&self, operation: Operation, level: Option<Level>) -> Outcome {
        if let Some(refusal) = self.refuse(&operation, level) {
            return Outcome::Refused(refusal);
        }
        let mut rows = self.rows.lock().unwrap();
        match operation {
            Operation::Get { key } => Outcome::Read(rows.get(&key).cloned()),
            Operation::Write(write) => {
                let n = self.clock.fetch_add(1, Ordering::Relaxed);
                let stamp = Stamp {
                    timestamp: timestamp(n),
                    dot: dot(n),
                };
                let value = match write.op {
                    WriteOp::Put(value) => Some(value),
                    _ => None,
                };
                let row = Row::Register(Version::new(stamp, value));
                let summary = row.summary();
                rows.insert(write.key, row);
                Outcome::Written(Written {
                    node: stamp.dot.actor.node,
                    timestamp: stamp.timestamp,
                    summary: Some(summary),
                    is_crossed: false,
                })
            }
            Operation::Select { .. } | Operation::Count { .. } | Operation::Wait { .. } => {
                Outcome::Unavailable(Unavailable::Replicas)
            }
            Operation::List {
                keyspace,
                index,
                after,
                rows_max,
                ..
            } => {
                let start = after.map_or(Bound::Unbounded, Bound::Excluded);
                let mut found = rows.range((start, Bound::Unbounded)).filter(|(key, _)| {
                    key.keyspace == keyspace && key.token.partition_index(PARTITIONS) == index
                });
                let page: Vec<_> = found
                    .by_ref()
                    .take(rows_max as usize)
                    .map(|(key, row)| (key.clone(), row.clone()))
                    .collect();
                let last = page.last().map(|(key, _)| key.clone());
                let next = if found.next().is_some() {
                    Some((index, last))
                } else {
                    (index + 1 < PARTITIONS).then_some((index + 1, None))
                };
                Outcome::Page { rows: page, next }
            }
        }
    }

    fn refuse(&self, operation: &Operation, level: Option<Level>) -> Option<Refusal> {
        let keyspace = match operation {
            Operation::Get { key } | Operation::Count { key, .. } => key.keyspace,
            Operation::Write(write) => write.key.keyspace,
            Operation::Select { selection } => selection.key()?.keyspace,
            Operation::List { keyspace, .. } => *keyspace,
            Operation::Wait { .. } => return None,
        };
        if keyspace == KeyspaceId::of("europe") {
            return Some(Refusal::KeyspaceElsewhere);
        }
        match operation {
            Operation::Get { .. } if level == Some(Level::UnsafeOne) => Some(Refusal::Level),
            Operation::Get { key } if key.key.len() > self.topology.limits.key_bytes_max => {
                Some(Refusal::KeySize)
            }
            Operation::Write(write) if write.key.key.len() > self.topology.limits.key_bytes_max => {
                Some(Refusal::KeySize)
            }
            _ => None,
        }
    }
}

impl super::super::node::Node for Arc<Fake> {
    async fn call(&self, request: Request, timeout: Duration) -> Outcome {
        let Request {
            operation, level, ..
        } = request;
        self.calls.lock().unwrap().push((level, timeout));
        if self.is_held.load(Ordering::SeqCst) {
            self.entered.add_permits(1);
            if tokio::time::timeout(timeout, self.gate.acquire())
                .await
                .is_err()
            {
                return Outcome::Unavailable(Unavailable::Deadline);
            }
        }
        let scripted = self.scripted.lock().unwrap().pop_front();
        scripted.unwrap_or_else(|| self.carry_out(operation, level))
    }

    fn view(&self) -> Arc<View> {
        Arc::new(View {
            actor: "actor".to_owned(),
            partitions: 8,
            serving: 7,
            requests: 1,
            peers: vec![PeerView {
                node: NodeId::of("eu-1"),
                is_up: true,
                backlog: 5,
            }],
            regions: vec![RegionView {
                region: RegionId::of("eu"),
                lag_ms: Some(41),
                backlog: 5,
                divergence: 2,
            }],
            lost: Vec::new(),
            counters: vec![("reads_repaired_total", 3)],
            queues: vec![("requests_queued", 4)],
        })
    }

    fn stats(&self) -> NodeStats {
        NodeStats {
            values: vec![("commits_total", 6)],
            sent_bytes: vec![(NodeId::of("eu-1"), 100)],
            received_bytes: vec![(NodeId::of("eu-1"), 200)],
        }
    }

    fn topology(&self) -> &Topology {
        &self.topology
    }

    fn node(&self) -> NodeId {
        NodeId::of("us-1")
    }

    fn is_ready(&self) -> bool {
        self.is_ready.load(Ordering::SeqCst)
    }

    async fn digests(&self) -> Vec<PartitionDigest> {
        let partition = PartitionId {
            keyspace: KeyspaceId::of("default"),
            index: 3,
        };
        vec![PartitionDigest {
            partition,
            root: 0xabc,
        }]
    }

    async fn digest_children(&self, partition: PartitionId, node: DigestNode) -> Option<Vec<u128>> {
        let base = u128::from(node.level) * 100 + u128::from(node.index);
        (partition.index == 3).then(|| (0..16).map(|child| base + child).collect())
    }
}

fn timestamp(n: u64) -> Timestamp {
    Timestamp {
        micros: 1_000_000 + n,
        logical: 2,
    }
}

fn dot(n: u64) -> Dot {
    Dot {
        actor: Actor {
            node: NodeId::of("us-1"),
            incarnation: Incarnation(0xbeef),
        },
        n,
    }
}

fn topology(limits: Limits) -> Topology {
    let region = |name: &str, node: &str| Region {
        id: RegionId::of(name),
        name: name.to_owned(),
        nodes: vec![Node {
            id: NodeId::of(node),
            name: node.to_owned(),
            zone: "a".to_owned(),
            http: "127.0.0.1:1".to_owned(),
            peer: "127.0.0.1:2".to_owned(),
            weight: 1,
        }],
    };
    let keyspace = |name: &str, regions: &[&str], consistency| Keyspace {
        id: KeyspaceId::of(name),
        name: name.to_owned(),
        merge: MergePolicy::Lww,
        regions: regions.iter().map(|name| RegionId::of(name)).collect(),
        replication: 1,
        consistency,
        ttl: None,
        conflicts_kept: None,
    };
    Topology {
        cluster: "test".to_owned(),
        partitions: PARTITIONS,
        regions: vec![region("us", "us-1"), region("eu", "eu-1")],
        keyspaces: vec![
            keyspace("default", &["us", "eu"], Level::LocalQuorum),
            keyspace("everywhere", &["us", "eu"], Level::All),
            keyspace("europe", &["eu"], Level::LocalQuorum),
        ],
        links: Vec::new(),
        limits,
    }
}
