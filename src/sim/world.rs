//! The world: virtual time, the heap of events, and the nodes, network and clients that they move.
//!
//! Invariant: everything that happens is an event, events are handled in the order (time, sequence), and all
//! chance comes from one generator; so one seed is one run.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use fastrand::Rng;

use crate::model::{Answer, NodeId, Query, Ticket};
use crate::protocol::{Input, Request};

use super::check::Checks;
use super::clients::Client;
use super::cluster::{Cluster, NodeIndex};
use super::disk::{Disk, Setup};
use super::faults::Nemesis;
use super::history::History;
use super::history::Violation;
use super::kinds::Tally;
use super::looks::LOOK_EVERY;
use super::network::{Network, Parcel};
use super::node::SimNode;
use super::plan::Plan;
use super::trace::Trace;
use super::{Bug, cluster};

/// Something that will happen.
#[derive(Debug)]
pub(crate) enum Event {
    /// A node starts.
    Start { node: NodeIndex },
    /// A node's timer rings.
    Wake { node: NodeIndex, life: u32 },
    /// A node's disk stages what is queued.
    Stage { node: NodeIndex, life: u32 },
    /// A node's sync ends.
    Sync { node: NodeIndex, life: u32 },
    /// A node hears what is durable.
    Durable {
        node: NodeIndex,
        life: u32,
        tickets: Vec<Ticket>,
    },
    /// A node's query is answered: from now, or from when it was asked.
    Answered {
        node: NodeIndex,
        life: u32,
        ticket: Ticket,
        query: Box<Query>,
        answer: Option<Box<Answer>>,
    },
    /// A message arrives.
    Deliver(Box<Parcel>),
    /// The connection between two nodes is looked at.
    Pair { a: NodeIndex, b: NodeIndex },
    /// A node hears of a new connection.
    Connected {
        node: NodeIndex,
        life: u32,
        peer: NodeIndex,
        generation: u64,
    },
    /// A node hears that a connection is gone.
    Disconnected {
        node: NodeIndex,
        life: u32,
        peer: NodeIndex,
        generation: u64,
    },
    /// A client asks for something.
    Ask { client: usize },
    /// A client's request reaches its node.
    Request {
        client: usize,
        op: u64,
        node: NodeIndex,
        request: Box<Request>,
        deadline: u64,
    },
    /// A client stops waiting.
    GiveUp { client: usize, op: u64 },
    /// The nemesis strikes.
    Fault { place: usize },
    /// A fault ends.
    Undo { fault: u64 },
    /// A node of a restart storm dies.
    Kill { node: NodeIndex },
    /// A node dies while its disk writes.
    Torn { node: NodeIndex },
    /// A node goes on after a pause.
    Resume { node: NodeIndex },
    /// The checkers look at every node.
    Look,
}

#[derive(Debug)]
struct Scheduled {
    at: u64,
    sequence: u64,
    event: Event,
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        self.sequence == other.sequence
    }
}
impl Eq for Scheduled {}
impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Scheduled {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.sequence).cmp(&(other.at, other.sequence))
    }
}

/// A run that handles more events than this is stuck in a circle.
const EVENTS_MAX: u64 = 20_000_000;

/// The world of one run.
#[derive(Debug)]
pub(crate) struct World {
    /// The seed.
    pub(crate) seed: u64,
    /// Virtual time in microseconds.
    pub(crate) now: u64,
    sequence: u64,
    heap: BinaryHeap<Reverse<Scheduled>>,
    /// All chance.
    pub(crate) rng: Rng,
    /// The cluster.
    pub(crate) cluster: Cluster,
    /// Its nodes.
    pub(crate) nodes: Vec<SimNode>,
    /// What lies between them.
    pub(crate) network: Network,
    /// Who asks.
    pub(crate) clients: Vec<Client>,
    /// Clients that do nothing.
    pub(crate) idle_clients: Vec<usize>,
    /// Names of operations that nobody does.
    pub(crate) without: Vec<String>,
    /// What was asked.
    pub(crate) history: History,
    /// Faults under way.
    pub(crate) nemesis: Nemesis,
    /// Whether faults may begin.
    pub(crate) faults_on: bool,
    /// What was injected.
    pub(crate) tally: Tally,
    /// The checkers that look on.
    pub(crate) checks: Checks,
    /// What happened.
    pub(crate) trace: Trace,
    /// The first violation.
    pub(crate) violation: Option<Violation>,
    /// The planted bug.
    pub(crate) bug: Option<Bug>,
    /// What a script asks and hears, and which messages it lets be lost.
    #[cfg(test)]
    pub(crate) script: super::scenario::Script,
    /// The guard that is left out while this world lives.
    #[cfg(test)]
    _left_out: crate::model::planted::LeftOut,
}

impl World {
    /// A world of a plan, in which every node is about to start.
    pub(crate) fn new(plan: &Plan, bug: Option<Bug>, lines_max: usize) -> Self {
        let seed = plan.seed;
        let rng = Rng::with_seed(seed);
        let cluster = cluster::build(&plan.sketch, plan.profile.clone());
        let mut world = Self::of(rng, cluster, bug, lines_max);
        world.seed = seed;
        world.nemesis.strikes.clone_from(&plan.strikes);
        world.nemesis.dead.clone_from(&plan.dead);
        world.idle_clients.clone_from(&plan.idle_clients);
        world.without.clone_from(&plan.without);
        let words = format!("{:?} {:?}", world.cluster.topology, world.cluster.profile);
        world.trace.note(0, [0, seed, 0], || words);
        for node in 0..world.nodes.len() {
            world.skew_a_little(node);
            let at = world.rng.u64(0..=300_000);
            world.schedule(at, Event::Start { node });
        }
        world.schedule(LOOK_EVERY, Event::Look);
        world
    }

    /// A world of this cluster in which nothing is about to happen.
    pub(crate) fn of(mut rng: Rng, cluster: Cluster, bug: Option<Bug>, lines_max: usize) -> Self {
        #[cfg(test)]
        let left_out = crate::model::planted::leave_out(bug.and_then(Bug::guard));
        let network = Network::new(&mut rng, &cluster);
        let nodes: Vec<SimNode> = cluster
            .nodes
            .iter()
            .map(|(id, _)| node(*id, &cluster, bug))
            .collect();
        let checks = Checks::new(&cluster);
        Self {
            seed: 0,
            now: 0,
            sequence: 0,
            heap: BinaryHeap::new(),
            rng,
            network,
            nodes,
            clients: Vec::new(),
            idle_clients: Vec::new(),
            without: Vec::new(),
            history: History::default(),
            nemesis: Nemesis::default(),
            faults_on: false,
            tally: Tally::default(),
            checks,
            trace: Trace::new(lines_max),
            violation: None,
            bug,
            cluster,
            #[cfg(test)]
            script: super::scenario::Script::default(),
            #[cfg(test)]
            _left_out: left_out,
        }
    }

    /// Lets something happen at a time.
    pub(crate) fn schedule(&mut self, at: u64, event: Event) {
        self.sequence += 1;
        let sequence = self.sequence;
        self.heap.push(Reverse(Scheduled {
            at: at.max(self.now),
            sequence,
            event,
        }));
    }

    /// Lets everything happen up to `limit`, or up to the first violation.
    pub(crate) fn run_until(&mut self, limit: u64) {
        while self.violation.is_none() {
            match self.heap.peek() {
                Some(Reverse(next)) if next.at <= limit => {}
                Some(_) | None => break,
            }
            if EVENTS_MAX < self.trace.events() {
                self.fail("progress", "events without end".to_owned());
            }
            if let Some(Reverse(next)) = self.heap.pop() {
                self.now = next.at;
                match self.paused_until(&next.event) {
                    Some(until) => self.heap.push(Reverse(Scheduled { at: until, ..next })),
                    None => self.on_event(next.event),
                }
            }
        }
        self.now = self.now.max(limit);
    }

    /// A checker found something; the first violation counts.
    pub(crate) fn fail(&mut self, check: &'static str, words: String) {
        let at = self.now;
        self.violation.get_or_insert(Violation { check, at, words });
    }

    /// Takes over what a checker that looks on has found.
    pub(crate) fn check_now(&mut self) {
        if let Some((check, words)) = self.checks.take_found() {
            self.fail(check, words);
        }
    }

    /// Whether an event must wait because its node is paused, and until when.
    fn paused_until(&self, event: &Event) -> Option<u64> {
        let node = match event {
            Event::Wake { node, .. }
            | Event::Stage { node, .. }
            | Event::Sync { node, .. }
            | Event::Durable { node, .. }
            | Event::Answered { node, .. }
            | Event::Connected { node, .. }
            | Event::Disconnected { node, .. }
            | Event::Request { node, .. } => *node,
            Event::Deliver(parcel) => parcel.to,
            Event::Start { .. }
            | Event::Pair { .. }
            | Event::Ask { .. }
            | Event::GiveUp { .. }
            | Event::Fault { .. }
            | Event::Torn { .. }
            | Event::Undo { .. }
            | Event::Kill { .. }
            | Event::Resume { .. }
            | Event::Look => return None,
        };
        let node = self.nodes.get(node)?;
        let until = node.paused_until.max(node.busy_until);
        (self.now < until).then_some(until)
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::Start { node } => self.on_start(node),
            Event::Wake { node, life } => self.on_wake(node, life),
            Event::Stage { node, life } => self.on_stage(node, life),
            Event::Sync { node, life } => self.on_sync(node, life),
            Event::Durable {
                node,
                life,
                tickets,
            } => {
                if self.live(node, life).is_some() {
                    self.step(node, Input::Durable(tickets));
                }
            }
            Event::Answered {
                node,
                life,
                ticket,
                query,
                answer,
            } => {
                let answer = answer.map(|answer| *answer);
                self.on_answered(node, life, ticket, (&query, answer));
            }
            Event::Deliver(parcel) => self.on_deliver(*parcel),
            Event::Pair { a, b } => self.on_pair(a, b),
            Event::Connected {
                node,
                life,
                peer,
                generation,
            } => {
                if self.live(node, life).is_some() {
                    self.on_connected(node, peer, generation);
                }
            }
            Event::Disconnected {
                node,
                life,
                peer,
                generation,
            } => {
                if self.live(node, life).is_some() {
                    self.on_disconnected(node, peer, generation);
                }
            }
            Event::Ask { client } => self.on_ask(client),
            Event::Request {
                client,
                op,
                node,
                request,
                deadline,
            } => {
                self.on_request((client, op), node, *request, deadline);
            }
            Event::GiveUp { client, op } => self.on_give_up(client, op),
            Event::Fault { place } => self.on_fault(place),
            Event::Torn { node } => self.on_torn(node),
            Event::Undo { fault } => self.on_undo(fault),
            Event::Kill { node } => {
                if self.faults_on && !self.is_witness(node) {
                    let is_synced = self.rng.bool();
                    self.kill(node, is_synced);
                }
            }
            Event::Resume { node } => self.look_at_pairs_of(node),
            Event::Look => self.on_look(),
        }
    }

    /// A node, if it still is in this life.
    pub(crate) fn live(&mut self, node: NodeIndex, life: u32) -> Option<&mut SimNode> {
        self.nodes
            .get_mut(node)
            .filter(|node| node.life == life && node.running.is_some())
    }

    /// The life of a node; nothing if it is down.
    pub(crate) fn life_of(&self, node: NodeIndex) -> Option<u32> {
        let node = self.nodes.get(node)?;
        node.running.as_ref().map(|_| node.life)
    }

    /// Whether a node is paused.
    pub(crate) fn is_paused(&self, node: NodeIndex) -> bool {
        self.nodes
            .get(node)
            .is_some_and(|node| self.now < node.paused_until)
    }

    /// The id of a node.
    pub(crate) fn id_of(&self, node: NodeIndex) -> Option<NodeId> {
        self.nodes.get(node).map(|node| node.id)
    }
}

fn node(id: NodeId, cluster: &Cluster, bug: Option<Bug>) -> SimNode {
    let setup = Setup {
        node: id,
        partitions: cluster.placement.partitions_of(id).to_vec(),
        partition_count: cluster.topology.partitions,
        limits: cluster.topology.limits.clone(),
        conflicts_kept: cluster.topology.conflicts_kept(),
    };
    SimNode::new(id, Disk::new(setup, bug), super::clock::Clock::default())
}
