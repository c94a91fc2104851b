//! What has a time to live.

use super::super::asks::{bytes, put_sibling};
use super::super::shape::{beside, kv, short};
use super::super::{Scene, Shape};
use super::{HERE, SECOND, THERE, two_regions};
use crate::model::{RowKey, Wanted, WriteOp};
use crate::protocol::{Operation, Outcome};

fn key() -> RowKey {
    kv("key")
}

fn put(value: &str) -> WriteOp {
    WriteOp::Put(bytes(value))
}

fn shown(scene: &mut Scene) -> Option<String> {
    scene.everywhere(|scene, node| scene.get(node, &key()))
}

#[test]
fn ttl_read() {
    let mut scene = two_regions();
    scene.then_for(HERE, &key(), put("A"), 2);
    scene.then_for(HERE, &beside("key"), put_sibling("A", None), 2);
    scene.run_for(SECOND);
    assert_eq!(shown(&mut scene).as_deref(), Some("A"));
    // Before anything can have been cleaned up: a cut lies behind the clock by more than clocks may differ.
    scene.run_for(SECOND);
    assert!(!scene.rows(HERE, &key())[&key()].is_tombstone());
    assert_eq!(shown(&mut scene), None);
    let siblings = scene.everywhere(|scene, node| scene.siblings(node, &beside("key")).0);
    assert!(siblings.is_empty());
}

#[test]
fn ttl_list() {
    let mut scene = two_regions();
    scene.then_for(HERE, &key(), put("A"), 2);
    scene.run_for(6 * SECOND);
    let outcome = scene.ask(
        THERE,
        Operation::List {
            keyspace: key().keyspace,
            wanted: Wanted::Values,
            index: 0,
            after: None,
            rows_max: 10,
            bytes_max: 1_000,
        },
    );
    let Outcome::Page { rows, .. } = outcome else {
        panic!("{outcome:?}");
    };
    assert!(rows.is_empty(), "{rows:?}");
}

#[test]
fn ttl_put_again() {
    let mut scene = two_regions();
    scene.then_for(HERE, &key(), put("A"), 3);
    scene.then(HERE, &key(), put("B"));
    scene.run_for(6 * SECOND);
    scene.until_quiet();
    assert_eq!(shown(&mut scene).as_deref(), Some("B"));
}

#[test]
fn ttl_default() {
    let mut scene = two_regions();
    let key = short("key");
    scene.then(HERE, &key, put("A"));
    scene.run_for(SECOND);
    assert_eq!(scene.get(THERE, &key).as_deref(), Some("A"));
    scene.run_for(5 * SECOND);
    assert_eq!(scene.get(THERE, &key), None);
    scene.until_quiet();
    assert!(scene.assert_same_everywhere(&key).is_empty());
}

#[test]
fn ttl_cut_off() {
    let mut scene = two_regions();
    scene.then_for(HERE, &key(), put("A"), 3);
    scene.run_for(SECOND);
    scene.apart();
    scene.run_for(2 * SECOND);
    assert_eq!(shown(&mut scene), None);
    scene.run_for(5 * SECOND);
    scene.together();
    assert!(scene.assert_same_everywhere(&key()).is_empty());
}

#[test]
fn ttl_collected() {
    let mut scene = Scene::new(&Shape::of(&[3]));
    scene.kill(2);
    scene.run_for(3 * SECOND);
    scene.then_for(0, &key(), put("A"), 2);
    scene.run_for(6 * SECOND);
    scene.wipe(2);
    scene.start(2);
    scene.until_quiet();
    assert!(scene.assert_same_everywhere(&key()).is_empty());
    assert_eq!(shown(&mut scene), None);
}

#[test]
fn ttl_fast_clock() {
    let mut scene = two_regions();
    scene.skew(THERE, 400_000);
    scene.then_for(HERE, &key(), put("A"), 2);
    scene.run_for(1_700_000);
    assert_eq!(scene.get(HERE, &key()).as_deref(), Some("A"));
    let wall = scene.world.nodes[THERE].clock.wall(scene.world.now);
    let row = scene.get_row(THERE, &key());
    let Some(crate::model::Row::Register(version)) = row else {
        panic!("{row:?}");
    };
    assert!(!version.is_live(wall), "it answers nothing");
}
