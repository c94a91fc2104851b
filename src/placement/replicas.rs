//! Who holds what: weighted rendezvous hashing (Thaler and Ravishankar, 1998) over the nodes of each region,
//! spread over zones.
//!
//! Every node draws a number for every partition, and the best draws hold it. A node's draw depends on
//! nothing but its own id, its weight and the partition's index: a node that comes or goes moves only its own
//! share, and partitions of the same index in different keyspaces share their nodes.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{Duration, KeyspaceId, NodeId, PartitionId, RegionId};

use super::draw::Draw;
use super::topology::{Keyspace, Node, Region, Topology};

/// The replicas of every partition, computed once from a topology.
#[derive(Debug)]
pub struct Placement {
    partitions: u16,
    keyspaces: BTreeMap<KeyspaceId, Keyspace>,
    nodes: BTreeMap<NodeId, RegionId>,
    rtts: BTreeMap<(RegionId, RegionId), Duration>,
    replicas: BTreeMap<PartitionId, Vec<(RegionId, Vec<NodeId>)>>,
    held: BTreeMap<NodeId, Vec<PartitionId>>,
}

impl Placement {
    /// Computes the replicas of every partition of every keyspace in every region it lives in.
    pub fn new(topology: &Topology) -> Self {
        let mut replicas = BTreeMap::new();
        let mut held: BTreeMap<NodeId, Vec<PartitionId>> = BTreeMap::new();
        let lines: Vec<(RegionId, Vec<Vec<NodeId>>)> = topology
            .regions
            .iter()
            .map(|region| (region.id, all_lines(region, topology.partitions)))
            .collect();
        let keyspaces: BTreeMap<KeyspaceId, Keyspace> = topology
            .keyspaces
            .iter()
            .map(|keyspace| (keyspace.id, keyspace.clone()))
            .collect();
        for keyspace in keyspaces.values() {
            for index in 0..topology.partitions {
                let partition = PartitionId {
                    keyspace: keyspace.id,
                    index,
                };
                let placed = place(keyspace, &lines, index);
                for node in placed.iter().flat_map(|(_, nodes)| nodes) {
                    held.entry(*node).or_default().push(partition);
                }
                replicas.insert(partition, placed);
            }
        }
        Self {
            partitions: topology.partitions,
            keyspaces,
            nodes: topology
                .regions
                .iter()
                .flat_map(|region| region.nodes.iter().map(|node| (node.id, region.id)))
                .collect(),
            rtts: topology
                .links
                .iter()
                .flat_map(|link| {
                    let (a, b) = link.between;
                    [((a, b), link.shape.rtt), ((b, a), link.shape.rtt)]
                })
                .collect(),
            replicas,
            held,
        }
    }

    /// Partitions of every keyspace.
    pub fn partition_count(&self) -> u16 {
        self.partitions
    }

    /// The replicas of a partition in a region, the first in line first; empty if the keyspace is not there.
    pub fn replicas(&self, partition: PartitionId, region: RegionId) -> &[NodeId] {
        self.regions(partition)
            .iter()
            .find(|(home, _)| *home == region)
            .map_or(&[], |(_, nodes)| nodes)
    }

    /// The replicas of a partition in all regions, by region in order of the topology.
    pub fn regions(&self, partition: PartitionId) -> &[(RegionId, Vec<NodeId>)] {
        self.replicas.get(&partition).map_or(&[], Vec::as_slice)
    }

    /// The partitions that a node holds, in order.
    pub fn partitions_of(&self, node: NodeId) -> &[PartitionId] {
        self.held.get(&node).map_or(&[], Vec::as_slice)
    }

    /// The region of a node; nothing for a node that is not in the topology.
    pub fn region_of(&self, node: NodeId) -> Option<RegionId> {
        self.nodes.get(&node).copied()
    }

    /// All nodes, with their regions, in order of their ids.
    pub fn nodes(&self) -> &BTreeMap<NodeId, RegionId> {
        &self.nodes
    }

    /// A keyspace by its id.
    pub fn keyspace(&self, keyspace: KeyspaceId) -> Option<&Keyspace> {
        self.keyspaces.get(&keyspace)
    }

    /// The round-trip time between two regions by the topology; zero inside one, and where no link is named.
    pub fn rtt(&self, a: RegionId, b: RegionId) -> Duration {
        self.rtts.get(&(a, b)).copied().unwrap_or_default()
    }
}

/// The replicas of one partition of a keyspace: the heads of the lines of its regions.
fn place(
    keyspace: &Keyspace,
    lines: &[(RegionId, Vec<Vec<NodeId>>)],
    index: u16,
) -> Vec<(RegionId, Vec<NodeId>)> {
    lines
        .iter()
        .filter(|(region, _)| keyspace.regions.contains(region))
        .map(|(region, lines)| {
            let line = lines.get(usize::from(index)).map_or(&[][..], Vec::as_slice);
            let head = line.iter().take(usize::from(keyspace.replication)).copied();
            (*region, head.collect())
        })
        .collect()
}

/// For every partition, all nodes of a region in line: the best of each zone, then the next of each, …
fn all_lines(region: &Region, partitions: u16) -> Vec<Vec<NodeId>> {
    (0..partitions).map(|index| line(region, index)).collect()
}

fn line(region: &Region, index: u16) -> Vec<NodeId> {
    let mut ranked: Vec<(Draw, &Node)> = region
        .nodes
        .iter()
        .map(|node| (Draw::of(node, index), node))
        .collect();
    ranked.sort_by(|(a, a_node), (b, b_node)| a.compare(*b).then(a_node.id.cmp(&b_node.id)));
    let mut line = Vec::with_capacity(ranked.len());
    while !ranked.is_empty() {
        let mut zones = BTreeSet::new();
        ranked.retain(|(_, node)| {
            let is_first_of_zone = zones.insert(node.zone.as_str());
            if is_first_of_zone {
                line.push(node.id);
            }
            !is_first_of_zone
        });
    }
    line
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    fn partition(topology: &Topology, index: u16) -> PartitionId {
        let keyspace = topology.keyspaces[0].id;
        PartitionId { keyspace, index }
    }

    /// One region of `zones.len()` nodes with these zones and weights.
    fn one_region(nodes: &[(&str, u32)], replication: u16, partitions: u16) -> Topology {
        let mut topology = samples::topology(&[nodes.len()], replication, partitions);
        for (node, (zone, weight)) in topology.regions[0].nodes.iter_mut().zip(nodes) {
            node.zone = (*zone).to_owned();
            node.weight = *weight;
        }
        topology
    }

    /// How many partitions each node is first in line for, in the order of the file.
    fn firsts(topology: &Topology) -> Vec<usize> {
        let placement = Placement::new(topology);
        let region = &topology.regions[0];
        region
            .nodes
            .iter()
            .map(|node| {
                (0..topology.partitions)
                    .filter(|index| {
                        let replicas = placement.replicas(partition(topology, *index), region.id);
                        replicas[0] == node.id
                    })
                    .count()
            })
            .collect()
    }

    fn assert_near(found: usize, wanted: usize, percent: usize) {
        let slack = wanted * percent / 100;
        assert!(
            found.abs_diff(wanted) <= slack,
            "{found} is not near {wanted}"
        );
    }

    #[test]
    fn replicas_are_distinct_nodes_of_their_region() {
        let topology = samples::topology(&[3, 5, 7], 3, 64);
        let placement = Placement::new(&topology);
        for index in 0..64 {
            let regions = placement.regions(partition(&topology, index));
            let order: Vec<RegionId> = regions.iter().map(|(region, _)| *region).collect();
            let wanted: Vec<RegionId> = topology.regions.iter().map(|region| region.id).collect();
            assert_eq!(order, wanted);
            for (region, nodes) in regions {
                let distinct: BTreeSet<NodeId> = nodes.iter().copied().collect();
                assert_eq!((nodes.len(), distinct.len()), (3, 3));
                for node in nodes {
                    assert_eq!(placement.region_of(*node), Some(*region));
                    assert!(
                        placement
                            .partitions_of(*node)
                            .contains(&partition(&topology, index))
                    );
                }
            }
        }
        let held: usize = topology
            .nodes()
            .map(|node| placement.partitions_of(node.id).len())
            .sum();
        assert_eq!(held, 64 * 3 * 3);
    }

    #[test]
    fn the_spread_is_even() {
        let topology = samples::topology(&[9], 3, 4096);
        let placement = Placement::new(&topology);
        for node in topology.nodes() {
            assert_near(placement.partitions_of(node.id).len(), 4096 * 3 / 9, 8);
        }
        for first in firsts(&topology) {
            assert_near(first, 4096 / 9, 15);
        }
    }

    #[test]
    fn weight_is_honoured() {
        let nodes = [("a", 1), ("a", 2), ("a", 4), ("a", 1)];
        for (found, wanted) in firsts(&one_region(&nodes, 1, 4096))
            .into_iter()
            .zip([512, 1024, 2048, 512])
        {
            assert_near(found, wanted, 12);
        }
        let same = [("a", 7), ("a", 7), ("a", 7)];
        let ones = [("a", 1), ("a", 1), ("a", 1)];
        assert_eq!(
            firsts(&one_region(&same, 1, 512)),
            firsts(&one_region(&ones, 1, 512))
        );
    }

    #[test]
    fn zones_are_spread() {
        let nodes = [("a", 1), ("a", 1), ("a", 1), ("b", 1), ("b", 1), ("c", 1)];
        let topology = one_region(&nodes, 5, 256);
        let placement = Placement::new(&topology);
        let zone = |id: &NodeId| topology.node(*id).unwrap().zone.as_str();
        for index in 0..256 {
            let nodes = placement.replicas(partition(&topology, index), topology.regions[0].id);
            let best: BTreeSet<&str> = nodes[..3].iter().map(zone).collect();
            let next: BTreeSet<&str> = nodes[3..].iter().map(zone).collect();
            assert_eq!(best, BTreeSet::from(["a", "b", "c"]));
            assert_eq!(next, BTreeSet::from(["a", "b"]));
        }
    }

    #[test]
    fn a_new_node_moves_only_its_own_share() {
        let before = one_region(&[("a", 1); 7], 3, 2048);
        let after = one_region(&[("a", 1); 8], 3, 2048);
        let (old, new) = (Placement::new(&before), Placement::new(&after));
        let region = before.regions[0].id;
        let newcomer = after.regions[0].nodes[7].id;
        let mut moved = 0;
        for index in 0..2048 {
            let id = partition(&before, index);
            let left: Vec<NodeId> = new
                .replicas(id, region)
                .iter()
                .copied()
                .filter(|node| *node != newcomer)
                .collect();
            // Those who stay keep their order: the newcomer pushes out the last one, or nobody.
            assert!(old.replicas(id, region).starts_with(&left));
            moved += 3 - left.len();
        }
        assert_eq!(moved, new.partitions_of(newcomer).len());
        assert_near(moved, 2048 * 3 / 8, 10);
    }

    #[test]
    fn keyspaces_of_one_index_share_their_nodes() {
        let mut topology = samples::topology(&[5, 5], 3, 32);
        let mut other = topology.keyspaces[0].clone();
        other.id = KeyspaceId::of("other");
        other.regions.remove(0);
        other.replication = 2;
        topology.keyspaces.push(other);
        let placement = Placement::new(&topology);
        let [left, right] = [topology.regions[0].id, topology.regions[1].id];
        for index in 0..32 {
            let one = partition(&topology, index);
            let two = PartitionId {
                keyspace: KeyspaceId::of("other"),
                index,
            };
            assert_eq!(
                placement.replicas(one, right)[..2],
                *placement.replicas(two, right)
            );
            assert!(placement.replicas(two, left).is_empty());
        }
    }

    /// Replicas are where the data is: if this changes, every cluster must move it.
    #[test]
    fn placement_never_changes() {
        let topology = samples::topology(&[5], 3, 8);
        let placement = Placement::new(&topology);
        let lines: Vec<String> = (0..8)
            .map(|index| {
                let nodes = placement.replicas(partition(&topology, index), topology.regions[0].id);
                let names = nodes
                    .iter()
                    .map(|id| topology.node(*id).unwrap().name.as_str());
                names.collect::<Vec<_>>().join(" ")
            })
            .collect();
        assert_eq!(lines, GOLDEN);
    }

    const GOLDEN: [&str; 8] = [
        "r0-3 r0-1 r0-2",
        "r0-4 r0-3 r0-2",
        "r0-1 r0-0 r0-2",
        "r0-0 r0-2 r0-1",
        "r0-4 r0-2 r0-3",
        "r0-0 r0-2 r0-1",
        "r0-2 r0-4 r0-0",
        "r0-3 r0-4 r0-2",
    ];
}
