//! Two regions of one node each: machine and store in memory, stepped by hand. A message arrives at the next
//! turn; a turn takes a millisecond of their time.

use std::sync::Arc;

use bytes::Bytes;
use sterna::model::{
    Actor, Duration, Effect, KeyspaceId, NodeId, RowKey, Time, Wall, Write, WriteOp,
};
use sterna::placement::{Placement, Topology};
use sterna::protocol::{
    Config, Input, Machine, Message, Now, Operation, Outcome, Output, RequestId,
};
use sterna::storage::{Door, Memory, MemoryDisk, OpenOptions};

/// One partition, so that the numbers of one log count all writes.
const TOPOLOGY: &str = r#"
cluster = "bench"
partitions = 1
[[region]]
name = "a"
[[region.node]]
id = "a-1"
zone = "a"
http = "127.0.0.1:1"
peer = "127.0.0.1:2"
[[region]]
name = "b"
[[region.node]]
id = "b-1"
zone = "a"
http = "127.0.0.1:3"
peer = "127.0.0.1:4"
[[keyspace]]
name = "default"
merge = "lww"
replication = 1
"#;

/// More turns than anything takes.
const TURNS_MAX: u64 = 100_000;

struct Side {
    node: NodeId,
    actor: Actor,
    machine: Machine,
    door: Door<Memory>,
    outputs: Vec<Output>,
    /// How far it has the other's log.
    applied: u64,
}

impl Side {
    fn new(topology: &Topology, placement: &Arc<Placement>, node: NodeId, now: Now) -> Self {
        let options = OpenOptions {
            node,
            partitions: placement.partitions_of(node).to_vec(),
            partition_count: topology.partitions,
            limits: topology.limits.clone(),
            conflicts_kept: std::collections::BTreeMap::new(),
            wall: now.wall,
            chance: 5,
            sweep_rows: sterna::storage::SWEEP_ROWS,
        };
        let (door, opened) =
            Door::open(MemoryDisk::new().engine(), options).expect("an empty store opens");
        let config = Config {
            node,
            actor: opened.actor,
            placement: Arc::clone(placement),
            limits: topology.limits.clone(),
        };
        Self {
            node,
            actor: opened.actor,
            machine: Machine::new(now, config, opened.partitions),
            door,
            outputs: Vec::new(),
            applied: 0,
        }
    }

    fn step(&mut self, now: Now, input: Input) {
        self.machine.step(now, input, &mut self.outputs);
    }

    /// Does what the machine says until it says nothing more; gives what is to be sent.
    fn act(&mut self, now: Now) -> Vec<Message> {
        let mut sent = Vec::new();
        self.step(now, Input::Tick);
        while !self.outputs.is_empty() {
            let (mut tickets, mut changes) = (Vec::new(), Vec::new());
            for output in std::mem::take(&mut self.outputs) {
                match output {
                    Output::Send { message, .. } => sent.push(message),
                    Output::Change { ticket, change } => {
                        tickets.push(ticket);
                        changes.push(change);
                    }
                    Output::Query { ticket, query } => {
                        let answer = self.door.reader().answer(&query);
                        self.step(now, Input::Answered { ticket, answer });
                    }
                    Output::Reply { outcome, .. } => {
                        assert!(matches!(outcome, Outcome::Written(_)), "{outcome:?}");
                    }
                    Output::Report(_) => {}
                }
            }
            if !changes.is_empty() {
                let effects = self.door.stage(now.wall, &changes).expect("it is staged");
                self.note(&effects);
                let staged = tickets.iter().copied().zip(effects).collect();
                self.step(now, Input::Staged(staged));
                self.door.commit().expect("it is committed");
                self.step(now, Input::Durable(tickets));
            }
            self.step(now, Input::Tick);
        }
        sent
    }

    fn note(&mut self, effects: &[Effect]) {
        for effect in effects {
            if let Effect::Appended { actor, reach, .. } = effect
                && *actor != self.actor
            {
                self.applied = reach.applied;
            }
        }
    }
}

/// The two.
pub(crate) struct Pair {
    sides: [Side; 2],
    mail: [Vec<Message>; 2],
    now: Now,
    written: u64,
    turns: u64,
}

impl Pair {
    /// Both, connected and serving.
    pub(crate) fn new() -> Self {
        let topology = Topology::parse("bench.toml", TOPOLOGY).expect("it is right");
        let placement = Arc::new(Placement::new(&topology));
        let now = Now {
            time: Time(0),
            wall: Wall(1_700_000_000_000_000),
        };
        let side = |name| Side::new(&topology, &placement, NodeId::of(name), now);
        let mut pair = Self {
            sides: [side("a-1"), side("b-1")],
            mail: [Vec::new(), Vec::new()],
            now,
            written: 0,
            turns: 0,
        };
        let [a, b] = &mut pair.sides;
        a.step(now, Input::Connected { peer: b.node });
        b.step(now, Input::Connected { peer: a.node });
        pair.turn_until(|pair| {
            pair.sides.iter().all(|side| {
                let view = side.machine.view(pair.now);
                view.serving == view.partitions && view.peers.iter().all(|peer| peer.is_up)
            })
        });
        pair
    }

    /// Writes so many keys at one side and turns until the other has them.
    pub(crate) fn write(&mut self, count: u64, value: &Bytes) {
        let now = self.now;
        let [here, _] = &mut self.sides;
        for _ in 0..count {
            self.written += 1;
            let name = (self.written % 10_000).to_string();
            let operation = Operation::Write(Box::new(Write::new(
                RowKey::plain(KeyspaceId::of("default"), Bytes::from(name)),
                WriteOp::Put(value.clone()),
            )));
            let request = Input::Request {
                id: RequestId(self.written),
                request: operation.into(),
                deadline: now.time.after(Duration::from_secs(60)),
            };
            here.step(now, request);
        }
        let wanted = self.written;
        self.turn_until(|pair| {
            let [_, there] = &pair.sides;
            there.applied >= wanted
        });
    }

    fn turn_until(&mut self, is_so: impl Fn(&Self) -> bool) {
        let end = self.turns + TURNS_MAX;
        while !is_so(self) {
            self.turn();
            assert!(self.turns < end, "it never comes to be");
        }
    }

    fn turn(&mut self) {
        self.turns += 1;
        self.now.time.0 += 1000;
        self.now.wall.0 += 1000;
        let now = self.now;
        let [a, b] = &mut self.sides;
        let [to_a, to_b] = &mut self.mail;
        for message in to_a.drain(..) {
            let from = b.node;
            a.step(now, Input::Message { from, message });
        }
        for message in to_b.drain(..) {
            let from = a.node;
            b.step(now, Input::Message { from, message });
        }
        to_b.extend(a.act(now));
        to_a.extend(b.act(now));
    }
}
