//! Heartbeats: all soft state between two nodes, said again and again, so that no message need arrive.

use std::collections::BTreeMap;

use crate::model::{Actor, Change, Incarnation, NodeId, PartitionId, Position, Reach, Time};

use super::core::{Core, Counter, Purpose, report, send};
use super::message::{Heartbeat, Known, Lane, Message};
use super::other::Told;
use super::receiver::Receiver;
use super::sender::Sender;
use super::step::{Now, Output, Report};
use super::timers::Timer;

/// Every so many heartbeats all positions are told, as they stood at one moment, hearsay included.
const FULL_EVERY: u64 = 25;
/// And in the middle between two of those, what others are known to have by now: so a change of theirs crosses a
/// link that is cut, through a third region, in one such time and not two.
const NEWS_AT: u64 = FULL_EVERY / 2;
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
        let hearsay = if is_full {
            Hearsay::Snapshots
        } else if told.count % FULL_EVERY == NEWS_AT {
            Hearsay::News
        } else {
            Hearsay::None
        };
        told.due = now.time.after(core.limits.heartbeat_every);
        core.timers.set(told.due, Timer::Heartbeat(peer));
        let known = known(core, told, peer, hearsay);
        let wants = receiver.wants(core, peer);
        core.vouch();
        let marks = sender.marks(core, peer);
        let disk_micros = core.paces.disk_micros(now.time);
        let incarnation = core.actor.incarnation;
        let Some(state) = core.peers.get_mut(peer) else {
            return;
        };
        let heartbeat = Heartbeat {
            incarnation,
            micros: now.wall.0,
            sequence: state.next_sequence(now.time),
            heard: state.heard,
            disk_micros,
            wants,
            marks,
            known,
            is_full,
        };
        send(outputs, peer, Lane::Control, Message::Heartbeat(heartbeat));
    }
}

/// What a heartbeat says of third nodes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Hearsay {
    /// Nothing: it tells what has changed here.
    None,
    /// What they are known to have by now.
    News,
    /// What they had at one moment, as this node's own position is told: a full heartbeat.
    Snapshots,
}

/// Positions to tell a peer: of the partitions that it holds too.
fn known(core: &Core, told: &mut Book, peer: NodeId, hearsay: Hearsay) -> Vec<Known> {
    let mut all = Vec::new();
    let is_full = hearsay == Hearsay::Snapshots;
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
        if is_full || position != Position::default() || *was_serving != replica.is_serving {
            before.clone_from(&replica.position);
            *was_serving = replica.is_serving;
            all.push(say(
                core.me,
                core.actor.incarnation,
                position,
                replica.is_serving,
            ));
        }
        let once = replica.other(peer).and_then(|other| other.once.clone());
        if let Some(once) = once.filter(|_| is_full) {
            all.push(say(peer, Incarnation(0), once, false));
        }
        let others = replica.others().filter(|(node, _)| *node != peer);
        all.extend(others.filter_map(|(node, other)| {
            let position = match hearsay {
                Hearsay::None => return None,
                Hearsay::News => &other.position,
                Hearsay::Snapshots => &other.snapshot,
            };
            let is_serving = other.says_serving();
            Some(say(node, other.incarnation, position.clone(), is_serving))
        }));
    }
    all
}

/// What of a position a peer has not been told. Lives that are retired are told once, as marks are.
fn changed(before: &Position, now: &Position) -> Position {
    let risen = |(actor, reach): &(&Actor, &Reach)| before.reach(**actor) != **reach;
    let reaches = now.reaches.iter().filter(risen);
    let is_new = |(node, upto): &(&NodeId, &Incarnation)| before.retired.get(*node) != Some(*upto);
    Position {
        reaches: reaches.map(|(actor, reach)| (*actor, *reach)).collect(),
        retired: (now.retired.iter().filter(is_new))
            .map(|(node, upto)| (*node, *upto))
            .collect(),
    }
}

/// Takes in what a peer knows. Returns the partitions here of which a replica has got further.
///
/// What a replica says of *this node* decides whether the disk here is what it was. More of an earlier life than is
/// here, or more than what an earlier life of this node had told that it holds: the disk is an old copy, or lost
/// what it had passed on before it was durable; either way it is fenced until it has caught up.
/// More of this very life than was ever stamped is impossible: dots are never used twice, so somebody errs, and
/// not we; such a word is not taken in.
pub(super) fn on_known(
    core: &mut Core,
    from: NodeId,
    known: &[Known],
    told: Told,
    outputs: &mut Vec<Output>,
) -> Vec<PartitionId> {
    let mut touched = Vec::new();
    let mut fenced = Vec::new();
    let (me, actor) = (core.me, core.actor);
    for known in known {
        let Some(replica) = core.replicas.get_mut(&known.partition) else {
            continue;
        };
        if known.node == me {
            let is_old = known.incarnation < actor.incarnation && replica.is_replica(from);
            if is_old && replica.remind(from, &known.position) {
                fenced.push(known.partition);
            }
            continue;
        }
        if !replica.is_replica(known.node) {
            continue;
        }
        if known.position.reach(actor).complete > replica.staged(actor) {
            if replica.doubted.insert(from) {
                report(outputs, Report::Impossible(known.partition, from));
            }
            continue;
        }
        touched.push(known.partition);
        if known.node != from {
            replica.on_hearsay(known, told);
            continue;
        }
        replica.on_first_hand(known, told);
        // Only a replica's own word counts: hearsay could stop every node of the cluster.
        if replica.lacks_own(actor, &known.position) && replica.fence(from) {
            fenced.push(known.partition);
        }
    }
    for partition in fenced {
        core.count(Counter::Fenced, 1);
        report(outputs, Report::Fenced(partition));
        core.change(outputs, Purpose::Upkeep, Change::Fence { partition });
    }
    touched.dedup();
    touched
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::samples::{ME, PARTITION, actor, at, core, known, position};

    /// Takes in a word; says what changes and reports came of it.
    fn hear(core: &mut Core, from: u32, known: Known, told: Told) -> (Vec<Change>, Vec<Report>) {
        let mut outputs = Vec::new();
        on_known(core, NodeId(from), &[known], told, &mut outputs);
        let (mut changes, mut reports) = (Vec::new(), Vec::new());
        for output in outputs {
            match output {
                Output::Change { change, .. } => changes.push(change),
                Output::Report(report) => reports.push(report),
                Output::Send { .. } | Output::Query { .. } | Output::Reply { .. } => {}
            }
        }
        (changes, reports)
    }

    fn fence() -> (Vec<Change>, Vec<Report>) {
        let partition = PARTITION;
        (
            vec![Change::Fence { partition }],
            vec![Report::Fenced(partition)],
        )
    }

    fn replica(core: &Core) -> &crate::protocol::replica::Replica {
        &core.replicas[&PARTITION]
    }

    #[test]
    fn an_old_copy_is_fenced_by_a_peer_that_holds_more_of_an_earlier_life() {
        let mut core = core(at(5));
        assert_eq!(
            hear(&mut core, 4, known(4, 1, at(5)), Told::All),
            (vec![], vec![])
        );
        assert_eq!(
            hear(&mut core, 4, known(4, 1, at(7)), Told::Changes),
            fence()
        );
        assert!(!replica(&core).is_serving);
        let again = hear(&mut core, 4, known(4, 1, at(8)), Told::Changes);
        assert_eq!(again, (vec![], vec![]), "once");
        assert_eq!(core.counters.get(&Counter::Fenced), Some(&1));
    }

    #[test]
    fn hearsay_fences_nobody() {
        let mut core = core(at(5));
        let heard = hear(&mut core, 2, known(4, 1, at(7)), Told::All);
        assert_eq!(heard, (vec![], vec![]));
        assert!(replica(&core).is_serving);
    }

    #[test]
    fn a_fenced_replica_waits_for_what_the_claimant_has_and_for_every_neighbour() {
        let mut core = core(at(5));
        let told = position(&[(actor(1, 1), 5), (actor(3, 1), 2)]);
        hear(&mut core, 2, known(2, 1, told), Told::All);
        hear(&mut core, 4, known(4, 1, at(7)), Told::All);
        let reach = |core: &mut Core, actor: Actor, n: u64| {
            let replica = core.replicas.get_mut(&PARTITION).unwrap();
            replica.reach(crate::model::Wall(0), actor, Reach::upto(n));
            replica.has_caught_up()
        };
        assert!(!reach(&mut core, actor(1, 1), 7), "node 3 was not heard");
        hear(&mut core, 3, known(3, 1, at(6)), Told::All);
        assert!(!reach(&mut core, actor(1, 1), 8), "node 2 had more");
        assert!(reach(&mut core, actor(3, 1), 2));
    }

    /// What nobody in its own region had died with it (simulator, seed 2101547).
    #[test]
    fn a_fenced_replica_does_not_wait_for_what_a_claimant_elsewhere_has_of_its_own_region() {
        let mut core = core(at(5));
        let claimed = position(&[(actor(1, 1), 7), (actor(4, 1), 1)]);
        assert_eq!(hear(&mut core, 4, known(4, 1, claimed), Told::All), fence());
        for node in [2, 3] {
            hear(&mut core, node, known(node, 1, at(7)), Told::All);
        }
        let replica = core.replicas.get_mut(&PARTITION).unwrap();
        assert!(!replica.has_caught_up());
        replica.reach(crate::model::Wall(0), actor(1, 1), Reach::upto(7));
        assert!(replica.has_caught_up());
    }

    #[test]
    fn more_of_this_life_than_was_stamped_is_not_believed() {
        let mut core = core(at(5));
        let claimed = position(&[(ME, 3), (actor(3, 1), 9)]);
        let (changes, reports) = hear(&mut core, 2, known(2, 1, claimed.clone()), Told::All);
        assert_eq!(changes, vec![]);
        assert_eq!(reports, vec![Report::Impossible(PARTITION, NodeId(2))]);
        assert_eq!(replica(&core).other(NodeId(2)), None);
        let again = hear(&mut core, 2, known(2, 1, claimed), Told::All);
        assert_eq!(again, (vec![], vec![]));
        assert!(replica(&core).is_serving);
    }

    #[test]
    fn a_full_heartbeat_passes_on_moments_and_never_what_was_pieced_together() {
        let mut core = core(at(9));
        hear(&mut core, 3, known(3, 1, at(4)), Told::All);
        hear(&mut core, 3, known(3, 1, at(8)), Told::Changes);
        let mut book = Book::default();
        let told = |core: &Core, book: &mut Book, hearsay| {
            let all = known_of_third(super::known(core, book, NodeId(2), hearsay));
            all.map(|known| known.position)
        };
        assert_eq!(told(&core, &mut book, Hearsay::Snapshots), Some(at(4)));
        assert_eq!(told(&core, &mut book, Hearsay::News), Some(at(8)));
        assert_eq!(told(&core, &mut book, Hearsay::None), None);
    }

    fn known_of_third(all: Vec<Known>) -> Option<Known> {
        all.into_iter().find(|known| known.node == NodeId(3))
    }

    #[test]
    fn a_change_that_is_retired_is_told_once() {
        let mut core = core(at(9));
        let mut book = Book::default();
        let count =
            |core: &Core, book: &mut Book| super::known(core, book, NodeId(2), Hearsay::None).len();
        assert_eq!(count(&core, &mut book), 1);
        assert_eq!(count(&core, &mut book), 0);
        let replica = core.replicas.get_mut(&PARTITION).unwrap();
        replica.retire(NodeId(1), Incarnation(1));
        assert_eq!(count(&core, &mut book), 1);
        assert_eq!(count(&core, &mut book), 0);
    }
}
