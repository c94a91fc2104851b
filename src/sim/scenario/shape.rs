//! The clusters of scenarios: so many nodes in so many regions, and a keyspace of each kind.

use std::sync::Arc;

use bytes::Bytes;

use crate::model::{Duration, KeyspaceId, Level, Limits, NodeId, RegionId, RowKey};
use crate::placement::{Keyspace, Link, LinkShape, MergePolicy, Node, Placement, Region, Topology};
use crate::sim::cluster::{Cluster, Profile};

/// What a cluster is like.
#[derive(Clone, Debug)]
pub(in crate::sim) struct Shape {
    /// Nodes of each region; each holds all partitions if there are at most three.
    pub(super) regions: Vec<usize>,
    /// The limits.
    pub(super) limits: Limits,
    /// How long versions that lost are kept in the keyspace `kept`.
    pub(super) conflicts_kept: Duration,
}

impl Shape {
    /// So many nodes in each region.
    pub(super) fn of(regions: &[usize]) -> Self {
        Self {
            regions: regions.to_vec(),
            limits: Limits {
                reconcile_every: Duration::from_secs(1),
                upkeep_every: Duration::from_millis(300),
                operation_window: Duration::from_secs(20),
                ..Limits::default()
            },
            conflicts_kept: Duration::from_secs(20),
        }
    }
}

/// A key of the keyspace whose last writer wins.
pub(super) fn kv(name: &'static str) -> RowKey {
    RowKey::plain(KeyspaceId::of("kv"), Bytes::from_static(name.as_bytes()))
}

/// A key of the keyspace with siblings.
pub(super) fn beside(name: &'static str) -> RowKey {
    RowKey::plain(
        KeyspaceId::of("beside"),
        Bytes::from_static(name.as_bytes()),
    )
}

/// A key of the keyspace that keeps what has lost.
pub(super) fn kept(name: &'static str) -> RowKey {
    RowKey::plain(KeyspaceId::of("kept"), Bytes::from_static(name.as_bytes()))
}

/// A key of the keyspace whose values live for three seconds.
pub(super) fn short(name: &'static str) -> RowKey {
    RowKey::plain(KeyspaceId::of("short"), Bytes::from_static(name.as_bytes()))
}

/// The cluster of a shape.
pub(super) fn cluster(shape: &Shape) -> Cluster {
    let counts = shape.regions.iter().enumerate();
    let regions: Vec<Region> = counts.map(|(place, count)| region(place, *count)).collect();
    let least = shape.regions.iter().min().copied().unwrap_or(1).min(3);
    let replication = u16::try_from(least).unwrap();
    let everywhere: Vec<RegionId> = regions.iter().map(|region| region.id).collect();
    let keyspace = |name: &str, merge, conflicts_kept| Keyspace {
        id: KeyspaceId::of(name),
        name: name.to_owned(),
        merge,
        regions: everywhere.clone(),
        replication,
        consistency: Level::LocalQuorum,
        ttl: None,
        conflicts_kept,
    };
    let topology = Topology {
        cluster: "scenario".to_owned(),
        partitions: 1,
        keyspaces: vec![
            keyspace("kv", MergePolicy::Lww, None),
            keyspace("beside", MergePolicy::Siblings, None),
            keyspace("kept", MergePolicy::Lww, Some(shape.conflicts_kept)),
            Keyspace {
                ttl: Some(Duration::from_secs(3)),
                ..keyspace("short", MergePolicy::Lww, None)
            },
        ],
        links: links(&regions),
        regions,
        limits: shape.limits.clone(),
    };
    let places = topology.regions.iter().enumerate();
    let nodes = places
        .flat_map(|(place, region)| region.nodes.iter().map(move |node| (node.id, place)))
        .collect();
    Cluster {
        placement: Arc::new(Placement::new(&topology)),
        nodes,
        keys: Vec::new(),
        profile: profile(),
        topology,
    }
}

fn region(place: usize, count: usize) -> Region {
    let name = format!("r{place}");
    let node = |index| {
        let name = format!("{name}-n{index}");
        Node {
            id: NodeId::of(&name),
            zone: format!("z{index}"),
            http: format!("{name}:80"),
            peer: format!("{name}:90"),
            weight: 1,
            name,
        }
    };
    Region {
        id: RegionId::of(&name),
        nodes: (0..count).map(node).collect(),
        name,
    }
}

fn links(regions: &[Region]) -> Vec<Link> {
    let mut links = Vec::new();
    for (place, a) in regions.iter().enumerate() {
        for b in regions.iter().skip(place + 1) {
            links.push(Link {
                between: (a.id, b.id),
                shape: LinkShape {
                    rtt: Duration::from_millis(40),
                    jitter: Duration::ZERO,
                    loss: 0.0,
                    reorder: 0.0,
                    bandwidth_bits: None,
                },
            });
        }
    }
    links
}

/// Nothing goes wrong by itself.
fn profile() -> Profile {
    Profile {
        is_encoded: true,
        fault_every: 1,
        sync_micros_max: 500,
        think: 1,
        value_bytes_max: 8,
        ..Profile::default()
    }
}
