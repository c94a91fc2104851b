//! Kinds of faults, each with its number in the list of faults that the store must survive, and the tally of a
//! run.

use std::collections::BTreeMap;

use crate::model::{Change, Effect, Query, Row, Ticket};
use crate::protocol::View;

use super::paths;

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
    /// N6: two regions have no link, so that others must relay.
    Unlinked,
    /// N7: nodes are cut off from each other, one way.
    CutOneWay,
    /// N8: messages are held back and then come all at once.
    Jam,
    /// N9: a way passes few bytes a second, and its buffer is deep.
    Bloat,
    /// N10: a connection is reset.
    Reset,
    /// N12: a bit of a message flips; it cannot be decoded, and the connection ends.
    Flip,
    /// P0: a node is stopped cleanly and started again.
    Stop,
    /// P1: a node is killed, anywhere in its work.
    Kill,
    /// P1: a node is killed and stays dead to the end.
    Dead,
    /// P2, P3: a node is killed after a sync, before anybody hears of it.
    KillAfterSync,
    /// P4: a node stands still and then goes on.
    Pause,
    /// P5: each step of a node takes long.
    SlowNode,
    /// P6: all nodes of a region are killed at once.
    KillRegion,
    /// P7: a node is killed again and again.
    RestartStorm,
    /// P9: a task panics in the middle of a step, and the node ends with it.
    Panic,
    /// P10: a node is killed when most waits for its disk.
    OutOfMemory,
    /// D1: a kill loses what was not synced.
    LoseUnsynced,
    /// D2: a node is killed while a batch is being written: it is there as a whole or not at all.
    Torn,
    /// D3: a bit of a stored value flips.
    Rot,
    /// D4: the last batches are gone at the next start.
    Shorten,
    /// D5: a batch out of the middle is gone at the next start.
    LoseBatch,
    /// D6: a well-formed value stands at the wrong key.
    Misplace,
    /// D7: an fsync fails once; what it was to write may be there or not.
    FailSync,
    /// D8: reads of the disk fail for a while.
    FailRead,
    /// D11: fsyncs take very long.
    SlowSync,
    /// D9, D10: the disk is full for a while.
    NoSpace,
    /// D12: a node is given the disk of another.
    Foreign,
    /// D13: a disk is replaced by an empty one.
    Wipe,
    /// D14: an old copy of a disk is put back.
    OldCopy,
    /// D15: the disk takes no writes for a while.
    ReadOnly,
    /// C1: a clock is off, within what is allowed.
    Skew,
    /// C2: a clock jumps, within what is allowed.
    Step,
    /// C3: a clock drifts.
    Drift,
    /// C4: a clock jumps to and fro all the time.
    Strobe,
    /// C5: a clock stands still.
    Freeze,
    /// C7: a node stands still, and its monotonic clock with it.
    Stall,
    /// C8: a clock is off by more than is allowed.
    Insane,
    /// O6: old copies of all disks of a region are put back.
    OldRegion,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 44] = [
        Self::Drop,
        Self::Slow,
        Self::Reorder,
        Self::Duplicate,
        Self::Replay,
        Self::Cut,
        Self::Unlinked,
        Self::CutOneWay,
        Self::Jam,
        Self::Bloat,
        Self::Reset,
        Self::Flip,
        Self::Stop,
        Self::Kill,
        Self::Dead,
        Self::KillAfterSync,
        Self::Pause,
        Self::SlowNode,
        Self::KillRegion,
        Self::RestartStorm,
        Self::Panic,
        Self::OutOfMemory,
        Self::LoseUnsynced,
        Self::Torn,
        Self::Rot,
        Self::Shorten,
        Self::LoseBatch,
        Self::Misplace,
        Self::FailSync,
        Self::FailRead,
        Self::SlowSync,
        Self::NoSpace,
        Self::Foreign,
        Self::Wipe,
        Self::OldCopy,
        Self::ReadOnly,
        Self::Skew,
        Self::Step,
        Self::Drift,
        Self::Strobe,
        Self::Freeze,
        Self::Stall,
        Self::Insane,
        Self::OldRegion,
    ];

    /// Its number in the list of faults.
    pub fn id(self) -> &'static str {
        self.names().0
    }

    /// What it is, in words.
    pub fn words(self) -> &'static str {
        self.names().1
    }

    /// Its name in scenarios.
    pub(crate) fn name(self) -> String {
        format!("{self:?}")
    }

    /// The kind of a name.
    pub(crate) fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Whether it is injected by strikes; the others come by chance, with every message, or for the whole run.
    pub(crate) fn is_strike(self) -> bool {
        !matches!(
            self,
            Self::Drop
                | Self::Reorder
                | Self::Duplicate
                | Self::Replay
                | Self::Flip
                | Self::Unlinked
                | Self::Dead
        )
    }

    fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Drop => ("N1", "message lost"),
            Self::Slow => ("N2", "way slowed"),
            Self::Reorder => ("N3", "message overtaken"),
            Self::Duplicate => ("N4", "message doubled"),
            Self::Replay => ("N5", "old message replayed"),
            Self::Cut => ("N6", "cut both ways"),
            Self::Unlinked => ("N6", "two regions without a link for the whole run"),
            Self::CutOneWay => ("N7", "cut one way"),
            Self::Jam => ("N8", "jam"),
            Self::Bloat => ("N9", "little bandwidth, deep buffer"),
            Self::Reset => ("N10", "connection reset"),
            Self::Flip => ("N12", "bit flipped in a message"),
            Self::Stop => ("P0", "clean restart"),
            Self::Kill => ("P1", "node killed"),
            Self::Dead => ("P1", "node left dead for the rest"),
            Self::KillAfterSync => ("P2/P3", "killed between sync and news of it"),
            Self::Pause => ("P4", "node paused"),
            Self::SlowNode => ("P5", "slow node"),
            Self::KillRegion => ("P6", "region killed"),
            Self::RestartStorm => ("P7", "restart storm"),
            Self::Panic => ("P9", "node dies in the middle of a step"),
            Self::OutOfMemory => ("P10", "node killed under load"),
            Self::LoseUnsynced => ("D1", "unsynced writes lost"),
            Self::Torn => ("D2", "killed while a batch is written"),
            Self::Rot => ("D3", "bit rot"),
            Self::Shorten => ("D4", "end of the journal lost"),
            Self::LoseBatch => ("D5", "batch missing out of the middle"),
            Self::Misplace => ("D6", "value at the wrong key"),
            Self::FailSync => ("D7", "failed fsync"),
            Self::FailRead => ("D8", "reads fail"),
            Self::SlowSync => ("D11", "slow fsync"),
            Self::NoSpace => ("D9/D10", "no space"),
            Self::Foreign => ("D12", "disk of another node"),
            Self::Wipe => ("D13", "disk wiped"),
            Self::OldCopy => ("D14", "old copy of a disk put back"),
            Self::ReadOnly => ("D15", "disk read-only"),
            Self::Skew => ("C1", "clock off"),
            Self::Step => ("C2", "clock jump"),
            Self::Drift => ("C3", "clock drift"),
            Self::Strobe => ("C4", "clock strobes"),
            Self::Freeze => ("C5", "clock stands still"),
            Self::Stall => ("C7", "monotonic clock stalls"),
            Self::Insane => ("C8", "clock beyond max_offset"),
            Self::OldRegion => ("O6", "old copies of all disks of a region"),
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
    /// Paths that were taken, by name.
    pub paths: BTreeMap<&'static str, u64>,
    /// Counters of all machines, summed over all their lives.
    pub counters: BTreeMap<&'static str, u64>,
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

    /// A path was taken.
    pub(crate) fn take(&mut self, path: &'static str) {
        *self.paths.entry(path).or_default() += 1;
    }

    /// Takes over the counters of a machine whose life ends.
    pub(crate) fn bank(&mut self, view: &View) {
        for (name, count) in &view.counters {
            *self.counters.entry(name).or_default() += count;
            let path = paths::COUNTED.iter().find(|(counter, _)| counter == name);
            if let Some((_, path)) = path.copied() {
                *self.paths.entry(path).or_default() += count;
            }
        }
    }

    /// Notes the paths that effects of changes tell of.
    pub(crate) fn see_effects(&mut self, staged: &[(Ticket, Effect)]) {
        for (_, effect) in staged {
            let items = match effect {
                Effect::Written { items, .. } => items,
                Effect::Appended { written, .. } | Effect::Repaired { written, .. } => written,
                Effect::Denied(_)
                | Effect::Gap { .. }
                | Effect::Early { .. }
                | Effect::Trimmed { .. }
                | Effect::Swept { .. }
                | Effect::Done
                | Effect::Refused { .. } => continue,
            };
            for item in items {
                match item.row {
                    Row::Expiry(_) => self.take(paths::CUT),
                    Row::Conflict(_) => self.take(paths::CONFLICT),
                    Row::Register(_)
                    | Row::Siblings(_)
                    | Row::Share(_)
                    | Row::Once(_)
                    | Row::Clear(_) => {}
                }
            }
        }
    }

    /// Notes the paths that a change to be made tells of.
    pub(crate) fn see_change(&mut self, change: &Change) {
        if let Change::Sweep { .. } = change {
            self.take(paths::SWEPT);
        }
    }

    /// Notes the paths that a question to the disk tells of.
    pub(crate) fn see_query(&mut self, query: &Query) {
        if let Query::Log(query) = query
            && 0 < query.after
        {
            self.take(paths::RESUMED);
        } else if let Query::Graves { .. } = query {
            self.take(paths::GRAVES);
        }
    }

    /// All paths, also those that were never taken, and how often they were.
    pub fn all_paths(&self) -> Vec<(&'static str, u64)> {
        let count = |path| self.paths.get(path).copied().unwrap_or(0);
        paths::names().map(|path| (path, count(path))).collect()
    }

    /// Adds another tally to this one.
    pub fn add(&mut self, other: &Self) {
        for (kind, count) in &other.faults {
            *self.faults.entry(*kind).or_default() += count;
        }
        for (mine, theirs) in [
            (&mut self.reports, &other.reports),
            (&mut self.paths, &other.paths),
            (&mut self.counters, &other.counters),
        ] {
            for (name, count) in theirs {
                *mine.entry(name).or_default() += count;
            }
        }
    }
}
