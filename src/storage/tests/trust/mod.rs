//! How far the engine is to be trusted, and whether this room catches what it lets pass. What each of these showed is
//! written down in `docs/storage-trust.md`.
//!
//! Each is small in an ordinary run; `STERNA_TRUST=<factor>` makes them longer.

mod fj1;
mod fj10;
mod fj2;
mod fj3;
mod fj4;
mod fj5;
mod fj6;
mod fj7;
mod fj8;
mod fj9;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use tempfile::TempDir;

use super::{COUNT, SPACE, WALL, options};
use crate::model::{Change, PartitionId, Row, RowKey, Write, WriteOp};
use crate::storage::fjall::Sizes;
use crate::storage::{Door, Fjall, Opened};

/// How much longer than usual.
pub(super) fn factor() -> usize {
    std::env::var("STERNA_TRUST").map_or(1, |text| text.parse().unwrap())
}

/// A seed, and a generator from it; the seed is printed, for a run that failed.
pub(super) fn chance() -> fastrand::Rng {
    let seed =
        std::env::var("STERNA_SEED").map_or_else(|_| fastrand::u64(..), |s| s.parse().unwrap());
    println!("seed {seed}");
    fastrand::Rng::with_seed(seed)
}

/// A folder in memory if there is one: these tests sync thousands of times.
pub(super) fn folder() -> TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() {
        return tempfile::tempdir_in(memory).unwrap();
    }
    tempfile::tempdir().unwrap()
}

/// So small that all happens soon: flushes, and with them compactions.
pub(super) const TINY: Sizes = Sizes {
    rows_memtable_bytes: 16 << 10,
    other_memtable_bytes: 8 << 10,
    workers: 2,
};

pub(super) fn open_with(data: &Path, sizes: Sizes) -> (Door<Fjall>, Opened) {
    Door::open(Fjall::open_with(data, sizes).unwrap(), options(1)).unwrap()
}

pub(super) fn put_bytes(name: &str, value: Vec<u8>) -> Change {
    Change::Write(Write::new(
        super::key(name),
        WriteOp::Put(Bytes::from(value)),
    ))
}

pub(super) fn commit(door: &mut Door<Fjall>, changes: &[Change]) {
    door.stage(WALL, changes).unwrap();
    door.commit().unwrap();
}

/// The values of all rows; a deleted one is `None`.
pub(super) fn values(door: &Door<Fjall>) -> BTreeMap<RowKey, Option<Bytes>> {
    let mut found = BTreeMap::new();
    for index in 0..COUNT {
        let partition = PartitionId {
            keyspace: SPACE,
            index,
        };
        let visit = |key, row| {
            let Row::Register(version) = row else {
                panic!("not a register: {row:?}");
            };
            found.insert(key, version.value);
        };
        door.reader().for_each_row(partition, visit).unwrap();
    }
    found
}

/// The files of a folder as they are now: their bytes without the zeros at the end, and their lengths.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Image(pub(super) BTreeMap<PathBuf, (Vec<u8>, u64)>);

impl Image {
    pub(super) fn of(folder: &Path) -> Self {
        let mut files = BTreeMap::new();
        collect(folder, folder, &mut files);
        Self(files)
    }

    /// Writes the files into an empty folder.
    pub(super) fn write(&self, folder: &Path) {
        for (name, (bytes, length)) in &self.0 {
            let path = folder.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            let mut file = File::create(path).unwrap();
            file.write_all(bytes).unwrap();
            file.set_len(*length).unwrap();
        }
    }

    /// The journal that was in use.
    pub(super) fn journal(&self) -> PathBuf {
        let journals = self
            .0
            .keys()
            .filter(|name| name.extension().is_some_and(|end| end == "jnl"));
        let number = |name: &&PathBuf| {
            name.file_stem()
                .unwrap()
                .to_str()
                .unwrap()
                .parse::<u64>()
                .unwrap()
        };
        journals.max_by_key(number).unwrap().clone()
    }
}

fn collect(root: &Path, folder: &Path, files: &mut BTreeMap<PathBuf, (Vec<u8>, u64)>) {
    // The engine may move and remove files and folders at the same time.
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            collect(root, &path, files);
        } else if let (Ok(bytes), Ok(name)) = (read_used(&path), path.strip_prefix(root)) {
            files.insert(name.to_owned(), bytes);
        }
    }
}

/// Reads a file up to its zeros; a journal is long and mostly empty.
fn read_used(path: &Path) -> std::io::Result<(Vec<u8>, u64)> {
    use std::io::{Read as _, Seek as _};
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    let used = crate::storage::torn::used(&mut file)?;
    file.rewind()?;
    let mut bytes = Vec::new();
    file.take(used).read_to_end(&mut bytes)?;
    Ok((bytes, length))
}
