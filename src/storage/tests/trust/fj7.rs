//! FJ7: journals stay bounded, though one space is hardly written: an idle one would pin them.

use std::path::Path;

use bytes::Bytes;

use super::{factor, folder};
use crate::storage::fjall::Sizes;
use crate::storage::{Batch, Engine as _, Fjall, Space};

/// Journals in bytes on disk.
fn journals(data: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let entries = std::fs::read_dir(data.join("store")).unwrap();
    let journal = |path: &Path| path.extension().is_some_and(|end| end == "jnl");
    entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| journal(path))
        .filter_map(|path| std::fs::metadata(path).ok())
        .map(|file| file.blocks() * 512)
        .sum()
}

#[test]
fn an_idle_space_does_not_keep_the_journals() {
    let folder = folder();
    let sizes = Sizes {
        rows_memtable_bytes: 4 << 20,
        ..Sizes::default()
    };
    let mut engine = Fjall::open_with(folder.path(), sizes).unwrap();
    let mut idle = Batch::default();
    idle.put(Space::Log, b"once".to_vec(), Bytes::from("v"));
    engine.commit(idle).unwrap();
    let mut chance = fastrand::Rng::with_seed(1);
    let mut most = 0;
    for i in 0..500 * factor() as u64 {
        let mut value = vec![0; 1 << 20];
        chance.fill(&mut value);
        let mut batch = Batch::default();
        batch.put(
            Space::Rows,
            (i % 50).to_be_bytes().to_vec(),
            Bytes::from(value),
        );
        engine.commit(batch).unwrap();
        most = most.max(journals(folder.path()));
    }
    println!("journals: at most {} MiB", most >> 20);
    // Flushing of idle memtables begins at 192 MiB; it is a trigger and no cap.
    assert!(most < 512 << 20, "{most}");
}
