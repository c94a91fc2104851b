//! Random histories on three doors: whatever the order, the path or the repetition, they end alike.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{
    WALL, apply, check_store, delete, dump, feed, fresh, options, piece, position, put, roots,
};
use crate::model::{Actor, Change, Effect, Wall};
use crate::storage::{Door, Memory};

#[derive(Clone, Debug)]
enum Step {
    Put(usize, u8),
    Delete(usize, u8),
    /// A whole piece, from one door to another; the second may be a copy that came late.
    Feed(usize, usize),
    /// Keeps a piece for later.
    Hold(usize, usize, u8),
    /// Delivers what was held.
    Release(usize),
    /// A single row, as in read repair.
    Repair(usize, usize, u8),
    Trim(usize, u64),
    Collect,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let door = 0usize..3;
    let name = 0u8..6;
    let step = prop_oneof![
        4 => (door.clone(), name.clone()).prop_map(|(d, k)| Step::Put(d, k)),
        2 => (door.clone(), name.clone()).prop_map(|(d, k)| Step::Delete(d, k)),
        3 => (door.clone(), door.clone()).prop_map(|(a, b)| Step::Feed(a, b)),
        2 => (door.clone(), door.clone(), 0u8..4).prop_map(|(a, b, p)| Step::Hold(a, b, p)),
        2 => (0usize..8).prop_map(Step::Release),
        1 => (door.clone(), door.clone(), name).prop_map(|(a, b, k)| Step::Repair(a, b, k)),
        1 => (door, 0u64..4).prop_map(|(d, to)| Step::Trim(d, to)),
        1 => Just(Step::Collect),
    ];
    proptest::collection::vec(step, 1..60)
}

struct World {
    doors: Vec<Door<Memory>>,
    held: Vec<(usize, Change)>,
    wall: u64,
}

impl World {
    fn new() -> Self {
        Self {
            doors: (1..=3).map(fresh).collect(),
            held: Vec::new(),
            wall: WALL.0,
        }
    }

    fn change(&mut self, door: usize, change: &Change) -> Effect {
        self.wall += 7;
        // Clocks differ, though by less than is allowed.
        let skew = 100_000 * u64::try_from(door).unwrap();
        let door = &mut self.doors[door];
        let effects = door
            .stage(Wall(self.wall + skew), std::slice::from_ref(change))
            .unwrap();
        door.commit().unwrap();
        effects.into_iter().next().unwrap()
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Put(door, k) => {
                let value = self.wall.to_string();
                self.change(*door, &put(&format!("k{k}"), &value));
            }
            Step::Delete(door, k) => {
                self.change(*door, &delete(&format!("k{k}")));
            }
            Step::Feed(from, to) => {
                for change in self.pieces(*from, *to, None) {
                    self.change(*to, &change);
                }
            }
            Step::Hold(from, to, partition) => {
                let pieces = self.pieces(*from, *to, Some(*partition));
                self.held
                    .extend(pieces.into_iter().map(|piece| (*to, piece)));
            }
            Step::Release(at) => {
                if let Some((to, change)) = self.held.get(*at).cloned() {
                    self.change(to, &change);
                }
            }
            Step::Repair(from, to, k) => {
                if let Some(row) = super::row(&self.doors[*from], &format!("k{k}")) {
                    let key = super::key(&format!("k{k}"));
                    self.change(*to, &Change::Repair { key, row });
                }
            }
            Step::Trim(door, to) => {
                for partition in options(0).partitions {
                    // Only what everybody has, as upkeep would.
                    for (actor, n) in self.floor(partition) {
                        let to = n.min(*to);
                        self.change(
                            *door,
                            &Change::Trim {
                                partition,
                                actor,
                                to,
                            },
                        );
                    }
                }
            }
            Step::Collect => self.collect(),
        }
    }

    /// Collecting is only promised to be safe while nothing older is on its way.
    fn collect(&mut self) {
        self.settle();
        self.held.clear();
        for partition in options(0).partitions {
            let floor = self.floor(partition);
            for door in 0..self.doors.len() {
                self.change(
                    door,
                    &Change::Collect {
                        partition,
                        floor: floor.clone(),
                    },
                );
            }
        }
    }

    fn floor(&self, partition: crate::model::PartitionId) -> BTreeMap<Actor, u64> {
        let actors = self.doors.iter().map(|door| door.actor);
        actors
            .map(|actor| {
                let reached = self
                    .doors
                    .iter()
                    .map(|d| position(d, partition).reach(actor).complete);
                (actor, reached.min().unwrap())
            })
            .collect()
    }

    fn pieces(&self, from: usize, to: usize, only: Option<u8>) -> Vec<Change> {
        let mut pieces = Vec::new();
        for partition in options(0).partitions {
            if only.is_some_and(|only| u16::from(only) != partition.index) {
                continue;
            }
            for door in &self.doors {
                pieces.extend(piece(
                    &self.doors[from],
                    &self.doors[to],
                    partition,
                    door.actor,
                ));
            }
        }
        pieces
    }

    fn settle(&mut self) {
        for _ in 0..2 {
            for from in 0..self.doors.len() {
                for to in 0..self.doors.len() {
                    for change in self.pieces(from, to, None) {
                        let effect = self.change(to, &change);
                        assert!(matches!(effect, Effect::Appended { .. }), "{effect:?}");
                    }
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn doors_converge(steps in steps()) {
        let mut world = World::new();
        for step in &steps {
            world.step(step);
        }
        world.settle();
        let expected = (dump(&world.doors[0]), roots(&world.doors[0]));
        for door in &world.doors {
            check_store(door);
            prop_assert_eq!(&(dump(door), roots(door)), &expected);
            for partition in options(0).partitions {
                prop_assert_eq!(position(door, partition), position(&world.doors[0], partition));
                for (actor, marks) in &door.partitions[&partition].logs {
                    prop_assert_eq!(marks.reach.complete, marks.reach.applied, "{}", actor);
                }
            }
        }
        // What was held and comes late changes nothing.
        for (to, change) in std::mem::take(&mut world.held) {
            world.change(to, &change);
        }
        for door in &world.doors {
            prop_assert_eq!(&(dump(door), roots(door)), &expected);
        }
    }
}

#[test]
fn a_thousand_writes_of_one_key_cross_once() {
    let (mut a, mut b) = (fresh(1), fresh(2));
    for i in 0..1000 {
        apply(&mut a, put("hot", &i.to_string()));
    }
    let partition = super::key("hot").partition(super::COUNT);
    let Some(Change::Append {
        items, from, to, ..
    }) = piece(&a, &b, partition, a.actor)
    else {
        panic!("nothing to send");
    };
    assert_eq!((items.len(), from, to), (1, 0, 1000));
    feed(&a, &mut b);
    assert_eq!(roots(&a), roots(&b));
}
