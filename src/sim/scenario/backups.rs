//! Old copies of disks: no dot is used twice, nothing deleted comes back, nothing acknowledged is lost.

use super::asks::{add, change_members, put_sibling};
use super::shape::{beside, kv};
use super::{Bug, Scene, Shape};
use crate::model::WriteOp;
use crate::protocol::Message;

/// One key of each kind, with something to delete in each.
fn fill(scene: &mut Scene, node: usize) {
    scene.put(node, &kv("keep"), "old");
    scene.put(node, &kv("gone"), "old");
    scene.write(node, &beside("keep"), put_sibling("old", None));
    scene.write(node, &beside("gone"), put_sibling("old", None));
    scene.write(node, &kv("keep"), add(1, None));
    scene.write(node, &kv("keep"), change_members(&["keep", "gone"], &[]));
}

fn change(scene: &mut Scene, node: usize) {
    scene.put(node, &kv("keep"), "new");
    scene.delete(node, &kv("gone"));
    let (_, context) = scene.siblings(node, &beside("keep"));
    scene.write(node, &beside("keep"), put_sibling("new", Some(&context)));
    scene.write(
        node,
        &beside("gone"),
        WriteOp::DeleteSiblings { seen: None },
    );
    scene.write(node, &kv("keep"), add(10, None));
    scene.write(node, &kv("keep"), change_members(&["new"], &["gone"]));
}

fn assert_changed(scene: &mut Scene, node: usize) {
    assert_eq!(scene.get(node, &kv("keep")).as_deref(), Some("new"));
    assert_eq!(scene.get(node, &kv("gone")), None);
    assert_eq!(scene.siblings(node, &beside("keep")).0, ["new"]);
    assert!(scene.siblings(node, &beside("gone")).0.is_empty());
    assert_eq!(scene.counter(node, &kv("keep")), Some(11));
    assert_eq!(scene.members(node, &kv("keep")), ["keep", "new"]);
}

/// The same node coordinates before and after the copy, so that its dots would be used again.
fn one_node(bug: Option<Bug>, coordinator: usize) -> Scene {
    let mut scene = Scene::with_bug(&Shape::of(&[3]), bug);
    fill(&mut scene, coordinator);
    scene.until_quiet();
    let copy = scene.copy(0);
    change(&mut scene, coordinator);
    scene.until_quiet();
    scene.kill(0);
    scene.old_copy(0, &copy);
    scene.start(0);
    scene.until("connected", |scene| scene.world.is_connected());
    scene
}

#[test]
fn old_backup_one_node() {
    for coordinator in [0, 1] {
        let mut scene = one_node(None, coordinator);
        scene.write_when_possible(0, &kv("more"), WriteOp::Put(super::asks::bytes("more")));
        scene.until_quiet();
        for node in 0..3 {
            assert_changed(&mut scene, node);
            assert_eq!(scene.get(node, &kv("more")).as_deref(), Some("more"));
        }
    }
}

#[test]
fn an_old_copy_does_not_serve_what_it_had() {
    for coordinator in [0, 1] {
        let mut scene = one_node(None, coordinator);
        for _ in 0..40 {
            let operation = crate::protocol::Operation::Get { key: kv("keep") };
            let request = crate::protocol::Request {
                level: Some(crate::model::Level::One),
                ..operation.into()
            };
            let asked = scene.begin(0, request);
            let outcome = scene.wait(asked);
            if let crate::protocol::Outcome::Read(row) = outcome {
                let Some(crate::model::Row::Register(version)) = row else {
                    panic!("{row:?}");
                };
                assert_eq!(
                    version.value,
                    Some(super::asks::bytes("new")),
                    "{coordinator}"
                );
            }
            scene.run_for(25_000);
        }
    }
}

#[test]
fn old_backup_whole_region() {
    let mut scene = Scene::new(&Shape::of(&[3, 3]));
    fill(&mut scene, 0);
    scene.until_quiet();
    let copies: Vec<_> = (0..3).map(|node| scene.copy(node)).collect();
    change(&mut scene, 1);
    scene.until_quiet();
    for (node, copy) in copies.iter().enumerate() {
        scene.kill(node);
        scene.old_copy(node, copy);
    }
    scene.run_for(2_000_000);
    for node in 0..3 {
        scene.start(node);
    }
    scene.until("connected", |scene| scene.world.is_connected());
    scene.until_quiet();
    for node in 0..6 {
        assert_changed(&mut scene, node);
    }
    scene.put(0, &kv("keep"), "newer");
    scene.until_quiet();
    assert_eq!(scene.get(4, &kv("keep")).as_deref(), Some("newer"));
}

/// A write gets no further than its coordinator's disk, which is lost after all have heard that it is there.
fn lost_with_its_disk(regions: &[usize]) -> Scene {
    let mut scene = Scene::new(&Shape::of(regions));
    scene.put(0, &kv("key"), "old");
    scene.until_quiet();
    for node in [1, 2] {
        scene.lose(0, node, |message| matches!(message, Message::Append(_)));
    }
    let key = kv("key");
    let op = WriteOp::Put(super::asks::bytes("lost"));
    scene.begin(0, super::at_quorum(super::asks::write(&key, op)));
    scene.run_for(1_000_000);
    scene.lose_disk(0);
    scene.heal();
    scene
}

#[test]
fn what_nobody_has_any_more_is_not_waited_for() {
    for regions in [&[3][..], &[3, 3]] {
        let mut scene = lost_with_its_disk(regions);
        scene.until_quiet();
        assert_eq!(scene.get(0, &kv("key")).as_deref(), Some("old"));
    }
}

#[test]
fn what_a_region_has_lost_is_not_waited_for_in_another_one() {
    let mut scene = lost_with_its_disk(&[3, 3]);
    scene.cut(&[0, 1, 2], &[3, 4, 5]);
    scene.until("serving", |scene| {
        scene.world.nodes[0].is_serving(scene.world.now)
    });
    scene.run_for(5_000_000);
    assert!(scene.world.nodes[0].is_serving(scene.world.now));
    scene.heal();
    scene.until_quiet();
}

/// A write is on two replicas of three, of which one loses the end of its journal. The third one holds more of an
/// earlier life of that one, but does not know of the write.
#[test]
fn who_has_lost_its_end_waits_for_whoever_else_was_in_its_quorums() {
    let mut scene = Scene::new(&Shape::of(&[3]));
    scene.put(0, &kv("key"), "old");
    scene.until_quiet();
    let copy = scene.copy(0);
    scene.put(0, &kv("other"), "more");
    scene.run_for(1_000_000);
    for from in [0, 2] {
        scene.lose(from, 1, |message| {
            matches!(message, Message::Append(_) | Message::Heartbeat(_))
        });
    }
    scene.put(2, &kv("key"), "new");
    scene.kill(0);
    scene.cut(&[0, 1], &[2]);
    scene.world.script.lost.clear();
    scene.old_copy(0, &copy);
    scene.start(0);
    for _ in 0..100 {
        scene.run_for(100_000);
        assert!(!scene.world.nodes[0].is_serving(scene.world.now));
    }
    scene.heal();
    scene.until_quiet();
    for node in 0..3 {
        assert_eq!(scene.get(node, &kv("key")).as_deref(), Some("new"));
    }
}

/// What a node had passed on before its own disk had it is no reason to wait for a replica that is dead.
#[test]
fn a_crash_amid_a_write_does_not_wait_for_the_dead() {
    let mut scene = Scene::new(&Shape::of(&[3]));
    scene.put(0, &kv("key"), "old");
    scene.until_quiet();
    scene.kill(2);
    scene.run_for(3_000_000);
    scene.world.nodes[0].sync_extra = 1_000_000;
    let put = super::asks::write(&kv("key"), WriteOp::Put(super::asks::bytes("new")));
    scene.begin(0, super::at_quorum(put));
    scene.run_for(500_000);
    scene.kill(0);
    scene.world.nodes[0].sync_extra = 0;
    scene.start(0);
    scene.until("fenced", |scene| {
        let node = &scene.world.nodes[0];
        !node.is_serving(scene.world.now)
    });
    scene.until("serving", |scene| {
        scene.world.nodes[0].is_serving(scene.world.now)
    });
    assert_eq!(scene.get(0, &kv("key")).as_deref(), Some("new"));
}
