//! Rows: what merging and hashing one costs.

use std::hint::black_box;

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use sterna::digest::row_hash;
use sterna::model::{
    Actor, Context, Dot, Incarnation, KeyspaceId, NodeId, Row, RowKey, Share, Siblings, Stamp,
    Tally, Timestamp, Version,
};

fn stamp(node: u32, micros: u64) -> Stamp {
    let actor = Actor {
        node: NodeId(node),
        incarnation: Incarnation(2),
    };
    Stamp {
        timestamp: Timestamp { micros, logical: 0 },
        dot: Dot { actor, n: micros },
    }
}

fn version(node: u32, micros: u64, bytes: usize) -> Version {
    Version::new(stamp(node, micros), Some(Bytes::from(vec![7; bytes])))
}

fn register(micros: u64, bytes: usize) -> Row {
    Row::Register(version(1, micros, bytes))
}

/// So many versions, each by another actor, without knowledge of each other.
fn siblings(actors: std::ops::Range<u32>) -> Row {
    let mut row = Siblings::default();
    for node in actors {
        row.put(version(node, 1, 1024), &Context::default());
    }
    Row::Siblings(row)
}

/// What replaces all of it.
fn resolved(row: &Row, node: u32) -> Row {
    let mut row = row.clone();
    if let Row::Siblings(row) = &mut row {
        row.put(version(node, 2, 1024), &row.context());
    }
    row
}

fn share(n: u64, reset: u64) -> Row {
    let tally = |n| Tally {
        n,
        since: 1,
        sum: i64::try_from(n).unwrap_or(i64::MAX),
    };
    Row::Share(Share {
        stamp: stamp(1, n.max(reset)),
        own: tally(n),
        reset: tally(reset),
    })
}

fn merges(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("merge");
    let (older, newer) = (register(1, 1024), register(2, 1024));
    let member = siblings(1..2);
    let many = siblings(1..17);
    for (name, mine, theirs) in [
        ("register, theirs wins", &older, &newer),
        ("register, mine stays", &newer, &older),
        ("siblings, 1 replaced", &member, &resolved(&member, 2)),
        ("siblings, the same 16", &many, &many),
        ("siblings, 16 and 16 others", &many, &siblings(17..33)),
        ("siblings, 16 replaced", &many, &resolved(&many, 17)),
        ("share, increments and a reset", &share(9, 0), &share(7, 5)),
    ] {
        group.bench_function(name, |bencher| {
            bencher.iter_batched(
                || mine.clone(),
                |mut mine| mine.merge(black_box(theirs)),
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

fn hashes(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("row hash");
    let key = RowKey::plain(KeyspaceId(7), Bytes::from_static(b"user:1234567"));
    for bytes in [16, 1 << 10, 64 << 10] {
        let row = register(1, bytes);
        group.throughput(Throughput::Bytes(u64::try_from(bytes).unwrap_or(u64::MAX)));
        group.bench_function(format!("{bytes} B"), |bencher| {
            bencher.iter(|| row_hash(black_box(&key), black_box(&row)));
        });
    }
    group.finish();
}

criterion_group!(benches, merges, hashes);
criterion_main!(benches);
