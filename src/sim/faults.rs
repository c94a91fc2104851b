//! The nemesis: what each strike does to links, nodes and clocks, and how each fault ends. What it does to disks is in
//! `damage`.
//!
//! It knows no machine: it cuts, kills, stops clocks. When it strikes was drawn before the run began.

use std::collections::BTreeMap;

use super::clock::Clock;
use super::cluster::NodeIndex;
use super::disk::DiskCopy;
use super::kinds::Kind;
use super::network::CutMode;
use super::node::Armed;
use super::strike::{Strike, Ways};
use super::world::{Event, World};

/// How a fault ends.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Undo {
    /// A cut.
    Heal(Ways, CutMode),
    /// Slowness.
    Quicken(Ways),
    /// Little bandwidth.
    Widen(Ways),
    /// Slow fsyncs.
    QuickDisk(NodeIndex),
    /// A clock that is wrong.
    Sane(NodeIndex),
    /// Slow steps.
    Speed(NodeIndex),
    /// A disk that fails.
    Sound(NodeIndex),
    /// Damage that nobody has met: somebody looks.
    Scrub(NodeIndex),
    /// The end of the journal goes.
    Shorten(NodeIndex),
}

/// Strikes, and faults under way.
#[derive(Debug, Default)]
pub(crate) struct Nemesis {
    /// What was drawn.
    pub(crate) strikes: Vec<Strike>,
    /// Nodes that are to stay dead in the end.
    pub(crate) dead: Vec<NodeIndex>,
    active: BTreeMap<u64, Undo>,
    next: u64,
    /// Old copies of disks.
    pub(crate) copies: BTreeMap<NodeIndex, DiskCopy>,
    /// Old copies of all disks of a region, by its first node.
    pub(crate) region_copies: BTreeMap<NodeIndex, Vec<(NodeIndex, DiskCopy)>>,
    /// Copies of disks whose journals will lose their ends.
    pub(crate) tails: BTreeMap<NodeIndex, DiskCopy>,
    /// Listings that clients have begun.
    pub(crate) listings: u64,
}

/// What a fault strikes at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Target {
    Network,
    Node,
    Disk,
    Clock,
    /// It comes by chance with every message, or is there for the whole run.
    Run,
}

fn target(kind: Kind) -> Target {
    match kind {
        Kind::Slow | Kind::Cut | Kind::CutOneWay | Kind::Jam | Kind::Bloat | Kind::Reset => {
            Target::Network
        }
        Kind::Stop
        | Kind::Kill
        | Kind::KillAfterSync
        | Kind::LoseUnsynced
        | Kind::Torn
        | Kind::Pause
        | Kind::Stall
        | Kind::SlowNode
        | Kind::KillRegion
        | Kind::RestartStorm
        | Kind::Panic
        | Kind::OutOfMemory => Target::Node,
        Kind::SlowSync
        | Kind::Rot
        | Kind::Shorten
        | Kind::LoseBatch
        | Kind::Misplace
        | Kind::FailSync
        | Kind::FailRead
        | Kind::NoSpace
        | Kind::Foreign
        | Kind::Wipe
        | Kind::OldCopy
        | Kind::ReadOnly
        | Kind::OldRegion => Target::Disk,
        Kind::Skew | Kind::Step | Kind::Drift | Kind::Strobe | Kind::Freeze | Kind::Insane => {
            Target::Clock
        }
        Kind::Drop
        | Kind::Reorder
        | Kind::Duplicate
        | Kind::Replay
        | Kind::Flip
        | Kind::Unlinked
        | Kind::Dead => Target::Run,
    }
}

impl World {
    /// Lets faults begin.
    pub(crate) fn begin_faults(&mut self) {
        self.faults_on = true;
        self.network.is_faulty = true;
        for a in 0..self.cluster.topology.regions.len() {
            for b in a + 1..self.cluster.topology.regions.len() {
                let regions = &self.cluster.topology.regions;
                if let (Some(a), Some(b)) = (regions.get(a), regions.get(b))
                    && self.cluster.topology.link(a.id, b.id).is_none()
                {
                    self.tally.count(Kind::Unlinked);
                }
            }
        }
        let times: Vec<u64> = self
            .nemesis
            .strikes
            .iter()
            .map(|strike| strike.at)
            .collect();
        for (place, at) in times.into_iter().enumerate() {
            self.schedule(at, Event::Fault { place });
        }
    }

    /// The nemesis strikes.
    pub(crate) fn on_fault(&mut self, place: usize) {
        let Some(strike) = self.nemesis.strikes.get(place).cloned() else {
            return;
        };
        if self.faults_on && strike.node < self.nodes.len() && !self.is_spared(&strike) {
            let facts = [16, strike.kind as u64, strike.node as u64];
            self.trace.note(self.now, facts, || format!("-- {strike}"));
            self.strike(strike);
        }
    }

    /// Whether a strike would stop a node that must be there.
    fn is_spared(&self, strike: &Strike) -> bool {
        let stops = match target(strike.kind) {
            Target::Node => strike.kind != Kind::SlowNode,
            Target::Disk => !matches!(strike.kind, Kind::SlowSync | Kind::OldRegion),
            Target::Network | Target::Clock | Target::Run => false,
        };
        let mates = self.cluster.region_mates(strike.node);
        let is_region = strike.kind == Kind::KillRegion;
        stops
            && (self.is_witness(strike.node)
                || (is_region && mates.iter().any(|mate| self.is_witness(*mate))))
    }

    fn strike(&mut self, strike: Strike) {
        match target(strike.kind) {
            Target::Network => self.strike_network(strike),
            Target::Node => self.strike_node(&strike),
            Target::Disk => self.strike_disk(&strike),
            Target::Clock => self.strike_clock(&strike),
            Target::Run => {}
        }
    }

    fn strike_network(&mut self, strike: Strike) {
        let Strike {
            kind,
            node,
            other,
            lasts,
            amount,
            ways,
            ..
        } = strike;
        let known = 0..self.nodes.len();
        let ways: Ways = ways
            .into_iter()
            .filter(|(from, to)| known.contains(from) && known.contains(to))
            .collect();
        let amount = amount.unsigned_abs();
        if kind == Kind::Reset {
            if node != other && known.contains(&other) {
                self.tally.count(kind);
                self.reset(node, other);
            }
            return;
        }
        self.tally.count(kind);
        if kind == Kind::Slow {
            for (from, to) in &ways {
                let extra = self.rng.u64(amount / 2..=amount);
                self.network.set_extra(*from, *to, extra);
            }
            self.undo_later(lasts, Undo::Quicken(ways));
        } else if kind == Kind::Bloat {
            for (from, to) in &ways {
                self.network.set_rate(*from, *to, amount.max(1));
            }
            self.undo_later(lasts, Undo::Widen(ways));
        } else {
            let mode = if kind == Kind::Jam {
                CutMode::Hold
            } else {
                CutMode::Lose
            };
            for (from, to) in &ways {
                self.network.cut(*from, *to, mode);
            }
            for (from, to) in &ways {
                self.look_at_pair(*from, *to);
            }
            self.undo_later(lasts, Undo::Heal(ways, mode));
        }
    }

    fn strike_node(&mut self, strike: &Strike) {
        let (kind, node, lasts) = (strike.kind, strike.node, strike.lasts);
        if self.life_of(node).is_none() {
            return;
        }
        if let Some(armed) = armed_by(kind) {
            return self.arm(node, armed);
        }
        if let Kind::Pause | Kind::Stall = kind {
            return self.pause(kind, node, lasts);
        }
        self.tally.count(kind);
        if kind == Kind::Stop {
            self.stop(node);
            self.schedule(self.now + lasts, Event::Start { node });
        } else if kind == Kind::KillRegion {
            for node in self.cluster.region_mates(node) {
                let is_synced = self.rng.bool();
                self.kill(node, is_synced);
            }
        } else if kind == Kind::RestartStorm {
            for _ in 0..strike.amount {
                let at = self.now + self.rng.u64(0..=lasts);
                self.schedule(at, Event::Kill { node });
            }
        } else if kind == Kind::SlowNode {
            if let Some(node) = self.nodes.get_mut(node) {
                node.step_micros = strike.amount.unsigned_abs();
                node.slow_until = self.now + lasts + SLOW_TAIL;
            }
            self.undo_later(lasts, Undo::Speed(node));
        } else if strike.amount <= 2 {
            self.arm(node, Armed::AmidOutputs(Kind::Kill));
        } else {
            self.kill(node, strike.amount == 3);
        }
    }

    fn arm(&mut self, node: NodeIndex, armed: Armed) {
        if let Some(node) = self.nodes.get_mut(node)
            && node.running.is_some()
        {
            node.armed = Some(armed);
        }
    }

    /// A node stands still; if it stalls, its monotonic clock stands still with it.
    fn pause(&mut self, kind: Kind, index: NodeIndex, lasts: u64) {
        let until = self.now + lasts;
        if self.is_paused(index) {
            return;
        }
        if let Some(node) = self.nodes.get_mut(index)
            && let Some(running) = node.running.as_mut()
        {
            self.tally.count(kind);
            // Until the last of its pauses ends: what waits for one is not looked at before.
            node.paused_until = node.paused_until.max(until);
            if kind == Kind::Stall {
                running.time_offset = running.time_offset.saturating_sub(lasts);
                self.excuse(index);
            }
            self.schedule(until, Event::Resume { node: index });
            self.look_at_pairs_of(index);
        }
    }

    fn strike_clock(&mut self, strike: &Strike) {
        let (kind, index) = (strike.kind, strike.node);
        let is_wrong = |undo: &Undo| matches!(undo, Undo::Sane(_));
        let wrong = self.nemesis.active.values().filter(|undo| is_wrong(undo));
        let wrong: Vec<Undo> = wrong.cloned().collect();
        let is_beyond = matches!(kind, Kind::Freeze | Kind::Insane);
        // One clock at a time may be beyond what is allowed.
        if wrong.contains(&Undo::Sane(index)) || (is_beyond && !wrong.is_empty()) {
            return;
        }
        self.tally.count(kind);
        let Some(node) = self.nodes.get_mut(index) else {
            return;
        };
        if kind == Kind::Insane {
            node.clock = Clock::new(self.now, strike.amount, 0);
        } else if kind == Kind::Freeze {
            node.clock = node.clock.frozen(self.now);
        } else if kind == Kind::Strobe {
            node.clock = Clock::strobing(self.now, strike.amount);
        } else {
            return self.skew_a_little(index);
        }
        self.undo_later(strike.lasts, Undo::Sane(index));
    }

    /// Lets a fault end later.
    pub(crate) fn undo_later(&mut self, lasts: u64, undo: Undo) {
        let fault = self.nemesis.next;
        self.nemesis.next += 1;
        self.nemesis.active.insert(fault, undo);
        self.schedule(self.now + lasts, Event::Undo { fault });
    }

    /// A fault ends.
    pub(crate) fn on_undo(&mut self, fault: u64) {
        let Some(undo) = self.nemesis.active.remove(&fault) else {
            return;
        };
        self.trace
            .note(self.now, [18, fault, 0], || format!("-- ends: {undo:?}"));
        match undo {
            Undo::Heal(ways, mode) => {
                for way in &ways {
                    let arrivals = self.network.heal(self.now, &mut self.rng, *way, mode);
                    self.schedule_arrivals(arrivals);
                }
                for (from, to) in ways {
                    self.look_at_pair(from, to);
                }
            }
            Undo::Quicken(ways) => {
                for (from, to) in ways {
                    self.network.set_extra(from, to, 0);
                }
            }
            Undo::Widen(ways) => {
                for (from, to) in ways {
                    self.network.set_rate(from, to, 0);
                }
            }
            Undo::QuickDisk(node) => {
                if let Some(node) = self.nodes.get_mut(node) {
                    node.sync_extra = 0;
                }
            }
            Undo::Speed(node) => {
                if let Some(node) = self.nodes.get_mut(node) {
                    node.step_micros = 0;
                }
            }
            Undo::Sane(node) => self.skew_a_little(node),
            Undo::Sound(node) => self.end_trouble(node),
            Undo::Scrub(node) => self.scrub(node),
            Undo::Shorten(node) => self.shorten(node),
        }
    }

    /// All faults end: links are whole, clocks sane, disks sound, nodes up. A pause runs out. Some nodes may stay dead,
    /// as many as the rest can do without.
    pub(crate) fn heal(&mut self) {
        self.faults_on = false;
        self.network.is_faulty = false;
        self.trace
            .note(self.now, [19, 0, 0], || "-- heal".to_owned());
        let active: Vec<u64> = self.nemesis.active.keys().copied().collect();
        for fault in active {
            self.on_undo(fault);
        }
        self.leave_dead();
        for index in 0..self.nodes.len() {
            self.end_trouble(index);
            self.scrub(index);
            if let Some(node) = self.nodes.get_mut(index) {
                node.armed = None;
                node.step_micros = 0;
            }
            let at = self.now + self.rng.u64(0..=500_000);
            self.schedule(at, Event::Start { node: index });
            self.look_at_pairs_of(index);
        }
    }

    /// Of the nodes that are to stay dead, kills those that the others can do without. A node whose disk was lost waits
    /// for all its neighbours, so none of them may be missing.
    fn leave_dead(&mut self) {
        for index in self.nemesis.dead.clone() {
            let mates = self.cluster.region_mates(index);
            let are_all_whole = mates
                .iter()
                .all(|mate| self.is_dead(*mate) || self.is_whole(*mate));
            if index < self.nodes.len() && are_all_whole && self.may_lose_disk(index) {
                self.tally.count(Kind::Dead);
                self.crash(index, false);
                if let Some(node) = self.nodes.get_mut(index) {
                    node.is_dead = true;
                }
            }
        }
    }

    /// A node's clock is set somewhere within what the cluster allows.
    pub(crate) fn skew_a_little(&mut self, index: NodeIndex) {
        let most = self.cluster.topology.limits.max_offset.as_micros() * 2 / 5;
        let most = i64::try_from(most).unwrap_or(0);
        let skew = self.rng.i64(-most..=most);
        let drift = self.rng.i64(-500..=500);
        self.tally.count(Kind::Skew);
        if let Some(node) = self.nodes.get_mut(index) {
            node.clock = Clock::new(self.now, skew, drift);
        }
    }
}

/// Faults that strike a node when it comes to a certain point in its work.
fn armed_by(kind: Kind) -> Option<Armed> {
    let points = [
        (Kind::KillAfterSync, Armed::AfterSync),
        (Kind::LoseUnsynced, Armed::BeforeSync),
        (Kind::Torn, Armed::AmidSync),
        (Kind::OutOfMemory, Armed::Queued),
        (Kind::Panic, Armed::AmidOutputs(Kind::Panic)),
    ];
    let mut points = points.into_iter();
    points
        .find(|(known, _)| *known == kind)
        .map(|(_, armed)| armed)
}

/// A node that was slow may take so long to work off what has come in meanwhile, in microseconds.
const SLOW_TAIL: u64 = 4_000_000;
