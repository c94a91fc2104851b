//! The world: virtual time, the heap of events, and the nodes, network and clients that they move.
//!
//! Invariant: everything that happens is an event, events are handled in the order (time, sequence), and all
//! chance comes from one generator; so one seed is one run.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use fastrand::Rng;

use crate::model::Ticket;
use crate::model::{Answer, Change, NodeId, Query};
use crate::protocol::{Input, Message, Operation, Outcome, Output, Report, RequestId};

use super::check::{Checks, Violation};
use super::clients::Client;
use super::cluster::{Cluster, NodeIndex};
use super::disk::{Disk, FORGED, Setup};
use super::faults::{Kind, Nemesis, Tally};
use super::history::History;
use super::network::{Network, Parcel};
use super::node::{Armed, SimNode};
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
        query: Query,
        answer: Option<Answer>,
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
        operation: Operation,
        deadline: u64,
    },
    /// A client stops waiting.
    GiveUp { client: usize, op: u64 },
    /// The nemesis strikes.
    Fault,
    /// A fault ends.
    Undo { fault: u64 },
    /// A node of a restart storm dies.
    Kill { node: NodeIndex },
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
/// Between looks of the checkers, in microseconds.
const LOOK_EVERY: u64 = 500_000;

/// The world of one run.
#[derive(Debug)]
pub(crate) struct World {
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
}

impl World {
    /// A world in which every node is about to start.
    pub(crate) fn new(seed: u64, bug: Option<Bug>, lines_max: usize) -> Self {
        let mut rng = Rng::with_seed(seed);
        let cluster = cluster::random(&mut rng);
        let network = Network::new(&mut rng, &cluster);
        let nodes: Vec<SimNode> = cluster
            .nodes
            .iter()
            .map(|(id, _)| node(*id, &cluster, bug))
            .collect();
        let checks = Checks::new(&cluster);
        let mut world = Self {
            now: 0,
            sequence: 0,
            heap: BinaryHeap::new(),
            rng,
            network,
            nodes,
            clients: Vec::new(),
            history: History::default(),
            nemesis: Nemesis::default(),
            faults_on: false,
            tally: Tally::default(),
            checks,
            trace: Trace::new(lines_max),
            violation: None,
            bug,
            cluster,
        };
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
            | Event::Fault
            | Event::Undo { .. }
            | Event::Kill { .. }
            | Event::Resume { .. }
            | Event::Look => return None,
        };
        let until = self.nodes.get(node)?.paused_until;
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
                operation,
                deadline,
            } => {
                self.on_request((client, op), node, operation, deadline);
            }
            Event::GiveUp { client, op } => self.on_give_up(client, op),
            Event::Fault => self.on_fault(),
            Event::Undo { fault } => self.on_undo(fault),
            Event::Kill { node } => {
                if self.faults_on {
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

    /// Lets a node's disk stage soon.
    pub(crate) fn schedule_stage(&mut self, node: NodeIndex, life: u32) {
        let at = self.now + self.rng.u64(1..=100);
        self.schedule(at, Event::Stage { node, life });
    }

    /// Lets a node's timer ring when its machine wants it.
    pub(crate) fn schedule_wake(&mut self, index: NodeIndex) {
        let now = self.now;
        let Some(node) = self.nodes.get_mut(index) else {
            return;
        };
        let life = node.life;
        let Some(running) = node.running.as_mut() else {
            return;
        };
        let deadline = running.machine.next_deadline().0;
        // What comes close together is taken in together, as the node's loop does.
        let gathers = now + self.rng.u64(1..=60);
        let at = deadline.saturating_sub(running.time_offset).max(gathers);
        if running.wake_at.is_none_or(|wake| at < wake) {
            running.wake_at = Some(at);
            self.schedule(at, Event::Wake { node: index, life });
        }
    }

    fn on_wake(&mut self, index: NodeIndex, life: u32) {
        let now = self.now;
        let Some(node) = self.live(index, life) else {
            return;
        };
        if let Some(running) = node.running.as_mut() {
            if running.wake_at.is_none_or(|wake| now < wake) {
                return;
            }
            running.wake_at = None;
        }
        self.step(index, Input::Tick);
    }

    /// Steps a node's machine and carries out what it says.
    pub(crate) fn step(&mut self, index: NodeIndex, input: Input) {
        let now = self.now;
        let Some(node) = self.nodes.get_mut(index) else {
            return;
        };
        let (at, life) = (node.now(now), node.life);
        let Some(running) = node.running.as_mut() else {
            return;
        };
        let mut outputs = Vec::new();
        running.machine.step(at, input, &mut outputs);
        let mut crash_after = None;
        if node.armed == Some(Armed::AmidOutputs) && 1 < outputs.len() {
            crash_after = Some(self.rng.usize(0..outputs.len()));
        }
        for (place, output) in outputs.into_iter().enumerate() {
            if crash_after == Some(place) {
                return self.kill(index, false);
            }
            if self.life_of(index) != Some(life) {
                return;
            }
            self.carry_out(index, life, output);
        }
        self.schedule_wake(index);
    }

    fn carry_out(&mut self, index: NodeIndex, life: u32, output: Output) {
        let now = self.now;
        match output {
            Output::Send { to, lane, message } => self.send(index, to, lane, message),
            Output::Change { ticket, change } => {
                self.trace.note(now, [20, index as u64, ticket.0], || {
                    format!("n{index} changes {ticket:?}: {change:?}")
                });
                let Some(node) = self.live(index, life) else {
                    return;
                };
                if node.disk.push(ticket, change) {
                    self.schedule_stage(index, life);
                }
            }
            Output::Query { ticket, query } => {
                let is_early = self.rng.bool();
                let at = now + self.rng.u64(1..=300);
                let Some(node) = self.live(index, life) else {
                    return;
                };
                let answer = if is_early {
                    node.disk.answer(&query)
                } else {
                    None
                };
                let node = index;
                self.schedule(
                    at,
                    Event::Answered {
                        node,
                        life,
                        ticket,
                        query,
                        answer,
                    },
                );
            }
            Output::Reply { id, outcome } => self.reply(index, id, outcome),
            Output::Report(report) => self.report(index, &report),
        }
    }

    fn send(&mut self, from: NodeIndex, to: NodeId, lane: crate::protocol::Lane, message: Message) {
        let now = self.now;
        let Some(to) = self.cluster.index_of(to) else {
            return self.fail(
                "bounds",
                format!("node {from} sends to a stranger: {message:?}"),
            );
        };
        self.checks.on_sent(now, (from, to), &message);
        self.check_now();
        let (Some(generation), Some(from_life)) =
            (self.known_connection(from, to), self.life_of(from))
        else {
            return;
        };
        let Some(to_life) = self.nodes.get(to).map(|node| node.life) else {
            return;
        };
        let message = if self.cluster.profile.is_encoded {
            match super::messages::through_bytes(&message) {
                Some(read) => read,
                None => return self.fail("coding", format!("does not come back: {message:?}")),
            }
        } else {
            message
        };
        let facts = [9, (from * 1000 + to) as u64, lane as u64];
        self.trace.note(now, facts, || {
            format!("n{from} -> n{to} {lane:?}: {message:?}")
        });
        let log_bytes = super::messages::log_bytes_of(&message);
        let parcel = Parcel {
            from,
            to,
            from_life,
            to_life,
            generation,
            lane,
            message,
            is_replay: false,
            log_bytes,
        };
        let profile = &self.cluster.profile;
        let arrivals = self
            .network
            .send(now, &mut self.rng, profile, &mut self.tally, parcel);
        self.checks
            .on_in_flight((from, to), self.network.log_bytes(from, to));
        self.check_now();
        self.schedule_arrivals(arrivals);
    }

    /// Lets parcels arrive.
    pub(crate) fn schedule_arrivals(&mut self, arrivals: Vec<(u64, Parcel)>) {
        for (at, parcel) in arrivals {
            self.schedule(at, Event::Deliver(Box::new(parcel)));
        }
    }

    fn on_deliver(&mut self, parcel: Parcel) {
        self.network.arrived(&parcel);
        let Parcel {
            from,
            to,
            generation,
            ..
        } = parcel;
        if self.life_of(to) != Some(parcel.to_life) {
            return;
        }
        match self.known_connection(to, from) {
            Some(known) if known == generation => {}
            Some(known) if generation < known => {
                let same_sender = self.life_of(from) == Some(parcel.from_life);
                if !(parcel.is_replay && same_sender) {
                    return;
                }
            }
            // The connection stands, but the receiver has not been told: it hears of it first.
            Some(_) | None => {
                let current = self.network.pair(from, to).connection;
                if current.is_none_or(|current| current.generation != generation) {
                    return;
                }
                self.on_connected(to, from, generation);
            }
        }
        let facts = [10, (from * 1000 + to) as u64, parcel.lane as u64];
        self.trace.note(self.now, facts, || {
            format!(
                "n{to} <- n{from} {:?}",
                super::messages::name_of(&parcel.message)
            )
        });
        if let Some(from) = self.id_of(from) {
            let message = parcel.message;
            self.step(to, Input::Message { from, message });
        }
    }

    fn on_answered(
        &mut self,
        index: NodeIndex,
        life: u32,
        ticket: Ticket,
        (query, answer): (&Query, Option<Answer>),
    ) {
        let Some(node) = self.live(index, life) else {
            return;
        };
        if let Some(answer) = answer.or_else(|| node.disk.answer(query)) {
            self.step(index, Input::Answered { ticket, answer });
        }
    }

    fn reply(&mut self, index: NodeIndex, id: RequestId, outcome: Outcome) {
        let running = self
            .nodes
            .get_mut(index)
            .and_then(|node| node.running.as_mut());
        match running.and_then(|running| running.requests.remove(&id)) {
            Some(op) => self.on_reply(op, outcome),
            None => self.fail(
                "answers",
                format!("n{index} answers {id:?}, which nobody asked"),
            ),
        }
    }

    fn report(&mut self, index: NodeIndex, report: &Report) {
        let name = match report {
            Report::PeerUp(_) => "peer up",
            Report::PeerDown(_) => "peer down",
            Report::ClockAhead(_) => "clock ahead",
            Report::Serving(_) => "serving",
            Report::Reconciling(..) => "reconciling",
            Report::Reconciled { .. } => "reconciled",
            Report::Amnesia(_) => "amnesia",
        };
        self.tally.saw(name);
        let facts = [11, index as u64, name.len() as u64];
        self.trace
            .note(self.now, facts, || format!("n{index} reports {report:?}"));
        if let Report::Amnesia(_) = report {
            self.kill(index, false);
        }
    }

    /// A node crashes and starts again after a while.
    pub(crate) fn kill(&mut self, index: NodeIndex, is_synced: bool) {
        if self.life_of(index).is_none() {
            return;
        }
        self.crash(index, is_synced);
        let most = if self.rng.bool() { 300_000 } else { 4_000_000 };
        let at = self.now + self.rng.u64(20_000..=most);
        self.schedule(at, Event::Start { node: index });
    }

    fn on_look(&mut self) {
        let now = self.now;
        for index in 0..self.nodes.len() {
            let Some(node) = self.nodes.get_mut(index) else {
                continue;
            };
            let at = node.now(now);
            let queued = node.disk.queued();
            let Some(running) = node.running.as_ref() else {
                continue;
            };
            let view = running.machine.view(at);
            if view.serving == view.partitions {
                node.is_refilling = false;
            }
            self.checks.on_looked(index, &view, queued);
        }
        if self.bug == Some(Bug::DropTombstonesEarly) && self.faults_on {
            self.collect_early();
        }
        self.check_now();
        self.schedule(now + LOOK_EVERY, Event::Look);
    }

    /// The planted bug [`Bug::DropTombstonesEarly`]: each node takes its own position for everybody's.
    fn collect_early(&mut self) {
        for index in 0..self.nodes.len() {
            let Some(life) = self.life_of(index) else {
                continue;
            };
            for (partition, position) in self.checks.positions_of(index) {
                let floor = position
                    .0
                    .iter()
                    .map(|(actor, reach)| (*actor, reach.applied));
                let floor = floor.collect();
                let change = Change::Collect { partition, floor };
                if let Some(node) = self.live(index, life)
                    && node.disk.push(FORGED, change)
                {
                    self.schedule_stage(index, life);
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
            node.clock = super::clock::Clock::new(self.now, skew, drift);
        }
    }
}

fn node(id: NodeId, cluster: &Cluster, bug: Option<Bug>) -> SimNode {
    let setup = Setup {
        node: id,
        partitions: cluster.placement.partitions_of(id).to_vec(),
        partition_count: cluster.topology.partitions,
        limits: cluster.topology.limits.clone(),
    };
    SimNode::new(id, Disk::new(setup, bug), super::clock::Clock::default())
}
