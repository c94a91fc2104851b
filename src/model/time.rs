//! Three kinds of time, never mixed: the loop's monotonic time, the wall clock, and HLC timestamps.

use std::fmt;

use serde::{Deserialize, Serialize};

pub use std::time::Duration;

/// Monotonic time in microseconds since some start; for deadlines and timers only.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Time(pub u64);

impl Time {
    /// This time and a span later; saturates.
    pub fn after(self, span: Duration) -> Self {
        Self(
            self.0
                .saturating_add(u64::try_from(span.as_micros()).unwrap_or(u64::MAX)),
        )
    }

    /// How long ago `earlier` was; zero if it is not earlier.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

/// The wall clock: microseconds since 1970. It may jump; only `hlc` and lag reports read it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
pub struct Wall(pub u64);

/// A hybrid logical timestamp (Kulkarni et al., "Logical Physical Clocks", 2014).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
pub struct Timestamp {
    /// Physical part: microseconds since 1970.
    pub micros: u64,
    /// Logical part: tells apart what one microsecond holds.
    pub logical: u32,
}

impl Timestamp {
    /// Before every write.
    pub const ZERO: Self = Self {
        micros: 0,
        logical: 0,
    };

    /// The greatest timestamp of a microsecond: a bound in time, which no row has.
    pub fn bound(micros: u64) -> Self {
        Self {
            micros,
            logical: u32::MAX,
        }
    }

    /// Whether it is such a bound.
    pub fn is_bound(self) -> bool {
        self.logical == u32::MAX
    }

    /// The least timestamp above this one.
    #[must_use]
    pub fn next(self) -> Self {
        match self.logical.checked_add(1) {
            Some(logical) => Self {
                micros: self.micros,
                logical,
            },
            None => Self {
                micros: self.micros.saturating_add(1),
                logical: 0,
            },
        }
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.micros, self.logical)
    }
}
