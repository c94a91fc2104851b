//! How much room the file system of the data folder has.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio_util::sync::CancellationToken;

use crate::model::{Duration, Limits};
use crate::protocol::Room;

use super::handle::Shared;
use super::tasks::Tasks;

/// Between two looks. A fast disk writes a gigabyte in a second or two; the limits must leave so much.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Free bytes for this process; nothing if the system does not say.
pub(super) async fn free_bytes(data: PathBuf) -> Option<u64> {
    let look = move || {
        let found = rustix::fs::statvfs(&data).ok()?;
        Some(found.f_bavail.saturating_mul(found.f_frsize))
    };
    Tasks::blocking(look).await.flatten()
}

/// What so much room is good for.
pub(super) fn room(limits: &Limits, free: u64) -> Room {
    if free < limits.disk_full_bytes {
        Room::Full
    } else if free < limits.disk_low_bytes {
        Room::Low
    } else {
        Room::Enough
    }
}

/// Looks until it is stopped.
pub(super) async fn watch(shared: Arc<Shared>, data: PathBuf, stop: CancellationToken) {
    let mut pace = tokio::time::interval(LOOK_EVERY);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = pace.tick() => {}
        }
        if let Some(free) = free_bytes(data.clone()).await {
            shared.disk_free.store(free, Ordering::Relaxed);
        }
    }
}
