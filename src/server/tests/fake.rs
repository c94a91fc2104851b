//! A node in memory, as strict as the real one towards the door.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tokio::sync::Semaphore;

use crate::model::{
    DigestNode, Duration, KeyspaceId, Level, Limits, NodeId, PartitionId, RegionId, Row, RowKey,
    Wall,
};
use crate::node::{NodeStats, PartitionDigest};
use crate::placement::{Keyspace, MergePolicy, Node, Region, Topology};
use crate::protocol::{
    Operation, Outcome, PeerView, Refusal, RegionView, Request, Unavailable, View,
};

use super::ledger::Ledger;

/// Partitions of the fake cluster.
pub(super) const PARTITIONS: u16 = 8;

/// One node in memory.
#[derive(Debug)]
pub(in crate::server) struct Fake {
    topology: Topology,
    ledger: Mutex<Ledger>,
    /// The wall clock; it stands still.
    pub(super) wall: AtomicU64,
    /// What the next calls are answered with, instead of being carried out.
    pub(super) scripted: Mutex<VecDeque<Outcome>>,
    /// The calls so far.
    pub(super) requests: Mutex<Vec<Request>>,
    /// Their levels and timeouts.
    pub(super) calls: Mutex<Vec<(Option<Level>, Duration)>>,
    pub(super) is_ready: AtomicBool,
    pub(super) is_full: AtomicBool,
    /// While true, calls wait for `gate` after they have told `entered`.
    pub(super) is_held: AtomicBool,
    pub(super) entered: Semaphore,
    pub(super) gate: Semaphore,
}

impl Fake {
    pub(in crate::server) fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self {
            topology: topology(limits),
            ledger: Mutex::default(),
            wall: AtomicU64::new(1_000_000),
            scripted: Mutex::default(),
            requests: Mutex::default(),
            calls: Mutex::default(),
            is_ready: AtomicBool::new(true),
            is_full: AtomicBool::new(false),
            is_held: AtomicBool::new(false),
            entered: Semaphore::new(0),
            gate: Semaphore::new(0),
        })
    }

    /// Answers the next call with this.
    #[cfg(test)]
    pub(super) fn script(&self, outcome: Outcome) {
        self.scripted.lock().unwrap().push_back(outcome);
    }

    fn carry_out(&self, request: &Request) -> Outcome {
        let Request {
            operation, level, ..
        } = request;
        if let Some(refusal) = self.refuse(operation, *level) {
            return Outcome::Refused(refusal);
        }
        let now = Wall(self.wall.load(Ordering::SeqCst));
        let mut ledger = self.ledger.lock().unwrap();
        match operation {
            Operation::Get { key } => Outcome::Read(ledger.rows.get(key).cloned()),
            Operation::Write(write) => ledger.write(write, now, &self.topology.limits),
            Operation::Select { selection } => ledger.select(selection),
            Operation::Count { key, collection } => ledger.count(key, *collection, now),
            Operation::Wait { .. } => Outcome::Reached,
            Operation::List {
                keyspace,
                wanted,
                index,
                after,
                rows_max,
                ..
            } => ledger.list((*keyspace, *index), *wanted, after.clone(), *rows_max),
        }
    }

    /// The last request, which is then forgotten.
    #[cfg(test)]
    pub(super) fn request(&self) -> Request {
        self.requests.lock().unwrap().pop().unwrap()
    }

    /// Puts a row there as if it had come from elsewhere.
    #[cfg(test)]
    pub(super) fn plant(&self, key: RowKey, row: Row) {
        self.ledger.lock().unwrap().rows.insert(key, row);
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
        let key_bytes_max = self.topology.limits.key_bytes_max;
        match operation {
            Operation::Get { key } | Operation::Count { key, .. } => {
                if level == Some(Level::UnsafeOne) {
                    return Some(Refusal::Level);
                }
                (key.key.len() > key_bytes_max).then_some(Refusal::KeySize)
            }
            Operation::Write(write) => {
                (write.key.key.len() > key_bytes_max).then_some(Refusal::KeySize)
            }
            Operation::Select { .. } | Operation::List { .. } | Operation::Wait { .. } => None,
        }
    }
}

impl super::super::node::Node for Arc<Fake> {
    async fn call(&self, request: Request, timeout: Duration) -> Outcome {
        self.calls.lock().unwrap().push((request.level, timeout));
        self.requests.lock().unwrap().push(request.clone());
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
        scripted.unwrap_or_else(|| self.carry_out(&request))
    }

    fn is_full(&self) -> bool {
        self.is_full.load(Ordering::SeqCst)
    }

    fn now(&self) -> Wall {
        Wall(self.wall.load(Ordering::SeqCst))
    }

    fn view(&self) -> Arc<View> {
        Arc::new(View {
            actor: "actor".to_owned(),
            partitions: 8,
            serving: 7,
            available: 6,
            is_ready: false,
            is_slow: false,
            requests: 1,
            peers: vec![PeerView {
                node: NodeId::of("eu-1"),
                is_up: true,
                is_slow: false,
                is_late: false,
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

    fn scrub(&self) -> crate::storage::ScrubStats {
        crate::storage::ScrubStats {
            passes: 2,
            ..crate::storage::ScrubStats::default()
        }
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
            Keyspace {
                merge: MergePolicy::Siblings,
                ..keyspace("carts", &["us", "eu"], Level::LocalQuorum)
            },
        ],
        links: Vec::new(),
        limits,
    }
}
