//! The engine on disk: one fjall database.
//!
//! What is kept to, because of what fjall 3 does: one thread writes, in batches that are synced by their
//! commit; snapshots are taken by that thread between commits, and every read goes through one; sizes
//! are checked by the door; nothing is dropped after a failed sync (the process aborts); the folder is made
//! beside its place and renamed, because a first start that was cut short cannot be opened.

use std::fs::{self, File};
use std::ops::{Bound, ControlFlow};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode, Readable as _};

use super::damage::{COMMIT, STORE};
use super::engine::is_void;
use super::tail::{Tail, TailFile};
use super::{Batch, Engine, Error, Snapshot, Space, journal};

/// Block cache in bytes. Several nodes may run in one process.
const CACHE_BYTES: u64 = 16 << 20;

/// Sizes and threads of a database.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    /// Memtable of the rows in bytes; up to five may be alive when the disk is slower than the writes.
    pub(super) rows_memtable_bytes: u64,
    /// Memtables of log and meta in bytes.
    pub(super) other_memtable_bytes: u64,
    /// Flushes and compactions at a time: with one thread a long compaction would hold up flushes, and so writes.
    pub(super) workers: usize,
}

impl Default for Sizes {
    fn default() -> Self {
        Self {
            rows_memtable_bytes: 16 << 20,
            other_memtable_bytes: 8 << 20,
            workers: 2,
        }
    }
}

/// Journals in bytes beyond which idle memtables are flushed too. It triggers, it does not cap.
const JOURNAL_BYTES: u64 = 192 << 20;

/// The engine.
pub struct Fjall {
    database: Database,
    keyspaces: Keyspaces,
    data: PathBuf,
    tail: TailFile,
}

#[derive(Clone)]
struct Keyspaces {
    rows: Keyspace,
    log: Keyspace,
    meta: Keyspace,
}

impl Keyspaces {
    fn get(&self, space: Space) -> &Keyspace {
        match space {
            Space::Rows => &self.rows,
            Space::Log => &self.log,
            Space::Meta => &self.meta,
        }
    }
}

impl std::fmt::Debug for Fjall {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fjall").finish_non_exhaustive()
    }
}

impl Fjall {
    /// Opens the database in the folder `store` of a data folder, making both if they are not there.
    ///
    /// # Errors
    /// The folder cannot be made, is in use, or is damaged.
    pub fn open(data: &Path) -> Result<Self, Error> {
        Self::open_with(data, Sizes::default())
    }

    pub(super) fn open_with(data: &Path, sizes: Sizes) -> Result<Self, Error> {
        let path = data.join(STORE);
        fs::create_dir_all(data).map_err(file_error("create the folder", data))?;
        let is_there = path.try_exists().map_err(file_error("look for", &path))?;
        let mut tail = TailFile::open(data)?;
        if !is_there {
            create(data, &path, sizes, &mut tail)?;
        }
        journal::check(&path)?;
        let (database, keyspaces) = open(&path, sizes)?;
        Ok(Self {
            database,
            keyspaces,
            data: data.to_owned(),
            tail,
        })
    }
}

/// Makes an empty database beside its place, and moves it there when it is whole.
fn create(data: &Path, path: &Path, sizes: Sizes, tail: &mut TailFile) -> Result<(), Error> {
    let fresh = data.join("store.new");
    if fresh.try_exists().map_err(file_error("look for", &fresh))? {
        fs::remove_dir_all(&fresh).map_err(file_error("remove the unfinished folder", &fresh))?;
    }
    drop(open(&fresh, sizes)?);
    // What a store that is gone had durable must not be asked of this one.
    tail.begin()
        .map_err(file_error("begin the note of the last batch in", data))?;
    fs::rename(&fresh, path).map_err(file_error("move into place the folder", &fresh))?;
    File::open(data)
        .and_then(|folder| folder.sync_all())
        .map_err(file_error("sync the folder", data))
}

fn open(path: &Path, sizes: Sizes) -> Result<(Database, Keyspaces), Error> {
    let database = Database::builder(path)
        .cache_size(CACHE_BYTES)
        .max_journaling_size(JOURNAL_BYTES)
        .worker_threads(sizes.workers)
        .open()
        .map_err(|cause| {
            if matches!(cause, fjall::Error::Locked) {
                Error::InUse
            } else {
                engine_error("open the database")(cause)
            }
        })?;
    let keyspace = |name, memtable| {
        database
            .keyspace(name, || {
                KeyspaceCreateOptions::default().max_memtable_size(memtable)
            })
            .map_err(engine_error("open a keyspace of the database"))
    };
    let keyspaces = Keyspaces {
        rows: keyspace("rows", sizes.rows_memtable_bytes)?,
        log: keyspace("log", sizes.other_memtable_bytes)?,
        meta: keyspace("meta", sizes.other_memtable_bytes)?,
    };
    Ok((database, keyspaces))
}

fn engine_error(deed: &'static str) -> impl Fn(fjall::Error) -> Error {
    move |cause| Error::Engine { deed, cause }
}

fn file_error(deed: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    let path: PathBuf = path.to_owned();
    move |cause| Error::File { deed, path, cause }
}

impl Engine for Fjall {
    type Snapshot = FjallSnapshot;

    fn snapshot(&self) -> FjallSnapshot {
        FjallSnapshot {
            snapshot: self.database.snapshot(),
            keyspaces: self.keyspaces.clone(),
        }
    }

    fn commit(&mut self, batch: Batch) -> Result<(), Error> {
        // fdatasync: what is needed to read the data again, its length included, is synced with it.
        let mut out = self
            .database
            .batch()
            .durability(Some(PersistMode::SyncData));
        for space in Space::ALL {
            let keyspace = self.keyspaces.get(space);
            for (key, value) in batch.ops(space) {
                match value {
                    Some(value) => out.insert(keyspace, key.as_slice(), value.as_ref()),
                    None => out.remove(keyspace, key.as_slice()),
                }
            }
        }
        out.commit().map_err(engine_error(COMMIT))
    }

    fn folder(&self) -> Option<&Path> {
        Some(&self.data)
    }

    fn tail(&self) -> Option<Tail> {
        self.tail.found()
    }

    fn note_tail(&mut self, tail: Tail) {
        if let Err(error) = self.tail.write(tail) {
            tracing::warn!(%error, "the last batch cannot be noted beside the store");
        }
    }
}

/// A fixed state of the database.
#[derive(Clone)]
pub struct FjallSnapshot {
    snapshot: fjall::Snapshot,
    keyspaces: Keyspaces,
}

impl std::fmt::Debug for FjallSnapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FjallSnapshot").finish_non_exhaustive()
    }
}

impl Snapshot for FjallSnapshot {
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>, Error> {
        let value = self
            .snapshot
            .get(self.keyspaces.get(space), key)
            .map_err(engine_error("read from the database"))?;
        // Copied: the engine's slice would keep a whole block in memory.
        Ok(value.map(|value| Bytes::copy_from_slice(&value)))
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
        let keyspace = self.keyspaces.get(space);
        for entry in self.snapshot.range::<&[u8], _>(keyspace, (from, to)) {
            let (key, value) = entry
                .into_inner()
                .map_err(engine_error("read from the database"))?;
            if visit(&key, Bytes::copy_from_slice(&value)).is_break() {
                break;
            }
        }
        Ok(())
    }
}
