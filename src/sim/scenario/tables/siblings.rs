//! Values that stand beside each other.

use super::super::asks::{put_sibling, write};
use super::super::shape::beside;
use super::super::{Scene, Shape};
use super::{HERE, SECOND, THERE, two_regions};
use crate::model::{Context, RowKey, WriteOp};
use crate::protocol::{Message, Outcome};

fn key() -> RowKey {
    beside("key")
}

fn delete(seen: Option<&Context>) -> WriteOp {
    WriteOp::DeleteSiblings {
        seen: seen.cloned(),
    }
}

fn shown(scene: &mut Scene) -> Vec<String> {
    scene.everywhere(|scene, node| scene.siblings(node, &key()).0)
}

/// A value that both regions have, and its context.
fn one_value() -> (Scene, Context) {
    let mut scene = two_regions();
    scene.then(HERE, &key(), put_sibling("0", None));
    scene.until_quiet();
    let (_, context) = scene.siblings(THERE, &key());
    (scene, context)
}

/// A and B, and the context of both.
fn two_values() -> (Scene, Context) {
    let (mut scene, seen) = one_value();
    scene.apart();
    scene.then(HERE, &key(), put_sibling("A", Some(&seen)));
    scene.then(THERE, &key(), put_sibling("B", Some(&seen)));
    scene.together();
    assert_eq!(shown(&mut scene), ["A", "B"]);
    let (_, context) = scene.siblings(HERE, &key());
    (scene, context)
}

fn at_once(here: impl Fn(&Context) -> WriteOp, there: impl Fn(&Context) -> WriteOp) -> Vec<String> {
    let (mut scene, seen) = one_value();
    scene.apart();
    scene.then(HERE, &key(), here(&seen));
    scene.then(THERE, &key(), there(&seen));
    scene.together();
    shown(&mut scene)
}

#[test]
fn siblings_put_put() {
    two_values();
    let shown = at_once(|_| put_sibling("A", None), |_| put_sibling("B", None));
    assert_eq!(shown, ["0", "A", "B"]);
}

#[test]
fn siblings_put_delete() {
    let shown = at_once(
        |seen| put_sibling("A", Some(seen)),
        |seen| delete(Some(seen)),
    );
    assert_eq!(shown, ["A"]);
}

#[test]
fn siblings_delete_delete() {
    let shown = at_once(|seen| delete(Some(seen)), |seen| delete(Some(seen)));
    assert!(shown.is_empty());
}

#[test]
fn siblings_resolve() {
    let (mut scene, both) = two_values();
    scene.then(THERE, &key(), put_sibling("C", Some(&both)));
    scene.until_quiet();
    assert_eq!(shown(&mut scene), ["C"]);
}

#[test]
fn siblings_resolve_and_put() {
    let (mut scene, old) = one_value();
    scene.apart();
    scene.then(HERE, &key(), put_sibling("A", Some(&old)));
    scene.then(HERE, &key(), put_sibling("B", Some(&old)));
    let (_, both) = scene.siblings(HERE, &key());
    scene.then(HERE, &key(), put_sibling("C", Some(&both)));
    scene.then(THERE, &key(), put_sibling("D", Some(&old)));
    scene.together();
    assert_eq!(shown(&mut scene), ["C", "D"]);
}

#[test]
fn siblings_resolve_twice() {
    let (mut scene, both) = two_values();
    scene.apart();
    scene.then(HERE, &key(), put_sibling("C", Some(&both)));
    scene.then(THERE, &key(), put_sibling("D", Some(&both)));
    scene.together();
    assert_eq!(shown(&mut scene), ["C", "D"]);
}

#[test]
fn siblings_put_without_context() {
    let mut scene = two_regions();
    scene.then(HERE, &key(), put_sibling("A", None));
    scene.then(1, &key(), put_sibling("B", None));
    scene.until_quiet();
    assert_eq!(shown(&mut scene), ["A", "B"]);
}

#[test]
fn siblings_delete_without_context() {
    assert_eq!(at_once(|_| delete(None), |_| put_sibling("B", None)), ["B"]);
}

#[test]
fn siblings_old_context() {
    let (mut scene, old) = one_value();
    scene.then(HERE, &key(), put_sibling("A", Some(&old)));
    scene.then(HERE, &key(), put_sibling("B", Some(&old)));
    scene.until_quiet();
    assert_eq!(shown(&mut scene), ["A", "B"]);
}

#[test]
fn siblings_interleaved() {
    let (mut scene, mut seen) = one_value();
    for round in 0..100 {
        let node = if round % 2 == 0 { HERE } else { THERE };
        scene.write(node, &key(), put_sibling(&round.to_string(), Some(&seen)));
        let (values, context) = scene.siblings(node, &key());
        assert!(values.len() <= 2, "{values:?}");
        seen = context;
    }
    scene.until_quiet();
    assert!(shown(&mut scene).contains(&"99".to_owned()));
}

#[test]
fn siblings_retry_put() {
    let mut scene = Scene::new(&Shape::of(&[3]));
    let is_ack = |message: &Message| matches!(message, Message::Acks(_));
    scene.lose(1, 0, is_ack);
    scene.lose(2, 0, is_ack);
    let outcome = scene.ask(0, write(&key(), put_sibling("A", None)));
    assert!(matches!(outcome, Outcome::Unknown(_)), "{outcome:?}");
    scene.heal();
    scene.then(1, &key(), put_sibling("A", None));
    scene.until_quiet();
    assert_eq!(shown(&mut scene), ["A", "A"]);
    let (_, seen) = scene.siblings(2, &key());
    scene.then(2, &key(), put_sibling("A", Some(&seen)));
    scene.until_quiet();
    assert_eq!(shown(&mut scene), ["A"]);
}

#[test]
fn siblings_put_ttl_and_put() {
    let mut scene = two_regions();
    scene.apart();
    scene.then_for(HERE, &key(), put_sibling("A", None), 3);
    scene.then(THERE, &key(), put_sibling("B", None));
    scene.heal();
    scene.run_for(SECOND);
    assert_eq!(shown(&mut scene), ["A", "B"]);
    scene.run_for(4 * SECOND);
    assert_eq!(shown(&mut scene), ["B"]);
    scene.until_quiet();
    assert_eq!(shown(&mut scene), ["B"]);
}

#[test]
fn siblings_expiry_refresh() {
    let mut scene = two_regions();
    scene.then_for(HERE, &key(), put_sibling("A", None), 3);
    scene.run_for(SECOND);
    let (_, seen) = scene.siblings(THERE, &key());
    scene.apart();
    scene.then_for(THERE, &key(), put_sibling("new", Some(&seen)), 40);
    scene.run_for(6 * SECOND);
    scene.heal();
    scene.run_for(3 * SECOND);
    assert_eq!(shown(&mut scene), ["new"]);
}

#[test]
fn siblings_winner() {
    let (mut scene, _) = two_values();
    let winner = scene.everywhere(|scene, node| scene.get(node, &key()));
    assert_eq!(winner.as_deref(), Some("B"));
}

fn limited() -> Scene {
    let mut shape = Shape::of(&[2, 2]);
    shape.limits.siblings_max = 2;
    Scene::new(&shape)
}

#[test]
fn siblings_limit() {
    let mut scene = limited();
    scene.then(HERE, &key(), put_sibling("A", None));
    scene.then(HERE, &key(), put_sibling("B", None));
    let outcome = scene.ask(HERE, write(&key(), put_sibling("C", None)));
    assert!(matches!(outcome, Outcome::Denied(_)), "{outcome:?}");
    scene.until_quiet();
    assert_eq!(shown(&mut scene), ["A", "B"]);
}

#[test]
fn siblings_limit_merge() {
    let mut scene = limited();
    scene.apart();
    for (node, values) in [(HERE, ["A", "B"]), (THERE, ["C", "D"])] {
        for value in values {
            scene.then(node, &key(), put_sibling(value, None));
        }
    }
    scene.together();
    assert_eq!(shown(&mut scene), ["A", "B", "C", "D"]);
}
