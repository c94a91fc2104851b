//! Siblings: none is lost, none is false, and they do not pile up.

use std::collections::BTreeSet;

use super::asks::put_sibling;
use super::shape::beside;
use super::{Bug, Scene, Shape, guarded};
use crate::model::planted::Guard;
use crate::model::{Duration, Limits, Row};
use crate::protocol::Outcome;

/// Each region in turn reads, adds its own name to all that it saw, and writes that with the context.
fn resolve_in_turns(scene: &mut Scene, regions: [usize; 2], rounds: usize) -> usize {
    let key = beside("key");
    let mut most = 0;
    for round in 0..rounds {
        for node in regions {
            let (values, context) = scene.siblings(node, &key);
            most = most.max(values.len());
            let mut names: BTreeSet<String> = values
                .iter()
                .flat_map(|v| v.split(','))
                .map(str::to_owned)
                .collect();
            names.insert(format!("{node}-{round}"));
            let value = names.into_iter().collect::<Vec<_>>().join(",");
            scene.write(node, &key, put_sibling(&value, Some(&context)));
        }
    }
    most
}

fn explosion(bug: Option<Bug>) -> usize {
    let mut shape = Shape::of(&[2, 2]);
    shape.limits.siblings_max = 1_000;
    let mut scene = Scene::with_bug(&shape, bug);
    let rounds = if bug.is_some() { 10 } else { 100 };
    let most = resolve_in_turns(&mut scene, [0, 2], rounds);
    if bug.is_some() {
        return most;
    }
    scene.until_quiet();
    let (values, _) = scene.siblings(3, &beside("key"));
    assert!(values.len() <= 2, "{} siblings", values.len());
    let names: BTreeSet<&str> = values.iter().flat_map(|value| value.split(',')).collect();
    assert_eq!(names.len(), 2 * rounds, "all values are kept");
    scene.assert_same_everywhere(&beside("key"));
    most
}

#[test]
fn sibling_explosion() {
    let most = explosion(None);
    assert!(most <= 2, "{most} siblings");
    assert!(explosion(Some(Bug::ForgetContexts)) > 2);
}

#[test]
fn verify_dvv_repl() {
    guarded(Bug::ForgetContexts, |bug| {
        let mut scene = Scene::with_bug(&Shape::of(&[2, 2]), bug);
        let key = beside("key");
        for round in 0..20 {
            let value = format!("there-{round}");
            scene.write(2, &key, put_sibling(&value, None));
            let (_, context) = scene.siblings(2, &key);
            scene.write(2, &key, put_sibling(&value, Some(&context)));
        }
        scene.write(0, &key, put_sibling("here", None));
        scene.until_quiet();
        for node in 0..4 {
            let (values, _) = scene.siblings(node, &key);
            assert_eq!(values, ["here", "there-19"]);
        }
        let (_, context) = scene.siblings(1, &key);
        scene.write(1, &key, put_sibling("resolved", Some(&context)));
        scene.until_quiet();
        assert_eq!(scene.siblings(2, &key).0, ["resolved"]);
    });
}

#[test]
fn what_a_writer_had_not_seen_stays() {
    let run = |bug| {
        let mut scene = Scene::with_bug(&Shape::of(&[3]), bug);
        let key = beside("key");
        scene.write(0, &key, put_sibling("a", None));
        let (_, context) = scene.siblings(1, &key);
        scene.write(0, &key, put_sibling("b", Some(&context)));
        scene.write(0, &key, put_sibling("c", Some(&context)));
        scene.siblings(2, &key).0
    };
    assert_eq!(run(None), ["b", "c"]);
    assert_ne!(run(Some(Bug::AssumeContexts)), ["b", "c"]);
}

#[test]
fn verify_asis_put() {
    guarded(Bug::Without(Guard::Compact), |bug| {
        let mut scene = Scene::with_bug(&Shape::of(&[2, 2]), bug);
        let key = beside("key");
        scene.write(0, &key, put_sibling("a", None));
        let (_, context) = scene.siblings(1, &key);
        scene.write(1, &key, put_sibling("b", Some(&context)));
        let written = scene.rows(1, &key);
        scene.until_quiet();
        assert_eq!(
            scene.assert_same_everywhere(&key),
            written,
            "as it was written"
        );
        let _ = scene.siblings(3, &key);
        scene.until_quiet();
        assert_eq!(scene.assert_same_everywhere(&key), written, "and read");
        for node in [2, 3] {
            let actor = scene.id(node);
            let position = scene.position(node, &key);
            let own = position
                .reaches
                .iter()
                .find(|(other, _)| other.node == actor);
            assert!(own.is_none_or(|(_, reach)| reach.applied == 0), "{own:?}");
        }
    });
}

#[test]
fn verify_object_limits() {
    guarded(Bug::Without(Guard::MergeAll), |bug| {
        let mut shape = Shape::of(&[2, 2]);
        shape.limits = Limits {
            siblings_max: 4,
            silence_max: Duration::from_secs(1),
            ..shape.limits
        };
        let mut scene = Scene::with_bug(&shape, bug);
        let key = beside("key");
        scene.cut(&[0, 1], &[2, 3]);
        for node in [0, 2] {
            for n in 0..4 {
                scene.write(node, &key, put_sibling(&format!("{node}-{n}"), None));
            }
            let one_more = super::asks::write(&key, put_sibling("more", None));
            let outcome = scene.ask(node, one_more);
            assert!(matches!(outcome, Outcome::Denied(_)), "{outcome:?}");
        }
        scene.heal();
        scene.until_quiet();
        let (values, context) = scene.siblings(0, &key);
        assert_eq!(values.len(), 8, "merges are never refused");
        scene.write(0, &key, put_sibling("one", Some(&context)));
        scene.until_quiet();
        assert_eq!(scene.siblings(3, &key).0, ["one"]);
    });
}

#[test]
fn verify_no_writes_on_read() {
    guarded(Bug::Without(Guard::RepairLacking), |bug| {
        let mut scene = Scene::with_bug(&Shape::of(&[3]), bug);
        let (plain, beside) = (super::shape::kv("key"), beside("key"));
        scene.put(0, &plain, "a");
        scene.write(0, &beside, put_sibling("a", None));
        scene.write(1, &beside, put_sibling("b", None));
        scene.write(0, &plain, super::asks::add(3, None));
        scene.write(0, &plain, super::asks::change_members(&["a", "b"], &[]));
        scene.until_quiet();
        let positions = scene.position(0, &plain);
        let last = scene.world.checks.last_traffic();
        for node in 0..3 {
            assert_eq!(scene.get(node, &plain).as_deref(), Some("a"));
            assert_eq!(scene.siblings(node, &beside).0, ["a", "b"]);
            assert_eq!(scene.counter(node, &plain), Some(3));
            assert_eq!(scene.members(node, &plain), ["a", "b"]);
        }
        assert_eq!(scene.world.checks.last_traffic(), last);
        assert_eq!(scene.position(0, &plain), positions);
    });
}

#[test]
fn siblings_of_actors_that_are_gone_leave_the_context() {
    let mut scene = Scene::new(&Shape::of(&[3]));
    let key = beside("key");
    for life in 0..4 {
        let (_, context) = scene.siblings(1, &key);
        scene.write(
            0,
            &key,
            put_sibling(&format!("life-{life}"), Some(&context)),
        );
        scene.kill(0);
        scene.start(0);
        scene.until_quiet();
    }
    // Until all have told all, twice, that they have everything.
    scene.run_for(60_000_000);
    let (_, context) = scene.siblings(1, &key);
    scene.write(1, &key, put_sibling("last", Some(&context)));
    scene.until_quiet();
    let rows = scene.assert_same_everywhere(&key);
    let Some(Row::Siblings(row)) = rows.values().next() else {
        panic!("{rows:?}");
    };
    assert!(row.context().len() <= 3, "{:?}", row.context());
}
