//! A random cluster out of a seed: topology, limits, keys, and the profile of what will go wrong.
//!
//! Each seed turns on its own subset of faults ("swarm testing", Groce et al., 2012): a fault that is always
//! on hides the bugs that need its absence.

use std::sync::Arc;

use bytes::Bytes;
use fastrand::Rng;

use crate::model::{Duration, KeyspaceId, Level, Limits, NodeId, RegionId, RowKey};
use crate::placement::{Keyspace, Link, LinkShape, MergePolicy, Node, Placement, Region, Topology};

use super::kinds::Kind;

/// A node of the cluster by its place in [`Cluster::nodes`].
pub(crate) type NodeIndex = usize;

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
#[derive(Clone, Debug)]
pub(crate) struct Profile {
    /// Kinds of faults that are on.
    pub(crate) kinds: Vec<Kind>,
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

/// The cluster of a seed.
pub(crate) fn random(rng: &mut Rng) -> Cluster {
    let regions: Vec<Region> = (0..rng.usize(1..=3))
        .map(|place| region(rng, place))
        .collect();
    let links = links(rng, &regions);
    let keyspaces = keyspaces(rng, &regions);
    let limits = limits(rng);
    let topology = Topology {
        cluster: "sim".to_owned(),
        partitions: rng.u16(1..=4),
        regions,
        keyspaces,
        links,
        limits,
    };
    let nodes = topology
        .regions
        .iter()
        .enumerate()
        .flat_map(|(place, region)| region.nodes.iter().map(move |node| (node.id, place)))
        .collect();
    let keys = keys(rng, &topology);
    Cluster {
        placement: Arc::new(Placement::new(&topology)),
        nodes,
        keys,
        profile: profile(rng),
        topology,
    }
}

fn region(rng: &mut Rng, place: usize) -> Region {
    let name = format!("r{place}");
    let count = match rng.u8(0..10) {
        0 => 1,
        1..=2 => 2,
        3..=8 => 3,
        _ => 5,
    };
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

fn links(rng: &mut Rng, regions: &[Region]) -> Vec<Link> {
    let mut links = Vec::new();
    for (place, a) in regions.iter().enumerate() {
        for b in regions.iter().skip(place + 1) {
            let shape = LinkShape {
                rtt: Duration::from_millis(rng.u64(20..=300)),
                jitter: Duration::from_millis(rng.u64(0..=20)),
                loss: 0.0,
                reorder: 0.0,
                bandwidth_bits: None,
            };
            links.push(Link {
                between: (a.id, b.id),
                shape,
            });
        }
    }
    links
}

/// The first keyspace lives everywhere; in some seeds a second one lives in the first region alone.
fn keyspaces(rng: &mut Rng, regions: &[Region]) -> Vec<Keyspace> {
    let most = regions.iter().map(|region| region.nodes.len()).min();
    let most = u16::try_from(most.unwrap_or(1)).unwrap_or(1);
    let replication = if rng.u8(0..4) == 0 {
        rng.u16(1..=most)
    } else {
        most.min(3)
    };
    let keyspace = |name: &str, regions: Vec<RegionId>| Keyspace {
        id: KeyspaceId::of(name),
        name: name.to_owned(),
        merge: MergePolicy::Lww,
        regions,
        replication,
        consistency: Level::LocalQuorum,
        ttl: None,
        conflicts_kept: None,
    };
    let everywhere: Vec<RegionId> = regions.iter().map(|region| region.id).collect();
    let first = everywhere.first().copied();
    let mut keyspaces = vec![keyspace("everywhere", everywhere.clone())];
    if rng.u8(0..3) == 0 {
        for keyspace in &mut keyspaces {
            keyspace.conflicts_kept = Some(Duration::from_millis(rng.u64(1_000..=4_000)));
        }
    }
    if rng.u8(0..3) != 0 {
        let merge = MergePolicy::Siblings;
        let beside = keyspace("beside", everywhere);
        keyspaces.push(Keyspace { merge, ..beside });
    }
    if let (Some(first), 0) = (first, rng.u8(0..4)) {
        keyspaces.push(keyspace("home", vec![first]));
    }
    keyspaces
}

fn limits(rng: &mut Rng) -> Limits {
    let mut limits = Limits {
        reconcile_every: Duration::from_millis(rng.u64(500..=2_000)),
        upkeep_every: Duration::from_millis(rng.u64(100..=800)),
        operation_window: Duration::from_millis(rng.u64(3_000..=6_000)),
        siblings_max: rng.usize(3..=20),
        ..Limits::default()
    };
    if rng.bool() {
        limits.batch_bytes_max = rng.usize(100..=2_000);
        limits.window_bytes_max = limits.batch_bytes_max * rng.usize(1..=4);
    }
    if rng.u8(0..3) == 0 {
        limits.log_bytes_max = rng.u64(200..=4_000);
    }
    if rng.u8(0..3) == 0 {
        limits.recent_bytes_max = rng.usize(0..=1_000);
    }
    limits
}

fn keys(rng: &mut Rng, topology: &Topology) -> Vec<RowKey> {
    let count = rng.usize(2..=12);
    let mut keys = Vec::new();
    for keyspace in &topology.keyspaces {
        for place in 0..count {
            let key = Bytes::from(format!("key-{place}"));
            keys.push(RowKey::plain(keyspace.id, key));
        }
    }
    keys
}

fn profile(rng: &mut Rng) -> Profile {
    let chance = |rng: &mut Rng, max: u32| if rng.bool() { rng.u32(0..=max) } else { 0 };
    let kinds = Kind::ALL.iter().copied().filter(|_| rng.bool()).collect();
    Profile {
        kinds,
        fault_every: rng.u64(100_000..=1_500_000),
        fault_phase: rng.u64(5_000_000..=20_000_000),
        drop_ppm: chance(rng, 40_000),
        duplicate_ppm: chance(rng, 40_000),
        reorder_ppm: chance(rng, 40_000),
        replay_ppm: chance(rng, 10_000),
        is_encoded: rng.u8(0..4) == 0,
        sync_micros_max: rng.u64(200..=5_000),
        slow_sync_ppm: chance(rng, 20_000),
        clients: rng.usize(1..=8),
        think: rng.u64(2_000..=60_000),
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

impl Cluster {
    /// The region of a node.
    pub(crate) fn region_of(&self, node: NodeIndex) -> Option<&Region> {
        let (_, place) = self.nodes.get(node)?;
        self.topology.regions.get(*place)
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
