//! Reads that wait for what their client has seen, writes above it, and waits for regions.

use crate::model::{
    Answer, Behind, Denial, Effect, Gate, Level, LogItem, NodeId, Session, Timestamp, Wall, Write,
    WriteOp,
};
use crate::protocol::{Input, Message, Operation, Outcome, Request, Want};
use bytes::Bytes;

use super::bench::{Bench, MILLISECOND, START, actor, key, region, register};

/// A session that has seen a change of a node at a time after the start.
fn session(name: &str, node: NodeId, micros: u64) -> Session {
    let mut session = Session::default();
    let timestamp = Timestamp {
        micros: START + micros,
        logical: 0,
    };
    session.observe(region(name), node, timestamp);
    session
}

fn get(session: Session, behind: Behind, wait_micros: u64) -> Request {
    Request {
        operation: Operation::Get { key: key("lww") },
        level: None,
        gate: Gate {
            session,
            fresh_as_of: None,
            behind,
            wait_micros,
        },
    }
}

#[test]
fn a_read_waits_for_the_mark_of_the_node_that_was_seen() {
    let mut bench = Bench::new(0);
    let far = bench.line("b")[1];
    bench.ask(get(
        session("b", far, 500),
        Behind::Refuse,
        50 * MILLISECOND,
    ));
    assert!(bench.query().is_none());
    bench.beat(far, &[], &[(0, START + 499)]);
    bench.tick();
    assert!(bench.query().is_none());
    bench.beat(far, &[], &[(0, START + 500)]);
    bench.tick();
    assert!(bench.query().is_some());
}

#[test]
fn a_mark_counts_when_the_log_it_speaks_of_is_here() {
    let mut bench = Bench::new(0);
    let far = bench.line("b")[1];
    bench.beat(far, &[(far, 3)], &[(3, START + 500)]);
    let id = bench.ask(get(session("b", far, 500), Behind::Refuse, 0));
    assert_eq!(bench.reply(id), Some(Outcome::NotYet));
}

#[test]
fn what_does_not_come_in_time_is_asked_of_the_region_that_has_it_and_only_once() {
    let mut bench = Bench::new(0);
    let line = bench.line("b");
    let seen = session("b", line[0], 500);
    let id = bench.ask(get(seen, Behind::Forward, MILLISECOND));
    assert_eq!(bench.messages(), vec![]);
    bench.pass(MILLISECOND);
    let (to, message) = bench.messages().remove(0);
    assert_eq!(to, line[0]);
    let Message::Forward {
        id: passed,
        request,
        ..
    } = message
    else {
        panic!("not passed on: {message:?}")
    };
    // What was passed on is not passed on again, and does not wait.
    assert_eq!(request.gate.behind, Behind::Refuse);
    assert_eq!(request.gate.wait_micros, 0);
    let outcome = Outcome::NotYet;
    bench.hear(
        to,
        Message::Forwarded {
            id: passed,
            outcome,
        },
    );
    assert_eq!(bench.reply(id), Some(Outcome::NotYet));
}

/// The region that has it was cut off a moment ago, and is not known to be down.
#[test]
fn what_the_region_that_has_it_does_not_answer_is_not_here_yet() {
    let mut bench = Bench::new(0);
    let seen = session("b", bench.line("b")[0], 500);
    let id = bench.ask(get(seen, Behind::Forward, MILLISECOND));
    bench.pass(MILLISECOND);
    assert!(matches!(bench.messages()[0].1, Message::Forward { .. }));
    bench.pass(60_000 * MILLISECOND);
    assert_eq!(bench.reply(id), Some(Outcome::NotYet));
}

/// A region is cut off, and all who have seen something of it wait: others are not refused for it.
#[test]
fn those_that_wait_take_half_of_the_places_at_most() {
    let mut bench = Bench::new(0);
    let far = bench.line("b")[0];
    let most = crate::model::Limits::default().requests_max / 2;
    let waiting = get(session("b", far, 500), Behind::Refuse, 50 * MILLISECOND);
    for _ in 0..most {
        let id = bench.ask(waiting.clone());
        assert_eq!(bench.reply(id), None);
    }
    let id = bench.ask(waiting);
    assert_eq!(bench.reply(id), Some(Outcome::NotYet));
    bench.ask(get(Session::default(), Behind::Refuse, 0));
    assert!(bench.query().is_some());
}

#[test]
fn own_region_is_looked_at_only_by_reads_of_one_replica() {
    let mut bench = Bench::new(0);
    let near = bench.line("a")[1];
    let mut request = get(session("a", near, 500), Behind::Forward, 0);
    bench.ask(request.clone());
    assert!(bench.query().is_some());
    request.level = Some(Level::One);
    let id = bench.ask(request);
    assert_eq!(bench.reply(id), Some(Outcome::NotYet));
}

/// What one replica shows a session, a later read of a quorum must not lack (simulator, seed 15004435).
#[test]
fn a_session_is_shown_by_one_replica_only_what_a_quorum_has() {
    for (seen, is_settled) in [(0, true), (1, false)] {
        let mut bench = Bench::new(0);
        let (me, near) = (bench.me, bench.line("a")[1]);
        let token = if seen == 0 {
            Session::default()
        } else {
            session("a", me, seen)
        };
        let mut request = get(token, Behind::Refuse, 0);
        request.level = Some(Level::One);
        let id = bench.ask(request);
        let (ticket, _) = bench.query().expect("a query");
        let row = register(near, 1, b"v");
        let answer = Answer::Rows(vec![Some(row.clone())]);
        bench.step(Input::Answered { ticket, answer });
        let shown = bench.reply(id);
        assert_eq!(shown, is_settled.then_some(Outcome::Read(Some(row))));
        let asked = bench.messages();
        let is_asked = asked
            .iter()
            .any(|(to, message)| *to == near && matches!(message, Message::Read { .. }));
        assert_eq!(is_asked, !is_settled, "{asked:?}");
    }
}

#[test]
fn a_bound_of_staleness_speaks_of_all_regions() {
    let mut bench = Bench::new(0);
    let mut request = get(Session::default(), Behind::Refuse, 0);
    request.gate.fresh_as_of = Some(Wall(START + 100));
    for node in bench.line("b") {
        let id = bench.ask(request.clone());
        assert_eq!(bench.reply(id), Some(Outcome::NotYet));
        bench.beat(node, &[], &[(0, START + 100)]);
    }
    let id = bench.ask(request);
    assert_eq!(bench.reply(id), None);
    assert!(bench.query().is_some());
}

#[test]
fn a_session_from_the_future_writes_nothing() {
    let mut bench = Bench::new(0);
    let far = bench.line("b")[0];
    let operation = Operation::Write(Box::new(Write::new(
        key("lww"),
        WriteOp::Put(Bytes::from_static(b"v")),
    )));
    let mut request = Request::from(operation);
    request.gate.session = session("b", far, 1_000 * MILLISECOND);
    let id = bench.ask(request.clone());
    assert_eq!(bench.reply(id), Some(Outcome::Denied(Denial::Ahead)));
    request.gate.session = session("b", far, 100 * MILLISECOND);
    bench.ask(request);
    let (_, change) = bench.change().unwrap();
    let crate::model::Change::Write(write) = change else {
        panic!("not a write: {change:?}")
    };
    assert_eq!(write.above.micros, START + 100 * MILLISECOND);
    assert_eq!(write.above.logical, u32::MAX);
    assert!(write.after.is_some());
}

#[test]
fn a_mark_vouches_for_no_time_in_which_the_door_may_still_stamp() {
    let mut bench = Bench::new(0);
    let near = bench.line("a")[1];
    let partition = bench.partition("lww");
    let want = Want {
        partition,
        actor: actor(bench.me),
        applied: 0,
        complete: 0,
        rewind: false,
    };
    bench.hear(near, Message::Wants(vec![want]));
    bench.pass(10 * MILLISECOND);
    let given = START + bench.time;
    bench.ask_for(Operation::Write(Box::new(Write::new(
        key("lww"),
        WriteOp::Put(Bytes::from_static(b"v")),
    ))));
    let (ticket, _) = bench.change().unwrap();
    bench.marks_told();
    bench.pass(300 * MILLISECOND);
    assert_eq!(bench.marks_told(), vec![given - 1]);
    let items = vec![LogItem {
        n: 1,
        key: key("lww"),
        row: register(bench.me, 1, b"v"),
    }];
    bench.stage(ticket, Effect::Written { partition, items });
    bench.tick();
    bench.pass(300 * MILLISECOND);
    assert_eq!(bench.marks_told(), vec![START + bench.time - 1]);
}

#[test]
fn a_wait_is_over_when_a_quorum_of_the_region_has_it() {
    let mut bench = Bench::new(0);
    let mut request = Request::from(Operation::Wait {
        regions: vec![region("b")],
    });
    request.gate.session = session("a", bench.me, 500);
    let id = bench.ask(request);
    let asked: Vec<(NodeId, u64)> = bench
        .messages()
        .into_iter()
        .map(|(node, message)| {
            let Message::Await { id, .. } = message else {
                panic!("not a question: {message:?}")
            };
            (node, id)
        })
        .collect();
    assert_eq!(asked.len(), 3);
    for (count, (node, id)) in asked.iter().enumerate().take(2) {
        bench.hear(*node, Message::Awaited { id: *id });
        assert_eq!(bench.outputs.len(), count);
    }
    assert_eq!(bench.reply(id), Some(Outcome::Reached));
}

#[test]
fn a_question_is_answered_when_it_has_come_here_and_asked_again_until_then() {
    let mut bench = Bench::new(0);
    let far = bench.line("b")[0];
    let session = session("b", far, 500);
    let question = Message::Await {
        id: 7,
        session: session.clone(),
        micros_left: 1_000 * MILLISECOND,
    };
    bench.hear(far, question);
    assert_eq!(bench.messages(), vec![]);
    bench.beat(far, &[], &[(0, START + 600)]);
    bench.tick();
    assert_eq!(bench.messages(), vec![(far, Message::Awaited { id: 7 })]);

    let mut request = Request::from(Operation::Wait {
        regions: vec![region("b")],
    });
    request.gate.session = session;
    let id = bench.ask(request);
    assert_eq!(bench.messages().len(), 3);
    bench.pass(1_000 * MILLISECOND);
    assert_eq!(bench.messages().len(), 3);
    bench.pass(9_000 * MILLISECOND);
    assert_eq!(bench.reply(id), Some(Outcome::NotYet));
}
