//! Sessions: what a client has written and read, as far as another region must know it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{NodeId, RegionId, Timestamp, Wall};

/// Of one region's changes, which a client depends on: all that one node stamped up to a time, and all that the
/// others did up to an earlier one. Two times, since the last write of a session comes from one node, and a
/// reader elsewhere need not wait until the others, perhaps idle, have said that they wrote nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Seen {
    /// The node of the latest change.
    pub node: NodeId,
    /// Its time, in microseconds since 1970.
    pub micros: u64,
    /// The time of the latest change by any other node of the region; 0 if there is none.
    pub rest: u64,
}

/// What a client has seen, by region; a version vector over regions, by time (as in COPS and in Terry et al.,
/// "Session Guarantees for Weakly Consistent Replicated Data", 1994).
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Session {
    /// By the region that coordinated the changes.
    pub regions: BTreeMap<RegionId, Seen>,
}

impl Session {
    /// Adds a change.
    pub fn observe(&mut self, region: RegionId, node: NodeId, timestamp: Timestamp) {
        self.see(region, node, timestamp.micros);
    }

    /// Adds all that another session has seen.
    pub fn join(&mut self, other: &Self) {
        for (region, seen) in &other.regions {
            self.see(*region, seen.node, seen.micros);
            if let Some(mine) = self.regions.get_mut(region) {
                mine.rest = mine.rest.max(seen.rest);
            }
        }
    }

    /// Up to which time a reader must have the changes of this node of this region; 0 if none are needed.
    pub fn need(&self, region: RegionId, node: NodeId) -> u64 {
        self.regions.get(&region).map_or(0, |seen| {
            if seen.node == node {
                seen.micros.max(seen.rest)
            } else {
                seen.rest
            }
        })
    }

    /// The time of the latest change in it: a write of the session must be stamped above it.
    pub fn latest(&self) -> u64 {
        let times = self.regions.values().map(|seen| seen.micros.max(seen.rest));
        times.max().unwrap_or(0)
    }

    /// Whether nothing was seen.
    pub fn is_empty(&self) -> bool {
        self.regions.is_empty()
    }

    /// Bytes it takes, roughly.
    pub fn size(&self) -> usize {
        self.regions.len() * 24
    }

    fn see(&mut self, region: RegionId, node: NodeId, micros: u64) {
        let fresh = Seen {
            node,
            micros,
            rest: 0,
        };
        let mine = self.regions.entry(region).or_insert(fresh);
        if mine.node == node {
            mine.micros = mine.micros.max(micros);
        } else if micros > mine.micros {
            mine.rest = mine.rest.max(mine.micros);
            mine.node = node;
            mine.micros = micros;
        } else {
            mine.rest = mine.rest.max(micros);
        }
    }
}

/// What to do when this region has not got what a read asks for by the time it may wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum Behind {
    /// Ask a region that has it.
    #[default]
    Forward,
    /// Answer "not yet".
    Refuse,
}

/// What must be here before a read is answered. Empty by default: whatever is here will do.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Gate {
    /// What the client has seen; a write is stamped above it.
    pub session: Session,
    /// Everything that was written anywhere up to this time.
    pub fresh_as_of: Option<Wall>,
    /// What to do if it is not here in time.
    pub behind: Behind,
    /// How long to wait for it, in microseconds.
    pub wait_micros: u64,
}

impl Gate {
    /// Whether it asks for nothing.
    pub fn is_open(&self) -> bool {
        self.session.is_empty() && self.fresh_as_of.is_none()
    }
}
