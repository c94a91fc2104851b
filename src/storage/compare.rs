//! Answers for those who compare replicas: digests, listings of leaves, sums of runs. What a clear covers and is not
//! swept yet is left out of listings and sums; a digest counts it, and says so by a leaf that is busy.

use std::ops::ControlFlow;

use crate::digest::{leaf_of, row_hash};
use crate::model::{
    Answer, Cuts, DIGEST_BUSY, DIGEST_FANOUT, DIGEST_LEAVES, DIGEST_LEVELS, DigestNode,
    PartitionId, Position, Row, RowKey, Run, Sum,
};

use super::clear::Clears;
use super::engine::{Snapshot, Space};
use super::keys::{self, Span};
use super::partition::Partition;
use super::reader::{NOT_HERE, ROWS_MAX, Unreadable, visit_rows};
use super::{Error, Reader};

/// Pieces into which a run is cut evenly, at most.
const PIECES_MAX: usize = 64;

impl<S: Snapshot> Reader<S> {
    pub(super) fn digest(
        &self,
        partition: PartitionId,
        nodes: &[DigestNode],
    ) -> Result<Answer, Unreadable> {
        let (snapshot, position, hashes) = {
            let published = self.shared.read();
            let known = published.partitions.get(&partition).ok_or(NOT_HERE)?;
            let hashes: Option<Vec<_>> = nodes
                .iter()
                .map(|node| known.tree.children(*node))
                .collect();
            let position = known.partition.position();
            (published.snapshot.clone(), position, hashes)
        };
        let mut hashes = hashes.ok_or(Unreadable::Asked("there is no such node in a digest"))?;
        for (node, hashes) in nodes.iter().zip(&mut hashes) {
            if node.level + 1 == DIGEST_LEVELS {
                self.mark_busy(&snapshot, partition, node.index, hashes)?;
            }
        }
        Ok(Answer::Digest { position, hashes })
    }

    /// Puts a word in place of the hashes of leaves that are being swept; of those below one node.
    fn mark_busy(
        &self,
        snapshot: &S,
        partition: PartitionId,
        index: u16,
        hashes: &mut [u128],
    ) -> Result<(), Error> {
        let start = index * DIGEST_FANOUT;
        let mut first = start;
        let end = start + DIGEST_FANOUT;
        while first < end {
            let span = keys::leaf_sweeps(partition, self.partition_count, first, end - 1);
            let mut found = None;
            snapshot.range(Space::Meta, span.start(), span.end(), &mut |key, _| {
                found = keys::parse_sweep(key);
                ControlFlow::Break(())
            })?;
            let Some(clear) = found else {
                return Ok(());
            };
            let leaf = leaf_of(&clear, self.partition_count);
            if let Some(hash) = hashes.get_mut(usize::from(leaf.saturating_sub(start))) {
                *hash = DIGEST_BUSY;
            }
            first = leaf.max(first) + 1;
        }
        Ok(())
    }

    pub(super) fn leaves(
        &self,
        partition: PartitionId,
        run: &Run,
        rows_max: usize,
    ) -> Result<Answer, Unreadable> {
        let (snapshot, position, span) = self.run(partition, run)?;
        let rows_max = rows_max.clamp(1, ROWS_MAX);
        let mut rows = Vec::new();
        let next = visit_left(&snapshot, &span, run, ROWS_MAX, |key, row| {
            rows.push((key, row.summary()));
            rows.len() < rows_max
        })?;
        Ok(Answer::Leaf {
            position,
            rows,
            next,
        })
    }

    pub(super) fn sums(
        &self,
        partition: PartitionId,
        run: &Run,
        cuts: &Cuts,
        rows_max: usize,
    ) -> Result<Answer, Unreadable> {
        let (snapshot, _, span) = self.run(partition, run)?;
        let mut pieces = Pieces::new(cuts);
        let next = visit_left(&snapshot, &span, run, rows_max.max(1), |key, row| {
            let hash = row_hash(&key, &row);
            pieces.add(key, Sum { rows: 1, hash });
            true
        })?;
        let (ends, sums) = pieces.finish(next.as_ref());
        Ok(Answer::Sums { ends, sums, next })
    }

    fn run(&self, partition: PartitionId, run: &Run) -> Result<(S, Position, Span), Unreadable> {
        if run.first > run.last || run.last >= DIGEST_LEAVES {
            return Err(Unreadable::Asked("there is no such leaf in a digest"));
        }
        let (snapshot, position) = self.view(partition, Partition::position)?;
        let span = keys::leaf_rows(partition, self.partition_count, run.first, run.last);
        Ok((snapshot, position, span))
    }
}

/// Visits what clears leave of a run, in order, until `visit` has enough or so many rows were looked at. Says after
/// which row to go on, if there may be more.
fn visit_left<S: Snapshot>(
    snapshot: &S,
    span: &Span,
    run: &Run,
    looks_max: usize,
    mut visit: impl FnMut(RowKey, Row) -> bool,
) -> Result<Option<RowKey>, Error> {
    let mut clears = Clears::default();
    let mut looks = 0;
    let mut next = None;
    let mut outcome = Ok(());
    visit_rows(snapshot, span, run.after.as_ref(), |key, stored| {
        if run.upto.as_ref().is_some_and(|upto| key > *upto) {
            return ControlFlow::Break(());
        }
        looks += 1;
        let last = key.clone();
        let mut row = stored.row;
        let is_cleared = match clears.over(snapshot, &key) {
            Ok(Some(cleared)) => {
                row.clear(cleared);
                row.is_cleared_by(cleared)
            }
            Ok(None) => false,
            Err(error) => {
                outcome = Err(error);
                return ControlFlow::Break(());
            }
        };
        let is_enough = !is_cleared && !visit(key, row);
        if is_enough || looks >= looks_max {
            next = Some(last);
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    })?;
    outcome?;
    Ok(next)
}

/// Sums of pieces, as rows come in order.
enum Pieces<'a> {
    /// Each is closed when it has so many rows.
    Even {
        ends: Vec<RowKey>,
        sums: Vec<Sum>,
        rows_each: u64,
    },
    /// The cuts that have not been come to; the last sum is of what comes before the first of them.
    After {
        cuts: std::slice::Iter<'a, RowKey>,
        sums: Vec<Sum>,
    },
}

impl<'a> Pieces<'a> {
    fn new(cuts: &'a Cuts) -> Self {
        match cuts {
            Cuts::Even => Self::Even {
                ends: Vec::new(),
                sums: Vec::new(),
                rows_each: 1,
            },
            Cuts::After(cuts) => Self::After {
                cuts: cuts.iter(),
                sums: vec![Sum::default()],
            },
        }
    }

    fn add(&mut self, key: RowKey, sum: Sum) {
        match self {
            Self::Even {
                ends,
                sums,
                rows_each,
            } => {
                if let (Some(end), Some(last)) = (ends.last_mut(), sums.last_mut())
                    && last.rows < *rows_each
                {
                    *end = key;
                    last.add(sum);
                    return;
                }
                if sums.len() == PIECES_MAX {
                    *rows_each *= 2;
                    *ends = ends.iter().skip(1).step_by(2).cloned().collect();
                    *sums = sums.chunks(2).map(total).collect();
                }
                ends.push(key);
                sums.push(sum);
            }
            Self::After { cuts, sums } => {
                while cuts.as_slice().first().is_some_and(|cut| key > *cut) {
                    cuts.next();
                    sums.push(Sum::default());
                }
                if let Some(last) = sums.last_mut() {
                    last.add(sum);
                }
            }
        }
    }

    /// The pieces; `next` is where the rows were left off.
    fn finish(self, next: Option<&RowKey>) -> (Vec<RowKey>, Vec<Sum>) {
        match self {
            Self::Even { ends, sums, .. } => (ends, sums),
            Self::After { cuts, mut sums } => {
                let passed = cuts.filter(|cut| next.is_none_or(|next| next > *cut));
                sums.extend(passed.map(|_| Sum::default()));
                (Vec::new(), sums)
            }
        }
    }
}

fn total(sums: &[Sum]) -> Sum {
    let mut total = Sum::default();
    for sum in sums {
        total.add(*sum);
    }
    total
}
