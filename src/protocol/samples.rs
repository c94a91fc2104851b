//! Replicas, positions and a core for this room's tests: region 1 has nodes 1, 2, 3; region 2 has node 4; node 1 is
//! we, in its second life.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use crate::model::{
    Actor, Incarnation, KeyspaceId, Limits, NodeId, PartitionId, PartitionState, Position, Reach,
    RegionId, Time, Wall,
};
use crate::placement::{Placement, Topology};

use super::core::Core;
use super::message::Known;
use super::peers::Peers;
use super::replica::Replica;
use super::step::{Config, Now};

pub(super) const PARTITION: PartitionId = PartitionId {
    keyspace: KeyspaceId(1),
    index: 0,
};
/// This node, in its present life.
pub(super) const ME: Actor = Actor {
    node: NodeId(1),
    incarnation: Incarnation(2),
};

pub(super) fn now(seconds: u64) -> Now {
    let micros = seconds * 1_000_000;
    Now {
        time: Time(micros),
        wall: Wall(1_000_000_000_000 + micros),
    }
}

pub(super) fn actor(node: u32, incarnation: u64) -> Actor {
    Actor {
        node: NodeId(node),
        incarnation: Incarnation(incarnation),
    }
}

/// So far in the log of node 1's first life.
pub(super) fn at(n: u64) -> Position {
    position(&[(actor(1, 1), n)])
}

pub(super) fn position(reaches: &[(Actor, u64)]) -> Position {
    reaches
        .iter()
        .map(|(actor, n)| (*actor, Reach::upto(*n)))
        .collect()
}

/// The word of a replica that serves.
pub(super) fn known(node: u32, incarnation: u64, position: Position) -> Known {
    Known {
        node: NodeId(node),
        incarnation: Incarnation(incarnation),
        partition: PARTITION,
        position,
        is_serving: true,
    }
}

/// Node 1's replica of a partition that lives in region 1 alone; it serves.
pub(super) fn replica(position: Position) -> Replica {
    replica_in(
        position,
        &[(RegionId(1), vec![NodeId(1), NodeId(2), NodeId(3)])],
    )
}

fn replica_in(position: Position, regions: &[(RegionId, Vec<NodeId>)]) -> Replica {
    let state = PartitionState {
        partition: PARTITION,
        position,
        trimmed: BTreeMap::new(),
        is_serving: true,
        has_served: false,
        remembered: BTreeMap::new(),
    };
    Replica::new(state, NodeId(1), RegionId(1), regions)
}

/// Node 1, with one replica that both regions have.
pub(super) fn core(position: Position) -> Core {
    let regions = [
        (RegionId(1), vec![NodeId(1), NodeId(2), NodeId(3)]),
        (RegionId(2), vec![NodeId(4)]),
    ];
    let replica = replica_in(position, &regions);
    let config = Config {
        node: ME.node,
        actor: ME,
        placement: Arc::new(Placement::new(&topology())),
        limits: Limits::default(),
    };
    let replicas = BTreeMap::from([(PARTITION, replica)]);
    let silence_max = config.limits.silence_max;
    let mut core = Core::new(now(0), config, replicas, RegionId(1));
    let peers = [(2, 1), (3, 1), (4, 2)];
    let peers = peers.map(|(node, region)| (NodeId(node), RegionId(region)));
    core.peers = Peers::new(peers.into_iter(), silence_max);
    core
}

/// Any topology: the core's replicas are given, and not drawn from it.
fn topology() -> Topology {
    let mut text = "cluster = \"test\"\npartitions = 1\n[[region]]\nname = \"r\"\n".to_owned();
    for (node, port) in [("a", 1000), ("b", 1002), ("c", 1004)] {
        writeln!(
            text,
            "[[region.node]]\nid = \"{node}\"\nzone = \"{node}\"\nhttp = \"127.0.0.1:{port}\"\n\
             peer = \"127.0.0.1:{}\"",
            port + 1
        )
        .unwrap();
    }
    text += "[[keyspace]]\nname = \"default\"\nmerge = \"lww\"\nreplication = 3\n";
    Topology::parse("test.toml", &text).unwrap()
}
