//! The plan of a run: the cluster, what clients may do, and every strike. It is drawn from a seed, or read from the
//! text of a scenario; one plan is one run.

use fastrand::Rng;
use serde::{Deserialize, Serialize};

use super::cluster::{NodeIndex, Profile};
use super::sketch::Sketch;
use super::strike::{self, BadStrike, Strike};

/// Streams of chance of a run, apart from each other so that a change of one leaves the others alone.
const CLUSTER_STREAM: u64 = 0x5eed_0001;
const STRIKE_STREAM: u64 = 0x5eed_0002;
const DEAD_STREAM: u64 = 0x5eed_0003;

/// The plan of a run.
#[derive(Clone, PartialEq, Debug)]
pub struct Plan {
    /// The seed of all other chance.
    pub(crate) seed: u64,
    /// The cluster.
    pub(crate) sketch: Sketch,
    /// What clients do, and how often chance interferes.
    pub(crate) profile: Profile,
    /// Every strike, in the order of time.
    pub(crate) strikes: Vec<Strike>,
    /// The clients that do nothing.
    pub(crate) idle_clients: Vec<usize>,
    /// The names of operations that nobody does.
    pub(crate) without: Vec<String>,
    /// Nodes that stay dead when faults end, if the rest can go on without them.
    pub(crate) dead: Vec<NodeIndex>,
}

/// A text that is no scenario.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The text is not of this form.
    #[error("this is no scenario: {0}")]
    Form(#[from] toml::de::Error),
    /// A strike is wrong.
    #[error(transparent)]
    Strike(#[from] BadStrike),
    /// It cannot be written.
    #[error("this scenario cannot be written: {0}")]
    Write(#[from] toml::ser::Error),
}

#[derive(Serialize, Deserialize)]
struct Form {
    seed: u64,
    #[serde(default)]
    idle_clients: Vec<usize>,
    #[serde(default)]
    without: Vec<String>,
    #[serde(default)]
    dead: Vec<NodeIndex>,
    strikes: Vec<String>,
    cluster: Sketch,
    profile: Profile,
}

impl Plan {
    /// The plan of a seed.
    pub fn of_seed(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed ^ CLUSTER_STREAM);
        let sketch = Sketch::random(&mut rng);
        let profile = Profile::random(&mut rng, sketch.nodes());
        let strikes = strike::draw(&mut Rng::with_seed(seed ^ STRIKE_STREAM), &sketch, &profile);
        let dead = dead(&mut Rng::with_seed(seed ^ DEAD_STREAM), sketch.nodes());
        Self {
            seed,
            sketch,
            profile,
            strikes,
            idle_clients: Vec::new(),
            without: Vec::new(),
            dead,
        }
    }

    /// Its seed.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Reads a scenario.
    ///
    /// # Errors
    /// The text is no scenario.
    pub fn parse(text: &str) -> Result<Self, PlanError> {
        let form: Form = toml::from_str(text)?;
        let strikes = form.strikes.iter().map(|line| line.parse());
        Ok(Self {
            seed: form.seed,
            sketch: form.cluster,
            profile: form.profile,
            strikes: strikes.collect::<Result<_, BadStrike>>()?,
            idle_clients: form.idle_clients,
            without: form.without,
            dead: form.dead,
        })
    }

    /// The text of the scenario.
    ///
    /// # Errors
    /// A number in it is beyond what the text can hold.
    pub fn to_text(&self) -> Result<String, PlanError> {
        let form = Form {
            seed: self.seed,
            idle_clients: self.idle_clients.clone(),
            without: self.without.clone(),
            dead: self.dead.clone(),
            strikes: self.strikes.iter().map(ToString::to_string).collect(),
            cluster: self.sketch.clone(),
            profile: self.profile.clone(),
        };
        Ok(toml::to_string_pretty(&form)?)
    }
}

/// Nodes that are to stay dead, in some seeds. Which of them the rest can do without is seen when it comes to it.
fn dead(rng: &mut Rng, nodes: usize) -> Vec<NodeIndex> {
    if rng.u8(0..4) != 0 {
        return Vec::new();
    }
    let mut all: Vec<NodeIndex> = (0..nodes).collect();
    rng.shuffle(&mut all);
    all.truncate(rng.usize(1..=nodes.div_ceil(2)));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_survives_its_text() {
        for seed in 0..50 {
            let plan = Plan::of_seed(seed);
            let text = plan.to_text().unwrap();
            assert_eq!(Plan::parse(&text).unwrap(), plan, "{text}");
        }
    }
}
