//! A machine of a cluster of two regions with three nodes each, whose peers and store are played by a test.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use bytes::Bytes;

use crate::model::{
    Actor, Answer, Change, Duration, Effect, Incarnation, KeyspaceId, Limits, NodeId, PartitionId,
    PartitionState, Position, Query, Reach, RegionId, Row, RowKey, Selection, Stamp, Ticket, Time,
    Timestamp, Version, Wall,
};
use crate::placement::{Placement, Topology};
use crate::protocol::{
    Config, Heartbeat, Input, Known, Lane, Machine, Mark, Message, Now, Operation, Outcome, Output,
    Request, RequestId,
};

pub(super) const MILLISECOND: u64 = 1_000;
/// The wall clock when the bench's time begins.
pub(super) const START: u64 = 1_000_000_000;

pub(super) struct Bench {
    machine: Machine,
    pub(super) me: NodeId,
    pub(super) placement: Arc<Placement>,
    pub(super) time: u64,
    pub(super) outputs: Vec<Output>,
    sequences: BTreeMap<NodeId, u64>,
    /// What peers say they heard of us.
    heard: BTreeMap<NodeId, u64>,
    /// How long peers say that their disks take.
    pub(super) disk_micros: BTreeMap<NodeId, u64>,
    requests: u64,
}

fn topology() -> Topology {
    let mut text = "cluster = \"test\"\npartitions = 1\n".to_owned();
    for (region, port) in [("a", 1000), ("b", 2000)] {
        writeln!(text, "[[region]]\nname = \"{region}\"").unwrap();
        for node in 0..3 {
            writeln!(
                text,
                "[[region.node]]\nid = \"{region}{node}\"\nzone = \"z{node}\"\n\
                 http = \"127.0.0.1:{}\"\npeer = \"127.0.0.1:{}\"",
                port + node * 2,
                port + node * 2 + 1,
            )
            .unwrap();
        }
    }
    for (name, merge) in [("lww", "lww"), ("siblings", "siblings")] {
        writeln!(
            text,
            "[[keyspace]]\nname = \"{name}\"\nmerge = \"{merge}\"\nreplication = 3"
        )
        .unwrap();
    }
    Topology::parse("test.toml", &text).unwrap()
}

pub(super) fn region(name: &str) -> RegionId {
    RegionId::of(name)
}

pub(super) fn key(keyspace: &str) -> RowKey {
    RowKey::plain(KeyspaceId::of(keyspace), Bytes::from_static(b"k"))
}

pub(super) fn actor(node: NodeId) -> Actor {
    Actor {
        node,
        incarnation: Incarnation(1),
    }
}

pub(super) fn at(marks: &[(NodeId, u64)]) -> Position {
    let reach = |(node, n): &(NodeId, u64)| (actor(*node), Reach::upto(*n));
    marks.iter().map(reach).collect()
}

/// A version of a register, by the n-th change of a node.
pub(super) fn register(node: NodeId, n: u64, value: &'static [u8]) -> Row {
    Row::Register(version(node, n, value))
}

pub(super) fn version(node: NodeId, n: u64, value: &'static [u8]) -> Version {
    let stamp = Stamp {
        timestamp: Timestamp {
            micros: START + n,
            logical: 0,
        },
        dot: crate::model::Dot {
            actor: actor(node),
            n,
        },
    };
    Version::new(stamp, Some(Bytes::from_static(value)))
}

impl Bench {
    /// The machine of the replica of this rank in region `a`; all others are up and serve.
    pub(super) fn new(rank: usize) -> Self {
        let topology = topology();
        let placement = Arc::new(Placement::new(&topology));
        let partition = PartitionId {
            keyspace: KeyspaceId::of("lww"),
            index: 0,
        };
        let me = placement.replicas(partition, region("a"))[rank];
        let state = |partition: &PartitionId| PartitionState {
            partition: *partition,
            position: Position::default(),
            trimmed: BTreeMap::new(),
            is_serving: true,
            has_served: true,
            remembered: BTreeMap::new(),
        };
        let opened = placement.partitions_of(me).iter().map(state).collect();
        let config = Config {
            node: me,
            actor: actor(me),
            placement: Arc::clone(&placement),
            limits: Limits::default(),
        };
        let now = Now {
            time: Time(0),
            wall: Wall(START),
        };
        let mut bench = Self {
            machine: Machine::new(now, config, opened),
            me,
            placement,
            time: 0,
            outputs: Vec::new(),
            sequences: BTreeMap::new(),
            heard: BTreeMap::new(),
            disk_micros: BTreeMap::new(),
            requests: 0,
        };
        for peer in bench.peers() {
            bench.step(Input::Connected { peer });
        }
        bench.tick();
        for peer in bench.peers() {
            bench.beat(peer, &[], &[]);
        }
        bench.outputs.clear();
        bench
    }

    pub(super) fn partition(&self, keyspace: &str) -> PartitionId {
        key(keyspace).partition(self.placement.partition_count())
    }

    /// The replicas of a region, the first in line first.
    pub(super) fn line(&self, name: &str) -> Vec<NodeId> {
        self.placement
            .replicas(self.partition("lww"), region(name))
            .to_vec()
    }

    fn peers(&self) -> Vec<NodeId> {
        let nodes = self.placement.nodes().keys().copied();
        nodes.filter(|node| *node != self.me).collect()
    }

    pub(super) fn now(&self) -> Now {
        Now {
            time: Time(self.time),
            wall: Wall(START + self.time),
        }
    }

    pub(super) fn step(&mut self, input: Input) {
        let now = self.now();
        self.machine.step(now, input, &mut self.outputs);
        for output in &self.outputs {
            if let Output::Send {
                to,
                message: Message::Heartbeat(beat),
                ..
            } = output
            {
                self.heard.insert(*to, beat.sequence);
            }
        }
    }

    /// Whether nobody waits for anything here.
    pub(super) fn is_idle(&self) -> bool {
        self.machine.is_idle()
    }

    pub(super) fn tick(&mut self) {
        self.step(Input::Tick);
    }

    pub(super) fn pass(&mut self, micros: u64) {
        self.time += micros;
        self.tick();
    }

    pub(super) fn hear(&mut self, from: NodeId, message: Message) {
        self.step(Input::Message { from, message });
    }

    /// A full heartbeat of a peer: its position in all partitions, and marks of its own log: (n, micros).
    pub(super) fn beat(&mut self, from: NodeId, position: &[(NodeId, u64)], marks: &[(u64, u64)]) {
        self.beat_of((from, 1), true, position, marks);
    }

    /// The same of a life of a peer, in which its partitions serve or not.
    pub(super) fn beat_of(
        &mut self,
        (from, life): (NodeId, u64),
        is_serving: bool,
        position: &[(NodeId, u64)],
        marks: &[(u64, u64)],
    ) {
        let incarnation = Incarnation(life);
        let sequence = self.sequences.entry(from).or_default();
        *sequence += 1;
        let sequence = *sequence;
        let partitions = self.placement.partitions_of(from).to_vec();
        let known = |partition: &PartitionId| Known {
            node: from,
            incarnation,
            partition: *partition,
            position: at(position),
            is_serving,
        };
        let mark = |partition: &PartitionId| {
            let partition = *partition;
            marks.iter().map(move |(n, micros)| Mark {
                partition,
                actor: actor(from),
                n: *n,
                micros: *micros,
            })
        };
        let beat = Heartbeat {
            incarnation,
            micros: self.now().wall.0,
            sequence,
            heard: self.heard.get(&from).copied().unwrap_or(0),
            disk_micros: self.disk_micros.get(&from).copied().unwrap_or(0),
            wants: Vec::new(),
            marks: partitions.iter().flat_map(mark).collect(),
            known: partitions.iter().map(known).collect(),
            is_full: true,
        };
        self.hear(from, Message::Heartbeat(beat));
    }

    /// A client asks, for ten seconds.
    pub(super) fn ask(&mut self, request: Request) -> RequestId {
        self.requests += 1;
        let id = RequestId(self.requests);
        let deadline = self.now().time.after(Duration::from_secs(10));
        self.step(Input::Request {
            id,
            request,
            deadline,
        });
        id
    }

    pub(super) fn ask_for(&mut self, operation: Operation) -> RequestId {
        self.ask(operation.into())
    }

    /// The answer to a client.
    pub(super) fn reply(&mut self, id: RequestId) -> Option<Outcome> {
        let at = self.outputs.iter().position(
            |output| matches!(output, Output::Reply { id: replied, .. } if *replied == id),
        )?;
        if let Output::Reply { outcome, .. } = self.outputs.remove(at) {
            Some(outcome)
        } else {
            None
        }
    }

    /// The first query to the store.
    pub(super) fn query(&mut self) -> Option<(Ticket, Query)> {
        let is_query = |output: &Output| matches!(output, Output::Query { .. });
        let at = self.outputs.iter().position(is_query)?;
        if let Output::Query { ticket, query } = self.outputs.remove(at) {
            Some((ticket, query))
        } else {
            None
        }
    }

    /// Answers the selection that the store was asked for.
    pub(super) fn select(&mut self, position: Position, rows: &[(RowKey, Row)]) -> Selection {
        let (ticket, query) = self.query().expect("a query");
        let Query::Select { selection, .. } = query else {
            panic!("not a selection: {query:?}")
        };
        let answer = Answer::Selected {
            position,
            rows: rows.to_vec(),
            next: None,
        };
        self.step(Input::Answered { ticket, answer });
        selection
    }

    /// The first change given to the door.
    pub(super) fn change(&mut self) -> Option<(Ticket, Change)> {
        let is_change = |output: &Output| matches!(output, Output::Change { .. });
        let at = self.outputs.iter().position(is_change)?;
        if let Output::Change { ticket, change } = self.outputs.remove(at) {
            Some((ticket, change))
        } else {
            None
        }
    }

    pub(super) fn stage(&mut self, ticket: Ticket, effect: Effect) {
        self.step(Input::Staged(vec![(ticket, effect)]));
    }

    pub(super) fn sync(&mut self, ticket: Ticket) {
        self.step(Input::Durable(vec![ticket]));
    }

    /// Messages on the lane of requests, and to whom.
    pub(super) fn messages(&mut self) -> Vec<(NodeId, Message)> {
        let mut messages = Vec::new();
        self.outputs.retain(|output| {
            let Output::Send {
                to,
                lane: Lane::Request,
                message,
            } = output
            else {
                return true;
            };
            messages.push((*to, message.clone()));
            false
        });
        messages
    }

    /// The watermarks of its own log that it tells a peer now.
    pub(super) fn marks_told(&mut self) -> Vec<u64> {
        let mut marks = Vec::new();
        let me = actor(self.me);
        self.outputs.retain(|output| {
            let Output::Send {
                message: Message::Heartbeat(beat),
                ..
            } = output
            else {
                return true;
            };
            let own = beat.marks.iter().filter(|mark| mark.actor == me);
            marks.extend(own.map(|mark| mark.micros));
            false
        });
        marks
    }
}
