//! Planted bugs: each must be found by a checker that fits, within a number of seeds.
//!
//! The test runs each from the seed that finds it. With `SEEDS_FROM` in the environment it searches from there on, and
//! prints the table of `docs/reliability.md`; `BUGS` picks some by name.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{Bug, Options, Violation, run};
use crate::model::planted::Guard;

/// A planted bug must be found within so many seeds.
const SEEDS_MAX: u64 = 200;

/// A bug, the checkers that may find it, and the first seed, from 1 on, in which one of them does.
type Planted = (Bug, &'static [&'static str], u64);

const ANY: &[&str] = &["*"];

const PLANTED: &[Planted] = &[
    (Bug::AckBeforeSync, ANY, 1),
    (Bug::ReuseDot, ANY, 1),
    (Bug::DropTombstonesEarly, ANY, 1),
    (Bug::ForgetContexts, ANY, 1),
    (Bug::AssumeContexts, ANY, 1),
    (Bug::ForgetOperationIds, ANY, 1),
    (Bug::ServeOldCopy, ANY, 1),
    (Bug::AckIncomplete, ANY, 1),
    (Bug::HideNewer, ANY, 1),
    (Bug::ForgetExpiry, ANY, 1),
    (Bug::MarkAhead, ANY, 1),
    (Bug::IgnoreRemovals, ANY, 1),
    (Bug::Without(Guard::WriteQuorum), ANY, 1),
    (Bug::Without(Guard::Restamp), ANY, 1),
    (Bug::Without(Guard::ReadQuorum), ANY, 1),
    (Bug::Without(Guard::WriteBack), ANY, 1),
    (Bug::Without(Guard::Observe), ANY, 1),
    (Bug::Without(Guard::Confirm), ANY, 1),
    (Bug::Without(Guard::StableFirst), ANY, 1),
    (Bug::Without(Guard::WholeStream), ANY, 1),
    (Bug::Without(Guard::AppendGap), ANY, 1),
    (Bug::Without(Guard::AppendWhole), ANY, 1),
    (Bug::Without(Guard::StampAbove), ANY, 1),
    (Bug::Without(Guard::StampVouched), ANY, 1),
    (Bug::Without(Guard::MaxOffset), ANY, 1),
    (Bug::Without(Guard::MarkWaits), ANY, 1),
    (Bug::Without(Guard::SessionGate), ANY, 1),
    (Bug::Without(Guard::FreshGate), ANY, 1),
    (Bug::Without(Guard::Condition), ANY, 1),
    (Bug::Without(Guard::Crossed), ANY, 1),
    (Bug::Without(Guard::ForwardOnce), ANY, 1),
    (Bug::Without(Guard::KnownOnce), ANY, 1),
    (Bug::Without(Guard::Surplus), ANY, 1),
    (Bug::Without(Guard::Absorb), ANY, 1),
    (Bug::Without(Guard::MergeAll), ANY, 1),
    (Bug::Without(Guard::Compact), ANY, 1),
    (Bug::Without(Guard::OwnContext), ANY, 1),
    (Bug::Without(Guard::LateClear), ANY, 1),
    (Bug::Without(Guard::LateExpiry), ANY, 1),
    (Bug::Without(Guard::ReadLive), ANY, 1),
    (Bug::Without(Guard::DigestGraves), ANY, 1),
    (Bug::Without(Guard::SecondStep), ANY, 1),
    (Bug::Without(Guard::Moments), ANY, 1),
    (Bug::Without(Guard::RetirePause), ANY, 1),
    (Bug::Without(Guard::RetireFill), ANY, 1),
    (Bug::Without(Guard::CaughtUp), ANY, 1),
    (Bug::Without(Guard::FenceKept), ANY, 1),
    (Bug::Without(Guard::OnceHeld), ANY, 1),
    (Bug::Without(Guard::LoserCounts), ANY, 1),
];

fn run_seed(seed: u64, bug: Option<Bug>) -> Option<Violation> {
    let options = Options {
        seed,
        bug,
        trace_lines: 0,
    };
    run(&options).violation
}

/// Which checker finds a bug first from a seed on, and where; with what others said before. Only seeds that are clean
/// without the bug count.
fn find(
    bug: Bug,
    checks: &[&str],
    seeds: impl Iterator<Item = u64>,
) -> (Option<(u64, Violation)>, BTreeMap<&'static str, u64>) {
    let mut others = BTreeMap::new();
    for seed in seeds {
        let Some(violation) = run_seed(seed, Some(bug)) else {
            continue;
        };
        if run_seed(seed, None).is_some() {
            continue;
        }
        if checks.contains(&violation.check) || checks == ANY {
            return (Some((seed, violation)), others);
        }
        others.entry(violation.check).or_insert(seed);
    }
    (None, others)
}

/// Calls for each bug, on two threads.
fn each(planted: &[Planted], call: impl Fn(&Planted) + Sync) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(one) = planted.get(next.fetch_add(1, Ordering::Relaxed)) {
                    call(one);
                }
            });
        }
    });
}

#[test]
fn planted_bugs_are_found() {
    let only = std::env::var("BUGS").unwrap_or_default();
    let from = std::env::var("SEEDS_FROM").ok();
    let from: Option<u64> = from.and_then(|from| from.parse().ok());
    let planted: Vec<Planted> = PLANTED
        .iter()
        .filter(|(bug, ..)| only.is_empty() || only.split(',').any(|name| format!("{bug:?}").contains(name)))
        .copied()
        .collect();
    let missed = Mutex::new(Vec::new());
    each(&planted, |(bug, checks, known)| {
        let seeds = match from {
            Some(from) => from..=from + SEEDS_MAX - 1,
            None => *known..=*known,
        };
        let begin = std::time::Instant::now();
        let first = *seeds.start();
        let (found, others) = find(*bug, checks, seeds);
        let took = begin.elapsed().as_secs();
        match found {
            Some((seed, violation)) => println!(
                "| {bug:?} | {} | {seed} | {} | {others:?} {took} s, {}",
                violation.check,
                seed - first + 1,
                violation.words.chars().take(300).collect::<String>()
            ),
            None => {
                println!("| {bug:?} | MISSED | {others:?} {took} s");
                missed.lock().unwrap().push(*bug);
            }
        }
    });
    let missed = missed.into_inner().unwrap();
    assert!(missed.is_empty(), "not found: {missed:?}");
}
