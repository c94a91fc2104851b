//! A scenario for each row of the tables in `docs/data-types.md`, named as the row is.
//!
//! Here is node 0 of the first region; there is node 2 of the second.

mod collections;
mod conditions;
mod counters;
mod expiry;
mod lww;
mod sessions;
mod siblings;

use std::fmt::Debug;

use crate::model::{RowKey, Wall, WriteOp};

use super::asks::{expiring, write};
use super::{Scene, Shape};

const HERE: usize = 0;
const THERE: usize = 2;
const SECOND: u64 = 1_000_000;

fn two_regions() -> Scene {
    Scene::new(&Shape::of(&[2, 2]))
}

impl Scene {
    /// Cuts the regions off from each other.
    fn apart(&mut self) {
        self.cut(&[0, 1], &[2, 3]);
    }

    /// Heals, and waits until all is at rest.
    fn together(&mut self) {
        self.heal();
        self.until_quiet();
    }

    /// Writes, and lets a moment pass, so that what comes next is later.
    fn then(&mut self, node: usize, key: &RowKey, op: WriteOp) {
        self.write_operation(node, write(key, op));
        self.run_for(10_000);
    }

    /// The same, of something that expires after so many seconds.
    fn then_for(&mut self, node: usize, key: &RowKey, op: WriteOp, seconds: u64) {
        let expires = Wall(self.wall().0 + seconds * SECOND);
        self.write_operation(node, expiring(key, op, expires));
        self.run_for(10_000);
    }

    /// What every node answers.
    fn everywhere<T: PartialEq + Debug>(&mut self, ask: impl Fn(&mut Self, usize) -> T) -> T {
        let first = ask(self, 0);
        for node in 1..self.world.nodes.len() {
            assert_eq!(ask(self, node), first, "n{node}");
        }
        first
    }
}

/// Something that both regions have, and then something in each, while they are cut off from each other.
fn at_once(key: &RowKey, before: &[WriteOp], here: &[WriteOp], there: &[WriteOp]) -> Scene {
    let mut scene = two_regions();
    for op in before {
        scene.then(HERE, key, op.clone());
    }
    scene.until_quiet();
    scene.apart();
    for op in here {
        scene.then(HERE, key, op.clone());
    }
    for op in there {
        scene.then(THERE, key, op.clone());
    }
    scene.together();
    scene.assert_same_everywhere(key);
    scene
}
