//! Connections between nodes: made when packets pass both ways, lost when they do not for a while or when
//! an end dies. Machines hear of both, each end in its own time.

use crate::protocol::Input;

use super::cluster::NodeIndex;
use super::network::Connection;
use super::world::{Event, World};

/// Packets may fail to pass for so long before a connection is given up, in microseconds.
const IDLE_MICROS: u64 = 1_000_000;

impl World {
    /// Something changed at a node: its connections are looked at, soon and once more after the idle time.
    pub(crate) fn look_at_pairs_of(&mut self, node: NodeIndex) {
        for other in 0..self.nodes.len() {
            if other != node {
                self.look_at_pair(node, other);
            }
        }
    }

    /// Something changed between two nodes.
    pub(crate) fn look_at_pair(&mut self, a: NodeIndex, b: NodeIndex) {
        let soon = self.now + self.rng.u64(1_000..=60_000);
        let late = soon + IDLE_MICROS + self.rng.u64(0..=400_000);
        let (a, b) = (a.min(b), a.max(b));
        self.schedule(soon, Event::Pair { a, b });
        self.schedule(late, Event::Pair { a, b });
    }

    /// Makes or breaks the connection between two nodes, as things stand.
    pub(crate) fn on_pair(&mut self, a: NodeIndex, b: NodeIndex) {
        let now = self.now;
        let lives = (self.life_of(a), self.life_of(b));
        let is_paused = self.is_paused(a) || self.is_paused(b);
        let passes = !is_paused && self.network.is_open(a, b) && self.network.is_open(b, a);
        let pair = self.network.pair(a, b);
        match (pair.connection, lives) {
            (Some(old), (Some(life_a), Some(life_b))) if old.lives == (life_a, life_b) => {
                if passes {
                    pair.bad_since = None;
                    return;
                }
                let since = *pair.bad_since.get_or_insert(now);
                if IDLE_MICROS <= now.saturating_sub(since) {
                    pair.connection = None;
                    pair.bad_since = None;
                    self.tell_down(a, b, old);
                }
            }
            (Some(old), _) => {
                pair.connection = None;
                pair.bad_since = None;
                self.tell_down(a, b, old);
                self.look_at_pair(a, b);
            }
            (None, (Some(life_a), Some(life_b))) => {
                if !passes {
                    return;
                }
                pair.generations += 1;
                let connection = Connection {
                    generation: pair.generations,
                    lives: (life_a, life_b),
                };
                pair.connection = Some(connection);
                pair.bad_since = None;
                self.tell_up(a, b, connection);
            }
            (None, _) => {}
        }
    }

    /// A connection is reset under two nodes; a new one is made soon.
    pub(crate) fn reset(&mut self, a: NodeIndex, b: NodeIndex) {
        if let Some(old) = self.network.pair(a, b).connection.take() {
            self.tell_down(a.min(b), a.max(b), old);
        }
        self.look_at_pair(a, b);
    }

    fn tell_up(&mut self, a: NodeIndex, b: NodeIndex, connection: Connection) {
        let latency = self.network.latency(a, b);
        let (life_a, life_b) = connection.lives;
        for (node, life, peer) in [(a, life_a, b), (b, life_b, a)] {
            let at = self.now + latency + self.rng.u64(100..=5_000);
            let generation = connection.generation;
            let told = Event::Connected {
                node,
                life,
                peer,
                generation,
            };
            self.schedule(at, told);
        }
    }

    fn tell_down(&mut self, a: NodeIndex, b: NodeIndex, connection: Connection) {
        let (life_a, life_b) = connection.lives;
        for (node, life, peer) in [(a, life_a, b), (b, life_b, a)] {
            // One end hears of it at once, the other by its own idle timer.
            let most = if self.rng.bool() { 1_000 } else { 1_200_000 };
            let at = self.now + self.rng.u64(1..=most);
            let generation = connection.generation;
            let told = Event::Disconnected {
                node,
                life,
                peer,
                generation,
            };
            self.schedule(at, told);
        }
    }

    /// A node hears that a connection is up; older news is ignored.
    pub(crate) fn on_connected(&mut self, node: NodeIndex, peer: NodeIndex, generation: u64) {
        let is_news = self
            .known_connection(node, peer)
            .is_none_or(|known| known < generation);
        if is_news && self.know_connection(node, peer, Some(generation)) {
            let facts = [7, node as u64, peer as u64];
            self.trace
                .note(self.now, facts, || format!("n{node} connected to n{peer}"));
            if let Some(peer) = self.id_of(peer) {
                self.step(node, Input::Connected { peer });
            }
        }
    }

    /// A node hears that a connection is gone, unless it has a newer one.
    pub(crate) fn on_disconnected(&mut self, node: NodeIndex, peer: NodeIndex, generation: u64) {
        if self.known_connection(node, peer) == Some(generation)
            && self.know_connection(node, peer, None)
        {
            let facts = [8, node as u64, peer as u64];
            self.trace.note(self.now, facts, || {
                format!("n{node} disconnected from n{peer}")
            });
            if let Some(peer) = self.id_of(peer) {
                self.step(node, Input::Disconnected { peer });
            }
        }
    }

    /// The connection to a peer, as the node was told.
    pub(crate) fn known_connection(&self, node: NodeIndex, peer: NodeIndex) -> Option<u64> {
        let running = self.nodes.get(node)?.running.as_ref()?;
        running.peers.get(peer).copied().flatten()
    }

    /// Whether every node knows of a connection to every other that it can hear.
    pub(crate) fn is_connected(&self) -> bool {
        let count = self.nodes.len();
        (0..count).filter(|node| !self.is_dead(*node)).all(|node| {
            let peers = self.live_peers(node);
            (peers.into_iter()).all(|peer| self.known_connection(node, peer).is_some())
        })
    }

    /// The peers that a node can hear: those to which there is a link, and that are not dead for good.
    pub(crate) fn live_peers(&self, node: NodeIndex) -> Vec<NodeIndex> {
        let hears = |peer: &NodeIndex| {
            *peer != node && !self.is_dead(*peer) && self.cluster.is_linked(node, *peer)
        };
        (0..self.nodes.len()).filter(hears).collect()
    }

    /// Whether a node is dead for good.
    pub(crate) fn is_dead(&self, node: NodeIndex) -> bool {
        self.nodes.get(node).is_some_and(|node| node.is_dead)
    }

    fn know_connection(&mut self, node: NodeIndex, peer: NodeIndex, known: Option<u64>) -> bool {
        let running = self
            .nodes
            .get_mut(node)
            .and_then(|node| node.running.as_mut());
        let slot = running.and_then(|running| running.peers.get_mut(peer));
        match slot {
            Some(slot) => {
                *slot = known;
                true
            }
            None => false,
        }
    }
}
