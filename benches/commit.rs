//! The door: what a commit costs by the number of changes in it, on a disk and in memory. The difference is
//! the fsync.
#![expect(clippy::expect_used, reason = "a bench may stop at what cannot be")]

use std::time::Duration;

use bytes::Bytes;
use criterion::{
    BatchSize, BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main,
    measurement::WallTime,
};
use sterna::model::{
    Change, KeyspaceId, Limits, NodeId, PartitionId, RowKey, Wall, Write, WriteOp,
};
use sterna::storage::{Door, Engine, Fjall, MemoryDisk, OpenOptions};

const KEYSPACE: KeyspaceId = KeyspaceId(7);
const PARTITIONS: u16 = 16;
const WALL: Wall = Wall(1_700_000_000_000_000);
const VALUE_BYTES: usize = 1024;

fn open<E: Engine>(engine: E) -> Door<E> {
    let partition = |index| PartitionId {
        keyspace: KEYSPACE,
        index,
    };
    let options = OpenOptions {
        node: NodeId(1),
        partitions: (0..PARTITIONS).map(partition).collect(),
        partition_count: PARTITIONS,
        limits: Limits::default(),
        conflicts_kept: std::collections::BTreeMap::new(),
        wall: WALL,
        chance: 5,
        sweep_rows: sterna::storage::SWEEP_ROWS,
    };
    Door::open(engine, options).expect("an empty store opens").0
}

/// Writes of new keys; values that do not compress.
fn changes(chance: &mut fastrand::Rng, count: usize) -> Vec<Change> {
    let mut change = || {
        let mut value = vec![0; VALUE_BYTES];
        chance.fill(&mut value);
        Change::Write(Write::new(
            RowKey::plain(KEYSPACE, Bytes::from(chance.u64(..).to_string())),
            WriteOp::Put(Bytes::from(value)),
        ))
    };
    (0..count).map(|_| change()).collect()
}

fn bench<E: Engine>(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, door: &mut Door<E>) {
    let mut chance = fastrand::Rng::with_seed(1);
    for count in [1, 64, 512] {
        group.throughput(Throughput::Elements(
            u64::try_from(count).unwrap_or(u64::MAX),
        ));
        group.bench_function(format!("{name}, {count} changes of 1 KiB"), |bencher| {
            bencher.iter_batched(
                || changes(&mut chance, count),
                |changes| {
                    let effects = door.stage(WALL, &changes).expect("it is staged");
                    door.commit().expect("it is committed");
                    effects
                },
                BatchSize::PerIteration,
            );
        });
    }
}

fn commits(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("commit");
    group
        .sample_size(10)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1));
    bench(&mut group, "memory", &mut open(MemoryDisk::new().engine()));
    let dir = tempfile::tempdir().expect("there is a folder for temporary files");
    let fjall = Fjall::open(dir.path()).expect("an empty folder opens");
    bench(&mut group, "fjall", &mut open(fjall));
    group.finish();
}

criterion_group!(benches, commits);
criterion_main!(benches);
