//! The machine of one node: what goes in, what comes out, and who gets it.

use std::collections::BTreeMap;

use crate::model::{
    Duration, Effect, NodeId, PartitionId, PartitionState, Query, RegionId, Ticket, Time,
};

use super::answer;
use super::core::{Core, Counter, Origin, report};
use super::forward::{Forwards, Seen};
use super::gate::Gates;
use super::heartbeat::{self, Heartbeats};
use super::list::Lists;
use super::message::{Ack, Heartbeat, Message};
use super::operation::Asked;
use super::other;
use super::peers::Connection;
use super::read::Reads;
use super::receiver::Receiver;
use super::reconcile::{LEAF_ROWS_MAX, Reconciler, Summing, Told};
use super::replica::Replica;
use super::select::{self, Selects};
use super::sender::Sender;
use super::step::{Config, Input, Now, Output, Report, Room};
use super::timers::Timer;
use super::upkeep;
use super::view::{self, View};
use super::wait::Waits;
use super::write::Writes;

/// The longest that an operation of a peer may be held, whatever it asks for.
const FORWARD_MAX: Duration = Duration::from_mins(1);

/// The machine.
#[derive(Debug)]
pub struct Machine {
    pub(super) core: Core,
    pub(super) writes: Writes,
    pub(super) reads: Reads,
    pub(super) selects: Selects,
    pub(super) lists: Lists,
    pub(super) gates: Gates,
    pub(super) waits: Waits,
    /// Marks or positions have moved: what waits for them may go on.
    pub(super) has_moved: bool,
    pub(super) forwards: Forwards,
    pub(super) seen: Seen,
    pub(super) sender: Sender,
    pub(super) receiver: Receiver,
    pub(super) heartbeats: Heartbeats,
    pub(super) reconciler: Reconciler,
    /// Effects of changes that are staged and not yet on disk.
    pub(super) staged: BTreeMap<Ticket, Effect>,
}

impl Machine {
    /// A machine for a node whose store was opened with this state.
    pub fn new(now: Now, config: Config, opened: Vec<PartitionState>) -> Self {
        let region = config
            .placement
            .region_of(config.node)
            .unwrap_or(RegionId(0));
        let replicas: BTreeMap<PartitionId, Replica> = opened
            .into_iter()
            .map(|state| {
                let partition = state.partition;
                let regions = config.placement.regions(partition);
                (partition, Replica::new(state, config.node, region, regions))
            })
            .collect();
        let mut core = Core::new(now, config, replicas, region);
        for timer in [Timer::Sources, Timer::Upkeep, Timer::Reconcile] {
            core.timers.set(now.time, timer);
        }
        Self {
            sender: Sender::new(core.limits.recent_bytes_max),
            reconciler: Reconciler::new(now.time, core.limits.reconcile_bytes_per_second),
            core,
            writes: Writes::default(),
            reads: Reads::default(),
            selects: Selects::default(),
            lists: Lists::default(),
            gates: Gates::default(),
            waits: Waits::default(),
            has_moved: false,
            forwards: Forwards::default(),
            seen: Seen::default(),
            receiver: Receiver::default(),
            heartbeats: Heartbeats::default(),
            staged: BTreeMap::new(),
        }
    }

    /// Takes in what happened and says what to do. Outputs are appended; their order counts.
    ///
    /// Pieces of log and acknowledgements gather until [`Input::Tick`], so that what came together goes
    /// together; [`Self::next_deadline`] asks for it at once when there are any.
    pub fn step(&mut self, now: Now, input: Input, outputs: &mut Vec<Output>) {
        self.core.wall = now.wall;
        self.core.time = now.time;
        self.take(now, input, outputs);
        self.carry(outputs);
    }

    fn take(&mut self, now: Now, input: Input, outputs: &mut Vec<Output>) {
        match input {
            Input::Tick => self.on_tick(now, outputs),
            Input::Request {
                id,
                request,
                deadline,
            } => {
                let asked = Asked {
                    origin: Origin::Client(id),
                    request,
                    deadline,
                };
                self.on_operation(now, asked, outputs);
            }
            Input::Connected { peer } => {
                self.core.peers.on_connected(peer);
                self.heartbeats.restart(now, &mut self.core, peer);
            }
            Input::Disconnected { peer } => {
                let was_up = self.core.peers.on_disconnected(peer);
                self.on_peer_lost(now, peer, was_up, outputs);
            }
            Input::Message { from, message } => self.on_message(now, from, message, outputs),
            Input::Staged(effects) => {
                for (ticket, effect) in effects {
                    self.core.paces.on_staged(now.time, &effect);
                    self.on_staged(now, ticket, effect, outputs);
                }
            }
            Input::Durable(tickets) => {
                self.core.paces.on_durable(now.time);
                for ticket in tickets {
                    self.on_durable(now, ticket, outputs);
                }
            }
            Input::Room(room) => self.core.room = room,
            Input::Stopping => self.core.is_stopping = true,
            Input::Answered { ticket, answer } => self.on_answered(now, ticket, answer, outputs),
        }
    }

    /// When to step with [`Input::Tick`] at the latest.
    pub fn next_deadline(&self) -> Time {
        if self.sender.is_dirty() || self.receiver.is_dirty() || self.is_awaited() {
            return Time(0);
        }
        self.core.timers.next().unwrap_or(Time(u64::MAX))
    }

    fn on_tick(&mut self, now: Now, outputs: &mut Vec<Output>) {
        while let Some(timer) = self.core.timers.pop_due(now.time) {
            self.on_timer(now, timer, outputs);
        }
        self.settle_waiting(now, outputs);
        self.receiver.flush(outputs);
        self.sender.flush(now, &mut self.core, outputs);
    }

    /// Whether somebody waits for what has moved.
    fn is_awaited(&self) -> bool {
        self.has_moved && self.gates.len() + self.waits.questions() > 0
    }

    /// Marks or positions have moved: reads and waits that hang on them go on.
    fn settle_waiting(&mut self, now: Now, outputs: &mut Vec<Output>) {
        if std::mem::take(&mut self.has_moved) {
            for accepted in self.gates.settle(&mut self.core) {
                self.route(now, accepted, outputs);
            }
            self.waits.settle(now.time, &mut self.core, outputs);
        }
    }

    /// Carries between writes and the reads that they hang on, and from reads to those that go by positions.
    fn carry(&mut self, outputs: &mut Vec<Output>) {
        for request in self.reads.take_doubtful() {
            if let Some(key) = request.selection.key() {
                let partition = self.core.partition(key);
                self.selects
                    .start(&mut self.core, partition, request, outputs);
            }
        }
        loop {
            let wishes = self.writes.take_wishes();
            let observed = self.selects.take_observed();
            if wishes.is_empty() && observed.is_empty() {
                return;
            }
            for (partition, request) in wishes {
                self.selects
                    .start(&mut self.core, partition, request, outputs);
            }
            for observed in observed {
                self.writes.on_observed(&mut self.core, observed, outputs);
            }
        }
    }

    fn on_timer(&mut self, now: Now, timer: Timer, outputs: &mut Vec<Output>) {
        match timer {
            Timer::Heartbeat(peer) => {
                if self
                    .core
                    .peers
                    .get(peer)
                    .is_some_and(|peer| peer.connection != Connection::Down)
                {
                    self.heartbeats.beat(
                        now,
                        &mut self.core,
                        &self.sender,
                        &self.receiver,
                        peer,
                        outputs,
                    );
                }
            }
            Timer::Sources => {
                self.core.timers.set(
                    now.time.after(self.core.limits.heartbeat_every),
                    Timer::Sources,
                );
                for peer in self.core.peers.fallen_silent(now.time) {
                    self.on_peer_lost(now, peer, true, outputs);
                }
                self.core.judge_paces(outputs);
                self.receiver.choose(now, &self.core, outputs);
                upkeep::serve(&mut self.core, outputs);
            }
            Timer::Upkeep => {
                self.core
                    .timers
                    .set(now.time.after(self.core.limits.upkeep_every), Timer::Upkeep);
                self.core.paces.on_round();
                upkeep::round(now, &mut self.core, outputs);
            }
            Timer::Sweep => upkeep::sweep(now, &mut self.core, outputs),
            Timer::Reconcile => self.reconciler.on_timer(now, &mut self.core, outputs),
            Timer::Stream(id) => self.sender.on_linger(id),
            Timer::Write(id) => {
                self.writes
                    .on_deadline(&mut self.core, &mut self.sender, id, outputs);
            }
            Timer::Read(id) => self.reads.on_deadline(&mut self.core, id, outputs),
            Timer::Hedge(id) => self.reads.on_hedge(&mut self.core, id, outputs),
            Timer::Select(id) => self.selects.on_deadline(&mut self.core, id, outputs),
            Timer::SelectHedge(id) => self.selects.on_hedge(&mut self.core, id, outputs),
            Timer::List(id) => self.lists.on_deadline(&mut self.core, id, outputs),
            Timer::Gate(id) => {
                if let Some(accepted) = self.gates.on_timer(id) {
                    self.route(now, accepted, outputs);
                }
            }
            Timer::Wait(id) => self.waits.on_timer(now.time, &mut self.core, id, outputs),
            Timer::Forward(id) => self.forwards.on_deadline(id, outputs),
        }
    }

    fn on_peer_lost(&mut self, now: Now, peer: NodeId, was_up: bool, outputs: &mut Vec<Output>) {
        self.sender.on_peer_lost(peer);
        self.receiver.on_peer_lost(peer);
        self.reconciler.on_peer_lost(peer);
        self.forwards.on_peer_lost(&mut self.core, peer, outputs);
        self.reads.on_peer_lost(&mut self.core, peer, outputs);
        self.selects.on_peer_lost(&mut self.core, peer, outputs);
        if was_up {
            report(outputs, Report::PeerDown(peer));
            self.receiver.choose(now, &self.core, outputs);
        }
    }

    /// Whether nobody waits for anything here.
    pub fn is_idle(&self) -> bool {
        self.requests() == 0
    }

    /// Requests in flight.
    pub(super) fn requests(&self) -> usize {
        self.writes.len()
            + self.reads.len()
            + self.selects.len()
            + self.lists.len()
            + self.gates.len()
            + self.waits.len()
            + self.forwards.len()
    }

    fn on_message(&mut self, now: Now, from: NodeId, message: Message, outputs: &mut Vec<Output>) {
        if self.core.peers.get(from).is_none() {
            return;
        }
        match message {
            Message::Heartbeat(heartbeat) => self.on_heartbeat(now, from, &heartbeat, outputs),
            Message::Wants(wants) => {
                for want in wants {
                    self.sender.on_want(now, &self.core, from, want);
                }
            }
            // As if they were lost: they are sent again when there is room.
            Message::Append(_) | Message::Repair { .. } if self.core.room == Room::Full => {
                self.core.count(Counter::NoRoom, 1);
            }
            Message::Append(append) => {
                self.has_moved = true;
                self.receiver
                    .on_append(now, &mut self.core, from, append, outputs);
            }
            Message::Acks(acks) => {
                for ack in acks {
                    self.on_ack(from, &ack, outputs);
                }
            }
            Message::Trimmed { partition, actor } => {
                let log = (partition, actor);
                self.reconciler
                    .on_trimmed(now, &mut self.core, from, log, outputs);
            }
            Message::Forward {
                id,
                request,
                micros_left,
            } => {
                if !self.seen.is_new(from, id) {
                    return;
                }
                let deadline = now
                    .time
                    .after(Duration::from_micros(micros_left).min(FORWARD_MAX));
                let asked = Asked {
                    origin: Origin::Peer(from, id),
                    request,
                    deadline,
                };
                self.on_operation(now, asked, outputs);
            }
            Message::Forwarded { id, outcome } => {
                self.on_forwarded(now, from, (id, outcome), outputs);
            }
            Message::Read { id, keys, whole } => {
                // Reconciliation asks for whole rows at once; a client's read asks for summaries first.
                if !whole {
                    self.core.on_reader(keys.first(), from);
                }
                answer::on_read(&mut self.core, from, id, keys, whole, outputs);
            }
            Message::Summaries { id, summaries } => {
                let summary = summaries.into_iter().next().flatten();
                self.reads
                    .on_summary(&mut self.core, id, from, summary, outputs);
            }
            Message::Rows { id, rows } => {
                if self.reconciler.waits_for(from, id) {
                    let told = Told::Rows(rows);
                    self.reconciler
                        .on_told(now, &mut self.core, from, id, told, outputs);
                } else {
                    let row = rows.into_iter().next().flatten();
                    self.reads.on_row(&mut self.core, id, from, row, outputs);
                }
            }
            Message::CannotRead { id } => {
                self.reconciler.give_up(from, id);
                self.reads.on_cannot(&self.core, id, from, outputs);
                self.selects.on_cannot(&self.core, id, from, outputs);
            }
            Message::Repair { id, rows } => {
                answer::on_repair(&mut self.core, from, id, rows, outputs);
            }
            Message::Repaired { id, held } => {
                if !self
                    .reconciler
                    .on_told(now, &mut self.core, from, id, Told::Repaired, outputs)
                {
                    self.reads
                        .on_repaired(&mut self.core, id, from, held.as_ref(), outputs);
                    let held = held.as_ref();
                    self.selects
                        .on_repaired(&mut self.core, id, from, held, outputs);
                }
            }
            Message::Select {
                id,
                selection,
                whole,
            } => {
                self.core.on_reader(selection.key(), from);
                answer::on_select(&mut self.core, from, id, selection, whole, outputs);
            }
            Message::Selected {
                id,
                position,
                state,
                collected,
                rows,
                next,
            } => {
                let told = select::Told {
                    collected,
                    position,
                    state,
                    rows,
                    next,
                };
                self.selects
                    .on_told(&mut self.core, id, from, told, outputs);
            }
            Message::Await {
                id,
                session,
                micros_left,
            } => {
                let left = Duration::from_micros(micros_left).min(FORWARD_MAX);
                self.waits.on_await(
                    now.time,
                    &mut self.core,
                    (from, id),
                    (session, left),
                    outputs,
                );
            }
            Message::Awaited { id } => {
                self.waits.on_awaited(&mut self.core, id, from, outputs);
            }
            Message::GravesTell { id, rows, next } => {
                let told = Told::Graves(rows, next);
                self.reconciler
                    .on_told(now, &mut self.core, from, id, told, outputs);
            }
            Message::DigestAsk {
                id,
                partition,
                nodes,
            } => {
                let query = Query::Digest { partition, nodes };
                answer::on_digest_ask(&mut self.core, from, id, query, outputs);
            }
            Message::LeafAsk { id, partition, run } => {
                let query = Query::Leaf {
                    partition,
                    run,
                    rows_max: LEAF_ROWS_MAX,
                };
                answer::on_digest_ask(&mut self.core, from, id, query, outputs);
            }
            Message::SumsAsk {
                id,
                partition,
                run,
                cuts,
            } => {
                let summing = Summing::new((from, id), partition, run, cuts);
                summing.begin(&mut self.core, outputs);
            }
            Message::GravesAsk {
                id,
                partition,
                after,
            } => {
                let query = Query::Graves {
                    partition,
                    after,
                    rows_max: LEAF_ROWS_MAX,
                };
                answer::on_digest_ask(&mut self.core, from, id, query, outputs);
            }
            Message::DigestTell {
                id,
                position,
                hashes,
            } => {
                let told = Told::Digest(position, hashes);
                self.reconciler
                    .on_told(now, &mut self.core, from, id, told, outputs);
            }
            Message::LeafTell {
                id,
                position,
                rows,
                next,
            } => {
                let told = Told::Leaf(position, rows, next);
                self.reconciler
                    .on_told(now, &mut self.core, from, id, told, outputs);
            }
            Message::SumsTell { id, sums, next } => {
                let told = Told::Sums(sums, next);
                self.reconciler
                    .on_told(now, &mut self.core, from, id, told, outputs);
            }
        }
    }

    fn on_heartbeat(
        &mut self,
        now: Now,
        from: NodeId,
        beat: &Heartbeat,
        outputs: &mut Vec<Output>,
    ) {
        let heard = self.core.peers.on_heartbeat(
            now.time,
            from,
            beat.incarnation,
            beat.sequence,
            beat.heard,
        );
        let Some(heard) = heard else { return };
        if let Some(peer) = self.core.peers.get_mut(from) {
            let micros = |wall: u64| i64::try_from(wall).unwrap_or(i64::MAX);
            peer.ahead = micros(beat.micros).saturating_sub(micros(now.wall.0));
            peer.disk_micros = beat.disk_micros;
        }
        self.has_moved = true;
        if heard.is_reborn {
            self.sender.on_peer_lost(from);
            self.heartbeats.restart(now, &mut self.core, from);
        }
        let told = if beat.is_full {
            other::Told::All
        } else {
            other::Told::Changes
        };
        let touched = heartbeat::on_known(&mut self.core, from, &beat.known, told, outputs);
        for partition in touched {
            self.writes.settle_all(&mut self.core, partition, outputs);
        }
        self.sender.on_all_wants(now, &self.core, from, &beat.wants);
        self.receiver
            .on_marks(now, &mut self.core, from, &beat.marks, outputs);
        if heard.is_newly_up {
            report(outputs, Report::PeerUp(from));
            self.receiver.choose(now, &self.core, outputs);
            self.reads.on_peer_up(&self.core, outputs);
            self.selects.on_peer_up(&self.core, outputs);
        }
        if heard.is_newly_up || heard.is_reborn {
            upkeep::serve(&mut self.core, outputs);
        }
    }

    fn on_ack(&mut self, from: NodeId, ack: &Ack, outputs: &mut Vec<Output>) {
        if let Some(replica) = self.core.replicas.get_mut(&ack.partition) {
            for (node, incarnation, complete) in &ack.reached {
                replica.on_reached((*node, *incarnation), ack.actor, *complete);
            }
        }
        self.sender.on_ack(from, ack);
        // What is stable may have risen: streams to other regions go on.
        self.sender.touch(ack.partition, ack.actor);
        if ack.actor == self.core.actor {
            self.writes.on_ack(&mut self.core, from, ack, outputs);
        } else if self.core.is_here(from) {
            self.receiver
                .on_neighbour_ack(&self.core, (ack.partition, ack.actor));
        }
    }

    /// What it sees, for status and metrics.
    pub fn view(&self, now: Now) -> View {
        let mut queues = vec![
            ("requests", self.requests()),
            ("gates", self.gates.len()),
            ("awaited", self.waits.questions()),
            ("tickets", self.core.tickets.len()),
            ("streams", self.sender.len()),
            ("in_flight_bytes", self.sender.in_flight_bytes()),
            ("recent_bytes", self.sender.recent.bytes()),
            ("sources", self.receiver.len()),
            ("reconcile_sessions", self.reconciler.len()),
        ];
        queues.sort_unstable();
        let counters = self
            .core
            .counters
            .iter()
            .map(|(counter, n)| (counter.name(), *n))
            .collect();
        view::view(
            now,
            &self.core,
            &self.reconciler,
            self.requests(),
            counters,
            queues,
        )
    }
}
