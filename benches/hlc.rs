//! The clock: what a stamp costs.
#![expect(clippy::expect_used, reason = "a bench may stop at what cannot be")]

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use sterna::hlc::Hlc;
use sterna::model::{Timestamp, Wall};

const WALL: Wall = Wall(1_700_000_000_000_000);

fn clock() -> Hlc {
    Hlc::new(Timestamp::ZERO, Duration::from_millis(500))
}

fn stamps(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("hlc");
    let mut standing = clock();
    group.bench_function("stamp while the wall stands", |bencher| {
        bencher.iter(|| standing.stamp(black_box(WALL), Timestamp::ZERO));
    });
    let (mut moving, mut wall) = (clock(), WALL);
    group.bench_function("stamp while the wall moves", |bencher| {
        bencher.iter(|| {
            wall.0 += 1;
            moving.stamp(black_box(wall), Timestamp::ZERO)
        });
    });
    let (mut hearing, mut seen) = (clock(), WALL.0);
    group.bench_function("observe", |bencher| {
        bencher.iter(|| {
            seen += 1;
            let timestamp = Timestamp {
                micros: seen,
                logical: 7,
            };
            hearing
                .observe(Wall(seen), black_box(timestamp))
                .expect("it is not ahead");
        });
    });
    group.finish();
}

criterion_group!(benches, stamps);
criterion_main!(benches);
