//! Nodes that are slow or late: what others can do is not left to them.

use crate::model::{Condition, Effect, LogItem, NodeId, Ticket, Write, WriteOp};
use crate::protocol::{Input, Message, Operation, Outcome, Unavailable};
use bytes::Bytes;

use super::bench::{Bench, MILLISECOND, key, register};

const SLOW: u64 = 60 * MILLISECOND;

/// The replica of this rank in line, and its neighbours.
fn bench(rank: usize) -> (Bench, Vec<NodeId>) {
    let mut bench = Bench::new(rank);
    let mut neighbours = bench.line("a");
    neighbours.retain(|node| *node != bench.me);
    for node in &neighbours {
        bench.disk_micros.insert(*node, 2 * MILLISECOND);
    }
    let ticket = stage(&mut bench, 1);
    bench.pass(2 * MILLISECOND);
    bench.sync(ticket);
    bench.outputs.clear();
    (bench, neighbours)
}

/// Stages a write of this node: its n-th change.
fn stage(bench: &mut Bench, n: u64) -> Ticket {
    bench.ask_for(put());
    let (ticket, _) = bench.change().expect("a write is done here");
    let (key, row) = (key("lww"), register(bench.me, n, b"v"));
    let partition = bench.partition("lww");
    let items = vec![LogItem { n, key, row }];
    bench.stage(ticket, Effect::Written { partition, items });
    ticket
}

/// Time passes, heartbeats are heard, and paces are looked at, often enough that all is known that can be.
fn hear_all(bench: &mut Bench) {
    for _ in 0..12 {
        for name in ["a", "b"] {
            for node in bench.line(name) {
                if node != bench.me {
                    bench.beat(node, &[], &[]);
                }
            }
        }
        bench.pass(250 * MILLISECOND);
    }
    bench.outputs.clear();
}

/// This node's disk hangs.
fn hang(bench: &mut Bench) {
    stage(bench, 2);
    hear_all(bench);
}

fn put() -> Operation {
    Operation::Write(Box::new(Write::new(
        key("lww"),
        WriteOp::Put(Bytes::from_static(b"v")),
    )))
}

fn put_if_absent() -> Operation {
    let mut write = Write::new(key("lww"), WriteOp::Put(Bytes::from_static(b"v")));
    write.condition = Some(Condition::Absent);
    Operation::Write(Box::new(write))
}

fn get() -> Operation {
    Operation::Get { key: key("lww") }
}

/// To whom an operation was passed on, and its name there.
fn passed(bench: &mut Bench) -> Option<(NodeId, u64)> {
    bench.messages().into_iter().find_map(|(to, message)| {
        if let Message::Forward { id, .. } = message {
            Some((to, id))
        } else {
            None
        }
    })
}

/// To whom an operation of a client goes.
fn goes_to(bench: &mut Bench, operation: Operation) -> Option<NodeId> {
    bench.outputs.clear();
    bench.ask_for(operation);
    passed(bench).map(|(to, _)| to)
}

/// Who is asked for a read.
fn asked(bench: &mut Bench) -> Vec<NodeId> {
    bench.outputs.clear();
    bench.ask_for(get());
    let messages = bench.messages().into_iter();
    messages.map(|(to, _)| to).collect()
}

#[test]
fn a_node_whose_disk_hangs_passes_writes_on_and_reads_itself() {
    let (mut bench, neighbours) = bench(0);
    assert_eq!(goes_to(&mut bench, put()), None);
    bench.outputs.clear();
    hang(&mut bench);
    assert_eq!(goes_to(&mut bench, put()), Some(neighbours[0]));
    assert!(bench.change().is_none());
    assert_eq!(goes_to(&mut bench, get()), None);
    assert!(bench.query().is_some());
}

#[test]
fn what_was_passed_on_is_not_passed_on_again() {
    let (mut bench, neighbours) = bench(0);
    hang(&mut bench);
    let forward = Message::Forward {
        id: 5,
        request: put().into(),
        micros_left: MILLISECOND * 1_000,
    };
    bench.hear(neighbours[0], forward);
    assert_eq!(passed(&mut bench), None);
    assert!(bench.change().is_some());
}

#[test]
fn a_node_that_stops_takes_nothing_on() {
    let (mut bench, neighbours) = bench(0);
    bench.step(Input::Stopping);
    let forward = Message::Forward {
        id: 5,
        request: put().into(),
        micros_left: MILLISECOND * 1_000,
    };
    bench.hear(neighbours[0], forward);
    let outcome = Outcome::Unavailable(Unavailable::Replicas);
    let answer = Message::Forwarded { id: 5, outcome };
    assert_eq!(bench.messages(), [(neighbours[0], answer)]);
    assert!(bench.change().is_none());
}

#[test]
fn a_write_goes_to_a_neighbour_that_is_not_late_itself() {
    let (mut bench, neighbours) = bench(0);
    hang(&mut bench);
    assert_eq!(asked(&mut bench), neighbours[..1]);
    bench.pass(8 * MILLISECOND);
    assert_eq!(goes_to(&mut bench, put()), Some(neighbours[1]));
}

#[test]
fn where_most_are_slow_nobody_is() {
    let (mut bench, neighbours) = bench(0);
    bench.disk_micros.insert(neighbours[0], 5_000 * MILLISECOND);
    hang(&mut bench);
    hear_all(&mut bench);
    assert_eq!(goes_to(&mut bench, put()), None);
}

#[test]
fn what_nobody_else_can_take_is_done_here() {
    let (mut bench, neighbours) = bench(0);
    hang(&mut bench);
    let id = bench.ask_for(put());
    let reasons = [Unavailable::Replicas, Unavailable::Overloaded];
    for (neighbour, reason) in neighbours.into_iter().zip(reasons) {
        let (to, passed) = passed(&mut bench).expect("it is passed on");
        assert_eq!(to, neighbour);
        let outcome = Outcome::Unavailable(reason);
        bench.hear(
            to,
            Message::Forwarded {
                id: passed,
                outcome,
            },
        );
    }
    assert_eq!(bench.reply(id), None);
    assert!(bench.change().is_some());
}

#[test]
fn conditions_are_looked_at_by_the_first_in_line_whatever_its_disk() {
    let (mut first, _) = bench(0);
    hang(&mut first);
    assert_eq!(goes_to(&mut first, put_if_absent()), None);
    assert!(first.query().is_some());
    let (mut second, neighbours) = bench(1);
    second.disk_micros.insert(neighbours[0], SLOW);
    hear_all(&mut second);
    assert_eq!(goes_to(&mut second, put_if_absent()), Some(neighbours[0]));
}

#[test]
fn a_neighbour_whose_disk_is_slow_is_read_last() {
    let (mut bench, neighbours) = bench(0);
    assert_eq!(asked(&mut bench), neighbours[..1]);
    bench.disk_micros.insert(neighbours[0], SLOW);
    hear_all(&mut bench);
    assert_eq!(asked(&mut bench), neighbours[1..]);
}

#[test]
fn a_neighbour_that_does_not_answer_is_read_last() {
    let (mut bench, neighbours) = bench(0);
    assert_eq!(asked(&mut bench), neighbours[..1]);
    bench.pass(8 * MILLISECOND);
    assert_eq!(asked(&mut bench), neighbours[1..]);
}

#[test]
fn a_neighbour_that_answers_late_is_read_last() {
    let (mut bench, neighbours) = bench(0);
    let read = |bench: &mut Bench, takes: u64| {
        bench.outputs.clear();
        bench.ask_for(get());
        let (to, message) = bench.messages().remove(0);
        let Message::Read { id, .. } = message else {
            panic!("not read: {message:?}")
        };
        bench.time += takes;
        let summaries = vec![None];
        bench.hear(to, Message::Summaries { id, summaries });
        to
    };
    assert_eq!(read(&mut bench, 7 * MILLISECOND), neighbours[0]);
    bench.disk_micros.insert(neighbours[0], SLOW);
    hear_all(&mut bench);
    assert_eq!(read(&mut bench, MILLISECOND), neighbours[1]);
    bench.disk_micros.insert(neighbours[0], MILLISECOND);
    hear_all(&mut bench);
    assert_eq!(read(&mut bench, MILLISECOND), neighbours[1]);
}
