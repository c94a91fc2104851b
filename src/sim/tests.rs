//! The simulator tested by itself: fixed seeds are clean, each planted bug is found, and a seed is one run.

use super::{Bug, Options, Plan, Report, run, run_plan, shrink};

fn run_seed(seed: u64, bug: Option<Bug>) -> Report {
    run(&Options {
        seed,
        bug,
        trace_lines: 0,
    })
}

/// Fixed seeds that must stay clean.
const SEEDS: std::ops::RangeInclusive<u64> = 1..=20;
/// Seeds that once failed: a read that went on while what it had seen was collected; changes that were lost with their
/// disk and kept tombstones; a log that was relayed with the holes of another pass; a pause within a pause; a delete
/// that a replica was counted for that had not met what it deletes; a refill from one that does not serve; a piece of log
/// that was passed on as if nothing stood in what a refill had raised; a hole that was vouched for before it was filled; a
/// collection that waited for a life that others had retired; a fence that waited for what a dead node had alone; a write
/// that a read's repair hid; a life that was numbered below one before it; a read that took an operation for gone
/// where it was not shown; writes that were read, replaced, and stamped again; a stream that waited for a lost piece of the pass
/// before; a read whose repair came too late; a session that saw at one
/// replica what a quorum had not got; counters of a map that another had reset, and the clear did not tell of; a tombstone
/// of a share that was on one disk only; a write that stood in a life that was over when its log came; one that stood where
/// the disk was an old copy; a page of log that was read before its holes were filled; a
/// life whose ids were those of the one before; partitions that never had their turn to be compared; a tombstone
/// that was told of again and again, because a clear had come before or after it.
const ONCE_FAILED: [u64; 30] = [
    30_265, 300_306, 2_230, 600_178, 600_103, 600_159, 920_866, 920_926, 1_101_774, 2_000_324,
    2_000_063, 2_101_547, 2_102_389, 3_002_454, 8_004_225, 9_500_214, 9_500_278, 9_500_294,
    10_000_946, 13_000_861, 15_001_108, 15_001_300, 15_003_663, 15_004_435, 16_001_262, 23_000_834,
    25_000_739, 29_003_441, 30_000_525, 31_006_688,
];

#[test]
fn fixed_seeds_are_clean() {
    for seed in SEEDS.chain(ONCE_FAILED) {
        let report = run_seed(seed, None);
        assert_eq!(report.violation, None, "seed {seed}");
    }
}

#[test]
fn a_seed_is_one_run() {
    for seed in [3, 8] {
        let (one, two) = (run_seed(seed, None), run_seed(seed, None));
        assert_eq!(one, two, "seed {seed}");
    }
    assert_ne!(run_seed(3, None).hash, run_seed(8, None).hash);
}

/// Every scenario that is kept must pass: each was shrunk out of a run that once failed.
#[test]
fn kept_scenarios_are_clean() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/scenarios");
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|file| file.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "txt"))
        .collect();
    files.sort();
    assert!(!files.is_empty());
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let plan = Plan::parse(&text).unwrap();
        let report = run_plan(&plan, None, 0);
        assert_eq!(report.violation, None, "{}", file.display());
    }
}

#[test]
fn a_failing_run_is_shrunk_to_one_that_fails_alike() {
    let bug = Some(Bug::ForgetContexts);
    let seed = (1..).find(|seed| run_seed(*seed, bug).violation.is_some());
    let plan = Plan::of_seed(seed.unwrap());
    let shrunk = shrink(&plan, bug, 12).unwrap();
    let (text, before) = (shrunk.plan.to_text().unwrap(), plan.to_text().unwrap());
    assert_ne!(text, before, "nothing was left out");
    let again = Plan::parse(&text).unwrap();
    let report = run_plan(&again, bug, 0);
    assert_eq!(report.violation, Some(shrunk.violation));
}
