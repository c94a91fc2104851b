//! Conditional writes.

use super::super::asks::{bytes, write};
use super::super::shape::kv;
use super::super::{Asked, Bug, Scene, Shape, guarded};
use super::{HERE, SECOND, THERE, two_regions};
use crate::model::planted::Guard;
use crate::model::{Condition, Level, RowKey, Write, WriteOp};
use crate::protocol::{Message, Operation, Outcome, Request};

fn key() -> RowKey {
    kv("key")
}

fn put_if(value: &str, condition: Condition, level: Level) -> Request {
    let mut write = Write::new(key(), WriteOp::Put(bytes(value)));
    write.condition = Some(condition);
    Request {
        level: Some(level),
        ..Operation::Write(Box::new(write)).into()
    }
}

fn put(scene: &mut Scene, node: usize, value: &str) {
    scene.then(node, &key(), WriteOp::Put(bytes(value)));
}

/// The condition that nothing changes after this.
fn as_now(scene: &mut Scene, node: usize) -> Condition {
    let row = scene.get_row(node, &key()).unwrap();
    Condition::State(row.summary().state)
}

/// Whether it succeeded, and whether alone.
fn ended(scene: &mut Scene, asked: Asked) -> Option<bool> {
    let outcome = scene.wait(asked);
    if let Outcome::Written(written) = &outcome {
        return Some(!written.is_crossed);
    }
    assert!(matches!(outcome, Outcome::Denied(_)), "{outcome:?}");
    None
}

fn both(
    scene: &mut Scene,
    nodes: [usize; 2],
    condition: Condition,
    level: Level,
) -> [Option<bool>; 2] {
    let asked = nodes.map(|node| scene.begin(node, put_if(&format!("n{node}"), condition, level)));
    asked.map(|asked| ended(scene, asked))
}

#[test]
fn if_match_same_region() {
    let mut scene = two_regions();
    put(&mut scene, HERE, "0");
    let condition = as_now(&mut scene, 1);
    let ended = both(&mut scene, [0, 1], condition, Level::LocalQuorum);
    assert_eq!(
        ended.iter().filter(|ended| ended.is_some()).count(),
        1,
        "{ended:?}"
    );
    assert!(ended.contains(&Some(true)), "{ended:?}");
}

#[test]
fn if_none_match_same_region() {
    let mut scene = two_regions();
    let ended = both(&mut scene, [0, 1], Condition::Absent, Level::LocalQuorum);
    assert_eq!(
        ended.iter().filter(|ended| ended.is_some()).count(),
        1,
        "{ended:?}"
    );
}

#[test]
fn if_match_two_regions() {
    let mut scene = two_regions();
    put(&mut scene, HERE, "0");
    scene.until_quiet();
    let condition = as_now(&mut scene, THERE);
    let ended = both(&mut scene, [HERE, THERE], condition, Level::LocalQuorum);
    assert_eq!(ended, [Some(true), Some(true)]);
    scene.until_quiet();
    scene.assert_same_everywhere(&key());
}

#[test]
fn if_match_each_quorum() {
    let mut scene = two_regions();
    put(&mut scene, HERE, "0");
    scene.until_quiet();
    let condition = as_now(&mut scene, THERE);
    let ended = both(&mut scene, [HERE, THERE], condition, Level::EachQuorum);
    let alone = ended.iter().filter(|ended| **ended == Some(true)).count();
    assert!(alone <= 1, "{ended:?}");
    assert!(ended.iter().any(Option::is_some), "{ended:?}");
}

#[test]
fn if_match_failover() {
    guarded(Bug::Without(Guard::RestampCondition), failover);
}

fn failover(bug: Option<Bug>) {
    let mut scene = Scene::with_bug(&Shape::of(&[3]), bug);
    put(&mut scene, 1, "0");
    scene.until_quiet();
    let condition = as_now(&mut scene, 1);
    let first = (0..3)
        .find(|node| serves_conditions(&mut scene, *node))
        .unwrap_or(0);
    // It works on one while the others take it for dead, and hears of theirs only afterwards.
    let others: Vec<usize> = (0..3).filter(|node| *node != first).collect();
    let is_ack = |message: &Message| matches!(message, Message::Acks(_) | Message::Heartbeat(_));
    for other in &others {
        scene.lose(*other, first, is_ack);
        scene.lose(first, *other, |message| {
            matches!(message, Message::Heartbeat(_) | Message::Append(_))
        });
    }
    let one = scene.begin(first, put_if("one", condition, Level::LocalQuorum));
    scene.run_for(2_500_000);
    let two = scene.begin(others[0], put_if("two", condition, Level::LocalQuorum));
    scene.run_for(300_000);
    scene.heal();
    let ended = [one, two].map(|asked| {
        if let Outcome::Written(written) = scene.wait(asked) {
            Some(!written.is_crossed)
        } else {
            None
        }
    });
    let alone = ended.iter().filter(|ended| **ended == Some(true)).count();
    assert!(alone <= 1, "{ended:?}");
    scene.until_quiet();
    scene.assert_same_everywhere(&key());
    // What was told that it won alone stands: the other, late, does not undo it (adversary).
    for (ended, value) in ended.into_iter().zip(["one", "two"]) {
        if ended == Some(true) {
            assert_eq!(scene.get(others[0], &key()).as_deref(), Some(value));
        }
    }
}

/// Whether a node carries out conditional writes itself: it stamps them.
fn serves_conditions(scene: &mut Scene, node: usize) -> bool {
    let before = scene.get_row(node, &key()).unwrap();
    let asked = scene.begin(node, put_if("x", Condition::State(0), Level::LocalQuorum));
    let outcome = scene.wait(asked);
    assert!(matches!(outcome, Outcome::Denied(_)), "{outcome:?}");
    assert_eq!(scene.get_row(node, &key()).unwrap(), before);
    node == 0
}

#[test]
fn if_match_retry() {
    let mut scene = Scene::new(&Shape::of(&[3]));
    put(&mut scene, 0, "0");
    scene.until_quiet();
    let condition = as_now(&mut scene, 0);
    let request = put_if("A", condition, Level::LocalQuorum);
    for from in 0..3 {
        for to in 0..3 {
            scene.lose(from, to, |message| matches!(message, Message::Acks(_)));
        }
    }
    let asked = scene.begin(0, request.clone());
    let outcome = scene.wait(asked);
    assert!(matches!(outcome, Outcome::Unknown(_)), "{outcome:?}");
    scene.heal();
    scene.run_for(SECOND);
    let asked = scene.begin(1, request);
    assert_eq!(ended(&mut scene, asked), None);
    assert_eq!(scene.get(2, &key()).as_deref(), Some("A"));
}

#[test]
fn if_none_match_expired() {
    let mut scene = two_regions();
    scene.then_for(HERE, &key(), WriteOp::Put(bytes("A")), 2);
    let asked = scene.begin(HERE, put_if("B", Condition::Absent, Level::LocalQuorum));
    assert_eq!(ended(&mut scene, asked), None);
    scene.run_for(2 * SECOND + 100_000);
    let asked = scene.begin(HERE, put_if("B", Condition::Absent, Level::LocalQuorum));
    assert_eq!(ended(&mut scene, asked), Some(true));
}

#[test]
fn if_match_absent() {
    let mut scene = two_regions();
    put(&mut scene, HERE, "A");
    let condition = as_now(&mut scene, HERE);
    scene.write_operation(HERE, write(&key(), WriteOp::Delete));
    let asked = scene.begin(HERE, put_if("B", condition, Level::LocalQuorum));
    assert_eq!(ended(&mut scene, asked), None);
    let never = Condition::State(7);
    let mut other = Write::new(kv("other"), WriteOp::Put(bytes("B")));
    other.condition = Some(never);
    let outcome = scene.ask(HERE, Operation::Write(Box::new(other)));
    assert!(matches!(outcome, Outcome::Denied(_)), "{outcome:?}");
}
