//! FJ4: snapshots that are taken between commits stay as they were, whatever is flushed and compacted meanwhile, and hold
//! each batch as a whole.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use bytes::Bytes;

use super::{TINY, factor, folder};
use crate::storage::{Batch, Engine as _, Fjall, FjallSnapshot, Snapshot as _, Space};

const KEYS: u64 = 8;

/// Every key of every space says the same number.
fn check(snapshot: &FjallSnapshot, number: u64) {
    for space in Space::ALL {
        for key in 0..KEYS {
            let value = snapshot.get(space, &key.to_be_bytes()).unwrap().unwrap();
            assert_eq!(
                value.first_chunk(),
                Some(&number.to_be_bytes()),
                "{space} {key}"
            );
        }
    }
}

#[test]
fn snapshots_between_commits_do_not_move() {
    let folder = folder();
    let mut engine = Fjall::open_with(folder.path(), TINY).unwrap();
    let taken: Arc<Mutex<Vec<(u64, FjallSnapshot)>>> = Arc::default();
    let is_done = Arc::new(AtomicBool::new(false));
    let (seen, done) = (Arc::clone(&taken), Arc::clone(&is_done));
    let reader = thread::spawn(move || {
        let mut checks = 0_u64;
        while !done.load(Ordering::Relaxed) {
            let some: Vec<_> = seen
                .lock()
                .unwrap()
                .iter()
                .rev()
                .take(20)
                .cloned()
                .collect();
            for (number, snapshot) in some {
                check(&snapshot, number);
                checks += 1;
            }
        }
        checks
    });
    for number in 0..1500 * factor() as u64 {
        let mut batch = Batch::default();
        let mut value = number.to_be_bytes().to_vec();
        value.resize(64, 7);
        for space in Space::ALL {
            for key in 0..KEYS {
                batch.put(
                    space,
                    key.to_be_bytes().to_vec(),
                    Bytes::from(value.clone()),
                );
            }
        }
        engine.commit(batch).unwrap();
        let snapshot = engine.snapshot();
        check(&snapshot, number);
        let mut taken = taken.lock().unwrap();
        taken.push((number, snapshot));
        if taken.len() > 100 {
            taken.drain(..50);
        }
    }
    is_done.store(true, Ordering::Relaxed);
    println!("{} looks at older snapshots", reader.join().unwrap());
}
