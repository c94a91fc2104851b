//! Scripted runs: a cluster of a given shape, and then steps one after the other, in virtual time.
//!
//! Nothing happens but what the script says, so that a scenario fails for one reason. The faults, the world and
//! the checkers that look on are those of random runs.

mod asks;
mod backups;
mod causality;
mod counters;
mod damage;
mod dataloss;
mod expiry;
mod guards;
mod log;
mod sets;
mod shape;
mod tables;

use std::collections::BTreeMap;

use crate::model::{Gate, Level, NodeId, PartitionId, Position, Row, RowKey, Wall};
use crate::protocol::{Message, Operation, Outcome, Request};

use super::Bug;
use super::clock::{Clock, EPOCH_MICROS};
use super::cluster::NodeIndex;
use super::disk::DiskCopy;
use super::looks::LOOK_EVERY;
use super::network::CutMode;
use super::run;
use super::world::{Event, World};

pub(super) use shape::Shape;

/// The client that stands for the script.
pub(super) const SCRIPT: usize = usize::MAX;

/// What a script waits for, and what it lets be lost.
#[derive(Debug, Default)]
pub(super) struct Script {
    /// Outcomes of what it asked.
    pub(super) answers: BTreeMap<u64, Outcome>,
    lost: Vec<Lost>,
}

/// Which messages are lost on the way from one node to another.
type Lost = (NodeIndex, NodeIndex, fn(&Message) -> bool);

impl Script {
    /// Whether the script lets this message be lost.
    pub(super) fn loses(&self, way: (NodeIndex, NodeIndex), message: &Message) -> bool {
        let mut lost = self.lost.iter();
        lost.any(|(from, to, is_lost)| (*from, *to) == way && is_lost(message))
    }
}

/// Something asked, perhaps not answered yet.
#[derive(Clone, Copy, Debug)]
struct Asked(u64);

/// How long a request may take, in microseconds.
const PATIENCE: u64 = 3_000_000;
/// A cluster is ready or quiet within this time.
const READY_MAX: u64 = 180_000_000;
const STEP: u64 = 5_000;

/// A cluster, and what the script has done to it.
#[derive(Debug)]
struct Scene {
    world: World,
    asked: u64,
    cuts: Vec<(NodeIndex, NodeIndex, CutMode)>,
}

impl Scene {
    /// A cluster that serves.
    fn new(shape: &Shape) -> Self {
        Self::with_bug(shape, None)
    }

    /// The same, with a guard taken away.
    fn with_bug(shape: &Shape, bug: Option<Bug>) -> Self {
        let cluster = shape::cluster(shape);
        let mut world = World::of(fastrand::Rng::with_seed(7), cluster, bug, 2_000);
        for node in 0..world.nodes.len() {
            world.nodes[node].clock = Clock::new(0, 0, 0);
            world.schedule(1_000, Event::Start { node });
        }
        world.schedule(LOOK_EVERY, Event::Look);
        let mut scene = Self {
            world,
            asked: 0,
            cuts: Vec::new(),
        };
        scene.until("ready", |scene| {
            let count = scene.world.nodes.len();
            scene.world.is_connected() && (0..count).all(|node| scene.is_ready(node))
        });
        // A node reads once it has heard, first-hand, that its neighbours serve.
        for node in 0..scene.world.nodes.len() {
            let key = shape::kv("ready");
            scene.ask_until_done(node, &Operation::Get { key });
        }
        scene
    }

    fn is_ready(&self, node: NodeIndex) -> bool {
        let now = self.world.now;
        let peers = self.world.live_peers(node).into_iter();
        let peers: Vec<NodeId> = peers.map(|peer| self.id(peer)).collect();
        let node = &self.world.nodes[node];
        node.is_serving(now) && node.hears_all(now, &peers)
    }

    /// Lets time pass, in microseconds.
    fn run_for(&mut self, micros: u64) {
        let end = self.world.now + micros;
        self.world.run_until(end);
        self.check();
    }

    /// Lets time pass until something holds.
    fn until(&mut self, what: &str, holds: impl Fn(&Self) -> bool) {
        let end = self.world.now + READY_MAX;
        while !holds(self) {
            assert!(self.world.now < end, "never {what}\n{}", self.lines());
            self.run_for(STEP);
        }
    }

    /// Lets time pass until all nodes are up, agree, and have nothing more to say.
    fn until_quiet(&mut self) {
        let is_quiet = run::rest(&mut self.world);
        self.check();
        assert!(is_quiet, "not quiet");
    }

    /// Nothing that is checked in random runs may fail.
    fn check(&self) {
        if let Some(violation) = &self.world.violation {
            panic!("{violation:?}\n{}", self.lines());
        }
    }

    fn lines(&self) -> String {
        self.world
            .trace
            .last_lines(if std::env::var("TRACE").is_ok() {
                2_000
            } else {
                0
            })
    }

    /// Nothing passes between two groups of nodes.
    fn cut(&mut self, a: &[NodeIndex], b: &[NodeIndex]) {
        for (from, to) in pairs(a, b) {
            self.close(from, to, CutMode::Lose);
            self.close(to, from, CutMode::Lose);
        }
    }

    /// What one group sends to another waits.
    fn hold(&mut self, from: &[NodeIndex], to: &[NodeIndex]) {
        for (from, to) in pairs(from, to) {
            self.close(from, to, CutMode::Hold);
        }
    }

    fn close(&mut self, from: NodeIndex, to: NodeIndex, mode: CutMode) {
        self.world.network.cut(from, to, mode);
        self.world.look_at_pair(from, to);
        self.cuts.push((from, to, mode));
    }

    /// All cuts end, held messages arrive, and nothing is lost any more.
    fn heal(&mut self) {
        self.world.script.lost.clear();
        for (from, to, mode) in std::mem::take(&mut self.cuts) {
            let (now, rng) = (self.world.now, &mut self.world.rng);
            let arrivals = self.world.network.heal(now, rng, (from, to), mode);
            self.world.schedule_arrivals(arrivals);
            self.world.look_at_pair(from, to);
        }
    }

    /// From now on messages of a kind are lost on the way from one node to another.
    fn lose(&mut self, from: NodeIndex, to: NodeIndex, is_lost: fn(&Message) -> bool) {
        self.world.script.lost.push((from, to, is_lost));
    }

    /// A node dies; what it had not synced is gone.
    fn kill(&mut self, node: NodeIndex) {
        self.world.crash(node, false);
    }

    /// A node stops as it should.
    fn stop(&mut self, node: NodeIndex) {
        self.world.stop(node);
    }

    /// A node that is down starts.
    fn start(&mut self, node: NodeIndex) {
        self.world.schedule(self.world.now, Event::Start { node });
        self.run_for(1_000);
    }

    /// A node that is down gets an empty disk.
    fn wipe(&mut self, node: NodeIndex) {
        self.world.wipe(node);
    }

    /// A copy of a node's disk.
    fn copy(&self, node: NodeIndex) -> DiskCopy {
        self.world.nodes[node].disk.copy()
    }

    /// A node that is down gets a copy of its disk that was taken before.
    fn old_copy(&mut self, node: NodeIndex, copy: &DiskCopy) {
        self.world.put_back(node, copy);
    }

    /// Sets a node's clock: off by so many microseconds.
    fn skew(&mut self, node: NodeIndex, micros: i64) {
        self.world.nodes[node].clock = Clock::new(self.world.now, micros, 0);
    }

    /// Stops a node's clock at a time.
    fn freeze(&mut self, node: NodeIndex, at: Wall) {
        let ahead = i64::try_from(at.0 - EPOCH_MICROS - self.world.now).unwrap();
        self.world.nodes[node].clock = Clock::new(self.world.now, ahead, -1_000_000);
    }

    /// True time.
    fn wall(&self) -> Wall {
        Wall(EPOCH_MICROS + self.world.now)
    }

    /// Asks a node; goes on without waiting.
    fn begin(&mut self, node: NodeIndex, request: Request) -> Asked {
        self.asked += 1;
        let asked = Asked(self.asked);
        let deadline = self.world.now + PATIENCE;
        self.world
            .on_request((SCRIPT, self.asked), node, request, deadline);
        asked
    }

    /// The outcome, if there is one by now.
    fn outcome(&self, asked: Asked) -> Option<Outcome> {
        self.world.script.answers.get(&asked.0).cloned()
    }

    /// Waits for the outcome.
    fn wait(&mut self, asked: Asked) -> Outcome {
        let end = self.world.now + PATIENCE + 2_000_000;
        while self.world.now < end {
            if let Some(outcome) = self.outcome(asked) {
                return outcome;
            }
            self.run_for(1_000);
        }
        panic!("no answer\n{}", self.lines());
    }

    /// Asks a node.
    fn ask(&mut self, node: NodeIndex, operation: Operation) -> Outcome {
        let asked = self.begin(node, at_quorum(operation));
        self.wait(asked)
    }

    /// Asks a node until it does not say that it cannot.
    fn ask_until_done(&mut self, node: NodeIndex, operation: &Operation) -> Outcome {
        let end = self.world.now + READY_MAX;
        loop {
            let outcome = self.ask(node, operation.clone());
            if !matches!(outcome, Outcome::Unavailable(_) | Outcome::Unknown(_)) {
                return outcome;
            }
            assert!(self.world.now < end, "never done: {outcome:?}");
            self.run_for(50_000);
        }
    }

    /// What a node holds of a key.
    fn rows(&self, node: NodeIndex, key: &RowKey) -> BTreeMap<RowKey, Row> {
        let partition = self.partition(key);
        let dump = self.world.nodes[node].disk.dump(partition).unwrap();
        let (rows, _) = dump.unwrap_or_default();
        let is_of = |row: &RowKey| row.keyspace == key.keyspace && row.key == key.key;
        rows.into_iter().filter(|(row, _)| is_of(row)).collect()
    }

    /// How far a node has come in the partition of a key.
    fn position(&self, node: NodeIndex, key: &RowKey) -> Position {
        let partition = self.partition(key);
        let positions = self.world.nodes[node].disk.positions();
        let found = positions.into_iter().find(|(id, _)| *id == partition);
        found.map(|(_, position)| position).unwrap_or_default()
    }

    fn partition(&self, key: &RowKey) -> PartitionId {
        key.partition(self.world.cluster.topology.partitions)
    }

    /// The name of this life of a node.
    fn actor(&self, node: NodeIndex) -> String {
        let node = &self.world.nodes[node];
        let running = node.running.as_ref().unwrap();
        running.machine.view(node.now(self.world.now)).actor
    }

    fn id(&self, node: NodeIndex) -> NodeId {
        self.world.nodes[node].id
    }
}

/// A scenario passes, and fails somewhere when a guard is taken away: by what it asserts, by a checker that looks on, or
/// because it never comes to rest.
fn guarded(guard: Bug, scenario: fn(Option<Bug>)) {
    scenario(None);
    let without = std::panic::catch_unwind(|| scenario(Some(guard)));
    assert!(without.is_err(), "{guard:?} is not missed");
}

fn at_quorum(operation: Operation) -> Request {
    Request {
        operation,
        level: Some(Level::LocalQuorum),
        gate: Gate::default(),
    }
}

fn pairs(a: &[NodeIndex], b: &[NodeIndex]) -> Vec<(NodeIndex, NodeIndex)> {
    let pairs = a.iter().flat_map(|a| b.iter().map(|b| (*a, *b)));
    pairs.filter(|(a, b)| a != b).collect()
}
