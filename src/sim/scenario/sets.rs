//! Sets and maps: adding wins over what had not seen it, and a clear takes what it had seen.

use super::asks::{change_members, clear, fields_op, put_fields, write};
use super::shape::{beside, kv};
use super::{Bug, Scene, Shape, guarded};
use crate::model::{Collection, Level};
use crate::protocol::{Outcome, Request};

#[test]
fn verify_no_datatype_siblings() {
    guarded(Bug::IgnoreRemovals, |bug| {
        let mut scene = Scene::with_bug(&Shape::of(&[2, 2]), bug);
        let key = beside("key");
        scene.cut(&[0, 1], &[2, 3]);
        scene.write(0, &key, put_fields(&[("field", "here")]));
        scene.write(2, &key, put_fields(&[("field", "there")]));
        scene.write(0, &key, change_members(&["member"], &[]));
        scene.write(2, &key, change_members(&["member"], &[]));
        scene.heal();
        scene.until_quiet();
        let shown = scene.registers(0, &key);
        assert_eq!(shown.len(), 1, "{shown:?}");
        for node in 0..4 {
            assert_eq!(scene.registers(node, &key), shown);
            assert_eq!(scene.members(node, &key), ["member"]);
        }
        scene.write(3, &key, put_fields(&[("field", "after")]));
        scene.until_quiet();
        let after = [("field".to_owned(), "after".to_owned())];
        assert_eq!(scene.registers(0, &key), after);
        scene.write(1, &key, change_members(&[], &["member"]));
        scene.until_quiet();
        assert!(scene.members(2, &key).is_empty(), "both went");
    });
}

#[test]
fn verify_dt_converge() {
    guarded(Bug::IgnoreRemovals, |bug| {
        let mut scene = Scene::with_bug(&Shape::of(&[2, 2]), bug);
        let key = kv("key");
        scene.write(0, &key, change_members(&["a", "b"], &[]));
        scene.write(0, &key, fields_op(&[("f", "1")], &[("n", 1)], &[]));
        scene.until_quiet();
        scene.cut(&[0, 1], &[2, 3]);
        scene.write(0, &key, change_members(&["c"], &["a"]));
        scene.write(2, &key, change_members(&["d", "a"], &["b"]));
        scene.write(
            0,
            &key,
            fields_op(&[("f", "2"), ("g", "2")], &[("n", 10)], &[]),
        );
        scene.write(2, &key, fields_op(&[("h", "3")], &[("n", 100)], &["f"]));
        scene.heal();
        scene.until_quiet();
        for node in 0..4 {
            assert_eq!(
                scene.members(node, &key),
                ["a", "c", "d"],
                "added again wins"
            );
            let names: Vec<String> = scene
                .registers(node, &key)
                .into_iter()
                .map(|(n, _)| n)
                .collect();
            assert_eq!(names, ["f", "g", "h"], "put wins");
            assert_eq!(scene.field_counters(node, &key), [("n".to_owned(), 111)]);
        }
        scene.assert_same_everywhere(&key);
    });
}

#[test]
fn verify_dt_context() {
    let run = |bug| {
        let mut scene = Scene::with_bug(&Shape::of(&[2, 2]), bug);
        let key = kv("key");
        scene.write(2, &key, change_members(&["seen"], &[]));
        scene.until_quiet();
        scene.cut(&[0, 1], &[2, 3]);
        scene.write(0, &key, change_members(&["unseen"], &[]));
        scene.write(2, &key, change_members(&[], &["unseen", "seen"]));
        scene.heal();
        scene.until_quiet();
        scene.members(3, &key)
    };
    assert_eq!(
        run(None),
        ["unseen"],
        "what was not observed is not removed"
    );
    assert_ne!(run(Some(Bug::IgnoreRemovals)), ["unseen"]);
}

#[test]
fn a_clear_takes_what_it_had_seen() {
    let mut scene = Scene::new(&Shape::of(&[2, 2]));
    let key = kv("key");
    scene.write(0, &key, change_members(&["a", "b"], &[]));
    scene.write(0, &key, fields_op(&[("f", "1")], &[("n", 5)], &[]));
    scene.until_quiet();
    scene.cut(&[0, 1], &[2, 3]);
    scene.write(2, &key, change_members(&["b", "c"], &[]));
    scene.write(2, &key, fields_op(&[("g", "2")], &[("n", 7)], &[]));
    scene.write(0, &key, clear(Collection::Set));
    scene.write(0, &key, clear(Collection::Map));
    assert!(scene.members(1, &key).is_empty());
    assert!(scene.registers(1, &key).is_empty());
    assert!(scene.field_counters(1, &key).is_empty());
    scene.heal();
    scene.until_quiet();
    for node in 0..4 {
        assert_eq!(scene.members(node, &key), ["b", "c"]);
        let names: Vec<String> = scene
            .registers(node, &key)
            .into_iter()
            .map(|(n, _)| n)
            .collect();
        assert_eq!(names, ["g"]);
        assert_eq!(scene.field_counters(node, &key), [("n".to_owned(), 7)]);
    }
    scene.assert_same_everywhere(&key);
}

#[test]
fn what_was_cleared_and_collected_does_not_come_back() {
    let mut scene = Scene::new(&Shape::of(&[3]));
    let key = kv("key");
    let names: Vec<String> = (0..50).map(|n| format!("m{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    scene.write(0, &key, change_members(&names, &[]));
    scene.run_for(50_000);
    let copy = scene.copy(2);
    scene.write(1, &key, clear(Collection::Set));
    scene.until_quiet();
    assert!(scene.rows(0, &key).is_empty(), "swept and collected");
    scene.kill(2);
    scene.old_copy(2, &copy);
    scene.start(2);
    scene.until_quiet();
    assert!(scene.assert_same_everywhere(&key).is_empty());
    assert!(scene.members(2, &key).is_empty());
}

/// The clock of a node is so far behind that its disk takes nothing of what the others write. What others hold it
/// can read, but not remove: then it must not say that it did.
#[test]
fn who_cannot_take_what_is_there_does_not_remove_it() {
    let mut scene = Scene::new(&Shape::of(&[3, 3]));
    let key = kv("key");
    scene.skew(2, -2_000_000);
    scene.write(0, &key, change_members(&["member"], &[]));
    // The other region is slow to answer: meanwhile both neighbours have told what they have.
    scene.hold(&[3, 4, 5], &[2]);
    let removal = Request {
        level: Some(Level::EachQuorum),
        ..write(&key, change_members(&[], &["member"])).into()
    };
    let removal = scene.begin(2, removal);
    scene.run_for(100_000);
    scene.heal();
    let outcome = scene.wait(removal);
    assert!(matches!(outcome, Outcome::Unavailable(_)), "{outcome:?}");
    assert_eq!(scene.members(0, &key), ["member"]);
    scene.skew(2, 0);
    scene.until_quiet();
    scene.write(2, &key, change_members(&[], &["member"]));
    assert!(scene.members(0, &key).is_empty());
}
