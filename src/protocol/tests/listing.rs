//! Listings that look at many rows and find few: they end all the same, and can be gone on with.

use bytes::Bytes;

use crate::model::{Answer, Gate, KeyspaceId, Level, Query, Row, RowKey, Ticket, Wanted};
use crate::protocol::{Input, Message, Operation, Outcome, Request, RequestId, Unavailable};

use super::bench::{Bench, MILLISECOND, register};

/// Rows that the store looks at for one answer.
const LOOKS: usize = 10;
/// Scans that a listing which finds nothing may take, at most.
const SCANS: usize = 16;
/// How long a client of the bench waits.
const DEADLINE: u64 = 10_000 * MILLISECOND;

/// Rows in the order of the store, every so many of which is one that the listing wants.
struct Rows {
    names: Vec<RowKey>,
    every: usize,
}

impl Rows {
    fn new(count: usize, every: usize) -> Self {
        let keyspace = KeyspaceId::of("lww");
        let name = |n| RowKey::plain(keyspace, Bytes::from(format!("{n}")));
        let mut names: Vec<RowKey> = (0..count).map(name).collect();
        names.sort_unstable();
        Self { names, every }
    }

    fn wanted(&self) -> Vec<RowKey> {
        let after = self.names.iter().skip(self.every - 1);
        after.step_by(self.every).cloned().collect()
    }

    /// What the store answers to one scan.
    fn scan(&self, row: &Row, after: Option<&RowKey>) -> Answer {
        let from = self.names.partition_point(|name| Some(name) <= after);
        let to = (from + LOOKS).min(self.names.len());
        let found = (from..to).filter(|n| (n + 1) % self.every == 0);
        Answer::Scan {
            rows: found
                .map(|n| (self.names[n].clone(), row.clone()))
                .collect(),
            next: (to < self.names.len()).then(|| self.names[to - 1].clone()),
        }
    }
}

fn operation(index: u16, after: Option<RowKey>) -> Operation {
    Operation::List {
        keyspace: KeyspaceId::of("lww"),
        wanted: Wanted::Values,
        index,
        after,
        rows_max: 1000,
        bytes_max: 1 << 20,
    }
}

/// The scan that the store is asked for, if it is asked.
fn scan(bench: &mut Bench) -> Option<(Ticket, Option<RowKey>)> {
    let (ticket, query) = bench.query()?;
    let Query::Scan { after, .. } = query else {
        panic!("not a scan: {query:?}")
    };
    Some((ticket, after))
}

/// Lets the store answer one scan; tells whether it was asked.
fn answer_one(bench: &mut Bench, rows: &Rows) -> bool {
    let Some((ticket, after)) = scan(bench) else {
        return false;
    };
    let row = register(bench.me, 1, b"v");
    let answer = rows.scan(&row, after.as_ref());
    bench.step(Input::Answered { ticket, answer });
    true
}

/// A page, for which the store answers as often as it is asked; and how often that is.
fn page(bench: &mut Bench, rows: &Rows, id: RequestId) -> (usize, Outcome) {
    let scans = (0..1000).take_while(|_| answer_one(bench, rows)).count();
    let outcome = bench.reply(id).expect("a page");
    (scans, outcome)
}

/// Takes a page apart: the names on it, and where it goes on.
fn opened(outcome: Outcome) -> (Vec<RowKey>, Option<(u16, Option<RowKey>)>) {
    let Outcome::Page { rows, next } = outcome else {
        panic!("not a page: {outcome:?}")
    };
    (rows.into_iter().map(|(name, _)| name).collect(), next)
}

#[test]
fn a_listing_that_finds_nothing_says_after_some_scans_where_to_go_on() {
    let mut bench = Bench::new(0);
    let rows = Rows::new(100 * LOOKS, usize::MAX);
    let id = bench.ask_for(operation(0, None));
    let (scans, outcome) = page(&mut bench, &rows, id);
    let last = rows.names[SCANS * LOOKS - 1].clone();
    assert_eq!(opened(outcome), (Vec::new(), Some((0, Some(last)))));
    assert_eq!(scans, SCANS);
    assert!(bench.is_idle());
}

#[test]
fn pages_that_find_little_lead_through_every_row_once() {
    let mut bench = Bench::new(0);
    let rows = Rows::new(5 * SCANS * LOOKS + 7, 3 * SCANS * LOOKS / 2);
    let (mut found, mut pages) = (Vec::new(), 0);
    let mut next = Some((0, None));
    while let Some((index, after)) = next {
        let id = bench.ask_for(operation(index, after));
        let (scans, outcome) = page(&mut bench, &rows, id);
        assert!((1..=SCANS).contains(&scans), "{scans}");
        let (names, onward) = opened(outcome);
        found.extend(names);
        next = onward;
        pages += 1;
    }
    assert_eq!((found, pages), (rows.wanted(), 6));
    assert!(bench.is_idle());
}

#[test]
fn a_listing_begins_no_scan_when_half_of_its_time_is_over() {
    let mut bench = Bench::new(0);
    let rows = Rows::new(100 * LOOKS, LOOKS);
    let id = bench.ask_for(operation(0, None));
    assert!(answer_one(&mut bench, &rows));
    assert_eq!(bench.reply(id), None);
    bench.pass(DEADLINE / 2);
    assert!(answer_one(&mut bench, &rows));
    assert_eq!(scan(&mut bench), None);
    let (names, next) = opened(bench.reply(id).expect("a page"));
    assert_eq!(names, rows.wanted()[..2]);
    assert_eq!(next, Some((0, Some(rows.names[2 * LOOKS - 1].clone()))));
    assert!(bench.is_idle());
}

#[test]
fn at_its_deadline_a_listing_tells_what_it_has_and_is_gone() {
    let mut bench = Bench::new(0);
    let rows = Rows::new(100 * LOOKS, LOOKS);
    let id = bench.ask_for(operation(0, None));
    assert!(answer_one(&mut bench, &rows));
    let (ticket, after) = scan(&mut bench).expect("a scan");
    bench.pass(DEADLINE - 1);
    assert_eq!(bench.reply(id), None);
    bench.pass(1);
    let (names, next) = opened(bench.reply(id).expect("a page"));
    assert_eq!(names, rows.wanted()[..1]);
    assert_eq!(next, Some((0, after.clone())));
    assert!(bench.is_idle());
    // The store is late: nobody waits for it any more.
    let answer = rows.scan(&register(bench.me, 1, b"v"), after.as_ref());
    bench.step(Input::Answered { ticket, answer });
    assert_eq!((bench.reply(id), scan(&mut bench)), (None, None));
    assert!(bench.is_idle());
}

#[test]
fn a_listing_that_the_store_never_answered_fails_at_its_deadline() {
    let mut bench = Bench::new(0);
    let id = bench.ask_for(operation(0, None));
    assert!(scan(&mut bench).is_some());
    bench.pass(DEADLINE);
    let outcome = Outcome::Unavailable(Unavailable::Deadline);
    assert_eq!(bench.reply(id), Some(outcome));
    assert!(bench.is_idle());
}

#[test]
fn what_was_found_before_the_store_failed_is_told() {
    let mut bench = Bench::new(0);
    let rows = Rows::new(100 * LOOKS, LOOKS);
    let id = bench.ask_for(operation(0, None));
    assert!(answer_one(&mut bench, &rows));
    let (ticket, after) = scan(&mut bench).expect("a scan");
    let answer = || Answer::Unreadable { reason: "damaged" };
    bench.step(Input::Answered {
        ticket,
        answer: answer(),
    });
    let (names, next) = opened(bench.reply(id).expect("a page"));
    assert_eq!(
        (names, next),
        (rows.wanted()[..1].to_vec(), Some((0, after.clone())))
    );
    // The next page meets the trouble first.
    let id = bench.ask_for(operation(0, after));
    let (ticket, _) = scan(&mut bench).expect("a scan");
    bench.step(Input::Answered {
        ticket,
        answer: answer(),
    });
    let outcome = Outcome::Unavailable(Unavailable::Replicas);
    assert_eq!(bench.reply(id), Some(outcome));
    assert!(bench.is_idle());
}

#[test]
fn a_listing_of_a_peer_that_is_lost_does_not_stay() {
    let mut bench = Bench::new(0);
    let near = bench.line("a")[1];
    let request = Request {
        operation: operation(0, None),
        level: Some(Level::One),
        gate: Gate::default(),
    };
    bench.hear(
        near,
        Message::Forward {
            id: 1,
            request,
            micros_left: DEADLINE,
        },
    );
    assert!(scan(&mut bench).is_some());
    bench.step(Input::Disconnected { peer: near });
    bench.step(Input::Stopping);
    bench.pass(DEADLINE);
    assert!(bench.is_idle());
}
