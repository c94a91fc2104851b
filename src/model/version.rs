//! One version of a value, and the stamp of a write.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::planted::{Guard, is_left_out};
use super::{Dot, Session, Timestamp, Wall};

/// Which write, and when: the order in which the last writer wins.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Stamp {
    /// When, by the coordinator's HLC; above everything the coordinator had seen for the row.
    pub timestamp: Timestamp,
    /// Which change made it.
    pub dot: Dot,
}

/// One version of a register. Without a value it is a tombstone.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Version {
    /// When, by the coordinator's HLC; above everything the coordinator had seen for the row.
    pub timestamp: Timestamp,
    /// Which change made it.
    pub dot: Dot,
    /// The greatest timestamp that the coordinator knew of the row before; zero if none. A version that lost to
    /// this one and is above it had not been seen: the two were concurrent.
    pub replaced: Timestamp,
    /// From this time on there is no value.
    pub expires: Option<Wall>,
    /// What the session had seen that wrote it; whoever reads it has seen that too.
    pub after: Option<Box<Session>>,
    /// The value, or nothing if this is a delete, or has expired at the partition's cut.
    pub value: Option<Bytes>,
}

impl Version {
    /// A version without wishes, by a writer who knew of none before.
    pub fn new(stamp: Stamp, value: Option<Bytes>) -> Self {
        Self {
            timestamp: stamp.timestamp,
            dot: stamp.dot,
            replaced: Timestamp::ZERO,
            expires: None,
            after: None,
            value,
        }
    }

    /// Its stamp.
    pub fn stamp(&self) -> Stamp {
        Stamp {
            timestamp: self.timestamp,
            dot: self.dot,
        }
    }

    /// Whether there is a value at this time.
    pub fn is_live(&self, now: Wall) -> bool {
        let is_in_time = self.expires.is_none_or(|at| at > now);
        self.value.is_some() && (is_in_time || is_left_out(Guard::ReadLive))
    }

    /// Whether this version and a greater one were written without knowledge of each other.
    pub fn is_concurrent_with(&self, greater: &Self) -> bool {
        self.timestamp > greater.replaced
    }

    /// Drops the value if it has expired at a cut that all replicas agree on.
    pub(super) fn expire(&mut self, cut: Wall) {
        if self.expires.is_some_and(|at| at <= cut) {
            self.value = None;
            self.after = None;
        }
    }

    pub(super) fn size(&self) -> usize {
        self.value.as_ref().map_or(0, Bytes::len)
            + self.after.as_ref().map_or(0, |after| after.size())
            + 48
    }
}
