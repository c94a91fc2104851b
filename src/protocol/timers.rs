//! Deadlines of the machine, in one ordered set.

use std::collections::BTreeSet;

use crate::model::{NodeId, Time};

use super::sender::StreamId;

/// What is due.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Timer {
    /// A heartbeat to a peer.
    Heartbeat(NodeId),
    /// See who fell silent, choose sources anew, begin to serve.
    Sources,
    /// Trim logs, collect tombstones.
    Upkeep,
    /// Take away more of what clears cover.
    Sweep,
    /// Begin or go on with reconciliation.
    Reconcile,
    /// A stream has waited long enough for more.
    Stream(StreamId),
    /// A write's deadline.
    Write(u64),
    /// A read's deadline.
    Read(u64),
    /// A read asks the replicas that it has not asked yet.
    Hedge(u64),
    /// The deadline of a read of several rows.
    Select(u64),
    /// Such a read does.
    SelectHedge(u64),
    /// The deadline of a page of a listing.
    List(u64),
    /// A request has waited long enough for what it must have seen.
    Gate(u64),
    /// A wait for regions asks again, or ends.
    Wait(u64),
    /// The deadline of an operation passed on.
    Forward(u64),
}

/// The set.
#[derive(Debug, Default)]
pub(super) struct Timers(BTreeSet<(Time, Timer)>);

impl Timers {
    pub(super) fn set(&mut self, at: Time, timer: Timer) {
        self.0.insert((at, timer));
    }

    pub(super) fn clear(&mut self, at: Time, timer: Timer) {
        self.0.remove(&(at, timer));
    }

    pub(super) fn next(&self) -> Option<Time> {
        self.0.first().map(|(at, _)| *at)
    }

    pub(super) fn pop_due(&mut self, now: Time) -> Option<Timer> {
        let (at, timer) = *self.0.first()?;
        if at > now {
            return None;
        }
        self.0.pop_first();
        Some(timer)
    }
}
