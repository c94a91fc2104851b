//! Two QUIC endpoints on this machine, with certificates, as nodes of two regions.

use std::collections::BTreeMap;
use std::time::SystemTime;

use bytes::Bytes;
use sterna::model::{Actor, Dot, Incarnation, KeyspaceId, NodeId, Row, RowKey, Timestamp, Version};
use sterna::net::{
    Identity, NetConfig, NetEvent, Network, PeerInfo, PeerName, bind, direct, make_ca, make_node,
};
use sterna::protocol::{Lane, Message};
use tokio::sync::mpsc;

/// Name and region of each.
const NODES: [(&str, &str); 2] = [("a-1", "a"), ("b-1", "b")];

/// The two.
pub(crate) struct Pair {
    sender: Network,
    /// Holds its end of the connection.
    _receiver: Network,
    /// Emptied by nobody, and never full: the receiver sends nothing.
    _quiet: mpsc::Receiver<NetEvent>,
    received: mpsc::Receiver<NetEvent>,
}

/// Messages with a value of so many bytes each, which do not compress.
pub(crate) fn messages(count: u64, bytes: usize, chance: &mut fastrand::Rng) -> Vec<Message> {
    let actor = Actor {
        node: NodeId(1),
        incarnation: Incarnation(2),
    };
    let mut message = |n| {
        let mut value = vec![0; bytes];
        chance.fill(&mut value);
        let row = Row::Register(Version {
            timestamp: Timestamp::ZERO,
            dot: Dot { actor, n },
            replaced: Timestamp::ZERO,
            expires: None,
            after: None,
            value: Some(Bytes::from(value)),
        });
        let key = RowKey::plain(KeyspaceId(7), Bytes::from_static(b"key"));
        Message::Repair {
            id: n,
            rows: vec![(key, row)],
        }
    };
    (0..count).map(&mut message).collect()
}

async fn connected(events: &mut mpsc::Receiver<NetEvent>) {
    let event = events.recv().await;
    assert!(
        matches!(event, Some(NetEvent::Connected { .. })),
        "{event:?}"
    );
}

impl Pair {
    /// Both, connected.
    pub(crate) async fn new() -> Self {
        let today = SystemTime::UNIX_EPOCH
            + SystemTime::UNIX_EPOCH
                .elapsed()
                .expect("the clock is later than 1970");
        let ca = make_ca(today, "bench").expect("the name is right");
        let bound = NODES.map(|_| {
            let any = "127.0.0.1:0".parse().expect("it is an address");
            bind(any).expect("there is a free port")
        });
        let addresses = bound
            .each_ref()
            .map(|socket| socket.local_addr().expect("it is bound").to_string());
        let mut started = Vec::new();
        for (index, socket) in bound.into_iter().enumerate() {
            let own = NODES.get(index).expect("a socket for each node");
            let name = PeerName {
                cluster: "bench".to_owned(),
                region: own.1.to_owned(),
                node: own.0.to_owned(),
            };
            let pem = make_node(today, &ca, &name, 1).expect("the names are right");
            let identity = Identity::from_pem(&ca.certificate, &pem.certificate, &pem.key)
                .expect("it was just made");
            let others = NODES
                .iter()
                .zip(&addresses)
                .filter(|(node, _)| *node != own);
            let peers: BTreeMap<NodeId, PeerInfo> = others
                .map(|((node, region), address)| {
                    let info = PeerInfo {
                        name: (*node).to_owned(),
                        region: (*region).to_owned(),
                        address: address.clone(),
                        is_remote: true,
                    };
                    (NodeId::of(node), info)
                })
                .collect();
            let config = NetConfig::new("bench", own.1, own.0);
            let socket = direct(socket).expect("a runtime runs");
            let network = Network::start(config, socket, identity, peers);
            started.push(network.expect("the identity is right"));
        }
        let (Some((receiver, mut received)), Some((sender, mut quiet))) =
            (started.pop(), started.pop())
        else {
            panic!("there are two nodes");
        };
        connected(&mut received).await;
        connected(&mut quiet).await;
        Self {
            sender,
            _receiver: receiver,
            _quiet: quiet,
            received,
        }
    }

    /// Sends messages and waits until all have arrived.
    pub(crate) async fn send(&mut self, messages: &[Message]) {
        for message in messages {
            self.sender
                .send(NodeId::of(NODES[1].0), Lane::Fresh, message);
        }
        let mut count = 0;
        while count < messages.len() {
            match self.received.recv().await {
                Some(NetEvent::Messages { messages, .. }) => count += messages.len(),
                other => panic!("{other:?}"),
            }
        }
    }
}
