//! Reading everything that is stored, and holding it against itself.

use std::ops::ControlFlow;

use crate::digest::{Tree, leaf_of, row_hash};
use crate::model::{PartitionId, RowKey};

use super::engine::{Snapshot, Space};
use super::form::{self, NameForm};
use super::keys::{self, Span};
use super::load::load_tree;
use super::{Error, Reader};

/// Whether to go on.
pub(super) type Go = ControlFlow<()>;

/// Where records come from and what they took: told for each record that is read.
pub(super) trait Pace {
    /// So many bytes were read; may wait, and says whether to go on.
    fn on_bytes(&mut self, bytes: u64) -> Go;
}

/// Goes on at once.
struct AtOnce;

impl Pace for AtOnce {
    fn on_bytes(&mut self, _bytes: u64) -> Go {
        Go::Continue(())
    }
}

/// What was found in one partition.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Findings {
    /// Rows that fail their checksum.
    pub(super) unreadable: u64,
    /// Leaves whose sums are not those of their rows, though all of those can be read: rows are lost.
    pub(super) wrong_leaves: u64,
    /// Whether it was cut short.
    pub(super) was_stopped: bool,
}

impl<S: Snapshot> Reader<S> {
    /// Reads all rows, log entries and marks, and recomputes the digests.
    ///
    /// # Errors
    /// Something is damaged, or the engine fails.
    pub(super) fn verify(&self) -> Result<(), Error> {
        for partition in self.partitions() {
            let found = self.verify_partition(partition, &mut AtOnce)?;
            if found.unreadable > 0 {
                let what = "a row fails its checksum";
                return Err(Error::Corrupt { what });
            }
            if found.wrong_leaves > 0 {
                let what = format!(
                    "{} leaves of {partition} have lost rows",
                    found.wrong_leaves
                );
                return Err(Error::Lost { what });
            }
        }
        self.verify_records(&mut AtOnce).map(|_all| ())
    }

    /// The partitions that are here.
    pub(super) fn partitions(&self) -> Vec<PartitionId> {
        let published = self.shared().read();
        published.partitions.keys().copied().collect()
    }

    /// Reads all rows of a partition, and holds each leaf's sum against them.
    ///
    /// # Errors
    /// The engine fails, or a record beside the rows is damaged.
    pub(super) fn verify_partition(
        &self,
        partition: PartitionId,
        pace: &mut dyn Pace,
    ) -> Result<Findings, Error> {
        let snapshot = self.shared().read().snapshot.clone();
        let count = self.partition_count;
        let stored = load_tree(&snapshot, partition)?;
        let mut computed = Tree::new();
        let mut bad_leaves: Vec<u16> = Vec::new();
        let mut found = Findings::default();
        let span = keys::partition_rows(partition, count);
        visit(&snapshot, Space::Rows, &span, pace, |key, value| {
            let row = form::open_named_row(key, value)
                .map(|(key, stored)| (leaf_of(&key, count), row_hash(&key, &stored.row)));
            match row {
                Ok((leaf, hash)) => computed.add(leaf, hash),
                Err(Error::Corrupt { .. }) => {
                    found.unreadable += 1;
                    bad_leaves.extend(keys::parse_row(key).map(|key: RowKey| leaf_of(&key, count)));
                }
                Err(error) => return Err(error),
            }
            Ok(())
        })
        .map(|go| found.was_stopped = go.is_break())?;
        if !found.was_stopped {
            let is_wrong = |leaf: &u16| {
                stored.leaf(*leaf) != computed.leaf(*leaf) && !bad_leaves.contains(leaf)
            };
            let wrong = (0..crate::model::DIGEST_LEAVES).filter(is_wrong).count();
            found.wrong_leaves = u64::try_from(wrong).unwrap_or(u64::MAX);
        }
        Ok(found)
    }

    /// Reads all log entries and marks.
    ///
    /// # Errors
    /// One of them is damaged, or the engine fails.
    pub(super) fn verify_records(&self, pace: &mut dyn Pace) -> Result<Go, Error> {
        let snapshot = self.shared().read().snapshot.clone();
        let all = Span {
            from: Vec::new(),
            to: None,
        };
        for space in [Space::Log, Space::Meta] {
            let go = visit(&snapshot, space, &all, pace, |key, value| {
                if space == Space::Log && !keys::is_batch(key) {
                    form::open::<NameForm>(space, key, value)?;
                }
                form::check(space, key, value)
            })?;
            if go.is_break() {
                return Ok(go);
            }
        }
        Ok(Go::Continue(()))
    }
}

fn visit<S: Snapshot>(
    snapshot: &S,
    space: Space,
    span: &Span,
    pace: &mut dyn Pace,
    mut act: impl FnMut(&[u8], &[u8]) -> Result<(), Error>,
) -> Result<Go, Error> {
    let mut outcome = Ok(Go::Continue(()));
    snapshot.range(space, span.start(), span.end(), &mut |key, value| {
        if let Err(error) = act(key, &value) {
            outcome = Err(error);
            return ControlFlow::Break(());
        }
        let bytes = u64::try_from(key.len() + value.len()).unwrap_or(u64::MAX);
        let go = pace.on_bytes(bytes);
        if go.is_break() {
            outcome = Ok(go);
        }
        go
    })?;
    outcome
}
