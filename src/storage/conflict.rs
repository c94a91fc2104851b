//! Versions of this node that lost to ones that were written without knowledge of them: counted, and kept for a time
//! where the keyspace asks for it. Only the node that coordinated a version looks, so each is counted once.

use std::collections::BTreeMap;

use crate::model::{
    Conflict, LogItem, NodeId, Part, PartitionId, Row, RowKey, Stamp, Timestamp, Version, Wall,
};

use crate::model::planted::{Guard, is_left_out};

use super::engine::Engine;
use super::write::{Own, Stop};
use super::{Door, Error};

/// A version of this node that lost.
#[derive(Debug)]
pub(super) struct Lost {
    key: RowKey,
    loser: Version,
    winner: Stamp,
}

impl<E: Engine> Door<E> {
    /// A plain version that loses, if this node wrote it and it has not just expired.
    pub(super) fn lost(&self, key: &RowKey, mine: &Version, theirs: &Version) -> Option<Lost> {
        let has_expired = mine.value.is_none() && mine.expires.is_some();
        let is_own = (mine.dot.actor == self.actor || is_left_out(Guard::LoserCounts))
            && key.subkey.is_empty();
        (is_own && !has_expired).then(|| Lost {
            key: key.clone(),
            loser: mine.clone(),
            winner: theirs.stamp(),
        })
    }

    /// Counts versions that lost, by the node that won, and keeps them if the keyspace does.
    pub(super) fn keep_lost(
        &mut self,
        wall: Wall,
        partition: PartitionId,
        lost: Vec<Lost>,
    ) -> Result<(Vec<LogItem>, BTreeMap<NodeId, u64>), Error> {
        let mut counts = BTreeMap::new();
        if lost.is_empty() {
            return Ok((Vec::new(), counts));
        }
        let kept = self.conflicts_kept.get(&partition.keyspace);
        let kept = kept.map(|kept| u64::try_from(kept.as_micros()).unwrap_or(u64::MAX));
        let mut own = Vec::new();
        for Lost { key, loser, winner } in lost {
            *counts.entry(winner.dot.actor.node).or_default() += 1;
            let Some(kept) = kept else {
                continue;
            };
            let key = key.with(&Part::Conflict(loser.dot));
            if self.load(&key)?.is_some() {
                continue;
            }
            let stamp = match self.next_stamp(wall, partition, Timestamp::ZERO, own.len()) {
                Ok(stamp) => stamp,
                Err(Stop::Broken(error)) => return Err(error),
                // At the end of numbers nothing can be kept any more.
                Err(Stop::Denied(_) | Stop::Refused(_)) => continue,
            };
            own.push(Own {
                key,
                old: None,
                row: Row::Conflict(Conflict {
                    stamp,
                    winner,
                    loser: Some(loser),
                    expires: Wall(wall.0.saturating_add(kept)),
                }),
            });
        }
        Ok((self.stage_own(partition, own)?, counts))
    }
}
