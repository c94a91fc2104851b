//! Histories of siblings drawn from seeds, against the oracle.
//!
//! `LAW_HISTORIES=100000` draws as many of each kind, which takes 40 s in a debug build where the usual 5000 take two;
//! `LAW_SEED=7` runs one again. The same holds of counters.

use fastrand::Rng;

use super::each_seed;
use super::replicas::World;

/// Without forgetting, a row tells of exactly what it knows; with it, of what anybody can still see.
fn run(seed: u64, may_forget: bool) {
    let mut rng = Rng::with_seed(seed);
    let mut world = World::new(may_forget);
    for _step in 0..rng.u32(4..40) {
        world.step(&mut rng);
    }
    world.settle();
}

#[test]
fn histories_show_their_frontier() {
    each_seed(5_000, |seed| run(seed, false));
}

#[test]
fn what_is_forgotten_when_it_is_stable_is_not_missed() {
    each_seed(5_000, |seed| run(seed, true));
}
