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
    /// Whether there are more.
    pub(super) more: bool,
}

/// What a comparison found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Difference {
    /// Rows to take from the other side.
    pub(super) pull: Vec<RowKey>,
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
    let end = |listing: &Listing| {
        listing
            .rows
            .last()
            .filter(|_| listing.more)
            .map(|(key, _)| key.clone())
    };
    let bound = match (end(mine), end(theirs)) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
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
    let is_in_flight = |position: &Position, dot: Dot| {
        mode == Mode::Routine && !position.covers(dot) && is_delivered(dot)
    };
    for (key, pair) in union {
        match pair {
            (Some(mine), Some(theirs)) if mine.dot == theirs.dot => {}
            (Some(own), Some(other)) if own.is_newer_than(other) => {
                if mode == Mode::Routine && !is_in_flight(&theirs.position, own.dot) {
                    found.push.push(key.clone());
                }
            }
            (Some(_), Some(other)) => {
                if !is_in_flight(&mine.position, other.dot) {
                    found.pull.push(key.clone());
                }
            }
            // A tombstone that we lack and need not fill up with is on its way, or was collected here.
            (None, Some(other)) => {
                let is_idle = mode == Mode::Routine && other.is_tombstone;
                if !is_idle
                    && !mine.position.covers(other.dot)
                    && !is_in_flight(&mine.position, other.dot)
                {
                    found.pull.push(key.clone());
                }
            }
            (Some(own), None) if theirs.position.covers(own.dot) => {
                if !own.is_tombstone {
                    found.forget.push((key.clone(), own.state));
                }
            }
            (Some(own), None) => {
                let is_idle = mode == Mode::Refill || own.is_tombstone;
                if !is_idle && !is_in_flight(&theirs.position, own.dot) {
                    found.push.push(key.clone());
                }
            }
            (None, None) => {}
        }
    }
    found
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
            more: false,
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
        assert_eq!(found.pull, vec![key("a")]);
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
        assert_eq!((found.pull, found.push), (pull, vec![]));
        assert_eq!(found.forget.len(), 1);
    }

    #[test]
    fn nothing_is_concluded_beyond_the_end_of_the_shorter_page() {
        let mut mine = listing(9, vec![row("a", 1), row("b", 2), row("c", 3)]);
        let mut theirs = mine.clone();
        theirs.rows.truncate(1);
        theirs.more = true;
        let found = routine(&mine, &theirs);
        assert_eq!(found.forget, vec![]);
        assert_eq!(found.next, theirs.rows.last().map(|(key, _)| key.clone()));
        mine.more = true;
        assert_eq!(routine(&mine, &theirs).forget, vec![]);
    }
}
