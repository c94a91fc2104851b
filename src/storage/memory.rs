//! An engine in memory, for the simulator and tests: as strict as the one on disk, and it can lose what was
//! not synced.
//!
//! Every value is kept with the number of the batch that wrote it, so that a snapshot is a number and a crash
//! takes back the last batches. What no snapshot can see any more is dropped by later commits.

use std::collections::{BTreeMap, VecDeque};
use std::ops::{Bound, ControlFlow};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::engine::is_void;
use super::tail::Tail;
use super::{Batch, Engine, Error, Snapshot, Space};

/// The values of a key, each with the number of the batch that wrote it; the present one is the last.
pub(super) type Versions = Vec<(u64, Option<Bytes>)>;

/// The number of a batch, and its keys.
type Written = (u64, Vec<(Space, Vec<u8>)>);

/// A disk in memory; it outlives the engine that writes it. Clones are the same disk.
#[derive(Clone, Debug, Default)]
pub struct MemoryDisk {
    state: Arc<Mutex<State>>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct State {
    rows: BTreeMap<Vec<u8>, Versions>,
    log: BTreeMap<Vec<u8>, Versions>,
    meta: BTreeMap<Vec<u8>, Versions>,
    /// The number of the last batch.
    last: u64,
    /// Batches that a crash may take back.
    unsynced: VecDeque<Written>,
    /// Keys with versions that may be dropped once no snapshot is older than the number.
    garbage: VecDeque<(u64, Space, Vec<u8>)>,
    /// Snapshots in use, by number.
    snapshots: BTreeMap<u64, usize>,
    is_lazy: bool,
    /// Records that ranges have visited.
    #[cfg(test)]
    visited: usize,
    trouble: Trouble,
    /// The last life that was noted beside the store.
    life: Option<u64>,
}

/// What is wrong with a disk: faults to be planted in simulations and tests.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Trouble {
    /// Every read fails.
    pub refuses_reads: bool,
    /// Every commit fails, and nothing of it is there: no space, or a file system that takes no writes.
    pub refuses_commits: bool,
    /// The next commit fails, and none after it; what it was to write is there afterwards, or not.
    pub fails_next: Option<bool>,
}

impl MemoryDisk {
    /// An empty disk.
    pub fn new() -> Self {
        Self::default()
    }

    /// An engine on this disk; only one at a time may write.
    pub fn engine(&self) -> Memory {
        Memory { disk: self.clone() }
    }

    /// If lazy, commits return before they are synced: a fault to be planted in simulations.
    pub fn set_lazy(&self, is_lazy: bool) {
        self.lock().is_lazy = is_lazy;
    }

    /// Makes every batch durable.
    pub fn sync(&self) {
        self.lock().unsynced.clear();
    }

    /// Batches that a crash may take back.
    pub fn unsynced(&self) -> usize {
        self.lock().unsynced.len()
    }

    /// Records that ranges have visited since this was last asked.
    #[cfg(test)]
    pub(super) fn take_visited(&self) -> usize {
        std::mem::take(&mut self.lock().visited)
    }

    /// The power goes: of the batches that were not synced only the first `keep` survive. Says how many went.
    pub fn crash(&self, keep: usize) -> usize {
        let mut state = self.lock();
        let lost: Vec<_> = state.unsynced.drain(..).skip(keep).collect();
        if let Some((first, _)) = lost.first() {
            let cut = *first;
            for (space, key) in lost.iter().flat_map(|(_, keys)| keys) {
                let map = state.map_mut(*space);
                let versions = map.get_mut(key);
                let is_gone = versions.is_some_and(|versions| {
                    versions.retain(|(at, _)| *at < cut);
                    versions.is_empty()
                });
                if is_gone {
                    map.remove(key);
                }
            }
        }
        lost.len()
    }

    /// The note beside the store is lost: a fault to be planted in simulations.
    pub fn forget_life(&self) {
        self.lock().life = None;
    }

    /// Another disk with nothing on it but the note beside the store, which names the last life: the store was set aside.
    pub fn emptied(&self) -> Self {
        let state = State {
            life: self.lock().life,
            ..State::default()
        };
        Self {
            state: Arc::new(Mutex::new(state)),
        }
    }

    /// Another disk with the same content: a backup.
    pub fn copy(&self) -> Self {
        let mut state = self.lock().clone();
        state.snapshots.clear();
        state.trouble = Trouble::default();
        Self {
            state: Arc::new(Mutex::new(state)),
        }
    }

    /// What is wrong with the disk from now on. A copy of it is sound.
    pub fn set_trouble(&self, trouble: Trouble) {
        self.lock().trouble = trouble;
    }

    /// What is wrong with the disk.
    pub fn trouble(&self) -> Trouble {
        self.lock().trouble
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn snapshot(&self) -> MemorySnapshot {
        let mut state = self.lock();
        let at = state.last;
        *state.snapshots.entry(at).or_default() += 1;
        MemorySnapshot {
            disk: self.clone(),
            at,
        }
    }
}

impl State {
    pub(super) fn map(&self, space: Space) -> &BTreeMap<Vec<u8>, Versions> {
        match space {
            Space::Rows => &self.rows,
            Space::Log => &self.log,
            Space::Meta => &self.meta,
        }
    }

    pub(super) fn map_mut(&mut self, space: Space) -> &mut BTreeMap<Vec<u8>, Versions> {
        match space {
            Space::Rows => &mut self.rows,
            Space::Log => &mut self.log,
            Space::Meta => &mut self.meta,
        }
    }

    fn apply(&mut self, batch: &Batch) {
        self.last += 1;
        let at = self.last;
        let mut keys = Vec::with_capacity(batch.len());
        for space in Space::ALL {
            for (key, value) in batch.ops(space) {
                let versions = self.map_mut(space).entry(key.clone()).or_default();
                versions.push((at, value.clone()));
                if versions.len() > 1 || value.is_none() {
                    self.garbage.push_back((at, space, key.clone()));
                }
                keys.push((space, key.clone()));
            }
        }
        self.unsynced.push_back((at, keys));
    }

    fn check_read(&self) -> Result<(), Error> {
        if self.trouble.refuses_reads {
            return Err(failure("read", "the disk fails"));
        }
        Ok(())
    }

    /// Drops versions that neither a snapshot nor a crash can bring back.
    fn collect(&mut self) {
        let oldest_snapshot = self.snapshots.keys().next().copied();
        let first_unsynced = self.unsynced.front().map(|(at, _)| at.saturating_sub(1));
        let floor = oldest_snapshot
            .into_iter()
            .chain(first_unsynced)
            .fold(self.last, u64::min);
        while self.garbage.front().is_some_and(|(at, _, _)| *at <= floor) {
            let Some((_, space, key)) = self.garbage.pop_front() else {
                return;
            };
            let map = self.map_mut(space);
            let is_gone = map.get_mut(&key).is_some_and(|versions| {
                let seen = versions.iter().filter(|(at, _)| *at <= floor).count();
                versions.drain(..seen.saturating_sub(1));
                versions.len() == 1 && versions.iter().all(|(at, v)| *at <= floor && v.is_none())
            });
            if is_gone {
                map.remove(&key);
            }
        }
    }
}

impl MemoryDisk {
    /// Whether a commit goes well.
    fn check_commit(&self, batch: &Batch) -> Result<(), Error> {
        let mut state = self.lock();
        if state.trouble.refuses_commits {
            return Err(failure("commit", "the disk takes no writes"));
        }
        let Some(survives) = state.trouble.fails_next.take() else {
            return Ok(());
        };
        if survives {
            state.apply(batch);
            state.unsynced.clear();
        }
        Err(failure("commit", "the sync has failed"))
    }
}

fn failure(deed: &'static str, why: &str) -> Error {
    let cause = fjall::Error::Io(std::io::Error::other(why.to_owned()));
    Error::Engine { deed, cause }
}

/// The value of a key as of a batch.
fn as_of(versions: &Versions, at: u64) -> Option<&Bytes> {
    let (_, value) = versions.iter().rev().find(|(wrote, _)| *wrote <= at)?;
    value.as_ref()
}

/// The engine.
#[derive(Debug)]
pub struct Memory {
    disk: MemoryDisk,
}

impl Memory {
    /// Applies a batch that a crash may take back: what a disk does between write and sync.
    pub fn apply_unsynced(&mut self, batch: &Batch) {
        let mut state = self.disk.lock();
        state.apply(batch);
        state.collect();
    }
}

impl Engine for Memory {
    type Snapshot = MemorySnapshot;

    fn snapshot(&self) -> MemorySnapshot {
        self.disk.snapshot()
    }

    fn commit(&mut self, batch: Batch) -> Result<(), Error> {
        self.disk.check_commit(&batch)?;
        self.apply_unsynced(&batch);
        let mut state = self.disk.lock();
        if !state.is_lazy {
            state.unsynced.clear();
        }
        Ok(())
    }

    /// Of the note it keeps the life only: a batch that is lost with the memory is no damage.
    fn tail(&self) -> Option<Tail> {
        let incarnation = self.disk.lock().life?;
        Some(Tail {
            incarnation,
            number: 0,
        })
    }

    fn note_tail(&mut self, tail: Tail) {
        self.disk.lock().life = Some(tail.incarnation);
    }
}

/// A fixed state of a [`MemoryDisk`].
#[derive(Debug)]
pub struct MemorySnapshot {
    disk: MemoryDisk,
    at: u64,
}

impl Clone for MemorySnapshot {
    fn clone(&self) -> Self {
        *self.disk.lock().snapshots.entry(self.at).or_default() += 1;
        Self {
            disk: self.disk.clone(),
            at: self.at,
        }
    }
}

impl Drop for MemorySnapshot {
    fn drop(&mut self) {
        let mut state = self.disk.lock();
        if let Some(count) = state.snapshots.get_mut(&self.at) {
            *count -= 1;
            if *count == 0 {
                state.snapshots.remove(&self.at);
            }
        }
    }
}

impl Snapshot for MemorySnapshot {
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>, Error> {
        let state = self.disk.lock();
        state.check_read()?;
        let versions = state.map(space).get(key);
        Ok(versions
            .and_then(|versions| as_of(versions, self.at))
            .cloned())
    }

    fn range(
        &self,
        space: Space,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        visit: &mut dyn FnMut(&[u8], Bytes) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        if is_void(from, to) {
            return Ok(());
        }
        let mut next: Bound<Vec<u8>> = from.map(<[u8]>::to_vec);
        loop {
            // The visitor may read this disk too, so the lock is not held while it runs.
            let page = self.page(space, &next, to)?;
            let Some((last, _)) = page.last() else {
                return Ok(());
            };
            next = Bound::Excluded(last.clone());
            for (key, value) in page {
                #[cfg(test)]
                {
                    self.disk.lock().visited += 1;
                }
                if visit(&key, value).is_break() {
                    return Ok(());
                }
            }
        }
    }
}

const PAGE: usize = 256;

impl MemorySnapshot {
    fn page(
        &self,
        space: Space,
        from: &Bound<Vec<u8>>,
        to: Bound<&[u8]>,
    ) -> Result<Vec<(Vec<u8>, Bytes)>, Error> {
        let from = from.as_ref().map(Vec::as_slice);
        if is_void(from, to) {
            return Ok(Vec::new());
        }
        let state = self.disk.lock();
        state.check_read()?;
        let keys = state.map(space).range::<[u8], _>((from, to));
        let values = keys
            .filter_map(|(key, versions)| Some((key.clone(), as_of(versions, self.at)?.clone())));
        Ok(values.take(PAGE).collect())
    }
}
