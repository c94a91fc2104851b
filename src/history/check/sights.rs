//! What a read must have known, may have known, and cannot have known: the terms of the checkers of counters, sets
//! and siblings.
//!
//! A view is a quorum read, or what all replicas hold at rest. It knows nothing of data types.

use std::fmt;

use crate::history::{Action, Ending, Record};
use crate::model::{Level, RegionId, RowKey};

/// Whose quorum a view has asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Scope {
    /// Nobody's.
    None,
    /// That of a region.
    Region(RegionId),
    /// That of every region.
    All,
}

/// What was seen of a key.
#[derive(Clone, Debug)]
pub(crate) struct Sight {
    pub(super) scope: Scope,
    pub(super) key: RowKey,
    pub(super) action: Action,
    pub(super) invoked: u64,
    pub(super) ended: u64,
    pub(super) ending: Ending,
    /// For people: where it is from.
    pub(super) from: Option<u64>,
}

impl Sight {
    /// What a read has seen; nothing if it is none or was not answered.
    pub(super) fn of(record: &Record) -> Option<Self> {
        if record.is_write() || !record.is_ok() {
            return None;
        }
        let scope = match record.level {
            _ if !record.is_regional() => Scope::None,
            Level::One | Level::UnsafeOne => Scope::None,
            Level::LocalQuorum => Scope::Region(record.region),
            Level::EachQuorum | Level::All => Scope::All,
        };
        Some(Self {
            scope,
            key: record.key.clone(),
            action: record.action.clone(),
            invoked: record.invoked,
            ended: record.ended?,
            ending: record.ending.clone(),
            from: Some(record.id),
        })
    }

    /// What a read at rest has seen: it stands for all replicas.
    pub(super) fn of_final(record: &Record) -> Option<Self> {
        if record.is_write() || !record.is_ok() {
            return None;
        }
        let (key, action) = (record.key.clone(), record.action.clone());
        let ending = record.ending.clone();
        Some(Self::at_rest(key, action, record.ended?, ending))
    }

    /// What all replicas show at rest.
    pub(crate) fn at_rest(key: RowKey, action: Action, now: u64, ending: Ending) -> Self {
        Self {
            scope: Scope::All,
            key,
            action,
            invoked: now,
            ended: now,
            ending,
            from: None,
        }
    }

    /// Whether it must have known of a write.
    pub(super) fn knows(&self, write: &Record) -> bool {
        let is_at_rest = self.from.is_none();
        if is_at_rest {
            return write.is_ok();
        }
        write.has_ended_by(self.invoked)
            && match self.scope {
                Scope::None => false,
                Scope::Region(region) => write.region == region || write.is_everywhere(),
                Scope::All => true,
            }
    }

    /// Whether it may have known of a write.
    pub(super) fn may_know(&self, write: &Record) -> bool {
        write.may_count() && write.invoked <= self.ended
    }
}

impl fmt::Display for Sight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = crate::history::key_words(&self.key);
        match self.from {
            Some(id) => write!(f, "read {id} of {key} saw {:?}", self.ending),
            None => write!(f, "at rest {key} is {:?}", self.ending),
        }
    }
}

/// Whether a write of this region, or of all, is one that a removal's coordinator stands above.
pub(super) fn is_near(removal: &Record, write: &Record) -> bool {
    write.region == removal.region || write.is_everywhere()
}

/// Whether a removal has certainly observed a write before it: both spoke with a quorum of one region.
pub(super) fn observed(removal: &Record, write: &Record) -> bool {
    is_near(removal, write)
        && write.has_ended_by(removal.invoked)
        && removal.is_ok()
        && removal.is_regional()
}

/// Whether a removal may have observed a write.
pub(super) fn may_observe(removal: &Record, write: &Record) -> bool {
    let is_before = removal.is_ok() && removal.ended.is_some_and(|ended| ended < write.invoked);
    removal.may_count() && !is_before
}
