//! When a life of a node that is over need not be counted any more.
//!
//! Every start of a node begins a new life, and so a new log in every partition that it writes. Positions, heartbeats
//! and contexts would grow with each restart. So a life is *retired*, replica by replica, when every replica of every
//! region has the same of its log, and nothing is left to do with it: its entries are trimmed, and its tombstones are
//! within the floor that was last collected.
//!
//! Who says "retired" says that everybody has everything. Nobody may believe that of himself on another's word: a
//! replica whose disk was taken back to an old copy would claim what it has not, and others would conclude that it
//! had deleted it. So each replica *notes*, before anyone has retired a life, that all have the same of it. What it has noted,
//! it may retire; what others have retired and it has not noted, it gets by digest (see `reconcile`), with the
//! position that comes of that. The pause between noting and retiring is long enough for all to note.
//!
//! The last life of which every replica has something is never retired, so that an old copy of a disk is always
//! recognised: it lacks some of that life or has none of it, and peers name it.
//!
//! A life may have left nothing: what it wrote was only on a disk that is lost. Rows may still name it, for they say
//! what somebody had seen, and no floor ever covers it. So it is retired with the lives before it, and those before the
//! first of which anybody has something are retired too: whatever of them still turns up, on an old copy of that disk,
//! was never promised to anybody, and counts as deleted.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{Actor, Incarnation, NodeId, Position, Reach};

use crate::model::planted::{Guard, is_left_out};

use super::replica::Replica;

/// Rounds of upkeep between noting and retiring: some times longer than a full heartbeat takes to reach everybody
/// through a third region.
const PAUSE_ROUNDS: u32 = 30;

/// Everybody had a life's log up to here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Noted {
    n: u64,
    rounds: u32,
}

/// Lives of a node up to one, of which every replica has the same.
#[derive(Clone, Copy, Debug)]
struct Lives {
    upto: Incarnation,
    /// The last of them that has entries, and how many; nothing if none has.
    last: Option<(Actor, u64)>,
}

/// A round of upkeep: notes lives that are over, and says which may be retired.
pub(super) fn look(me: Actor, replica: &mut Replica) -> Vec<(NodeId, Incarnation)> {
    let nodes: BTreeSet<NodeId> = replica.nodes().collect();
    let found = nodes.into_iter().filter_map(|node| {
        let upto = look_at(me, replica, node)?;
        Some((node, upto))
    });
    found.collect()
}

/// Whether another replica has retired lives of which this one cannot say that it has everything.
pub(super) fn must_be_filled(replica: &Replica, node: NodeId) -> bool {
    let other = replica.other(node);
    !is_left_out(Guard::RetireFill)
        && other.is_some_and(|other| {
            let mut retired = other.position.retired.iter();
            retired.any(|(node, upto)| !is_vouched(replica, *node, *upto))
        })
}

/// Whether others, of whom all this is known, have retired a life, and this replica has noted that it lacks nothing of it.
pub(super) fn is_noted(replica: &Replica, known: &Position, actor: Actor) -> bool {
    let upto = known.retired.get(&actor.node);
    upto.is_some_and(|upto| actor.incarnation <= *upto && is_vouched(replica, actor.node, *upto))
}

fn is_vouched(replica: &Replica, node: NodeId, upto: Incarnation) -> bool {
    let mine = replica.position.retired.get(&node);
    let incarnation = upto;
    mine.is_some_and(|mine| *mine >= upto)
        || replica.noted.contains_key(&Actor { node, incarnation })
}

fn look_at(me: Actor, replica: &mut Replica, node: NodeId) -> Option<Incarnation> {
    let is_lacking = replica.others().any(|(_, other)| {
        let upto = other.position.retired.get(&node);
        upto.is_some_and(|upto| !is_vouched(replica, node, *upto))
    });
    let agreed = if is_lacking {
        Vec::new()
    } else {
        agreed(me, replica, node)
    };
    let is_agreed = |actor: &Actor| agreed.iter().any(|lives| lives.upto == actor.incarnation);
    replica
        .noted
        .retain(|actor, _| actor.node != node || is_agreed(actor));
    let mut ready = None;
    let mut is_open = true;
    for Lives { upto, last } in agreed {
        let n = last.map_or(0, |(_, n)| n);
        let actor = Actor {
            node,
            incarnation: upto,
        };
        let is_retired = is_retired_elsewhere(replica, actor);
        let noted = match replica.noted.get(&actor) {
            Some(noted) if noted.n == n => Noted {
                n,
                rounds: noted.rounds.saturating_add(1),
            },
            _ if is_retired => {
                replica
                    .noted
                    .retain(|other, _| other.node != node || other.incarnation < actor.incarnation);
                break;
            }
            Some(_) | None => Noted { n, rounds: 0 },
        };
        replica.noted.insert(actor, noted);
        let is_over = |marks: &BTreeMap<Actor, u64>| {
            last.is_none_or(|(actor, n)| marks.get(&actor).is_some_and(|to| *to >= n))
        };
        let has_paused = noted.rounds >= PAUSE_ROUNDS || is_retired;
        is_open &= (has_paused && is_over(&replica.trimmed) && is_over(&replica.collected))
            || is_left_out(Guard::RetirePause);
        if is_open {
            ready = Some(upto);
        }
    }
    ready
}

/// The first lives of a node of which every replica has the same, each with those after it of which nobody has
/// anything; and before them, those before the first. The last life of which everybody has something stays.
fn agreed(me: Actor, replica: &Replica, node: NodeId) -> Vec<Lives> {
    let living = if node == me.node {
        Some(me.incarnation)
    } else {
        replica.other(node).map(|other| other.incarnation)
    };
    let is_known = |actor: &Actor| {
        actor.node == node && living.is_some_and(|living| actor.incarnation <= living)
    };
    let has_entries = |actor: &Actor| {
        let mut known = replica
            .others()
            .map(|(_, other)| other.position.reach(*actor));
        let mine = replica.position.reach(*actor);
        mine.applied > 0 || known.any(|reach| reach.applied > 0)
    };
    let known = replica.actors().into_iter();
    let known: Vec<Actor> = known.filter(|a| is_known(a) && has_entries(a)).collect();
    let agree = |actor: Actor, agrees: &dyn Fn(Reach) -> bool| {
        let mut others = replica.nodes().filter(|other| *other != me.node);
        others.all(|other| {
            let other = replica.other(other);
            other.is_some_and(|other| {
                other.snapshot.has_retired(actor) || agrees(other.snapshot.reach(actor))
            })
        })
    };
    let has_same = |actor: Actor| {
        let mine = replica.position.reach(actor);
        let is_whole = mine.complete == mine.applied && mine.applied > 0;
        let is_same = is_whole && agree(actor, &|theirs| theirs == mine);
        is_same.then_some((actor, mine.applied))
    };
    let has_some = |actor: Actor| {
        replica.position.reach(actor).complete > 0 && agree(actor, &|theirs| theirs.complete > 0)
    };
    let before = |next: &Actor| {
        let upto = Incarnation(next.incarnation.0.checked_sub(1)?);
        has_some(*next).then_some(upto)
    };
    let is_new = |upto: &Incarnation| {
        let retired = replica.position.retired.get(&node);
        retired.is_none_or(|retired| retired < upto)
    };
    let first = known.first().and_then(before).filter(is_new);
    let first = first.map(|upto| Lives { upto, last: None });
    let nexts = known.iter().zip(known.iter().skip(1));
    let others = nexts.map_while(|(actor, next)| {
        let last = Some(has_same(*actor)?);
        let upto = before(next)?;
        Some(Lives { upto, last })
    });
    first.into_iter().chain(others).collect()
}

fn is_retired_elsewhere(replica: &Replica, actor: Actor) -> bool {
    let mut others = replica.others();
    others.any(|(_, other)| other.position.has_retired(actor))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::other::Told;
    use crate::protocol::samples::{ME, actor, known, position, replica};

    const X: NodeId = NodeId(2);

    /// Node 2 has lived three times, and written in the first two lives.
    fn lives(first: u64, second: u64) -> Position {
        position(&[(actor(2, 0), first), (actor(2, 1), second)])
    }

    fn everybody_has(replica: &mut Replica, position: &Position) {
        replica.on_first_hand(&known(2, 3, position.clone()), Told::All);
        replica.on_first_hand(&known(3, 1, position.clone()), Told::All);
    }

    fn is_over(replica: &mut Replica) {
        replica.trimmed = BTreeMap::from([(actor(2, 0), 5), (actor(2, 1), 7)]);
        replica.collected = replica.trimmed.clone();
    }

    /// What is retired in so many rounds.
    fn rounds(replica: &mut Replica, count: u32) -> Vec<(NodeId, Incarnation)> {
        (0..count).flat_map(|_| look(ME, replica)).collect()
    }

    #[test]
    fn a_life_is_retired_when_all_have_the_same_of_it_but_not_the_newest_that_is_over() {
        let mut replica = replica(lives(5, 7));
        everybody_has(&mut replica, &lives(5, 7));
        is_over(&mut replica);
        assert_eq!(rounds(&mut replica, PAUSE_ROUNDS), vec![]);
        assert_eq!(rounds(&mut replica, 1), vec![(X, Incarnation(0))]);
        replica.retire(X, Incarnation(0));
        assert_eq!(rounds(&mut replica, 2 * PAUSE_ROUNDS), vec![]);
    }

    #[test]
    fn it_stays_while_anybody_has_less_or_more_or_is_known_by_acknowledgements_only() {
        for theirs in [lives(4, 7), lives(6, 7)] {
            let mut replica = replica(lives(5, 7));
            everybody_has(&mut replica, &lives(5, 7));
            replica.on_first_hand(&known(3, 2, theirs), Told::All);
            is_over(&mut replica);
            assert_eq!(rounds(&mut replica, 2 * PAUSE_ROUNDS), vec![]);
        }
        let mut replica = replica(lives(5, 7));
        replica.on_first_hand(&known(2, 3, lives(5, 7)), Told::All);
        replica.on_first_hand(&known(3, 1, lives(5, 7)), Told::Changes);
        is_over(&mut replica);
        assert_eq!(rounds(&mut replica, 2 * PAUSE_ROUNDS), vec![]);
    }

    #[test]
    fn it_stays_until_it_is_trimmed_and_its_tombstones_are_collected() {
        let mut replica = replica(lives(5, 7));
        everybody_has(&mut replica, &lives(5, 7));
        assert_eq!(rounds(&mut replica, 2 * PAUSE_ROUNDS), vec![]);
        replica.trimmed = BTreeMap::from([(actor(2, 0), 5)]);
        assert_eq!(rounds(&mut replica, 1), vec![]);
        replica.collected = BTreeMap::from([(actor(2, 0), 4)]);
        assert_eq!(rounds(&mut replica, 1), vec![]);
        is_over(&mut replica);
        assert_eq!(rounds(&mut replica, 1), vec![(X, Incarnation(0))]);
    }

    #[test]
    fn what_others_have_retired_is_retired_if_it_was_noted_and_filled_if_not() {
        let mut theirs = lives(5, 7);
        theirs.retire(X, Incarnation(0));

        let mut noted = replica(lives(5, 7));
        everybody_has(&mut noted, &lives(5, 7));
        is_over(&mut noted);
        assert_eq!(rounds(&mut noted, 1), vec![]);
        noted.on_first_hand(&known(3, 1, theirs.clone()), Told::All);
        assert!(!must_be_filled(&noted, NodeId(3)));
        assert_eq!(rounds(&mut noted, 1), vec![(X, Incarnation(0))]);

        // An old copy of a disk has less, and cannot know it.
        let mut copy = replica(lives(3, 7));
        everybody_has(&mut copy, &theirs);
        is_over(&mut copy);
        assert!(must_be_filled(&copy, NodeId(3)));
        assert_eq!(rounds(&mut copy, 2 * PAUSE_ROUNDS), vec![]);
        copy.on_raised(crate::model::Wall(0), &theirs);
        assert!(!must_be_filled(&copy, NodeId(3)));
    }

    #[test]
    fn lives_that_left_nothing_go_with_those_around_them() {
        let mut replica = replica(position(&[(actor(2, 2), 7)]));
        everybody_has(&mut replica, &position(&[(actor(2, 2), 7)]));
        assert_eq!(rounds(&mut replica, PAUSE_ROUNDS), vec![]);
        let found = rounds(&mut replica, 1);
        assert_eq!(found, vec![(X, Incarnation(1))], "before the first");
        replica.retire(X, Incarnation(1));
        assert_eq!(rounds(&mut replica, 2 * PAUSE_ROUNDS), vec![]);

        let now = position(&[(actor(2, 2), 7), (actor(2, 5), 1)]);
        replica.on_raised(crate::model::Wall(0), &now);
        replica.on_first_hand(&known(2, 5, now.clone()), Told::All);
        assert_eq!(
            rounds(&mut replica, PAUSE_ROUNDS + 1),
            vec![],
            "not everybody has some"
        );
        replica.on_first_hand(&known(3, 1, now), Told::All);
        replica.trimmed = BTreeMap::from([(actor(2, 2), 7)]);
        replica.collected = replica.trimmed.clone();
        let found = rounds(&mut replica, PAUSE_ROUNDS + 1);
        assert_eq!(
            found,
            vec![(X, Incarnation(4))],
            "and those before the next"
        );
    }

    #[test]
    fn our_own_earlier_lives_are_retired_too() {
        let own = position(&[(actor(1, 0), 5), (actor(1, 1), 7)]);
        let mut replica = replica(own.clone());
        everybody_has(&mut replica, &own);
        replica.trimmed = BTreeMap::from([(actor(1, 0), 5), (actor(1, 1), 7)]);
        replica.collected = replica.trimmed.clone();
        let found = rounds(&mut replica, PAUSE_ROUNDS + 1);
        assert_eq!(found, vec![(NodeId(1), Incarnation(0))]);
    }
}
