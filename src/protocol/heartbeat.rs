//! Heartbeats: all soft state between two nodes, said again and again, so that no message need arrive.

use std::collections::BTreeMap;

use crate::model::{Incarnation, NodeId, PartitionId, Position, Reach, Time};

use super::core::{Core, send};
use super::message::{Heartbeat, Known, Lane, Message};
use super::receiver::Receiver;
use super::replica::Told;
use super::sender::Sender;
use super::step::{Now, Output};
use super::timers::Timer;

/// Every so many heartbeats all positions are told, hearsay included.
const FULL_EVERY: u64 = 25;
/// Heartbeats after a connection that tell all, whatever was told before.
const FULL_FIRST: u64 = 4;

/// What was told to a peer.
#[derive(Debug, Default)]
struct Book {
    positions: BTreeMap<PartitionId, (Position, bool)>,
    /// Heartbeats since the connection.
    count: u64,
    /// When the next one is due.
    due: Time,
}

/// What was told to all peers.
#[derive(Debug, Default)]
pub(super) struct Heartbeats(BTreeMap<NodeId, Book>);

impl Heartbeats {
    /// A connection is new, or the peer is: tell everything again, now.
    pub(super) fn restart(&mut self, now: Now, core: &mut Core, peer: NodeId) {
        let told = self.0.entry(peer).or_default();
        core.timers.clear(told.due, Timer::Heartbeat(peer));
        *told = Book {
            due: now.time,
            ..Book::default()
        };
        core.timers.set(now.time, Timer::Heartbeat(peer));
    }

    /// Sends a heartbeat, and sets the time of the next.
    pub(super) fn beat(
        &mut self,
        now: Now,
        core: &mut Core,
        sender: &Sender,
        receiver: &Receiver,
        peer: NodeId,
        outputs: &mut Vec<Output>,
    ) {
        let told = self.0.entry(peer).or_default();
        told.count += 1;
        let is_full = told.count <= FULL_FIRST || told.count.is_multiple_of(FULL_EVERY);
        told.due = now.time.after(core.limits.heartbeat_every);
        core.timers.set(told.due, Timer::Heartbeat(peer));
        let known = known(core, told, peer, is_full);
        let wants = receiver.wants(core, peer);
        core.vouch();
        let marks = sender.marks(core, peer);
        let incarnation = core.actor.incarnation;
        let Some(state) = core.peers.get_mut(peer) else {
            return;
        };
        let heartbeat = Heartbeat {
            incarnation,
            micros: now.wall.0,
            sequence: state.next_sequence(now.time),
            heard: state.heard,
            wants,
            marks,
            known,
            is_full,
        };
        send(outputs, peer, Lane::Control, Message::Heartbeat(heartbeat));
    }
}

/// Positions to tell a peer: of the partitions that it holds too.
fn known(core: &Core, told: &mut Book, peer: NodeId, is_full: bool) -> Vec<Known> {
    let mut all = Vec::new();
    for (partition, replica) in core
        .replicas
        .iter()
        .filter(|(_, replica)| replica.is_replica(peer))
    {
        let say =
            |node: NodeId, incarnation: Incarnation, position: Position, is_serving: bool| Known {
                node,
                incarnation,
                partition: *partition,
                position,
                is_serving,
            };
        let (before, was_serving) = told.positions.entry(*partition).or_default();
        let position = if is_full {
            replica.position.clone()
        } else {
            changed(before, &replica.position)
        };
        if is_full || !position.reaches.is_empty() || *was_serving != replica.is_serving {
            *before = replica.position.clone();
            *was_serving = replica.is_serving;
            all.push(say(
                core.me,
                core.actor.incarnation,
                position,
                replica.is_serving,
            ));
        }
        if is_full {
            let others = replica.others().filter(|(node, _)| *node != peer);
            all.extend(others.map(|(node, other)| {
                say(
                    node,
                    other.incarnation,
                    other.position.clone(),
                    other.is_serving,
                )
            }));
        }
    }
    all
}

fn changed(before: &Position, now: &Position) -> Position {
    let risen = |(actor, reach): &(&crate::model::Actor, &Reach)| before.reach(**actor) != **reach;
    let reaches = now.reaches.iter().filter(risen);
    Position {
        reaches: reaches.map(|(actor, reach)| (*actor, *reach)).collect(),
        retired: now.retired.clone(),
    }
}

/// Takes in what a peer knows. Returns the partitions here of which a replica has got further, and one in
/// which our own log is further elsewhere than here, if there is such a one.
pub(super) fn on_known(
    core: &mut Core,
    from: NodeId,
    known: &[Known],
    told: Told,
) -> (Vec<PartitionId>, Option<PartitionId>) {
    let mut touched = Vec::new();
    let mut forgotten = None;
    for known in known {
        let (me, actor) = (core.me, core.actor);
        let Some(replica) = core.replicas.get_mut(&known.partition) else {
            continue;
        };
        // Only a replica's own word counts: hearsay could stop every node of the cluster.
        let is_own_word = known.node == from && replica.is_replica(from);
        if is_own_word && known.position.reach(actor).complete > replica.staged(actor) {
            forgotten = Some(known.partition);
        }
        if known.node == me || !replica.is_replica(known.node) {
            continue;
        }
        if known.node == from {
            replica.on_first_hand(known, told);
        } else {
            replica.on_hearsay(known);
        }
        touched.push(known.partition);
    }
    touched.dedup();
    (touched, forgotten)
}
