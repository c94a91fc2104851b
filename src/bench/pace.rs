//! When requests should be sent: an even beat of arrivals for each region in an open loop.
//!
//! The beat is kept by a thread that parks with microseconds of precision, because the runtime's
//! timers are only as fine as a millisecond, and that would be counted as latency.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::Instant;

/// The arrivals of one region.
#[derive(Debug)]
pub(super) struct Beat {
    start: Instant,
    rate: f64,
    /// An arrival that nobody sent for so long is given up.
    patience: Option<Duration>,
    /// Arrivals that are due and not yet taken.
    due: Semaphore,
    taken: AtomicU64,
    released: AtomicU64,
    given_up: AtomicU64,
}

impl Beat {
    /// Arrivals at `rate` a second from `start` on.
    pub(super) fn new(start: Instant, rate: f64, patience: Option<Duration>) -> Self {
        Self {
            start,
            rate,
            patience,
            due: Semaphore::new(0),
            taken: AtomicU64::new(0),
            released: AtomicU64::new(0),
            given_up: AtomicU64::new(0),
        }
    }

    /// Waits for an arrival, and says when it was due; nothing when the run is over.
    pub(super) async fn arrival(&self) -> Option<Instant> {
        loop {
            self.due.acquire().await.ok()?.forget();
            let due = self.instant(self.taken.fetch_add(1, Ordering::Relaxed));
            let late = Instant::now().saturating_duration_since(due);
            if self.patience.is_none_or(|patience| late <= patience) {
                return Some(due);
            }
            self.given_up.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Arrivals that were due and that no worker was free to send, at all or in time.
    pub(super) fn unsent(&self) -> u64 {
        let released = self.released.load(Ordering::Relaxed);
        let left = released.saturating_sub(self.taken.load(Ordering::Relaxed));
        left + self.given_up.load(Ordering::Relaxed)
    }

    /// No more arrivals: whoever waits for one is sent home.
    pub(super) fn close(&self) {
        self.due.close();
    }

    fn instant(&self, index: u64) -> Instant {
        self.start + Duration::from_secs_f64(index as f64 / self.rate)
    }

    /// Lets go what is due by `now`, and says when the next is.
    fn release(&self, now: Instant) -> Instant {
        let mut released = self.released.load(Ordering::Relaxed);
        let mut count = 0;
        while self.instant(released) <= now {
            released += 1;
            count += 1;
        }
        self.released.store(released, Ordering::Relaxed);
        if count > 0 {
            self.due.add_permits(count);
        }
        self.instant(released)
    }
}

/// Keeps the beats until `end` or until told to stop. Blocks its thread.
pub(super) fn keep(beats: &[Arc<Beat>], end: Instant, stop: &AtomicBool) {
    loop {
        let now = Instant::now();
        if now >= end || stop.load(Ordering::Relaxed) {
            break;
        }
        let next = beats.iter().map(|beat| beat.release(now)).min();
        let next = next.unwrap_or(end).min(end);
        // Woken at least now and then, to see whether to stop.
        let nap = next
            .saturating_duration_since(Instant::now())
            .min(Duration::from_millis(50));
        if !nap.is_zero() {
            std::thread::park_timeout(nap);
        }
    }
    for beat in beats {
        beat.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn arrivals_keep_their_beat_whether_they_are_taken_or_not() {
        let start = Instant::now();
        let beat = Beat::new(start, 1_000.0, None);
        assert_eq!(beat.release(start), start + Duration::from_millis(1));
        beat.release(start + Duration::from_millis(9));
        for n in 0..5 {
            assert_eq!(beat.arrival().await, Some(start + Duration::from_millis(n)));
        }
        beat.due.close();
        assert_eq!(beat.arrival().await, None);
        assert_eq!(beat.unsent(), 5);
    }

    #[tokio::test]
    async fn arrivals_that_waited_too_long_are_given_up() {
        let start = Instant::now() - Duration::from_secs(1);
        let beat = Beat::new(start, 10.0, Some(Duration::from_millis(350)));
        beat.release(start + Duration::from_secs(1));
        let taken = beat.arrival().await;
        assert!(
            taken >= Some(start + Duration::from_millis(650)),
            "{taken:?}"
        );
        assert!(beat.unsent() >= 7);
    }
}
