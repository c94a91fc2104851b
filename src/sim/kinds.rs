//! Kinds of faults, each with its number in the list of faults that the store must survive, and the tally of a
//! run.

use std::collections::BTreeMap;

/// A kind of fault.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Kind {
    /// N1: a message is lost.
    Drop,
    /// N2: a way becomes slow.
    Slow,
    /// N3: a message overtakes others.
    Reorder,
    /// N4: a message comes twice.
    Duplicate,
    /// N5: an old message comes again.
    Replay,
    /// N6: nodes are cut off from each other, both ways.
    Cut,
    /// N7: nodes are cut off from each other, one way.
    CutOneWay,
    /// N8: messages are held back and then come all at once.
    Jam,
    /// N10: a connection is reset.
    Reset,
    /// P0: a node is stopped cleanly and started again.
    Stop,
    /// P1: a node is killed, anywhere in its work.
    Kill,
    /// P2, P3: a node is killed after a sync, before anybody hears of it.
    KillAfterSync,
    /// P4: a node stands still and then goes on.
    Pause,
    /// P6: all nodes of a region are killed at once.
    KillRegion,
    /// P7: a node is killed again and again.
    RestartStorm,
    /// D1: a kill loses what was not synced.
    LoseUnsynced,
    /// D11: fsyncs take very long.
    SlowSync,
    /// D13: a disk is replaced by an empty one.
    Wipe,
    /// D14: an old copy of a disk is put back.
    OldCopy,
    /// C1: a clock is off, within what is allowed.
    Skew,
    /// C2: a clock jumps, within what is allowed.
    Step,
    /// C3: a clock drifts.
    Drift,
    /// C8: a clock is off by more than is allowed.
    Insane,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 23] = [
        Self::Drop,
        Self::Slow,
        Self::Reorder,
        Self::Duplicate,
        Self::Replay,
        Self::Cut,
        Self::CutOneWay,
        Self::Jam,
        Self::Reset,
        Self::Stop,
        Self::Kill,
        Self::KillAfterSync,
        Self::Pause,
        Self::KillRegion,
        Self::RestartStorm,
        Self::LoseUnsynced,
        Self::SlowSync,
        Self::Wipe,
        Self::OldCopy,
        Self::Skew,
        Self::Step,
        Self::Drift,
        Self::Insane,
    ];

    /// Its number in the list of faults.
    pub fn id(self) -> &'static str {
        self.names().0
    }

    /// What it is, in words.
    pub fn words(self) -> &'static str {
        self.names().1
    }

    fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Drop => ("N1", "message lost"),
            Self::Slow => ("N2", "way slowed"),
            Self::Reorder => ("N3", "message overtaken"),
            Self::Duplicate => ("N4", "message doubled"),
            Self::Replay => ("N5", "old message replayed"),
            Self::Cut => ("N6", "cut both ways"),
            Self::CutOneWay => ("N7", "cut one way"),
            Self::Jam => ("N8", "jam"),
            Self::Reset => ("N10", "connection reset"),
            Self::Stop => ("P0", "clean restart"),
            Self::Kill => ("P1", "node killed"),
            Self::KillAfterSync => ("P2/P3", "killed between sync and news of it"),
            Self::Pause => ("P4", "node paused"),
            Self::KillRegion => ("P6", "region killed"),
            Self::RestartStorm => ("P7", "restart storm"),
            Self::LoseUnsynced => ("D1", "unsynced writes lost"),
            Self::SlowSync => ("D11", "slow fsync"),
            Self::Wipe => ("D13", "disk wiped"),
            Self::OldCopy => ("D14", "old copy of a disk put back"),
            Self::Skew => ("C1", "clock off"),
            Self::Step => ("C2", "clock jump"),
            Self::Drift => ("C3", "clock drift"),
            Self::Insane => ("C8", "clock beyond max_offset"),
        }
    }
}

/// Faults injected, and things seen, by name.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Tally {
    /// Faults by kind.
    pub faults: BTreeMap<Kind, u64>,
    /// Reports of machines by name.
    pub reports: BTreeMap<&'static str, u64>,
}

impl Tally {
    /// A fault was injected.
    pub fn count(&mut self, kind: Kind) {
        *self.faults.entry(kind).or_default() += 1;
    }

    /// A machine reported something.
    pub fn saw(&mut self, name: &'static str) {
        *self.reports.entry(name).or_default() += 1;
    }

    /// Adds another tally to this one.
    pub fn add(&mut self, other: &Self) {
        for (kind, count) in &other.faults {
            *self.faults.entry(*kind).or_default() += count;
        }
        for (name, count) in &other.reports {
            *self.reports.entry(name).or_default() += count;
        }
    }
}
