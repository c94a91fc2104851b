//! Waiting for something to become true, with an end.

use std::time::Duration;

use tokio::time::{Instant, interval};

/// Longer than anything takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);
/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(25);

/// Looks again and again until it is so; fails the test if it never is.
pub(crate) async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    let mut looks = interval(LOOK_EVERY);
    loop {
        looks.tick().await;
        if is_so().await {
            return;
        }
        assert!(Instant::now() < deadline, "waited in vain for: {what}");
    }
}
