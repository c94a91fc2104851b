//! What is shared about one peer: its lanes, its counters, its present connection.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use quinn::Connection;

use crate::model::{Duration, NodeId};
use crate::protocol::{Lane, Message};

use super::config::{NetConfig, NetStats, PeerInfo};
use super::frame::MESSAGE_BYTES_MAX;
use super::lane::{Dropped, LaneQueue};

/// One peer, as `Network::send`, the session and the counters see it.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) node: NodeId,
    pub(super) info: PeerInfo,
    lanes: [LaneQueue; Lane::ALL.len()],
    pub(super) counters: Counters,
    wire: Mutex<Wire>,
}

/// Counters since the start; each is written by few tasks and read now and then.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) sent_bytes: AtomicU64,
    pub(super) received_bytes: AtomicU64,
    pub(super) sent_messages: AtomicU64,
    pub(super) received_messages: AtomicU64,
    dropped_full: AtomicU64,
    dropped_unsent: AtomicU64,
    connects: AtomicU64,
}

/// The present connection, and what older ones counted.
#[derive(Debug, Default)]
struct Wire {
    connection: Option<Connection>,
    udp_sent_bytes: u64,
    udp_sent_datagrams: u64,
    lost_packets: u64,
}

pub(super) fn add(counter: &AtomicU64, count: usize) {
    counter.fetch_add(u64::try_from(count).unwrap_or(u64::MAX), Ordering::Relaxed);
}

impl Peer {
    pub(super) fn new(node: NodeId, info: PeerInfo, config: &NetConfig) -> Self {
        let queue = |_| LaneQueue::new(config.lane_bytes_max, config.lane_messages_max);
        Self {
            node,
            info,
            lanes: Lane::ALL.map(queue),
            counters: Counters::default(),
            wire: Mutex::default(),
        }
    }

    /// The queue of a lane.
    pub(super) fn lane(&self, lane: Lane) -> &LaneQueue {
        let [control, request, fresh, catch_up, reconcile] = &self.lanes;
        match lane {
            Lane::Control => control,
            Lane::Request => request,
            Lane::Fresh => fresh,
            Lane::CatchUp => catch_up,
            Lane::Reconcile => reconcile,
        }
    }

    /// Queues a message, or drops and counts it.
    pub(super) fn send(&self, lane: Lane, message: &Message) {
        let counter = match self.lane(lane).push(message) {
            Ok(()) => &self.counters.sent_messages,
            Err(Dropped::Full) => &self.counters.dropped_full,
            Err(Dropped::Closed) => &self.counters.dropped_unsent,
            Err(Dropped::TooLong) => {
                tracing::error!(
                    lane = ?lane,
                    "a message is longer than {MESSAGE_BYTES_MAX} bytes and cannot be sent: what it says never comes; on the \
                     lane `Control` the topology has too many partitions and nodes"
                );
                &self.counters.dropped_unsent
            }
        };
        add(counter, 1);
    }

    /// A connection is up: messages are queued from now on.
    pub(super) fn open(&self, connection: &Connection) {
        add(&self.counters.connects, 1);
        self.lock().connection = Some(connection.clone());
        self.lanes.iter().for_each(LaneQueue::open);
    }

    /// The connection is gone: what waits is dropped.
    pub(super) fn close(&self) {
        self.lanes.iter().for_each(LaneQueue::close);
        let mut wire = self.lock();
        if let Some(connection) = wire.connection.take() {
            let stats = connection.stats();
            wire.udp_sent_bytes += stats.udp_tx.bytes;
            wire.udp_sent_datagrams += stats.udp_tx.datagrams;
            wire.lost_packets += stats.path.lost_packets;
        }
    }

    /// Closes the present connection as if it were lost.
    #[cfg(test)]
    pub(super) fn disconnect(&self) {
        if let Some(connection) = &self.lock().connection {
            connection.close(quinn::VarInt::from_u32(0), b"test");
        }
    }

    pub(super) fn stats(&self) -> NetStats {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let wire = self.lock();
        let present = wire.connection.as_ref().map(Connection::stats);
        let now = present.unwrap_or_default();
        NetStats {
            peer: self.node,
            is_connected: present.is_some(),
            sent_bytes: count(&self.counters.sent_bytes),
            received_bytes: count(&self.counters.received_bytes),
            sent_messages: count(&self.counters.sent_messages),
            received_messages: count(&self.counters.received_messages),
            dropped_full: count(&self.counters.dropped_full),
            dropped_unsent: count(&self.counters.dropped_unsent),
            connects: count(&self.counters.connects),
            udp_sent_bytes: wire.udp_sent_bytes + now.udp_tx.bytes,
            udp_sent_datagrams: wire.udp_sent_datagrams + now.udp_tx.datagrams,
            lost_packets: wire.lost_packets + now.path.lost_packets,
            rtt: present.map_or(Duration::ZERO, |stats| stats.path.rtt),
            congestion_window: now.path.cwnd,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Wire> {
        self.wire.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
