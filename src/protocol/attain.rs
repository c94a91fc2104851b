//! What of a position can still be had.
//!
//! A replica waits until it has what its disk once had, and peers remember that for it. But what only a disk that is
//! lost held is nowhere any more: it was on no quorum, so nobody was promised it, and it must not be waited for.
//! That nobody has it is concluded from words that were said after the disk was lost, and not before enough have
//! spoken:
//!
//! - Every replica of every region has.
//! - For logs of the region itself it is enough that all others in it *serve*: so they have all that they ever
//!   acknowledged, and without them no quorum had it. A region must not wait for another one.

use crate::model::{NodeId, Position, Reach};

use super::other::Other;
use super::replica::Replica;

/// Of what a replica (this one or another) is wanted to have, what somebody has or may have.
pub(super) fn attainable(replica: &Replica, wanting: NodeId, wanted: &Position) -> Position {
    let is_heard = |node: NodeId| {
        let other = replica.other(node);
        node == replica.me || other.is_some_and(|other| other.has_spoken)
    };
    let vouches = |node: NodeId| {
        let is_serving = if node == replica.me {
            replica.is_serving
        } else {
            replica.other(node).is_some_and(Other::is_serving)
        };
        node == wanting || is_serving
    };
    let regions = replica.regions().iter().map(|(_, nodes)| nodes);
    let region = regions.clone().find(|nodes| nodes.contains(&wanting));
    let is_all_heard = replica.nodes().all(is_heard);
    let is_vouched =
        is_heard(wanting) && region.is_some_and(|nodes| nodes.iter().all(|node| vouches(*node)));
    let is_told = |node: NodeId| {
        let is_of_region = region.is_some_and(|nodes| nodes.contains(&node));
        is_all_heard || (is_vouched && is_of_region)
    };
    let positions = || {
        let others = replica.others().map(|(_, other)| &other.position);
        others.chain([&replica.position])
    };
    let reaches = wanted.reaches.iter().map(|(actor, reach)| {
        let had = positions().map(|position| position.reach(*actor).complete);
        let most = had.max().unwrap_or(0);
        let is_lost = most < reach.complete && is_told(actor.node);
        let complete = if is_lost { most } else { reach.complete };
        (*actor, Reach::upto(complete))
    });
    let retired = wanted.retired.iter().filter(|(node, upto)| {
        let mut had = positions().filter_map(|position| position.retired.get(*node));
        !is_told(**node) || had.any(|had| *had >= **upto)
    });
    Position {
        reaches: reaches.collect(),
        retired: retired.map(|(node, upto)| (*node, *upto)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Incarnation;
    use crate::protocol::other::Told;
    use crate::protocol::samples::{actor, at, core, known, position};

    const ME: NodeId = NodeId(1);

    /// Node 1 of three in its region; node 4 is the other region.
    fn replica(is_serving: bool) -> Replica {
        let mut core = core(at(0));
        let (_, mut replica) = core.replicas.pop_first().unwrap();
        replica.is_serving = is_serving;
        replica
    }

    #[test]
    fn what_nobody_has_is_given_up_when_all_have_spoken() {
        let mut replica = replica(false);
        let silent = |node, position| crate::protocol::message::Known {
            is_serving: false,
            ..known(node, 1, position)
        };
        for (node, n) in [(2, 3), (3, 4), (4, 5)] {
            assert_eq!(attainable(&replica, ME, &at(9)), at(9), "before {node}");
            replica.on_hearsay(&silent(node, at(n)), Told::All);
            assert_eq!(attainable(&replica, ME, &at(9)), at(9), "before {node}");
            replica.on_first_hand(&silent(node, at(n)), Told::All);
        }
        assert_eq!(attainable(&replica, ME, &at(9)), at(5));
        assert_eq!(attainable(&replica, ME, &at(4)), at(4));
    }

    #[test]
    fn a_region_that_serves_needs_no_other_one_for_its_own_logs() {
        let far = actor(4, 1);
        let wanted = position(&[(actor(1, 1), 9), (far, 9)]);
        let cut = position(&[(actor(1, 1), 3), (far, 9)]);
        let mut replica = replica(false);
        replica.on_first_hand(&known(2, 1, at(3)), Told::All);
        assert_eq!(attainable(&replica, ME, &wanted), wanted);
        replica.on_first_hand(&known(3, 1, at(3)), Told::All);
        assert_eq!(attainable(&replica, ME, &wanted), cut);
    }

    #[test]
    fn who_once_had_more_vouches_for_nothing() {
        let mut replica = replica(true);
        replica.on_first_hand(&known(2, 1, at(9)), Told::All);
        replica.on_first_hand(&known(3, 1, at(9)), Told::All);
        replica.on_first_hand(&known(2, 2, at(3)), Told::All);
        replica.on_first_hand(&known(3, 2, at(4)), Told::All);
        assert_eq!(attainable(&replica, NodeId(2), &at(9)), at(9));
        replica.on_first_hand(&known(4, 1, at(4)), Told::All);
        assert_eq!(attainable(&replica, NodeId(2), &at(9)), at(4));
    }

    #[test]
    fn lives_are_wanted_retired_only_if_somebody_has_retired_them() {
        let mut replica = replica(false);
        let mut wanted = at(0);
        wanted.retire(NodeId(2), Incarnation(1));
        replica.on_first_hand(&known(2, 2, at(0)), Told::All);
        assert_eq!(attainable(&replica, ME, &wanted).retired, wanted.retired);
        replica.on_first_hand(&known(3, 1, at(0)), Told::All);
        assert_eq!(attainable(&replica, ME, &wanted).retired.len(), 0);
        replica.on_first_hand(&known(3, 1, wanted.clone()), Told::All);
        assert_eq!(attainable(&replica, ME, &wanted).retired, wanted.retired);
    }
}
