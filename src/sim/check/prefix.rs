//! A replica's position never goes back, also over crashes, and its two marks keep their order (I5).

use std::collections::BTreeMap;

use crate::model::{PartitionId, PartitionState, Position};
use crate::sim::cluster::NodeIndex;

/// The last position that each node synced.
#[derive(Debug, Default)]
pub(super) struct Prefix {
    synced: BTreeMap<(NodeIndex, PartitionId), Position>,
}

impl Prefix {
    /// A node opened its store.
    pub(super) fn opened(&mut self, node: NodeIndex, state: &PartitionState) -> Result<(), String> {
        self.synced(node, state.partition, &state.position)
    }

    /// A node's disk was replaced: it may start anew.
    pub(super) fn wiped(&mut self, node: NodeIndex) {
        self.synced.retain(|(other, _), _| *other != node);
    }

    /// A node synced.
    pub(super) fn synced(
        &mut self,
        node: NodeIndex,
        partition: PartitionId,
        position: &Position,
    ) -> Result<(), String> {
        for (actor, reach) in &position.reaches {
            if reach.applied < reach.complete {
                return Err(format!("n{node} {partition} {actor}: {reach:?}"));
            }
        }
        if let Some(old) = self.synced.get(&(node, partition)) {
            for (actor, reach) in &old.reaches {
                let new = position.reach(*actor);
                if new.applied < reach.applied || new.complete < reach.complete {
                    return Err(format!(
                        "n{node} {partition} {actor}: from {reach:?} to {new:?}"
                    ));
                }
            }
        }
        self.synced.insert((node, partition), position.clone());
        Ok(())
    }

    /// The positions that a node last synced.
    pub(super) fn positions_of(&self, node: NodeIndex) -> Vec<(PartitionId, Position)> {
        let mine = self.synced.iter().filter(|((other, _), _)| *other == node);
        mine.map(|((_, partition), position)| (*partition, position.clone()))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::{actor, partition};
    use super::*;
    use crate::model::Reach;

    fn position(applied: u64, complete: u64) -> Position {
        [(actor(1), Reach { applied, complete })]
            .into_iter()
            .collect()
    }

    #[test]
    fn a_position_that_goes_back_is_found() {
        let mut prefix = Prefix::default();
        assert!(prefix.synced(0, partition(), &position(5, 3)).is_ok());
        assert!(prefix.synced(0, partition(), &position(5, 4)).is_ok());
        assert!(prefix.synced(0, partition(), &position(4, 4)).is_err());
        assert!(prefix.synced(1, partition(), &position(4, 5)).is_err());
        prefix.wiped(0);
        assert!(prefix.synced(0, partition(), &position(1, 1)).is_ok());
    }
}
