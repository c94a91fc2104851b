//! The face of the room: start, send, count, stop.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use quinn::{AsyncUdpSocket, Endpoint, ServerConfig, TokioRuntime};
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::model::{Duration, NodeId};
use crate::protocol::{Lane, Message};

use super::accept::{Acceptor, Caller, serve_caller};
use super::config::{NetConfig, NetEvent, NetStats, PeerInfo};
use super::dial::Dialler;
use super::identity::{Identity, PeerName};
use super::peer::Peer;
use super::session::{CLOSE_STOPPING, Inbox};
use super::tls::{Known, Tls};
use super::transport::endpoint;

/// A stop waits so long for the peers to hear of it.
const FAREWELL_MAX: Duration = Duration::from_secs(1);

/// Why the network did not start, or did not take a new identity.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The certificate names somebody else.
    #[error("the certificate is that of {found}, but this node is {expected}: use the right file")]
    OtherNode {
        /// In the certificate.
        found: Box<PeerName>,
        /// In the configuration.
        expected: Box<PeerName>,
    },
    /// The certificate and key do not serve.
    #[error("the certificate or key does not serve: {0}")]
    Tls(#[from] rustls::Error),
    /// The socket does not serve.
    #[error("the UDP socket does not serve: {0}")]
    Socket(#[from] io::Error),
}

/// The network of one node. Dropping it stops it without a farewell.
#[derive(Debug)]
pub struct Network {
    config: Arc<NetConfig>,
    pub(super) endpoint: Endpoint,
    known: Arc<Known>,
    pub(super) peers: BTreeMap<NodeId, Arc<Peer>>,
    tls: Arc<ArcSwap<Tls>>,
    tasks: TaskTracker,
    stop: CancellationToken,
    _stop_on_drop: DropGuard,
}

impl Network {
    /// Starts listening and dialling; to be called inside a tokio runtime. `peers` are the other nodes of the
    /// cluster, all of them; an entry for this node itself is passed over.
    pub fn start(
        config: NetConfig,
        socket: Arc<dyn AsyncUdpSocket>,
        identity: Identity,
        mut peers: BTreeMap<NodeId, PeerInfo>,
    ) -> Result<(Self, mpsc::Receiver<NetEvent>), StartError> {
        let own = NodeId::of(&config.node);
        peers.remove(&own);
        let known = Arc::new(Known {
            cluster: config.cluster.clone(),
            peers,
        });
        let endpoint_config = endpoint(&identity);
        let tls = make_tls(&config, identity, &known)?;
        let endpoint = Endpoint::new_with_abstract_socket(
            endpoint_config,
            Some(ServerConfig::with_crypto(tls.server())),
            socket,
            Arc::new(TokioRuntime),
        )?;
        let stop = CancellationToken::new();
        let peers = known.peers.iter().map(|(node, info)| {
            let peer = Peer::new(*node, info.clone(), &config);
            (*node, Arc::new(peer))
        });
        let network = Self {
            peers: peers.collect(),
            config: Arc::new(config),
            endpoint,
            known,
            tls: Arc::new(ArcSwap::from_pointee(tls)),
            tasks: TaskTracker::new(),
            _stop_on_drop: stop.clone().drop_guard(),
            stop,
        };
        let (events, receiver) = mpsc::channel(network.config.events_max.max(1));
        let inbox = Inbox::new(events, network.config.received_bytes_max);
        network.start_tasks(own, &inbox);
        Ok((network, receiver))
    }

    /// Of two nodes the one with the smaller id dials; so there is one connection for a pair.
    fn start_tasks(&self, own: NodeId, inbox: &Inbox) {
        let mut callers = BTreeMap::new();
        for (node, peer) in &self.peers {
            let (peer, inbox, stop) = (Arc::clone(peer), inbox.clone(), self.stop.clone());
            if own < *node {
                let dialler = Dialler {
                    config: Arc::clone(&self.config),
                    endpoint: self.endpoint.clone(),
                    tls: Arc::clone(&self.tls),
                    peer,
                    inbox,
                    stop,
                };
                self.tasks.spawn(dialler.run());
            } else {
                let (sessions, receiver) = mpsc::channel(1);
                callers.insert(*node, Caller::new(sessions));
                self.tasks.spawn(serve_caller(peer, inbox, stop, receiver));
            }
        }
        let acceptor = Acceptor {
            config: Arc::clone(&self.config),
            endpoint: self.endpoint.clone(),
            tls: Arc::clone(&self.tls),
            known: Arc::clone(&self.known),
            callers,
            stop: self.stop.clone(),
            tasks: self.tasks.clone(),
        };
        self.tasks.spawn(acceptor.run());
    }

    /// Queues a message for a peer. Never waits: without a connection, or with too much queued already, the
    /// message is dropped and counted.
    pub fn send(&self, to: NodeId, lane: Lane, message: &Message) {
        if let Some(peer) = self.peers.get(&to) {
            peer.send(lane, message);
        }
    }

    /// Counters of every peer, in order of their ids.
    pub fn stats(&self) -> Vec<NetStats> {
        self.peers.values().map(|peer| peer.stats()).collect()
    }

    /// The address it listens on.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.endpoint.local_addr()
    }

    /// Takes a new certificate, key and CA for connections made from now on; present ones go on.
    pub fn reload(&self, identity: Identity) -> Result<(), StartError> {
        let tls = make_tls(&self.config, identity, &self.known)?;
        self.tls.store(Arc::new(tls));
        Ok(())
    }

    /// Closes all connections, tells the peers, and waits until they know or a second has passed. The
    /// events' receiver should be emptied or dropped meanwhile.
    pub async fn shutdown(&self) {
        self.stop.cancel();
        self.tasks.close();
        let farewell = async {
            self.tasks.wait().await;
            self.endpoint.close(CLOSE_STOPPING, b"the node stops");
            self.endpoint.wait_idle().await;
        };
        if tokio::time::timeout(FAREWELL_MAX, farewell).await.is_err() {
            self.endpoint.close(CLOSE_STOPPING, b"the node stops");
        }
    }
}

fn make_tls(config: &NetConfig, identity: Identity, known: &Arc<Known>) -> Result<Tls, StartError> {
    let expected = PeerName {
        cluster: config.cluster.clone(),
        region: config.region.clone(),
        node: config.node.clone(),
    };
    if *identity.name() != expected {
        return Err(StartError::OtherNode {
            found: Box::new(identity.name().clone()),
            expected: Box::new(expected),
        });
    }
    Ok(Tls::new(identity, Arc::clone(known))?)
}
