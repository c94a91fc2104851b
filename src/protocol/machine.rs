//! The machine of one node: what goes in, what comes out, and who gets it.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::model::{
    Actor, Answer, Change, Duration, Effect, Level, Limits, NodeId, PartitionId, PartitionState,
    Query, Reach, RegionId, Row, RowKey, Ticket, Time, Wall, WriteOp,
};
use crate::placement::Placement;

use super::core::{Core, Origin, Purpose, reply, report, send};
use super::forward::{ForwardRequest, Forwards, Seen};
use super::heartbeat::{self, Heartbeats};
use super::list::{ListRequest, Lists};
use super::message::{
    Ack, Heartbeat, Lane, Message, Operation, Outcome, Refusal, Request, Unavailable,
};
use super::peers::Connection;
use super::read::{ReadRequest, Reads};
use super::receiver::Receiver;
use super::reconcile::{LEAF_ROWS_MAX, Reconciler, Told, is_reasonable, within};
use super::replica::{self, Replica};
use super::sender::Sender;
use super::timers::Timer;
use super::upkeep;
use super::view;
use super::write::{WriteRequest, Writes};

/// The longest that an operation of a peer may be held, whatever it asks for.
const FORWARD_MAX: Duration = Duration::from_mins(1);

/// Names one request of a client of this node.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct RequestId(pub u64);

/// The present, as the loop reads it once a step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Now {
    /// For deadlines.
    pub time: Time,
    /// For watermarks and lag.
    pub wall: Wall,
}

/// What a machine is made of.
#[derive(Clone, Debug)]
pub struct Config {
    /// This node.
    pub node: NodeId,
    /// This life of it.
    pub actor: Actor,
    /// Who holds what.
    pub placement: Arc<Placement>,
    /// The limits.
    pub limits: Limits,
}

/// What happened.
#[derive(Clone, Debug)]
pub enum Input {
    /// Nothing but time.
    Tick,
    /// A client asks.
    Request {
        /// Its name, for the reply.
        id: RequestId,
        /// What it wants.
        request: Request,
        /// Until when.
        deadline: Time,
    },
    /// A connection to a peer is up (again): what was in flight on an older one is lost.
    Connected {
        /// The peer.
        peer: NodeId,
    },
    /// The connection to a peer is gone.
    Disconnected {
        /// The peer.
        peer: NodeId,
    },
    /// A peer says something.
    Message {
        /// The peer, as its certificate names it.
        from: NodeId,
        /// What it says.
        message: Message,
    },
    /// Changes were decided by the door, in this order, but are not yet on disk.
    Staged(Vec<(Ticket, Effect)>),
    /// The changes of these tickets are on disk.
    Durable(Vec<Ticket>),
    /// A query was answered.
    Answered {
        /// Which.
        ticket: Ticket,
        /// The answer.
        answer: Answer,
    },
}

/// What to do.
#[derive(Clone, Debug)]
pub enum Output {
    /// Send a message; it may be dropped if the peer is not connected.
    Send {
        /// To whom.
        to: NodeId,
        /// On which stream.
        lane: Lane,
        /// What.
        message: Message,
    },
    /// Give a change to the door; changes are staged in the order given.
    Change {
        /// Its name.
        ticket: Ticket,
        /// The change.
        change: Change,
    },
    /// Ask the store.
    Query {
        /// Its name.
        ticket: Ticket,
        /// The question.
        query: Query,
    },
    /// Answer a client.
    Reply {
        /// Which request.
        id: RequestId,
        /// How it ended.
        outcome: Outcome,
    },
    /// Say something to the operator, once.
    Report(Report),
}

/// Something that an operator should know; logged once, by the loop.
#[derive(Clone, PartialEq, Debug)]
pub enum Report {
    /// A peer is heard in both directions.
    PeerUp(NodeId),
    /// A peer is not heard any more.
    PeerDown(NodeId),
    /// A peer's timestamps lie further ahead than `max_offset`: its changes wait.
    ClockAhead(NodeId),
    /// A partition has caught up with its region and serves.
    Serving(PartitionId),
    /// A log was trimmed past our position: the partition is reconciled with this peer.
    Reconciling(PartitionId, NodeId),
    /// Reconciliation raised the position; so many rows were exchanged.
    Reconciled {
        /// The partition.
        partition: PartitionId,
        /// With whom.
        peer: NodeId,
        /// Rows that differed and were merged.
        rows: u64,
    },
    /// Peers hold changes of this very incarnation that this disk does not know: the disk is an old copy.
    /// The loop must stop the process; the next start takes a new incarnation.
    Amnesia(PartitionId),
}

/// What a node knows of the way from another region (or peer) to itself and back, for status and metrics.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct View {
    /// This node's actor, in words.
    pub actor: String,
    /// Partitions here.
    pub partitions: usize,
    /// Of them, those that serve.
    pub serving: usize,
    /// Requests in flight.
    pub requests: usize,
    /// Per peer.
    pub peers: Vec<PeerView>,
    /// Per region that this node receives changes of, other than its own.
    pub regions: Vec<RegionView>,
    /// Counters since the start, by stable name (`reads_repaired_total`, …).
    pub counters: Vec<(&'static str, u64)>,
    /// Entries in flight or queued, by stable name; each has a limit.
    pub queues: Vec<(&'static str, usize)>,
}

/// A peer, as this node sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PeerView {
    /// The peer.
    pub node: NodeId,
    /// Whether it is heard in both directions.
    pub is_up: bool,
    /// Changes in this node's own log, stable here, that the peer has not got, over all partitions it holds.
    pub backlog: u64,
}

/// Another region, as this node sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RegionView {
    /// The region.
    pub region: RegionId,
    /// Age of the oldest watermark of that region's live actors satisfied here, in milliseconds: the lag.
    pub lag_ms: Option<u64>,
    /// Changes of this node's own log, stable here, that no quorum of that region is known to have.
    pub backlog: u64,
    /// Rows found different and not in flight in the last round of reconciliation with that region.
    pub divergence: u64,
}

/// An operation, and how it was asked for.
#[derive(Clone, Debug)]
struct Asked {
    origin: Origin,
    request: Request,
    deadline: Time,
}

/// The machine.
#[derive(Debug)]
pub struct Machine {
    core: Core,
    writes: Writes,
    reads: Reads,
    lists: Lists,
    forwards: Forwards,
    seen: Seen,
    sender: Sender,
    receiver: Receiver,
    heartbeats: Heartbeats,
    reconciler: Reconciler,
    /// Effects of changes that are staged and not yet on disk.
    staged: BTreeMap<Ticket, Effect>,
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
            lists: Lists::default(),
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
                    self.on_staged(now, ticket, effect, outputs);
                }
            }
            Input::Durable(tickets) => {
                for ticket in tickets {
                    self.on_durable(now, ticket, outputs);
                }
            }
            Input::Answered { ticket, answer } => self.on_answered(now, ticket, answer, outputs),
        }
    }

    /// When to step with [`Input::Tick`] at the latest.
    pub fn next_deadline(&self) -> Time {
        if self.sender.is_dirty() || self.receiver.is_dirty() {
            return Time(0);
        }
        self.core.timers.next().unwrap_or(Time(u64::MAX))
    }

    fn on_tick(&mut self, now: Now, outputs: &mut Vec<Output>) {
        while let Some(timer) = self.core.timers.pop_due(now.time) {
            self.on_timer(now, timer, outputs);
        }
        self.receiver.flush(outputs);
        self.sender.flush(now, &mut self.core, outputs);
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
                self.receiver.choose(now, &self.core, outputs);
                upkeep::serve(&mut self.core, outputs);
            }
            Timer::Upkeep => {
                self.core
                    .timers
                    .set(now.time.after(self.core.limits.upkeep_every), Timer::Upkeep);
                upkeep::trim(&mut self.core, outputs);
            }
            Timer::Reconcile => self.reconciler.on_timer(now, &mut self.core, outputs),
            Timer::Stream(id) => self.sender.on_linger(id),
            Timer::Write(id) => self.writes.on_deadline(&mut self.core, id, outputs),
            Timer::Read(id) => self.reads.on_deadline(&mut self.core, id, outputs),
            Timer::Hedge(id) => self.reads.on_hedge(&self.core, id, outputs),
            Timer::Forward(id) => self.forwards.on_deadline(id, outputs),
        }
    }

    fn on_peer_lost(&mut self, now: Now, peer: NodeId, was_up: bool, outputs: &mut Vec<Output>) {
        self.sender.on_peer_lost(peer);
        self.reconciler.on_peer_lost(peer);
        self.forwards.on_peer_lost(&mut self.core, peer, outputs);
        if was_up {
            report(outputs, Report::PeerDown(peer));
            self.receiver.choose(now, &self.core, outputs);
        }
    }

    fn requests(&self) -> usize {
        self.writes.len() + self.reads.len() + self.lists.len() + self.forwards.len()
    }

    /// An operation of a client, or of a peer that passed it on: refusals first.
    fn on_operation(&mut self, now: Now, asked: Asked, outputs: &mut Vec<Output>) {
        let Asked {
            origin,
            request,
            deadline,
        } = asked;
        let Request {
            operation,
            level,
            gate,
        } = request;
        let requests = self.requests();
        let core = &mut self.core;
        let Some(partition) = partition_of(core, &operation) else {
            return reply(outputs, origin, Outcome::Refused(Refusal::Selection));
        };
        let keyspace = partition.keyspace;
        let Some(space) = core.placement.keyspace(keyspace) else {
            return reply(outputs, origin, Outcome::Refused(Refusal::NoKeyspace));
        };
        let level = level.unwrap_or(space.consistency);
        if !space.regions.contains(&core.region) {
            return reply(
                outputs,
                origin,
                Outcome::Refused(Refusal::KeyspaceElsewhere),
            );
        }
        if let Some(refusal) = refusal(&core.limits, &operation, level) {
            return reply(outputs, origin, Outcome::Refused(refusal));
        }
        if requests >= core.limits.requests_max {
            return reply(
                outputs,
                origin,
                Outcome::Unavailable(Unavailable::Overloaded),
            );
        }
        if core
            .replicas
            .get(&partition)
            .is_none_or(|replica| !replica.is_serving)
        {
            match origin {
                Origin::Client(_) => {
                    let request = ForwardRequest {
                        origin,
                        partition,
                        operation,
                        level,
                        gate,
                        deadline,
                    };
                    self.forwards.start(now, core, request, outputs);
                }
                Origin::Peer(..) => {
                    reply(outputs, origin, Outcome::Unavailable(Unavailable::Replicas));
                }
            }
            return;
        }
        match operation {
            Operation::Get { key } => {
                let request = ReadRequest {
                    origin,
                    key,
                    level,
                    deadline,
                };
                self.reads.start(now, core, partition, request, outputs);
            }
            Operation::Write(write) => {
                let request = WriteRequest {
                    origin,
                    write: *write,
                    level,
                    deadline,
                };
                self.writes.start(core, request, outputs);
            }
            Operation::Select { .. } | Operation::Count { .. } | Operation::Wait { .. } => {
                reply(outputs, origin, Outcome::Unavailable(Unavailable::Replicas));
            }
            Operation::List {
                keyspace,
                wanted,
                index,
                after,
                rows_max,
                bytes_max,
            } => {
                let rows_max = usize::try_from(rows_max).unwrap_or(usize::MAX);
                let bytes_max = usize::try_from(bytes_max).unwrap_or(usize::MAX);
                let request = ListRequest {
                    origin,
                    keyspace,
                    wanted,
                    index,
                    after,
                    rows_max,
                    bytes_max,
                };
                self.lists.start(core, request, outputs);
            }
        }
    }

    fn on_message(&mut self, now: Now, from: NodeId, message: Message, outputs: &mut Vec<Output>) {
        if self.core.peers.get(from).is_none() {
            return;
        }
        match message {
            Message::Heartbeat(heartbeat) => self.on_heartbeat(now, from, &heartbeat, outputs),
            Message::Wants(wants) => {
                for want in wants {
                    self.sender.on_want(&self.core, from, want);
                }
            }
            Message::Append(append) => {
                self.receiver
                    .on_append(now, &mut self.core, from, append, outputs);
            }
            Message::Acks(acks) => {
                for ack in acks {
                    self.on_ack(from, &ack, outputs);
                }
            }
            Message::Trimmed { partition, actor } => {
                self.reconciler
                    .on_trimmed(now, &mut self.core, from, partition, actor, outputs);
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
                self.forwards
                    .on_outcome(now, &mut self.core, id, from, outcome, outputs);
            }
            Message::Read { id, keys, whole } => self.on_peer_read(from, id, keys, whole, outputs),
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
            }
            Message::Repair { id, rows } => self.on_peer_repair(from, id, rows, outputs),
            Message::Repaired { id, is_kept } => {
                if !self
                    .reconciler
                    .on_told(now, &mut self.core, from, id, Told::Repaired, outputs)
                {
                    self.reads
                        .on_repaired(&mut self.core, id, from, is_kept, outputs);
                }
            }
            Message::Select { id, .. } | Message::GravesAsk { id, .. } => {
                send(outputs, from, Lane::Request, Message::CannotRead { id });
            }
            Message::Selected { .. }
            | Message::GravesTell { .. }
            | Message::Await { .. }
            | Message::Awaited { .. } => {}
            Message::DigestAsk {
                id,
                partition,
                nodes,
            } => {
                let query = Query::Digest { partition, nodes };
                self.core
                    .query(outputs, Purpose::PeerDigest { peer: from, id }, query);
            }
            Message::LeafAsk {
                id,
                partition,
                first,
                last,
                after,
            } => {
                let query = Query::Leaf {
                    partition,
                    first,
                    last,
                    after,
                    rows_max: LEAF_ROWS_MAX,
                };
                self.core
                    .query(outputs, Purpose::PeerDigest { peer: from, id }, query);
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
                more,
            } => {
                let told = Told::Leaf(position, rows, more);
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
        if heard.is_reborn {
            self.sender.on_peer_lost(from);
            self.heartbeats.restart(now, &mut self.core, from);
        }
        let told = if beat.is_full {
            replica::Told::All
        } else {
            replica::Told::Changes
        };
        let (touched, forgotten) = heartbeat::on_known(&mut self.core, from, &beat.known, told);
        if let Some(partition) = forgotten {
            report(outputs, Report::Amnesia(partition));
        }
        for partition in touched {
            self.writes.settle_all(&mut self.core, partition, outputs);
        }
        self.sender.on_all_wants(&self.core, from, &beat.wants);
        self.receiver
            .on_marks(now, &mut self.core, from, &beat.marks, outputs);
        if heard.is_newly_up {
            report(outputs, Report::PeerUp(from));
            self.receiver.choose(now, &self.core, outputs);
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

    fn on_peer_read(
        &mut self,
        peer: NodeId,
        id: u64,
        keys: Vec<RowKey>,
        whole: bool,
        outputs: &mut Vec<Output>,
    ) {
        let lane = if keys.len() > 1 {
            Lane::Reconcile
        } else {
            Lane::Request
        };
        let is_serving = |key: &RowKey| {
            let replica = self.core.replicas.get(&self.core.partition(key));
            replica.is_some_and(|replica| replica.is_serving)
        };
        if !keys.iter().all(is_serving) || !is_reasonable(&keys) {
            send(outputs, peer, lane, Message::CannotRead { id });
            return;
        }
        self.core.query(
            outputs,
            Purpose::PeerRead {
                peer,
                id,
                whole,
                lane,
            },
            Query::Rows(keys),
        );
    }

    fn on_peer_repair(
        &mut self,
        peer: NodeId,
        id: u64,
        rows: Vec<(RowKey, Row)>,
        outputs: &mut Vec<Output>,
    ) {
        let lane = if rows.len() > 1 {
            Lane::Reconcile
        } else {
            Lane::Request
        };
        let last = rows.len().saturating_sub(1);
        for (at, (key, row)) in rows.into_iter().enumerate() {
            let purpose = Purpose::PeerRepair {
                peer,
                id,
                lane,
                is_last: at == last,
            };
            self.core
                .change(outputs, purpose, Change::Repair { key, row });
        }
    }

    fn on_staged(&mut self, now: Now, ticket: Ticket, effect: Effect, outputs: &mut Vec<Output>) {
        let core = &mut self.core;
        // Taken out and put back, for a piece of log is too much to copy.
        let purpose = core.tickets.remove(&ticket);
        match &purpose {
            Some(Purpose::Write(id)) => {
                self.writes
                    .on_staged(core, &mut self.sender, *id, &effect, outputs);
            }
            Some(Purpose::Append(arrival)) => {
                self.receiver
                    .on_staged(now, core, &mut self.sender, arrival, &effect, outputs);
            }
            Some(_) | None => {}
        }
        if let Some(purpose) = purpose {
            self.core.tickets.insert(ticket, purpose);
        }
        self.staged.insert(ticket, effect);
    }

    fn on_durable(&mut self, now: Now, ticket: Ticket, outputs: &mut Vec<Output>) {
        let Some(effect) = self.staged.remove(&ticket) else {
            return;
        };
        let Some(purpose) = self.core.tickets.remove(&ticket) else {
            return;
        };
        let core = &mut self.core;
        let is_kept = matches!(
            effect,
            Effect::Repaired {
                summary: Some(_),
                ..
            }
        );
        let is_applied = !matches!(effect, Effect::Early { .. } | Effect::Refused { .. });
        match purpose {
            Purpose::Write(_) => {
                if let Effect::Written { partition, items } = effect
                    && let Some(last) = items.last()
                {
                    if let Some(replica) = core.replicas.get_mut(&partition) {
                        replica.reach(now.wall, core.actor, Reach::upto(last.n));
                    }
                    self.sender.touch(partition, core.actor);
                    self.writes.on_durable(core, partition, last.n, outputs);
                }
            }
            Purpose::Append(arrival) => {
                self.receiver.on_durable(now, core, &arrival, effect);
                let append = &arrival.append;
                self.sender.touch(append.partition, append.actor);
            }
            Purpose::ReadRepair(id) if is_applied => {
                let me = core.me;
                self.reads.on_repaired(core, id, me, is_kept, outputs);
            }
            Purpose::PeerRepair {
                peer,
                id,
                lane,
                is_last,
            } if is_applied && is_last => {
                send(outputs, peer, lane, Message::Repaired { id, is_kept });
            }
            Purpose::Mend(partition) if is_applied => {
                self.reconciler.on_mended(now, core, partition, outputs);
            }
            Purpose::Mend(partition) => self.reconciler.abandon(partition),
            Purpose::Raise(partition, position) if is_applied => {
                if let Some(replica) = core.replicas.get_mut(&partition) {
                    replica.on_raised(now.wall, &position);
                }
                self.sender.touch_all(partition);
                self.receiver.on_raised(now, core, partition, outputs);
            }
            Purpose::Upkeep => {
                if let Effect::Trimmed {
                    partition,
                    actor,
                    to,
                } = effect
                    && let Some(replica) = core.replicas.get_mut(&partition)
                {
                    let trimmed = replica.trimmed.entry(actor).or_default();
                    *trimmed = (*trimmed).max(to);
                }
            }
            Purpose::Serve(partition) if is_applied => {
                if let Some(replica) = core.replicas.get_mut(&partition) {
                    replica.is_serving = true;
                }
                report(outputs, Report::Serving(partition));
            }
            Purpose::ReadRepair(_)
            | Purpose::Raise(..)
            | Purpose::Serve(_)
            | Purpose::PeerRepair { .. }
            | Purpose::Read(_)
            | Purpose::List(_)
            | Purpose::LogPage(_)
            | Purpose::PeerRead { .. }
            | Purpose::PeerDigest { .. }
            | Purpose::Reconcile(..) => {}
        }
    }

    fn on_answered(&mut self, now: Now, ticket: Ticket, answer: Answer, outputs: &mut Vec<Output>) {
        let Some(purpose) = self.core.tickets.remove(&ticket) else {
            return;
        };
        let core = &mut self.core;
        match purpose {
            Purpose::Read(id) => self.reads.on_own(core, id, answer, outputs),
            Purpose::List(id) => self.lists.on_rows(core, id, answer, outputs),
            Purpose::LogPage(id) => self.sender.on_page(now, core, id, answer, outputs),
            Purpose::PeerRead {
                peer,
                id,
                whole,
                lane,
            } => {
                let message = match answer {
                    Answer::Rows(rows) if whole => Message::Rows {
                        id,
                        rows: within(rows, core.limits.batch_bytes_max),
                    },
                    Answer::Rows(rows) => {
                        let summaries = rows
                            .iter()
                            .map(|row| row.as_ref().map(Row::summary))
                            .collect();
                        Message::Summaries { id, summaries }
                    }
                    Answer::Log(_)
                    | Answer::Digest { .. }
                    | Answer::Leaf { .. }
                    | Answer::Selected { .. }
                    | Answer::Count(_)
                    | Answer::Graves { .. }
                    | Answer::Scan { .. }
                    | Answer::Unreadable { .. } => Message::CannotRead { id },
                };
                send(outputs, peer, lane, message);
            }
            Purpose::PeerDigest { peer, id } => {
                let message = match answer {
                    Answer::Digest { position, hashes } => Message::DigestTell {
                        id,
                        position,
                        hashes,
                    },
                    Answer::Leaf {
                        position,
                        rows,
                        more,
                    } => Message::LeafTell {
                        id,
                        position,
                        rows,
                        more,
                    },
                    Answer::Rows(_)
                    | Answer::Log(_)
                    | Answer::Selected { .. }
                    | Answer::Count(_)
                    | Answer::Graves { .. }
                    | Answer::Scan { .. }
                    | Answer::Unreadable { .. } => Message::CannotRead { id },
                };
                send(outputs, peer, Lane::Reconcile, message);
            }
            Purpose::Reconcile(partition, half) => {
                self.reconciler
                    .on_half(now, core, partition, half, answer, outputs);
            }
            Purpose::Write(_)
            | Purpose::Append(..)
            | Purpose::ReadRepair(_)
            | Purpose::PeerRepair { .. }
            | Purpose::Mend(_)
            | Purpose::Raise(..)
            | Purpose::Upkeep
            | Purpose::Serve(_) => {}
        }
    }

    /// What it sees, for status and metrics.
    pub fn view(&self, now: Now) -> View {
        let mut queues = vec![
            ("requests", self.requests()),
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

/// Why an operation cannot be taken, if so.
fn refusal(limits: &Limits, operation: &Operation, level: Level) -> Option<Refusal> {
    let is_wrong = |key: &RowKey| key.key.is_empty() || key.key.len() > limits.key_bytes_max;
    match operation {
        Operation::Get { key } if is_wrong(key) => Some(Refusal::KeySize),
        Operation::Write(write) if is_wrong(&write.key) => Some(Refusal::KeySize),
        Operation::Get { .. } if level == Level::UnsafeOne => Some(Refusal::Level),
        Operation::Write(write) => match &write.op {
            WriteOp::Put(value) | WriteOp::PutSibling { value, .. }
                if value.len() > limits.value_bytes_max =>
            {
                Some(Refusal::ValueSize)
            }
            _ => None,
        },
        _ => None,
    }
}

/// The partition that an operation is about, or begins with.
fn partition_of(core: &Core, operation: &Operation) -> Option<PartitionId> {
    match operation {
        Operation::Get { key } | Operation::Count { key, .. } => Some(core.partition(key)),
        Operation::Write(write) => Some(core.partition(&write.key)),
        Operation::Select { selection } => Some(core.partition(selection.key()?)),
        Operation::List {
            keyspace, index, ..
        } => Some(PartitionId {
            keyspace: *keyspace,
            index: *index,
        }),
        Operation::Wait { .. } => None,
    }
}
