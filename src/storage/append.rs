//! A piece of an actor's log from a peer.

use crate::hlc::Ahead;
use crate::model::{Actor, Dot, Effect, LogItem, PartitionId, Row, Timestamp, Wall};

use crate::model::planted::{Guard, is_left_out};

use super::engine::Engine;
use super::form::StoredRow;
use super::merge::{FORGED, Met, is_forged};
use super::stage::{NOT_HERE, Refusal};
use super::{Door, Error};

/// Bytes of the rows that a piece meets which are kept between being checked and being merged; others are read again.
const OLD_BYTES_MAX: usize = 4 << 20;

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

/// The row that an entry meets, read when its piece was checked.
#[expect(clippy::large_enum_variant, reason = "nearly all are kept")]
#[derive(Debug)]
enum Old {
    /// As it was; nothing if there was none.
    Kept(Option<StoredRow>),
    /// It is read again: with it, too much would be held.
    TooLarge,
}

/// The timestamp of the register that was sent with an entry, if it is not the one that the entry wrote: the sender
/// met something newer after it had written. Its writer must learn of it, as if it had been here before, for whoever has that
/// register already would say nothing.
fn hidden_by(actor: Actor, item: &LogItem) -> Option<Timestamp> {
    match &item.row {
        Row::Register(version) if version.dot != (Dot { actor, n: item.n }) => {
            Some(version.timestamp)
        }
        Row::Register(_)
        | Row::Siblings(_)
        | Row::Share(_)
        | Row::Once(_)
        | Row::Clear(_)
        | Row::Expiry(_)
        | Row::Conflict(_) => None,
    }
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
        if piece.from > before.applied && !is_left_out(Guard::AppendGap) {
            return Ok(Effect::Gap {
                partition,
                actor,
                applied: before.applied,
            });
        }
        // What is complete is known: of that nothing is told again, for nobody counts what lies before the piece's start.
        let fresh = piece.items.iter().filter(|item| item.n > before.complete);
        let fresh: Vec<&LogItem> = fresh.collect();
        if let Some(timestamp) = self.early(wall, &fresh) {
            return Ok(Effect::Early {
                partition,
                timestamp,
            });
        }
        let Some(olds) = self.olds(&fresh)? else {
            return Ok(Effect::Refused { reason: FORGED });
        };

        let (mut newer, mut crossed, mut lost) = (Vec::new(), Vec::new(), Vec::new());
        let mut newest = Vec::new();
        for (item, old) in fresh.into_iter().zip(olds) {
            let met = self.apply(wall, piece, item, old)?;
            if let (Row::Register(version), None) = (&item.row, met.newer) {
                newest.push(version.dot);
            }
            let hides = met.newer.or_else(|| hidden_by(actor, item));
            newer.extend(hides.map(|timestamp| (item.n, timestamp)));
            crossed.extend(met.is_crossed.then_some(item.n));
            lost.extend(met.lost);
        }
        let is_complete = piece
            .complete_from
            .is_some_and(|c| before.complete >= c || is_left_out(Guard::AppendWhole));
        self.change_marks(partition, actor, |marks| {
            marks.reach.applied = marks.reach.applied.max(piece.to);
            if is_complete {
                marks.reach.complete = marks.reach.complete.max(piece.to);
            }
        });
        let stood = self.stood(partition, actor, before.complete);
        if let Some(known) = self.partitions.get_mut(&partition) {
            for dot in newest {
                if !known.covers(dot) {
                    known.stood.note(dot);
                }
            }
            known.stood.forget(actor, known.marks(actor).reach.complete);
        }
        self.hold_log_bytes(partition, actor)?;
        let (written, lost) = self.keep_lost(wall, partition, lost)?;
        Ok(Effect::Appended {
            partition,
            actor,
            reach: self.marks(partition, actor).reach,
            newer,
            stood,
            crossed,
            written,
            lost,
        })
    }

    /// The first timestamp that lies too far ahead of the clock.
    fn early(&self, wall: Wall, fresh: &[&LogItem]) -> Option<Timestamp> {
        fresh.iter().find_map(|item| {
            let checked = self.clock.check(wall, item.row.stamp().timestamp);
            checked.err().map(|Ahead { seen, .. }| seen)
        })
    }

    /// What entries meet; nothing if one of them is forged, for then none is merged.
    fn olds(&self, fresh: &[&LogItem]) -> Result<Option<Vec<Old>>, Error> {
        let (mut olds, mut bytes) = (Vec::with_capacity(fresh.len()), 0);
        for item in fresh {
            let old = self.load(&item.key)?;
            let row = old.as_ref().map(|old| &old.row);
            if row.is_some_and(|row| is_forged(row, &item.row)) {
                return Ok(None);
            }
            bytes += row.map_or(0, Row::size);
            olds.push(if bytes <= OLD_BYTES_MAX {
                Old::Kept(old)
            } else {
                Old::TooLarge
            });
        }
        Ok(Some(olds))
    }

    /// Of what has become complete, the registers that had come before and were the newest of their row here: they are not
    /// hidden, though the piece may even pass over them by now.
    fn stood(&self, partition: PartitionId, actor: Actor, after: u64) -> Vec<u64> {
        if is_left_out(Guard::Stood) {
            return Vec::new();
        }
        let known = self.partitions.get(&partition).into_iter();
        known
            .flat_map(|known| known.stood.upto(actor, known.marks(actor).reach.complete))
            .map(|dot| dot.n)
            .filter(|n| *n > after)
            .collect()
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

    /// Merges one entry.
    fn apply(
        &mut self,
        wall: Wall,
        piece: Piece<'_>,
        item: &LogItem,
        old: Old,
    ) -> Result<Met, Error> {
        // Checked before anything was applied; the clock has only gone forward since.
        let observed = self.clock.observe(wall, item.row.stamp().timestamp);
        assert!(
            observed.is_ok(),
            "timestamps were checked against the same wall time"
        );
        let old = match old {
            // An entry before it may have changed it.
            Old::Kept(old) if !self.is_staged(&item.key) => old,
            Old::Kept(_) | Old::TooLarge => self.load(&item.key)?,
        };
        let dot = Dot {
            actor: piece.actor,
            n: item.n,
        };
        self.merge_row(
            piece.partition,
            &item.key,
            old.as_ref(),
            &item.row,
            Some(dot),
        )
    }
}
