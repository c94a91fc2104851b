//! Guards, and what is found when one is taken away; those that a scenario of their own removes are not here.

use super::asks::put_sibling;
use super::shape::{beside, kv};
use super::{Bug, Scene, Shape};

#[test]
fn a_tombstone_that_is_collected_early_lets_a_value_come_back() {
    let run = |bug| {
        let mut scene = Scene::with_bug(&Shape::of(&[1, 1]), bug);
        scene.put(0, &kv("key"), "a");
        scene.until_quiet();
        scene.world.faults_on = true;
        scene.cut(&[0], &[1]);
        scene.delete(1, &kv("key"));
        scene.run_for(3_000_000);
        let left = scene.rows(1, &kv("key")).len();
        scene.world.faults_on = false;
        left
    };
    assert_eq!(run(None), 1);
    assert_eq!(run(Some(Bug::DropTombstonesEarly)), 0);
}

#[test]
fn the_same_script_is_the_same_run() {
    let run = || {
        let mut scene = Scene::new(&Shape::of(&[2, 1]));
        scene.write(0, &beside("key"), put_sibling("a", None));
        scene.until_quiet();
        (scene.world.trace.hash(), scene.world.now)
    };
    assert_eq!(run(), run());
}
