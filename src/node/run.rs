//! The loop: what happened goes into the machine, what it says is done. It decides nothing.
//!
//! What comes together is taken together: all that waits is fed to the machine before it is asked to send.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::model::Ticket;
use crate::model::{Change, Duration, NodeId, PartitionId, Query, Time};
use crate::net::NetEvent;
use crate::placement::Topology;
use crate::protocol::{
    Input, Machine, Operation, Outcome, Output, Report, RequestId, Room, Unavailable,
};
use crate::storage::{Store, StoreEvent};

use super::disk::room;
use super::handle::{Call, Shared};

/// Events taken before the machine is asked to send.
const ROUND_MAX: usize = 512;
/// Changes and queries that the store had no room for; beyond it nothing new is taken in.
const HELD_MAX: usize = 256;
/// Between two views for status and metrics.
const VIEW_EVERY: Duration = Duration::from_millis(200);
/// A stop waits so long for requests in flight.
const DRAIN_MAX: Duration = Duration::from_secs(5);

struct Waiting {
    reply: oneshot::Sender<Outcome>,
    begun: Time,
    is_write: bool,
}

/// The loop of one node.
pub(super) struct Loop {
    pub(super) machine: Machine,
    pub(super) store: Arc<Store>,
    pub(super) store_events: mpsc::Receiver<StoreEvent>,
    pub(super) net_events: mpsc::Receiver<NetEvent>,
    pub(super) calls: mpsc::Receiver<Call>,
    pub(super) shared: Arc<Shared>,
    pub(super) state: State,
}

/// What the loop itself holds.
#[derive(Default)]
pub(super) struct State {
    outputs: Vec<Output>,
    waiting: BTreeMap<RequestId, Waiting>,
    next_request: u64,
    changes: Vec<(Ticket, Change)>,
    queries: Vec<(Ticket, Query)>,
    viewed: Time,
    room: Room,
}

enum Event {
    Store(StoreEvent),
    Net(NetEvent),
    Call(Call),
    Due,
    Stop,
}

impl Loop {
    /// Turns until `stop`, then finishes what is in flight.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        loop {
            let event = self.next(&stop, true).await;
            if matches!(event, Event::Stop) {
                break;
            }
            self.turn(event);
        }
        self.drain(&stop).await;
    }

    /// Finishes the requests in flight, within a bound, and takes no new ones.
    async fn drain(&mut self, stop: &CancellationToken) {
        self.shared.is_stopping.store(true, Ordering::Relaxed);
        self.calls.close();
        self.step(Input::Stopping);
        // Whoever got in before the door closed is served: nobody else knows of it.
        while let Ok(call) = self.calls.try_recv() {
            self.on_call(call);
        }
        let until = self.shared.clock.time().after(DRAIN_MAX);
        let is_busy = |this: &Self| !this.state.waiting.is_empty() || !this.machine.is_idle();
        while is_busy(self) && self.shared.clock.time() < until {
            let event = self.next(stop, false).await;
            self.turn(event);
        }
        for (_, waiting) in std::mem::take(&mut self.state.waiting) {
            let outcome = Outcome::Unavailable(Unavailable::Stopping);
            // A write may be seen later: whoever waits learns from the dropped reply that nobody knows.
            if !waiting.is_write && waiting.reply.send(outcome).is_err() {
                tracing::debug!("a client left before its answer");
            }
        }
    }

    async fn next(&mut self, stop: &CancellationToken, is_open: bool) -> Event {
        let deadline = self
            .machine
            .next_deadline()
            .min(self.state.viewed.after(VIEW_EVERY));
        let deadline = self.shared.clock.instant(deadline);
        let has_room = self.state.changes.len() + self.state.queries.len() < HELD_MAX;
        tokio::select! {
            biased;
            () = stop.cancelled(), if is_open => Event::Stop,
            // A channel may be closed (a network without peers has nobody to speak of): then it is not looked at.
            Some(event) = self.store_events.recv() => Event::Store(event),
            Some(event) = self.net_events.recv(), if has_room => Event::Net(event),
            Some(call) = self.calls.recv(), if has_room && is_open => Event::Call(call),
            () = tokio::time::sleep_until(deadline) => Event::Due,
        }
    }

    /// Takes in an event and whatever else waits, ticks, and does what the machine says.
    fn turn(&mut self, event: Event) {
        self.take(event);
        for _ in 0..ROUND_MAX {
            let has_room = self.state.changes.len() + self.state.queries.len() < HELD_MAX;
            if let Ok(event) = self.store_events.try_recv() {
                self.take(Event::Store(event));
            } else if !has_room {
                break;
            } else if let Ok(event) = self.net_events.try_recv() {
                self.take(Event::Net(event));
            } else if let Ok(call) = self.calls.try_recv() {
                self.take(Event::Call(call));
            } else {
                break;
            }
        }
        self.step(Input::Tick);
        self.act();
        self.feed_store();
        self.publish();
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Store(StoreEvent::Staged(effects)) => self.step(Input::Staged(effects)),
            Event::Store(StoreEvent::Durable(tickets)) => self.step(Input::Durable(tickets)),
            Event::Store(StoreEvent::Answered { ticket, answer }) => {
                self.step(Input::Answered { ticket, answer });
            }
            Event::Net(NetEvent::Connected { peer }) => self.step(Input::Connected { peer }),
            Event::Net(NetEvent::Disconnected { peer }) => {
                self.step(Input::Disconnected { peer });
            }
            Event::Net(NetEvent::Messages {
                from,
                messages,
                receipt,
            }) => {
                for message in messages {
                    self.step(Input::Message { from, message });
                }
                drop(receipt);
            }
            Event::Call(call) => self.on_call(call),
            Event::Due | Event::Stop => {}
        }
    }

    fn on_call(&mut self, call: Call) {
        self.state.next_request += 1;
        let id = RequestId(self.state.next_request);
        let is_write = matches!(call.request.operation, Operation::Write(_));
        self.state.waiting.insert(
            id,
            Waiting {
                reply: call.reply,
                begun: call.begun,
                is_write,
            },
        );
        self.step(Input::Request {
            id,
            request: call.request,
            deadline: call.deadline,
        });
    }

    fn step(&mut self, input: Input) {
        let now = self.shared.clock.now();
        self.machine.step(now, input, &mut self.state.outputs);
    }

    fn act(&mut self) {
        for output in std::mem::take(&mut self.state.outputs) {
            match output {
                Output::Send { to, lane, message } => self.shared.network.send(to, lane, &message),
                Output::Change { ticket, change } => self.state.changes.push((ticket, change)),
                Output::Query { ticket, query } => self.state.queries.push((ticket, query)),
                Output::Reply { id, outcome } => self.reply(id, outcome),
                Output::Report(report) => {
                    tell(&self.shared.topology, self.shared.node, &report);
                }
            }
        }
    }

    fn reply(&mut self, id: RequestId, outcome: Outcome) {
        let Some(waiting) = self.state.waiting.remove(&id) else {
            return;
        };
        let took = self.shared.clock.time().since(waiting.begun);
        match &outcome {
            Outcome::Written(_) => self.shared.writes.record(took),
            Outcome::Read(_) | Outcome::Selected { .. } => self.shared.reads.record(took),
            Outcome::Page { .. }
            | Outcome::Counted(_)
            | Outcome::Reached
            | Outcome::NotYet
            | Outcome::Denied(_)
            | Outcome::Refused(_)
            | Outcome::Unavailable(_)
            | Outcome::Unknown(_) => {}
        }
        if waiting.reply.send(outcome).is_err() {
            tracing::trace!("a client left before its answer");
        }
    }

    /// Gives the store what it has room for, in order.
    fn feed_store(&mut self) {
        if !self.state.changes.is_empty() {
            let changes = std::mem::take(&mut self.state.changes);
            self.state.changes = self
                .store
                .submit(changes)
                .err()
                .map_or_else(Vec::new, |full| full.0);
        }
        if !self.state.queries.is_empty() {
            let queries = std::mem::take(&mut self.state.queries);
            self.state.queries = self
                .store
                .query(queries)
                .err()
                .map_or_else(Vec::new, |full| full.0);
        }
    }

    /// Tells the machine when the room on disk has become another.
    fn look_at_disk(&mut self) {
        let free = self.shared.disk_free.load(Ordering::Relaxed);
        let room = room(&self.shared.topology.limits, free);
        if room == self.state.room {
            return;
        }
        self.state.room = room;
        match room {
            Room::Enough => tracing::info!(free, "the disk has room again: writes are taken"),
            Room::Low => {
                tracing::warn!(free, "the disk is nearly full: clients' writes are refused");
            }
            Room::Full => tracing::error!(
                free,
                "the disk is nearly full: nothing is taken any more, from peers neither. Make room"
            ),
        }
        self.step(Input::Room(room));
    }

    fn publish(&mut self) {
        let now = self.shared.clock.now();
        if now.time.since(self.state.viewed) >= VIEW_EVERY {
            self.state.viewed = now.time;
            self.look_at_disk();
            let view = self.machine.view(now);
            self.shared.view.store(Arc::new(view));
            self.shared.store_stats.store(Arc::new(self.store.stats()));
        }
    }
}

/// Says a report in words, once.
fn tell(topology: &Topology, me: NodeId, report: &Report) {
    let name = |node: NodeId| {
        topology
            .node(node)
            .map_or_else(|| format!("{node:?}"), |node| node.name.clone())
    };
    let place = |partition: &PartitionId| {
        let keyspace = topology
            .keyspaces
            .iter()
            .find(|keyspace| keyspace.id == partition.keyspace);
        format!(
            "{}/{}",
            keyspace.map_or("?", |keyspace| keyspace.name.as_str()),
            partition.index
        )
    };
    let node = name(me);
    match report {
        Report::PeerUp(peer) => tracing::info!(node, peer = name(*peer), "peer is up"),
        Report::PeerDown(peer) => tracing::warn!(node, peer = name(*peer), "peer is down"),
        Report::ClockAhead(peer) => tracing::warn!(
            node,
            peer = name(*peer),
            "peer's timestamps are ahead of our clock by more than max_offset: its changes wait; set its clock"
        ),
        Report::Serving(partition) => {
            tracing::debug!(node, partition = place(partition), "partition serves");
        }
        Report::Reconciling(partition, peer) => {
            tracing::info!(
                node,
                partition = place(partition),
                peer = name(*peer),
                "no log brings any more what this replica lacks: fetch it by digest"
            );
        }
        Report::Reconciled {
            partition,
            peer,
            rows,
        } => {
            tracing::info!(
                node,
                partition = place(partition),
                peer = name(*peer),
                rows,
                "reconciled"
            );
        }
        Report::Fenced(partition) => {
            tracing::error!(
                node,
                partition = place(partition),
                "peers hold changes that this node made and its disk does not know: an old copy of the data folder \
                 was put in place, or the disk lost what it had synced. The partition serves when it has caught up"
            );
        }
        Report::Impossible(partition, peer) => {
            tracing::error!(
                node,
                partition = place(partition),
                peer = name(*peer),
                "peer claims changes of this node that it never made: its word is not taken in. Does another process \
                 run under this node's name?"
            );
        }
        Report::Slow(slow) => {
            tracing::warn!(
                node,
                slow = name(*slow),
                "node is slow: look at its disk, and at what else runs there"
            );
        }
        Report::Well(slow) => tracing::info!(node, slow = name(*slow), "node is not slow any more"),
    }
}
