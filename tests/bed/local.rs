//! A cluster in this process: real sockets, certificates and disks. Between any two nodes, also of one region,
//! lies an emulated link that can be cut or shaped.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use sterna::model::{KeyspaceId, Level, NodeId, RegionId, Row, RowKey, Write, WriteOp};
use sterna::net::{Identity, PeerName, Pem, bind, make_ca, make_node};
use sterna::node::{Handle, Node, NodeConfig};
use sterna::placement::{LinkShape, Topology};
use sterna::protocol::{Operation, Outcome, Request};
use sterna::sim::wan::Wan;
use tempfile::TempDir;

use super::patience::until;
use super::topology::KEYSPACE;

/// For one request.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Between regions of the topology, and inside one.
const NEAR: Duration = Duration::from_micros(200);
const FAR: Duration = Duration::from_millis(4);

/// The cluster.
pub(crate) struct Cluster {
    pub(crate) topology: Arc<Topology>,
    wan: Wan,
    ca: Pem,
    data: TempDir,
    nodes: BTreeMap<String, Node>,
}

/// Certificates are checked against the machine's own date.
fn today() -> SystemTime {
    SystemTime::UNIX_EPOCH + SystemTime::UNIX_EPOCH.elapsed().unwrap()
}

/// To the emulated links every node is a region of its own.
fn place(node: NodeId) -> RegionId {
    RegionId(node.0)
}

/// The row of a key.
pub(crate) fn key(name: &str) -> RowKey {
    RowKey::plain(
        KeyspaceId::of(KEYSPACE),
        Bytes::copy_from_slice(name.as_bytes()),
    )
}

impl Cluster {
    /// Starts all nodes of a topology and waits until they serve.
    pub(crate) async fn start(text: &str) -> Self {
        let topology = Arc::new(Topology::parse("test.toml", text).unwrap());
        let wan = Wan::new(7);
        let ids: Vec<NodeId> = topology.nodes().map(|node| node.id).collect();
        for (index, a) in ids.iter().enumerate() {
            for b in &ids[index + 1..] {
                let is_near = topology.region_of(*a) == topology.region_of(*b);
                let shape = LinkShape {
                    rtt: if is_near { NEAR } else { FAR },
                    jitter: Duration::ZERO,
                    loss: 0.0,
                    reorder: 0.0,
                    bandwidth_bits: None,
                };
                wan.set(place(*a), place(*b), shape);
            }
        }
        let ca = make_ca(today(), &topology.cluster).unwrap();
        let mut cluster = Self {
            topology,
            wan,
            ca,
            data: tempfile::tempdir().unwrap(),
            nodes: BTreeMap::new(),
        };
        for name in cluster.names() {
            cluster.start_node(&name).await;
        }
        cluster.ready().await;
        cluster
    }

    fn names(&self) -> Vec<String> {
        self.topology
            .nodes()
            .map(|node| node.name.clone())
            .collect()
    }

    /// Starts a node; does not wait until it serves.
    pub(crate) async fn start_node(&mut self, name: &str) {
        let spec = self.topology.node_named(name).unwrap();
        let region = self.topology.region_of(spec.id).unwrap();
        let peer = PeerName {
            cluster: self.topology.cluster.clone(),
            region: region.name.clone(),
            node: name.to_owned(),
        };
        let pem = make_node(today(), &self.ca, &peer, 1).unwrap();
        let address = |text: &str| text.parse::<SocketAddr>().unwrap();
        let places = self.topology.nodes();
        let places = places
            .map(|node| (address(&node.peer), place(node.id)))
            .collect();
        // A node that has stopped leaves its socket a little later.
        let mut udp = None;
        until(&format!("the port of {name} is free"), async || {
            udp = bind(address(&spec.peer)).ok();
            udp.is_some()
        })
        .await;
        let udp = udp.unwrap();
        let config = NodeConfig {
            may_start_empty: false,
            topology: Arc::clone(&self.topology),
            node: spec.id,
            data: self.data_of(name),
            identity: Identity::from_pem(&self.ca.certificate, &pem.certificate, &pem.key).unwrap(),
            socket: self.wan.socket(udp, place(spec.id), places).unwrap(),
        };
        let node = Node::start(config).await.unwrap();
        self.nodes.insert(name.to_owned(), node);
    }

    /// Stops a node cleanly.
    pub(crate) async fn stop(&mut self, name: &str) {
        self.nodes.remove(name).unwrap().stop().await.unwrap();
    }

    /// Removes all that a stopped node has on disk.
    pub(crate) fn wipe(&self, name: &str) {
        std::fs::remove_dir_all(self.data_of(name)).unwrap();
    }

    fn data_of(&self, name: &str) -> PathBuf {
        self.data.path().join(name)
    }

    /// Waits until all running nodes serve all that they hold, and hear each other.
    pub(crate) async fn ready(&self) {
        let running = self.nodes.len();
        until("all nodes serve and hear each other", async || {
            self.nodes.values().all(|node| {
                let handle = node.handle();
                let view = handle.view();
                let heard = view.peers.iter().filter(|peer| peer.is_up).count();
                handle.is_ready() && heard + 1 == running
            })
        })
        .await;
    }

    /// Cuts, or mends, every link between nodes of which one name begins with `a` and the other with `b`.
    pub(crate) fn set_cut(&self, a: &str, b: &str, is_cut: bool) {
        for (one, other) in self.pairs(a, b) {
            let found = if is_cut {
                self.wan.cut(one, other)
            } else {
                self.wan.heal(one, other)
            };
            assert!(found, "no link {a}, {b}");
        }
    }

    /// Caps every such link.
    pub(crate) fn cap(&self, a: &str, b: &str, bits: u64) {
        for (one, other) in self.pairs(a, b) {
            let shape = LinkShape {
                rtt: FAR,
                jitter: Duration::ZERO,
                loss: 0.0,
                reorder: 0.0,
                bandwidth_bits: Some(bits),
            };
            self.wan.set(one, other, shape);
        }
    }

    fn pairs(&self, a: &str, b: &str) -> Vec<(RegionId, RegionId)> {
        let of = |prefix: &str| {
            let nodes = self.topology.nodes();
            nodes
                .filter(|node| node.name.starts_with(prefix))
                .map(|node| place(node.id))
                .collect::<Vec<_>>()
        };
        let (ones, others) = (of(a), of(b));
        let pairs = ones
            .iter()
            .flat_map(|one| others.iter().map(|other| (*one, *other)));
        pairs.filter(|(one, other)| one != other).collect()
    }

    pub(crate) fn handle(&self, node: &str) -> Handle {
        self.nodes[node].handle()
    }

    pub(crate) async fn call(
        &self,
        node: &str,
        operation: Operation,
        level: Option<Level>,
    ) -> Outcome {
        let request = Request {
            level,
            ..operation.into()
        };
        self.handle(node).call(request, TIMEOUT).await
    }

    /// Writes, at the keyspace's level unless another is named.
    pub(crate) async fn write(
        &self,
        node: &str,
        name: &str,
        value: impl Into<Bytes>,
        level: Option<Level>,
    ) -> Outcome {
        let op = WriteOp::Put(value.into());
        let key = key(name);
        self.call(node, Operation::Write(Box::new(Write::new(key, op))), level)
            .await
    }

    /// Writes at the keyspace's level; it must succeed.
    pub(crate) async fn put(&self, node: &str, name: &str, value: impl Into<Bytes>) {
        let outcome = self.write(node, name, value, None).await;
        assert!(
            matches!(outcome, Outcome::Written(_)),
            "{node} {name}: {outcome:?}"
        );
    }

    /// Deletes; it must succeed.
    pub(crate) async fn delete(&self, node: &str, name: &str) {
        let (key, op) = (key(name), WriteOp::Delete);
        let outcome = self
            .call(node, Operation::Write(Box::new(Write::new(key, op))), None)
            .await;
        assert!(
            matches!(outcome, Outcome::Written(_)),
            "{node} {name}: {outcome:?}"
        );
    }

    /// Reads; it must succeed.
    pub(crate) async fn get(&self, node: &str, name: &str, level: Level) -> Option<Bytes> {
        let key = key(name);
        let outcome = self.call(node, Operation::Get { key }, Some(level)).await;
        let Outcome::Read(row) = outcome else {
            panic!("{node} {name}: {outcome:?}");
        };
        row.and_then(|row| {
            let Row::Register(version) = row else {
                panic!("not a register: {row:?}");
            };
            version.value
        })
    }

    /// Waits until a node reads this value at its region's quorum.
    pub(crate) async fn seen(&self, node: &str, name: &str, value: Option<&'static str>) {
        let value = value.map(Bytes::from);
        until(&format!("{node} sees {name}"), async || {
            self.get(node, name, Level::LocalQuorum).await == value
        })
        .await;
    }

    /// Waits until all replicas of every partition have equal digests, and not those of nothing.
    pub(crate) async fn equal(&self) {
        until("equal digests", async || {
            let mut roots: BTreeMap<_, BTreeSet<u128>> = BTreeMap::new();
            for node in self.nodes.values() {
                for digest in node.handle().digests().await {
                    roots
                        .entry(digest.partition)
                        .or_default()
                        .insert(digest.root);
                }
            }
            let is_empty = roots.values().all(|roots| roots.contains(&0));
            !is_empty && roots.values().all(|roots| roots.len() == 1)
        })
        .await;
    }

    /// A counter of a node's machine; what never happened is not among them.
    pub(crate) fn counter(&self, node: &str, name: &str) -> u64 {
        let view = self.handle(node).view();
        let found = view.counters.iter().find(|(known, _)| *known == name);
        found.map_or(0, |(_, count)| *count)
    }

    /// Whether a node hears another one.
    pub(crate) fn hears(&self, node: &str, other: &str) -> bool {
        let other = NodeId::of(other);
        let view = self.handle(node).view();
        view.peers
            .iter()
            .any(|peer| peer.node == other && peer.is_up)
    }
}
