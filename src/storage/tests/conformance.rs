//! What every engine must do. The same suite runs on all of them.

use std::ops::{Bound, ControlFlow};

use bytes::Bytes;
use proptest::prelude::*;

use crate::storage::{Batch, Engine, Fjall, MemoryDisk, Snapshot, Space};

fn batch(ops: &[(Space, &str, Option<&str>)]) -> Batch {
    let mut batch = Batch::default();
    for (space, key, value) in ops {
        let key = key.as_bytes().to_vec();
        match value {
            Some(value) => batch.put(*space, key, Bytes::copy_from_slice(value.as_bytes())),
            None => batch.remove(*space, key),
        }
    }
    batch
}

fn list<S: Snapshot>(snapshot: &S, space: Space, from: Bound<&str>, to: Bound<&str>) -> String {
    let mut found = String::new();
    snapshot
        .range(
            space,
            from.map(str::as_bytes),
            to.map(str::as_bytes),
            &mut |key, value| {
                found.push_str(&String::from_utf8_lossy(key));
                found.push('=');
                found.push_str(&String::from_utf8_lossy(&value));
                found.push(' ');
                ControlFlow::Continue(())
            },
        )
        .unwrap();
    found
}

/// Checks an engine that is made on an empty disk and then again on the same disk.
pub(crate) fn check_engine<E: Engine>(open: &mut dyn FnMut() -> E) {
    use Bound::{Excluded, Included, Unbounded};
    let mut engine = open();
    let empty = engine.snapshot();
    engine
        .commit(batch(&[
            (Space::Rows, "b", Some("1")),
            (Space::Rows, "a", Some("2")),
            (Space::Rows, "c", Some("3")),
            (Space::Log, "a", Some("log")),
            (Space::Meta, "gone", None),
        ]))
        .unwrap();
    let first = engine.snapshot();
    engine
        .commit(batch(&[
            (Space::Rows, "b", Some("new")),
            (Space::Rows, "c", None),
            (Space::Meta, "m", Some("")),
        ]))
        .unwrap();
    let second = engine.snapshot();

    // Snapshots are fixed, across spaces.
    assert_eq!(list(&empty, Space::Rows, Unbounded, Unbounded), "");
    assert_eq!(
        list(&first, Space::Rows, Unbounded, Unbounded),
        "a=2 b=1 c=3 "
    );
    assert_eq!(
        list(&second, Space::Rows, Unbounded, Unbounded),
        "a=2 b=new "
    );
    assert_eq!(first.get(Space::Meta, b"m").unwrap(), None);
    assert_eq!(second.get(Space::Meta, b"m").unwrap(), Some(Bytes::new()));
    assert_eq!(
        second.get(Space::Log, b"a").unwrap(),
        Some(Bytes::from("log"))
    );
    assert_eq!(second.get(Space::Rows, b"c").unwrap(), None);
    // Bounds.
    let rows = |from, to| list(&first, Space::Rows, from, to);
    assert_eq!(rows(Included("a"), Excluded("c")), "a=2 b=1 ");
    assert_eq!(rows(Excluded("a"), Included("c")), "b=1 c=3 ");
    assert_eq!(rows(Included("b"), Included("b")), "b=1 ");
    assert_eq!(rows(Included("b"), Excluded("b")), "");
    assert_eq!(rows(Excluded("b"), Excluded("b")), "");
    assert_eq!(rows(Included("x"), Unbounded), "");
    // A visitor may stop, and may read.
    let mut seen = 0;
    first
        .range(Space::Rows, Unbounded, Unbounded, &mut |key, _| {
            assert!(first.get(Space::Rows, key).unwrap().is_some());
            seen += 1;
            ControlFlow::Break(())
        })
        .unwrap();
    assert_eq!(seen, 1);

    // Long ranges come in order, and all of them.
    let many: Vec<String> = (0..2000).map(|i| format!("k{i:05}")).collect();
    let mut long = Batch::default();
    for name in &many {
        long.put(
            Space::Log,
            name.clone().into_bytes(),
            Bytes::from_static(b"v"),
        );
    }
    engine.commit(long).unwrap();
    let mut found = Vec::new();
    engine
        .snapshot()
        .range(Space::Log, Included(b"k"), Unbounded, &mut |key, _| {
            found.push(String::from_utf8_lossy(key).into_owned());
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(found, many);

    // What was committed is there again.
    drop((empty, first, second, engine));
    let engine = open();
    let again = engine.snapshot();
    assert_eq!(
        list(&again, Space::Rows, Unbounded, Unbounded),
        "a=2 b=new "
    );
    assert_eq!(
        again.get(Space::Log, b"k01999").unwrap(),
        Some(Bytes::from("v"))
    );
}

#[test]
fn memory_conforms() {
    let disk = MemoryDisk::new();
    check_engine(&mut || disk.engine());
}

#[test]
fn a_crash_takes_back_what_was_not_synced() {
    let disk = MemoryDisk::new();
    let mut engine = disk.engine();
    engine
        .commit(batch(&[(Space::Rows, "a", Some("1"))]))
        .unwrap();
    engine.apply_unsynced(&batch(&[
        (Space::Rows, "a", Some("2")),
        (Space::Rows, "b", Some("2")),
    ]));
    engine.apply_unsynced(&batch(&[
        (Space::Rows, "a", None),
        (Space::Rows, "c", Some("3")),
    ]));
    assert_eq!(disk.unsynced(), 2);
    let all = |disk: &MemoryDisk| {
        let snapshot = disk.engine().snapshot();
        list(&snapshot, Space::Rows, Bound::Unbounded, Bound::Unbounded)
    };
    let copy = disk.copy();
    assert_eq!(all(&disk), "b=2 c=3 ");
    assert_eq!(disk.crash(1), 1);
    assert_eq!(all(&disk), "a=2 b=2 ");
    assert_eq!(copy.crash(0), 2);
    assert_eq!(all(&copy), "a=1 ");
    let mut engine = copy.engine();
    engine.commit(batch(&[(Space::Rows, "a", None)])).unwrap();
    assert_eq!(copy.crash(0), 0);
    assert_eq!(all(&copy), "");
}

/// A space, a key, and a value or removal.
type Op = (u8, u8, Option<u8>);

/// Batches, with a reopening after each where the number is zero.
fn histories() -> impl Strategy<Value = Vec<(Vec<Op>, u8)>> {
    let op = (0u8..3, 0u8..12, proptest::option::of(any::<u8>()));
    let batch = proptest::collection::vec(op, 1..8);
    proptest::collection::vec((batch, 0u8..6), 1..20)
}

fn everything<S: Snapshot>(snapshot: &S) -> Vec<String> {
    let all = (Bound::Unbounded, Bound::Unbounded);
    Space::ALL
        .iter()
        .map(|space| list(snapshot, *space, all.0, all.1))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, ..ProptestConfig::default() })]

    #[test]
    fn both_engines_tell_the_same_history(history in histories()) {
        let folder = tempfile::tempdir().unwrap();
        let mut fjall = Fjall::open(folder.path()).unwrap();
        let mut memory = MemoryDisk::new().engine();
        let mut kept = Vec::new();
        for (ops, reopen) in history {
            let mut batch = Batch::default();
            for (space, key, value) in ops {
                let space = Space::ALL[usize::from(space)];
                match value {
                    Some(value) => batch.put(space, vec![key], Bytes::from(value.to_string())),
                    None => batch.remove(space, vec![key]),
                }
            }
            fjall.commit(batch.clone()).unwrap();
            memory.commit(batch).unwrap();
            kept.push((fjall.snapshot(), memory.snapshot(), everything(&memory.snapshot())));
            for (on_disk, in_memory, then) in &kept {
                prop_assert_eq!(&everything(on_disk), then);
                prop_assert_eq!(&everything(in_memory), then);
            }
            if reopen == 0 {
                kept.clear();
                drop(fjall);
                fjall = Fjall::open(folder.path()).unwrap();
                prop_assert_eq!(everything(&fjall.snapshot()), everything(&memory.snapshot()));
            }
        }
    }
}
