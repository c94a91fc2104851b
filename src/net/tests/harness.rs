//! Nodes for tests: certificates in memory, sockets on free ports, events with a time limit, logs to read.

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use bytes::Bytes;
use quinn::AsyncUdpSocket;
use tokio::sync::{Notify, mpsc};
use tracing_subscriber::fmt::MakeWriter;

use crate::model::{
    Actor, Dot, Duration, Incarnation, KeyspaceId, NodeId, Row, RowKey, Timestamp, Version,
};
use crate::net::{
    Identity, NetConfig, NetEvent, Network, PeerInfo, PeerName, Pem, bind, direct, make_ca,
    make_node,
};
use crate::protocol::Message;

const PATIENCE: Duration = Duration::from_secs(30);

/// Certificates are checked against the machine's own date.
pub(crate) fn today() -> SystemTime {
    let since = SystemTime::UNIX_EPOCH.elapsed().unwrap();
    SystemTime::UNIX_EPOCH + since
}

pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    let done = tokio::time::timeout(PATIENCE, future).await;
    done.unwrap_or_else(|_| panic!("waited in vain for {what}"))
}

/// A node of a test's cluster.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) name: String,
    pub(crate) region: String,
    pub(crate) address: SocketAddr,
}

impl Place {
    pub(crate) fn id(&self) -> NodeId {
        NodeId::of(&self.name)
    }
}

/// A cluster's CA, and free ports for its nodes.
pub(crate) struct Cluster {
    pub(crate) name: String,
    pub(crate) ca: Pem,
    pub(crate) places: Vec<Place>,
    sockets: BTreeMap<NodeId, UdpSocket>,
    pub(crate) idle_max: Duration,
}

impl Cluster {
    /// Nodes by name and region; the smallest id, which dials the others, first.
    pub(crate) fn new(nodes: &[(&str, &str)]) -> Self {
        let mut sockets = BTreeMap::new();
        let mut places: Vec<Place> = nodes
            .iter()
            .map(|(name, region)| {
                let socket = bind("127.0.0.1:0".parse().unwrap()).unwrap();
                let address = socket.local_addr().unwrap();
                sockets.insert(NodeId::of(name), socket);
                Place {
                    name: (*name).to_owned(),
                    region: (*region).to_owned(),
                    address,
                }
            })
            .collect();
        places.sort_by_key(Place::id);
        Self {
            name: "test".to_owned(),
            ca: make_ca(today(), "test").unwrap(),
            places,
            sockets,
            idle_max: Duration::from_secs(3),
        }
    }

    pub(crate) fn identity(&self, place: &Place) -> Identity {
        self.identity_of(&self.pem(place))
    }

    pub(crate) fn identity_of(&self, pem: &Pem) -> Identity {
        Identity::from_pem(&self.ca.certificate, &pem.certificate, &pem.key).unwrap()
    }

    /// A new certificate of a node, with a new key.
    pub(crate) fn pem(&self, place: &Place) -> Pem {
        let name = PeerName {
            cluster: self.name.clone(),
            region: place.region.clone(),
            node: place.name.clone(),
        };
        make_node(today(), &self.ca, &name, 1).unwrap()
    }

    pub(crate) fn peers(&self, own: &Place) -> BTreeMap<NodeId, PeerInfo> {
        let info = |place: &Place| PeerInfo {
            name: place.name.clone(),
            region: place.region.clone(),
            address: place.address.to_string(),
            is_remote: place.region != own.region,
        };
        let others = self.places.iter().filter(|place| place.name != own.name);
        others.map(|place| (place.id(), info(place))).collect()
    }

    pub(crate) fn config(&self, place: &Place) -> NetConfig {
        let mut config = NetConfig::new(&self.name, &place.region, &place.name);
        config.idle_max = self.idle_max;
        config
    }

    /// The socket that was bound for a node.
    pub(crate) fn take_socket(&mut self, place: &Place) -> UdpSocket {
        self.sockets.remove(&place.id()).unwrap()
    }

    pub(crate) fn start(&mut self, index: usize) -> TestNode {
        let place = self.places[index].clone();
        let socket = self.take_socket(&place);
        self.start_on(&place, direct(socket).unwrap())
    }

    pub(crate) fn start_on(&self, place: &Place, socket: Arc<dyn AsyncUdpSocket>) -> TestNode {
        self.start_as(place, socket, self.identity(place))
    }

    pub(crate) fn start_as(
        &self,
        place: &Place,
        socket: Arc<dyn AsyncUdpSocket>,
        identity: Identity,
    ) -> TestNode {
        let (network, events) =
            Network::start(self.config(place), socket, identity, self.peers(place)).unwrap();
        TestNode {
            id: place.id(),
            network,
            events,
        }
    }
}

/// A running network with its events.
pub(crate) struct TestNode {
    pub(crate) id: NodeId,
    pub(crate) network: Network,
    pub(crate) events: mpsc::Receiver<NetEvent>,
}

impl TestNode {
    pub(crate) async fn next(&mut self) -> NetEvent {
        soon("an event", self.events.recv()).await.unwrap()
    }

    /// Waits until so many peers are connected; no other event may come before.
    pub(crate) async fn connected(&mut self, count: usize) {
        for _ in 0..count {
            let event = self.next().await;
            assert!(matches!(event, NetEvent::Connected { .. }), "{event:?}");
        }
    }

    pub(crate) async fn disconnected(&mut self) {
        let event = self.next().await;
        assert!(matches!(event, NetEvent::Disconnected { .. }), "{event:?}");
    }

    /// Waits for so many messages; no other event may come before.
    pub(crate) async fn messages(&mut self, count: usize) -> Vec<(NodeId, Message)> {
        let mut all = Vec::new();
        while all.len() < count {
            let event = self.next().await;
            let NetEvent::Messages { from, messages, .. } = event else {
                panic!("{event:?}");
            };
            all.extend(messages.into_iter().map(|message| (from, message)));
        }
        all
    }
}

/// A small message.
pub(crate) fn small(id: u64) -> Message {
    Message::CannotRead { id }
}

pub(crate) fn small_id(message: &Message) -> u64 {
    let Message::CannotRead { id } = message else {
        panic!("{message:?}");
    };
    *id
}

/// A message with a value.
pub(crate) fn large(id: u64, value: Vec<u8>) -> Message {
    let actor = Actor {
        node: NodeId(1),
        incarnation: Incarnation(2),
    };
    let row = Row::Register(Version {
        timestamp: Timestamp::ZERO,
        dot: Dot { actor, n: id },
        replaced: Timestamp::ZERO,
        expires: None,
        after: None,
        value: Some(Bytes::from(value)),
    });
    let key = RowKey::plain(KeyspaceId(7), Bytes::from_static(b"key"));
    Message::Repair {
        id,
        rows: vec![(key, row)],
    }
}

/// Log lines of this thread, to be waited for.
#[derive(Clone, Default)]
pub(crate) struct Logs {
    text: Arc<Mutex<String>>,
    changed: Arc<Notify>,
}

impl Logs {
    /// Gathers warnings of the present thread (and of a runtime on it) until the guard is dropped.
    pub(crate) fn gather() -> (Self, tracing::subscriber::DefaultGuard) {
        let logs = Self::default();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(logs.clone())
            .with_ansi(false)
            .with_max_level(tracing::Level::WARN)
            .finish();
        (logs, tracing::subscriber::set_default(subscriber))
    }

    pub(crate) fn lines_with(&self, words: &str) -> usize {
        let text = self.text.lock().unwrap();
        text.lines().filter(|line| line.contains(words)).count()
    }

    pub(crate) async fn line_with(&self, words: &str) {
        let wait = async {
            while self.lines_with(words) == 0 {
                self.changed.notified().await;
            }
        };
        if tokio::time::timeout(PATIENCE, wait).await.is_err() {
            panic!("no line with `{words}` in:\n{}", self.text.lock().unwrap());
        }
    }
}

impl io::Write for Logs {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(bytes);
        self.text.lock().unwrap().push_str(&text);
        self.changed.notify_one();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Logs {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}
