//! Counters of a store, for metrics.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::model::Duration;

/// Counters since the start.
#[derive(Debug, Default)]
pub(super) struct Counters {
    commits: AtomicU64,
    changes: AtomicU64,
    changes_max: AtomicU64,
    commit_micros: AtomicU64,
    commit_micros_max: AtomicU64,
    slow_commits: AtomicU64,
    queries: AtomicU64,
    unreadable: AtomicU64,
}

/// A commit that takes longer than this is counted as slow: a sound disk syncs in a tenth of it.
const SLOW: Duration = Duration::from_millis(100);

impl Counters {
    pub(super) fn on_commit(&self, changes: usize, took: Duration) {
        let changes = u64::try_from(changes).unwrap_or(u64::MAX);
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.commits.fetch_add(1, Relaxed);
        self.changes.fetch_add(changes, Relaxed);
        self.changes_max.fetch_max(changes, Relaxed);
        self.commit_micros.fetch_add(micros, Relaxed);
        self.commit_micros_max.fetch_max(micros, Relaxed);
        self.slow_commits.fetch_add(u64::from(took > SLOW), Relaxed);
    }

    pub(super) fn on_answer(&self, is_unreadable: bool) {
        self.queries.fetch_add(1, Relaxed);
        self.unreadable.fetch_add(u64::from(is_unreadable), Relaxed);
    }

    pub(super) fn read(&self, queued: (usize, usize)) -> StoreStats {
        let (items, bytes) = queued;
        StoreStats {
            commits: self.commits.load(Relaxed),
            changes: self.changes.load(Relaxed),
            changes_per_commit_max: self.changes_max.load(Relaxed),
            commit_micros: self.commit_micros.load(Relaxed),
            commit_micros_max: self.commit_micros_max.load(Relaxed),
            slow_commits: self.slow_commits.load(Relaxed),
            queries: self.queries.load(Relaxed),
            unreadable: self.unreadable.load(Relaxed),
            queued_changes: u64::try_from(items).unwrap_or(u64::MAX),
            queued_bytes: u64::try_from(bytes).unwrap_or(u64::MAX),
        }
    }
}

/// What a store has done since it was opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StoreStats {
    /// Batches made durable: syncs.
    pub commits: u64,
    /// Changes in them.
    pub changes: u64,
    /// Changes in the largest.
    pub changes_per_commit_max: u64,
    /// Microseconds that commits took, together.
    pub commit_micros: u64,
    /// Microseconds that the slowest took.
    pub commit_micros_max: u64,
    /// Commits that took longer than 100 ms.
    pub slow_commits: u64,
    /// Questions answered.
    pub queries: u64,
    /// Of them, those that met damage or a partition that is not here.
    pub unreadable: u64,
    /// Changes that wait now.
    pub queued_changes: u64,
    /// Their bytes.
    pub queued_bytes: u64,
}

impl StoreStats {
    /// Counters and gauges by stable metric name.
    pub fn values(&self) -> Vec<(&'static str, u64)> {
        vec![
            ("commits_total", self.commits),
            ("changes_total", self.changes),
            ("changes_per_commit_max", self.changes_per_commit_max),
            ("fsync_micros_total", self.commit_micros),
            ("fsync_micros_max", self.commit_micros_max),
            ("fsync_slow_total", self.slow_commits),
            ("queries_total", self.queries),
            ("queries_unreadable_total", self.unreadable),
            ("store_queued_changes", self.queued_changes),
            ("store_queued_bytes", self.queued_bytes),
        ]
    }
}
