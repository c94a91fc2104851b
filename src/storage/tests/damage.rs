//! What becomes of a data folder that is damaged, and of a node that meets damage while it runs.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, mpsc};

use tokio::sync::mpsc::Receiver;

use super::store::{Ticking, until_durable};
use super::{key, options, put};
use crate::model::{Answer, Query, Ticket};
use crate::storage::{Error, Opened, Refill, Store, StoreEvent, StoreOptions};

fn store_options(refill: Refill) -> (StoreOptions, mpsc::Receiver<String>) {
    let (failed, failures) = mpsc::channel();
    let failed = Mutex::new(failed);
    let mut options = StoreOptions::new(options(1), Arc::new(Ticking::default()));
    options.refill = refill;
    options.on_broken = Arc::new(move |reason: &str| {
        failed.lock().unwrap().send(reason.to_owned()).unwrap();
    });
    (options, failures)
}

type Open = Result<(Store, Opened, Receiver<StoreEvent>), Error>;

fn open(data: &Path, refill: Refill) -> Open {
    Store::open(data, store_options(refill).0)
}

/// A folder with some rows, stopped cleanly.
fn filled(data: &Path) {
    let (store, _, mut events) = open(data, Refill::Nobody).unwrap();
    let changes = (0..50).map(|i| (Ticket(i), put(&format!("k{i}"), "v")));
    store.submit(changes.collect()).unwrap();
    until_durable(&mut events, Ticket(49));
    drop(events);
    store.close().unwrap();
}

fn value(store: &Store, name: &str) -> Option<crate::model::Row> {
    let Answer::Rows(mut rows) = store.reader().answer(&Query::Rows(vec![key(name)])) else {
        panic!("unreadable");
    };
    rows.remove(0)
}

/// Cuts the last part off the journal that is in use: as the engine does by itself, in silence, where it finds damage.
fn cut_journal(data: &Path, keep: impl Fn(usize) -> usize) {
    let journal = fs::read_dir(data.join("store"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "jnl"))
        .max()
        .unwrap();
    let bytes = fs::read(&journal).unwrap();
    let used = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    let file = fs::OpenOptions::new().write(true).open(&journal).unwrap();
    let kept = keep(used);
    file.write_all_at(&vec![0; used - kept], u64::try_from(kept).unwrap())
        .unwrap();
}

#[test]
fn a_lost_end_of_the_journal_is_noticed_and_the_store_set_aside() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path();
    filled(data);
    cut_journal(data, |used| used - 40);
    let error = open(data, Refill::Nobody).unwrap_err();
    assert!(matches!(&error, Error::Damaged { .. }), "{error}");
    let words = error.to_string();
    assert!(
        words.contains("was durable") && words.contains("--start-empty"),
        "{words}"
    );
    // The next start says the same.
    let again = open(data, Refill::Nobody).unwrap_err().to_string();
    assert!(again.contains("--start-empty"), "{again}");

    let (store, opened, _events) = open(data, Refill::Peers).unwrap();
    assert!(opened.is_new);
    assert_eq!(value(&store, "k1"), None);
    assert!(data.join("store.damaged-1").exists());
    assert!(!data.join("damage").exists());
    store.close().unwrap();
    // And is whole from then on.
    let (_, again, _) = open(data, Refill::Nobody).unwrap();
    assert!(again.was_clean && !again.is_new);
    assert!(again.actor > opened.actor);
}

#[test]
fn an_operator_may_have_it_begin_empty() {
    let folder = tempfile::tempdir().unwrap();
    filled(folder.path());
    fs::write(folder.path().join("store/version"), b"nonsense").unwrap();
    assert!(open(folder.path(), Refill::Nobody).is_err());
    let (_, opened, _) = open(folder.path(), Refill::Forced).unwrap();
    assert!(opened.is_new);
}

#[test]
fn a_new_life_is_later_than_that_of_the_store_which_was_set_aside() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path();
    let (mut ahead, _) = store_options(Refill::Peers);
    ahead.open.wall.0 *= 2;
    let (store, before, _) = Store::open(data, ahead).unwrap();
    drop(store);
    cut_journal(data, |_| 40);
    // The wall clock went back by half a century, but the tail remembers.
    let (_, after, _) = open(data, Refill::Peers).unwrap();
    assert!(after.is_new);
    assert!(after.actor > before.actor);
}

#[test]
fn a_sound_folder_of_another_node_is_refused_and_not_set_aside() {
    let folder = tempfile::tempdir().unwrap();
    filled(folder.path());
    let (mut other, _) = store_options(Refill::Forced);
    other.open = options(2);
    let error = Store::open(folder.path(), other).unwrap_err();
    assert!(matches!(error, Error::Foreign { .. }), "{error}");
    assert!(!folder.path().join("store.damaged-1").exists());
    let (_, opened, _) = open(folder.path(), Refill::Nobody).unwrap();
    assert!(opened.was_clean);
}

#[test]
fn a_suspect_store_is_read_as_a_whole_and_then_believed() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path();
    filled(data);
    fs::write(data.join("damage"), "suspect\na flush has failed\n").unwrap();
    let (store, opened, _events) = open(data, Refill::Peers).unwrap();
    assert!(!opened.is_new);
    assert!(value(&store, "k1").is_some());
    assert!(!data.join("damage").exists());
}

#[test]
fn an_old_copy_of_the_whole_folder_is_no_damage() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    filled(&data);
    let copy = folder.path().join("copy");
    copy_folder(&data, &copy);
    filled(&data);
    let (_, opened, _) = open(&copy, Refill::Nobody).unwrap();
    assert!(opened.was_clean);
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), &to).unwrap();
        }
    }
}

#[test]
fn a_store_that_vanished_is_new_and_keeps_the_life_that_the_tail_knows() {
    let folder = tempfile::tempdir().unwrap();
    filled(folder.path());
    fs::remove_dir_all(folder.path().join("store")).unwrap();
    let (_, opened, _) = open(folder.path(), Refill::Nobody).unwrap();
    assert!(opened.is_new);
}
