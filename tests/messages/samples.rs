//! A message of every kind, and in them every operation, outcome and row.

use std::collections::BTreeMap;

use bytes::Bytes;
use sterna::model::{
    Behind, Collection, Condition, Denial, DigestNode, Gate, Level, LogItem, OpId, Part, Place,
    Run, Selection, Sum, Wall, Wanted, Write, WriteOp,
};
use sterna::protocol::{
    Ack, Append, Heartbeat, Known, Mark, Message, Operation, Outcome, Refusal, Request,
    Unavailable, Unknown, Want, Written,
};

use super::words::{
    ACTOR, DOT, PARTITION, REGION, TIMESTAMP, context, gate, key, part, plain, position, row, rows,
    session, summary,
};

type Sample = (String, Message);

pub(super) fn samples() -> Vec<Sample> {
    [
        stream(),
        every_row(),
        operations(),
        writes(),
        outcomes(),
        denials(),
        reads(),
        selections(),
        reconciliation(),
    ]
    .concat()
}

fn named(samples: Vec<(&'static str, Message)>) -> Vec<Sample> {
    let named = |(name, message): (&str, Message)| (name.to_owned(), message);
    samples.into_iter().map(named).collect()
}

fn want(rewind: bool) -> Want {
    Want {
        partition: PARTITION,
        actor: ACTOR,
        applied: 300,
        complete: 299,
        rewind,
    }
}

fn append(mark_micros: Option<u64>, row: sterna::model::Row) -> Message {
    Message::Append(Append {
        partition: PARTITION,
        actor: ACTOR,
        from: 298,
        to: 300,
        complete_from: Some(298),
        mark_micros,
        items: vec![LogItem {
            n: 300,
            key: key(),
            row,
        }],
    })
}

/// Soft state, log and acknowledgements.
fn stream() -> Vec<Sample> {
    let heartbeat = Heartbeat {
        incarnation: ACTOR.incarnation,
        micros: TIMESTAMP.micros,
        sequence: 5,
        heard: 4,
        disk_micros: 1_800,
        wants: vec![want(false)],
        marks: vec![Mark {
            partition: PARTITION,
            actor: ACTOR,
            n: 300,
            micros: TIMESTAMP.micros,
        }],
        known: vec![Known {
            node: ACTOR.node,
            incarnation: ACTOR.incarnation,
            partition: PARTITION,
            position: position(),
            is_serving: true,
        }],
        is_full: true,
    };
    let ack = Ack {
        partition: PARTITION,
        actor: ACTOR,
        reached: vec![(ACTOR.node, ACTOR.incarnation, 300)],
        from: 298,
        applied: 300,
        newer: vec![(299, TIMESTAMP)],
        stood: vec![298],
        crossed: vec![299, 300],
        is_serving: true,
    };
    let trimmed = Message::Trimmed {
        partition: PARTITION,
        actor: ACTOR,
    };
    named(vec![
        ("heartbeat", Message::Heartbeat(heartbeat)),
        ("wants", Message::Wants(vec![want(true), want(false)])),
        ("append", append(Some(TIMESTAMP.micros), row(Some("value")))),
        ("append of a delete", append(None, row(None))),
        ("acks", Message::Acks(vec![ack])),
        ("trimmed", trimmed),
    ])
}

fn every_row() -> Vec<Sample> {
    let sample = |(name, row)| (format!("append of {name}"), append(None, row));
    rows().into_iter().map(sample).collect()
}

fn forward(operation: Operation, level: Option<Level>, gate: Gate) -> Message {
    Message::Forward {
        id: 9,
        request: Request {
            operation,
            level,
            gate,
        },
        micros_left: 2_000_000,
    }
}

fn page() -> Selection {
    Selection::Page {
        key: plain(),
        collection: Collection::Map,
        after: Some(Bytes::from("fa")),
        upto: Some(Bytes::from("fz")),
        rows_max: 100,
        bytes_max: 65_536,
    }
}

fn counter() -> Selection {
    Selection::Counter {
        key: plain(),
        place: Place::Field(Bytes::from("hits")),
    }
}

/// Operations passed on.
fn operations() -> Vec<Sample> {
    let open = Gate::default;
    let list = |wanted| Operation::List {
        keyspace: PARTITION.keyspace,
        wanted,
        index: 3,
        after: Some(key()),
        rows_max: 100,
        bytes_max: 65_536,
    };
    let select = |selection| Operation::Select { selection };
    let count = Operation::Count {
        key: plain(),
        collection: Collection::Set,
    };
    let wait = Operation::Wait {
        regions: vec![REGION],
    };
    let get = || Operation::Get { key: key() };
    let rows = Selection::Rows(vec![part(&Part::Member(Bytes::from("tea")))]);
    let each = Some(Level::EachQuorum);
    named(vec![
        ("forward get", forward(get(), Some(Level::One), open())),
        ("forward get by default", forward(get(), None, open())),
        (
            "forward get with a gate",
            forward(get(), None, gate(Behind::Forward)),
        ),
        (
            "forward get with a gate that refuses",
            forward(get(), None, gate(Behind::Refuse)),
        ),
        ("forward select rows", forward(select(rows), None, open())),
        (
            "forward select counter",
            forward(select(counter()), None, open()),
        ),
        ("forward select page", forward(select(page()), None, open())),
        ("forward count", forward(count, None, open())),
        ("forward wait", forward(wait, None, gate(Behind::Forward))),
        ("forward list", forward(list(Wanted::Values), each, open())),
        (
            "forward list of conflicts at all",
            forward(list(Wanted::Conflicts), Some(Level::All), open()),
        ),
    ])
}

/// Writes passed on.
fn writes() -> Vec<Sample> {
    let value = || Bytes::from("value");
    let seen = || Some(context());
    let ops = vec![
        ("put", WriteOp::Put(value())),
        ("delete", WriteOp::Delete),
        (
            "put sibling",
            WriteOp::PutSibling {
                value: value(),
                seen: seen(),
            },
        ),
        ("delete siblings", WriteOp::DeleteSiblings { seen: seen() }),
        (
            "add",
            WriteOp::Add {
                place: Place::Key,
                delta: -300,
                id: Some(OpId(u128::MAX - 1)),
            },
        ),
        (
            "reset",
            WriteOp::Reset {
                place: Place::Field(value()),
            },
        ),
        (
            "members",
            WriteOp::Members {
                add: vec![value()],
                remove: vec![Bytes::from("tea"), Bytes::from("milk")],
            },
        ),
        (
            "fields",
            WriteOp::Fields {
                put: vec![(Bytes::from("name"), value())],
                add: vec![(Bytes::from("hits"), 7)],
                remove: vec![Bytes::from("old")],
                id: None,
            },
        ),
        (
            "clear",
            WriteOp::Clear {
                collection: Collection::Map,
                seen: context(),
            },
        ),
    ];
    let level = Some(Level::LocalQuorum);
    let sample = |(name, op)| {
        let operation = Operation::Write(Box::new(Write::new(plain(), op)));
        let message = forward(operation, level, Gate::default());
        (format!("forward {name}"), message)
    };
    let mut samples: Vec<Sample> = ops.into_iter().map(sample).collect();
    let conditions = [
        ("a write if absent", Condition::Absent),
        ("a write if unchanged", Condition::State(u64::MAX - 1)),
    ];
    samples.extend(conditions.map(|(name, condition)| {
        let wished = Write {
            above: TIMESTAMP,
            expires: Some(Wall(1_800_000_000_000_000)),
            after: Some(Box::new(session())),
            condition: Some(condition),
            ..Write::new(plain(), WriteOp::Put(value()))
        };
        let operation = Operation::Write(Box::new(wished));
        let message = forward(operation, Some(Level::UnsafeOne), Gate::default());
        (format!("forward {name}"), message)
    }));
    samples
}

fn forwarded(outcomes: Vec<(&'static str, Outcome)>) -> Vec<Sample> {
    let forwarded = |(name, outcome)| (name, Message::Forwarded { id: 9, outcome });
    named(outcomes.into_iter().map(forwarded).collect())
}

/// How operations end.
fn outcomes() -> Vec<Sample> {
    let page = |next| Outcome::Page {
        rows: vec![(key(), row(Some("value")))],
        next,
    };
    let written = |summary| {
        Outcome::Written(Written {
            node: ACTOR.node,
            timestamp: TIMESTAMP,
            summary,
            is_crossed: true,
        })
    };
    let selected = Outcome::Selected {
        rows: vec![(key(), row(Some("value")))],
        next: Some(Bytes::from("fz")),
    };
    let unavailable = Outcome::Unavailable;
    forwarded(vec![
        ("written", written(Some(summary()))),
        ("written nothing", written(None)),
        ("read", Outcome::Read(Some(row(Some("value"))))),
        ("read nothing", Outcome::Read(None)),
        ("outcome selected", selected),
        ("counted", Outcome::Counted(300)),
        ("reached", Outcome::Reached),
        ("page", page(Some((3, Some(key()))))),
        ("last page", page(None)),
        ("no keyspace", Outcome::Refused(Refusal::NoKeyspace)),
        ("elsewhere", Outcome::Refused(Refusal::KeyspaceElsewhere)),
        ("key size", Outcome::Refused(Refusal::KeySize)),
        ("value size", Outcome::Refused(Refusal::ValueSize)),
        ("merge policy", Outcome::Refused(Refusal::MergePolicy)),
        ("selection", Outcome::Refused(Refusal::Selection)),
        ("level", Outcome::Refused(Refusal::Level)),
        ("not yet", Outcome::NotYet),
        ("replicas", unavailable(Unavailable::Replicas)),
        ("deadline", unavailable(Unavailable::Deadline)),
        ("overloaded", unavailable(Unavailable::Overloaded)),
        ("stopping", unavailable(Unavailable::Stopping)),
        ("disk", unavailable(Unavailable::Disk)),
        (
            "acknowledgements",
            Outcome::Unknown(Unknown::Acknowledgements),
        ),
        ("coordinator", Outcome::Unknown(Unknown::Coordinator)),
    ])
}

fn denials() -> Vec<Sample> {
    let denied = Outcome::Denied;
    let (_, siblings) = rows().swap_remove(1);
    let found = Denial::Condition(Some(siblings.summary()));
    forwarded(vec![
        ("denied condition", denied(found)),
        ("denied absent", denied(Denial::Condition(None))),
        ("denied siblings", denied(Denial::Siblings)),
        ("denied counter range", denied(Denial::CounterRange)),
        ("denied parts", denied(Denial::Parts)),
        ("denied size", denied(Denial::Size)),
        ("denied ahead", denied(Denial::Ahead)),
    ])
}

/// Reads and repair.
fn reads() -> Vec<Sample> {
    let read = |whole| Message::Read {
        id: 9,
        keys: vec![key()],
        whole,
    };
    let summaries = Message::Summaries {
        id: 9,
        summaries: vec![Some(summary()), None],
    };
    let rows = Message::Rows {
        id: 9,
        rows: vec![Some(row(Some("value"))), None],
    };
    let repair = Message::Repair {
        id: 9,
        rows: vec![(key(), row(Some("value")))],
    };
    let repaired = |held| Message::Repaired { id: 9, held };
    named(vec![
        ("read whole", read(true)),
        ("read summaries", read(false)),
        ("summaries", summaries),
        ("rows", rows),
        ("cannot read", Message::CannotRead { id: 9 }),
        ("repair", repair),
        ("repaired", repaired(Some(summary()))),
        ("repaired, not kept", repaired(None)),
    ])
}

/// Reads of several parts of a key, and waiting for a session.
fn selections() -> Vec<Sample> {
    let select = |selection, whole: bool| Message::Select {
        id: 9,
        selection,
        whole: whole.then(position),
    };
    let selected = |rows| Message::Selected {
        id: 9,
        position: position(),
        state: u128::MAX - 1,
        collected: BTreeMap::from([(ACTOR, 7)]),
        rows,
        next: Some(plain().subkey),
    };
    let conflict = part(&Part::Conflict(DOT));
    let awaits = Message::Await {
        id: 9,
        session: session(),
        micros_left: 2_000_000,
    };
    named(vec![
        ("select page", select(page(), true)),
        ("select counter", select(counter(), false)),
        (
            "select rows",
            select(Selection::Rows(vec![conflict, plain()]), false),
        ),
        (
            "selected",
            selected(vec![(
                part(&Part::Share(Place::Key, ACTOR)),
                rows().swap_remove(3).1,
            )]),
        ),
        ("selected state", selected(Vec::new())),
        ("await", awaits),
        ("awaited", Message::Awaited { id: 9 }),
    ])
}

fn run() -> Run {
    Run {
        first: 17,
        last: 4095,
        after: Some(key()),
        upto: Some(key()),
    }
}

/// Reconciliation.
fn reconciliation() -> Vec<Sample> {
    let node = DigestNode { level: 1, index: 7 };
    let digest_ask = Message::DigestAsk {
        id: 9,
        partition: PARTITION,
        nodes: vec![node],
    };
    let digest_tell = Message::DigestTell {
        id: 9,
        position: position(),
        hashes: vec![vec![0, 1, u128::MAX]],
    };
    let leaf_ask = Message::LeafAsk {
        id: 9,
        partition: PARTITION,
        run: run(),
    };
    let leaf_tell = Message::LeafTell {
        id: 9,
        position: position(),
        rows: vec![(key(), summary())],
        next: Some(key()),
    };
    let sums_ask = Message::SumsAsk {
        id: 9,
        partition: PARTITION,
        run: run(),
        cuts: vec![key()],
    };
    let sum = Sum {
        rows: 300,
        hash: 1 << 100,
    };
    let sums_tell = Message::SumsTell {
        id: 9,
        sums: vec![sum],
        next: Some(key()),
    };
    let graves_ask = Message::GravesAsk {
        id: 9,
        partition: PARTITION,
        after: Some(Bytes::from("here")),
    };
    let graves_tell = Message::GravesTell {
        id: 9,
        rows: vec![(key(), summary())],
        next: Some(Bytes::from("there")),
    };
    named(vec![
        ("digest ask", digest_ask),
        ("digest tell", digest_tell),
        ("leaf ask", leaf_ask),
        ("leaf tell", leaf_tell),
        ("sums ask", sums_ask),
        ("sums tell", sums_tell),
        ("graves ask", graves_ask),
        ("graves tell", graves_tell),
    ])
}
