//! The one place where a node reads its clocks.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::model::{Time, Wall};
use crate::protocol::Now;

/// So many microseconds are added to the wall clock. A process has one wall clock, and so has its offset.
static OFFSET_MICROS: AtomicI64 = AtomicI64::new(0);

/// Both clocks of a node.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// Monotonic time starts now.
    #[expect(
        clippy::disallowed_methods,
        reason = "the seam: clocks enter a node here and nowhere else"
    )]
    pub fn new() -> Self {
        Self {
            start: Instant::now(),
        }
    }

    /// The present.
    pub fn now(&self) -> Now {
        Now {
            time: self.time(),
            wall: Self::wall(),
        }
    }

    /// Monotonic time.
    pub fn time(&self) -> Time {
        Time(u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    /// Puts the wall clock of this process off by so many microseconds. For development clusters only: it is a fault.
    pub fn set_wall_offset(micros: i64) {
        OFFSET_MICROS.store(micros, Ordering::Relaxed);
    }

    /// The wall clock.
    #[expect(
        clippy::disallowed_methods,
        reason = "the seam: clocks enter a node here and nowhere else"
    )]
    pub fn wall() -> Wall {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let micros = u64::try_from(since.as_micros()).unwrap_or(u64::MAX);
        Wall(micros.saturating_add_signed(OFFSET_MICROS.load(Ordering::Relaxed)))
    }

    /// When a deadline of the machine is, on tokio's clock.
    pub(super) fn instant(&self, time: Time) -> tokio::time::Instant {
        // A deadline beyond a day is as good as none, and cannot overflow.
        let micros = time.0.min(self.time().0.saturating_add(86_400_000_000));
        tokio::time::Instant::from_std(self.start + std::time::Duration::from_micros(micros))
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}

impl crate::storage::Clock for Clock {
    fn wall(&self) -> Wall {
        Self::wall()
    }

    fn time(&self) -> Time {
        Self::time(self)
    }
}
