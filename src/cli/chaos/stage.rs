//! What the parts of a run share: the cluster, the history, who is hurt at the moment, and what is said of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::recorder::Recorder;
use super::scenario::Scenario;
use super::site::Site;

/// Errors that clients get in any run with faults.
const USUAL: [&str; 8] = [
    "",
    "unavailable",
    "overloaded",
    "unknown_outcome",
    "condition_failed",
    "too_many_siblings",
    "not_yet",
    "absent",
];

/// A run.
#[derive(Debug)]
pub(super) struct Stage {
    pub(super) site: Site,
    pub(super) recorder: Recorder,
    /// Faults end.
    pub(super) healing: CancellationToken,
    /// Clients end.
    pub(super) closing: CancellationToken,
    /// Held by whoever spoils a disk: one at a time, until it is whole again.
    pub(super) disks: tokio::sync::Mutex<()>,
    scenarios: Vec<Scenario>,
    /// Nodes that something is being done to.
    hurt: Mutex<BTreeSet<usize>>,
    faults: Mutex<BTreeMap<&'static str, u64>>,
    said: Mutex<Vec<String>>,
}

/// Nodes that something is done to; given back when it is dropped.
pub(super) struct Claim<'a> {
    stage: &'a Stage,
    pub(super) nodes: Vec<usize>,
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        let mut hurt = lock(&self.stage.hurt);
        for node in &self.nodes {
            hurt.remove(node);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Stage {
    pub(super) fn new(site: Site, recorder: Recorder, scenarios: Vec<Scenario>) -> Self {
        Self {
            site,
            recorder,
            healing: CancellationToken::new(),
            closing: CancellationToken::new(),
            disks: tokio::sync::Mutex::new(()),
            scenarios,
            hurt: Mutex::default(),
            faults: Mutex::default(),
            said: Mutex::default(),
        }
    }

    /// Whether clients may get such an error here.
    pub(super) fn tolerates(&self, code: &str) -> bool {
        let is_broken = code == "broken" && self.has(Scenario::DiskFull);
        let is_ahead = code == "bad_session" && self.has(Scenario::Clock);
        USUAL.contains(&code) || is_broken || is_ahead
    }

    /// Whether a scenario is part of this run.
    pub(super) fn has(&self, scenario: Scenario) -> bool {
        self.scenarios.contains(&scenario)
    }

    /// Waits for so long, or until faults end; says whether they go on.
    pub(super) async fn wait(&self, span: Duration) -> bool {
        tokio::select! {
            () = tokio::time::sleep(span) => true,
            () = self.healing.cancelled() => false,
        }
    }

    /// Takes one of the nodes that nothing is done to.
    pub(super) fn claim_one(&self, rng: &mut fastrand::Rng) -> Option<Claim<'_>> {
        let free: Vec<usize> = {
            let hurt = lock(&self.hurt);
            let all = 0..self.site.places.len();
            all.filter(|node| !hurt.contains(node)).collect()
        };
        self.claim(rng.choice(free)?)
    }

    /// Takes a node, if nothing is done to it.
    pub(super) fn claim(&self, node: usize) -> Option<Claim<'_>> {
        let is_free = lock(&self.hurt).insert(node);
        let nodes = vec![node];
        is_free.then(|| Claim { stage: self, nodes })
    }

    /// Takes all nodes that nothing is done to.
    pub(super) fn claim_all(&self) -> Claim<'_> {
        let mut hurt = lock(&self.hurt);
        let all = 0..self.site.places.len();
        let nodes: Vec<usize> = all.filter(|node| !hurt.contains(node)).collect();
        hurt.extend(nodes.iter().copied());
        Claim { stage: self, nodes }
    }

    /// Counts a fault and says what it does.
    pub(super) fn strike(&self, scenario: Scenario, words: &str) {
        *lock(&self.faults).entry(scenario.id()).or_default() += 1;
        self.say(&format!("{:<4} {words}", scenario.id()));
    }

    /// Says something to whoever watches.
    pub(super) fn say(&self, words: &str) {
        let at = Duration::from_micros(self.recorder.now()).as_secs_f64();
        lock(&self.said).push(format!("{at:>7.1} s  {words}"));
    }

    /// What was said since the last call.
    pub(super) fn take_said(&self) -> Vec<String> {
        std::mem::take(&mut *lock(&self.said))
    }

    /// Faults by number.
    pub(super) fn faults(&self) -> BTreeMap<&'static str, u64> {
        lock(&self.faults).clone()
    }
}
