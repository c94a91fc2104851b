//! Planted bugs: each must be found by a checker that fits, within a number of seeds.
//!
//! The test starts each bug at a seed that is known to find it, and goes on for some seeds if that one does not (a
//! change of the workload changes every run). With `SEEDS_FROM` in the environment it searches from there on, also
//! for the bugs that are not known to be found; `BUGS` picks some by name. Both print the rows of the table in
//! `docs/reliability.md`, but for its second column.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{Bug, Options, Violation, run};
use crate::model::planted::Guard;

/// In a search, a planted bug must be found within so many seeds.
const SEEDS_MAX: u64 = 200;
/// From the seed that is known to find it, within so many.
const SEEDS_NEAR: u64 = 20;

/// A bug, the checkers that may find it, and the first seed, from 1 on, in which one of them does.
type Planted = (Bug, &'static [&'static str], u64);

/// A value that was lost, came back, outlived its time, or was never there.
const VALUES: &[&str] = &[
    "reads", "durable", "deletes", "honest", "converge", "counter", "set", "siblings", "session",
    "expiry",
];

const PLANTED: &[Planted] = &[
    (Bug::ReuseDot, &["unique"], 12),
    (Bug::DropTombstonesEarly, VALUES, 10),
    (Bug::ForgetContexts, VALUES, 1),
    (Bug::AssumeContexts, VALUES, 1),
    (Bug::ForgetOperationIds, VALUES, 19),
    (Bug::AckBeforeSync, VALUES, 109),
    (Bug::MarkAhead, &["session"], 4),
    (Bug::IgnoreRemovals, VALUES, 3),
    (Bug::ForgetExpiry, VALUES, 4),
    (Bug::Without(Guard::WriteQuorum), VALUES, 1),
    (Bug::Without(Guard::WriteBack), VALUES, 26),
    (Bug::Without(Guard::Confirm), VALUES, 315),
    (Bug::Without(Guard::WholeStream), VALUES, 138),
    (Bug::Without(Guard::RetireFill), VALUES, 144),
    (Bug::Without(Guard::StableFirst), &["stable"], 1),
    (Bug::Without(Guard::AppendGap), VALUES, 19),
    (Bug::Without(Guard::MaxOffset), &["ahead"], 2),
    (Bug::Without(Guard::MarkWaits), &["session"], 24),
    (Bug::Without(Guard::SessionGate), &["session"], 4),
    (Bug::Without(Guard::FreshGate), &["session"], 98),
    (Bug::Without(Guard::Condition), &["condition"], 6),
    (Bug::Without(Guard::ForwardOnce), VALUES, 24),
    (Bug::Without(Guard::MergeAll), VALUES, 11),
    (Bug::Without(Guard::Compact), VALUES, 6),
    (Bug::Without(Guard::ReadLive), VALUES, 81),
    (Bug::Without(Guard::LoserCounts), &["conflict"], 4),
    (Bug::Without(Guard::Surplus), VALUES, 32),
    (Bug::HideNewer, VALUES, 2),
    (Bug::Without(Guard::ReadQuorum), VALUES, 2),
    (Bug::Without(Guard::Restamp), VALUES, 65),
    (Bug::Without(Guard::Observe), VALUES, 38),
    (Bug::Without(Guard::StampAbove), VALUES, 4),
];

/// Bugs that are not known to be found, and the checkers that should: they are looked for only in a search.
const SOUGHT: &[(Bug, &[&str])] = &[
    (Bug::ServeOldCopy, VALUES),
    (Bug::AckIncomplete, VALUES),
    (Bug::Without(Guard::AppendWhole), VALUES),
    (Bug::Without(Guard::StampVouched), VALUES),
    (Bug::Without(Guard::Crossed), &["condition"]),
    (Bug::Without(Guard::Settled), &["session"]),
    (Bug::Without(Guard::Hidden), VALUES),
    (Bug::Without(Guard::WriteGate), VALUES),
    (Bug::Without(Guard::RestampCondition), VALUES),
    (Bug::Without(Guard::StandFirst), VALUES),
    (Bug::Without(Guard::Stood), VALUES),
    (Bug::Without(Guard::StoodServing), VALUES),
    (Bug::Without(Guard::Decided), VALUES),
    (Bug::Without(Guard::KnownOnce), VALUES),
    (Bug::Without(Guard::Absorb), VALUES),
    (Bug::Without(Guard::OwnContext), VALUES),
    (Bug::Without(Guard::LateClear), VALUES),
    (Bug::Without(Guard::LateExpiry), VALUES),
    (Bug::Without(Guard::DigestGraves), &["converge", "quiet"]),
    (Bug::Without(Guard::SecondStep), VALUES),
    (Bug::Without(Guard::Moments), VALUES),
    (Bug::Without(Guard::RetirePause), VALUES),
    (Bug::Without(Guard::CaughtUp), VALUES),
    (Bug::Without(Guard::FenceKept), VALUES),
    (Bug::Without(Guard::OnceHeld), VALUES),
];

fn run_seed(seed: u64, bug: Option<Bug>) -> Option<Violation> {
    let options = Options {
        seed,
        bug,
        trace_lines: 0,
    };
    run(&options).violation
}

/// Which seeds are clean without a bug.
#[derive(Debug, Default)]
struct Clean(Mutex<BTreeMap<u64, bool>>);

impl Clean {
    fn is_clean(&self, seed: u64) -> bool {
        if let Some(is_clean) = self.0.lock().unwrap().get(&seed) {
            return *is_clean;
        }
        let is_clean = run_seed(seed, None).is_none();
        self.0.lock().unwrap().insert(seed, is_clean);
        is_clean
    }
}

/// The first seed in which a fitting checker finds a bug. Only seeds that are clean without the bug count.
fn find(
    bug: Bug,
    checks: &[&str],
    clean: &Clean,
    mut seeds: impl Iterator<Item = u64>,
) -> Option<(u64, Violation)> {
    seeds.find_map(|seed| {
        let violation = run_seed(seed, Some(bug))?;
        let fits = checks.contains(&violation.check) && clean.is_clean(seed);
        fits.then_some((seed, violation))
    })
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
    let from: Option<u64> = std::env::var("SEEDS_FROM")
        .ok()
        .and_then(|from| from.parse().ok());
    let sought = SOUGHT.iter().map(|(bug, checks)| (*bug, *checks, 1));
    let mut planted = PLANTED.to_vec();
    planted.extend(sought.filter(|_| from.is_some()));
    planted.retain(|(bug, ..)| {
        let name = format!("{bug:?}");
        only.is_empty() || only.split(',').any(|part| name.contains(part))
    });
    let clean = Clean::default();
    let missed = Mutex::new(Vec::new());
    println!("| bug | checker | seed | seeds needed |");
    each(&planted, |(bug, checks, known)| {
        let (first, count) = match from {
            Some(from) => (from, SEEDS_MAX),
            None => (*known, SEEDS_NEAR),
        };
        let seeds = first..first.saturating_add(count);
        match find(*bug, checks, &clean, seeds) {
            Some((seed, violation)) => {
                let needed = seed - first + 1;
                println!("| {bug:?} | {} | {seed} | {needed} |", violation.check);
            }
            None => missed.lock().unwrap().push(*bug),
        }
    });
    let missed = missed.into_inner().unwrap();
    assert!(missed.is_empty(), "not found: {missed:?}");
}
