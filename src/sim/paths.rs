//! Paths that a long run must have taken at least once: what is never met is not tested.

/// Names of paths that the world itself sees; the others are counters of machines.
pub(crate) const RESUMED: &str = "stream resumed in the middle of a log";
pub(crate) const TRIMMED: &str = "log trimmed past a peer";
pub(crate) const THREE_REGIONS: &str = "siblings of three regions side by side";
pub(crate) const COLLECTED: &str = "tombstone collected";
pub(crate) const CHECKSUM: &str = "checksum failure met";
pub(crate) const STOPPED: &str = "node stopped because of its disk";
pub(crate) const REPLACED: &str = "damaged disk replaced";
pub(crate) const REFILLED: &str = "lost disk filled again";
pub(crate) const GROUPED: &str = "batch of several changes";
pub(crate) const WINDOW: &str = "window full";
pub(crate) const UNKNOWN_SEEN: &str = "UNKNOWN write seen later";
pub(crate) const CUT: &str = "cut of expiry moved";
pub(crate) const SWEPT: &str = "clear swept";
pub(crate) const CONFLICT: &str = "conflict kept";
pub(crate) const REPEATED: &str = "operation id tried again and counted once";
pub(crate) const CORE: &str = "region came to rest without a dead node";
pub(crate) const UNLINKED: &str = "regions without a link agreed";
pub(crate) const GRAVES: &str = "refill asked for tombstones";
pub(crate) const UNREADABLE: &str = "read met a disk that could not answer";

/// Paths that the world sees.
pub(crate) const SEEN: [&str; 19] = [
    RESUMED,
    TRIMMED,
    THREE_REGIONS,
    COLLECTED,
    CHECKSUM,
    STOPPED,
    REPLACED,
    REFILLED,
    GROUPED,
    WINDOW,
    UNKNOWN_SEEN,
    CUT,
    SWEPT,
    CONFLICT,
    REPEATED,
    CORE,
    UNLINKED,
    GRAVES,
    UNREADABLE,
];

/// Paths that machines count: the counter, and what it means.
pub(crate) const COUNTED: [(&str, &str); 20] = [
    ("reads_repaired_total", "read repaired before the answer"),
    (
        "reads_restarted_total",
        "read begun anew, for something newer came",
    ),
    (
        "writes_restamped_total",
        "write stamped again above another",
    ),
    ("writes_unknown_total", "write answered UNKNOWN"),
    ("writes_unavailable_total", "write refused without a quorum"),
    ("writes_denied_total", "write denied"),
    ("conditions_crossed_total", "conditional write merged"),
    ("gates_waited_total", "session waited"),
    ("gates_forwarded_total", "session forwarded"),
    ("gates_refused_total", "session refused"),
    ("forwarded_total", "request forwarded"),
    ("outpaced_total", "write offered to others by a slow node"),
    ("gaps_total", "gap in a stream refused"),
    ("appends_duplicate_total", "piece of log known already"),
    ("rewinds_total", "stream begun again"),
    ("clock_ahead_total", "clock clamp"),
    ("refills_total", "replica refilled by digest"),
    (
        "relayed_appends_total",
        "changes relayed for another region",
    ),
    ("fenced_total", "old copy fenced"),
    ("retired_total", "life retired"),
];

/// The names of all paths.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    SEEN.into_iter()
        .chain(COUNTED.into_iter().map(|(_, path)| path))
}
