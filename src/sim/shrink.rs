//! Shrinking: of a plan that fails, parts are left out as long as the same checker finds fault (delta debugging,
//! Zeller and Hildebrandt, 2002).

use super::Bug;
use super::Violation;
use super::choices::NAMES_OF_ACTIONS;
use super::plan::Plan;
use super::run::{Report, START, run_plan};

/// A part of a plan that may be left out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Part {
    /// A strike, by its place.
    Strike(usize),
    /// A client, by its number.
    Client(usize),
    /// Operations of a name.
    Operation(&'static str),
    /// A node that stays dead.
    Dead(usize),
    /// Some chance, by its place in [`CHANCES`].
    Chance(usize),
}

/// Chances that may be taken out of a plan.
const CHANCES: [fn(&mut Plan); 12] = [
    |plan| plan.profile.drop_ppm = 0,
    |plan| plan.profile.duplicate_ppm = 0,
    |plan| plan.profile.reorder_ppm = 0,
    |plan| plan.profile.replay_ppm = 0,
    |plan| plan.profile.flip_ppm = 0,
    |plan| plan.profile.slow_sync_ppm = 0,
    |plan| plan.profile.is_encoded = false,
    |plan| plan.profile.ttl_percent = 0,
    |plan| plan.profile.condition_percent = 0,
    |plan| plan.profile.fresh_percent = 0,
    |plan| plan.profile.roamers = 0,
    |plan| plan.profile.value_bytes_max = 8,
];

/// What came of shrinking.
#[derive(Debug)]
pub struct Shrunk {
    /// The smallest plan that was found.
    pub plan: Plan,
    /// What it violates.
    pub violation: Violation,
    /// Runs that were made.
    pub runs: u64,
}

/// Shrinks a plan by at most `runs_max` runs; nothing if it does not fail.
pub fn shrink(plan: &Plan, bug: Option<Bug>, runs_max: u64) -> Option<Shrunk> {
    let violation = run_plan(plan, bug, 0).violation?;
    let mut shrinker = Shrinker {
        plan: plan.clone(),
        best: plan.clone(),
        violation,
        bug,
        runs: 1,
        runs_max,
    };
    shrinker.shorten();
    let parts = shrinker.leave_out(parts(&shrinker.plan));
    shrinker.plan = shrinker.with(&parts);
    shrinker.shorten();
    Some(Shrunk {
        plan: shrinker.best,
        violation: shrinker.violation,
        runs: shrinker.runs,
    })
}

fn parts(plan: &Plan) -> Vec<Part> {
    let strikes = (0..plan.strikes.len()).map(Part::Strike);
    let clients = plan.profile.clients * plan.sketch.regions.len() + plan.profile.roamers;
    let clients = (0..clients).map(Part::Client);
    let operations = NAMES_OF_ACTIONS.into_iter().map(Part::Operation);
    let dead = (0..plan.dead.len()).map(Part::Dead);
    let chances = (0..CHANCES.len()).map(Part::Chance);
    strikes
        .chain(clients)
        .chain(operations)
        .chain(dead)
        .chain(chances)
        .collect()
}

struct Shrinker {
    /// The plan of which parts are left out.
    plan: Plan,
    best: Plan,
    violation: Violation,
    bug: Option<Bug>,
    runs: u64,
    runs_max: u64,
}

impl Shrinker {
    /// Whether a plan fails as the first one did; then it is the best so far.
    fn fails(&mut self, plan: Plan) -> bool {
        if self.runs_max <= self.runs {
            return false;
        }
        self.runs += 1;
        let Report { violation, .. } = run_plan(&plan, self.bug, 0);
        match violation {
            Some(violation) if violation.check == self.violation.check => {
                self.violation = violation;
                self.best = plan;
                true
            }
            Some(_) | None => false,
        }
    }

    /// The plan with these parts and no others.
    fn with(&self, parts: &[Part]) -> Plan {
        let has = |part: Part| parts.contains(&part);
        let mut plan = self.plan.clone();
        let strikes = self.plan.strikes.iter().enumerate();
        plan.strikes = strikes
            .filter(|(place, _)| has(Part::Strike(*place)))
            .map(|(_, strike)| strike.clone())
            .collect();
        let dead = self.plan.dead.iter().enumerate();
        plan.dead = dead
            .filter(|(place, _)| has(Part::Dead(*place)))
            .map(|(_, node)| *node)
            .collect();
        let clients = plan.profile.clients * plan.sketch.regions.len() + plan.profile.roamers;
        let idle = (0..clients).filter(|client| !has(Part::Client(*client)));
        plan.idle_clients.extend(idle);
        plan.idle_clients.sort_unstable();
        plan.idle_clients.dedup();
        let without = NAMES_OF_ACTIONS
            .into_iter()
            .filter(|name| !has(Part::Operation(name)));
        plan.without.extend(without.map(str::to_owned));
        plan.without.sort_unstable();
        plan.without.dedup();
        for (place, take_out) in CHANCES.iter().enumerate() {
            if !has(Part::Chance(place)) {
                take_out(&mut plan);
            }
        }
        plan
    }

    /// Leaves out as many parts as it can: halves first, then less and less at a time.
    fn leave_out(&mut self, mut parts: Vec<Part>) -> Vec<Part> {
        let mut pieces = 2;
        while 1 < parts.len() && self.runs < self.runs_max {
            let length = parts.len().div_ceil(pieces);
            let mut from = 0;
            let mut is_smaller = false;
            while from < parts.len() && self.runs < self.runs_max {
                let left: Vec<Part> = parts
                    .iter()
                    .enumerate()
                    .filter(|(place, _)| *place < from || from + length <= *place)
                    .map(|(_, part)| *part)
                    .collect();
                if self.fails(self.with(&left)) {
                    parts = left;
                    is_smaller = true;
                } else {
                    from += length;
                }
            }
            if !is_smaller && length <= 1 {
                break;
            }
            pieces = (pieces * 2).min(parts.len().max(2));
        }
        parts
    }

    /// Lets faults end earlier.
    fn shorten(&mut self) {
        loop {
            let mut plan = self.best.clone();
            plan.profile.fault_phase = plan.profile.fault_phase * 2 / 3;
            let end = START + plan.profile.fault_phase;
            plan.strikes.retain(|strike| strike.at < end);
            if plan.profile.fault_phase < SHORTEST || !self.fails(plan) {
                break;
            }
        }
        self.plan = self.best.clone();
    }
}

/// Faults of a plan go on at least this long, in microseconds.
const SHORTEST: u64 = 300_000;
