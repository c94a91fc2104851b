//! Reads of rows that merge by causality.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{
    Answer, Context, Dot, Level, NodeId, Once, OpId, Part, Place, Position, Query, Row, RowKey,
    Selection, Share, Siblings, Stamp, Tally, Timestamp, Wall,
};
use crate::protocol::{Message, Operation, Outcome, Request};

use super::bench::{Bench, actor, at, key, version};

fn siblings(versions: &[crate::model::Version]) -> Row {
    let mut row = Siblings::default();
    for version in versions {
        row.put(version.clone(), &Context::default());
    }
    Row::Siblings(row)
}

fn state(rows: &[(RowKey, Row)]) -> u128 {
    super::super::sides::Side::new(Position::default(), rows.to_vec(), None).state(&BTreeMap::new())
}

/// Begins a read; gives the id of the question to the peer, which is the first one.
fn begin(bench: &mut Bench) -> (crate::protocol::RequestId, u64) {
    let id = bench.ask_for(Operation::Get {
        key: key("siblings"),
    });
    match bench.messages().remove(0) {
        (
            _,
            Message::Select {
                id: asked, whole, ..
            },
        ) => {
            assert!(whole.is_none());
            (id, asked)
        }
        other => panic!("not a selection: {other:?}"),
    }
}

#[test]
fn replicas_that_hold_the_same_are_answered_from_at_once() {
    let mut bench = Bench::new(0);
    let near = bench.line("a")[1];
    let rows = [(key("siblings"), siblings(&[version(near, 1, b"v")]))];
    let (id, asked) = begin(&mut bench);
    let told = Message::Selected {
        id: asked,
        position: at(&[(near, 1)]),
        state: state(&rows),
        collected: BTreeMap::new(),
        rows: Vec::new(),
        next: None,
    };
    bench.hear(near, told);
    assert_eq!(bench.reply(id), None);
    bench.select(at(&[(near, 1)]), &rows);
    assert_eq!(
        bench.reply(id),
        Some(Outcome::Read(Some(rows[0].1.clone())))
    );
}

#[test]
fn what_differs_is_fetched_merged_and_on_a_quorum_before_it_is_answered() {
    let mut bench = Bench::new(0);
    let (me, near) = (bench.me, bench.line("a")[1]);
    let mine = [(key("siblings"), siblings(&[version(me, 1, b"m")]))];
    let theirs = [(key("siblings"), siblings(&[version(near, 1, b"t")]))];
    let (id, asked) = begin(&mut bench);
    let told = |rows: &[(RowKey, Row)]| Message::Selected {
        id: asked,
        position: at(&[(near, 1)]),
        state: state(&theirs),
        collected: BTreeMap::new(),
        rows: rows.to_vec(),
        next: None,
    };
    bench.select(at(&[(me, 1)]), &mine);
    bench.hear(near, told(&[]));
    let messages = bench.messages();
    assert!(
        matches!(messages[..], [(to, Message::Select { whole: Some(_), .. })] if to == near),
        "{messages:?}"
    );
    // The hash once more is not what was asked for.
    bench.hear(near, told(&[]));
    assert!(bench.change().is_none());
    bench.hear(near, told(&theirs));
    let (ticket, _) = bench.change().unwrap();
    let both = siblings(&[version(me, 1, b"m"), version(near, 1, b"t")]);
    let messages = bench.messages();
    let [(to, Message::Repair { rows, .. })] = &messages[..] else {
        panic!("no repair: {messages:?}")
    };
    assert_eq!((*to, rows[0].1.dots().len()), (near, 2));
    let summary = Some(both.summary());
    let repaired = crate::model::Effect::Repaired {
        summary,
        written: Vec::new(),
        lost: BTreeMap::new(),
    };
    bench.stage(ticket, repaired);
    bench.sync(ticket);
    assert_eq!(bench.reply(id), None);
    let held = Some(both.summary());
    bench.hear(near, Message::Repaired { id: asked, held });
    let Some(Outcome::Read(Some(read))) = bench.reply(id) else {
        panic!("not read")
    };
    assert_eq!(read.summary().state, both.summary().state);
}

#[test]
fn a_peer_is_told_a_hash_and_then_the_rows() {
    let mut bench = Bench::new(0);
    let near = bench.line("a")[1];
    let rows = [(key("siblings"), siblings(&[version(near, 1, b"v")]))];
    for whole in [false, true] {
        let selection = Selection::Rows(vec![key("siblings")]);
        let question = Message::Select {
            id: 3,
            selection,
            whole: whole.then(|| at(&[])),
        };
        bench.hear(near, question);
        bench.select(at(&[(near, 1)]), &rows);
        let told = Message::Selected {
            id: 3,
            position: at(&[(near, 1)]),
            state: state(&rows),
            collected: BTreeMap::new(),
            rows: if whole { rows.to_vec() } else { Vec::new() },
            next: None,
        };
        assert_eq!(bench.messages(), vec![(near, told)]);
    }
}

/// An operation that a node applied as its first change, and its share.
fn applied(node: NodeId, id: u128) -> [(RowKey, Row); 2] {
    let stamp = |n: u64| Stamp {
        timestamp: Timestamp::ZERO,
        dot: Dot {
            actor: actor(node),
            n,
        },
    };
    let once = Once {
        stamp: stamp(1),
        applied: BTreeMap::from([(stamp(1).dot, 8)]),
        gone: BTreeSet::new(),
        expires: Wall(u64::MAX),
        is_spent: false,
    };
    let share = Share {
        stamp: stamp(2),
        own: Tally {
            n: 2,
            since: 1,
            sum: 8,
        },
        reset: Tally::default(),
    };
    let row = |part: Part| key("siblings").with(&part);
    [
        (row(Part::Once(Place::Key, OpId(id))), Row::Once(once)),
        (row(Part::Share(Place::Key, actor(node))), Row::Share(share)),
    ]
}

/// A neighbour that holds the same does not show an operation, and is not taken for one that has seen it go (simulator, seed
/// 8004225).
#[test]
fn what_was_applied_twice_is_seen_though_a_neighbour_holds_the_same_as_this_node() {
    let mut bench = Bench::new(0);
    let (me, near, far) = (bench.me, bench.line("a")[1], bench.line("b"));
    let [once, share] = applied(me, 7);
    let theirs = applied(far[0], 7);
    let mut request = Request::from(Operation::Select {
        selection: Selection::Counter {
            key: key("siblings"),
            place: Place::Key,
        },
    });
    request.level = Some(Level::EachQuorum);
    bench.ask(request);
    let Some((_, Message::Select { id, .. })) = bench.messages().pop() else {
        panic!("nobody is asked")
    };
    let told = |node: NodeId, rows: &[(RowKey, Row)]| Message::Selected {
        id,
        position: at(&[(node, 2)]),
        state: state(rows),
        collected: BTreeMap::new(),
        rows: rows.to_vec(),
        next: None,
    };
    bench.select(at(&[(me, 2)]), std::slice::from_ref(&share));
    let same = Message::Selected {
        id,
        position: at(&[(me, 2)]),
        state: state(std::slice::from_ref(&share)),
        collected: BTreeMap::new(),
        rows: Vec::new(),
        next: None,
    };
    bench.hear(near, same);
    for _ in ["a hash", "the rows"] {
        for node in &far[..2] {
            bench.hear(*node, told(far[0], &theirs));
        }
    }
    let (ticket, Query::Operations { .. }) = bench.query().unwrap() else {
        panic!("operations are not looked for")
    };
    let answer = Answer::Selected {
        position: at(&[(me, 2)]),
        rows: vec![once],
        next: None,
    };
    bench.step(crate::protocol::Input::Answered { ticket, answer });
    let mut repaired = BTreeSet::new();
    for (to, message) in bench.messages() {
        if let Message::Repair { rows, .. } = message {
            let once = rows.iter().find(|(_, row)| matches!(row, Row::Once(_)));
            let dots = once.map(|(_, row)| row.dots().len());
            assert_eq!(dots, Some(2), "to {to:?}: {rows:?}");
            repaired.insert(to);
        }
    }
    assert_eq!(repaired, BTreeSet::from([near, far[0], far[1]]));
}
