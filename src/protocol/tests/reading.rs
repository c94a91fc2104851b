//! Reads of registers whose last writer wins.

use crate::model::{Answer, Query, Row, RowKey, Ticket};
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
        state: super::super::sides::state(std::iter::empty()),
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
    let is_kept = true;
    bench.hear(near, Message::Repaired { id: asked, is_kept });
    assert_eq!(
        bench.reply(id),
        Some(Outcome::Read(Some(rows[0].1.clone())))
    );
}
