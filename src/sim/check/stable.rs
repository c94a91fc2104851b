//! Nothing leaves its region by the stream before a quorum of the region has it on disk (I6).

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::model::{Actor, NodeId, PartitionId, Position};
use crate::placement::Placement;
use crate::protocol::Message;
use crate::sim::cluster::{Cluster, NodeIndex};

/// How far each node ever had each actor's log on disk, and how far a quorum of its region had. A disk that is
/// lost later takes nothing back: the acknowledgement was given, and nobody can know.
#[derive(Debug)]
pub(super) struct Stable {
    placement: Arc<Placement>,
    nodes: Vec<NodeId>,
    applied: BTreeMap<(PartitionId, Actor), BTreeMap<NodeId, u64>>,
    marks: BTreeMap<(PartitionId, Actor), u64>,
}

impl Stable {
    /// A watch over a cluster.
    pub(super) fn new(cluster: &Cluster) -> Self {
        Self {
            placement: cluster.placement.clone(),
            nodes: cluster.nodes.iter().map(|(id, _)| *id).collect(),
            applied: BTreeMap::new(),
            marks: BTreeMap::new(),
        }
    }

    /// A node has this position on disk.
    pub(super) fn durable(&mut self, node: NodeIndex, partition: PartitionId, position: &Position) {
        let Some(node) = self.nodes.get(node).copied() else {
            return;
        };
        for (actor, reach) in &position.reaches {
            let at = (partition, *actor);
            let applied = self.applied.entry(at).or_default();
            let best = applied.entry(node).or_default();
            if reach.applied <= *best {
                continue;
            }
            *best = reach.applied;
            let Some(region) = self.placement.region_of(actor.node) else {
                continue;
            };
            let replicas = self.placement.replicas(partition, region);
            let reached = replicas
                .iter()
                .map(|node| applied.get(node).copied().unwrap_or(0));
            let mark = quorum_mark(reached.collect());
            let best = self.marks.entry(at).or_default();
            *best = mark.max(*best);
        }
    }

    /// A message is sent: a piece of log that leaves its region must be stable there.
    pub(super) fn sent(
        &self,
        (from, to): (NodeIndex, NodeIndex),
        message: &Message,
    ) -> Result<(), String> {
        let Message::Append(append) = message else {
            return Ok(());
        };
        let region = |index: NodeIndex| self.placement.region_of(*self.nodes.get(index)?);
        let home = self.placement.region_of(append.actor.node);
        if region(from) != home || region(to) == home {
            return Ok(());
        }
        let mark = self.marks.get(&(append.partition, append.actor));
        let mark = mark.copied().unwrap_or(0);
        if append.to <= mark {
            return Ok(());
        }
        let (partition, actor, end) = (append.partition, append.actor, append.to);
        Err(format!(
            "n{from} sends {actor} of {partition} up to {end} to n{to}, but only {mark} is stable"
        ))
    }
}

/// The greatest number that a majority has reached.
fn quorum_mark(mut reached: Vec<u64>) -> u64 {
    reached.sort_unstable();
    let spare = reached.len().saturating_sub(1) / 2;
    reached.get(spare).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Incarnation, Reach};
    use crate::protocol::Append;
    use crate::sim::cluster::{self, Profile};
    use crate::sim::sketch::Sketch;

    #[test]
    fn a_piece_that_leaves_its_region_too_early_is_found() {
        let sketch = (0..)
            .map(|seed| Sketch::random(&mut fastrand::Rng::with_seed(seed)))
            .find(|sketch| 2 <= sketch.regions.len())
            .unwrap();
        let cluster = cluster::build(&sketch, Profile::default());
        let partition = cluster.placement.partitions_of(cluster.nodes[0].0)[0];
        let index = |node: NodeId| cluster.index_of(node).unwrap();
        let regions = cluster.placement.regions(partition);
        let (home, away) = (&regions[0].1, &regions[1].1);
        let actor = Actor {
            node: home[0],
            incarnation: Incarnation(1),
        };
        let message = Message::Append(Append {
            partition,
            actor,
            from: 0,
            to: 3,
            complete_from: None,
            mark_micros: None,
            items: Vec::new(),
        });
        let mut stable = Stable::new(&cluster);
        let leaves = (index(home[0]), index(away[0]));
        assert!(stable.sent(leaves, &message).is_err());
        let reach = Reach {
            applied: 3,
            complete: 3,
        };
        for node in home {
            stable.durable(
                index(*node),
                partition,
                &[(actor, reach)].into_iter().collect(),
            );
        }
        assert!(stable.sent(leaves, &message).is_ok());
    }

    #[test]
    fn a_majority_makes_a_mark() {
        for (reached, mark) in [
            (vec![], 0),
            (vec![4], 4),
            (vec![4, 9], 4),
            (vec![1, 5, 9], 5),
            (vec![1, 2, 8, 9], 2),
            (vec![1, 2, 7, 8, 9], 7),
        ] {
            assert_eq!(quorum_mark(reached.clone()), mark, "{reached:?}");
        }
    }
}
