//! The cluster of one run: topology, placement, keys, and the profile of what clients do and how often chance
//! interferes.

use std::sync::Arc;

use bytes::Bytes;
use fastrand::Rng;
use serde::{Deserialize, Serialize};

use crate::model::{Duration, KeyspaceId, Level, NodeId, RegionId, RowKey};
use crate::placement::{Keyspace, Link, LinkShape, MergePolicy, Node, Placement, Region, Topology};

use super::sketch::{KeyspaceSketch, LinkSketch, Sketch};

/// A node of the cluster by its place in [`Cluster::nodes`].
pub(crate) type NodeIndex = usize;

/// Up to so many nodes a cluster takes the usual load.
const USUAL_NODES: u64 = 6;

/// The cluster of one run.
#[derive(Debug)]
pub(crate) struct Cluster {
    /// The topology.
    pub(crate) topology: Topology,
    /// Who holds what.
    pub(crate) placement: Arc<Placement>,
    /// All nodes with the place of their region in the topology.
    pub(crate) nodes: Vec<(NodeId, usize)>,
    /// The rows that clients use.
    pub(crate) keys: Vec<RowKey>,
    /// What will go wrong.
    pub(crate) profile: Profile,
}

/// What happens in a run, and how often. Chances are in millionths.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Profile {
    /// Mean time between faults, in microseconds.
    pub(crate) fault_every: u64,
    /// How long faults go on, in microseconds.
    pub(crate) fault_phase: u64,
    /// Chance that a message is lost.
    pub(crate) drop_ppm: u32,
    /// Chance that a message comes twice.
    pub(crate) duplicate_ppm: u32,
    /// Chance that a message overtakes others of its lane or is overtaken.
    pub(crate) reorder_ppm: u32,
    /// Chance that a message comes once more, seconds later.
    pub(crate) replay_ppm: u32,
    /// Chance that a bit of a message flips.
    pub(crate) flip_ppm: u32,
    /// Whether messages pass through their sent form.
    pub(crate) is_encoded: bool,
    /// Longest usual fsync in microseconds.
    pub(crate) sync_micros_max: u64,
    /// Chance of an fsync of 100 ms and more.
    pub(crate) slow_sync_ppm: u32,
    /// Clients in each region.
    pub(crate) clients: usize,
    /// Mean pause of a client between operations, in microseconds.
    pub(crate) think: u64,
    /// Longest value in bytes.
    pub(crate) value_bytes_max: usize,
    /// Of a hundred operations, so many read.
    pub(crate) read_percent: u8,
    /// Of a hundred writes, so many delete.
    pub(crate) delete_percent: u8,
    /// Of a hundred operations, so many are on plain values; the rest on counters, sets and maps.
    pub(crate) plain_percent: u8,
    /// Of a hundred writes that can expire, so many do.
    pub(crate) ttl_percent: u8,
    /// Of a hundred writes of registers, so many have a condition.
    pub(crate) condition_percent: u8,
    /// Of a hundred reads, so many ask for what is not too old.
    pub(crate) fresh_percent: u8,
    /// Clients that go from region to region.
    pub(crate) roamers: usize,
}

/// The cluster that a sketch describes.
pub(crate) fn build(sketch: &Sketch, profile: Profile) -> Cluster {
    let regions: Vec<Region> = sketch
        .regions
        .iter()
        .enumerate()
        .map(|(place, count)| region(place, *count))
        .collect();
    let topology = Topology {
        cluster: "sim".to_owned(),
        partitions: sketch.partitions,
        keyspaces: keyspaces(sketch, &regions),
        links: links(sketch, &regions),
        limits: sketch.limits.limits(),
        regions,
    };
    let nodes = topology
        .regions
        .iter()
        .enumerate()
        .flat_map(|(place, region)| region.nodes.iter().map(move |node| (node.id, place)))
        .collect();
    Cluster {
        placement: Arc::new(Placement::new(&topology)),
        nodes,
        keys: keys(sketch.keys, &topology),
        profile,
        topology,
    }
}

fn region(place: usize, count: usize) -> Region {
    let name = format!("r{place}");
    let nodes = (0..count)
        .map(|index| {
            let name = format!("{name}-n{index}");
            Node {
                id: NodeId::of(&name),
                zone: format!("z{index}"),
                http: format!("{name}:80"),
                peer: format!("{name}:90"),
                weight: 1,
                name,
            }
        })
        .collect();
    Region {
        id: RegionId::of(&name),
        name,
        nodes,
    }
}

fn links(sketch: &Sketch, regions: &[Region]) -> Vec<Link> {
    let id = |place: usize| regions.get(place).map(|region| region.id);
    let link = |link: &LinkSketch| {
        let (a, b) = link.between;
        Some(Link {
            between: (id(a)?, id(b)?),
            shape: LinkShape {
                rtt: Duration::from_millis(link.rtt),
                jitter: Duration::from_millis(link.jitter),
                loss: 0.0,
                reorder: 0.0,
                bandwidth_bits: None,
            },
        })
    };
    sketch.links.iter().filter_map(link).collect()
}

fn keyspaces(sketch: &Sketch, regions: &[Region]) -> Vec<Keyspace> {
    let span = |ms: u64| (0 < ms).then(|| Duration::from_millis(ms));
    let keyspace = |keyspace: &KeyspaceSketch| Keyspace {
        id: KeyspaceId::of(&keyspace.name),
        name: keyspace.name.clone(),
        merge: if keyspace.is_siblings {
            MergePolicy::Siblings
        } else {
            MergePolicy::Lww
        },
        regions: keyspace
            .regions
            .iter()
            .filter_map(|place| regions.get(*place))
            .map(|region| region.id)
            .collect(),
        replication: keyspace.replication,
        consistency: Level::LocalQuorum,
        ttl: span(keyspace.ttl),
        conflicts_kept: span(keyspace.conflicts_kept),
    };
    sketch.keyspaces.iter().map(keyspace).collect()
}

fn keys(count: usize, topology: &Topology) -> Vec<RowKey> {
    let mut keys = Vec::new();
    for keyspace in &topology.keyspaces {
        for place in 0..count {
            let key = Bytes::from(format!("key-{place}"));
            keys.push(RowKey::plain(keyspace.id, key));
        }
    }
    keys
}

impl Profile {
    /// What goes wrong in a cluster of so many nodes, by chance. The more nodes, the fewer operations: a seed of a
    /// large cluster takes no longer than others.
    pub(crate) fn random(rng: &mut Rng, nodes: usize) -> Self {
        let chance = |rng: &mut Rng, max: u32| if rng.bool() { rng.u32(0..=max) } else { 0 };
        let per_mille = |nodes: usize, at_most: u64| {
            let nodes = u64::try_from(nodes).unwrap_or(u64::MAX).max(1);
            (USUAL_NODES * 1_000 / nodes).min(at_most)
        };
        let share = per_mille(nodes, 1_000);
        let phase = rng.u64(5_000_000..=20_000_000) * share / 1_000;
        let clients = rng.u64(1..=8) * per_mille(nodes, 1_500) / 1_000;
        Self {
            fault_every: rng.u64(100_000..=1_500_000),
            fault_phase: phase.max(4_000_000),
            drop_ppm: chance(rng, 40_000),
            duplicate_ppm: chance(rng, 40_000),
            reorder_ppm: chance(rng, 40_000),
            replay_ppm: chance(rng, 10_000),
            flip_ppm: if rng.u8(0..4) == 0 {
                rng.u32(100..=3_000)
            } else {
                0
            },
            is_encoded: rng.u8(0..4) == 0,
            sync_micros_max: rng.u64(200..=5_000),
            slow_sync_ppm: chance(rng, 20_000),
            clients: usize::try_from(clients.max(1)).unwrap_or(1),
            think: rng.u64(2_000..=60_000) * 1_000 / share.max(1),
            value_bytes_max: rng.usize(8..=300),
            read_percent: rng.u8(20..=60),
            delete_percent: rng.u8(5..=50),
            plain_percent: if rng.u8(0..4) == 0 {
                100
            } else {
                rng.u8(20..=80)
            },
            ttl_percent: if rng.bool() { rng.u8(5..=40) } else { 0 },
            condition_percent: if rng.bool() { rng.u8(5..=40) } else { 0 },
            fresh_percent: if rng.bool() { rng.u8(5..=20) } else { 0 },
            roamers: rng.usize(0..=3),
        }
    }
}

impl Cluster {
    /// The region of a node.
    pub(crate) fn region_of(&self, node: NodeIndex) -> Option<&Region> {
        let (_, place) = self.nodes.get(node)?;
        self.topology.regions.get(*place)
    }

    /// Whether packets may ever pass between two nodes: they are in one region, or in two that are linked.
    pub(crate) fn is_linked(&self, a: NodeIndex, b: NodeIndex) -> bool {
        match (self.region_of(a), self.region_of(b)) {
            (Some(a), Some(b)) => a.id == b.id || self.topology.link(a.id, b.id).is_some(),
            (Some(_) | None, _) => false,
        }
    }

    /// The nodes of a node's region, itself included.
    pub(crate) fn region_mates(&self, node: NodeIndex) -> Vec<NodeIndex> {
        let region = |index: NodeIndex| self.nodes.get(index).map(|(_, region)| *region);
        let mine = region(node);
        (0..self.nodes.len())
            .filter(|other| region(*other) == mine)
            .collect()
    }

    /// How long values of a keyspace live whose writer does not say, in microseconds.
    pub(crate) fn ttl_of(&self, keyspace: KeyspaceId) -> Option<u64> {
        let ttl = self.placement.keyspace(keyspace)?.ttl?;
        u64::try_from(ttl.as_micros()).ok()
    }

    /// The place of a node in [`Self::nodes`].
    pub(crate) fn index_of(&self, node: NodeId) -> Option<NodeIndex> {
        self.nodes.iter().position(|(id, _)| *id == node)
    }

    /// The merge policy of a keyspace.
    pub(crate) fn merge_of(&self, keyspace: KeyspaceId) -> Option<MergePolicy> {
        let mut keyspaces = self.topology.keyspaces.iter();
        keyspaces
            .find(|other| other.id == keyspace)
            .map(|keyspace| keyspace.merge)
    }

    /// The keys whose keyspace lives in all regions.
    pub(crate) fn keys_everywhere(&self) -> Vec<RowKey> {
        let all = self.topology.regions.len();
        let lives = |key: &&RowKey| {
            let mut keyspaces = self.topology.keyspaces.iter();
            keyspaces.any(|keyspace| keyspace.id == key.keyspace && keyspace.regions.len() == all)
        };
        self.keys.iter().filter(lives).cloned().collect()
    }

    /// The keys whose keyspace lives in a region.
    pub(crate) fn keys_in(&self, region: RegionId) -> Vec<RowKey> {
        let lives = |key: &&RowKey| {
            let keyspaces = &self.topology.keyspaces;
            keyspaces
                .iter()
                .any(|keyspace| keyspace.id == key.keyspace && keyspace.regions.contains(&region))
        };
        self.keys.iter().filter(lives).cloned().collect()
    }
}
