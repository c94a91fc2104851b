//! FJ6: names that the engine cannot take. It panics with a lock held, and no later write succeeds; so none may come to it.

use bytes::Bytes;

use super::{WALL, folder};
use crate::model::{Change, Effect, KeyspaceId, RowKey, Write, WriteOp};
use crate::storage::tests::{key, options};
use crate::storage::{Batch, Door, Engine as _, Fjall, Space};

#[test]
fn the_engine_panics_over_a_name_that_is_empty_or_too_long() {
    for name in [Vec::new(), vec![1; 65_536]] {
        let folder = folder();
        let mut engine = Fjall::open(folder.path()).unwrap();
        let mut batch = Batch::default();
        batch.put(Space::Rows, name, Bytes::from("v"));
        let result =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| engine.commit(batch)));
        assert!(
            result.is_err(),
            "if it no longer does, docs/storage-trust.md is wrong"
        );
    }
}

#[test]
fn no_change_brings_such_a_name_to_it() {
    let folder = folder();
    let (mut door, _) = Door::open(Fjall::open(folder.path()).unwrap(), options(1)).unwrap();
    let names = [vec![], vec![0; 16 << 10], vec![0; 65_536], vec![7; 200_000]];
    for name in names {
        let plain = RowKey::plain(KeyspaceId(7), Bytes::from(name.clone()));
        let part = RowKey {
            subkey: Bytes::from(name.clone()),
            ..key("a")
        };
        let member = WriteOp::Members {
            add: vec![Bytes::from(name)],
            remove: Vec::new(),
        };
        let changes = [
            Change::Write(Write::new(plain.clone(), WriteOp::Put(Bytes::from("v")))),
            Change::Write(Write::new(key("set"), member)),
            Change::Forget {
                key: plain,
                expected: 1,
            },
            Change::Forget {
                key: part,
                expected: 1,
            },
        ];
        for change in changes {
            let effects = door.stage(WALL, &[change]).unwrap();
            assert!(!matches!(effects[0], Effect::Written { .. }));
            door.commit().unwrap();
        }
    }
    // The longest name that is taken fits, though every byte of it is escaped.
    let mut wide = options(1);
    wide.limits.key_bytes_max = 16 << 10;
    drop(door);
    let (mut door, _) = Door::open(Fjall::open(folder.path()).unwrap(), wide).unwrap();
    let longest = RowKey::plain(KeyspaceId(7), Bytes::from(vec![0; 16 << 10]));
    let write = Change::Write(Write::new(longest, WriteOp::Put(Bytes::from("v"))));
    let effects = door.stage(WALL, &[write]).unwrap();
    assert!(matches!(effects[0], Effect::Written { .. }), "{effects:?}");
    door.commit().unwrap();
}
