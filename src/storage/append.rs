//! A piece of an actor's log from a peer.

use crate::hlc::Ahead;
use crate::model::{Actor, Dot, Effect, LogItem, PartitionId, Timestamp, Wall};

use super::engine::Engine;
use super::form::StoredRow;
use super::stage::{FORGED, NOT_HERE, Refusal, is_forged};
use super::{Door, Error};

/// The piece.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece<'a> {
    pub(super) partition: PartitionId,
    pub(super) actor: Actor,
    pub(super) from: u64,
    pub(super) to: u64,
    pub(super) complete_from: Option<u64>,
    pub(super) items: &'a [LogItem],
}

impl<E: Engine> Door<E> {
    /// Applies a piece of log.
    ///
    /// Entries up to `complete` are known. Those between `complete` and `applied` are merged again: they may
    /// be ones that another sender had passed over for later entries, and without them the position would
    /// claim what is not here.
    pub(super) fn append(&mut self, wall: Wall, piece: Piece<'_>) -> Result<Effect, Error> {
        let Piece {
            partition, actor, ..
        } = piece;
        if let Err(reason) = self.check_piece(piece) {
            return Ok(Effect::Refused { reason });
        }
        let before = self.marks(partition, actor).reach;
        if piece.from > before.applied {
            return Ok(Effect::Gap {
                partition,
                actor,
                applied: before.applied,
            });
        }
        let fresh = piece.items.iter().filter(|item| item.n > before.complete);
        for item in fresh.clone() {
            let timestamp = item.row.summary().timestamp;
            if let Err(Ahead { seen, .. }) = self.clock.check(wall, timestamp) {
                return Ok(Effect::Early {
                    partition,
                    timestamp: seen,
                });
            }
        }
        for item in fresh {
            let old = self.load(&item.key)?;
            if old.is_some_and(|old| is_forged(&old.row, &item.row)) {
                return Ok(Effect::Refused { reason: FORGED });
            }
        }

        let mut newer = Vec::new();
        for item in piece.items {
            let mine = if item.n <= before.complete {
                self.newer_here(item)?
            } else {
                self.apply(wall, partition, actor, item)?
            };
            newer.extend(mine.map(|timestamp| (item.n, timestamp)));
        }
        let is_complete = piece.complete_from.is_some_and(|c| before.complete >= c);
        self.change_marks(partition, actor, |marks| {
            marks.reach.applied = marks.reach.applied.max(piece.to);
            if is_complete {
                marks.reach.complete = marks.reach.complete.max(piece.to);
            }
        });
        self.hold_log_bytes(partition, actor)?;
        Ok(Effect::Appended {
            partition,
            actor,
            reach: self.marks(partition, actor).reach,
            newer,
            crossed: Vec::new(),
            written: Vec::new(),
            lost: std::collections::BTreeMap::new(),
        })
    }

    fn check_piece(&self, piece: Piece<'_>) -> Result<(), Refusal> {
        if !self.partitions.contains_key(&piece.partition) {
            return Err(NOT_HERE);
        }
        if piece.from > piece.to || piece.to == u64::MAX {
            return Err("the piece of log leads nowhere");
        }
        let mut last = piece.from;
        for item in piece.items {
            if item.n <= last || item.n > piece.to {
                return Err("the entries are not in order");
            }
            last = item.n;
            if self.check_merge(&item.key, &item.row)? != piece.partition {
                return Err("an entry names a row of another partition");
            }
        }
        Ok(())
    }

    /// The timestamp of the row here, if it is newer than in an entry that is known already: a sender
    /// whose first acknowledgement was lost must learn of it too.
    fn newer_here(&self, item: &LogItem) -> Result<Option<Timestamp>, Error> {
        let mine = self.load(&item.key)?.map(|mine| mine.row.summary());
        let newer = mine.filter(|mine| mine.is_newer_than(&item.row.summary()));
        Ok(newer.map(|mine| mine.timestamp))
    }

    /// Merges one entry. Says the timestamp of the row here if that was newer already.
    fn apply(
        &mut self,
        wall: Wall,
        partition: PartitionId,
        actor: Actor,
        item: &LogItem,
    ) -> Result<Option<Timestamp>, Error> {
        let summary = item.row.summary();
        // Checked before anything was applied; the clock has only gone forward since.
        let observed = self.clock.observe(wall, summary.timestamp);
        assert!(
            observed.is_ok(),
            "timestamps were checked against the same wall time"
        );

        let old = self.load(&item.key)?;
        if old.is_none() && self.is_covered(partition, &item.row) {
            return Ok(None);
        }
        let (row, mut entries, newer) = match &old {
            None => (item.row.clone(), Vec::new(), None),
            Some(old) => {
                let mut row = old.row.clone();
                let has_changed = row.merge(&item.row);
                let mine = row.summary().timestamp;
                let is_newer = !has_changed && row != item.row;
                (row, old.entries.clone(), is_newer.then_some(mine))
            }
        };
        if item.n > self.marks(partition, actor).trimmed {
            self.log(partition, Dot { actor, n: item.n }, &item.key, &mut entries)?;
        }
        let new = StoredRow { row, entries };
        if old.as_ref() != Some(&new) {
            self.store(partition, &item.key, old.as_ref(), Some(new))?;
        }
        Ok(newer)
    }
}
