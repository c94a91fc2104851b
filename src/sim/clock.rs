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
    strobe_micros: i64,
}

/// Between two jumps of a clock that strobes, in microseconds.
const STROBE_EVERY: u64 = 7_919;

impl Clock {
    /// A clock that is off by `skew_micros` now and gains `drift_ppm` microseconds a second.
    pub(crate) fn new(now: u64, skew_micros: i64, drift_ppm: i64) -> Self {
        Self {
            skew_micros,
            drift_ppm,
            set_at: now,
            strobe_micros: 0,
        }
    }

    /// A clock that is now so much ahead, now so much behind.
    pub(crate) fn strobing(now: u64, micros: i64) -> Self {
        Self {
            strobe_micros: micros,
            set_at: now,
            ..Self::default()
        }
    }

    /// A clock that shows what it shows now, for ever.
    pub(crate) fn frozen(&self, now: u64) -> Self {
        let shown = self.wall(now).0;
        let ahead = i64::try_from(shown).unwrap_or(i64::MAX)
            - i64::try_from(EPOCH_MICROS + now).unwrap_or(i64::MAX);
        Self::new(now, ahead, -1_000_000)
    }

    /// What the clock shows at true time `now`.
    pub(crate) fn wall(&self, now: u64) -> Wall {
        let elapsed = i64::try_from(now.saturating_sub(self.set_at)).unwrap_or(i64::MAX);
        let drifted = elapsed.saturating_mul(self.drift_ppm) / 1_000_000;
        let strobe = if (now / STROBE_EVERY).is_multiple_of(2) {
            self.strobe_micros
        } else {
            -self.strobe_micros
        };
        let off = self.skew_micros.saturating_add(drifted) + strobe;
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

    #[test]
    fn a_clock_may_strobe_or_stand_still() {
        let clock = Clock::strobing(0, 100);
        assert_eq!(clock.wall(0), Wall(EPOCH_MICROS + 100));
        assert_eq!(
            clock.wall(STROBE_EVERY),
            Wall(EPOCH_MICROS + STROBE_EVERY - 100)
        );
        let frozen = Clock::new(0, 50, 0).frozen(1_000);
        assert_eq!(frozen.wall(9_000), Wall(EPOCH_MICROS + 1_050));
    }
}
