//! Counters: each increment counts once, wherever it was made and however often it was tried.

use super::asks::{add, fields_op, reset, write};
use super::shape::kv;
use super::{Bug, Scene, Shape, at_quorum, guarded, pairs};
use crate::model::Level;
use crate::model::planted::Guard;
use crate::protocol::{Message, Outcome, Request};

#[test]
fn verify_counter_converge() {
    guarded(Bug::Without(Guard::Surplus), |bug| {
        let mut scene = Scene::with_bug(&Shape::of(&[2, 2]), bug);
        let key = kv("key");
        scene.write(0, &key, add(1, None));
        scene.until_quiet();
        scene.cut(&[0, 1], &[2, 3]);
        for _ in 0..5 {
            scene.write(0, &key, add(2, None));
            scene.write(1, &key, add(-1, None));
            scene.write(2, &key, add(10, None));
        }
        // A client that tries again on the other side of the cut.
        for node in [0, 2] {
            scene.write(node, &key, add(7, Some(1)));
        }
        assert_eq!(scene.counter(0, &key), Some(13));
        assert_eq!(scene.counter(3, &key), Some(58));
        scene.heal();
        scene.until_quiet();
        for node in 0..4 {
            assert_eq!(scene.counter(node, &key), Some(63));
        }
    });
}

#[test]
fn verify_counter_repl() {
    guarded(Bug::ForgetOperationIds, |bug| {
        let mut scene = Scene::with_bug(&Shape::of(&[3, 3]), bug);
        let key = kv("key");
        for n in 1..=10 {
            scene.write(0, &key, add(n, u128::try_from(n).ok()));
        }
        scene.run_for(1_000_000);
        // A client that tries again in the other region.
        scene.write(3, &key, add(10, Some(10)));
        scene.until_quiet();
        for node in 0..6 {
            assert_eq!(scene.counter(node, &key), Some(55));
        }
        scene.write(3, &key, reset());
        scene.until_quiet();
        assert_eq!(scene.counter(0, &key), None);
        scene.write(0, &key, add(4, None));
        scene.until_quiet();
        assert_eq!(scene.counter(5, &key), Some(4));
    });
}

/// The coordinator applies an increment with an id and dies before it tells anyone; the client tries again at the
/// next; the first comes back.
fn coordinator_dies(bug: Option<Bug>) -> Option<i128> {
    let mut scene = Scene::with_bug(&Shape::of(&[3]), bug);
    let key = kv("key");
    scene.write(0, &key, add(100, Some(1)));
    let id = Some(2);
    let is_append = |message: &Message| matches!(message, Message::Append(_));
    scene.lose(0, 1, is_append);
    scene.lose(0, 2, is_append);
    let first = scene.begin(0, at_quorum(write(&key, add(7, id))));
    scene.run_for(100_000);
    assert_eq!(scene.outcome(first), None, "nobody was told");
    scene.kill(0);
    scene.run_for(2_000_000);
    let outcome = scene.ask_until_done(1, &write(&key, add(7, id)));
    assert!(matches!(outcome, Outcome::Written(_)), "{outcome:?}");
    assert_eq!(scene.counter(2, &key), Some(107));
    scene.heal();
    scene.start(0);
    scene.until_ready(0);
    scene.run_for(3_000_000);
    let values: Vec<_> = (0..3).map(|node| scene.counter(node, &key)).collect();
    assert!(values.iter().all(|value| *value == values[0]), "{values:?}");
    values[0]
}

#[test]
fn counter_coordinator_dies() {
    assert_eq!(coordinator_dies(None), Some(107));
    assert_eq!(coordinator_dies(Some(Bug::ForgetOperationIds)), Some(114));
}

fn is_append(message: &Message) -> bool {
    matches!(message, Message::Append(_))
}

/// Nothing comes by a log; reads and repairs pass.
fn stop_logs(scene: &mut Scene) {
    for (from, to) in pairs(&[0, 1, 2], &[0, 1, 2]) {
        scene.lose(from, to, is_append);
    }
}

/// Two coordinators apply one increment, of whom neither knows of the other.
fn applied_twice() -> Scene {
    let mut scene = Scene::new(&Shape::of(&[3]));
    scene.write(0, &kv("key"), add(100, Some(1)));
    scene.until_quiet();
    scene.cut(&[0], &[1, 2]);
    stop_logs(&mut scene);
    for node in [0, 1] {
        let level = Some(Level::UnsafeOne);
        let request = Request {
            level,
            ..at_quorum(write(&kv("key"), add(7, Some(2))))
        };
        let asked = scene.begin(node, request);
        scene.wait(asked);
    }
    scene.heal();
    stop_logs(&mut scene);
    scene.run_for(1_000_000);
    scene
}

#[test]
fn shares_that_meet_in_a_read_bring_their_operations() {
    let mut scene = applied_twice();
    for node in [2, 0, 1, 2, 0] {
        assert_eq!(scene.counter(node, &kv("key")), Some(107), "at n{node}");
    }
    scene.heal();
    scene.until_quiet();
    for node in 0..3 {
        assert_eq!(scene.counter(node, &kv("key")), Some(107), "at n{node}");
    }
}

#[test]
fn an_operation_is_known_where_its_share_was_repaired() {
    for lost in [0, 1] {
        let mut scene = applied_twice();
        assert_eq!(scene.counter(2, &kv("key")), Some(107));
        assert_eq!(scene.counter(1 - lost, &kv("key")), Some(107));
        scene.lose_disk(lost);
        scene.heal();
        scene.until_ready(lost);
        scene.until_quiet();
        for node in 0..3 {
            assert_eq!(scene.counter(node, &kv("key")), Some(107), "at n{node}");
        }
    }
}

#[test]
fn an_id_is_counted_once_at_one_node() {
    let mut scene = Scene::new(&Shape::of(&[3]));
    let key = kv("key");
    for node in [0, 0, 1, 2, 0] {
        scene.write(node, &key, add(5, Some(9)));
    }
    assert_eq!(scene.counter(1, &key), Some(5));
    scene.write(1, &key, add(5, Some(10)));
    assert_eq!(scene.counter(0, &key), Some(10));
}

#[test]
fn an_increment_that_a_reset_had_not_seen_survives() {
    let mut scene = Scene::new(&Shape::of(&[2, 2]));
    let key = kv("key");
    scene.write(0, &key, add(5, None));
    scene.until_quiet();
    scene.cut(&[0, 1], &[2, 3]);
    scene.write(0, &key, add(3, None));
    scene.write(2, &key, reset());
    assert_eq!(scene.counter(3, &key), None);
    scene.heal();
    scene.until_quiet();
    for node in 0..4 {
        assert_eq!(scene.counter(node, &key), Some(3));
    }
}

#[test]
fn counters_of_fields_are_apart() {
    let mut scene = Scene::new(&Shape::of(&[2, 2]));
    let key = kv("key");
    scene.write(
        0,
        &key,
        fields_op(&[("a", "x")], &[("a", 1), ("b", 2)], &[]),
    );
    scene.write(1, &key, fields_op(&[], &[("a", 10)], &[]));
    scene.write(0, &key, add(1_000, None));
    scene.until_quiet();
    let both = [("a".to_owned(), 11), ("b".to_owned(), 2)];
    assert_eq!(scene.field_counters(2, &key), both);
    assert_eq!(scene.counter(3, &key), Some(1_000));
    scene.write(2, &key, fields_op(&[], &[], &["a"]));
    scene.until_quiet();
    assert_eq!(scene.field_counters(0, &key), both[1..]);
    assert!(scene.registers(0, &key).is_empty());
}
