//! Rows that say something of other rows: what was cleared, what has expired, what lost.

use serde::{Deserialize, Serialize};

use super::{Context, Stamp, Version, Wall};

/// How much of a collection was deleted as a whole: members and fields whose versions it covers are gone.
/// One row, however many they were.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Clear {
    /// The last clear in it.
    pub stamp: Stamp,
    /// All that the clears had observed, over the whole partition.
    pub cleared: Context,
}

/// The partition's cut of expiry: what expires up to here has no value any more, on every replica that has
/// this row. It travels by the log as any other row, so that replicas with the same changes agree.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Expiry {
    /// The last change of it.
    pub stamp: Stamp,
    /// Up to when, inclusive.
    pub upto: Wall,
}

/// A version that lost to one that was written without knowledge of it, kept for a time.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Conflict {
    /// The change that wrote this record.
    pub stamp: Stamp,
    /// The version that won.
    pub winner: Stamp,
    /// The one that lost; nothing when the record has expired.
    pub loser: Option<Version>,
    /// From when on the record is no longer there.
    pub expires: Wall,
}
