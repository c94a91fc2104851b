//! Coordinators that forget: what others have of them, and what they write next, must not be taken for each other.
//! (The names are those of Riak's tests of the same faults.)

use super::asks::{bytes, change_members, clear, put_sibling, write};
use super::shape::{beside, kv};
use super::{Bug, Scene, Shape, at_quorum, guarded};
use crate::model::planted::Guard;
use crate::model::{Collection, WriteOp};
use crate::protocol::Message;

#[test]
fn kv679_dataloss() {
    guarded(Bug::ReuseDot, |bug| {
        let mut scene = Scene::with_bug(&Shape::of(&[3]), bug);
        let key = beside("key");
        scene.write(0, &key, put_sibling("a", None));
        let (_, context) = scene.siblings(0, &key);
        scene.write(0, &key, put_sibling("b", Some(&context)));
        scene.lose_disk(0);
        // Asked at once, it may not serve yet and passes this on; asked again, it has come back.
        scene.write_when_possible(0, &key, put_sibling("c", None));
        scene.until_ready(0);
        scene.write(0, &key, put_sibling("d", None));
        scene.until_quiet();
        for node in 0..3 {
            assert_eq!(scene.siblings(node, &key).0, ["b", "c", "d"]);
        }
    });
}

#[test]
fn kv679_dataloss_fb() {
    guarded(Bug::ReuseDot, |bug| {
        let mut scene = Scene::with_bug(&Shape::of(&[3]), bug);
        let key = beside("key");
        scene.write(0, &key, put_sibling("a", None));
        scene.kill(0);
        scene.run_for(3_000_000);
        let (_, context) = scene.siblings(1, &key);
        scene.write(1, &key, put_sibling("b", Some(&context)));
        scene.wipe(0);
        scene.start(0);
        scene.write_when_possible(0, &key, put_sibling("c", None));
        scene.until_quiet();
        assert_eq!(scene.siblings(0, &key).0, ["b", "c"]);
        scene.assert_same_everywhere(&key);
    });
}

#[test]
fn kv679_dataloss_fb2() {
    guarded(Bug::ReuseDot, |bug| {
        let mut scene = Scene::with_bug(&Shape::of(&[3]), bug);
        let key = beside("key");
        scene.write(0, &key, put_sibling("a", None));
        scene.write(1, &key, put_sibling("b", None));
        scene.lose_disk(0);
        scene.until_ready(0);
        scene.lose_disk(1);
        scene.write_when_possible(1, &key, put_sibling("c", None));
        scene.until_ready(1);
        scene.kill(2);
        scene.run_for(3_000_000);
        scene.write_when_possible(0, &key, put_sibling("d", None));
        scene.wipe(2);
        scene.start(2);
        scene.until_quiet();
        for node in 0..3 {
            assert_eq!(scene.siblings(node, &key).0, ["a", "b", "c", "d"]);
        }
    });
}

/// A set is cleared by one that has heard of a change that was on one disk only, and then that disk is lost. The node
/// has written in a life before that one, or not.
fn lost_with_its_disk(has_lived: bool) {
    let mut scene = Scene::new(&Shape::of(&[3]));
    let key = kv("key");
    scene.write(1, &key, change_members(&["a"], &[]));
    if has_lived {
        scene.put(0, &key, "before");
        scene.stop(0);
        scene.start(0);
        scene.until_ready(0);
    }
    scene.kill(2);
    scene.run_for(3_000_000);
    scene.lose(0, 1, |message| matches!(message, Message::Append(_)));
    scene.begin(0, at_quorum(write(&key, change_members(&["b"], &[]))));
    scene.run_for(20_000);
    scene.write(1, &key, clear(Collection::Set));
    scene.kill(0);
    scene.wipe(0);
    scene.heal();
    scene.start(2);
    scene.start(0);
    scene.until_ready(0);
    scene.write_when_possible(0, &key, WriteOp::Put(bytes("after")));
    scene.until_quiet();
    scene.run_for(60_000_000);
    for node in 0..3 {
        assert_eq!(scene.rows(node, &key).len(), 1, "n{node} keeps a tombstone");
    }
}

#[test]
fn a_change_that_was_lost_with_its_disk_keeps_no_tombstone() {
    lost_with_its_disk(false);
    lost_with_its_disk(true);
}

/// Deletes, collects and writes again; then a replica comes back with a disk that still has the tombstone.
fn late_tombstone(bug: Option<Bug>) -> Vec<String> {
    let mut scene = Scene::with_bug(&Shape::of(&[3]), bug);
    let key = beside("key");
    scene.write(0, &key, put_sibling("a", None));
    let (_, context) = scene.siblings(0, &key);
    let delete = WriteOp::DeleteSiblings {
        seen: Some(context),
    };
    scene.write(1, &key, delete);
    scene.run_for(50_000);
    let copy = scene.copy(2);
    scene.until_quiet();
    assert!(scene.rows(1, &key).is_empty(), "collected");
    scene.write(0, &key, put_sibling("b", None));
    scene.kill(2);
    scene.old_copy(2, &copy);
    scene.start(2);
    scene.until_quiet();
    scene.assert_same_everywhere(&key);
    scene.siblings(2, &key).0
}

#[test]
fn kv679_tombstone() {
    guarded(Bug::AssumeContexts, |bug| {
        assert_eq!(late_tombstone(bug), ["b"]);
    });
}

#[test]
fn kv679_tombstone2() {
    guarded(Bug::Without(Guard::Moments), |bug| {
        let mut scene = Scene::with_bug(&Shape::of(&[3]), bug);
        for key in [beside("key"), kv("key")] {
            let is_register = key.keyspace == kv("key").keyspace;
            let put = |value: &str| {
                if is_register {
                    WriteOp::Put(bytes(value))
                } else {
                    put_sibling(value, None)
                }
            };
            let delete = if is_register {
                WriteOp::Delete
            } else {
                WriteOp::DeleteSiblings { seen: None }
            };
            scene.write(0, &key, put("a"));
            scene.write(0, &key, delete);
            scene.run_for(20_000);
            scene.kill(2);
            scene.run_for(3_000_000);
            assert!(
                !scene.rows(0, &key).is_empty(),
                "not collected while n2 is away"
            );
            scene.write(1, &key, put("b"));
            scene.start(2);
            scene.until_quiet();
            assert_eq!(scene.get(2, &key).as_deref(), Some("b"));
            scene.assert_same_everywhere(&key);
        }
    });
}

#[test]
fn kv679_uid() {
    guarded(Bug::ReuseDot, |bug| {
        let mut scene = Scene::with_bug(&Shape::of(&[3]), bug);
        let copy = scene.copy(0);
        let mut actors = vec![scene.actor(0)];
        for life in 0..6 {
            match life % 3 {
                0 => scene.stop(0),
                1 => scene.kill(0),
                _ => {
                    scene.kill(0);
                    scene.old_copy(0, &copy);
                }
            }
            scene.start(0);
            actors.push(scene.actor(0));
            scene.until_ready(0);
        }
        let mut different = actors.clone();
        different.sort();
        different.dedup();
        assert_eq!(different.len(), actors.len(), "{actors:?}");
    });
}
