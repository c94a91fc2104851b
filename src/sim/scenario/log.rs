//! Logs: what is vouched for, equal timestamps, and relays.

use super::asks::{bytes, write};
use super::shape::{kept, kv};
use super::{Bug, Scene, Shape, at_quorum, guarded};
use crate::model::planted::Guard;
use crate::model::{Part, Row, Wall, WriteOp};
use crate::protocol::{Message, Outcome};

/// A replica that is behind passes over a number, whose row stands in the log again, later: until it has that
/// too, its word must not count for the number.
fn passed_over(bug: Option<Bug>) -> bool {
    let mut shape = Shape::of(&[3]);
    // Pages of one row.
    shape.limits.batch_bytes_max = 1;
    shape.limits.window_bytes_max = 1;
    shape.limits.recent_bytes_max = 0;
    let mut scene = Scene::with_bug(&shape, bug);
    scene.put(0, &kv("first"), "0");
    scene.until_quiet();
    scene.kill(2);
    scene.run_for(2_000_000);
    for n in 0..6 {
        scene.put(0, &kv("first"), &n.to_string());
        scene.put(0, &kv("other"), &n.to_string());
        scene.put(0, &kv("third"), &n.to_string());
    }
    // Nothing but the log may help: what is sent in pieces is lost but for the first.
    scene.kill(1);
    scene.start(2);
    let mut is_vouched = false;
    for _ in 0..10_000 {
        scene.run_for(100);
        let position = scene.position(2, &kv("first"));
        for (actor, reach) in &position.reaches {
            if actor.node == scene.id(0) && reach.complete < reach.applied {
                is_vouched |= vouches(&scene, reach.complete);
            }
        }
    }
    is_vouched
}

/// Whether node 0 believes that node 2 has more than it has.
fn vouches(scene: &Scene, complete: u64) -> bool {
    let backlog = {
        let node = &scene.world.nodes[0];
        let running = node.running.as_ref().unwrap();
        let view = running.machine.view(node.now(scene.world.now));
        let peer = view.peers.iter().find(|peer| peer.node == scene.id(2));
        peer.map_or(0, |peer| peer.backlog)
    };
    let position = scene.position(0, &kv("first"));
    let end = position
        .reaches
        .iter()
        .filter(|(actor, _)| actor.node == scene.id(0))
        .map(|(_, reach)| reach.complete)
        .max()
        .unwrap_or(0);
    end.saturating_sub(backlog) > complete
}

#[test]
fn what_was_passed_over_is_not_vouched_for() {
    assert!(!passed_over(None));
    assert!(passed_over(Some(Bug::AckIncomplete)));
}

/// Two coordinators stamp the same row at the same time. Says whether somebody was stamped again.
fn equal_timestamps(bug: Option<Bug>) -> (bool, Scene) {
    let mut scene = Scene::with_bug(&Shape::of(&[3]), bug);
    let at = Wall(scene.wall().0 + 100_000);
    for node in [0, 1] {
        scene.freeze(node, at);
    }
    scene.hold(&[0, 1], &[0, 1, 2]);
    let key = kv("key");
    let put = |value: &str| at_quorum(write(&key, WriteOp::Put(bytes(value))));
    let asked = [scene.begin(0, put("zero")), scene.begin(1, put("one"))];
    scene.run_for(50_000);
    let stamps: Vec<_> = [0, 1]
        .iter()
        .map(|node| scene.rows(*node, &key)[&key].stamp())
        .collect();
    assert_eq!(stamps[0].timestamp, stamps[1].timestamp, "equal timestamps");
    scene.heal();
    let mut written = Vec::new();
    for asked in asked {
        let outcome = scene.wait(asked);
        let Outcome::Written(found) = outcome else {
            panic!("{outcome:?}");
        };
        written.push(found.summary.unwrap().stamp());
    }
    for node in [0, 1] {
        scene.skew(node, 0);
    }
    let winner = usize::from(stamps[1] > stamps[0]);
    assert_eq!(written[winner], stamps[winner], "the greater dot stays");
    (written[1 - winner] > stamps[winner], scene)
}

#[test]
fn of_equal_timestamps_the_greater_dot_wins_and_the_loser_is_stamped_again() {
    let (is_restamped, mut scene) = equal_timestamps(None);
    assert!(is_restamped);
    scene.until_quiet();
    scene.assert_same_everywhere(&kv("key"));
    assert!(!equal_timestamps(Some(Bug::HideNewer)).0);
}

/// A write meets something newer at one neighbour, and the other is silent: until it is known whether the write stands, or is
/// stamped again, nobody in another region is shown it, and could replace it there (adversary).
#[test]
fn what_may_be_stamped_again_does_not_leave_its_region() {
    guarded(Bug::Without(Guard::Decided), |bug| {
        let mut scene = Scene::with_bug(&Shape::of(&[3, 3]), bug);
        let key = kv("key");
        let is_append = |message: &Message| matches!(message, Message::Append(_));
        for to in [0, 3, 4, 5] {
            scene.lose(1, to, is_append);
            scene.lose(2, to, is_append);
        }
        scene.skew(1, 200_000);
        scene.put(1, &key, "newer");
        scene.lose(2, 0, |message| matches!(message, Message::Acks(_)));
        let put = write(&key, WriteOp::Put(bytes("older")));
        let asked = scene.begin(0, at_quorum(put));
        scene.run_for(1_000_000);
        assert_eq!(scene.outcome(asked), None, "undecided");
        assert_eq!(scene.get(3, &key), None);
        scene.skew(1, 0);
        scene.heal();
        let outcome = scene.wait(asked);
        assert!(
            matches!(outcome, Outcome::Written(_) | Outcome::Unknown(_)),
            "{outcome:?}"
        );
        scene.until_quiet();
        scene.assert_same_everywhere(&key);
    });
}

#[test]
fn a_log_that_is_not_complete_is_relayed_honestly() {
    let mut shape = Shape::of(&[1, 1, 1]);
    shape.limits.batch_bytes_max = 1;
    shape.limits.recent_bytes_max = 0;
    let mut scene = Scene::new(&shape);
    scene.until_quiet();
    scene.cut(&[0], &[1, 2]);
    for n in 0..10 {
        for name in ["a", "b", "c", "d"] {
            scene.put(0, &kv(name), &n.to_string());
        }
        scene.delete(0, &kv("gone"));
    }
    scene.heal();
    scene.cut(&[0], &[2]);
    for _ in 0..200 {
        scene.run_for(20_000);
        let (first, last) = (scene.position(1, &kv("a")), scene.position(2, &kv("a")));
        for (actor, reach) in &last.reaches {
            let there = first.reach(*actor).complete;
            let is_own = actor.node == scene.id(2);
            assert!(is_own || reach.complete <= there, "{reach:?} of {there}");
        }
    }
    scene.run_for(5_000_000);
    for name in ["a", "b", "c", "d"] {
        assert_eq!(scene.get(2, &kv(name)).as_deref(), Some("9"));
    }
    scene.heal();
    scene.until_quiet();
    scene.assert_same_everywhere(&kv("a"));
}

#[test]
fn a_version_that_lost_is_kept_once() {
    let mut scene = Scene::new(&Shape::of(&[2, 2]));
    let key = kept("key");
    scene.put(0, &key, "before");
    scene.until_quiet();
    scene.cut(&[0, 1], &[2, 3]);
    scene.put(0, &key, "here");
    scene.put(2, &key, "there");
    scene.heal();
    scene.run_for(3_000_000);
    for node in 0..4 {
        let rows = scene.rows(node, &key);
        let conflicts: Vec<&Row> = rows
            .iter()
            .filter(|(key, _)| matches!(key.part(), Some(Part::Conflict(_))))
            .map(|(_, row)| row)
            .collect();
        assert_eq!(conflicts.len(), 1, "{rows:?}");
    }
    let winner = scene.get(0, &key);
    assert_eq!(winner.as_deref(), Some("there"), "the later one");
    scene.until_quiet();
    assert_eq!(scene.rows(1, &key).len(), 1, "kept only for a time");
}

#[test]
fn a_write_whose_acknowledgements_are_lost_is_never_failed() {
    let mut scene = Scene::new(&Shape::of(&[3]));
    let is_ack = |message: &Message| matches!(message, Message::Acks(_));
    scene.lose(1, 0, is_ack);
    scene.lose(2, 0, is_ack);
    let outcome = scene.ask(0, write(&kv("key"), WriteOp::Put(bytes("a"))));
    assert!(
        matches!(outcome, Outcome::Written(_) | Outcome::Unknown(_)),
        "{outcome:?}"
    );
    scene.heal();
    scene.until_quiet();
    assert_eq!(scene.get(2, &kv("key")).as_deref(), Some("a"));
}
