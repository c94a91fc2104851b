//! What expires is gone for every reader at once, and is collected when every replica agrees.

use super::asks::{bytes, expiring, put_sibling};
use super::shape::{beside, kv};
use super::{Bug, Scene, Shape, guarded};
use crate::model::{Wall, WriteOp};

const SECOND: u64 = 1_000_000;

fn put_for(scene: &mut Scene, node: usize, seconds: u64) -> Wall {
    let expires = Wall(scene.wall().0 + seconds * SECOND);
    let put = WriteOp::Put(bytes("short"));
    scene.write_operation(node, expiring(&kv("key"), put, expires));
    let put = put_sibling("short", None);
    scene.write_operation(node, expiring(&beside("key"), put, expires));
    let add = super::asks::change_members(&["short"], &[]);
    scene.write_operation(node, expiring(&kv("key"), add, expires));
    expires
}

/// Whether anything is seen after it has expired, and whether anything is left in the end.
fn expire(bug: Option<Bug>) -> (bool, bool) {
    let mut scene = Scene::with_bug(&Shape::of(&[2, 2]), bug);
    put_for(&mut scene, 0, 5);
    scene.run_for(2 * SECOND);
    for node in [1, 3] {
        assert_eq!(scene.get(node, &kv("key")).as_deref(), Some("short"));
        assert_eq!(scene.siblings(node, &beside("key")).0, ["short"]);
        assert_eq!(scene.members(node, &kv("key")), ["short"]);
    }
    scene.run_for(4 * SECOND);
    let mut is_seen = false;
    for node in 0..4 {
        is_seen |= scene.get(node, &kv("key")).is_some();
        is_seen |= !scene.siblings(node, &beside("key")).0.is_empty();
        is_seen |= !scene.members(node, &kv("key")).is_empty();
    }
    if bug.is_none() {
        scene.until_quiet();
    }
    let keys = [kv("key"), beside("key")];
    let is_left = (0..4).any(|node| keys.iter().any(|key| !scene.rows(node, key).is_empty()));
    (is_seen, is_left)
}

#[test]
fn verify_object_ttl() {
    assert_eq!(expire(None), (false, false));
    assert!(expire(Some(Bug::ForgetExpiry)).0);
}

#[test]
fn verify_sweep_reaper() {
    guarded(Bug::DropTombstonesEarly, |bug| {
        let mut scene = Scene::with_bug(&Shape::of(&[3]), bug);
        scene.world.faults_on = bug.is_some();
        put_for(&mut scene, 0, 3);
        scene.run_for(SECOND);
        scene.kill(2);
        scene.run_for(8 * SECOND);
        for key in [kv("key"), beside("key")] {
            let rows = scene.rows(0, &key);
            assert!(!rows.is_empty(), "not collected while a replica is away");
            assert!(
                rows.values().all(crate::model::Row::is_tombstone),
                "{rows:?}"
            );
        }
        scene.start(2);
        scene.until_quiet();
        for node in 0..3 {
            assert!(scene.rows(node, &kv("key")).is_empty());
            assert!(scene.rows(node, &beside("key")).is_empty());
        }
    });
}

#[test]
fn what_lost_to_something_expired_does_not_come_back() {
    let mut scene = Scene::new(&Shape::of(&[2, 2]));
    scene.put(0, &kv("key"), "long");
    scene.until_quiet();
    scene.cut(&[0, 1], &[2, 3]);
    put_for(&mut scene, 0, 2);
    scene.run_for(6 * SECOND);
    assert_eq!(scene.get(1, &kv("key")), None);
    assert_eq!(scene.get(2, &kv("key")).as_deref(), Some("long"));
    scene.heal();
    scene.until_quiet();
    for node in 0..4 {
        assert_eq!(scene.get(node, &kv("key")), None);
    }
}
