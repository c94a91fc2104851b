//! Reads of registers whose last writer wins.

use std::collections::BTreeMap;

use crate::model::{Answer, Change, Effect, NodeId, Query, Row, RowKey, Ticket};
use crate::protocol::{Input, Message, Operation, Outcome, RequestId};

use super::bench::{Bench, at, key, version};

/// A read that finds a delete here and nothing at the peer, which is then asked for its position; gives what was
/// asked, and of whom.
fn doubt(bench: &mut Bench, rows: &[(RowKey, Row)]) -> (RequestId, u64) {
    let near = bench.line("a")[1];
    let id = bench.ask_for(Operation::Get { key: key("lww") });
    let messages = bench.messages();
    let [(to, Message::Read { id: asked, .. })] = messages[..] else {
        panic!("not a read: {messages:?}")
    };
    assert_eq!(to, near);
    let (ticket, query): (Ticket, Query) = bench.query().expect("a query");
    assert_eq!(query, Query::Rows(vec![key("lww")]));
    let own = rows.first().map(|(_, row)| row.clone());
    let answer = Answer::Rows(vec![own]);
    bench.step(Input::Answered { ticket, answer });
    let summaries = vec![None];
    bench.hear(
        near,
        Message::Summaries {
            id: asked,
            summaries,
        },
    );
    let messages = bench.messages();
    let [(to, Message::Select { id: asked, .. })] = messages[..] else {
        panic!("not a selection: {messages:?}")
    };
    assert_eq!(to, near);
    (id, asked)
}

fn nothing(id: u64, position: crate::model::Position) -> Message {
    Message::Selected {
        id,
        position,
        state: super::super::sides::Side::default().state(&BTreeMap::new()),
        collected: BTreeMap::new(),
        rows: Vec::new(),
        next: None,
    }
}

fn delete(bench: &Bench) -> Vec<(RowKey, Row)> {
    let mut delete = version(bench.me, 1, b"");
    delete.value = None;
    vec![(key("lww"), Row::Register(delete))]
}

#[test]
fn a_delete_is_not_sent_to_who_has_collected_it() {
    let mut bench = Bench::new(0);
    let (me, near) = (bench.me, bench.line("a")[1]);
    let rows = delete(&bench);
    let (id, asked) = doubt(&mut bench, &rows);
    bench.select(at(&[(me, 1)]), &rows);
    bench.hear(near, nothing(asked, at(&[(me, 1)])));
    // Once for the hash, once for the rows.
    assert_eq!(bench.messages().len(), 1);
    bench.hear(near, nothing(asked, at(&[(me, 1)])));
    assert_eq!(bench.messages(), Vec::new());
    assert_eq!(bench.reply(id), Some(Outcome::Read(None)));
}

#[test]
fn a_delete_is_sent_to_who_has_not_met_it() {
    let mut bench = Bench::new(0);
    let (me, near) = (bench.me, bench.line("a")[1]);
    let rows = delete(&bench);
    let (id, asked) = doubt(&mut bench, &rows);
    bench.select(at(&[(me, 1)]), &rows);
    bench.hear(near, nothing(asked, at(&[])));
    assert_eq!(bench.messages().len(), 1);
    bench.hear(near, nothing(asked, at(&[])));
    let messages = bench.messages();
    assert!(
        matches!(&messages[..], [(to, Message::Repair { rows: sent, .. })] if *to == near && *sent == rows),
        "{messages:?}"
    );
    assert_eq!(bench.reply(id), None);
    let held = Some(rows[0].1.summary());
    bench.hear(near, Message::Repaired { id: asked, held });
    assert_eq!(
        bench.reply(id),
        Some(Outcome::Read(Some(rows[0].1.clone())))
    );
}

/// So is a delete that something newer has replaced meanwhile.
#[test]
fn a_delete_that_was_hidden_while_it_was_brought_is_not_shown() {
    let mut bench = Bench::new(0);
    let (me, near) = (bench.me, bench.line("a")[1]);
    let rows = delete(&bench);
    let (id, asked) = doubt(&mut bench, &rows);
    bench.select(at(&[(me, 1)]), &rows);
    bench.hear(near, nothing(asked, at(&[])));
    bench.hear(near, nothing(asked, at(&[])));
    bench.messages();
    let held = Some(Row::Register(version(near, 9, b"v")).summary());
    bench.hear(near, Message::Repaired { id: asked, held });
    assert_eq!(bench.reply(id), None);
    let messages = bench.messages();
    let [(to, Message::Select { id: again, .. })] = messages[..] else {
        panic!("not asked anew: {messages:?}")
    };
    assert_eq!(to, near);
    assert_ne!(again, asked, "what answers the first does not count");
}

/// A read that finds this node behind a neighbour, and is about to bring it what that one has; gives what was asked,
/// and this node's own repair.
fn behind(bench: &mut Bench, mine: &Row, theirs: &Row) -> (RequestId, u64, Ticket) {
    let near = bench.line("a")[1];
    let id = bench.ask_for(Operation::Get { key: key("lww") });
    let asked = tell(bench, near, mine, theirs);
    let messages = bench.messages();
    assert!(
        matches!(messages[..], [(to, Message::Read { whole: true, .. })] if to == near),
        "{messages:?}"
    );
    let rows = vec![Some(theirs.clone())];
    bench.hear(near, Message::Rows { id: asked, rows });
    let (ticket, change) = bench.change().expect("a repair here");
    assert!(matches!(change, Change::Repair { row, .. } if row == *theirs));
    (id, asked, ticket)
}

/// Tells a read what is here, and what a neighbour has.
fn tell(bench: &mut Bench, near: NodeId, mine: &Row, theirs: &Row) -> u64 {
    let messages = bench.messages();
    let [
        (
            to,
            Message::Read {
                id, whole: false, ..
            },
        ),
    ] = messages[..]
    else {
        panic!("not a read: {messages:?}")
    };
    assert_eq!(to, near);
    let (ticket, _) = bench.query().expect("a query");
    let answer = Answer::Rows(vec![Some(mine.clone())]);
    bench.step(Input::Answered { ticket, answer });
    let summaries = vec![Some(theirs.summary())];
    bench.hear(near, Message::Summaries { id, summaries });
    id
}

/// What is repaired may never have been the newest where something newer came meanwhile: its writer may take it back,
/// so nobody is shown it.
#[test]
fn what_was_hidden_while_it_was_brought_is_not_shown() {
    let mut bench = Bench::new(0);
    let (me, near) = (bench.me, bench.line("a")[1]);
    let row = |node, n| Row::Register(version(node, n, b"v"));
    let (old, read, newer) = (row(me, 1), row(near, 2), row(me, 3));
    let (id, _, ticket) = behind(&mut bench, &old, &read);
    let repaired = Effect::Repaired {
        summary: Some(newer.summary()),
        written: Vec::new(),
        lost: BTreeMap::new(),
    };
    bench.stage(ticket, repaired);
    bench.sync(ticket);
    assert_eq!(bench.reply(id), None);
    // All are asked anew; now they agree.
    tell(&mut bench, near, &newer, &newer);
    assert_eq!(bench.reply(id), Some(Outcome::Read(Some(newer))));
}

#[test]
fn what_a_repair_of_before_says_does_not_count() {
    let mut bench = Bench::new(0);
    let (me, near) = (bench.me, bench.line("a")[1]);
    let row = |node, n| Row::Register(version(node, n, b"v"));
    let (old, read) = (row(me, 1), row(near, 2));
    let (id, asked, ticket) = behind(&mut bench, &old, &read);
    let held = Some(old.summary());
    bench.hear(near, Message::Repaired { id: asked, held });
    assert_eq!(bench.reply(id), None);
    let repaired = Effect::Repaired {
        summary: Some(read.summary()),
        written: Vec::new(),
        lost: BTreeMap::new(),
    };
    bench.stage(ticket, repaired);
    bench.sync(ticket);
    assert_eq!(bench.reply(id), Some(Outcome::Read(Some(read))));
}
