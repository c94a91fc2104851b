//! Sessions: what each needs of a node is all that there is to them, and a join is the least that has both.

use super::super::{NodeId, RegionId, Seen, Session, Timestamp};

const NODES: u32 = 4;
const TIMES: u64 = 4;
const REGION: RegionId = RegionId(7);

/// Every session of one region over a few nodes and times that observing can lead to.
fn sessions() -> Vec<Session> {
    let mut sessions = vec![Session::default()];
    for node in (0..NODES - 1).map(NodeId) {
        for micros in 1..TIMES {
            for rest in 0..=micros {
                let mut session = Session::default();
                let seen = Seen { node, micros, rest };
                session.regions.insert(REGION, seen);
                sessions.push(session);
            }
        }
    }
    sessions
}

/// One node is never the latest, so that it speaks for all others.
fn needs(session: &Session) -> Vec<u64> {
    let nodes = (0..NODES).map(NodeId);
    nodes.map(|node| session.need(REGION, node)).collect()
}

fn is_within(less: &Session, more: &Session) -> bool {
    needs(less).iter().zip(needs(more)).all(|(a, b)| *a <= b)
}

fn joined(a: &Session, b: &Session) -> Session {
    let mut a = a.clone();
    a.join(b);
    a
}

#[test]
fn a_join_is_the_least_session_that_has_both() {
    let all = sessions();
    for a in &all {
        for b in &all {
            let join = joined(a, b);
            assert!(is_within(a, &join) && is_within(b, &join), "{a:?} {b:?}");
            assert_eq!(needs(&join), needs(&joined(b, a)), "{a:?} {b:?}");
            assert_eq!(join.latest(), a.latest().max(b.latest()));
            let mut above = all
                .iter()
                .filter(|more| is_within(a, more) && is_within(b, more));
            assert!(above.all(|more| is_within(&join, more)), "{a:?} {b:?}");
            for c in &all {
                let (left, right) = (joined(&join, c), joined(a, &joined(b, c)));
                assert_eq!(needs(&left), needs(&right), "{a:?} {b:?} {c:?}");
            }
        }
    }
}

#[test]
fn to_observe_is_to_join_what_one_change_needs() {
    for a in sessions() {
        for node in (0..NODES - 1).map(NodeId) {
            for micros in 1..TIMES {
                let timestamp = Timestamp { micros, logical: 9 };
                let mut one = Session::default();
                one.observe(REGION, node, timestamp);
                let mut observed = a.clone();
                observed.observe(REGION, node, timestamp);
                assert_eq!(needs(&observed), needs(&joined(&a, &one)), "{a:?} {one:?}");
                assert!(observed.need(REGION, node) >= micros);
            }
        }
    }
}

#[test]
fn regions_do_not_touch_each_other() {
    let mut session = Session::default();
    let at = |micros| Timestamp { micros, logical: 0 };
    session.observe(REGION, NodeId(1), at(5));
    session.observe(RegionId(8), NodeId(1), at(9));
    assert_eq!(session.need(REGION, NodeId(1)), 5);
    assert_eq!(session.need(RegionId(8), NodeId(1)), 9);
    assert_eq!(session.need(RegionId(9), NodeId(1)), 0);
}
