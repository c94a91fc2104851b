//! Writes that hang on what is there.

use bytes::Bytes;

use crate::model::{
    Change, Collection, Condition, Context, Denial, Effect, LogItem, NodeId, OpId, Place,
    Selection, Write, WriteOp,
};
use crate::protocol::{Ack, Input, Message, Operation, Outcome, Refusal, RequestId};

use super::bench::{Bench, at, key, register};

fn put() -> WriteOp {
    WriteOp::Put(Bytes::from_static(b"v"))
}

fn conditional() -> Write {
    Write {
        condition: Some(Condition::Absent),
        ..Write::new(key("lww"), put())
    }
}

/// Answers all questions about selections with nothing at all, here and at the peers.
fn show_nothing(bench: &mut Bench) -> Vec<Selection> {
    let mut shown = Vec::new();
    loop {
        let asked = bench.messages();
        if asked.is_empty() {
            return shown;
        }
        for (from, message) in asked {
            let Message::Select { id, selection, .. } = message else {
                panic!("not a selection: {message:?}")
            };
            shown.push(selection);
            let told = Message::Selected {
                id,
                position: at(&[(from, 4)]),
                state: super::super::sides::Side::default()
                    .state(&std::collections::BTreeMap::new()),
                collected: std::collections::BTreeMap::new(),
                rows: Vec::new(),
                next: None,
            };
            bench.hear(from, told);
        }
        while bench.outputs.iter().any(is_query) {
            bench.select(at(&[]), &[]);
        }
    }
}

fn is_query(output: &crate::protocol::Output) -> bool {
    matches!(output, crate::protocol::Output::Query { .. })
}

#[test]
fn conditions_are_looked_at_by_the_first_replica_in_line() {
    let mut second = Bench::new(1);
    second.ask_for(Operation::Write(Box::new(conditional())));
    let messages = second.messages();
    let (to, message) = messages.first().unwrap();
    assert_eq!(*to, second.line("a")[0]);
    assert!(matches!(message, Message::Forward { .. }), "{message:?}");

    // What was passed on is done, whoever is first in line.
    let request = Operation::Write(Box::new(conditional())).into();
    let from = second.line("a")[2];
    let micros_left = 1_000_000;
    second.hear(
        from,
        Message::Forward {
            id: 1,
            request,
            micros_left,
        },
    );
    assert!(second.query().is_some());

    let mut first = Bench::new(0);
    first.ask_for(Operation::Write(Box::new(conditional())));
    assert!(first.query().is_some());
}

#[test]
fn a_condition_goes_to_the_door_after_a_quorum_was_read() {
    let mut bench = Bench::new(0);
    let id = bench.ask_for(Operation::Write(Box::new(conditional())));
    assert!(bench.change().is_none());
    assert_eq!(show_nothing(&mut bench).len(), 1);
    let (ticket, change) = bench.change().unwrap();
    let Change::Write(write) = change else {
        panic!("not a write: {change:?}")
    };
    assert_eq!(write.condition, Some(Condition::Absent));
    let denial = Denial::Condition(None);
    bench.stage(ticket, Effect::Denied(denial.clone()));
    assert_eq!(bench.reply(id), Some(Outcome::Denied(denial)));
}

#[test]
fn a_number_that_a_piece_passed_over_is_judged_by_the_one_that_stands_for_it() {
    let mut bench = Bench::new(0);
    let (partition, near, me) = (bench.partition("lww"), bench.line("a")[1], bench.me);
    let ids = [1, 2].map(|n| {
        let id = bench.ask_for(Operation::Write(Box::new(Write::new(key("lww"), put()))));
        let (ticket, _) = bench.change().unwrap();
        let items = vec![LogItem {
            n,
            key: key("lww"),
            row: register(me, n, b"v"),
        }];
        bench.stage(ticket, Effect::Written { partition, items });
        bench.sync(ticket);
        id
    });
    let newer = register(near, 9, b"w").stamp().timestamp;
    let ack = |from: NodeId| Ack {
        partition,
        actor: super::bench::actor(me),
        reached: vec![(from, crate::model::Incarnation(1), 2)],
        from: 0,
        applied: 2,
        newer: vec![(2, newer)],
        stood: Vec::new(),
        crossed: Vec::new(),
        is_serving: true,
    };
    for neighbour in &bench.line("a")[1..] {
        assert!(bench.change().is_none());
        bench.hear(*neighbour, Message::Acks(vec![ack(*neighbour)]));
    }
    assert_eq!(ids.map(|id| bench.reply(id)), [None, None]);
    for _ in ids {
        let (_, change) = bench.change().unwrap();
        assert!(matches!(change, Change::Write(again) if again.above >= newer));
    }
}

/// What hides it has not seen its condition, nor its condition what hides it (adversary: a lock that was won was taken over).
#[test]
fn a_conditional_write_that_is_hidden_is_merged_and_not_stamped_again() {
    let mut bench = Bench::new(0);
    let id = bench.ask_for(Operation::Write(Box::new(conditional())));
    show_nothing(&mut bench);
    let partition = bench.partition("lww");
    let [_, near, third] = bench.line("a")[..] else {
        panic!("not three replicas")
    };
    let me = bench.me;
    let items = vec![LogItem {
        n: 1,
        key: key("lww"),
        row: register(me, 1, b"v"),
    }];
    let (ticket, _) = bench.change().unwrap();
    bench.stage(ticket, Effect::Written { partition, items });
    bench.sync(ticket);
    let newer = register(near, 9, b"w").stamp().timestamp;
    for neighbour in [near, third] {
        // Where it may yet stand, it waits.
        assert_eq!(bench.reply(id), None);
        let ack = Ack {
            partition,
            actor: super::bench::actor(me),
            reached: vec![(neighbour, crate::model::Incarnation(1), 1)],
            from: 0,
            applied: 1,
            newer: vec![(1, newer)],
            stood: Vec::new(),
            crossed: Vec::new(),
            is_serving: true,
        };
        bench.hear(neighbour, Message::Acks(vec![ack]));
    }
    assert!(bench.change().is_none());
    let Some(Outcome::Written(written)) = bench.reply(id) else {
        panic!("not written")
    };
    assert!(written.is_crossed);
}

#[test]
fn an_operation_that_is_known_is_confirmed_before_it_is_answered() {
    let mut bench = Bench::new(0);
    let add = WriteOp::Add {
        place: Place::Key,
        delta: 1,
        id: Some(OpId(5)),
    };
    let id = bench.ask_for(Operation::Write(Box::new(Write::new(key("lww"), add))));
    assert_eq!(show_nothing(&mut bench).len(), 1);
    let (ticket, _) = bench.change().unwrap();
    let partition = bench.partition("lww");
    let items = Vec::new();
    bench.stage(ticket, Effect::Written { partition, items });
    assert_eq!(bench.messages(), vec![]);
    bench.sync(ticket);
    assert_eq!(bench.reply(id), None);
    // The row of the id, and the shares that it speaks of.
    assert_eq!(show_nothing(&mut bench).len(), 2);
    assert!(matches!(bench.reply(id), Some(Outcome::Written(_))));
}

#[test]
fn a_clear_has_seen_what_a_quorum_had_applied() {
    let mut bench = Bench::new(0);
    let clear = WriteOp::Clear {
        collection: Collection::Set,
        seen: Context::default(),
    };
    bench.ask_for(Operation::Write(Box::new(Write::new(key("lww"), clear))));
    bench.select(at(&[]), &[]);
    show_nothing(&mut bench);
    let near = bench.line("a")[1];
    let (_, change) = bench.change().unwrap();
    let Change::Write(Write {
        op: WriteOp::Clear { seen, .. },
        ..
    }) = change
    else {
        panic!("not a clear: {change:?}")
    };
    assert_eq!(seen, Context::from(&at(&[(near, 4)])));
}

#[test]
fn a_write_that_is_not_for_the_policy_is_refused() {
    let mut bench = Bench::new(0);
    let sibling = WriteOp::PutSibling {
        value: Bytes::new(),
        seen: None,
    };
    for (keyspace, op) in [("siblings", put()), ("lww", sibling)] {
        let write = Write::new(key(keyspace), op);
        let id = bench.ask_for(Operation::Write(Box::new(write)));
        let outcome = bench.reply(id);
        assert_eq!(outcome, Some(Outcome::Refused(Refusal::MergePolicy)));
    }
}

/// What was written over it after it had been read is not undone (adversary).
#[test]
fn what_stood_at_a_majority_is_done_whatever_came_since() {
    let mut bench = Bench::new(0);
    let (partition, me) = (bench.partition("lww"), bench.me);
    let id = bench.ask_for(Operation::Write(Box::new(Write::new(key("lww"), put()))));
    let (ticket, _) = bench.change().unwrap();
    let items = vec![LogItem {
        n: 1,
        key: key("lww"),
        row: register(me, 1, b"v"),
    }];
    bench.stage(ticket, Effect::Written { partition, items });
    bench.sync(ticket);
    let line = bench.line("a");
    let later = register(line[2], 9, b"w").stamp().timestamp;
    for (from, newer) in [(line[1], vec![(1, later)]), (line[2], Vec::new())] {
        assert_eq!(bench.reply(id), None);
        let ack = Ack {
            partition,
            actor: super::bench::actor(me),
            reached: vec![(from, crate::model::Incarnation(1), 1)],
            from: 0,
            applied: 1,
            newer,
            stood: Vec::new(),
            crossed: Vec::new(),
            is_serving: true,
        };
        bench.hear(from, Message::Acks(vec![ack]));
    }
    assert!(matches!(bench.reply(id), Some(Outcome::Written(_))));
    assert!(bench.change().is_none());
}

/// A write that is at the door, and then stamped, while a neighbour seems not to serve; gives what was asked, and an
/// acknowledgement of it that says what was newer there.
fn stamped_without(
    bench: &mut Bench,
    away: NodeId,
) -> (RequestId, impl Fn(NodeId, bool) -> Message + use<>) {
    let (partition, me) = (bench.partition("lww"), bench.me);
    bench.step(Input::Disconnected { peer: away });
    bench.step(Input::Connected { peer: away });
    let id = bench.ask_for(Operation::Write(Box::new(Write::new(key("lww"), put()))));
    let (ticket, _) = bench.change().unwrap();
    let items = vec![LogItem {
        n: 1,
        key: key("lww"),
        row: register(me, 1, b"v"),
    }];
    bench.stage(ticket, Effect::Written { partition, items });
    bench.sync(ticket);
    let later = register(away, 9, b"w").stamp().timestamp;
    let acks = move |from, is_hidden| {
        let newer = if is_hidden {
            vec![(1, later)]
        } else {
            Vec::new()
        };
        Message::Acks(vec![Ack {
            partition,
            actor: super::bench::actor(me),
            reached: vec![(from, crate::model::Incarnation(1), 1)],
            from: 0,
            applied: 1,
            newer,
            stood: Vec::new(),
            crossed: Vec::new(),
            is_serving: true,
        }])
    };
    (id, acks)
}

#[test]
fn who_does_not_serve_is_not_waited_for() {
    let mut bench = Bench::new(0);
    let line = bench.line("a");
    let (id, acks) = stamped_without(&mut bench, line[2]);
    bench.hear(line[1], acks(line[1], true));
    assert_eq!(bench.reply(id), None);
    assert!(bench.change().is_some(), "stamped again");
}

/// What stood in an earlier life, a replica has forgotten.
#[test]
fn who_has_died_since_cannot_say_that_a_write_did_not_stand() {
    let mut bench = Bench::new(0);
    let line = bench.line("a");
    let (id, acks) = stamped_without(&mut bench, line[2]);
    let Message::Acks(mut told) = acks(line[1], true) else {
        panic!("no acknowledgements")
    };
    told[0].reached[0].1 = crate::model::Incarnation(2);
    bench.hear(line[1], Message::Acks(told.clone()));
    assert_eq!(bench.reply(id), None);
    assert!(bench.change().is_none(), "it may have been shown");
    told[0].newer.clear();
    bench.hear(line[1], Message::Acks(told));
    assert!(matches!(bench.reply(id), Some(Outcome::Written(_))));
}

/// Its disk is an old copy, and lacks what it had acknowledged: that nothing newer was there says nothing (seed
/// 23000834).
#[test]
fn where_it_did_not_serve_a_write_has_not_stood() {
    let mut bench = Bench::new(0);
    let line = bench.line("a");
    let (id, acks) = stamped_without(&mut bench, line[2]);
    let Message::Acks(mut told) = acks(line[2], false) else {
        panic!("no acknowledgements")
    };
    told[0].is_serving = false;
    bench.hear(line[2], Message::Acks(told));
    assert_eq!(bench.reply(id), None);
    assert!(bench.change().is_none(), "nothing newer is known");
    bench.hear(line[1], acks(line[1], true));
    assert!(bench.change().is_some(), "stamped again");
    assert_eq!(bench.reply(id), None);
}

/// Its disk is an old copy, as this node knows already, and the replica does not (adversary).
#[test]
fn who_is_known_to_be_an_old_copy_cannot_say_that_a_write_stands() {
    let mut bench = Bench::new(0);
    let line = bench.line("a");
    for node in [line[1], line[2]] {
        bench.beat(node, &[(line[1], 5)], &[]);
    }
    bench.beat_of((line[2], 2), true, &[(line[1], 3)], &[]);
    let (partition, me) = (bench.partition("lww"), bench.me);
    let id = bench.ask_for(Operation::Write(Box::new(Write::new(key("lww"), put()))));
    let (ticket, _) = bench.change().unwrap();
    let items = vec![LogItem {
        n: 1,
        key: key("lww"),
        row: register(me, 1, b"v"),
    }];
    bench.stage(ticket, Effect::Written { partition, items });
    bench.sync(ticket);
    let later = register(line[2], 9, b"w").stamp().timestamp;
    for (from, life, newer) in [(line[2], 2, Vec::new()), (line[1], 1, vec![(1, later)])] {
        assert_eq!(bench.reply(id), None);
        assert!(bench.change().is_none());
        let ack = Ack {
            partition,
            actor: super::bench::actor(me),
            reached: vec![(from, crate::model::Incarnation(life), 1)],
            from: 0,
            applied: 1,
            newer,
            stood: Vec::new(),
            crossed: Vec::new(),
            is_serving: true,
        };
        bench.hear(from, Message::Acks(vec![ack]));
    }
    assert_eq!(bench.reply(id), None);
    assert!(bench.change().is_some(), "stamped again");
}

/// What merges by causality cannot be hidden: that two replicas are up is enough for it.
#[test]
fn a_register_is_written_only_where_a_quorum_serves() {
    for (keyspace, op, is_begun) in [
        ("lww", put(), false),
        (
            "siblings",
            WriteOp::PutSibling {
                value: Bytes::from_static(b"v"),
                seen: None,
            },
            true,
        ),
        (
            "lww",
            WriteOp::Fields {
                put: vec![(Bytes::from_static(b"f"), Bytes::from_static(b"v"))],
                add: Vec::new(),
                remove: Vec::new(),
                id: None,
            },
            true,
        ),
    ] {
        let mut bench = Bench::new(0);
        let line = bench.line("a");
        for node in [line[1], line[2]] {
            bench.beat_of((node, 2), false, &[], &[]);
        }
        bench.outputs.clear();
        let id = bench.ask_for(Operation::Write(Box::new(Write::new(key(keyspace), op))));
        assert_eq!(bench.change().is_some(), is_begun, "{keyspace}");
        assert_eq!(bench.reply(id).is_none(), is_begun, "{keyspace}");
    }
}

/// A replica that reads serves: what it reads here it may show.
#[test]
fn who_reads_serves_though_it_was_not_known() {
    let mut bench = Bench::new(0);
    let line = bench.line("a");
    let (id, acks) = stamped_without(&mut bench, line[2]);
    let keys = vec![key("lww")];
    let whole = false;
    bench.hear(line[2], Message::Read { id: 1, keys, whole });
    bench.hear(line[1], acks(line[1], true));
    assert!(bench.change().is_none(), "it may have been shown");
    bench.hear(line[2], acks(line[2], false));
    assert!(matches!(bench.reply(id), Some(Outcome::Written(_))));
}

/// A piece that is merged again meets what has come since; it stood all the same.
#[test]
fn what_once_stood_at_a_replica_is_not_hidden_there_later() {
    let mut bench = Bench::new(0);
    let (partition, me) = (bench.partition("lww"), bench.me);
    let id = bench.ask_for(Operation::Write(Box::new(Write::new(key("lww"), put()))));
    let (ticket, _) = bench.change().unwrap();
    let items = vec![LogItem {
        n: 1,
        key: key("lww"),
        row: register(me, 1, b"v"),
    }];
    bench.stage(ticket, Effect::Written { partition, items });
    let line = bench.line("a");
    let later = register(line[2], 9, b"w").stamp().timestamp;
    let told = [
        (line[1], Vec::new()),
        (line[1], vec![(1, later)]),
        (line[2], vec![(1, later)]),
    ];
    for (from, newer) in told {
        let ack = Ack {
            partition,
            actor: super::bench::actor(me),
            reached: vec![(from, crate::model::Incarnation(1), 1)],
            from: 0,
            applied: 1,
            newer,
            stood: Vec::new(),
            crossed: Vec::new(),
            is_serving: true,
        };
        bench.hear(from, Message::Acks(vec![ack]));
    }
    assert_eq!(bench.reply(id), None);
    bench.sync(ticket);
    assert!(matches!(bench.reply(id), Some(Outcome::Written(_))));
    assert!(bench.change().is_none());
}
