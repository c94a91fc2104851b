//! FJ10: how long commits take while memtables are flushed, tables compacted and journals rotated.

use std::time::Instant;

use hdrhistogram::Histogram;

use super::{commit, factor, open_with, put_bytes};
use crate::storage::fjall::Sizes;

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "what is measured is the time of this machine's disk"
)]
fn commits_stay_far_below_the_time_after_which_the_node_gives_up() {
    // On the disk, not in memory.
    let folder = tempfile::tempdir().unwrap();
    let sizes = Sizes {
        rows_memtable_bytes: 1 << 20,
        other_memtable_bytes: 1 << 20,
        workers: 2,
    };
    let (mut door, _) = open_with(folder.path(), sizes);
    let mut chance = fastrand::Rng::with_seed(1);
    let mut times = Histogram::<u64>::new(3).unwrap();
    for _ in 0..400 * factor() {
        let mut value = || {
            let mut bytes = vec![0; 4096];
            chance.fill(&mut bytes);
            bytes
        };
        let changes: Vec<_> = (0..16)
            .map(|i| put_bytes(&format!("k{i}"), value()))
            .collect();
        let begun = Instant::now();
        commit(&mut door, &changes);
        times
            .record(u64::try_from(begun.elapsed().as_micros()).unwrap())
            .unwrap();
    }
    let at = |quantile| times.value_at_quantile(quantile);
    println!(
        "commit of 64 KiB: p50 {} us, p99 {} us, max {} us",
        at(0.5),
        at(0.99),
        times.max()
    );
    assert!(
        times.max() < 15_000_000,
        "half of what the watching thread allows"
    );
}
