//! Logs that are sent to peers.

use bytes::Bytes;

use crate::model::{Answer, Effect, LogItem, LogPage, Query, Write, WriteOp};
use crate::protocol::{Append, Input, Message, Operation, Output, Want};

use super::bench::{Bench, actor, key, register};

/// The pieces of log that were sent since it was asked last.
fn appends(bench: &mut Bench) -> Vec<Append> {
    let outputs = std::mem::take(&mut bench.outputs);
    let append = |output| match output {
        Output::Send {
            message: Message::Append(append),
            ..
        } => Some(append),
        Output::Send { .. }
        | Output::Change { .. }
        | Output::Query { .. }
        | Output::Reply { .. }
        | Output::Report(_) => None,
    };
    outputs.into_iter().filter_map(append).collect()
}

/// A page that was read before the receiver went back does not say what comes after the number it went back to.
#[test]
fn a_page_of_log_is_sent_only_to_where_it_was_asked_for() {
    let mut bench = Bench::new(0);
    let (me, near) = (bench.me, bench.line("a")[1]);
    let partition = bench.partition("lww");
    let item = |n| LogItem {
        n,
        key: key("lww"),
        row: register(me, n, b"v"),
    };
    let op = WriteOp::Put(Bytes::from_static(b"v"));
    bench.ask_for(Operation::Write(Box::new(Write::new(key("lww"), op))));
    let (ticket, _) = bench.change().unwrap();
    let items = vec![item(15)];
    bench.stage(ticket, Effect::Written { partition, items });
    bench.sync(ticket);
    let mut want = |n, rewind| {
        let want = Want {
            partition,
            actor: actor(me),
            applied: n,
            complete: n,
            rewind,
        };
        bench.hear(near, Message::Wants(vec![want]));
        bench.tick();
        let (ticket, query) = bench.query().expect("a page is read");
        assert!(matches!(query, Query::Log(query) if query.after == n));
        ticket
    };
    let late = want(13, false);
    let asked = want(9, true);
    let page = |items| {
        Answer::Log(LogPage {
            to: 15,
            complete: true,
            trimmed: 0,
            items,
        })
    };
    let answer = page(vec![item(15)]);
    bench.step(Input::Answered {
        ticket: late,
        answer,
    });
    bench.tick();
    assert_eq!(appends(&mut bench), []);
    let answer = page(vec![item(10), item(15)]);
    bench.step(Input::Answered {
        ticket: asked,
        answer,
    });
    let sent = appends(&mut bench);
    let [append] = &sent[..] else {
        panic!("not one piece: {sent:?}")
    };
    assert_eq!((append.from, append.to, append.items.len()), (9, 15, 2));
}
