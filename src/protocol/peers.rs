//! Which peers are heard, in both directions. A connection alone proves nothing: a peer is up when its
//! heartbeats arrive and echo ours (a one-way cut silences one of the two).

use std::collections::{BTreeMap, VecDeque};

use crate::model::{Duration, Incarnation, NodeId, RegionId, Time};

/// Sequence numbers whose sending time is remembered, to judge an echo; beyond it an echo is worthless.
const ECHOES_MAX: usize = 64;

/// The connection to a peer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Connection {
    /// There is none.
    Down,
    /// Nothing was heard on it yet.
    New,
    /// It carries heartbeats.
    Heard,
}

/// One peer.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) region: RegionId,
    pub(super) connection: Connection,
    pub(super) is_up: bool,
    /// Its incarnation, by its last heartbeat.
    pub(super) incarnation: Option<Incarnation>,
    /// Its last sequence number.
    pub(super) heard: u64,
    heard_at: Option<Time>,
    /// How far its clock was ahead of ours when it was last heard, in microseconds; its way here makes it less.
    pub(super) ahead: i64,
    /// How long its disk takes, in microseconds, by its last heartbeat.
    pub(super) disk_micros: u64,
    /// When the newest of our heartbeats that it echoed was sent.
    echoed_at: Option<Time>,
    sequence: u64,
    sent: VecDeque<(u64, Time)>,
}

/// What a heartbeat made of a peer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Heard {
    /// The peer has come up.
    pub(super) is_newly_up: bool,
    /// The peer lives a new life: what was known of the old one is void.
    pub(super) is_reborn: bool,
}

impl Peer {
    fn new(region: RegionId) -> Self {
        Self {
            region,
            connection: Connection::Down,
            is_up: false,
            incarnation: None,
            heard: 0,
            heard_at: None,
            ahead: 0,
            disk_micros: 0,
            echoed_at: None,
            sequence: 0,
            sent: VecDeque::new(),
        }
    }

    /// The sequence number of a heartbeat that is sent now.
    pub(super) fn next_sequence(&mut self, now: Time) -> u64 {
        self.sequence += 1;
        self.sent.push_back((self.sequence, now));
        if self.sent.len() > ECHOES_MAX {
            self.sent.pop_front();
        }
        self.sequence
    }

    fn echo(&mut self, sequence: u64) {
        let at = self
            .sent
            .iter()
            .find(|(sent, _)| *sent == sequence)
            .map(|(_, at)| *at);
        self.echoed_at = self.echoed_at.max(at);
    }

    fn is_heard(&self, now: Time, silence_max: Duration) -> bool {
        let fresh = |at: Option<Time>| at.is_some_and(|at| now.since(at) < silence_max);
        self.connection != Connection::Down && fresh(self.heard_at) && fresh(self.echoed_at)
    }
}

/// All peers of this node.
#[derive(Debug)]
pub(super) struct Peers {
    map: BTreeMap<NodeId, Peer>,
    silence_max: Duration,
}

impl Peers {
    pub(super) fn new(
        nodes: impl Iterator<Item = (NodeId, RegionId)>,
        silence_max: Duration,
    ) -> Self {
        Self {
            map: nodes
                .map(|(node, region)| (node, Peer::new(region)))
                .collect(),
            silence_max,
        }
    }

    pub(super) fn get(&self, node: NodeId) -> Option<&Peer> {
        self.map.get(&node)
    }

    pub(super) fn get_mut(&mut self, node: NodeId) -> Option<&mut Peer> {
        self.map.get_mut(&node)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (NodeId, &Peer)> {
        self.map.iter().map(|(node, peer)| (*node, peer))
    }

    /// How far the clock in the middle of all that are up is ahead of ours, in microseconds, ours counted. A few wrong
    /// clocks do not move it.
    pub(super) fn middle_clock(&self) -> i64 {
        let up = self.map.values().filter(|peer| peer.is_up);
        let mut ahead: Vec<i64> = up.map(|peer| peer.ahead).chain([0]).collect();
        ahead.sort_unstable();
        ahead.get(ahead.len() / 2).copied().unwrap_or(0)
    }

    pub(super) fn is_up(&self, node: NodeId) -> bool {
        self.map.get(&node).is_some_and(|peer| peer.is_up)
    }

    pub(super) fn on_connected(&mut self, node: NodeId) {
        if let Some(peer) = self.map.get_mut(&node) {
            // A node may come back with its numbers begun anew; within a connection they only rise.
            peer.heard = 0;
            peer.connection = Connection::New;
        }
    }

    /// Says whether the peer was up.
    pub(super) fn on_disconnected(&mut self, node: NodeId) -> bool {
        let Some(peer) = self.map.get_mut(&node) else {
            return false;
        };
        peer.connection = Connection::Down;
        peer.heard_at = None;
        peer.echoed_at = None;
        std::mem::take(&mut peer.is_up)
    }

    /// Takes in a heartbeat's numbers. Nothing for a node that is not in the topology, and for a heartbeat
    /// that is older than one that was heard on this connection.
    pub(super) fn on_heartbeat(
        &mut self,
        now: Time,
        node: NodeId,
        incarnation: Incarnation,
        sequence: u64,
        echo: u64,
    ) -> Option<Heard> {
        let silence_max = self.silence_max;
        let peer = self.map.get_mut(&node)?;
        let is_reborn = peer.incarnation != Some(incarnation);
        let is_older = if is_reborn {
            peer.incarnation.is_some_and(|known| incarnation < known)
        } else {
            sequence <= peer.heard
        };
        if peer.connection == Connection::Heard && is_older {
            return None;
        }
        if peer.connection == Connection::New {
            peer.connection = Connection::Heard;
        }
        if is_reborn {
            peer.heard = 0;
        }
        peer.incarnation = Some(incarnation);
        peer.heard = peer.heard.max(sequence);
        peer.heard_at = Some(now);
        peer.echo(echo);
        let was_up = peer.is_up;
        peer.is_up = peer.is_heard(now, silence_max);
        Some(Heard {
            is_newly_up: peer.is_up && !was_up,
            is_reborn,
        })
    }

    /// Peers that were up and have fallen silent.
    pub(super) fn fallen_silent(&mut self, now: Time) -> Vec<NodeId> {
        let silence_max = self.silence_max;
        let mut fallen = Vec::new();
        for (node, peer) in &mut self.map {
            if peer.is_up && !peer.is_heard(now, silence_max) {
                peer.is_up = false;
                fallen.push(*node);
            }
        }
        fallen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: NodeId = NodeId(1);

    fn peers() -> Peers {
        Peers::new(
            [(ME, RegionId(1))].into_iter(),
            Duration::from_millis(1_500),
        )
    }

    #[test]
    fn a_peer_that_does_not_echo_is_not_up() {
        let mut peers = peers();
        peers.on_connected(ME);
        let heard = peers.on_heartbeat(Time(10), ME, Incarnation(1), 1, 0);
        assert_eq!(
            heard,
            Some(Heard {
                is_newly_up: false,
                is_reborn: true
            })
        );
        let sequence = peers
            .get_mut(ME)
            .map(|peer| peer.next_sequence(Time(20)))
            .unwrap_or(0);
        let heard = peers.on_heartbeat(Time(30), ME, Incarnation(1), 2, sequence);
        assert_eq!(
            heard,
            Some(Heard {
                is_newly_up: true,
                is_reborn: false
            })
        );
    }

    #[test]
    fn a_peer_whose_echo_grows_old_is_down() {
        let mut peers = peers();
        peers.on_connected(ME);
        let sequence = peers
            .get_mut(ME)
            .map(|peer| peer.next_sequence(Time(0)))
            .unwrap_or(0);
        peers.on_heartbeat(Time(0), ME, Incarnation(1), 1, sequence);
        assert!(peers.is_up(ME));
        peers.on_heartbeat(Time(1_499_000), ME, Incarnation(1), 2, sequence);
        assert_eq!(peers.fallen_silent(Time(1_499_000)), vec![]);
        peers.on_heartbeat(Time(1_501_000), ME, Incarnation(1), 3, sequence);
        assert!(!peers.is_up(ME));
    }
}
