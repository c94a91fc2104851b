//! Rows: what merging and hashing one costs.

use std::hint::black_box;

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use sterna::digest::row_hash;
use sterna::model::{Actor, Dot, Incarnation, KeyspaceId, NodeId, Row, RowKey, Timestamp, Version};

fn row(micros: u64, bytes: usize) -> Row {
    let actor = Actor {
        node: NodeId(1),
        incarnation: Incarnation(2),
    };
    Row::Register(Version {
        timestamp: Timestamp { micros, logical: 0 },
        dot: Dot { actor, n: micros },
        replaced: Timestamp::ZERO,
        expires: None,
        after: None,
        value: Some(Bytes::from(vec![7; bytes])),
    })
}

fn merges(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("merge");
    let (older, newer) = (row(1, 1024), row(2, 1024));
    for (name, mine, theirs) in [
        ("theirs wins", &older, &newer),
        ("mine stays", &newer, &older),
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
        let row = row(1, bytes);
        group.throughput(Throughput::Bytes(u64::try_from(bytes).unwrap_or(u64::MAX)));
        group.bench_function(format!("{bytes} B"), |bencher| {
            bencher.iter(|| row_hash(black_box(&key), black_box(&row)));
        });
    }
    group.finish();
}

criterion_group!(benches, merges, hashes);
criterion_main!(benches);
