//! What a replica does by itself, now and then: begin to serve, trim logs, collect tombstones.

use std::collections::BTreeMap;

use crate::model::{Actor, Change, PartitionId};

use super::core::{Core, Purpose};
use super::machine::Output;
use super::replica::{Collecting, Replica};

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
    match replica.collecting.take() {
        Some(collecting) => {
            let is_reached = collecting
                .target
                .0
                .iter()
                .all(|(actor, reach)| floor.get(actor).copied().unwrap_or(0) >= reach.complete);
            if !is_reached {
                replica.collecting = Some(collecting);
                return None;
            }
            replica.collected.clone_from(&collecting.floor);
            Some(Change::Collect {
                partition: replica.partition,
                floor: collecting.floor,
            })
        }
        None if has_risen => {
            let mut target = replica.position.clone();
            for (_, other) in replica.others() {
                target.join(&other.position);
            }
            replica.collecting = Some(Collecting { floor, target });
            None
        }
        None => None,
    }
}
