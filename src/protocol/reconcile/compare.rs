//! Comparing two listings of the same leaf: what to take, what to give, what to forget.

use std::collections::BTreeMap;

use crate::model::{Dot, Position, RowKey, Summary};

use super::Mode;

/// One side of a comparison.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Listing {
    /// Its position: never newer than the rows.
    pub(super) position: Position,
    /// Rows in order.
    pub(super) rows: Vec<(RowKey, Summary)>,
    /// The row up to which they go, if there may be more.
    pub(super) next: Option<RowKey>,
}

/// A row to take from the other side.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Pull {
    pub(super) key: RowKey,
    /// Changes in the row here that the other side had and has no more, though its row may not remember them: a
    /// context is forgotten when all have seen what it covers, and a disk that was put back has it again.
    pub(super) gone: Box<[Dot]>,
}

impl Pull {
    /// Takes a row of which `mine` is here, given the other side's position: never newer than its row.
    fn new(key: &RowKey, mine: Option<&Summary>, theirs: &Summary, position: &Position) -> Self {
        let mine = mine.into_iter().flat_map(Summary::dots);
        let is_gone =
            |dot: &Dot| position.covers(*dot) && !theirs.dots().any(|other| other == *dot);
        Self {
            key: key.clone(),
            gone: mine.filter(is_gone).collect(),
        }
    }
}

/// What a comparison found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Difference {
    /// Rows to take from the other side.
    pub(super) pull: Vec<Pull>,
    /// Rows to give to it.
    pub(super) push: Vec<RowKey>,
    /// Rows that it had and has collected, with the version that it saw.
    pub(super) forget: Vec<(RowKey, u64)>,
    /// Go on after this row.
    pub(super) next: Option<RowKey>,
}

/// Compares. `is_delivered` tells whether some log will bring a dot to whoever lacks it: such a row is in
/// flight, and no divergence.
pub(super) fn compare(
    mode: Mode,
    mine: &Listing,
    theirs: &Listing,
    is_delivered: impl Fn(Dot) -> bool,
) -> Difference {
    let bound = match (&mine.next, &theirs.next) {
        (Some(a), Some(b)) => Some(a.min(b).clone()),
        (a, b) => a.as_ref().or(b.as_ref()).cloned(),
    };
    let is_within = |key: &RowKey| bound.as_ref().is_none_or(|bound| key <= bound);
    let mut union: BTreeMap<&RowKey, (Option<&Summary>, Option<&Summary>)> = BTreeMap::new();
    for (key, summary) in mine.rows.iter().filter(|(key, _)| is_within(key)) {
        union.entry(key).or_default().0 = Some(summary);
    }
    for (key, summary) in theirs.rows.iter().filter(|(key, _)| is_within(key)) {
        union.entry(key).or_default().1 = Some(summary);
    }
    let mut found = Difference {
        next: bound.clone(),
        ..Difference::default()
    };
    let sides = Sides {
        mode,
        mine: &mine.position,
        theirs: &theirs.position,
        is_delivered: &is_delivered,
    };
    for (key, pair) in union {
        match pair {
            (Some(mine), Some(theirs)) => sides.both(key, mine, theirs, &mut found),
            (Some(mine), None) => sides.only_mine(key, mine, &mut found),
            (None, Some(theirs)) => sides.only_theirs(key, theirs, &mut found),
            (None, None) => {}
        }
    }
    found
}

/// The positions of the two sides, by which what one of them lacks is judged.
struct Sides<'a> {
    mode: Mode,
    mine: &'a Position,
    theirs: &'a Position,
    is_delivered: &'a dyn Fn(Dot) -> bool,
}

impl Sides<'_> {
    /// Whether a log will bring some of a row to whoever has this position.
    fn is_in_flight(&self, position: &Position, row: &Summary) -> bool {
        self.mode == Mode::Routine
            && row
                .dots()
                .any(|dot| !position.covers(dot) && (self.is_delivered)(dot))
    }

    fn pull(&self, key: &RowKey, mine: Option<&Summary>, theirs: &Summary) -> Pull {
        Pull::new(key, mine, theirs, self.theirs)
    }

    fn both(&self, key: &RowKey, mine: &Summary, theirs: &Summary, found: &mut Difference) {
        let is_here = !self.is_in_flight(self.mine, theirs);
        let is_there = !self.is_in_flight(self.theirs, mine);
        let is_routine = self.mode == Mode::Routine;
        if mine.is_register && theirs.is_register {
            // Of one change, a value that has expired on one side goes on the other by the cut of expiry.
            let is_newer = mine.is_newer_than(theirs);
            if theirs.is_newer_than(mine) && is_here {
                found.pull.push(self.pull(key, Some(mine), theirs));
            } else if is_newer && is_there && is_routine {
                found.push.push(key.clone());
            }
        } else if mine.state != theirs.state && is_here && is_there {
            // Each may have what the other lacks.
            found.pull.push(self.pull(key, Some(mine), theirs));
            if is_routine {
                found.push.push(key.clone());
            }
        }
    }

    fn only_mine(&self, key: &RowKey, mine: &Summary, found: &mut Difference) {
        if mine.dots().all(|dot| self.theirs.covers(dot)) {
            if !mine.is_tombstone {
                found.forget.push((key.clone(), mine.state));
            }
            return;
        }
        let is_idle = self.mode == Mode::Refill || mine.is_tombstone;
        if !is_idle && !self.is_in_flight(self.theirs, mine) {
            found.push.push(key.clone());
        }
    }

    /// A tombstone that we lack and need not fill up with is on its way, or was collected here.
    fn only_theirs(&self, key: &RowKey, theirs: &Summary, found: &mut Difference) {
        let is_idle = self.mode == Mode::Routine && theirs.is_tombstone;
        let is_known = theirs.dots().all(|dot| self.mine.covers(dot));
        if !is_idle && !is_known && !self.is_in_flight(self.mine, theirs) {
            found.pull.push(self.pull(key, None, theirs));
        }
    }
}

/// Of tombstones that a peer has, and the states here of the same rows, those to take: unknown here, or newer
/// there. Digests do not count tombstones, so that nothing else shows them. `base` is a position of the peer, not newer
/// than its list.
pub(super) fn wanted_graves(
    position: &Position,
    base: &Position,
    theirs: &[(RowKey, Summary)],
    mine: &[Option<Summary>],
) -> Vec<Pull> {
    let is_wanted = |theirs: &Summary, mine: &Option<Summary>| match mine {
        None => !theirs.dots().all(|dot| position.covers(dot)),
        Some(mine) if mine.is_register && theirs.is_register => theirs.is_newer_than(mine),
        Some(mine) => mine.state != theirs.state,
    };
    let pairs = theirs.iter().zip(mine);
    pairs
        .filter(|((_, theirs), mine)| is_wanted(theirs, mine))
        .map(|((key, theirs), mine)| Pull::new(key, mine.as_ref(), theirs, base))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Actor, Incarnation, KeyspaceId, NodeId, Reach, Timestamp};
    use bytes::Bytes;

    const A: Actor = Actor {
        node: NodeId(1),
        incarnation: Incarnation(1),
    };

    fn key(name: &'static str) -> RowKey {
        RowKey::plain(KeyspaceId(1), Bytes::from_static(name.as_bytes()))
    }

    fn row(name: &'static str, n: u64) -> (RowKey, Summary) {
        let timestamp = Timestamp {
            micros: n,
            logical: 0,
        };
        (
            key(name),
            Summary {
                timestamp,
                dot: Dot { actor: A, n },
                is_tombstone: false,
                is_register: true,
                state: n,
                others: Box::default(),
            },
        )
    }

    fn listing(n: u64, mut rows: Vec<(RowKey, Summary)>) -> Listing {
        rows.sort_by(|a, b| a.0.cmp(&b.0));
        let position = Position {
            reaches: [(A, Reach::upto(n))].into_iter().collect(),
            ..Position::default()
        };
        Listing {
            position,
            rows,
            next: None,
        }
    }

    fn routine(mine: &Listing, theirs: &Listing) -> Difference {
        compare(Mode::Routine, mine, theirs, |dot| {
            dot.n
                <= mine
                    .position
                    .reach(A)
                    .complete
                    .max(theirs.position.reach(A).complete)
        })
    }

    fn taken(found: &Difference) -> Vec<RowKey> {
        found.pull.iter().map(|pull| pull.key.clone()).collect()
    }

    #[test]
    fn what_the_log_will_bring_is_no_divergence() {
        let mine = listing(5, vec![row("a", 5)]);
        let theirs = listing(9, vec![row("a", 9), row("b", 7)]);
        assert_eq!(routine(&mine, &theirs), Difference::default());
        assert_eq!(routine(&theirs, &mine), Difference::default());
    }

    #[test]
    fn what_no_log_will_bring_is_taken_and_given() {
        let mine = listing(9, vec![row("a", 5), row("c", 4)]);
        let theirs = listing(9, vec![row("a", 9)]);
        let found = routine(&mine, &theirs);
        assert_eq!(taken(&found), vec![key("a")]);
        assert_eq!(
            found.forget.len(),
            1,
            "they cover c's dot and lack it: it was deleted there"
        );
        let found = routine(&theirs, &mine);
        assert_eq!(found.push, vec![key("a")]);
        assert_eq!(found.pull, vec![], "c was collected here");
        let unlogged = listing(2, vec![row("d", 8)]);
        assert_eq!(routine(&unlogged, &listing(2, vec![])).push, vec![key("d")]);
    }

    #[test]
    fn a_refill_takes_all_that_is_newer_and_gives_nothing() {
        let mine = listing(2, vec![row("a", 2), row("z", 1)]);
        let theirs = listing(9, vec![row("a", 9), row("b", 7)]);
        let found = compare(Mode::Refill, &mine, &theirs, |_| true);
        let mut pull = vec![key("a"), key("b")];
        pull.sort();
        assert_eq!((taken(&found), found.push), (pull, vec![]));
        assert_eq!(found.forget.len(), 1);
    }

    #[test]
    fn nothing_is_concluded_beyond_the_end_of_the_shorter_page() {
        let mut mine = listing(9, vec![row("a", 1), row("b", 2), row("c", 3)]);
        let mut theirs = mine.clone();
        theirs.rows.truncate(1);
        theirs.next = theirs.rows.last().map(|(key, _)| key.clone());
        let found = routine(&mine, &theirs);
        assert_eq!(found.forget, vec![]);
        assert_eq!(found.next, theirs.rows.last().map(|(key, _)| key.clone()));
        mine.next = mine.rows.last().map(|(key, _)| key.clone());
        assert_eq!(routine(&mine, &theirs).forget, vec![]);
    }

    /// A row of siblings, with these dots.
    fn siblings(name: &'static str, dots: &[u64]) -> (RowKey, Summary) {
        let last = dots.last().copied().unwrap_or(0);
        let (key, register) = row(name, last);
        let others = dots.iter().take(dots.len().saturating_sub(1));
        let summary = Summary {
            is_register: false,
            state: dots.iter().fold(7, |state, n| state * 31 + n),
            others: others.map(|n| Dot { actor: A, n: *n }).collect(),
            ..register
        };
        (key, summary)
    }

    #[test]
    fn siblings_that_differ_are_merged_both_ways() {
        let mine = listing(9, vec![siblings("a", &[3, 5]), siblings("b", &[4])]);
        let theirs = listing(9, vec![siblings("a", &[5]), siblings("b", &[4])]);
        let found = routine(&mine, &theirs);
        assert_eq!(
            (taken(&found), found.push),
            (vec![key("a")], vec![key("a")])
        );
        let found = compare(Mode::Refill, &mine, &theirs, |_| true);
        assert_eq!((taken(&found), found.push), (vec![key("a")], vec![]));
    }

    #[test]
    fn siblings_that_the_other_side_has_seen_go_are_named_with_what_is_taken() {
        let mine = listing(3, vec![siblings("a", &[1, 3])]);
        let theirs = listing(9, vec![siblings("a", &[3, 9])]);
        for mode in [Mode::Refill, Mode::Routine] {
            let found = compare(mode, &mine, &theirs, |_| false);
            let gone = Box::from([Dot { actor: A, n: 1 }]);
            assert_eq!(
                found.pull,
                vec![Pull {
                    key: key("a"),
                    gone
                }]
            );
        }
        let behind = listing(0, vec![siblings("a", &[9])]);
        let found = compare(Mode::Refill, &mine, &behind, |_| false);
        assert_eq!(found.pull[0].gone.len(), 0, "it has not seen them");
    }

    #[test]
    fn siblings_of_which_one_is_on_its_way_are_left_alone() {
        let mine = listing(4, vec![siblings("a", &[3])]);
        let theirs = listing(9, vec![siblings("a", &[3, 5]), siblings("b", &[2, 8])]);
        assert_eq!(routine(&mine, &theirs), Difference::default());
        assert_eq!(routine(&theirs, &mine), Difference::default());
    }

    #[test]
    fn siblings_are_forgotten_only_if_all_of_them_were_seen_to_go() {
        let mine = listing(9, vec![siblings("a", &[3, 5])]);
        assert_eq!(routine(&mine, &listing(9, vec![])).forget.len(), 1);
        let unlogged = listing(2, vec![siblings("a", &[1, 8])]);
        let found = routine(&unlogged, &listing(2, vec![]));
        assert_eq!((found.forget.len(), found.push), (0, vec![key("a")]));
        let found = routine(&listing(2, vec![]), &unlogged);
        assert_eq!(taken(&found), vec![key("a")]);
    }

    #[test]
    fn one_change_that_has_expired_on_one_side_is_no_difference() {
        let mine = listing(9, vec![row("a", 5)]);
        let mut theirs = mine.clone();
        theirs.rows[0].1.is_tombstone = true;
        theirs.rows[0].1.state = 99;
        assert_eq!(routine(&mine, &theirs), Difference::default());
    }

    #[test]
    fn tombstones_are_taken_if_they_are_unknown_or_newer() {
        let mine = listing(5, vec![]).position;
        let graves = [
            row("known", 4),
            row("unknown", 6),
            row("newer", 6),
            row("older", 2),
        ];
        let here = [None, None, Some(row("newer", 3).1), Some(row("older", 3).1)];
        let wanted = wanted_graves(&mine, &mine, &graves, &here);
        let wanted: Vec<RowKey> = wanted.into_iter().map(|pull| pull.key).collect();
        assert_eq!(wanted, vec![key("unknown"), key("newer")]);
    }
}
