//! Checkers: one property a file. Some look on while the world runs; some read the history, and what every
//! replica holds, when it has come to rest.
//!
//! They know the faces of machine and store, and nothing of how either works.

mod ahead;
mod bounds;
mod conflict;
mod converge;
mod deletes;
mod prefix;
mod quiet;
mod stable;
mod unique;

use std::collections::BTreeMap;

use crate::model::{
    Change, Effect, PartitionId, PartitionState, Position, Reach, RegionId, Row, RowKey, Ticket,
    Wall,
};
use crate::protocol::{Message, View};

use super::cluster::{Cluster, NodeIndex};
use super::history::Record;
#[cfg(test)]
use super::history::check::samples;
use super::history::check::{self, Tombstones};

#[cfg(test)]
pub(crate) use converge::is_same;

/// What one replica holds of one partition.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Dump {
    /// The node.
    pub(crate) node: NodeIndex,
    /// Its region.
    pub(crate) region: RegionId,
    /// The partition.
    pub(crate) partition: PartitionId,
    /// All rows, tombstones included.
    pub(crate) rows: BTreeMap<RowKey, Row>,
    /// The root of the digest.
    pub(crate) root: u128,
    /// How far every log is applied.
    pub(crate) position: Position,
}

/// The checkers that look on.
#[derive(Debug)]
pub(crate) struct Checks {
    found: Option<(&'static str, String)>,
    ahead: ahead::Ahead,
    bounds: bounds::Bounds,
    prefix: prefix::Prefix,
    quiet: quiet::Quiet,
    stable: stable::Stable,
    unique: unique::Unique,
}

impl Checks {
    /// Checkers for a cluster.
    pub(crate) fn new(cluster: &Cluster) -> Self {
        Self {
            found: None,
            ahead: ahead::Ahead::new(&cluster.topology.limits),
            bounds: bounds::Bounds::new(&cluster.topology.limits),
            prefix: prefix::Prefix::default(),
            quiet: quiet::Quiet::default(),
            stable: stable::Stable::new(cluster),
            unique: unique::Unique::new(cluster.topology.partitions),
        }
    }

    /// What was found since the last call.
    pub(crate) fn take_found(&mut self) -> Option<(&'static str, String)> {
        self.found.take()
    }

    fn hold(&mut self, check: &'static str, result: Result<(), String>) {
        if let Err(words) = result {
            self.found.get_or_insert((check, words));
        }
    }

    /// A node opened its store.
    pub(crate) fn on_opened(&mut self, node: NodeIndex, states: &[PartitionState]) {
        self.ahead.opened(node);
        for state in states {
            let result = self.prefix.opened(node, state);
            self.hold("prefix", result);
            self.stable.durable(node, state.partition, &state.position);
        }
    }

    /// A node's disk was replaced.
    pub(crate) fn on_wiped(&mut self, node: NodeIndex) {
        self.prefix.wiped(node);
    }

    /// A change was given to a node's store.
    pub(crate) fn on_given(&mut self, node: NodeIndex, ticket: Ticket, change: &Change) {
        self.ahead.given(node, ticket, change);
    }

    /// A node's store decided changes, by this clock.
    pub(crate) fn on_staged(&mut self, node: NodeIndex, wall: Wall, staged: &[(Ticket, Effect)]) {
        for decided in staged {
            let result = self.ahead.staged(node, wall, decided);
            self.hold("ahead", result);
            let (_, effect) = decided;
            if let Effect::Appended { written, .. } | Effect::Repaired { written, .. } = effect {
                self.hold("conflict", conflict::check(written));
            }
            if let Effect::Written { partition, items } = effect {
                let mut dots = BTreeMap::new();
                for item in items {
                    let result = self.unique.row(*partition, &item.key, &item.row);
                    self.hold("unique", result);
                    if let Some(other) = dots.insert(item.n, &item.key) {
                        let words = format!("{other:?} and {:?} have one dot", item.key);
                        self.hold("unique", Err(words));
                    }
                }
            }
        }
    }

    /// A node synced; its positions are these.
    pub(crate) fn on_synced(&mut self, node: NodeIndex, positions: &[(PartitionId, Position)]) {
        for (partition, position) in positions {
            let result = self.prefix.synced(node, *partition, position);
            self.hold("prefix", result);
            self.stable.durable(node, *partition, position);
        }
    }

    /// A node believes that it has synced this; its disk may lie.
    pub(crate) fn on_believed(&mut self, node: NodeIndex, positions: &[(PartitionId, Position)]) {
        for (partition, position) in positions {
            self.stable.durable(node, *partition, position);
        }
    }

    /// A node sends a message.
    pub(crate) fn on_sent(
        &mut self,
        now: u64,
        (from, to): (NodeIndex, NodeIndex),
        message: &Message,
    ) {
        let result = self.unique.message(message);
        self.hold("unique", result);
        let result = self.stable.sent((from, to), message);
        self.hold("stable", result);
        self.quiet.sent(now, message);
    }

    /// So many bytes of log are on their way between two nodes.
    pub(crate) fn on_in_flight(
        &mut self,
        way: (NodeIndex, NodeIndex),
        bytes: usize,
        logs: impl FnOnce() -> usize,
    ) {
        let result = self.bounds.in_flight(way, bytes, logs);
        self.hold("bounds", result);
    }

    /// What a node sees, and how many changes wait for its disk.
    pub(crate) fn on_looked(&mut self, node: NodeIndex, view: &View, queued: usize) {
        let result = self.bounds.looked(node, view, queued);
        self.hold("bounds", result);
    }

    /// The greatest tombstone ever stamped for each row.
    pub(crate) fn tombstones(&self) -> Tombstones {
        self.unique.tombstones()
    }

    /// When data last went between nodes to catch up or to repair.
    pub(crate) fn last_traffic(&self) -> (u64, &'static str) {
        self.quiet.last()
    }

    /// The positions that a node last synced.
    pub(crate) fn positions_of(&self, node: NodeIndex) -> Vec<(PartitionId, Position)> {
        self.prefix.positions_of(node)
    }
}

/// Checks replicas that have come to rest.
pub(crate) fn at_rest(dumps: &[Dump]) -> Result<(), (&'static str, String)> {
    converge::check(dumps).map_err(|words| ("converge", words))?;
    deletes::check_collected(dumps).map_err(|words| ("deletes", words))
}

/// Checks what clients saw after everything was healed.
pub(crate) fn after_rest(
    records: &[Record],
    since: u64,
    listings: &[(RegionId, Vec<(RowKey, Row)>)],
    expected: &BTreeMap<RegionId, BTreeMap<RowKey, Row>>,
) -> Result<(), (&'static str, String)> {
    check::answers(records, since)?;
    converge::check_listings(listings, expected).map_err(|words| ("converge", words))
}

/// Where a partition's logs are not as complete as elsewhere: what holds collection up.
fn incomplete(dumps: &[Dump], partition: PartitionId) -> String {
    let replicas = || dumps.iter().filter(|dump| dump.partition == partition);
    let mut most = Position::default();
    for dump in replicas() {
        most.join(&dump.position);
    }
    let mut words = Vec::new();
    for (actor, best) in &most.reaches {
        for dump in replicas() {
            let reach = dump.position.reach(*actor);
            if reach.complete < best.complete {
                let (node, Reach { applied, complete }) = (dump.node, reach);
                let best = best.complete;
                words.push(format!("{actor} at n{node} {complete}/{applied} of {best}"));
            }
        }
    }
    words.join(", ")
}
