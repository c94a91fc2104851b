//! What the fuzzer runs of a whole node: machine and store in memory, and peers that may say anything. It takes any bytes,
//! and panics only if something is wrong: if the node does, if its store refuses a change, or if its digest is no
//! longer that of its rows.

use std::fmt::Write as _;
use std::sync::Arc;

use crate::coding;
use crate::model::{Change, NodeId, Ticket, Time, Wall};
use crate::placement::{Placement, Topology};
use crate::protocol::{Config, Input, Machine, Message, Now, Output, Request, RequestId};
use crate::storage::{Door, Memory, MemoryDisk, OpenOptions, SWEEP_ROWS};

/// The wall clock when it starts, in microseconds.
const START: u64 = 1_700_000_000_000_000;
const VERSION: u8 = 1;
/// Things that happen in one run.
const EVENTS_MAX: usize = 400;
const MICROS_STEP: u64 = 10_000;

/// What happens next.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
enum Event {
    /// So many hundredths of a second pass.
    Pass(u8),
    /// A peer connects, by its place among them.
    Connect(u8),
    /// A connection is lost.
    Lose(u8),
    /// A peer speaks.
    Hear(u8, Box<Message>),
    /// A client asks.
    Ask(Box<Request>),
}

/// One region of two nodes and one of one.
fn topology() -> Option<Topology> {
    let mut text = "cluster = \"test\"\npartitions = 2\n".to_owned();
    for (region, count) in [("a", 2), ("b", 2)] {
        writeln!(text, "[[region]]\nname = \"{region}\"").ok()?;
        for n in 0..count {
            let port = 1000 + 2 * n + if region == "a" { 0 } else { 100 };
            writeln!(
                text,
                "[[region.node]]\nid = \"{region}{n}\"\nzone = \"z{n}\""
            )
            .ok()?;
            writeln!(
                text,
                "http = \"127.0.0.1:{port}\"\npeer = \"127.0.0.1:{}\"",
                port + 1
            )
            .ok()?;
        }
    }
    for (name, merge) in [("lww", "lww"), ("siblings", "siblings")] {
        writeln!(text, "[[keyspace]]\nname = \"{name}\"\nmerge = \"{merge}\"").ok()?;
        writeln!(text, "replication = 2\nconflicts_kept_s = 60").ok()?;
    }
    Topology::parse("test.toml", &text).ok()
}

/// A node without threads.
struct Life {
    machine: Machine,
    door: Door<Memory>,
    _disk: MemoryDisk,
    time: u64,
    wall: u64,
    peers: Vec<NodeId>,
    changes: Vec<(Ticket, Change)>,
    requests: u64,
    /// What it said, to whom, when somebody listens.
    said: Option<Vec<(NodeId, Message)>>,
}

impl Life {
    fn new(topology: &Topology, index: usize) -> Option<Self> {
        let placement = Arc::new(Placement::new(topology));
        let all: Vec<NodeId> = placement.nodes().keys().copied().collect();
        let node = *all.get(index)?;
        let disk = MemoryDisk::new();
        let options = OpenOptions {
            node,
            partitions: placement.partitions_of(node).to_vec(),
            partition_count: topology.partitions,
            limits: topology.limits.clone(),
            conflicts_kept: topology.conflicts_kept(),
            wall: Wall(START),
            chance: 1,
            sweep_rows: SWEEP_ROWS,
        };
        let (door, opened) = Door::open(disk.engine(), options).ok()?;
        let config = Config {
            node,
            actor: opened.actor,
            placement,
            limits: topology.limits.clone(),
        };
        let now = Now {
            time: Time(0),
            wall: Wall(START),
        };
        Some(Self {
            machine: Machine::new(now, config, opened.partitions),
            door,
            _disk: disk,
            time: 0,
            wall: START,
            peers: all.into_iter().filter(|peer| *peer != node).collect(),
            changes: Vec::new(),
            requests: 0,
            said: None,
        })
    }

    fn now(&self) -> Now {
        Now {
            time: Time(self.time),
            wall: Wall(self.wall + self.time),
        }
    }

    fn peer(&self, index: u8) -> Option<NodeId> {
        self.peers
            .get(usize::from(index) % self.peers.len().max(1))
            .copied()
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::Pass(steps) => {
                self.time += u64::from(steps) * MICROS_STEP;
                self.step(Input::Tick);
            }
            Event::Connect(peer) => {
                if let Some(peer) = self.peer(peer) {
                    self.step(Input::Connected { peer });
                }
            }
            Event::Lose(peer) => {
                if let Some(peer) = self.peer(peer) {
                    self.step(Input::Disconnected { peer });
                }
            }
            Event::Hear(from, message) => {
                if let Some(from) = self.peer(from) {
                    let message = *message;
                    self.step(Input::Message { from, message });
                }
            }
            Event::Ask(request) => {
                self.requests += 1;
                let input = Input::Request {
                    id: RequestId(self.requests),
                    request: *request,
                    deadline: Time(self.time + 1_000_000),
                };
                self.step(input);
            }
        }
        self.settle();
    }

    /// Does what the machine asks until it asks for nothing more.
    fn settle(&mut self) {
        for _ in 0..100 {
            if self.changes.is_empty() {
                break;
            }
            let (tickets, changes): (Vec<_>, Vec<_>) = self.changes.drain(..).unzip();
            let staged = self.door.stage(self.now().wall, &changes);
            assert!(staged.is_ok(), "the store refuses {changes:?}: {staged:?}");
            let effects = staged.unwrap_or_default();
            self.step(Input::Staged(
                tickets.iter().copied().zip(effects).collect(),
            ));
            let committed = self.door.commit();
            assert!(committed.is_ok(), "{committed:?}");
            self.step(Input::Durable(tickets));
            self.step(Input::Tick);
        }
    }

    fn step(&mut self, input: Input) {
        let now = self.now();
        let mut outputs = Vec::new();
        self.machine.step(now, input, &mut outputs);
        for output in outputs {
            match output {
                Output::Send { to, message, .. } => {
                    // Whatever it says, others can read.
                    let said = coding::encode(VERSION, &message).unwrap_or_default();
                    let heard = coding::decode::<Message>(VERSION, &said);
                    assert!(heard.as_ref() == Ok(&message), "{message:?}\n{heard:?}");
                    if let Some(said) = &mut self.said {
                        said.push((to, message));
                    }
                }
                Output::Change { ticket, change } => self.changes.push((ticket, change)),
                Output::Query { ticket, query } => {
                    let answer = self.door.reader().answer(&query);
                    self.step(Input::Answered { ticket, answer });
                }
                Output::Reply { .. } | Output::Report(_) => {}
            }
        }
    }
}

/// What happens to a node: events one after the other, each as it would be sent.
pub fn peers(bytes: &[u8]) {
    let Some(mut life) = topology().and_then(|topology| Life::new(&topology, 0)) else {
        return;
    };
    for peer in 0..3 {
        life.on_event(Event::Connect(peer));
    }
    let mut rest = bytes;
    for _ in 0..EVENTS_MAX {
        let Ok((event, after)) = coding::decode_next::<Event>(VERSION, rest) else {
            break;
        };
        rest = after;
        life.on_event(event);
    }
    life.on_event(Event::Pass(100));
    let wrong = life.door.reader().verify_digests();
    assert!(wrong.as_ref().is_ok_and(Vec::is_empty), "{wrong:?}");
}

#[cfg(test)]
mod attacks {
    use bytes::Bytes;

    use super::*;
    use crate::hostile::Hostile;
    use crate::model::{
        Collection, Context, KeyspaceId, OpId, Place, RowKey, Selection, Write, WriteOp,
    };
    use crate::protocol::Operation;

    fn write(keyspace: &str, key: &'static str, op: WriteOp) -> Request {
        let key = RowKey::plain(KeyspaceId::of(keyspace), Bytes::from(key));
        Operation::Write(Box::new(Write::new(key, op))).into()
    }

    /// Writes and reads of every kind.
    fn requests() -> Vec<Request> {
        let value = |text: &'static str| Bytes::from(text);
        let members = |add: &[&'static str], remove: &[&'static str]| WriteOp::Members {
            add: add.iter().copied().map(value).collect(),
            remove: remove.iter().copied().map(value).collect(),
        };
        let key = RowKey::plain(KeyspaceId::of("lww"), Bytes::from("a"));
        let mut ttl = write("lww", "d", WriteOp::Put(value("4")));
        if let Operation::Write(write) = &mut ttl.operation {
            write.expires = Some(Wall(START + 1_000_000));
        }
        vec![
            write("lww", "a", WriteOp::Put(value("1"))),
            write("lww", "b", WriteOp::Put(value("2"))),
            write("lww", "a", WriteOp::Delete),
            ttl,
            write(
                "siblings",
                "a",
                WriteOp::PutSibling {
                    value: value("3"),
                    seen: None,
                },
            ),
            write("siblings", "a", WriteOp::DeleteSiblings { seen: None }),
            write(
                "lww",
                "n",
                WriteOp::Add {
                    place: Place::Key,
                    delta: 5,
                    id: Some(OpId(7)),
                },
            ),
            write("lww", "n", WriteOp::Reset { place: Place::Key }),
            write("lww", "s", members(&["a", "b"], &[])),
            write("lww", "s", members(&[], &["a"])),
            write(
                "lww",
                "s",
                WriteOp::Clear {
                    collection: Collection::Set,
                    seen: Context::default(),
                },
            ),
            Operation::Get { key: key.clone() }.into(),
            Operation::Select {
                selection: Selection::Counter {
                    key: key.clone(),
                    place: Place::Key,
                },
            }
            .into(),
            Operation::Count {
                key,
                collection: Collection::Set,
            }
            .into(),
        ]
    }

    /// What each node of a cluster lives through while clients write: events, as they would be sent.
    fn lives() -> Vec<Vec<u8>> {
        let topology = topology().unwrap();
        let mut lives: Vec<Life> = (0..4)
            .map(|index| Life::new(&topology, index).unwrap())
            .collect();
        let mut nodes: Vec<NodeId> = Vec::new();
        for life in &lives {
            let mut others = Placement::new(&topology)
                .nodes()
                .keys()
                .copied()
                .collect::<Vec<_>>();
            others.retain(|node| !life.peers.contains(node));
            nodes.extend(others);
        }
        let mut scripts: Vec<Vec<Event>> = vec![Vec::new(); 4];
        let mut happen = |lives: &mut Vec<Life>, index: usize, event: Event| {
            scripts[index].push(event.clone());
            lives[index].said = Some(Vec::new());
            lives[index].on_event(event);
            lives[index].said.take().unwrap()
        };
        let mut inflight: Vec<(usize, NodeId, Message)> = Vec::new();
        for index in 0..4 {
            for peer in 0..3 {
                let said = happen(&mut lives, index, Event::Connect(peer));
                inflight.extend(said.into_iter().map(|(to, message)| (index, to, message)));
            }
        }
        let mut requests = requests().into_iter();
        for round in 0..120 {
            for (from, to, message) in std::mem::take(&mut inflight) {
                let index = nodes.iter().position(|node| *node == to).unwrap();
                let place = lives[index]
                    .peers
                    .iter()
                    .position(|peer| *peer == nodes[from])
                    .unwrap();
                let event = Event::Hear(u8::try_from(place).unwrap(), Box::new(message));
                let said = happen(&mut lives, index, event);
                inflight.extend(said.into_iter().map(|(to, message)| (index, to, message)));
            }
            for index in 0..4 {
                let said = happen(&mut lives, index, Event::Pass(3));
                inflight.extend(said.into_iter().map(|(to, message)| (index, to, message)));
            }
            if round % 5 == 4
                && let Some(request) = requests.next()
            {
                let index = round / 5 % 4;
                let said = happen(&mut lives, index, Event::Ask(Box::new(request)));
                inflight.extend(said.into_iter().map(|(to, message)| (index, to, message)));
            }
        }
        // In pieces: what comes late in a long life is seldom changed.
        let said = |events: &[Event]| {
            let coded = events
                .iter()
                .map(|event| coding::encode(VERSION, event).unwrap());
            coded.collect::<Vec<_>>().concat()
        };
        scripts
            .iter()
            .flat_map(|script| script.chunks(60).take(8).map(said))
            .collect()
    }

    #[test]
    fn a_node_lives_whatever_its_peers_say() {
        let seeds = lives();
        let whole: usize = seeds.iter().map(Vec::len).sum();
        assert!(whole > 1000, "{whole} bytes");
        Hostile {
            name: "peers",
            is_same: true,
            target: peers,
            seeds,
            memory: (64 << 20, 5000),
        }
        .run();
    }
}
