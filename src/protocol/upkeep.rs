//! What a replica does by itself, now and then: begin to serve, trim logs, collect tombstones, retire lives that are
//! over, let rows expire.
//!
//! # Why a tombstone may go
//!
//! A *position* here is a replica's `complete` marks. The door applies changes one after another, and every change is
//! either in the state that a position describes or was decided after it; so whatever a replica coordinates after
//! a moment, it coordinates knowing all that its position of that moment covers. We call such a position of one
//! moment a *snapshot*: it is told whole, in full heartbeats, by the replica itself or passed on as it was told. What
//! acknowledgements and changed marks add to it later is true for each log by itself, but not a moment: it may name a
//! delete and not the older write, of another log, that its coordinator did not know of. So those words count for
//! quorums, stability and trimming, and never here.
//!
//! Let S(r) be the last snapshot heard of each replica r of every region, our own position among them. The floor F
//! is their minimum. In the moment that F is taken, T is the union of all S(r).
//!
//! *A change d that was, or will be, coordinated without knowledge of all of F is in T.* Its coordinator r had S(r), which
//! covers F. If d was decided after S(r), r knew F. So d was decided before, and is in S(r), and so in T.
//!
//! When F has risen so far that it includes T, every such d is on every replica. What can still arrive was made in
//! knowledge of F: it is stamped above the deletes in F, or has them in its context. So the tombstones in F
//! hide nothing any more, and go. With one step, F alone, a d could still be on its way to somebody; it would look new there.
//!
//! A replica that begins a new life is unknown until its first full word, and the floor falls to nothing meanwhile.
//! What only a disk that is lost held cannot arrive either, so T is cut to what somebody still has.

use std::collections::BTreeMap;

use crate::model::{Actor, Change, Duration, PartitionId, Position, Wall};

use crate::model::planted::{Guard, is_left_out};

use super::core::{Core, Counter, Purpose};
use super::replica::{Collecting, Replica};
use super::retire;
use super::step::{Now, Output, Room};
use super::timers::Timer;

/// Rounds of upkeep after which tombstones are looked for though no floor has risen.
const COLLECT_ROUNDS: u32 = 30;
/// Between pieces of sweeps, of whichever partition: so writes have the disk in between.
const SWEEP_EVERY: Duration = Duration::from_millis(50);

/// Lets partitions serve that have caught up with their region.
pub(super) fn serve(core: &mut Core, outputs: &mut Vec<Output>) {
    let ready: Vec<PartitionId> = core
        .replicas
        .values()
        .filter(|replica| {
            !replica.is_serving && !replica.is_about_to_serve && replica.has_caught_up()
        })
        .map(|replica| replica.partition)
        .collect();
    for partition in ready {
        if let Some(replica) = core.replicas.get_mut(&partition) {
            replica.prepare_to_serve();
        }
        core.change(
            outputs,
            Purpose::Serve(partition),
            Change::Serve { partition },
        );
    }
}

/// Does all that is due, each round. What there is nothing to do for costs nothing at the door.
pub(super) fn round(now: Now, core: &mut Core, outputs: &mut Vec<Output>) {
    let me = core.actor;
    let mut changes = Vec::new();
    let mut lives = Vec::new();
    for (partition, replica) in &mut core.replicas {
        changes.extend(trims(me, replica));
        let floor = replica.collectable(me.node);
        changes.extend(collect(replica, floor));
        changes.push(Change::Sweep {
            partition: *partition,
        });
        // A disk that is full is left alone; it is remembered when there is room.
        let news = if core.room == Room::Full {
            Vec::new()
        } else {
            replica.remember_others()
        };
        let news = news.into_iter();
        changes.extend(news.map(|(node, told)| Change::Remember {
            partition: *partition,
            node,
            told,
        }));
        let over = retire::look(me, replica).into_iter();
        lives.extend(over.map(|(node, upto)| (*partition, node, upto)));
    }
    changes.extend(expiries(now, core));
    for change in changes {
        core.change(outputs, Purpose::Upkeep, change);
    }
    for (partition, node, upto) in lives {
        core.count(Counter::Retired, 1);
        let change = Change::Retire {
            partition,
            node,
            upto,
        };
        core.change(outputs, Purpose::Retire(partition, node, upto), change);
    }
}

/// A piece of a sweep is done, and there is more.
pub(super) fn on_swept(now: Now, core: &mut Core, partition: PartitionId) {
    if core.sweeping.contains(&partition) {
        return;
    }
    if core.sweeping.is_empty() {
        core.timers.set(now.time.after(SWEEP_EVERY), Timer::Sweep);
    }
    core.sweeping.push_back(partition);
}

/// Goes on with the sweeps of the partition whose turn it is.
pub(super) fn sweep(now: Now, core: &mut Core, outputs: &mut Vec<Output>) {
    let Some(partition) = core.sweeping.pop_front() else {
        return;
    };
    if !core.sweeping.is_empty() {
        core.timers.set(now.time.after(SWEEP_EVERY), Timer::Sweep);
    }
    core.change(outputs, Purpose::Upkeep, Change::Sweep { partition });
}

/// Drops log entries that every replica of every region has.
fn trims(me: Actor, replica: &Replica) -> Vec<Change> {
    let floor = replica.trimmable(me.node).into_iter();
    floor
        .filter(|(actor, to)| replica.trimmed.get(actor).copied().unwrap_or(0) < *to)
        .map(|(actor, to)| Change::Trim {
            partition: replica.partition,
            actor,
            to,
        })
        .collect()
}

/// Moves the cut of expiry on, where it falls to this node: one replica does it in normal operation, and any number
/// of them may. Behind the clock by so much that what has expired has done so by every clock; and behind the clock in
/// the middle of all, for values that are taken away by a clock that is far ahead do not come back.
fn expiries(now: Now, core: &Core) -> Vec<Change> {
    let behind: Duration = core.limits.max_offset * 2;
    let micros = u64::try_from(behind.as_micros()).unwrap_or(u64::MAX);
    let ahead = core.peers.middle_clock().min(0).unsigned_abs();
    let cut = Wall(now.wall.0.saturating_sub(micros).saturating_sub(ahead));
    let first = |replica: &Replica| {
        let mut nodes = replica.nodes();
        nodes.find(|node| core.is_serving(replica, *node))
    };
    let mine = core.replicas.values();
    mine.filter(|replica| first(replica) == Some(core.me))
        .map(|replica| Change::Expire {
            partition: replica.partition,
            now: cut,
        })
        .collect()
}

/// Collection in two steps, as above.
fn collect(replica: &mut Replica, floor: BTreeMap<Actor, u64>) -> Option<Change> {
    let has_risen = floor
        .iter()
        .any(|(actor, n)| replica.collected.get(actor).copied().unwrap_or(0) < *n);
    // A repaired row may bring a tombstone below a floor that was collected before.
    replica.idle_rounds = replica.idle_rounds.saturating_add(1);
    let is_due = has_risen || (replica.idle_rounds >= COLLECT_ROUNDS && !floor.is_empty());
    let known = all_known(replica);
    match replica.collecting.take() {
        Some(collecting) => {
            // What nobody has any more (its only replica lost its disk) cannot arrive either; nor what others have
            // retired, if this replica has noted that it has all of it.
            let is_reached = collecting.target.reaches.iter().all(|(actor, reach)| {
                let wanted = reach.complete.min(known.reach(*actor).complete);
                replica.position.has_retired(*actor)
                    || retire::is_noted(replica, &known, *actor)
                    || floor.get(actor).copied().unwrap_or(0) >= wanted
            });
            if !is_reached && !is_left_out(Guard::SecondStep) {
                replica.collecting = Some(collecting);
                return None;
            }
            replica.idle_rounds = 0;
            replica.collected.clone_from(&collecting.floor);
            Some(Change::Collect {
                partition: replica.partition,
                floor: collecting.floor,
            })
        }
        None if is_due => {
            replica.collecting = Some(Collecting {
                floor,
                target: known,
            });
            None
        }
        None => None,
    }
}

/// The union of all snapshots.
fn all_known(replica: &Replica) -> Position {
    let mut known = replica.position.clone();
    for (_, other) in replica.others() {
        known.join(&other.snapshot);
    }
    known
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::NodeId;
    use crate::protocol::other::Told;
    use crate::protocol::samples::{ME, PARTITION, actor, core, known, now, position, replica};

    fn at(deletes: u64, writes: u64) -> Position {
        position(&[(actor(1, 1), deletes), (actor(2, 1), writes)])
    }

    fn look(replica: &mut Replica) -> Option<Change> {
        let floor = replica.collectable(ME.node);
        collect(replica, floor)
    }

    #[test]
    fn a_delete_is_collected_when_all_have_what_anybody_had_when_all_had_it() {
        let mut replica = replica(at(5, 0));
        replica.on_first_hand(&known(2, 1, at(5, 9)), Told::All);
        replica.on_first_hand(&known(3, 1, at(5, 9)), Told::All);
        assert_eq!(look(&mut replica), None);
        assert_eq!(look(&mut replica), None, "we lack an older write");
        replica.reach(Wall(0), actor(2, 1), crate::model::Reach::upto(9));
        let floor = BTreeMap::from([(actor(1, 1), 5)]);
        let partition = PARTITION;
        assert_eq!(
            look(&mut replica),
            Some(Change::Collect { partition, floor })
        );
    }

    #[test]
    fn words_that_are_no_moments_collect_nothing() {
        let mut replica = replica(at(5, 9));
        replica.on_first_hand(&known(2, 1, at(5, 9)), Told::All);
        replica.on_first_hand(&known(3, 1, at(0, 0)), Told::All);
        replica.on_first_hand(&known(3, 1, at(5, 9)), Told::Changes);
        for _ in 0..2 * COLLECT_ROUNDS {
            assert_eq!(look(&mut replica), None);
        }
    }

    /// A life whose only disk was lost while its change was waited for, and which the others have retired since (simulator,
    /// seed 2000063): the last collection must not wait for it, for retiring it waits for that.
    #[test]
    fn a_life_that_others_have_retired_and_this_replica_has_noted_is_not_waited_for() {
        let (gone, next) = (actor(2, 1), actor(2, 3));
        let here = position(&[(actor(1, 1), 5), (next, 1)]);
        let mut replica = replica(here.clone());
        replica.on_first_hand(
            &known(2, 1, position(&[(actor(1, 1), 5), (gone, 9)])),
            Told::All,
        );
        replica.on_first_hand(&known(3, 1, here.clone()), Told::All);
        assert_eq!(look(&mut replica), None);
        replica.on_first_hand(&known(2, 3, here.clone()), Told::All);
        retire::look(ME, &mut replica);
        let mut retired = here;
        retired.retire(NodeId(2), crate::model::Incarnation(2));
        replica.on_first_hand(&known(3, 1, retired), Told::All);
        assert!(look(&mut replica).is_some());
    }

    #[test]
    fn the_first_live_replica_of_the_first_region_lets_rows_expire() {
        let mut core = core(at(1, 1));
        let cut = Wall(now(100).wall.0 - 1_000_000);
        let expire = Change::Expire {
            partition: PARTITION,
            now: cut,
        };
        assert_eq!(expiries(now(100), &core), vec![expire]);
        if let Some(replica) = core.replicas.get_mut(&PARTITION) {
            replica.is_serving = false;
        }
        assert_eq!(expiries(now(100), &core), vec![]);
        core.me = NodeId(4);
        assert_eq!(expiries(now(100), &core), vec![]);
    }
}
