//! This node's own log: entries that a change gave it, whether a client asked for them or they came of something
//! else (a version of ours that lost to another, a cut of expiry).
//!
//! It does not know why a change was made, nor who waits for it.

use crate::model::{Effect, LogItem, PartitionId, Reach};

use super::core::Core;
use super::recent::Piece;
use super::sender::Sender;
use super::step::Now;

/// Entries of our own log that came of a change, dense and in order; nothing if it gave none.
fn written<'a>(core: &Core, effect: &'a Effect) -> Option<(PartitionId, &'a [LogItem])> {
    match effect {
        Effect::Written { partition, items } => Some((*partition, items)),
        Effect::Appended {
            partition, written, ..
        } => Some((*partition, written)),
        Effect::Repaired { written, .. } => {
            let first = written.first()?;
            Some((core.partition(&first.key), written))
        }
        Effect::Denied(_)
        | Effect::Gap { .. }
        | Effect::Early { .. }
        | Effect::Trimmed { .. }
        | Effect::Swept { .. }
        | Effect::Done
        | Effect::Refused { .. } => None,
    }
}

/// A change is staged: keep what it added to our own log at hand, and wake its streams.
pub(super) fn on_staged(core: &mut Core, sender: &mut Sender, effect: &Effect) {
    if let Some((partition, items)) = written(core, effect) {
        log(core, sender, partition, items);
    }
}

/// A change is on disk, and so is what it added to our own log: the position says so in the same moment as it says
/// what the change itself brought, so that a position is always one that the disk had.
pub(super) fn on_durable(now: Now, core: &mut Core, sender: &mut Sender, effect: &Effect) {
    if let Effect::Repaired { lost, .. } = effect {
        core.count_lost(lost);
    }
    let Some((partition, [.., last])) = written(core, effect) else {
        return;
    };
    if let Some(replica) = core.replicas.get_mut(&partition) {
        replica.reach(now.wall, core.actor, Reach::upto(last.n));
    }
    sender.touch(partition, core.actor);
}

/// Our own log grew: keep the entries at hand and wake its streams.
pub(super) fn log(core: &mut Core, sender: &mut Sender, partition: PartitionId, items: &[LogItem]) {
    let (Some(first), Some(last)) = (items.first(), items.last()) else {
        return;
    };
    let Some(replica) = core.replicas.get_mut(&partition) else {
        return;
    };
    replica.stage(core.actor, Reach::upto(last.n));
    let piece = Piece {
        from: first.n - 1,
        to: last.n,
        items: items.to_vec(),
    };
    sender.recent.push(partition, core.actor, piece);
    sender.touch(partition, core.actor);
}
