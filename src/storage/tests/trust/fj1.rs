//! FJ1: the engine against an ordered map: tiny memtables, batches over all spaces, deletes, snapshots, reopening.

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};

use bytes::Bytes;

use super::{chance, factor, folder};
use crate::storage::fjall::Sizes;
use crate::storage::{Batch, Engine as _, Fjall, FjallSnapshot, Snapshot as _, Space};

type Map = BTreeMap<(Space, Vec<u8>), Bytes>;

fn check(snapshot: &FjallSnapshot, map: &Map, chance: &mut fastrand::Rng) {
    let mut found = Map::new();
    for space in Space::ALL {
        let all = (Bound::Unbounded, Bound::Unbounded);
        let mut visit = |key: &[u8], value: Bytes| {
            found.insert((space, key.to_vec()), value);
            ControlFlow::Continue(())
        };
        snapshot.range(space, all.0, all.1, &mut visit).unwrap();
    }
    assert!(found == *map, "a snapshot is not what was committed");
    for _ in 0..20 {
        let (space, key) = (Space::ALL[chance.usize(..3)], key(chance));
        let value = snapshot.get(space, &key).unwrap();
        assert_eq!(value.as_ref(), map.get(&(space, key)));
    }
}

fn key(chance: &mut fastrand::Rng) -> Vec<u8> {
    chance.u16(..300).to_string().into_bytes()
}

#[test]
fn the_engine_is_an_ordered_map() {
    let mut chance = chance();
    for workers in [1, 2, 4] {
        let folder = folder();
        let sizes = Sizes {
            rows_memtable_bytes: 1 << chance.u8(10..16),
            other_memtable_bytes: 1 << chance.u8(10..16),
            workers,
        };
        let mut map = Map::new();
        let mut old: Vec<(FjallSnapshot, Map)> = Vec::new();
        for _life in 0..4 {
            let mut engine = Fjall::open_with(folder.path(), sizes).unwrap();
            check(&engine.snapshot(), &map, &mut chance);
            for round in 0..200 * factor() {
                let mut batch = Batch::default();
                for _ in 0..chance.usize(1..20) {
                    let (space, key) = (Space::ALL[chance.usize(..3)], key(&mut chance));
                    if chance.u8(..4) == 0 {
                        batch.remove(space, key.clone());
                        map.remove(&(space, key));
                    } else {
                        let mut value = vec![0; chance.usize(..400)];
                        chance.fill(&mut value);
                        let value = Bytes::from(value);
                        batch.put(space, key.clone(), value.clone());
                        map.insert((space, key), value);
                    }
                }
                engine.commit(batch).unwrap();
                if round % 40 == 0 {
                    old.push((engine.snapshot(), map.clone()));
                    let (snapshot, then) = &old[chance.usize(..old.len())];
                    check(snapshot, then, &mut chance);
                }
            }
            check(&engine.snapshot(), &map, &mut chance);
            old.clear();
        }
    }
}
