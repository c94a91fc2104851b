//! Where in a long run of rows the difference lies: both sides sum up the same pieces of it, and only pieces whose sums
//! differ are cut again, or listed when they are short. One row that differs among a million costs some kilobytes.
//! This is range-based set reconciliation (A. Meyer, 2023), with the sums of the rows' hashes as fingerprints.
//!
//! It does not know what a difference means, nor who asks whom.

use std::collections::VecDeque;

use crate::model::{Answer, Cuts, NodeId, PartitionId, Query, RowKey, Run, Sum};
use crate::protocol::core::{Core, Purpose, send};
use crate::protocol::message::{Lane, Message};
use crate::protocol::step::Output;

use super::LEAF_ROWS_MAX;

/// Rows of a run that are listed rather than summed up.
const LISTED_MAX: u64 = 64;
/// Pieces that a run is cut into.
const PIECES_MAX: usize = 32;
/// Pieces that are known of a run before it is known how long they should be.
const KNOWN_MAX: usize = 1024;
/// Rows that one question for sums looks at: some milliseconds of a thread that reads.
const SUMMED_MAX: usize = 16 << 10;
/// Such questions that a peer asks itself before it answers; the asker is told where to go on.
const QUESTIONS_MAX: u8 = 16;
/// What looking at a row counts in the budget: reading costs too.
pub(super) const SUMMED_BYTES: usize = 32;

/// A piece of a run, by the rows here.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Piece {
    end: RowKey,
    sum: Sum,
}

/// What is to be done about a run that differs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Task {
    /// Cut it by the rows here: its pieces so far, and where to go on.
    Cut {
        run: Run,
        pieces: Vec<Piece>,
        next: Option<RowKey>,
    },
    /// Sum up these pieces there: their sums so far, and where to go on.
    Sum {
        run: Run,
        pieces: Vec<Piece>,
        theirs: Vec<Sum>,
        next: Option<RowKey>,
    },
    /// List it on both sides.
    List(Run),
}

impl Task {
    /// A run of which nothing is known but that it differs.
    pub(super) fn new(run: Run) -> Self {
        Self::Cut {
            run,
            pieces: Vec::new(),
            next: None,
        }
    }
}

/// The question for what is here of a run that is to be cut.
pub(super) fn cut(partition: PartitionId, run: Run, next: Option<RowKey>) -> Query {
    Query::Sums {
        partition,
        run: rest(run, next),
        cuts: Cuts::Even,
        rows_max: SUMMED_MAX,
    }
}

/// The question for the peer's sums of pieces.
pub(super) fn ask(
    id: u64,
    partition: PartitionId,
    run: Run,
    pieces: &[Piece],
    (known, next): (usize, Option<RowKey>),
) -> Message {
    // The last piece has no end: what the peer has beyond our last row belongs to it.
    let ends = pieces.split_last().map_or(&[][..], |(_, ends)| ends);
    let ends = ends.iter().skip(known.saturating_sub(1));
    Message::SumsAsk {
        id,
        partition,
        run: rest(run, next),
        cuts: ends.map(|piece| piece.end.clone()).collect(),
    }
}

fn rest(run: Run, next: Option<RowKey>) -> Run {
    match next {
        Some(next) => run.from(next),
        None => run,
    }
}

/// Some pieces of a run that is to be cut are known now: what to do next.
pub(super) fn on_cut(
    run: Run,
    mut pieces: Vec<Piece>,
    (ends, sums): (Vec<RowKey>, Vec<Sum>),
    next: Option<RowKey>,
) -> Task {
    let more = ends.into_iter().zip(sums);
    pieces.extend(more.map(|(end, sum)| Piece { end, sum }));
    if next.is_some() {
        let pieces = if pieces.len() > KNOWN_MAX {
            fewer(pieces, KNOWN_MAX / 2)
        } else {
            pieces
        };
        return Task::Cut { run, pieces, next };
    }
    let rows: u64 = pieces.iter().map(|piece| piece.sum.rows).sum();
    if rows <= LISTED_MAX {
        return Task::List(run);
    }
    Task::Sum {
        run,
        pieces: fewer(pieces, PIECES_MAX),
        theirs: Vec::new(),
        next: None,
    }
}

/// The same rows in fewer pieces, of about as many rows each.
fn fewer(pieces: Vec<Piece>, pieces_max: usize) -> Vec<Piece> {
    let rows: u64 = pieces.iter().map(|piece| piece.sum.rows).sum();
    let each = rows / u64::try_from(pieces_max).unwrap_or(1).max(1) + 1;
    let mut fewer: Vec<Piece> = Vec::new();
    for piece in pieces {
        match fewer.last_mut() {
            Some(last) if last.sum.rows < each => {
                last.end = piece.end;
                last.sum.add(piece.sum);
            }
            Some(_) | None => fewer.push(piece),
        }
    }
    fewer
}

/// Some sums of the peer are known now: what to do next, in order.
pub(super) fn on_sums(
    run: Run,
    pieces: Vec<Piece>,
    mut theirs: Vec<Sum>,
    more: Vec<Sum>,
    next: Option<RowKey>,
) -> VecDeque<Task> {
    extend(&mut theirs, more);
    if theirs.len() > pieces.len() || (next.is_none() && theirs.len() < pieces.len()) {
        // It did not answer what was asked.
        return VecDeque::from([Task::List(run)]);
    }
    if next.is_some() {
        let task = Task::Sum {
            run,
            pieces,
            theirs,
            next,
        };
        return VecDeque::from([task]);
    }
    let pairs = pieces.iter().zip(&theirs);
    let differing = pairs.filter(|(mine, theirs)| mine.sum.hash != theirs.hash);
    let is_most = differing.count() * 2 > pieces.len();
    let last = pieces.len().saturating_sub(1);
    let mut tasks = VecDeque::new();
    let mut after = run.after.clone();
    for (at, (piece, theirs)) in pieces.into_iter().zip(theirs).enumerate() {
        let upto = if at == last {
            run.upto.clone()
        } else {
            Some(piece.end.clone())
        };
        let of_piece = Run {
            after: after.replace(piece.end),
            upto,
            ..run.clone()
        };
        if piece.sum.hash == theirs.hash {
            continue;
        }
        let rows = piece.sum.rows.max(theirs.rows);
        // Where nearly all differs there is nothing to be saved by looking closer.
        let is_page = usize::try_from(rows).is_ok_and(|rows| rows <= LEAF_ROWS_MAX);
        if rows <= LISTED_MAX || theirs.rows == 0 || (is_most && is_page) {
            list(&mut tasks, of_piece);
        } else {
            tasks.push_back(Task::new(of_piece));
        }
    }
    tasks
}

/// Adds a run to those that are to be listed: to the last one if it goes on there.
fn list(tasks: &mut VecDeque<Task>, run: Run) {
    if let Some(Task::List(last)) = tasks.back_mut()
        && last.upto.is_some()
        && last.upto == run.after
    {
        last.upto = run.upto;
        return;
    }
    tasks.push_back(Task::List(run));
}

/// Adds sums to those before them, of which the last one may be of a part of its piece.
fn extend(sums: &mut Vec<Sum>, more: Vec<Sum>) {
    let mut more = more.into_iter();
    if let Some(last) = sums.last_mut()
        && let Some(rest) = more.next()
    {
        last.add(rest);
    }
    sums.extend(more);
}

/// A peer's question for sums, as far as it is answered. It is asked of the store piece by piece, so that others are
/// answered in between.
#[derive(Clone, PartialEq, Debug)]
pub(in crate::protocol) struct Summing {
    asker: (NodeId, u64),
    partition: PartitionId,
    run: Run,
    cuts: Vec<RowKey>,
    sums: Vec<Sum>,
    questions: u8,
}

impl Summing {
    /// Of a peer and its id of it.
    pub(in crate::protocol) fn new(
        asker: (NodeId, u64),
        partition: PartitionId,
        run: Run,
        cuts: Vec<RowKey>,
    ) -> Self {
        Self {
            asker,
            partition,
            run,
            cuts,
            sums: Vec::new(),
            questions: 0,
        }
    }

    /// Asks the first question, if what the peer wants is reasonable.
    pub(in crate::protocol) fn begin(self, core: &mut Core, outputs: &mut Vec<Output>) {
        if self.cuts.len() < PIECES_MAX * 2 {
            self.ask(core, outputs);
        } else {
            self.refuse(outputs);
        }
    }

    /// Goes on, or answers.
    pub(in crate::protocol) fn go_on(
        mut self,
        core: &mut Core,
        answer: Answer,
        outputs: &mut Vec<Output>,
    ) {
        let Answer::Sums { sums, next, .. } = answer else {
            return self.refuse(outputs);
        };
        extend(&mut self.sums, sums);
        self.questions += 1;
        match next {
            Some(next) if self.questions < QUESTIONS_MAX => {
                self.run = self.run.from(next);
                self.ask(core, outputs);
            }
            next => {
                let (peer, id) = self.asker;
                let sums = self.sums;
                let tell = Message::SumsTell { id, sums, next };
                send(outputs, peer, Lane::Reconcile, tell);
            }
        }
    }

    fn ask(self, core: &mut Core, outputs: &mut Vec<Output>) {
        let passed = self.sums.len().saturating_sub(1);
        let query = Query::Sums {
            partition: self.partition,
            run: self.run.clone(),
            cuts: Cuts::After(self.cuts.iter().skip(passed).cloned().collect()),
            rows_max: SUMMED_MAX,
        };
        core.query(outputs, Purpose::PeerSums(Box::new(self)), query);
    }

    fn refuse(&self, outputs: &mut Vec<Output>) {
        let (peer, id) = self.asker;
        send(outputs, peer, Lane::Reconcile, Message::CannotRead { id });
    }
}
