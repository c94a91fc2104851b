//! Disks that are damaged or fail: the node says so and stops, comes back empty if it must, and nothing acknowledged
//! is lost.

use super::asks::put_sibling;
use super::shape::{beside, kv};
use super::{Scene, Shape};
use crate::sim::node::Hurt;
use crate::sim::paths;
use crate::storage::{Error, Space, Trouble};

fn taken(scene: &Scene, path: &str) -> u64 {
    scene.world.tally.paths.get(path).copied().unwrap_or(0)
}

fn three() -> Scene {
    let mut scene = Scene::new(&Shape::of(&[3]));
    for name in ["a", "b", "c", "d"] {
        scene.put(0, &kv("key"), name);
        scene.write(1, &beside("key"), put_sibling(name, None));
    }
    // Not until all is quiet: then no log is left to be damaged.
    scene.run_for(20_000);
    scene
}

#[test]
fn a_disk_without_a_batch_is_refused_and_filled_again() {
    let mut scene = three();
    scene.kill(0);
    let node = &mut scene.world.nodes[0];
    assert!(node.disk.disk().lose_batch(1));
    node.hurt = Hurt::Unfit;
    scene.start(0);
    scene.until_quiet();
    assert_eq!(taken(&scene, paths::REPLACED), 1);
    assert_eq!(scene.rows(0, &kv("key")), scene.rows(1, &kv("key")));
}

#[test]
fn a_rotten_disk_is_found_and_filled_again() {
    for space in Space::ALL {
        let mut scene = three();
        let node = &mut scene.world.nodes[0];
        assert!(node.disk.disk().rot(space, 3));
        node.hurt = Hurt::Somewhere;
        scene.world.scrub(0);
        assert_eq!(taken(&scene, paths::REPLACED), 1, "{space:?}");
        scene.until_quiet();
        assert_eq!(scene.rows(0, &kv("key")), scene.rows(1, &kv("key")));
    }
}

/// What a start does not read is not met by it.
#[test]
fn a_rotten_disk_of_a_node_that_is_down_is_found_when_it_runs() {
    let mut scene = three();
    let node = &mut scene.world.nodes[0];
    assert!(node.disk.disk().rot(Space::Rows, 3));
    node.hurt = Hurt::Somewhere;
    scene.kill(0);
    scene.world.scrub(0);
    scene.start(0);
    scene.until_quiet();
    assert_eq!(taken(&scene, paths::REPLACED), 1);
    assert_eq!(scene.rows(0, &kv("key")), scene.rows(1, &kv("key")));
}

#[test]
fn a_disk_that_is_looked_at_while_its_node_is_down_is_looked_at_again() {
    let mut scene = three();
    scene.kill(0);
    let node = &mut scene.world.nodes[0];
    assert!(node.disk.disk().misplace(Space::Rows, 3));
    node.hurt = Hurt::Somewhere;
    scene.world.scrub(0);
    scene.start(0);
    scene.until_quiet();
    assert_eq!(taken(&scene, paths::REPLACED), 1);
    assert_eq!(scene.rows(0, &kv("key")), scene.rows(1, &kv("key")));
}

#[test]
fn a_node_whose_sync_fails_stops() {
    for survives in [false, true] {
        let mut scene = three();
        let node = &mut scene.world.nodes[0];
        node.is_troubled = true;
        node.disk.set_trouble(Trouble {
            fails_next: Some(survives),
            ..Trouble::default()
        });
        scene.put(1, &kv("other"), "one");
        scene.until_quiet();
        assert_eq!(taken(&scene, paths::STOPPED), 1);
    }
}

#[test]
fn the_disk_of_another_node_is_refused() {
    let scene = three();
    let other = scene.copy(1);
    let wall = scene.wall();
    let opened = scene.world.nodes[0].disk.try_other(&other, wall);
    assert!(matches!(opened, Err(Error::Foreign { .. })));
}
