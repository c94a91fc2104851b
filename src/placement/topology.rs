//! What a topology file says: cluster, regions, nodes, keyspaces, links, limits.
//!
//! `form` knows how it is written, `check` what must hold; here are the checked values. They do not know
//! who holds what (see [`super::Placement`]).

use std::collections::BTreeMap;
use std::fmt;

use crate::model::{Duration, KeyspaceId, Level, Limits, NodeId, RegionId};

use super::check;

/// A checked topology. Everything in it is consistent; nobody checks again.
#[derive(Clone, PartialEq, Debug)]
pub struct Topology {
    /// The cluster's name; certificates carry it.
    pub cluster: String,
    /// Partitions of every keyspace, fixed when the cluster is made.
    pub partitions: u16,
    /// Regions, in the order of the file.
    pub regions: Vec<Region>,
    /// Keyspaces, in the order of the file.
    pub keyspaces: Vec<Keyspace>,
    /// Links between pairs of regions, in the order of the file.
    pub links: Vec<Link>,
    /// Limits: defaults where the file is silent.
    pub limits: Limits,
}

/// A region.
#[derive(Clone, PartialEq, Debug)]
pub struct Region {
    /// Its id.
    pub id: RegionId,
    /// Its name.
    pub name: String,
    /// Its nodes, in the order of the file.
    pub nodes: Vec<Node>,
}

/// A node.
#[derive(Clone, PartialEq, Debug)]
pub struct Node {
    /// Its id.
    pub id: NodeId,
    /// Its id in the file.
    pub name: String,
    /// Its zone; replicas are spread over zones.
    pub zone: String,
    /// host:port of its HTTP endpoint.
    pub http: String,
    /// host:port of its QUIC endpoint.
    pub peer: String,
    /// Its share of the partitions, relative to others.
    pub weight: u32,
}

/// How concurrent writes of a keyspace merge.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MergePolicy {
    /// Last writer wins.
    Lww,
    /// Concurrent writes stand side by side until a client resolves them.
    Siblings,
}

impl fmt::Display for MergePolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lww => "lww",
            Self::Siblings => "siblings",
        })
    }
}

/// A keyspace.
#[derive(Clone, PartialEq, Debug)]
pub struct Keyspace {
    /// Its id.
    pub id: KeyspaceId,
    /// Its name.
    pub name: String,
    /// How it merges.
    pub merge: MergePolicy,
    /// The regions it lives in, in the order of the topology.
    pub regions: Vec<RegionId>,
    /// Replicas in each region.
    pub replication: u16,
    /// The level of requests that name none.
    pub consistency: Level,
    /// How long a value lives whose writer does not say; nothing means for ever.
    pub ttl: Option<Duration>,
    /// How long a version is kept that lost to a concurrent one; nothing means that it is only counted.
    pub conflicts_kept: Option<Duration>,
}

/// A link between two regions, the same both ways.
#[derive(Clone, PartialEq, Debug)]
pub struct Link {
    /// The two regions.
    pub between: (RegionId, RegionId),
    /// What it does to datagrams.
    pub shape: LinkShape,
}

/// What a link does to datagrams, in each direction.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct LinkShape {
    /// Round-trip time; a datagram takes half of it.
    pub rtt: Duration,
    /// Up to so much is added to each datagram's way, by chance.
    pub jitter: Duration,
    /// Chance that a datagram is lost, 0 to 1.
    pub loss: f64,
    /// Chance that a datagram is held back past its followers, 0 to 1.
    pub reorder: f64,
    /// Bits a second; nothing means no cap.
    pub bandwidth_bits: Option<u64>,
}

/// What is wrong with a topology file, where, and what to do.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{file}:{line}: {message}")]
pub struct TopologyError {
    /// The file.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// What is wrong, and what to do.
    pub message: String,
}

impl Topology {
    /// Reads the text of a topology file; `file` is its name, for errors. The first mistake is refused,
    /// with its line and what to do.
    pub fn parse(file: &str, text: &str) -> Result<Self, TopologyError> {
        check::parse(file, text)
    }

    /// How long each keyspace keeps versions that lost to concurrent ones, of those that do.
    pub fn conflicts_kept(&self) -> BTreeMap<KeyspaceId, Duration> {
        let kept = |space: &Keyspace| Some((space.id, space.conflicts_kept?));
        self.keyspaces.iter().filter_map(kept).collect()
    }

    /// The region of a node.
    pub fn region_of(&self, node: NodeId) -> Option<&Region> {
        self.regions
            .iter()
            .find(|region| region.nodes.iter().any(|member| member.id == node))
    }

    /// A region by its id.
    pub fn region(&self, region: RegionId) -> Option<&Region> {
        self.regions.iter().find(|known| known.id == region)
    }

    /// All nodes of all regions, in the order of the file.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.regions.iter().flat_map(|region| &region.nodes)
    }

    /// A node by its id.
    pub fn node(&self, node: NodeId) -> Option<&Node> {
        self.nodes().find(|known| known.id == node)
    }

    /// A node by its name.
    pub fn node_named(&self, name: &str) -> Option<&Node> {
        self.nodes().find(|node| node.name == name)
    }

    /// A keyspace by its name.
    pub fn keyspace_named(&self, name: &str) -> Option<&Keyspace> {
        self.keyspaces.iter().find(|keyspace| keyspace.name == name)
    }

    /// The shape of the link between two regions; nothing inside a region or where the file names no link.
    pub fn link(&self, a: RegionId, b: RegionId) -> Option<&LinkShape> {
        self.links
            .iter()
            .find(|link| link.between == (a, b) || link.between == (b, a))
            .map(|link| &link.shape)
    }
}
