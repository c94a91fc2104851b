//! Clients: each is bound to a region, has one operation in flight, and writes down what it asked and saw.
//!
//! A client that hears nothing by its deadline calls a write UNKNOWN and goes on.

use std::collections::VecDeque;

use fastrand::Rng;

use crate::model::{
    Behind, Gate, KeyspaceId, Level, RegionId, Row, RowKey, Session, Version, Wall, Wanted,
};
use crate::protocol::{Input, Operation, Outcome, Request, RequestId};

use super::actions;
use super::choices::name_of;
use super::clock::EPOCH_MICROS;
use super::cluster::NodeIndex;
use super::history::{Action, Ending, Record, Wishes};
use super::world::{Event, World};

/// A node may answer so much later than the deadline, in microseconds.
const LATE_MAX: u64 = 1_000_000;
/// The streams of chance of clients.
const CLIENT_STREAM: u64 = 0x5eed_0004;
/// A client of a live node waits so long after its deadline.
const PATIENCE: u64 = 1_200_000;

/// What a client does in the end, when faults are over.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Task {
    /// Read a key.
    Read(Action, RowKey),
    /// List the rows of a keyspace, from a partition and a row on.
    List(KeyspaceId, u16, Option<RowKey>),
}

/// An operation under way.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Pending {
    op: u64,
    /// The node and its life, once the request has reached it and unless it was paused since.
    asked: Option<(NodeIndex, u32)>,
    deadline: u64,
    listing: Option<KeyspaceId>,
}

/// A client.
#[derive(Debug)]
pub(crate) struct Client {
    /// Its own chance: what it does hangs on no other client.
    rng: Rng,
    /// Its region.
    pub(crate) region: RegionId,
    /// What it has seen, if it goes from region to region and takes this along.
    pub(crate) session: Option<Session>,
    /// What it does next: an increment that it tries again.
    pub(crate) retry: Option<(Action, RowKey)>,
    /// The region's nodes.
    nodes: Vec<NodeIndex>,
    /// The rows that it may use.
    pub(crate) keys: Vec<RowKey>,
    /// Whether it goes on with random operations.
    pub(crate) is_active: bool,
    /// What it does in the end.
    pub(crate) tasks: VecDeque<Task>,
    pending: Option<Pending>,
    /// What it listed: keyspace, key, row.
    pub(crate) listed: Vec<(RowKey, Row)>,
    /// Tasks that did not end well.
    pub(crate) failed_tasks: Vec<String>,
}

impl Client {
    /// Whether it waits for nothing and wants nothing.
    pub(crate) fn is_idle(&self) -> bool {
        self.pending.is_none() && self.tasks.is_empty()
    }
}

impl World {
    /// Brings in clients that go from region to region.
    pub(crate) fn add_roamers(&mut self, count: usize) {
        let keys = self.cluster.keys_everywhere();
        let Some(first) = self.cluster.topology.regions.first() else {
            return;
        };
        let region = first.id;
        for _ in 0..count {
            let client = self.clients.len();
            self.clients.push(Client {
                rng: self.rng_of(client),
                region,
                session: Some(Session::default()),
                retry: None,
                nodes: (0..self.nodes.len()).collect(),
                keys: keys.clone(),
                is_active: true,
                tasks: VecDeque::new(),
                pending: None,
                listed: Vec::new(),
                failed_tasks: Vec::new(),
            });
            self.ask_later(client);
        }
    }

    /// Brings in the clients of every region.
    pub(crate) fn add_clients(&mut self, is_active: bool, each: usize) {
        for region in self.cluster.topology.regions.clone() {
            let ids: Vec<_> = region.nodes.iter().map(|node| node.id).collect();
            let nodes: Vec<NodeIndex> = (0..self.nodes.len())
                .filter(|index| self.id_of(*index).is_some_and(|id| ids.contains(&id)))
                .collect();
            for _ in 0..each {
                let client = self.clients.len();
                self.clients.push(Client {
                    rng: self.rng_of(client),
                    region: region.id,
                    session: None,
                    retry: None,
                    nodes: nodes.clone(),
                    keys: self.cluster.keys_in(region.id),
                    is_active,
                    tasks: VecDeque::new(),
                    pending: None,
                    listed: Vec::new(),
                    failed_tasks: Vec::new(),
                });
                self.ask_later(client);
            }
        }
    }

    /// Lets a client ask after a pause.
    pub(crate) fn ask_later(&mut self, client: usize) {
        let think = 2 * self.cluster.profile.think;
        let Some(asker) = self.clients.get_mut(client) else {
            return;
        };
        let pause = asker.rng.u64(0..=think);
        self.schedule(self.now + pause, Event::Ask { client });
    }

    fn rng_of(&self, client: usize) -> Rng {
        let client = u64::try_from(client).unwrap_or(u64::MAX);
        Rng::with_seed(self.seed ^ CLIENT_STREAM ^ (client << 32))
    }

    /// Whether a value that is to live so long says nothing of it, because its keyspace does.
    fn is_default_ttl(&self, record: &Record, expires: u64) -> bool {
        let ttl = self.cluster.ttl_of(record.key.keyspace);
        ttl.is_some_and(|ttl| record.invoked + ttl == expires)
    }

    /// A client asks for something: all that it chooses comes from its own chance.
    pub(crate) fn on_ask(&mut self, index: usize) {
        let Some(client) = self.clients.get_mut(index) else {
            return;
        };
        if client.pending.is_some() {
            return;
        }
        std::mem::swap(&mut self.rng, &mut client.rng);
        self.choose(index);
        if let Some(client) = self.clients.get_mut(index) {
            std::mem::swap(&mut self.rng, &mut client.rng);
        }
    }

    fn choose(&mut self, index: usize) {
        let Some(client) = self.clients.get_mut(index) else {
            return;
        };
        let task = client.tasks.pop_front();
        let retry = client.retry.take();
        let is_active = client.is_active;
        let nodes = client.nodes.clone();
        // In the end nobody asks the dead.
        let nodes = nodes.into_iter().filter(|node| !self.is_dead(*node));
        let nodes: Vec<NodeIndex> = nodes.collect();
        let Some(node) = self.rng.choice(nodes) else {
            return;
        };
        match task {
            Some(Task::Read(action, key)) => {
                let level = Level::LocalQuorum;
                self.ask(index, node, (action, level, key), Wishes::default());
            }
            Some(Task::List(keyspace, from, after)) => {
                self.ask_list(index, node, (keyspace, from, after));
            }
            None if is_active && !self.idle_clients.contains(&index) => {
                let Some((action, key)) = retry.or_else(|| self.random_action(index)) else {
                    return;
                };
                if self.without.iter().any(|name| *name == name_of(&action)) {
                    let at = self.now + self.rng.u64(0..=2 * self.cluster.profile.think);
                    return self.schedule(at, Event::Ask { client: index });
                }
                let level = self.random_level();
                let wishes = self.random_wishes(index, &action, &key);
                self.ask(index, node, (action, level, key), wishes);
            }
            None => {}
        }
    }

    fn random_level(&mut self) -> Level {
        match self.rng.u8(0..100) {
            0..10 => Level::One,
            10..82 => Level::LocalQuorum,
            82..94 => Level::EachQuorum,
            _ => Level::All,
        }
    }

    fn ask(
        &mut self,
        client: usize,
        node: NodeIndex,
        what: (Action, Level, RowKey),
        wishes: Wishes,
    ) {
        let (action, level, key) = what;
        let (Some(region), Some(id)) = (self.cluster.region_of(node), self.id_of(node)) else {
            return;
        };
        let record = Record {
            id: 0,
            client,
            region: region.id,
            node: id,
            level,
            key,
            action,
            wishes,
            invoked: self.now,
            ended: None,
            ending: Ending::Pending,
        };
        let bytes = self.rng.usize(0..=self.cluster.profile.value_bytes_max);
        let seen = self.history.context_of(&record.action);
        let expires = record
            .wishes
            .expires
            .filter(|at| !self.is_default_ttl(&record, *at))
            .map(|at| Wall(EPOCH_MICROS.saturating_add(at)));
        let request = Request {
            operation: actions::operation(&record, bytes, seen, expires),
            level: Some(level),
            gate: self.gate_of(&record.wishes),
        };
        self.trace
            .note(self.now, [12, client as u64, node as u64], || {
                format!("c{client} asks n{node}: {request:?}")
            });
        let op = self.history.invoke(record);
        self.send_request((client, op), node, request, None);
    }

    fn gate_of(&mut self, wishes: &Wishes) -> Gate {
        if wishes.session.is_none() && wishes.fresh_as_of.is_none() {
            return Gate::default();
        }
        Gate {
            session: wishes.session.clone().unwrap_or_default(),
            fresh_as_of: wishes.fresh_as_of.map(Wall),
            behind: if self.rng.bool() {
                Behind::Forward
            } else {
                Behind::Refuse
            },
            wait_micros: self.rng.u64(0..=600_000),
        }
    }

    fn ask_list(
        &mut self,
        client: usize,
        node: NodeIndex,
        (keyspace, index, after): (KeyspaceId, u16, Option<RowKey>),
    ) {
        let operation = Operation::List {
            keyspace,
            wanted: Wanted::Values,
            index,
            after,
            rows_max: self.rng.u32(1..=5),
            bytes_max: self.rng.u32(1..=1_000),
        };
        // Listings are not in the history: they are numbered from the top.
        self.nemesis.listings += 1;
        let op = u64::MAX - self.nemesis.listings;
        self.trace
            .note(self.now, [13, client as u64, node as u64], || {
                format!("c{client} asks n{node}: {operation:?}")
            });
        let request = Request {
            level: Some(Level::LocalQuorum),
            ..operation.into()
        };
        self.send_request((client, op), node, request, Some(keyspace));
    }

    fn send_request(
        &mut self,
        (client, op): (usize, u64),
        node: NodeIndex,
        request: Request,
        listing: Option<KeyspaceId>,
    ) {
        let deadline = self.now + self.rng.u64(200_000..=2_000_000);
        if let Some(client) = self.clients.get_mut(client) {
            client.pending = Some(Pending {
                op,
                asked: None,
                deadline,
                listing,
            });
        }
        let arrives = self.now + self.rng.u64(100..=1_000);
        let request = Event::Request {
            client,
            op,
            node,
            request: Box::new(request),
            deadline,
        };
        self.schedule(arrives, request);
        self.schedule(deadline, Event::GiveUp { client, op });
    }

    fn pending(&mut self, client: usize, op: u64) -> Option<&mut Pending> {
        let pending = self.clients.get_mut(client)?.pending.as_mut()?;
        (pending.op == op).then_some(pending)
    }

    /// A request reaches its node, or what was its node.
    pub(crate) fn on_request(
        &mut self,
        (client, op): (usize, u64),
        index: NodeIndex,
        request: Request,
        deadline: u64,
    ) {
        let Some(life) = self.life_of(index) else {
            return;
        };
        if let Some(pending) = self.pending(client, op) {
            pending.asked = Some((index, life));
        }
        let Some(node) = self.nodes.get_mut(index) else {
            return;
        };
        let Some(running) = node.running.as_mut() else {
            return;
        };
        let id = RequestId(running.next_request);
        running.next_request += 1;
        running.requests.insert(id, (client, op));
        let deadline = crate::model::Time(deadline + running.time_offset);
        let request = Input::Request {
            id,
            request,
            deadline,
        };
        self.step(index, request);
    }

    /// A node answers.
    pub(crate) fn on_reply(
        &mut self,
        index: NodeIndex,
        (client, op): (usize, u64),
        outcome: Outcome,
    ) {
        #[cfg(test)]
        if client == super::scenario::SCRIPT {
            self.script.answers.insert(op, outcome);
            return;
        }
        let Some(pending) = self.pending(client, op).cloned() else {
            return;
        };
        if let Some(client) = self.clients.get_mut(client) {
            client.pending = None;
        }
        self.trace.note(self.now, [14, client as u64, op], || {
            format!("c{client} hears: {outcome:?}")
        });
        match pending.listing {
            Some(keyspace) => self.on_listed(client, keyspace, outcome),
            None => self.on_ended(index, (client, op), &outcome),
        }
        self.ask_later(client);
    }

    fn on_ended(&mut self, index: NodeIndex, (client, op): (usize, u64), outcome: &Outcome) {
        // The door to clients is at the node, and looks at its clock.
        let wall = self
            .nodes
            .get(index)
            .map(|node| node.clock.wall(self.now))
            .unwrap_or_default();
        let Some(record) = self.history.get(op) else {
            return;
        };
        let Some(ending) = actions::ending(record, outcome, wall) else {
            let words = format!("{record} is answered by {outcome:?}");
            return self.fail("answers", words);
        };
        let here = record.region;
        if let Outcome::Written(written) = outcome {
            if written.is_crossed {
                self.history.cross(op);
            }
            if self.cluster.placement.region_of(written.node) == Some(here) {
                self.history.note_done_here(op);
            }
        }
        self.observe(client, outcome);
        self.history.end(self.now, op, ending);
        self.try_again(client, op);
    }

    /// What a client has seen grows by an answer.
    fn observe(&mut self, client: usize, outcome: &Outcome) {
        let placement = self.cluster.placement.clone();
        let client = self.clients.get_mut(client);
        let Some(session) = client.and_then(|client| client.session.as_mut()) else {
            return;
        };
        let mut saw = |version: &Version| {
            let node = version.dot.actor.node;
            if let Some(region) = placement.region_of(node) {
                session.observe(region, node, version.timestamp);
            }
            if let Some(after) = &version.after {
                session.join(after);
            }
        };
        let mut saw_row = |row: &Row| match row {
            Row::Register(version) => saw(version),
            Row::Siblings(row) => row.versions().iter().for_each(&mut saw),
            Row::Share(_) | Row::Once(_) | Row::Clear(_) | Row::Expiry(_) | Row::Conflict(_) => {}
        };
        if let Outcome::Read(Some(row)) = outcome {
            saw_row(row);
        } else if let Outcome::Selected { rows, .. } = outcome {
            rows.iter().for_each(|(_, row)| saw_row(row));
        } else if let Outcome::Written(written) = outcome
            && let Some(region) = placement.region_of(written.node)
        {
            session.observe(region, written.node, written.timestamp);
        }
    }

    fn on_listed(&mut self, client: usize, keyspace: KeyspaceId, outcome: Outcome) {
        let Some(client) = self.clients.get_mut(client) else {
            return;
        };
        if let Outcome::Page { rows, next } = outcome {
            client.listed.extend(rows);
            if let Some((index, after)) = next {
                client.tasks.push_front(Task::List(keyspace, index, after));
            }
        } else {
            client.failed_tasks.push(format!("listing: {outcome:?}"));
        }
    }

    /// A client stops waiting.
    pub(crate) fn on_give_up(&mut self, index: usize, op: u64) {
        let Some(pending) = self.pending(index, op).cloned() else {
            return;
        };
        let is_live = pending
            .asked
            .is_some_and(|(node, life)| self.life_of(node) == Some(life));
        if is_live && self.now < pending.deadline + PATIENCE {
            let at = pending.deadline + PATIENCE;
            return self.schedule(at, Event::GiveUp { client: index, op });
        }
        if let Some((node, _)) = pending.asked
            && is_live
            && !self.was_paused_since(node, pending.deadline.saturating_sub(LATE_MAX))
        {
            let words = format!("n{node} never answered operation {op} of client {index}");
            return self.fail("answers", words);
        }
        if let Some(client) = self.clients.get_mut(index) {
            client.pending = None;
            if pending.listing.is_some() {
                client
                    .failed_tasks
                    .push("a listing was never answered".to_owned());
            }
        }
        self.trace.note(self.now, [15, index as u64, op], || {
            format!("c{index} gives up on operation {op}")
        });
        self.history.end(self.now, op, Ending::Unknown);
        self.try_again(index, op);
        self.ask_later(index);
    }

    fn was_paused_since(&self, node: NodeIndex, since: u64) -> bool {
        let node = self.nodes.get(node);
        node.is_some_and(|node| since < node.paused_until || since < node.slow_until)
    }

    /// A node's time stands still: it will answer late what it was asked.
    pub(crate) fn excuse(&mut self, index: NodeIndex) {
        for client in &mut self.clients {
            if let Some(pending) = client.pending.as_mut()
                && pending.asked.is_some_and(|(node, _)| node == index)
            {
                pending.asked = None;
            }
        }
    }
}
