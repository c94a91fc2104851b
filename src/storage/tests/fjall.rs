//! The engine on disk: the same suite, and the door on it.

use std::fs;

use bytes::Bytes;

use super::conformance::check_engine;
use super::{COUNT, SPACE, WALL, delete, options, put};
use crate::model::{Answer, PartitionId, Query, Row};
use crate::storage::{Door, Error, Fjall};

#[test]
fn fjall_conforms() {
    let folder = tempfile::tempdir().unwrap();
    check_engine(&mut || Fjall::open(folder.path()).unwrap());
}

#[test]
fn a_first_start_that_was_cut_short_is_begun_again() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(folder.path().join("store.new/keyspaces")).unwrap();
    fs::write(folder.path().join("store.new/0.jnl"), b"half").unwrap();
    drop(Fjall::open(folder.path()).unwrap());
    assert!(!folder.path().join("store.new").exists());
    drop(Fjall::open(folder.path()).unwrap());
}

#[test]
fn a_damaged_folder_is_an_error_that_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    drop(Fjall::open(folder.path()).unwrap());
    fs::write(folder.path().join("store/version"), b"nonsense").unwrap();
    let error = Fjall::open(folder.path()).unwrap_err();
    assert!(matches!(error, Error::Engine { .. }));
    assert!(
        error.to_string().contains("move the data folder aside"),
        "{error}"
    );
}

#[test]
fn two_stores_do_not_share_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let _first = Fjall::open(folder.path()).unwrap();
    assert!(matches!(Fjall::open(folder.path()), Err(Error::InUse)));
}

#[test]
fn the_door_works_on_disk_and_after_opening_again() {
    let folder = tempfile::tempdir().unwrap();
    let (mut door, opened) = Door::open(Fjall::open(folder.path()).unwrap(), options(1)).unwrap();
    assert!(opened.is_new);
    for round in 0..20 {
        let changes: Vec<_> = (0..20)
            .map(|i| put(&format!("k{i}"), &round.to_string()))
            .collect();
        door.stage(WALL, &changes).unwrap();
        door.commit().unwrap();
    }
    door.stage(WALL, &[delete("k3")]).unwrap();
    door.commit().unwrap();
    assert_eq!(door.reader().verify_digests().unwrap(), Vec::new());
    let roots = |door: &Door<Fjall>| -> Vec<_> {
        let partitions = (0..COUNT).map(|index| PartitionId {
            keyspace: SPACE,
            index,
        });
        partitions.map(|id| door.reader().root(id)).collect()
    };
    let before = roots(&door);
    door.close().unwrap();

    let (door, again) = Door::open(Fjall::open(folder.path()).unwrap(), options(1)).unwrap();
    assert!(again.was_clean);
    assert!(again.actor > opened.actor);
    assert_eq!(roots(&door), before);
    assert_eq!(door.reader().verify_digests().unwrap(), Vec::new());
    let rows = vec![super::key("k3"), super::key("k4")];
    let Answer::Rows(rows) = door.reader().answer(&Query::Rows(rows)) else {
        panic!("unreadable");
    };
    assert!(rows[0].as_ref().is_some_and(Row::is_tombstone));
    let Some(Row::Register(version)) = &rows[1] else {
        panic!("absent");
    };
    assert_eq!(version.value, Some(Bytes::from("19")));
    drop(door);

    let (_, third) = Door::open(Fjall::open(folder.path()).unwrap(), options(1)).unwrap();
    assert!(!third.was_clean);
    assert!(third.actor > opened.actor);
}
