//! Whether a write stands, by what the replicas of its region say of it: a value, and no more.
//!
//! A replica that already holds something newer says so. A write *stands* at a replica if it was the newest there when it
//! came, and the replica served: one that does not may lack what it once had. Where it stood at a majority of the region,
//! nothing hid it that had finished before it began, and it is done, whatever came since; so it is while it stood at all that
//! have told. Where it cannot come to stand at a
//! majority, no quorum can have shown it, and something that had finished may hide it (P2). Until one of the two is certain it is
//! open. Only registers can be hidden so; what merges by causality cannot. See decisions 21, 22 and 26.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::planted::{Guard, is_left_out};
use crate::model::{Incarnation, NodeId, Summary, Timestamp};

/// A replica has a write on disk.
#[derive(Clone, Copy, Debug)]
pub(super) struct Word {
    pub(super) from: NodeId,
    /// In which of its lives.
    pub(super) life: Incarnation,
    /// The timestamp of the register that it held, if that was newer; zero if not.
    pub(super) held: Timestamp,
    /// Whether it served then.
    pub(super) is_serving: bool,
}

/// What a replica's word comes to; the later ones outweigh the earlier.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Said {
    /// Something newer was there.
    Hidden,
    /// Nothing newer was there; but the replica did not serve, and may have lacked what had finished.
    Nothing,
    /// It was the newest of its row there.
    Stood,
}

/// Whether a write may be hidden.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Standing {
    /// It stood at a majority of the region, or at all that have told so far.
    Stands,
    /// It cannot come to stand at a majority any more.
    Hidden,
    /// That hangs on replicas that have not told, or did not serve when they did.
    Open,
}

/// What was heard of a write.
#[derive(Debug)]
pub(super) struct Heard {
    /// Replicas that have it on disk, and what that says.
    told: BTreeMap<NodeId, Said>,
    /// The greatest timestamp that any of them held.
    newer: Timestamp,
    /// Replicas that have served since it was stamped: a read may have shown it at one that has not told.
    serving: BTreeSet<NodeId>,
    /// The lives of the neighbours when it was stamped: what stood in an earlier life, a later one does not know.
    lives: BTreeMap<NodeId, Incarnation>,
}

impl Heard {
    /// Nothing, of a write that was just stamped.
    pub(super) fn new(lives: BTreeMap<NodeId, Incarnation>) -> Self {
        Self {
            told: BTreeMap::new(),
            newer: Timestamp::ZERO,
            serving: BTreeSet::new(),
            lives,
        }
    }

    /// These serve now.
    pub(super) fn note_serving(&mut self, serving: impl Iterator<Item = NodeId>) {
        self.serving.extend(serving);
    }

    /// Takes in a replica's word of a write.
    pub(super) fn hear(&mut self, summary: &Summary, word: Word) {
        let Word {
            from,
            life,
            held,
            is_serving,
        } = word;
        // Equal timestamps are told apart by the dot, and the replica said that its own wins.
        let said = if !summary.is_register {
            Said::Stood
        } else if held >= summary.timestamp {
            Said::Hidden
        } else if is_serving || is_left_out(Guard::StoodServing) {
            Said::Stood
        } else {
            Said::Nothing
        };
        let has_died = self.lives.get(&from).is_some_and(|before| *before != life);
        if said == Said::Hidden && has_died && !is_left_out(Guard::Stood) {
            return;
        }
        // A piece that is merged again may meet what has come since.
        let known = self.told.entry(from).or_insert(said);
        *known = (*known).max(said);
        self.newer = self.newer.max(held);
    }

    /// Whether a replica has it on disk.
    pub(super) fn has_told(&self, node: NodeId) -> bool {
        self.told.contains_key(&node)
    }

    /// The greatest timestamp that is known to hide it; zero if none is.
    pub(super) fn newer(&self) -> Timestamp {
        self.newer
    }

    /// By where it stood, and where it may yet come to, or have come to since they told, in a region of so many replicas. One that
    /// has not served since it was stamped has shown it to nobody.
    pub(super) fn standing(&self, replicas: usize) -> Standing {
        let majority = replicas / 2 + 1;
        let count = |said| self.told.values().filter(|one| **one == said).count();
        let (stood, hidden) = (count(Said::Stood), count(Said::Hidden));
        let has_settled = |node| matches!(self.told.get(node), Some(Said::Stood | Said::Hidden));
        let open = self.serving.iter().filter(|node| !has_settled(*node));
        if stood >= majority || stood == self.told.len() {
            Standing::Stands
        } else if hidden > 0 && stood + open.count() < majority {
            Standing::Hidden
        } else {
            Standing::Open
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_is_hidden_only_where_it_cannot_stand_at_a_majority() {
        use Said::{Hidden, Nothing, Stood};
        for (told, serving, replicas, expected) in [
            (
                &[(1, Stood), (2, Stood)][..],
                &[1, 2, 3][..],
                3,
                Standing::Stands,
            ),
            (
                &[(1, Stood), (2, Stood), (3, Hidden)],
                &[1, 2, 3],
                3,
                Standing::Stands,
            ),
            (&[(1, Stood), (3, Hidden)], &[1, 2, 3], 3, Standing::Open),
            (&[(1, Stood), (3, Hidden)], &[1, 3], 3, Standing::Hidden),
            (
                &[(1, Stood), (2, Hidden), (3, Hidden)],
                &[1, 2, 3],
                3,
                Standing::Hidden,
            ),
            (&[(1, Stood)], &[1], 1, Standing::Stands),
            (&[(1, Stood), (2, Hidden)], &[1, 2], 2, Standing::Hidden),
            (
                &[(1, Stood), (2, Stood), (3, Hidden)],
                &[1, 2, 3, 4, 5],
                5,
                Standing::Open,
            ),
            (
                &[(1, Stood), (2, Hidden), (3, Hidden)],
                &[1, 2, 3, 4],
                5,
                Standing::Hidden,
            ),
            // Unsafe: nobody else was waited for.
            (&[(1, Stood)], &[1, 2, 3], 3, Standing::Stands),
            // Who did not serve when it came says nothing.
            (&[(1, Stood), (2, Nothing)], &[1, 3], 3, Standing::Open),
            (&[(1, Stood), (2, Nothing)], &[1], 3, Standing::Open),
            (
                &[(1, Stood), (2, Nothing), (3, Stood)],
                &[1, 3],
                3,
                Standing::Stands,
            ),
            (
                &[(1, Stood), (2, Nothing), (3, Hidden)],
                &[1, 3],
                3,
                Standing::Hidden,
            ),
            // It has served since, and may have shown it.
            (
                &[(1, Stood), (2, Nothing), (3, Hidden)],
                &[1, 2, 3],
                3,
                Standing::Open,
            ),
        ] {
            let mut heard = Heard::new(BTreeMap::new());
            heard.note_serving(serving.iter().copied().map(NodeId));
            heard.told = told
                .iter()
                .map(|(node, said)| (NodeId(*node), *said))
                .collect();
            let found = heard.standing(replicas);
            assert_eq!(found, expected, "{told:?} of {replicas}");
        }
    }
}
