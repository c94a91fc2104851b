//! The nemesis: when it strikes, at what, and how each fault ends.
//!
//! It knows no machine: it cuts, kills, stops clocks and wipes disks.

use std::collections::BTreeMap;

use super::clock::Clock;
use super::cluster::NodeIndex;
use super::disk::DiskCopy;
use super::kinds::Kind;
use super::network::CutMode;
use super::node::Armed;
use super::world::{Event, World};

/// Directed pairs of nodes.
type Ways = Vec<(NodeIndex, NodeIndex)>;

/// How a fault ends.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Undo {
    Heal(Ways, CutMode),
    Quicken(Ways),
    QuickDisk(NodeIndex),
    Sane(NodeIndex),
}

/// Faults under way.
#[derive(Debug, Default)]
pub(crate) struct Nemesis {
    active: BTreeMap<u64, Undo>,
    next: u64,
    copies: BTreeMap<NodeIndex, DiskCopy>,
    /// Listings that clients have begun.
    pub(crate) listings: u64,
}

impl World {
    /// Lets faults begin.
    pub(crate) fn begin_faults(&mut self) {
        self.faults_on = true;
        self.network.is_faulty = true;
        self.schedule(self.now, Event::Fault);
    }

    /// The nemesis strikes once, and again later.
    pub(crate) fn on_fault(&mut self) {
        if !self.faults_on {
            return;
        }
        if let Some(kind) = self.rng.choice(self.cluster.profile.kinds.clone()) {
            self.strike(kind);
        }
        let next = self.rng.u64(1_000..=2 * self.cluster.profile.fault_every);
        self.schedule(self.now + next, Event::Fault);
    }

    fn strike(&mut self, kind: Kind) {
        let node = self.rng.usize(0..self.nodes.len());
        self.trace
            .note(self.now, [16, kind as u64, node as u64], || {
                format!("-- {} {} (n{node})", kind.id(), kind.words())
            });
        match kind {
            Kind::Slow => self.slow(),
            Kind::Cut => self.cut(kind, CutMode::Lose),
            Kind::CutOneWay => self.cut(kind, CutMode::Lose),
            Kind::Jam => self.cut(kind, CutMode::Hold),
            Kind::Reset => {
                let other = self.rng.usize(0..self.nodes.len());
                if node != other {
                    self.tally.count(kind);
                    self.reset(node, other);
                }
            }
            Kind::Stop => {
                if self.life_of(node).is_some() {
                    self.tally.count(kind);
                    self.stop(node);
                    let at = self.now + self.rng.u64(20_000..=1_000_000);
                    self.schedule(at, Event::Start { node });
                }
            }
            Kind::Kill => self.strike_down(node),
            Kind::KillAfterSync => self.arm(node, Armed::AfterSync),
            Kind::LoseUnsynced => self.arm(node, Armed::BeforeSync),
            Kind::Pause => {
                let until = self.now + self.rng.u64(100_000..=4_000_000);
                self.pause(node, until);
            }
            Kind::KillRegion => {
                self.tally.count(kind);
                for node in self.region_mates(node) {
                    let is_synced = self.rng.bool();
                    self.kill(node, is_synced);
                }
            }
            Kind::RestartStorm => {
                self.tally.count(kind);
                for _ in 0..self.rng.u64(2..=5) {
                    let at = self.now + self.rng.u64(0..=2_000_000);
                    self.schedule(at, Event::Kill { node });
                }
            }
            Kind::SlowSync => self.slow_disk(node),
            Kind::Wipe => self.strike_disk(node),
            Kind::OldCopy => self.turn_back_disk(node),
            Kind::Skew | Kind::Step | Kind::Drift => {
                let is_insane = self
                    .nemesis
                    .active
                    .values()
                    .any(|undo| *undo == Undo::Sane(node));
                if !is_insane {
                    self.tally.count(kind);
                    self.skew_a_little(node);
                }
            }
            Kind::Insane => self.derange(node),
            // These come by chance with every message.
            Kind::Drop | Kind::Reorder | Kind::Duplicate | Kind::Replay => {}
        }
    }

    fn strike_down(&mut self, node: NodeIndex) {
        if self.life_of(node).is_none() {
            return;
        }
        self.tally.count(Kind::Kill);
        if self.rng.bool() {
            self.arm(node, Armed::AmidOutputs);
        } else {
            let is_synced = self.rng.u8(0..3) == 0;
            self.kill(node, is_synced);
        }
    }

    fn arm(&mut self, node: NodeIndex, armed: Armed) {
        if let Some(node) = self.nodes.get_mut(node)
            && node.running.is_some()
        {
            node.armed = Some(armed);
        }
    }

    fn pause(&mut self, index: NodeIndex, until: u64) {
        if let Some(node) = self.nodes.get_mut(index)
            && node.running.is_some()
        {
            self.tally.count(Kind::Pause);
            // Until the last of its pauses ends: what waits for one is not looked at before.
            node.paused_until = node.paused_until.max(until);
            self.schedule(until, Event::Resume { node: index });
            self.look_at_pairs_of(index);
        }
    }

    fn slow(&mut self) {
        self.tally.count(Kind::Slow);
        let (ways, _) = self.random_ways();
        for (from, to) in &ways {
            let extra = self.rng.u64(20_000..=400_000);
            self.network.set_extra(*from, *to, extra);
        }
        let lasts = self.rng.u64(200_000..=3_000_000);
        self.undo_later(lasts, Undo::Quicken(ways));
    }

    fn cut(&mut self, kind: Kind, mode: CutMode) {
        self.tally.count(kind);
        let (there, back) = self.random_ways();
        let mut ways = there;
        if kind != Kind::CutOneWay {
            ways.extend(back);
        }
        for (from, to) in &ways {
            self.network.cut(*from, *to, mode);
        }
        for (from, to) in &ways {
            self.look_at_pair(*from, *to);
        }
        let most = if self.rng.bool() { 800_000 } else { 6_000_000 };
        let lasts = self.rng.u64(50_000..=most);
        self.trace
            .note(self.now, [17, ways.len() as u64, lasts], || {
                format!("-- cut {mode:?} for {lasts} us: {ways:?}")
            });
        self.undo_later(lasts, Undo::Heal(ways, mode));
    }

    fn slow_disk(&mut self, index: NodeIndex) {
        self.tally.count(Kind::SlowSync);
        let extra = self.rng.u64(20_000..=800_000);
        if let Some(node) = self.nodes.get_mut(index) {
            node.sync_extra = extra;
        }
        let lasts = self.rng.u64(200_000..=3_000_000);
        self.undo_later(lasts, Undo::QuickDisk(index));
    }

    /// A disk may be wiped only if the acknowledged writes on it are also elsewhere: every node of the
    /// region serves, and there are three replicas.
    fn strike_disk(&mut self, node: NodeIndex) {
        if self.may_lose_disk(node) {
            self.tally.count(Kind::Wipe);
            self.kill(node, false);
            self.wipe(node);
        }
    }

    /// A copy of a disk is taken, and the last one that was taken is put back: for a disk that has gone back in time
    /// the same holds as for one that is empty.
    fn turn_back_disk(&mut self, index: NodeIndex) {
        let may = self.may_lose_disk(index);
        let Some(node) = self.nodes.get_mut(index) else {
            return;
        };
        let copy = node.disk.copy();
        let old = self.nemesis.copies.insert(index, copy);
        if let Some(old) = old
            && may
        {
            self.tally.count(Kind::OldCopy);
            self.kill(index, false);
            self.put_back(index, &old);
        }
    }

    fn may_lose_disk(&self, node: NodeIndex) -> bool {
        let replication = self
            .cluster
            .topology
            .keyspaces
            .iter()
            .map(|keyspace| keyspace.replication);
        let mates = self.region_mates(node);
        let now = self.now;
        let all_serve = mates.iter().all(|mate| {
            self.nodes
                .get(*mate)
                .is_some_and(|node| node.is_serving(now) && !node.is_refilling)
        });
        replication.min().unwrap_or(0) >= 3 && all_serve
    }

    fn derange(&mut self, index: NodeIndex) {
        let is_taken = self
            .nemesis
            .active
            .values()
            .any(|undo| matches!(undo, Undo::Sane(_)));
        if is_taken {
            return;
        }
        self.tally.count(Kind::Insane);
        let beyond = self.cluster.topology.limits.max_offset.as_micros() * 3 / 2;
        let least = i64::try_from(beyond).unwrap_or(i64::MAX);
        let off = self.rng.i64(least..=least + 4_000_000);
        let skew = if self.rng.bool() { off } else { -off };
        if let Some(node) = self.nodes.get_mut(index) {
            node.clock = Clock::new(self.now, skew, 0);
        }
        let lasts = self.rng.u64(300_000..=4_000_000);
        self.undo_later(lasts, Undo::Sane(index));
    }

    /// The nodes of a node's region, itself included.
    fn region_mates(&self, node: NodeIndex) -> Vec<NodeIndex> {
        let region = |index: NodeIndex| self.cluster.nodes.get(index).map(|(_, region)| *region);
        let mine = region(node);
        (0..self.nodes.len())
            .filter(|other| region(*other) == mine)
            .collect()
    }

    /// Ways between two groups of nodes, and the ways back: two nodes, one node and the rest, two regions, a
    /// region and the rest, or two halves.
    fn random_ways(&mut self) -> (Ways, Ways) {
        let count = self.nodes.len();
        let a = self.rng.usize(0..count);
        let b = self.rng.usize(0..count);
        let rest = |group: &[NodeIndex]| (0..count).filter(|node| !group.contains(node)).collect();
        let (left, right): (Vec<NodeIndex>, Vec<NodeIndex>) = match self.rng.u8(0..5) {
            0 => (vec![a], vec![b]),
            1 => (vec![a], rest(&[a])),
            2 => (self.region_mates(a), self.region_mates(b)),
            3 => {
                let region = self.region_mates(a);
                let others = rest(&region);
                (region, others)
            }
            _ => (0..count).partition(|_| self.rng.bool()),
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

    fn undo_later(&mut self, lasts: u64, undo: Undo) {
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
            Undo::QuickDisk(node) => {
                if let Some(node) = self.nodes.get_mut(node) {
                    node.sync_extra = 0;
                }
            }
            Undo::Sane(node) => self.skew_a_little(node),
        }
    }

    /// All faults end: links are whole, clocks sane, nodes up. A pause runs out.
    pub(crate) fn heal(&mut self) {
        self.faults_on = false;
        self.network.is_faulty = false;
        self.trace
            .note(self.now, [19, 0, 0], || "-- heal".to_owned());
        let active: Vec<u64> = self.nemesis.active.keys().copied().collect();
        for fault in active {
            self.on_undo(fault);
        }
        for index in 0..self.nodes.len() {
            if let Some(node) = self.nodes.get_mut(index) {
                node.armed = None;
            }
            let at = self.now + self.rng.u64(0..=500_000);
            self.schedule(at, Event::Start { node: index });
            self.look_at_pairs_of(index);
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
