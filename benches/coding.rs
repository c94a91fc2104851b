//! Forms of bytes: rows and pieces of log, there and back.
#![expect(clippy::expect_used, reason = "a bench may stop at what cannot be")]

use std::hint::black_box;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sterna::coding::{decode, encode};
use sterna::model::{
    Actor, Dot, Incarnation, KeyspaceId, LogItem, NodeId, PartitionId, Row, RowKey, Timestamp,
    Version,
};
use sterna::protocol::{Append, Message};

const VERSION: u8 = 1;
const KEYSPACE: KeyspaceId = KeyspaceId(7);
const ACTOR: Actor = Actor {
    node: NodeId(1),
    incarnation: Incarnation(2),
};

fn row(n: u64) -> Row {
    Row::Register(Version {
        timestamp: Timestamp {
            micros: 1_700_000_000_000_000 + n,
            logical: 0,
        },
        dot: Dot { actor: ACTOR, n },
        replaced: Timestamp::ZERO,
        expires: None,
        after: None,
        value: Some(Bytes::from(vec![7; 1024])),
    })
}

/// A piece of log of so many rows of 1 KiB.
fn append(items: u64) -> Message {
    let item = |n| LogItem {
        n,
        key: RowKey::plain(KEYSPACE, Bytes::from(format!("user:{n}"))),
        row: row(n),
    };
    Message::Append(Append {
        partition: PartitionId {
            keyspace: KEYSPACE,
            index: 3,
        },
        actor: ACTOR,
        from: 0,
        to: items,
        complete_from: Some(0),
        mark_micros: None,
        items: (1..=items).map(item).collect(),
    })
}

fn both<T: Serialize + DeserializeOwned>(criterion: &mut Criterion, name: &str, value: &T) {
    let bytes = encode(VERSION, value).expect("it has a form");
    let mut group = criterion.benchmark_group(name);
    group.throughput(Throughput::Bytes(
        u64::try_from(bytes.len()).unwrap_or(u64::MAX),
    ));
    group.bench_function("encode", |bencher| {
        bencher.iter(|| encode(VERSION, black_box(value)));
    });
    group.bench_function("decode", |bencher| {
        bencher.iter(|| decode::<T>(VERSION, black_box(&bytes)).expect("it was encoded"));
    });
    group.finish();
}

fn forms(criterion: &mut Criterion) {
    both(criterion, "row of 1 KiB", &row(1));
    both(criterion, "append of 1 row", &append(1));
    both(criterion, "append of 100 rows", &append(100));
    both(
        criterion,
        "short message",
        &Message::Repaired { id: 9, held: None },
    );
}

criterion_group!(benches, forms);
criterion_main!(benches);
