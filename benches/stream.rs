//! From one region to another: two machines with stores in memory and nothing between them, and two real QUIC
//! endpoints with nothing behind them.
#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "a bench may stop at what cannot be"
)]

#[path = "stream/pair.rs"]
mod pair;
#[path = "stream/quic.rs"]
mod quic;

use std::time::Duration;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

/// Writes of one turn.
const WRITES: u64 = 1000;
/// Messages of one turn: few enough for one lane's queue.
const MESSAGES: u64 = 1000;

fn machines(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("machines in memory");
    group
        .sample_size(10)
        .measurement_time(Duration::from_secs(2))
        .throughput(Throughput::Elements(WRITES));
    let mut pair = pair::Pair::new();
    let value = Bytes::from(vec![7; 1024]);
    group.bench_function("write 1 KiB here and apply it there", |bencher| {
        bencher.iter(|| pair.write(WRITES, &value));
    });
    group.finish();
}

fn endpoints(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime starts");
    let mut pair = runtime.block_on(quic::Pair::new());
    let mut group = criterion.benchmark_group("quic on loopback");
    group
        .sample_size(10)
        .measurement_time(Duration::from_secs(2));
    // A link between regions compresses, so the values must not be all alike.
    let mut chance = fastrand::Rng::with_seed(1);
    for bytes in [16, 1024] {
        let messages = quic::messages(MESSAGES, bytes, &mut chance);
        group.throughput(Throughput::Elements(MESSAGES));
        group.bench_function(format!("messages with {bytes} B"), |bencher| {
            bencher.iter(|| runtime.block_on(pair.send(&messages)));
        });
    }
    group.finish();
}

criterion_group!(benches, machines, endpoints);
criterion_main!(benches);
