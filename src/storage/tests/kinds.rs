//! Random histories of all kinds of rows on three doors: whatever the order, the path or the repetition, they end
//! alike, and nothing that was collected comes back.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{SPACE, WALL, bytes, check_store, key, options, piece, position, roots};
use crate::model::{
    Actor, Change, Collection, Context, Duration, Effect, OpId, PartitionId, Place, Row, RowKey,
    Wall, Write, WriteOp,
};
use crate::storage::{Door, Memory, MemoryDisk, OpenOptions};

#[derive(Clone, Debug)]
enum Step {
    /// At a door, to a key, with a life in microseconds or none.
    Write(usize, u8, WriteOp, u64),
    Clear(usize, u8, Collection),
    Feed(usize, usize),
    Hold(usize, usize),
    Release(usize),
    Repair(usize, usize, usize),
    Expire(usize),
    Collect,
    Restart(usize),
}

fn ops() -> impl Strategy<Value = WriteOp> {
    let name = || (0u8..3).prop_map(|i| bytes(&i.to_string()));
    let names = move || proptest::collection::vec(name(), 0..3);
    let place = move || prop_oneof![Just(Place::Key), name().prop_map(Place::Field)];
    let id = || proptest::option::of((0u128..3).prop_map(OpId));
    let value = || (0u8..9).prop_map(|i| bytes(&i.to_string()));
    prop_oneof![
        2 => value().prop_map(WriteOp::Put),
        1 => Just(WriteOp::Delete),
        3 => (place(), -3i64..9, id()).prop_map(|(place, delta, id)| WriteOp::Add { place, delta, id }),
        1 => place().prop_map(|place| WriteOp::Reset { place }),
        3 => (names(), names()).prop_map(|(add, remove)| WriteOp::Members { add, remove }),
        3 => (
            proptest::collection::vec((name(), value()), 0..3),
            proptest::collection::vec((name(), 0i64..5), 0..2),
            names(),
            id(),
        )
            .prop_map(|(put, add, remove, id)| WriteOp::Fields { put, add, remove, id }),
        2 => (value(), any::<bool>()).prop_map(|(value, sees)| WriteOp::PutSibling {
            value,
            seen: sees.then(Context::default),
        }),
        1 => Just(WriteOp::DeleteSiblings { seen: None }),
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let door = || 0usize..3;
    let collection = || prop_oneof![Just(Collection::Set), Just(Collection::Map)];
    let life = || prop_oneof![Just(0u64), 1u64..400];
    let step = prop_oneof![
        12 => (door(), 0u8..2, ops(), life()).prop_map(|(d, k, op, life)| Step::Write(d, k, op, life)),
        2 => (door(), 0u8..2, collection()).prop_map(|(d, k, c)| Step::Clear(d, k, c)),
        6 => (door(), door()).prop_map(|(a, b)| Step::Feed(a, b)),
        2 => (door(), door()).prop_map(|(a, b)| Step::Hold(a, b)),
        2 => (0usize..8).prop_map(Step::Release),
        3 => (door(), door(), 0usize..40).prop_map(|(a, b, i)| Step::Repair(a, b, i)),
        2 => door().prop_map(Step::Expire),
        1 => Just(Step::Collect),
        1 => door().prop_map(Step::Restart),
    ];
    proptest::collection::vec(step, 1..60)
}

struct World {
    disks: Vec<MemoryDisk>,
    doors: Vec<Option<Door<Memory>>>,
    held: Vec<(usize, Change)>,
    wall: u64,
}

fn setup(index: usize) -> OpenOptions {
    let node = u32::try_from(index).unwrap() + 1;
    OpenOptions {
        // One of them keeps what lost.
        conflicts_kept: BTreeMap::from([(SPACE, Duration::from_micros(300))])
            .into_iter()
            .filter(|_| index == 0)
            .collect(),
        ..options(node)
    }
}

fn all_rows(door: &Door<Memory>) -> Vec<(RowKey, Row)> {
    let mut rows = Vec::new();
    for partition in options(0).partitions {
        let reader = door.reader();
        let visit = |key, row| rows.push((key, row));
        reader.for_each_row(partition, visit).unwrap();
    }
    rows
}

/// What a client can tell of a store.
fn seen(door: &Door<Memory>) -> BTreeMap<RowKey, u64> {
    let rows = all_rows(door).into_iter();
    let live = rows.filter(|(_, row)| !row.is_tombstone());
    let state = |mut row: Row| {
        // It is taken over from the share that is collected.
        if let Row::Once(once) = &mut row {
            once.gone.clear();
        }
        row.summary().state
    };
    live.map(|(key, row)| (key, state(row))).collect()
}

impl World {
    fn new() -> Self {
        let disks: Vec<MemoryDisk> = (0..3).map(|_| MemoryDisk::new()).collect();
        let doors = disks.iter().enumerate();
        let doors = doors.map(|(i, disk)| Some(Door::open(disk.engine(), setup(i)).unwrap().0));
        Self {
            doors: doors.collect(),
            disks,
            held: Vec::new(),
            wall: WALL.0,
        }
    }

    fn door(&self, index: usize) -> &Door<Memory> {
        self.doors[index].as_ref().unwrap()
    }

    fn change(&mut self, index: usize, change: &Change) -> Effect {
        self.wall += 7;
        // Clocks differ, though by less than is allowed.
        let skew = 100_000 * u64::try_from(index).unwrap();
        let wall = Wall(self.wall + skew);
        let door = self.doors[index].as_mut().unwrap();
        let effects = door.stage(wall, std::slice::from_ref(change)).unwrap();
        door.commit().unwrap();
        effects.into_iter().next().unwrap()
    }

    fn write(&mut self, index: usize, k: u8, mut op: WriteOp, life: u64) {
        let mut name = format!("k{k}");
        if let WriteOp::PutSibling { seen, .. } = &mut op {
            name = format!("s{k}");
            if seen.is_some()
                && let Some(Row::Siblings(row)) = super::row(self.door(index), &name)
            {
                *seen = Some(row.context());
            }
        }
        if matches!(op, WriteOp::DeleteSiblings { .. }) {
            name = format!("s{k}");
        }
        let write = Write {
            expires: (life > 0).then(|| Wall(self.wall + life)),
            ..Write::new(key(&name), op)
        };
        let effect = self.change(index, &Change::Write(write));
        assert!(matches!(effect, Effect::Written { .. }), "{effect:?}");
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Write(door, k, op, life) => self.write(*door, *k, op.clone(), *life),
            Step::Clear(door, k, collection) => {
                let seen = Context::default();
                let collection = *collection;
                self.write(*door, *k, WriteOp::Clear { collection, seen }, 0);
            }
            Step::Feed(from, to) => {
                for change in self.pieces(*from, *to) {
                    self.change(*to, &change);
                }
            }
            Step::Hold(from, to) => {
                let pieces = self.pieces(*from, *to).into_iter();
                self.held.extend(pieces.map(|piece| (*to, piece)));
            }
            Step::Release(at) => {
                if let Some((to, change)) = self.held.get(*at).cloned() {
                    self.change(to, &change);
                }
            }
            Step::Repair(from, to, at) => {
                let rows = all_rows(self.door(*from));
                if let Some((key, row)) = rows.get(at % rows.len().max(1)).cloned() {
                    let effect = self.change(*to, &Change::Repair { key, row });
                    assert!(matches!(effect, Effect::Repaired { .. }), "{effect:?}");
                }
            }
            Step::Expire(door) => self.expire(*door),
            Step::Collect => self.collect(),
            Step::Restart(door) => {
                // A start sets the clock on to its bound.
                self.wall += 130_000;
                self.doors[*door] = None;
                self.disks[*door].crash(0);
                let opened = Door::open(self.disks[*door].engine(), setup(*door)).unwrap();
                self.doors[*door] = Some(opened.0);
            }
        }
    }

    fn expire(&mut self, door: usize) {
        let now = Wall(self.wall);
        for partition in options(0).partitions {
            self.change(door, &Change::Expire { partition, now });
        }
    }

    /// Collecting is only promised to be safe while nothing older is on its way.
    fn collect(&mut self) {
        self.settle();
        self.held.clear();
        for partition in options(0).partitions {
            let position = position(self.door(0), partition);
            let reaches = position.reaches.iter();
            let floor: BTreeMap<Actor, u64> = reaches
                .map(|(actor, reach)| (*actor, reach.complete))
                .collect();
            for door in 0..3 {
                let floor = floor.clone();
                self.change(door, &Change::Collect { partition, floor });
            }
        }
    }

    fn pieces(&self, from: usize, to: usize) -> Vec<Change> {
        let mut pieces = Vec::new();
        for partition in options(0).partitions {
            for actor in position(self.door(from), partition).reaches.into_keys() {
                pieces.extend(piece(self.door(from), self.door(to), partition, actor));
            }
        }
        pieces
    }

    fn settle(&mut self) {
        // What is written in reaction must cross too.
        for _ in 0..4 {
            for from in 0..3 {
                for to in 0..3 {
                    for change in self.pieces(from, to) {
                        let effect = self.change(to, &change);
                        assert!(matches!(effect, Effect::Appended { .. }), "{effect:?}");
                    }
                }
            }
        }
    }

    fn check(&self) {
        let expected = (seen(self.door(0)), roots(self.door(0)));
        for door in 0..3 {
            let door = self.door(door);
            check_store(door);
            assert_eq!((seen(door), roots(door)), expected);
            for partition in options(0).partitions {
                let partition: PartitionId = partition;
                assert_eq!(position(door, partition), position(self.door(0), partition));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn all_kinds_converge(steps in steps()) {
        let mut world = World::new();
        for step in &steps {
            world.step(step);
        }
        world.settle();
        world.check();
        let before = seen(world.door(0));
        world.collect();
        world.check();
        prop_assert_eq!(&seen(world.door(0)), &before);
        // What was held and comes late changes nothing, also after collecting.
        for (to, change) in std::mem::take(&mut world.held) {
            world.change(to, &change);
        }
        world.check();
        prop_assert_eq!(&seen(world.door(0)), &before);
        world.wall += 1_000_000;
        world.expire(1);
        world.settle();
        world.check();
    }
}
