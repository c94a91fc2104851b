//! Counters.

use super::super::asks::{add, reset, write};
use super::super::shape::kv;
use super::super::{Scene, Shape, at_quorum, pairs};
use super::{HERE, SECOND, THERE, at_once, two_regions};
use crate::model::{Duration, Part, Selection, WriteOp};
use crate::protocol::{Message, Outcome};

fn shown(scene: &mut Scene) -> i128 {
    let value = scene.everywhere(|scene, node| scene.counter(node, &kv("key")));
    value.unwrap_or(0)
}

fn both_see(before: &[WriteOp], here: &[WriteOp], there: &[WriteOp]) -> i128 {
    shown(&mut at_once(&kv("key"), before, here, there))
}

#[test]
fn counter_add_add() {
    assert_eq!(both_see(&[], &[add(2, None)], &[add(3, None)]), 5);
}

#[test]
fn counter_add_reset() {
    assert_eq!(both_see(&[add(10, None)], &[reset()], &[add(3, None)]), 3);
}

#[test]
fn counter_reset_reset() {
    assert_eq!(both_see(&[add(10, None)], &[reset()], &[reset()]), 0);
}

#[test]
fn counter_reset_unseen() {
    assert_eq!(both_see(&[], &[add(5, None)], &[reset()]), 5);
}

#[test]
fn counter_add_after_reset() {
    let mut scene = two_regions();
    for op in [add(10, None), reset(), add(1, None)] {
        scene.then(HERE, &kv("key"), op);
    }
    scene.until_quiet();
    assert_eq!(shown(&mut scene), 1);
}

#[test]
fn counter_retry_same_node() {
    assert_eq!(both_see(&[], &[add(1, Some(7)), add(1, Some(7))], &[]), 1);
}

#[test]
fn counter_retry_other_node() {
    let mut scene = Scene::new(&Shape::of(&[3]));
    let is_ack = |message: &Message| matches!(message, Message::Acks(_));
    scene.lose(1, 0, is_ack);
    scene.lose(2, 0, is_ack);
    let outcome = scene.ask(0, write(&kv("key"), add(1, Some(7))));
    assert!(matches!(outcome, Outcome::Unknown(_)), "{outcome:?}");
    scene.heal();
    scene.then(1, &kv("key"), add(1, Some(7)));
    assert_eq!(scene.counter(2, &kv("key")), Some(1));
    scene.until_quiet();
    assert_eq!(shown(&mut scene), 1);
}

#[test]
fn counter_retry_other_region() {
    let mut scene = two_regions();
    let key = kv("key");
    scene.apart();
    scene.then(HERE, &key, add(1, Some(7)));
    scene.then(THERE, &key, add(1, Some(7)));
    scene.heal();
    for _ in 0..200 {
        for node in [HERE, THERE] {
            assert_eq!(scene.counter(node, &key), Some(1), "at every moment");
        }
        scene.run_for(5_000);
    }
    scene.until_quiet();
    assert_eq!(shown(&mut scene), 1);
}

#[test]
fn counter_retry_reset() {
    let here = [add(1, Some(7)), reset()];
    assert_eq!(both_see(&[], &here, &[add(1, Some(7))]), 0);
}

#[test]
fn counter_retry_without_id() {
    assert_eq!(both_see(&[], &[add(1, None)], &[add(1, None)]), 2);
}

#[test]
fn counter_retry_late() {
    let mut shape = Shape::of(&[2, 2]);
    shape.limits.operation_window = Duration::from_secs(2);
    let mut scene = Scene::new(&shape);
    scene.then(HERE, &kv("key"), add(1, Some(7)));
    scene.run_for(10 * SECOND);
    scene.until_quiet();
    scene.then(HERE, &kv("key"), add(1, Some(7)));
    scene.until_quiet();
    assert_eq!(shown(&mut scene), 2);
}

/// A reader has brought the row of an operation, and its share is lost with the coordinator's disk.
#[test]
fn counter_retry_lost() {
    let mut scene = Scene::new(&Shape::of(&[3]));
    let key = kv("key");
    scene.write(0, &key, add(100, Some(1)));
    scene.until_quiet();
    for (from, to) in pairs(&[0, 1, 2], &[0, 1, 2]) {
        scene.lose(from, to, |message| matches!(message, Message::Append(_)));
    }
    let first = scene.begin(0, at_quorum(write(&key, add(7, Some(2)))));
    scene.run_for(100_000);
    assert_eq!(scene.outcome(first), None, "nobody was told");
    let rows = scene.rows(0, &key);
    let mut repeated = rows
        .keys()
        .filter(|key| matches!(key.part(), Some(Part::Once(..))));
    let once = repeated.next_back().cloned().unwrap();
    for node in [0, 1, 2] {
        let seen = scene.select(node, Selection::Rows(vec![once.clone()]));
        assert_eq!(seen.len(), 1, "at n{node}");
    }
    scene.lose_disk(0);
    scene.heal();
    scene.until_ready(0);
    let outcome = scene.ask_until_done(1, &write(&key, add(7, Some(2))));
    assert!(matches!(outcome, Outcome::Written(_)), "{outcome:?}");
    for _ in 0..2 {
        for node in 0..3 {
            assert_eq!(scene.counter(node, &key), Some(107), "at n{node}");
        }
        scene.until_quiet();
    }
}

#[test]
fn counter_id_of_another_key() {
    let mut scene = two_regions();
    for key in [kv("key"), kv("other")] {
        scene.then(HERE, &key, add(1, Some(7)));
    }
    scene.until_quiet();
    assert_eq!(shown(&mut scene), 1);
    assert_eq!(scene.counter(THERE, &kv("other")), Some(1));
}

#[test]
fn counter_range() {
    let mut scene = two_regions();
    scene.then(HERE, &kv("key"), add(i64::MAX, None));
    let outcome = scene.ask(HERE, write(&kv("key"), add(1, None)));
    assert!(matches!(outcome, Outcome::Denied(_)), "{outcome:?}");
    scene.until_quiet();
    assert_eq!(shown(&mut scene), i128::from(i64::MAX));
}
