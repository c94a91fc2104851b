//! Limits and intervals: each has a name, a unit and a reason.

use super::Duration;

/// Limits and intervals, with their defaults. Each is named in the topology file's `[limits]`.
#[derive(Clone, PartialEq, Debug)]
pub struct Limits {
    /// Longest key in bytes (8 KiB: keys are stored with a prefix, and the engine's limit is 64 KiB).
    pub key_bytes_max: usize,
    /// Longest value in bytes (1 MiB by default, 16 MiB at most: it is held in memory several times).
    pub value_bytes_max: usize,
    /// Siblings of a row beyond which a client's write without their context is refused; merges never are.
    pub siblings_max: usize,
    /// Members or fields that one write may change.
    pub parts_max: usize,
    /// How long a retry with the same operation id is sure to be known, and longer while a replica is away.
    pub operation_window: Duration,
    /// Requests in flight on a node, clients' and passed on.
    pub requests_max: usize,
    /// Bytes of one piece of log or one page of rows.
    pub batch_bytes_max: usize,
    /// Bytes on their way to one receiver that it has not acknowledged; a long fat link needs RTT x bandwidth.
    pub window_bytes_max: usize,
    /// Recent changes of all logs kept in memory to be sent without reading the disk.
    pub recent_bytes_max: usize,
    /// Log of one actor in one partition kept on disk for receivers that are behind; beyond it the oldest
    /// entries go and such receivers are reconciled by digest.
    pub log_bytes_max: u64,
    /// Bytes a second that reconciliation may ask of this node's disk and network.
    pub reconcile_bytes_per_second: u64,
    /// Bytes a second that the scrub may read.
    pub scrub_bytes_per_second: u64,
    /// Between the end of a scrub and the next.
    pub scrub_every: Duration,
    /// Free bytes of the data folder's file system below which clients' writes are refused.
    pub disk_low_bytes: u64,
    /// And below which nothing is taken from peers either: what is left is for the engine's own work.
    pub disk_full_bytes: u64,
    /// How far a timestamp may be ahead of this node's clock.
    pub max_offset: Duration,
    /// Between heartbeats to a peer.
    pub heartbeat_every: Duration,
    /// A peer not heard for so long is down.
    pub silence_max: Duration,
    /// Between rounds of reconciliation of one partition.
    pub reconcile_every: Duration,
    /// Between trims of logs and collections of tombstones.
    pub upkeep_every: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            key_bytes_max: 8 << 10,
            value_bytes_max: 1 << 20,
            siblings_max: 64,
            parts_max: 1024,
            operation_window: Duration::from_mins(10),
            requests_max: 4096,
            batch_bytes_max: 256 << 10,
            window_bytes_max: 4 << 20,
            recent_bytes_max: 16 << 20,
            log_bytes_max: 256 << 20,
            reconcile_bytes_per_second: 8 << 20,
            scrub_bytes_per_second: 16 << 20,
            scrub_every: Duration::from_hours(20),
            disk_low_bytes: 1 << 30,
            disk_full_bytes: 256 << 20,
            max_offset: Duration::from_millis(500),
            heartbeat_every: Duration::from_millis(200),
            silence_max: Duration::from_millis(1_500),
            reconcile_every: Duration::from_secs(10),
            upkeep_every: Duration::from_secs(1),
        }
    }
}
