//! The hybrid logical clock of a node: a physical part near the wall clock and a logical part that tells
//! apart what one microsecond holds.
//!
//! `HybridLogicalClock::update` is not monotonic: when the clock's physical part is ahead of both the
//! message and `now`, it resets the logical part to zero and time goes back. So it is called in one place
//! only, with the clock's own value as the message and a `now` that is not ahead of it: then it adds one
//! to the logical part and does nothing else.
//!
//! It reads no clock: the wall time is an argument.

use hybrid_logical_clock::HybridLogicalClock;

use crate::model::planted::{Guard, is_left_out};
use crate::model::{Duration, Timestamp, Wall};

/// A timestamp lies further ahead of the wall clock than is allowed; the clock did not move.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("timestamp {seen} is more than {} ms ahead of this node's clock", .max_offset.as_millis())]
pub struct Ahead {
    /// The timestamp.
    pub seen: Timestamp,
    /// What is allowed.
    pub max_offset: Duration,
}

/// The clock.
///
/// Invariant: it never goes back, and nothing that is seen moves it beyond wall time plus `max_offset`.
#[derive(Clone, Debug)]
pub struct Hlc {
    clock: HybridLogicalClock,
    max_offset: Duration,
}

impl Hlc {
    /// A clock that stands at `start`: a bound that was persisted before the last stop, or zero.
    pub fn new(start: Timestamp, max_offset: Duration) -> Self {
        Self {
            clock: HybridLogicalClock::new_with_both_physical_and_logical_clock_time(
                start.micros,
                start.logical,
            ),
            max_offset,
        }
    }

    /// Where the clock stands: nothing that it stamped or saw is above.
    pub fn reading(&self) -> Timestamp {
        Timestamp {
            micros: self.clock.physical,
            logical: self.clock.logical,
        }
    }

    /// A timestamp above every one that this clock has given or seen, and above `above`.
    ///
    /// `above` may lie anywhere (a row may have been stamped by a clock that was wrong): where it lies beyond
    /// wall time plus `max_offset` the timestamp follows it, but the clock does not. Nothing is above the
    /// greatest timestamp of all; the caller compares.
    pub fn stamp(&mut self, wall: Wall, above: Timestamp) -> Timestamp {
        let next = above.next();
        let is_bounded = next.micros <= self.limit(wall) && next > above;
        if is_bounded && above > self.reading() {
            self.set(above);
        }
        self.tick(wall);
        if is_bounded {
            self.reading()
        } else {
            self.reading().max(next)
        }
    }

    /// Raises the clock to a timestamp that came from elsewhere.
    ///
    /// # Errors
    /// The timestamp is more than `max_offset` ahead of `wall`; the clock stays.
    pub fn observe(&mut self, wall: Wall, seen: Timestamp) -> Result<(), Ahead> {
        self.check(wall, seen)?;
        if seen > self.reading() {
            self.set(seen);
        }
        Ok(())
    }

    /// Whether [`Hlc::observe`] would accept this timestamp.
    ///
    /// # Errors
    /// As there.
    pub fn check(&self, wall: Wall, seen: Timestamp) -> Result<(), Ahead> {
        if seen.micros > self.limit(wall) && !is_left_out(Guard::MaxOffset) {
            return Err(Ahead {
                seen,
                max_offset: self.max_offset,
            });
        }
        Ok(())
    }

    fn limit(&self, wall: Wall) -> u64 {
        let offset = u64::try_from(self.max_offset.as_micros()).unwrap_or(u64::MAX);
        wall.0.saturating_add(offset)
    }

    fn set(&mut self, to: Timestamp) {
        self.clock = HybridLogicalClock::new_with_both_physical_and_logical_clock_time(
            to.micros, to.logical,
        );
    }

    /// One step on: to the wall clock if that is ahead, else by one in the logical part.
    fn tick(&mut self, wall: Wall) {
        if wall.0 > self.clock.physical {
            self.clock = HybridLogicalClock::new(wall.0);
        } else if self.clock.logical == u32::MAX {
            self.clock = HybridLogicalClock::new(self.clock.physical.saturating_add(1));
        } else {
            let own = self.clock;
            self.clock.update(&own, wall.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OFFSET: Duration = Duration::from_millis(500);

    fn at(micros: u64, logical: u32) -> Timestamp {
        Timestamp { micros, logical }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Stamp(u64, Timestamp),
        Observe(u64, Timestamp),
    }

    fn timestamps() -> impl Strategy<Value = Timestamp> {
        let logical = prop_oneof![0u32..5, Just(u32::MAX - 1), Just(u32::MAX)];
        (0u64..3_000_000, logical).prop_map(|(micros, logical)| at(micros, logical))
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            (0u64..2_000_000, timestamps()).prop_map(|(wall, above)| Step::Stamp(wall, above)),
            (0u64..2_000_000, timestamps()).prop_map(|(wall, seen)| Step::Observe(wall, seen)),
        ];
        proptest::collection::vec(step, 1..60)
    }

    proptest! {
        #[test]
        fn time_never_goes_back_and_stays_in_bound(steps in steps()) {
            let mut clock = Hlc::new(Timestamp::ZERO, OFFSET);
            let mut greatest_wall = 0;
            for step in steps {
                let before = clock.reading();
                match step {
                    Step::Stamp(wall, above) => {
                        greatest_wall = greatest_wall.max(wall);
                        let stamp = clock.stamp(Wall(wall), above);
                        prop_assert!(stamp > above);
                        prop_assert!(stamp > before);
                        prop_assert!(clock.reading() > before, "strictly, though the wall jumps");
                        prop_assert!(stamp >= clock.reading());
                    }
                    Step::Observe(wall, seen) => {
                        greatest_wall = greatest_wall.max(wall);
                        let is_ahead = seen.micros > wall + 500_000;
                        prop_assert_eq!(clock.observe(Wall(wall), seen).is_err(), is_ahead);
                        let expected = if is_ahead { before } else { before.max(seen) };
                        prop_assert_eq!(clock.reading(), expected);
                    }
                }
                // One microsecond for each time the logical part is full, at most one a step.
                prop_assert!(clock.reading().micros <= greatest_wall + 500_000 + 60);
            }
        }
    }

    #[test]
    fn stamp_follows_a_row_from_the_future_but_the_clock_does_not() {
        let mut clock = Hlc::new(Timestamp::ZERO, OFFSET);
        let far = at(1_000_000_000, 7);
        assert_eq!(clock.stamp(Wall(1_000), far), at(1_000_000_000, 8));
        assert_eq!(clock.reading(), at(1_000, 0));
        assert_eq!(clock.stamp(Wall(1_000), Timestamp::ZERO), at(1_000, 1));
    }

    #[test]
    fn full_logical_part_carries_over() {
        let mut clock = Hlc::new(at(1_000, u32::MAX), OFFSET);
        assert_eq!(clock.stamp(Wall(10), Timestamp::ZERO), at(1_001, 0));
    }

    #[test]
    fn the_end_of_time_does_not_panic() {
        let end = at(u64::MAX, u32::MAX);
        let mut clock = Hlc::new(end, OFFSET);
        assert!(clock.stamp(Wall(u64::MAX), end) <= end);
        assert!(clock.observe(Wall(u64::MAX), end).is_ok());
    }
}
