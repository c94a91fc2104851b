//! What the door needs of an engine: ordered bytes in a few spaces, atomic durable batches, snapshots.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::{Bound, ControlFlow};
use std::path::Path;

use bytes::Bytes;

use super::{Error, Tail};

/// A space of keys. Few, because an idle one pins the engine's journal.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Space {
    /// Rows in token order.
    Rows,
    /// Log entries by partition, actor and number.
    Log,
    /// Marks, leaf sums, graves, and what the node knows of itself.
    Meta,
}

impl Space {
    /// All spaces.
    pub const ALL: [Self; 3] = [Self::Rows, Self::Log, Self::Meta];

    /// Its byte in checksums.
    pub(super) fn tag(self) -> u8 {
        match self {
            Self::Rows => 1,
            Self::Log => 2,
            Self::Meta => 3,
        }
    }
}

impl fmt::Display for Space {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rows => "rows",
            Self::Log => "log entries",
            Self::Meta => "marks",
        })
    }
}

/// Puts (`Some`) and removals (`None`) by key; the last one for a key counts.
pub type Ops = BTreeMap<Vec<u8>, Option<Bytes>>;

/// Changes of several spaces that become durable together or not at all.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Batch {
    rows: Ops,
    log: Ops,
    meta: Ops,
}

impl Batch {
    /// Puts a value.
    pub fn put(&mut self, space: Space, key: Vec<u8>, value: Bytes) {
        self.ops_mut(space).insert(key, Some(value));
    }

    /// Removes a key.
    pub fn remove(&mut self, space: Space, key: Vec<u8>) {
        self.ops_mut(space).insert(key, None);
    }

    /// What this batch does to one space.
    pub fn ops(&self, space: Space) -> &Ops {
        match space {
            Space::Rows => &self.rows,
            Space::Log => &self.log,
            Space::Meta => &self.meta,
        }
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        Space::ALL.iter().all(|space| self.ops(*space).is_empty())
    }

    /// Puts and removals in it.
    pub fn len(&self) -> usize {
        Space::ALL.iter().map(|space| self.ops(*space).len()).sum()
    }

    fn ops_mut(&mut self, space: Space) -> &mut Ops {
        match space {
            Space::Rows => &mut self.rows,
            Space::Log => &mut self.log,
            Space::Meta => &mut self.meta,
        }
    }
}

/// A fixed state of all spaces.
pub trait Snapshot: Clone + Send + Sync + 'static {
    /// The value of a key.
    ///
    /// # Errors
    /// The engine cannot read.
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>, Error>;

    /// Visits keys and values in order until the visitor breaks.
    ///
    /// # Errors
    /// The engine cannot read.
    fn range(
        &self,
        space: Space,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        visit: &mut dyn FnMut(&[u8], Bytes) -> ControlFlow<()>,
    ) -> Result<(), Error>;
}

/// An engine with one user: the door.
pub trait Engine: Send + 'static {
    /// Its snapshots.
    type Snapshot: Snapshot;

    /// The state after the last commit; called only between commits.
    fn snapshot(&self) -> Self::Snapshot;

    /// Applies a batch as a whole and returns when it is on disk.
    ///
    /// # Errors
    /// The engine cannot write: it is not known whether the batch will be there after a restart, and
    /// nothing more may be written.
    fn commit(&mut self, batch: Batch) -> Result<(), Error>;

    /// The data folder that it lies in, if there is one.
    fn folder(&self) -> Option<&Path> {
        None
    }

    /// The last batch that was noted as durable, outside the engine itself, when it was opened.
    fn tail(&self) -> Option<Tail> {
        None
    }

    /// Notes that a batch is durable. It may fail in silence: then less damage is noticed.
    fn note_tail(&mut self, _tail: Tail) {}
}

/// Whether no key can lie between these bounds (engines need not take such).
pub(super) fn is_void(from: Bound<&[u8]>, to: Bound<&[u8]>) -> bool {
    match (from, to) {
        (Bound::Unbounded, _) | (_, Bound::Unbounded) => false,
        (Bound::Included(from), Bound::Included(to)) => from > to,
        (Bound::Excluded(from) | Bound::Included(from), Bound::Excluded(to))
        | (Bound::Excluded(from), Bound::Included(to)) => from >= to,
    }
}
