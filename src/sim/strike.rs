//! Strikes of the nemesis as values: when, what, where, for how long. They are drawn before a run begins, from a
//! stream of chance of their own, and each is a line of plain text.

use std::fmt;
use std::str::FromStr;

use fastrand::Rng;

use super::cluster::{NodeIndex, Profile};
use super::kinds::Kind;
use super::run::START;
use super::sketch::Sketch;

/// Directed pairs of nodes.
pub(crate) type Ways = Vec<(NodeIndex, NodeIndex)>;

/// One strike. What `amount` means is the kind's business.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Strike {
    /// When, in virtual microseconds.
    pub(crate) at: u64,
    /// What.
    pub(crate) kind: Kind,
    /// Which node.
    pub(crate) node: NodeIndex,
    /// Which other node.
    pub(crate) other: NodeIndex,
    /// For so long, in microseconds.
    pub(crate) lasts: u64,
    /// How much.
    pub(crate) amount: i64,
    /// Between which nodes.
    pub(crate) ways: Ways,
}

impl fmt::Display for Strike {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            at,
            kind,
            node,
            other,
            lasts,
            amount,
            ways,
        } = self;
        write!(
            f,
            "{at} {} node={node} other={other} lasts={lasts} amount={amount}",
            kind.name()
        )?;
        if !ways.is_empty() {
            let ways: Vec<String> = ways.iter().map(|(a, b)| format!("{a}>{b}")).collect();
            write!(f, " ways={}", ways.join(","))?;
        }
        Ok(())
    }
}

/// A line that is no strike.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("`{0}` is no strike: expected `TIME KIND node=N other=N lasts=MICROS amount=N ways=A>B,…`")]
pub struct BadStrike(String);

impl FromStr for Strike {
    type Err = BadStrike;

    fn from_str(line: &str) -> Result<Self, BadStrike> {
        parse(line).ok_or_else(|| BadStrike(line.to_owned()))
    }
}

fn parse(line: &str) -> Option<Strike> {
    let mut words = line.split_whitespace();
    let mut strike = Strike {
        at: words.next()?.parse().ok()?,
        kind: Kind::of_name(words.next()?)?,
        node: 0,
        other: 0,
        lasts: 0,
        amount: 0,
        ways: Vec::new(),
    };
    for word in words {
        let (name, value) = word.split_once('=')?;
        match name {
            "node" => strike.node = value.parse().ok()?,
            "other" => strike.other = value.parse().ok()?,
            "lasts" => strike.lasts = value.parse().ok()?,
            "amount" => strike.amount = value.parse().ok()?,
            "ways" => {
                let way = |way: &str| {
                    let (a, b) = way.split_once('>')?;
                    Some((a.parse().ok()?, b.parse().ok()?))
                };
                strike.ways = value.split(',').map(way).collect::<Option<Ways>>()?;
            }
            _ => return None,
        }
    }
    Some(strike)
}

/// Kinds that are not drawn, but may stand in scenarios. Old copies of all disks of a region: until it hears another
/// region, which may take seconds when it is cut off, it serves what it had then. So the promise that reads of a region
/// never go back in time (P2) is not kept for it, and what it resets and removes meanwhile covers only what it had.
const OFF: [Kind; 1] = [Kind::OldRegion];

/// Draws the strikes of a run. Each seed turns on its own subset of faults ("swarm testing", Groce et al., 2012): a
/// fault that is always on hides the bugs that need its absence.
pub(crate) fn draw(rng: &mut Rng, sketch: &Sketch, profile: &Profile) -> Vec<Strike> {
    let strikes = Kind::ALL.into_iter();
    let strikes = strikes.filter(|kind| kind.is_strike() && !OFF.contains(kind));
    let kinds: Vec<Kind> = strikes.filter(|_| rng.u8(0..5) < 2).collect();
    let groups = Groups::new(sketch);
    let mut strikes = Vec::new();
    let mut at = START;
    while at < START + profile.fault_phase {
        if let Some(kind) = rng.choice(kinds.iter().copied()) {
            strikes.push(one(rng, &groups, sketch, (at, kind)));
        }
        at += rng.u64(1_000..=2 * profile.fault_every);
    }
    strikes
}

fn one(rng: &mut Rng, groups: &Groups, sketch: &Sketch, (at, kind): (u64, Kind)) -> Strike {
    let nodes = groups.regions.len();
    let (mut lasts, mut amount, mut ways) = (0, 0, Vec::new());
    match kind {
        Kind::Slow => {
            (ways, _) = groups.ways(rng);
            amount = rng.i64(20_000..=400_000);
            lasts = rng.u64(200_000..=3_000_000);
        }
        Kind::Cut | Kind::CutOneWay | Kind::Jam | Kind::Bloat => {
            let (there, back) = groups.ways(rng);
            ways = there;
            if kind != Kind::CutOneWay {
                ways.extend(back);
            }
            let most = if rng.bool() { 800_000 } else { 6_000_000 };
            lasts = rng.u64(50_000..=most);
            if kind == Kind::Bloat {
                amount = rng.i64(3_000..=60_000);
            }
        }
        Kind::Stop => lasts = rng.u64(20_000..=1_000_000),
        Kind::Pause | Kind::Stall => lasts = rng.u64(100_000..=4_000_000),
        Kind::SlowNode => {
            amount = rng.i64(300..=4_000);
            lasts = rng.u64(100_000..=2_000_000);
        }
        Kind::RestartStorm => {
            amount = rng.i64(2..=5);
            lasts = rng.u64(100_000..=2_000_000);
        }
        Kind::SlowSync => {
            amount = rng.i64(20_000..=800_000);
            lasts = rng.u64(200_000..=3_000_000);
        }
        Kind::Rot | Kind::Misplace | Kind::LoseBatch => {
            amount = rng.i64(0..=1 << 40);
            lasts = rng.u64(100_000..=3_000_000);
        }
        Kind::Shorten => lasts = rng.u64(10_000..=1_000_000),
        Kind::FailRead | Kind::NoSpace | Kind::ReadOnly => {
            lasts = rng.u64(50_000..=2_000_000);
        }
        Kind::Kill | Kind::FailSync => amount = rng.i64(0..=5),
        Kind::Strobe => {
            let most = i64::try_from(sketch.limits.max_offset * 400).unwrap_or(0);
            amount = rng.i64(1_000..=most.max(1_000));
            lasts = rng.u64(200_000..=3_000_000);
        }
        Kind::Freeze => lasts = rng.u64(100_000..=3_000_000),
        Kind::Insane => {
            let least = i64::try_from(sketch.limits.max_offset * 1_500).unwrap_or(i64::MAX / 2);
            let off = rng.i64(least..=least + 4_000_000);
            amount = if rng.bool() { off } else { -off };
            lasts = rng.u64(300_000..=4_000_000);
        }
        Kind::Drop
        | Kind::Reorder
        | Kind::Duplicate
        | Kind::Replay
        | Kind::Unlinked
        | Kind::Reset
        | Kind::Flip
        | Kind::Dead
        | Kind::KillAfterSync
        | Kind::KillRegion
        | Kind::Panic
        | Kind::OutOfMemory
        | Kind::LoseUnsynced
        | Kind::Torn
        | Kind::Foreign
        | Kind::Wipe
        | Kind::OldCopy
        | Kind::Skew
        | Kind::Step
        | Kind::Drift
        | Kind::OldRegion => {}
    }
    Strike {
        at,
        kind,
        node: rng.usize(0..nodes),
        other: rng.usize(0..nodes),
        lasts,
        amount,
        ways,
    }
}

/// The region of each node.
struct Groups {
    regions: Vec<usize>,
}

impl Groups {
    fn new(sketch: &Sketch) -> Self {
        let regions = sketch.regions.iter().enumerate();
        let regions = regions.flat_map(|(region, count)| std::iter::repeat_n(region, *count));
        Self {
            regions: regions.collect(),
        }
    }

    fn mates(&self, node: NodeIndex) -> Vec<NodeIndex> {
        let region = self.regions.get(node);
        (0..self.regions.len())
            .filter(|other| self.regions.get(*other) == region)
            .collect()
    }

    /// Ways between two groups of nodes, and the ways back: two nodes, one node and the rest, two regions, a
    /// region and the rest, or two halves.
    fn ways(&self, rng: &mut Rng) -> (Ways, Ways) {
        let count = self.regions.len();
        let a = rng.usize(0..count);
        let b = rng.usize(0..count);
        let rest = |group: &[NodeIndex]| (0..count).filter(|node| !group.contains(node)).collect();
        let (left, right): (Vec<NodeIndex>, Vec<NodeIndex>) = match rng.u8(0..5) {
            0 => (vec![a], vec![b]),
            1 => (vec![a], rest(&[a])),
            2 => (self.mates(a), self.mates(b)),
            3 => {
                let region = self.mates(a);
                let others = rest(&region);
                (region, others)
            }
            _ => (0..count).partition(|_| rng.bool()),
        };
        let mut there = Vec::new();
        for from in &left {
            for to in right.iter().filter(|to| *to != from) {
                there.push((*from, *to));
            }
        }
        let back = there.iter().map(|(from, to)| (*to, *from)).collect();
        (there, back)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_strike_survives_its_text() {
        for seed in 0..50 {
            let mut rng = Rng::with_seed(seed);
            let sketch = Sketch::random(&mut rng);
            let profile = Profile::random(&mut rng, sketch.nodes());
            for strike in draw(&mut rng, &sketch, &profile) {
                assert_eq!(strike.to_string().parse(), Ok(strike));
            }
        }
        assert!("5 Kill wrong=1".parse::<Strike>().is_err());
        assert!("5 Nothing node=1".parse::<Strike>().is_err());
    }
}
