//! Damage to a disk in memory, as bit rot, misdirected writes and lost files leave it: for simulations and tests.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::keys::is_batch;
use super::memory::{MemoryDisk, State};
use super::{Error, Space, form};

impl MemoryDisk {
    /// Flips a bit in the value of one of the present records of a space; `pick` chooses which. Says whether
    /// there was one.
    pub fn rot(&self, space: Space, pick: u64) -> bool {
        let mut state = self.lock();
        let mut values = state.values_mut(space);
        let count = values.len();
        let Some(value) = chosen(count, pick).and_then(|at| values.get_mut(at)) else {
            return false;
        };
        let mut bytes = value.to_vec();
        let rest = pick / u64::try_from(count).unwrap_or(u64::MAX).max(1);
        let byte = chosen(bytes.len(), rest).and_then(|at| bytes.get_mut(at));
        let Some(byte) = byte else {
            return false;
        };
        *byte ^= 0x10;
        **value = Bytes::from(bytes);
        true
    }

    /// Puts the value of one present record of a space in the place of another; `pick` chooses which. Says whether
    /// there were two.
    pub fn misplace(&self, space: Space, pick: u64) -> bool {
        let mut state = self.lock();
        let mut values = state.values_mut(space);
        let count = values.len();
        let Some(from) = chosen(count, pick) else {
            return false;
        };
        let to = (from + 1) % count;
        let Some(value) = values.get(from).map(|value| (**value).clone()) else {
            return false;
        };
        match values.get_mut(to) {
            Some(place) if from != to => {
                **place = value;
                true
            }
            Some(_) | None => false,
        }
    }

    /// Checks every present record against its checksum.
    ///
    /// # Errors
    /// A record is damaged.
    pub fn verify(&self) -> Result<(), Error> {
        let state = self.lock();
        for space in Space::ALL {
            for (key, versions) in state.map(space) {
                if let Some((_, Some(value))) = versions.last() {
                    form::check(space, key, value)?;
                }
            }
        }
        Ok(())
    }

    /// Takes back everything that one batch of changes wrote and that stands, out of the middle; `pick` chooses
    /// which batch. Says whether there was one.
    pub fn lose_batch(&self, pick: u64) -> bool {
        let mut state = self.lock();
        let numbers = |versions: &super::memory::Versions| versions.last().map(|(at, _)| *at);
        let batches: BTreeSet<u64> = state.map(Space::Log).values().filter_map(numbers).collect();
        // The last one does not count: without it the disk is an older one, and whole.
        let middle: Vec<u64> = batches.iter().rev().skip(1).copied().collect();
        let Some(lost) = chosen(middle.len(), pick).and_then(|at| middle.get(at)) else {
            return false;
        };
        for space in Space::ALL {
            state.map_mut(space).retain(|_, versions| {
                versions.retain(|(at, _)| at != lost);
                !versions.is_empty()
            });
        }
        true
    }
}

impl State {
    /// The present values of a space, numbers of batches left out.
    fn values_mut(&mut self, space: Space) -> Vec<&mut Bytes> {
        let records = self.map_mut(space).iter_mut();
        records
            .filter(|(key, _)| !is_batch(key))
            .filter_map(|(_, versions)| versions.last_mut())
            .filter_map(|(_, value)| value.as_mut())
            .collect()
    }
}

/// One of so many.
fn chosen(count: usize, pick: u64) -> Option<usize> {
    let among = u64::try_from(count).ok().filter(|count| 0 < *count)?;
    usize::try_from(pick % among).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::{Batch, Engine, Error, Snapshot, Trouble};

    fn put(disk: &MemoryDisk, key: &str, value: &'static [u8]) -> Result<(), Error> {
        let mut batch = Batch::default();
        batch.put(Space::Log, key.into(), Bytes::from_static(value));
        disk.engine().commit(batch)
    }

    fn get(disk: &MemoryDisk, key: &str) -> Option<Bytes> {
        let snapshot = disk.engine().snapshot();
        snapshot.get(Space::Log, key.as_bytes()).unwrap()
    }

    #[test]
    fn values_rot_stray_and_go() {
        let disk = MemoryDisk::new();
        assert!(!disk.rot(Space::Log, 5) && !disk.misplace(Space::Log, 5) && !disk.lose_batch(5));
        put(&disk, "a", b"one").unwrap();
        put(&disk, "b", b"two").unwrap();
        assert!(disk.misplace(Space::Log, 0));
        assert_eq!(get(&disk, "a"), get(&disk, "b"));
        assert!(disk.rot(Space::Log, 0));
        assert_ne!(get(&disk, "a"), get(&disk, "b"));
        assert!(disk.lose_batch(0));
        assert_eq!(get(&disk, "a"), None);
        assert!(get(&disk, "b").is_some());
    }

    #[test]
    fn a_disk_in_trouble_fails() {
        let disk = MemoryDisk::new();
        for (survives, key) in [(true, "there"), (false, "gone")] {
            disk.set_trouble(Trouble {
                fails_next: Some(survives),
                ..Trouble::default()
            });
            assert!(put(&disk, key, b"one").is_err());
            assert_eq!(get(&disk, key).is_some(), survives);
            assert!(put(&disk, "after", b"one").is_ok());
        }
        disk.set_trouble(Trouble {
            refuses_reads: true,
            refuses_commits: true,
            fails_next: None,
        });
        assert!(put(&disk, "a", b"one").is_err());
        let snapshot = disk.engine().snapshot();
        assert!(snapshot.get(Space::Log, b"a").is_err());
        assert_eq!(disk.copy().trouble(), Trouble::default());
    }
}
