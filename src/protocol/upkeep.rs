//! What a replica does by itself, now and then: begin to serve, trim logs, collect tombstones.

use std::collections::BTreeMap;

use crate::model::{Actor, Change, PartitionId, Position};

use super::core::{Core, Purpose};
use super::replica::{Collecting, Replica};
use super::step::Output;

/// Rounds of upkeep after which tombstones are looked for though no floor has risen.
const COLLECT_ROUNDS: u32 = 30;

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
            replica.is_about_to_serve = true;
        }
        core.change(
            outputs,
            Purpose::Serve(partition),
            Change::Serve { partition },
        );
    }
}

/// Drops what every replica of every region has: log entries, and tombstones whose delete all have seen.
pub(super) fn trim(core: &mut Core, outputs: &mut Vec<Output>) {
    let me = core.me;
    let mut changes = Vec::new();
    for (partition, replica) in &mut core.replicas {
        let floor = replica.floor(me);
        for (actor, to) in &floor {
            if replica.trimmed.get(actor).copied().unwrap_or(0) < *to {
                changes.push(Change::Trim {
                    partition: *partition,
                    actor: *actor,
                    to: *to,
                });
            }
        }
        changes.extend(collect(replica, floor));
    }
    for change in changes {
        core.change(outputs, Purpose::Upkeep, change);
    }
}

/// Collection in two steps. That every replica has a delete is not enough: one of them may still lack an
/// older write of that row by another actor, which would then look new. But some replica had that write
/// before the delete was stamped. So when the floor has risen, we note all that any replica is known to
/// have; when every replica has that too, nothing older than those deletes can arrive any more.
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
            // What nobody has any more (its only replica lost its disk) cannot arrive either.
            let is_reached = collecting.target.reaches.iter().all(|(actor, reach)| {
                let wanted = reach.complete.min(known.reach(*actor).complete);
                floor.get(actor).copied().unwrap_or(0) >= wanted
            });
            if !is_reached {
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

/// All that any replica is known to have.
fn all_known(replica: &Replica) -> Position {
    let mut known = replica.position.clone();
    for (_, other) in replica.others() {
        known.join(&other.position);
    }
    known
}
