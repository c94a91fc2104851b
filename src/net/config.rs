//! What the network is told, and what it tells: limits, peers, events, counters.

use tokio::sync::OwnedSemaphorePermit;

use crate::model::{Duration, NodeId};
use crate::protocol::Message;

/// What a network is made of, beside its certificates and its peers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NetConfig {
    /// The cluster's name: every certificate must carry it.
    pub cluster: String,
    /// This node's name in the topology.
    pub node: String,
    /// The name of its region.
    pub region: String,
    /// A connection on which nothing is heard for so long is gone.
    pub idle_max: Duration,
    /// A handshake, streams included, takes at most so long; more than a few round trips of the longest link.
    pub handshake_max: Duration,
    /// Bytes queued for one lane to one peer, before messages are dropped; one message always fits.
    pub lane_bytes_max: usize,
    /// Messages queued for one lane to one peer, before messages are dropped.
    pub lane_messages_max: usize,
    /// Events waiting to be taken; then readers wait, and QUIC's flow control holds the peers back.
    pub events_max: usize,
    /// Bytes of received messages that were not dropped yet by whoever took them; then readers wait.
    pub received_bytes_max: usize,
}

impl NetConfig {
    /// The usual limits for a node.
    pub fn new(cluster: &str, region: &str, node: &str) -> Self {
        Self {
            cluster: cluster.to_owned(),
            node: node.to_owned(),
            region: region.to_owned(),
            idle_max: Duration::from_secs(3),
            handshake_max: Duration::from_secs(5),
            lane_bytes_max: 8 << 20,
            lane_messages_max: 4096,
            events_max: 1024,
            received_bytes_max: 64 << 20,
        }
    }
}

/// A node that we may speak with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PeerInfo {
    /// Its name in the topology.
    pub name: String,
    /// The name of its region.
    pub region: String,
    /// host:port of its QUIC endpoint; looked up anew for every try.
    pub address: String,
    /// Whether it is in another region: then frames are compressed, and the connection expects a long fat link.
    pub is_remote: bool,
}

/// What happened on the network.
#[derive(Debug)]
pub enum NetEvent {
    /// A connection is up in both directions; what was in flight on an older one is lost.
    Connected {
        /// With whom.
        peer: NodeId,
    },
    /// The connection is gone.
    Disconnected {
        /// With whom.
        peer: NodeId,
    },
    /// Messages of one lane, in the order in which they were sent.
    Messages {
        /// The sender, as its certificate names it.
        from: NodeId,
        /// At least one.
        messages: Vec<Message>,
        /// Drop it when the messages are done with: it makes room for others.
        receipt: Receipt,
    },
}

/// Stands for the bytes of received messages; dropping it gives them back to the receiving limit.
#[derive(Debug)]
pub struct Receipt {
    pub(super) _held: OwnedSemaphorePermit,
}

/// Counters of the network towards one peer since the start.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NetStats {
    /// The peer.
    pub peer: NodeId,
    /// Whether there is a connection now.
    pub is_connected: bool,
    /// Bytes of frames sent, after compression, QUIC's own overhead left out.
    pub sent_bytes: u64,
    /// Bytes of frames received, before decompression.
    pub received_bytes: u64,
    /// Messages put on the wire's queue.
    pub sent_messages: u64,
    /// Messages received.
    pub received_messages: u64,
    /// Messages dropped because a lane was full.
    pub dropped_full: u64,
    /// Messages dropped because there was no connection (or the message is too long to be sent at all).
    pub dropped_unsent: u64,
    /// Connections made, the first included.
    pub connects: u64,
    /// Bytes of UDP datagrams sent, QUIC's overhead and repetitions included.
    pub udp_sent_bytes: u64,
    /// UDP datagrams sent.
    pub udp_sent_datagrams: u64,
    /// Packets that QUIC holds for lost.
    pub lost_packets: u64,
    /// QUIC's estimate of the round-trip time; zero without a connection.
    pub rtt: Duration,
    /// The congestion window in bytes; zero without a connection.
    pub congestion_window: u64,
}
