//! A node's wall clock: true time plus a skew that faults change, plus a slow drift.
//!
//! It knows nothing of who reads it. Monotonic time is not here: nodes take it from the world.

use crate::model::Wall;

/// Where true time starts.
pub(crate) use crate::history::EPOCH_MICROS;

/// A wall clock.
#[derive(Clone, Debug, Default)]
pub(crate) struct Clock {
    skew_micros: i64,
    drift_ppm: i64,
    set_at: u64,
}

impl Clock {
    /// A clock that is off by `skew_micros` now and gains `drift_ppm` microseconds a second.
    pub(crate) fn new(now: u64, skew_micros: i64, drift_ppm: i64) -> Self {
        Self {
            skew_micros,
            drift_ppm,
            set_at: now,
        }
    }

    /// What the clock shows at true time `now`.
    pub(crate) fn wall(&self, now: u64) -> Wall {
        let elapsed = i64::try_from(now.saturating_sub(self.set_at)).unwrap_or(i64::MAX);
        let drifted = elapsed.saturating_mul(self.drift_ppm) / 1_000_000;
        let off = self.skew_micros.saturating_add(drifted);
        Wall(EPOCH_MICROS.saturating_add(now).saturating_add_signed(off))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_shows_its_skew_and_drift() {
        let clock = Clock::new(1_000_000, -300, 100);
        assert_eq!(clock.wall(1_000_000), Wall(EPOCH_MICROS + 999_700));
        assert_eq!(clock.wall(3_000_000), Wall(EPOCH_MICROS + 2_999_900));
    }
}
