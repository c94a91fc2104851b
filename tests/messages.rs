//! Golden bytes of what nodes say to each other. A test that fails here means: nodes of this version and of the
//! one before would not understand each other. Give the new form a new version byte. `UPDATE=1` writes the file.
#![cfg(test)]

use std::collections::BTreeMap;
use std::path::PathBuf;

use bytes::Bytes;
use proptest::prelude::*;
use sterna::coding::{decode, encode};
use sterna::model::{
    Actor, DigestNode, Dot, Incarnation, KeyspaceId, Level, LogItem, NodeId, PartitionId, Position,
    Reach, Row, RowKey, Summary, Timestamp, Version, WriteOp,
};
use sterna::protocol::{
    Ack, Append, Heartbeat, Known, Mark, Message, Operation, Outcome, Refusal, Unavailable,
    Unknown, Want,
};

/// The version byte of messages.
const VERSION: u8 = 1;
/// Variants of [`Message`].
const VARIANTS: u8 = 17;

const PARTITION: PartitionId = PartitionId {
    keyspace: KeyspaceId(0xcafe),
    index: 3,
};
const ACTOR: Actor = Actor {
    node: NodeId(0x0102_0304),
    incarnation: Incarnation(0x0a0b_0c0d_0e0f),
};
const TIMESTAMP: Timestamp = Timestamp {
    micros: 1_700_000_000_000_001,
    logical: 2,
};
const DOT: Dot = Dot {
    actor: ACTOR,
    n: 300,
};

fn key() -> RowKey {
    RowKey {
        subkey: Bytes::from("sub"),
        ..RowKey::plain(KeyspaceId(0xcafe), Bytes::from_static(b"a\0key"))
    }
}

fn row(value: Option<&'static str>) -> Row {
    Row::Register(Version {
        timestamp: TIMESTAMP,
        dot: DOT,
        replaced: Timestamp::ZERO,
        expires: None,
        after: None,
        value: value.map(Bytes::from),
    })
}

fn summary() -> Summary {
    row(None).summary()
}

fn position() -> Position {
    let reach = Reach {
        applied: 300,
        complete: 299,
    };
    Position(BTreeMap::from([(ACTOR, reach)]))
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

/// Soft state, log and acknowledgements.
fn stream() -> Vec<(&'static str, Message)> {
    let heartbeat = Heartbeat {
        incarnation: ACTOR.incarnation,
        micros: TIMESTAMP.micros,
        sequence: 5,
        heard: 4,
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
    let append = |mark_micros, value| {
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
                row: row(value),
            }],
        })
    };
    let ack = Ack {
        partition: PARTITION,
        actor: ACTOR,
        reached: vec![(ACTOR.node, 300)],
        from: 298,
        applied: 300,
        newer: vec![(299, TIMESTAMP)],
    };
    let trimmed = Message::Trimmed {
        partition: PARTITION,
        actor: ACTOR,
    };
    vec![
        ("heartbeat", Message::Heartbeat(heartbeat)),
        ("wants", Message::Wants(vec![want(true), want(false)])),
        ("append", append(Some(TIMESTAMP.micros), Some("value"))),
        ("append of a delete", append(None, None)),
        ("acks", Message::Acks(vec![ack])),
        ("trimmed", trimmed),
    ]
}

/// Operations passed on.
fn operations() -> Vec<(&'static str, Message)> {
    let forward = |operation, level| Message::Forward {
        id: 9,
        operation,
        level,
        micros_left: 2_000_000,
    };
    let write = |op| Operation::Write { key: key(), op };
    let list = Operation::List {
        keyspace: PARTITION.keyspace,
        index: 3,
        after: Some(key()),
        rows_max: 100,
        bytes_max: 65_536,
    };
    let put = WriteOp::Put(Bytes::from("value"));
    vec![
        (
            "forward get",
            forward(Operation::Get { key: key() }, Level::One),
        ),
        ("forward put", forward(write(put), Level::LocalQuorum)),
        (
            "forward delete",
            forward(write(WriteOp::Delete), Level::UnsafeOne),
        ),
        ("forward list", forward(list.clone(), Level::EachQuorum)),
        ("forward list at all", forward(list, Level::All)),
    ]
}

/// How they end.
fn outcomes() -> Vec<(&'static str, Message)> {
    let page = |next| Outcome::Page {
        rows: vec![(key(), row(Some("value")))],
        next,
    };
    let outcomes = vec![
        ("written", Outcome::Written(summary())),
        ("read", Outcome::Read(Some(row(Some("value"))))),
        ("read nothing", Outcome::Read(None)),
        ("page", page(Some((3, Some(key()))))),
        ("last page", page(None)),
        ("no keyspace", Outcome::Refused(Refusal::NoKeyspace)),
        ("elsewhere", Outcome::Refused(Refusal::KeyspaceElsewhere)),
        ("key size", Outcome::Refused(Refusal::KeySize)),
        ("value size", Outcome::Refused(Refusal::ValueSize)),
        ("level", Outcome::Refused(Refusal::Level)),
        ("replicas", Outcome::Unavailable(Unavailable::Replicas)),
        ("deadline", Outcome::Unavailable(Unavailable::Deadline)),
        ("overloaded", Outcome::Unavailable(Unavailable::Overloaded)),
        ("stopping", Outcome::Unavailable(Unavailable::Stopping)),
        (
            "acknowledgements",
            Outcome::Unknown(Unknown::Acknowledgements),
        ),
        ("coordinator", Outcome::Unknown(Unknown::Coordinator)),
    ];
    let forwarded = |(name, outcome)| (name, Message::Forwarded { id: 9, outcome });
    outcomes.into_iter().map(forwarded).collect()
}

/// Reads and repair.
fn reads() -> Vec<(&'static str, Message)> {
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
    vec![
        ("read whole", read(true)),
        ("read summaries", read(false)),
        ("summaries", summaries),
        ("rows", rows),
        ("cannot read", Message::CannotRead { id: 9 }),
        ("repair", repair),
        (
            "repaired",
            Message::Repaired {
                id: 9,
                is_kept: true,
            },
        ),
    ]
}

/// Reconciliation.
fn reconciliation() -> Vec<(&'static str, Message)> {
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
        first: 17,
        last: 4095,
        after: Some(key()),
    };
    let leaf_tell = Message::LeafTell {
        id: 9,
        position: position(),
        rows: vec![(key(), summary())],
        more: true,
    };
    vec![
        ("digest ask", digest_ask),
        ("digest tell", digest_tell),
        ("leaf ask", leaf_ask),
        ("leaf tell", leaf_tell),
    ]
}

fn samples() -> Vec<(&'static str, Message)> {
    [
        stream(),
        operations(),
        outcomes(),
        reads(),
        reconciliation(),
    ]
    .concat()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    text.as_bytes().chunks(2).map(byte).collect()
}

#[test]
fn sent_bytes_never_change() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/messages-v1.txt");
    let present: String = samples()
        .iter()
        .map(|(name, message)| format!("{name}: {}\n", hex(&encode(VERSION, message).unwrap())))
        .collect();
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &present).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap();
    assert_eq!(present, golden, "messages have another form than before");
    for ((name, message), line) in samples().iter().zip(golden.lines()) {
        let (_, bytes) = line.split_once(": ").unwrap();
        let read: Message = decode(VERSION, &unhex(bytes)).unwrap();
        assert_eq!(read, *message, "{name}");
    }
}

#[test]
fn every_kind_of_message_is_among_the_samples() {
    // The first byte after the version tells the kind.
    let mut kinds: Vec<u8> = samples()
        .iter()
        .map(|(_, message)| encode(VERSION, message).unwrap()[1])
        .collect();
    kinds.sort_unstable();
    kinds.dedup();
    assert_eq!(kinds, (0..VARIANTS).collect::<Vec<u8>>());
    // The kind after the last is none, so there is no variant without a sample.
    let beyond = decode::<Message>(VERSION, &[VERSION, VARIANTS, 0, 0, 0, 0, 0, 0, 0, 0]);
    let words = beyond.unwrap_err().to_string();
    let known = decode::<Message>(VERSION, &[VERSION, 0])
        .unwrap_err()
        .to_string();
    assert_ne!(words, known, "kind {VARIANTS} is one: give it a sample");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes_are_no_harm(kind in 0..VARIANTS, bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        drop(decode::<Message>(VERSION, &bytes));
        let begun = [&[VERSION, kind], bytes.as_slice()].concat();
        drop(decode::<Message>(VERSION, &begun));
    }

    #[test]
    fn changed_bytes_are_no_harm(
        pick in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let samples = samples();
        let mut bytes = encode(VERSION, &pick.get(&samples).1).unwrap();
        for (place, byte) in changes {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        // Whatever is understood can be said again, and is then the same.
        if let Ok(message) = decode::<Message>(VERSION, &bytes) {
            let again = encode(VERSION, &message).unwrap();
            prop_assert_eq!(decode::<Message>(VERSION, &again).unwrap(), message);
        }
        bytes.truncate(cut.index(bytes.len()));
        drop(decode::<Message>(VERSION, &bytes));
    }
}
