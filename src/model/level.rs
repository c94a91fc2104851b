//! Consistency levels of requests.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// How many replicas, and where, a request waits for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub enum Level {
    /// Reads: the nearest replica. Writes: as `LocalQuorum`, for an acknowledged write is never weaker than P1.
    One,
    /// A quorum of the replicas in the region of the node that was asked. The default.
    LocalQuorum,
    /// A quorum in every region of the keyspace.
    EachQuorum,
    /// Every replica in every region of the keyspace.
    All,
    /// Writes only: one disk. It breaks P1, says so in its name, and is counted in the metrics.
    UnsafeOne,
}

impl Level {
    /// All levels, with their names in requests and topology files.
    pub const NAMES: [(&'static str, Self); 5] = [
        ("one", Self::One),
        ("local_quorum", Self::LocalQuorum),
        ("each_quorum", Self::EachQuorum),
        ("all", Self::All),
        ("unsafe-one", Self::UnsafeOne),
    ];
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::One => "one",
            Self::LocalQuorum => "local_quorum",
            Self::EachQuorum => "each_quorum",
            Self::All => "all",
            Self::UnsafeOne => "unsafe-one",
        })
    }
}

impl FromStr for Level {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::NAMES
            .iter()
            .find(|(name, _)| *name == text)
            .map(|(_, level)| *level)
            .ok_or_else(|| {
                format!("no level `{text}`: use one, local_quorum, each_quorum, all (or, for writes, unsafe-one)")
            })
    }
}
