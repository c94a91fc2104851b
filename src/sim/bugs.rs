//! Bugs planted in the harness: what passes between machine, door and network is spoilt on its way, as if a rule
//! of theirs had been left out. They prove that the checkers and scenarios find what they are for.
//!
//! Invariant: without a bug nothing is touched.

use crate::model::{Change, Context, WriteOp};
use crate::protocol::Message;

/// A bug planted in the harness.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bug {
    /// The disk reports changes as durable at once and syncs later.
    AckBeforeSync,
    /// After a crash a node goes on with its old incarnation.
    ReuseDot,
    /// Now and then a node collects every tombstone it has, whoever else lacks it.
    DropTombstonesEarly,
    /// The door never learns what a writer had seen: each put stands beside all others.
    ForgetContexts,
    /// The door takes everything of the actors that a writer had seen for seen.
    AssumeContexts,
    /// The door never learns the operation ids of increments.
    ForgetOperationIds,
    /// A node with an old copy of its disk goes on serving.
    ServeOldCopy,
    /// Acknowledgements tell of what was applied as if everything before it were there too.
    AckIncomplete,
    /// Acknowledgements do not say that something newer was there.
    HideNewer,
    /// Rows are stored without the time of their expiry.
    ForgetExpiry,
    /// Watermarks are ahead of what was sent.
    MarkAhead,
    /// What is to be removed from sets and maps is kept.
    IgnoreRemovals,
    /// A guard inside a room is left out.
    #[cfg(test)]
    #[expect(
        private_interfaces,
        reason = "it is planted by this crate's tests alone"
    )]
    Without(crate::model::planted::Guard),
}

/// How far watermarks run ahead with [`Bug::MarkAhead`].
const AHEAD_MICROS: u64 = 3_000_000;

impl Bug {
    /// The guard that is left out.
    #[cfg(test)]
    pub(crate) fn guard(self) -> Option<crate::model::planted::Guard> {
        if let Self::Without(guard) = self {
            Some(guard)
        } else {
            None
        }
    }

    /// Spoils a change before the door sees it; false if it gets lost.
    pub(crate) fn spoil_change(self, change: &mut Change) -> bool {
        if let Change::Write(write) = change {
            if self == Self::ForgetExpiry {
                write.expires = None;
            }
            self.spoil_op(&mut write.op);
        }
        let is_fence = matches!(change, Change::Fence { .. });
        !(self == Self::ServeOldCopy && is_fence)
    }

    fn spoil_op(self, op: &mut WriteOp) {
        if let WriteOp::PutSibling { seen, .. } = op
            && self == Self::ForgetContexts
        {
            *seen = None;
        }
        if let WriteOp::PutSibling { seen, .. } | WriteOp::DeleteSiblings { seen } = op
            && self == Self::AssumeContexts
        {
            seen.iter_mut().for_each(assume_all);
        }
        if let WriteOp::Add { id, .. } | WriteOp::Fields { id, .. } = op
            && self == Self::ForgetOperationIds
        {
            *id = None;
        }
        if let WriteOp::Members { remove, .. } | WriteOp::Fields { remove, .. } = op
            && self == Self::IgnoreRemovals
        {
            remove.clear();
        }
    }

    /// Spoils a message before it is sent.
    pub(crate) fn spoil_message(self, message: &mut Message) {
        if let Message::Acks(acks) = message {
            for ack in acks {
                if self == Self::AckIncomplete {
                    for (_, _, complete) in &mut ack.reached {
                        *complete = (*complete).max(ack.applied);
                    }
                }
                if self == Self::HideNewer {
                    ack.newer.clear();
                }
            }
        } else if let Message::Heartbeat(heartbeat) = message
            && self == Self::MarkAhead
        {
            for mark in heartbeat.marks.iter_mut().filter(|mark| mark.micros != 0) {
                mark.micros += AHEAD_MICROS;
            }
        }
    }
}

/// All that the actors in it have done and will do.
fn assume_all(seen: &mut Context) {
    for n in seen.seen.values_mut() {
        *n = u64::MAX;
    }
}
