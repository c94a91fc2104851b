//! Values whose last writer wins.

use super::super::asks::{bytes, change_members, put_fields, write};
use super::super::shape::{kept, kv};
use super::super::{Scene, Shape};
use super::{HERE, SECOND, THERE, at_once, two_regions};
use crate::model::{Part, Row, RowKey, Wall, WriteOp};
use crate::protocol::Message;

fn put(value: &str) -> WriteOp {
    WriteOp::Put(bytes(value))
}

fn shown(scene: &mut Scene, key: &RowKey) -> Option<String> {
    scene.everywhere(|scene, node| scene.get(node, key))
}

fn both_see(before: &[WriteOp], here: WriteOp, there: WriteOp) -> Option<String> {
    let key = kv("key");
    shown(&mut at_once(&key, before, &[here], &[there]), &key)
}

#[test]
fn types_apart() {
    let key = kv("key");
    let before = [put("A")];
    let there = [
        super::super::asks::add(5, None),
        change_members(&["m"], &[]),
        put_fields(&[("f", "v")]),
    ];
    let mut scene = at_once(&key, &before, &[WriteOp::Delete], &there);
    assert_eq!(shown(&mut scene, &key), None);
    assert_eq!(scene.everywhere(|s, n| s.counter(n, &kv("key"))), Some(5));
    assert_eq!(scene.everywhere(|s, n| s.members(n, &kv("key"))), ["m"]);
    assert_eq!(scene.everywhere(|s, n| s.registers(n, &kv("key"))).len(), 1);
}

#[test]
fn lww_put_put() {
    assert_eq!(both_see(&[], put("A"), put("B")).as_deref(), Some("B"));
}

#[test]
fn lww_put_delete() {
    assert_eq!(both_see(&[put("0")], put("A"), WriteOp::Delete), None);
}

#[test]
fn lww_delete_put() {
    let shown = both_see(&[put("0")], WriteOp::Delete, put("B"));
    assert_eq!(shown.as_deref(), Some("B"));
}

#[test]
fn lww_equal_timestamps() {
    let mut scene = two_regions();
    scene.until_quiet();
    let key = kv("key");
    scene.apart();
    let at = Wall(scene.wall().0 + 300_000);
    scene.freeze(HERE, at);
    scene.freeze(THERE, at);
    scene.write(HERE, &key, put("here"));
    scene.write(THERE, &key, put("there"));
    let stamp = |scene: &Scene, node: usize| scene.rows(node, &key)[&key].stamp();
    let (here, there) = (stamp(&scene, HERE), stamp(&scene, THERE));
    assert_eq!(here.timestamp, there.timestamp);
    scene.skew(HERE, 0);
    scene.skew(THERE, 0);
    scene.together();
    let greater = if scene.id(HERE) > scene.id(THERE) {
        "here"
    } else {
        "there"
    };
    assert_eq!(shown(&mut scene, &key).as_deref(), Some(greater));
}

fn slow_clock(is_seen: bool) -> Option<String> {
    let mut scene = two_regions();
    scene.until_quiet();
    let key = kv("key");
    for node in [2, 3] {
        scene.skew(node, -400_000);
    }
    if !is_seen {
        scene.apart();
    }
    scene.then(HERE, &key, put("first"));
    if is_seen {
        scene.run_for(100_000);
        scene.apart();
    }
    scene.then(THERE, &key, put("second"));
    scene.together();
    shown(&mut scene, &key)
}

#[test]
fn lww_slow_clock() {
    assert_eq!(slow_clock(false).as_deref(), Some("first"));
}

#[test]
fn lww_slow_clock_seen() {
    assert_eq!(slow_clock(true).as_deref(), Some("second"));
}

/// Puts here and there, each perhaps for two seconds.
fn with_ttl([here, there]: [bool; 2]) -> Option<String> {
    let key = kv("key");
    let mut scene = two_regions();
    scene.apart();
    for (node, value, expires) in [(HERE, "A", here), (THERE, "B", there)] {
        if expires {
            scene.then_for(node, &key, put(value), 2);
        } else {
            scene.then(node, &key, put(value));
        }
    }
    scene.heal();
    scene.run_for(SECOND);
    assert_eq!(shown(&mut scene, &key).as_deref(), Some("B"));
    scene.run_for(4 * SECOND);
    scene.until_quiet();
    shown(&mut scene, &key)
}

#[test]
fn lww_put_ttl_and_put() {
    assert_eq!(with_ttl([true, false]).as_deref(), Some("B"));
}

#[test]
fn lww_put_and_put_ttl() {
    assert_eq!(with_ttl([false, true]), None);
}

#[test]
fn lww_expiry_refresh() {
    let key = kv("key");
    let mut scene = two_regions();
    scene.then_for(HERE, &key, put("old"), 3);
    scene.run_for(SECOND);
    scene.apart();
    scene.then_for(THERE, &key, put("new"), 30);
    scene.run_for(6 * SECOND);
    assert_eq!(scene.get(HERE, &key), None);
    scene.heal();
    scene.run_for(3 * SECOND);
    assert_eq!(shown(&mut scene, &key).as_deref(), Some("new"));
}

#[test]
fn lww_expiry_old_put() {
    let key = kv("key");
    let mut scene = Scene::new(&Shape::of(&[3]));
    scene.then(0, &key, put("old"));
    scene.run_for(100_000);
    let copy = scene.copy(2);
    scene.then_for(0, &key, put("new"), 2);
    scene.run_for(5 * SECOND);
    scene.until_quiet();
    assert!(scene.rows(0, &key).is_empty(), "collected");
    scene.kill(2);
    scene.old_copy(2, &copy);
    scene.start(2);
    scene.until_quiet();
    assert_eq!(shown(&mut scene, &key), None);
}

#[test]
fn lww_retry_put() {
    let key = kv("key");
    let mut scene = Scene::new(&Shape::of(&[3]));
    let is_ack = |message: &Message| matches!(message, Message::Acks(_));
    scene.lose(1, 0, is_ack);
    scene.lose(2, 0, is_ack);
    let outcome = scene.ask(0, write(&key, put("mine")));
    assert!(
        matches!(outcome, crate::protocol::Outcome::Unknown(_)),
        "{outcome:?}"
    );
    scene.heal();
    scene.then(1, &key, put("other"));
    scene.then(2, &key, put("mine"));
    scene.until_quiet();
    assert_eq!(shown(&mut scene, &key).as_deref(), Some("mine"));
}

#[test]
fn lww_conflict_kept() {
    let key = kept("key");
    let mut scene = two_regions();
    scene.apart();
    scene.then(HERE, &key, put("A"));
    scene.then(THERE, &key, put("B"));
    scene.heal();
    scene.run_for(3 * SECOND);
    assert_eq!(shown(&mut scene, &key).as_deref(), Some("B"));
    for node in 0..4 {
        assert_eq!(conflicts(&scene, node, &key), ["A"]);
    }
}

#[test]
fn lww_overwrite_is_no_conflict() {
    let key = kept("key");
    let mut scene = two_regions();
    scene.then(HERE, &key, put("A"));
    scene.run_for(SECOND);
    scene.then(THERE, &key, put("B"));
    scene.run_for(2 * SECOND);
    for node in 0..4 {
        assert!(conflicts(&scene, node, &key).is_empty());
    }
}

fn conflicts(scene: &Scene, node: usize, key: &RowKey) -> Vec<String> {
    let rows = scene.rows(node, key);
    let losers = rows
        .into_iter()
        .filter_map(|(key, row)| match (key.part(), row) {
            (Some(Part::Conflict(_)), Row::Conflict(conflict)) => conflict.loser?.value,
            _ => None,
        });
    losers
        .map(|value| super::super::asks::text(&value))
        .collect()
}

#[test]
fn lww_deleted_stays_deleted() {
    let key = kv("key");
    let mut scene = two_regions();
    scene.then(HERE, &key, put("A"));
    scene.until_quiet();
    scene.apart();
    scene.then(HERE, &key, WriteOp::Delete);
    scene.run_for(30 * SECOND);
    assert_eq!(scene.rows(HERE, &key).len(), 1, "the tombstone waits");
    scene.together();
    assert_eq!(shown(&mut scene, &key), None);
}
