//! What a node says of itself: health, readiness, status, regions, digests, metrics.

use std::collections::BTreeMap;

use axum::body::Body;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;

use crate::metrics::Facts;
use crate::model::{DIGEST_FANOUT, DIGEST_LEVELS, DigestNode, NodeId, PartitionId};
use crate::placement::{MergePolicy, Topology};

use super::json::{json, with_type};
use super::node::Node;
use super::path::decode_name;
use super::problem::{Code, Problem};
use super::shared::{Shared, region_name};

const TEXT: &str = "text/plain; charset=utf-8";

#[derive(Serialize)]
struct Status<'a> {
    cluster: &'a str,
    region: &'a str,
    node: &'a str,
    actor: &'a str,
    ready: bool,
    partitions: usize,
    serving: usize,
    available: usize,
    requests: usize,
    peers: Vec<Peer<'a>>,
    nodes: Vec<Member<'a>>,
    keyspaces: Vec<KeyspaceForm<'a>>,
    counters: BTreeMap<&'a str, u64>,
    queues: BTreeMap<&'a str, usize>,
    sent_bytes: BTreeMap<&'a str, u64>,
    received_bytes: BTreeMap<&'a str, u64>,
}

#[derive(Serialize)]
struct Peer<'a> {
    node: &'a str,
    region: &'a str,
    up: bool,
    backlog: u64,
}

#[derive(Serialize)]
struct Member<'a> {
    node: &'a str,
    region: &'a str,
    zone: &'a str,
    http: &'a str,
    peer: &'a str,
}

#[derive(Serialize)]
struct KeyspaceForm<'a> {
    name: &'a str,
    merge: &'static str,
    regions: Vec<&'a str>,
    replication: u16,
    consistency: String,
}

#[derive(Serialize)]
struct Regions<'a> {
    region: &'a str,
    pairs: Vec<Pair<'a>>,
}

/// What this node knows of the way from one region to another. What only the other end knows is 0 here,
/// so that the figures of all nodes may be added up.
#[derive(Serialize)]
struct Pair<'a> {
    from: &'a str,
    to: &'a str,
    lag_ms: Option<u64>,
    backlog: u64,
    divergence: u64,
}

#[derive(Serialize)]
struct Digests<'a> {
    node: &'a str,
    partitions: Vec<DigestForm<'a>>,
}

#[derive(Serialize)]
struct DigestForm<'a> {
    keyspace: &'a str,
    partition: u16,
    root: String,
}

#[derive(Serialize)]
struct Children {
    children: Vec<String>,
}

#[derive(Serialize)]
struct ScrubForm {
    running: bool,
    passes: u64,
    partitions_done: u64,
    damaged: u64,
}

/// Begins a scrub, if none is under way; says what was done before.
pub(super) fn scrub<N: Node>(shared: &Shared<N>) -> Response {
    let stats = shared.node.scrub();
    json(&ScrubForm {
        running: stats.is_running,
        passes: stats.passes,
        partitions_done: stats.partitions_done,
        damaged: stats.damaged,
    })
}

/// The process works.
pub(super) fn health() -> Response {
    with_type(Body::from("ok\n"), TEXT)
}

/// Whether the node serves.
pub(super) fn ready<N: Node>(shared: &Shared<N>) -> Response {
    if shared.node.is_ready() {
        return with_type(Body::from("ready\n"), TEXT);
    }
    let view = shared.node.view();
    let words = format!(
        "not ready: {} of {} partitions serve here, {} of them with a quorum of this region; or it starts, or stops\n",
        view.serving, view.partitions, view.available
    );
    let mut response = with_type(Body::from(words), TEXT);
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    response
}

/// Everything an operator looks at first.
pub(super) fn status<N: Node>(shared: &Shared<N>) -> Response {
    let topology = shared.node.topology();
    let view = shared.node.view();
    let stats = shared.node.stats();
    let (region, node) = place(topology, shared.node.node());
    let bytes = |of: &[(NodeId, u64)]| -> BTreeMap<_, _> {
        of.iter()
            .map(|(node, bytes)| (place(topology, *node).1, *bytes))
            .collect()
    };
    let peers = view.peers.iter().map(|peer| {
        let (region, node) = place(topology, peer.node);
        Peer {
            node,
            region,
            up: peer.is_up,
            backlog: peer.backlog,
        }
    });
    let counters = view.counters.iter().chain(&stats.values);
    json(&Status {
        cluster: &topology.cluster,
        region,
        node,
        actor: &view.actor,
        ready: shared.node.is_ready(),
        partitions: view.partitions,
        serving: view.serving,
        available: view.available,
        requests: view.requests,
        peers: peers.collect(),
        nodes: members(topology),
        keyspaces: keyspaces(topology),
        counters: counters.copied().collect(),
        queues: view.queues.iter().copied().collect(),
        sent_bytes: bytes(&stats.sent_bytes),
        received_bytes: bytes(&stats.received_bytes),
    })
}

fn members(topology: &Topology) -> Vec<Member<'_>> {
    let regions = topology.regions.iter();
    regions
        .flat_map(|region| {
            region.nodes.iter().map(|node| Member {
                node: &node.name,
                region: &region.name,
                zone: &node.zone,
                http: &node.http,
                peer: &node.peer,
            })
        })
        .collect()
}

fn keyspaces(topology: &Topology) -> Vec<KeyspaceForm<'_>> {
    let keyspaces = topology.keyspaces.iter();
    keyspaces
        .map(|keyspace| KeyspaceForm {
            name: &keyspace.name,
            merge: match keyspace.merge {
                MergePolicy::Lww => "lww",
                MergePolicy::Siblings => "siblings",
            },
            regions: keyspace
                .regions
                .iter()
                .map(|id| region_name(topology, *id))
                .collect(),
            replication: keyspace.replication,
            consistency: keyspace.consistency.to_string(),
        })
        .collect()
}

/// Two pairs for each other region: what comes from there, and what goes there.
pub(super) fn regions<N: Node>(shared: &Shared<N>) -> Response {
    let topology = shared.node.topology();
    let view = shared.node.view();
    let (here, _) = place(topology, shared.node.node());
    let pairs = view.regions.iter().flat_map(|seen| {
        let there = region_name(topology, seen.region);
        let to_here = Pair {
            from: there,
            to: here,
            lag_ms: seen.lag_ms,
            backlog: 0,
            divergence: seen.divergence,
        };
        let from_here = Pair {
            from: here,
            to: there,
            lag_ms: None,
            backlog: seen.backlog,
            divergence: 0,
        };
        [to_here, from_here]
    });
    json(&Regions {
        region: here,
        pairs: pairs.collect(),
    })
}

/// The root digests of all partitions here.
pub(super) async fn digests<N: Node>(shared: &Shared<N>) -> Response {
    let topology = shared.node.topology();
    let digests = shared.node.digests().await;
    let partitions = digests.iter().map(|digest| DigestForm {
        keyspace: topology
            .keyspaces
            .iter()
            .find(|keyspace| keyspace.id == digest.partition.keyspace)
            .map_or("unknown", |keyspace| keyspace.name.as_str()),
        partition: digest.partition.index,
        root: hex(digest.root),
    });
    json(&Digests {
        node: place(topology, shared.node.node()).1,
        partitions: partitions.collect(),
    })
}

/// The hashes of the children of one node of a digest tree: `path` is keyspace, partition, level, index.
pub(super) async fn digest_children<N: Node>(
    shared: &Shared<N>,
    path: [&str; 4],
) -> Result<Response, Problem> {
    let [keyspace, partition, level, index] = path;
    let keyspace = shared.names.keyspace_id(&decode_name(keyspace)?)?;
    let numbers = partition.parse().ok().zip(level.parse().ok());
    let (Some((partition, level)), Ok(index)) = (numbers, index.parse::<u16>()) else {
        return Err(no_partition());
    };
    let is_node = level < DIGEST_LEVELS && index < DIGEST_FANOUT.pow(u32::from(level));
    if !is_node {
        return Err(no_partition());
    }
    let partition = PartitionId {
        keyspace,
        index: partition,
    };
    let children = shared
        .node
        .digest_children(partition, DigestNode { level, index })
        .await
        .ok_or_else(no_partition)?;
    Ok(json(&Children {
        children: children.into_iter().map(hex).collect(),
    }))
}

fn no_partition() -> Problem {
    Problem::new(
        Code::NoPartition,
        "no such partition on this node, or no such node of its tree: see /v1/digests for what is here; \
         levels go from 0 to 2, and level l has 16^l nodes",
    )
}

/// The Prometheus text.
pub(super) fn metrics<N: Node>(shared: &Shared<N>) -> Result<Response, Problem> {
    let facts = Facts {
        topology: shared.node.topology(),
        node: shared.node.node(),
        is_ready: shared.node.is_ready(),
        view: &shared.node.view(),
        stats: &shared.node.stats(),
        uptime: shared.opened.elapsed(),
        bytes_in_flight: shared.bytes_in_flight(),
    };
    let text = shared
        .metrics
        .text(&facts)
        .map_err(|error| Problem::new(Code::Broken, format!("write the metrics: {error}")))?;
    Ok(with_type(
        Body::from(text),
        "text/plain; version=0.0.4; charset=utf-8",
    ))
}

fn hex(hash: u128) -> String {
    format!("{hash:032x}")
}

/// The names of a node's region and of the node.
fn place(topology: &Topology, id: NodeId) -> (&str, &str) {
    let mut places = topology
        .regions
        .iter()
        .flat_map(|region| region.nodes.iter().map(move |node| (region, node)));
    let place = places.find(|(_, node)| node.id == id);
    place.map_or(("unknown", "unknown"), |(region, node)| {
        (region.name.as_str(), node.name.as_str())
    })
}
