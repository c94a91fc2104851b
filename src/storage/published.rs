//! What readers share with the door: the last committed snapshot, and the marks and digests that go with it.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::digest::Tree;
use crate::model::PartitionId;

use super::partition::Partition;

/// A partition as of the last commit.
#[derive(Debug, Default)]
pub(super) struct PublishedPartition {
    pub(super) partition: Partition,
    pub(super) tree: Tree,
}

/// The last committed state.
#[derive(Debug)]
pub(super) struct Published<S> {
    pub(super) snapshot: S,
    pub(super) partitions: BTreeMap<PartitionId, PublishedPartition>,
}

/// Shared by the door, which replaces it as a whole at each commit, and its readers.
/// Invariant: snapshot, positions and trees are of the same commit.
#[derive(Debug)]
pub(super) struct Shared<S> {
    published: Arc<RwLock<Published<S>>>,
}

impl<S> Clone for Shared<S> {
    fn clone(&self) -> Self {
        Self {
            published: Arc::clone(&self.published),
        }
    }
}

impl<S> Shared<S> {
    pub(super) fn new(published: Published<S>) -> Self {
        Self {
            published: Arc::new(RwLock::new(published)),
        }
    }

    pub(super) fn read(&self) -> RwLockReadGuard<'_, Published<S>> {
        self.published
            .read()
            .unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn write(&self) -> RwLockWriteGuard<'_, Published<S>> {
        self.published
            .write()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
