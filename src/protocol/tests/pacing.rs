//! Nodes whose disk is slow: what others can do is not left to them.

use crate::model::{Condition, Effect, NodeId, Write, WriteOp};
use crate::protocol::{Message, Operation, Outcome, Unavailable};
use bytes::Bytes;

use super::bench::{Bench, MILLISECOND, key};

const SLOW: u64 = 60 * MILLISECOND;

/// The first replica in line; all of its region were heard just now.
fn bench() -> (Bench, Vec<NodeId>) {
    let mut bench = Bench::new(0);
    let neighbours = bench.line("a").split_off(1);
    for node in &neighbours {
        bench.disk_micros.insert(*node, 2 * MILLISECOND);
    }
    (bench, neighbours)
}

/// Time passes, heartbeats are heard, and paces are looked at.
fn hear_all(bench: &mut Bench) {
    for name in ["a", "b"] {
        for node in bench.line(name) {
            if node != bench.me {
                bench.beat(node, &[], &[]);
            }
        }
    }
    bench.pass(250 * MILLISECOND);
    bench.outputs.clear();
}

/// This node's disk hangs.
fn hang(bench: &mut Bench) {
    bench.ask_for(put());
    let (ticket, _) = bench.change().expect("a write is done here");
    let partition = bench.partition("lww");
    let items = Vec::new();
    bench.stage(ticket, Effect::Written { partition, items });
    hear_all(bench);
}

fn put() -> Operation {
    Operation::Write(Box::new(Write::new(
        key("lww"),
        WriteOp::Put(Bytes::from_static(b"v")),
    )))
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

#[test]
fn a_node_whose_disk_hangs_passes_writes_and_reads_on() {
    let (mut bench, neighbours) = bench();
    bench.ask_for(put());
    assert_eq!(passed(&mut bench), None);
    bench.outputs.clear();
    hang(&mut bench);
    for operation in [put(), Operation::Get { key: key("lww") }] {
        bench.ask_for(operation);
        let (to, _) = passed(&mut bench).expect("it is passed on");
        assert_eq!(to, neighbours[0]);
        assert!(bench.change().is_none());
    }
}

#[test]
fn it_goes_to_a_neighbour_that_is_not_slow_itself() {
    let (mut bench, neighbours) = bench();
    bench.disk_micros.insert(neighbours[0], 19 * MILLISECOND);
    hang(&mut bench);
    bench.ask_for(put());
    assert_eq!(passed(&mut bench).map(|(to, _)| to), Some(neighbours[0]));
    // Now two of three are slow: a quorum would wait for one of them wherever it goes.
    bench.disk_micros.insert(neighbours[0], 400 * MILLISECOND);
    hear_all(&mut bench);
    bench.ask_for(put());
    assert_eq!(passed(&mut bench), None);
}

#[test]
fn what_nobody_else_can_take_is_done_here() {
    let (mut bench, neighbours) = bench();
    hang(&mut bench);
    let id = bench.ask_for(put());
    for neighbour in neighbours {
        let (to, passed) = passed(&mut bench).expect("it is passed on");
        assert_eq!(to, neighbour);
        let outcome = Outcome::Unavailable(Unavailable::Replicas);
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
    let (mut bench, _) = bench();
    hang(&mut bench);
    let mut write = Write::new(key("lww"), WriteOp::Put(Bytes::from_static(b"v")));
    write.condition = Some(Condition::Absent);
    bench.ask_for(Operation::Write(Box::new(write)));
    assert_eq!(passed(&mut bench), None);
}

#[test]
fn a_slow_neighbour_is_read_last() {
    let (mut bench, neighbours) = bench();
    let asked = |bench: &mut Bench| {
        bench.outputs.clear();
        bench.ask_for(Operation::Get { key: key("lww") });
        let messages = bench.messages().into_iter();
        messages.map(|(to, _)| to).collect::<Vec<_>>()
    };
    assert_eq!(asked(&mut bench), neighbours[..1]);
    bench.disk_micros.insert(neighbours[0], SLOW);
    hear_all(&mut bench);
    assert_eq!(asked(&mut bench), neighbours[1..]);
}
