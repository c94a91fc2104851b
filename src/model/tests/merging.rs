//! The laws of merging for every kind of row, over states that replicas reach by operations and exchanges in
//! any order.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::super::{
    Actor, Clear, Conflict, Context, Dot, Expiry, Once, Row, Share, Siblings, Stamp, Tally,
    Version, Wall,
};
use super::{actor, stamp, version};

const REPLICAS: usize = 4;
/// States of one history that are compared, three by three.
const STATES_MAX: usize = 10;

#[derive(Clone, Copy, Debug)]
enum Kind {
    Register,
    Siblings,
    Share,
    Once,
    Clear,
    Expiry,
    Conflict,
}

/// One step: which replica, what, and two numbers that say how.
type Step = (usize, u8, u64, usize);

struct World {
    kind: Kind,
    rows: Vec<Option<Row>>,
    n: [u64; REPLICAS],
    clocks: [u64; REPLICAS],
    read: Vec<Context>,
    /// All states that were ever reached.
    states: Vec<Row>,
}

impl World {
    fn run(kind: Kind, steps: &[Step]) -> Self {
        let mut world = Self {
            kind,
            rows: vec![None; REPLICAS],
            n: [0; REPLICAS],
            clocks: [0; REPLICAS],
            read: vec![Context::default()],
            states: Vec::new(),
        };
        for (at, what, number, other) in steps {
            world.step(*at % REPLICAS, *what % 8, *number, *other % REPLICAS);
        }
        world
    }

    fn step(&mut self, at: usize, what: u8, number: u64, other: usize) {
        match what {
            0..4 => {
                let stamp = self.stamp(at, number);
                let row = self.rows[at].take();
                self.rows[at] = self.operate(at, row, stamp, what, number);
            }
            4..7 => match (self.rows[other].clone(), &mut self.rows[at]) {
                (Some(theirs), Some(mine)) => {
                    mine.merge(&theirs);
                }
                (Some(theirs), mine @ None) => *mine = Some(theirs),
                (None, _) => {}
            },
            _ => {
                if let Some(row) = &mut self.rows[at] {
                    row.expire(Wall(number % 40));
                }
            }
        }
        if let Some(row) = &self.rows[at] {
            if let Row::Siblings(row) = row {
                self.read.push(row.context());
            }
            self.states.push(row.clone());
        }
    }

    /// Above what is here, by clocks that run apart.
    fn stamp(&mut self, at: usize, number: u64) -> Stamp {
        let latest = self.rows[at]
            .as_ref()
            .map_or(0, |row| row.stamp().timestamp.micros);
        self.clocks[at] = self.clocks[at].max(latest) + 1 + number % 5;
        self.n[at] += 1 + number % 2;
        stamp(self.clocks[at], actor(at), self.n[at])
    }

    fn operate(
        &self,
        at: usize,
        row: Option<Row>,
        stamp: Stamp,
        what: u8,
        number: u64,
    ) -> Option<Row> {
        let expires = Wall(10 + number % 30);
        match self.kind {
            Kind::Register => {
                let mut written = version(stamp);
                written.expires = number.is_multiple_of(2).then_some(expires);
                if what == 0 {
                    written = Version::new(stamp, None);
                }
                Some(Row::Register(written))
            }
            Kind::Siblings => Some(self.siblings(row, stamp, what, number)),
            Kind::Share => share(at, row, stamp, what, number),
            Kind::Once => Some(row.unwrap_or_else(|| {
                Row::Once(Once {
                    stamp,
                    applied: BTreeMap::from([(stamp.dot, 5)]),
                    gone: BTreeSet::new(),
                    expires,
                    is_spent: false,
                })
            })),
            Kind::Clear => {
                let mut cleared = Context::from_iter([stamp.dot, dot(number)]);
                if let Some(Row::Clear(old)) = row {
                    cleared.join(&old.cleared);
                }
                if number.is_multiple_of(7) {
                    let Actor { node, incarnation } = actor(at);
                    cleared.retired.insert(node, incarnation);
                    cleared.join(&Context::default());
                }
                Some(Row::Clear(Clear { stamp, cleared }))
            }
            Kind::Expiry => {
                let upto = match row {
                    Some(Row::Expiry(old)) => old.upto.max(expires),
                    _ => expires,
                };
                Some(Row::Expiry(Expiry { stamp, upto }))
            }
            // Written once, by the loser's coordinator.
            Kind::Conflict => row.or_else(|| {
                let loser = Some(version(super::stamp(1, actor(0), 1)));
                let winner = super::stamp(2, actor(1), 1);
                (at == 0).then_some(Row::Conflict(Conflict {
                    stamp,
                    winner,
                    loser,
                    expires,
                }))
            }),
        }
    }

    fn siblings(&self, row: Option<Row>, stamp: Stamp, what: u8, number: u64) -> Row {
        let mut row = match row {
            Some(Row::Siblings(row)) => row,
            _ => Siblings::default(),
        };
        let place = usize::try_from(number).unwrap() % self.read.len();
        let old = self.read[place].clone();
        let mut written = version(stamp);
        written.expires = number.is_multiple_of(2).then_some(Wall(10 + number % 30));
        match what {
            0 => row.put(written, &row.context()),
            1 => row.put(written, &Context::default()),
            2 => row.put(written, &old),
            _ => row.remove(stamp, &row.context()),
        }
        Row::Siblings(row)
    }
}

fn dot(number: u64) -> Dot {
    Dot {
        actor: actor(usize::try_from(number).unwrap() % REPLICAS),
        n: 1 + number % 9,
    }
}

/// Replica 0 adds to its share; all may reset it.
fn share(at: usize, row: Option<Row>, stamp: Stamp, what: u8, number: u64) -> Option<Row> {
    let delta = i64::try_from(number).unwrap() - 20;
    let old = match row {
        Some(Row::Share(share)) => Some(share),
        _ => None,
    };
    if at == 0 && what < 3 {
        let n = stamp.dot.n;
        let reset = old.as_ref().map_or(Tally::default(), |share| share.reset);
        let own = match old.filter(|share| !share.is_reset()) {
            Some(Share { own, .. }) => Tally {
                n,
                since: own.since,
                sum: own.sum + delta,
            },
            None => Tally {
                n,
                since: n,
                sum: delta,
            },
        };
        return Some(Row::Share(Share { stamp, own, reset }));
    }
    let share = old.map(|share| match share.is_reset() {
        true => share,
        false => Share {
            stamp,
            own: share.own,
            reset: share.own,
        },
    });
    share.map(Row::Share)
}

fn merged(a: &Row, b: &Row) -> Row {
    let mut a = a.clone();
    let before = a.clone();
    let changed = a.merge(b);
    assert_eq!(changed, a != before, "it says whether it changed");
    a
}

fn check_merge_laws(a: &Row, b: &Row, c: &Row) {
    let ab = merged(a, b);
    assert_eq!(ab, merged(b, a), "commutative");
    assert_eq!(merged(&ab, c), merged(a, &merged(b, c)), "associative");
    assert_eq!(merged(a, a), *a, "idempotent");
    for part in [a, b] {
        assert_eq!(merged(&ab, part), ab, "idempotent, later: {part:#?}");
    }
    assert!(
        ab.stamp() >= a.stamp() && ab.stamp() >= b.stamp(),
        "inflationary"
    );
    if let (Row::Siblings(ab), Row::Siblings(a)) = (&ab, a) {
        assert!(ab.context().includes(&a.context()), "inflationary");
    }
}

/// What two states of a row must agree on for their summaries to do so.
fn content(row: &Row) -> Row {
    let stamp = row.stamp();
    let mut row = row.clone();
    match &mut row {
        Row::Siblings(row) => {
            let mut plain = Siblings::default();
            for version in row.versions() {
                plain.put(version.clone(), &Context::default());
            }
            if row.versions().is_empty() {
                plain.remove(stamp, &Context::default());
            }
            *row = plain;
        }
        // What has changed last, or for how long it is kept, is not what it says.
        Row::Share(share) => {
            share.stamp = super::stamp(0, actor(0), 0);
            share.reset = share.observed();
        }
        Row::Once(once) => {
            once.stamp = super::stamp(0, actor(0), 0);
        }
        Row::Expiry(expiry) => expiry.stamp = super::stamp(0, actor(0), 0),
        Row::Register(_) | Row::Clear(_) | Row::Conflict(_) => {}
    }
    row
}

fn check_all(world: &World, cut: Wall, cleared: &Context) {
    let states = &world.states;
    let states = &states[states.len().saturating_sub(STATES_MAX)..];
    let change = |row: &Row, change: &dyn Fn(&mut Row)| {
        let mut row = row.clone();
        change(&mut row);
        row
    };
    for a in states {
        for b in states {
            for c in states {
                check_merge_laws(a, b, c);
            }
            let both = merged(a, b);
            let changes: [&dyn Fn(&mut Row); 2] =
                [&|row| row.expire(cut), &|row| row.clear(cleared)];
            for each in changes {
                let (left, right) = (change(a, each), change(b, each));
                let whole = change(&both, each);
                assert_eq!(merged(&left, &right), whole, "it commutes: {a:#?} {b:#?}");
                let late = change(&merged(&left, b), each);
                assert_eq!(late, whole, "before or after: {a:#?} {b:#?}");
            }
            let same = a.summary().state == b.summary().state;
            assert_eq!(same, content(a) == content(b), "state: {a:#?} {b:#?}");
            check_absorb(a, b);
        }
    }
}

/// Where a position says no more than the row, it adds nothing to a merge.
fn check_absorb(a: &Row, b: &Row) {
    let known = if let Row::Siblings(row) = a {
        row.context()
    } else {
        Context::from_iter(a.dots())
    };
    let mut absorbed = a.clone();
    absorbed.absorb(b, |dot| known.covers(dot));
    assert_eq!(absorbed, merged(a, b), "a true position adds nothing");
    assert_eq!(b.unknown(|_| false).as_ref(), Some(b), "all of it is news");
    assert_eq!(b.unknown(|_| true), None, "none of it is");
    let mut compacted = a.clone();
    compacted.compact(&known);
    assert_eq!(compacted.summary().state, a.summary().state, "compaction");
    let mut ends = [a.clone(), compacted];
    ends.iter_mut().for_each(|row| row.clear(&known));
    assert_eq!(
        ends[0].summary(),
        ends[1].summary(),
        "compaction, then a clear"
    );
    let left = b.unknown(|dot| known.covers(dot));
    let news = b.dots().iter().any(|dot| !known.covers(*dot));
    assert_eq!(left.is_some(), news);
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec((0..REPLICAS, 0u8..8, 0u64..40, 0..REPLICAS), 1..24)
}

fn kinds() -> impl Strategy<Value = Kind> {
    prop_oneof![
        1 => Just(Kind::Register),
        4 => Just(Kind::Siblings),
        2 => Just(Kind::Share),
        1 => Just(Kind::Once),
        1 => Just(Kind::Clear),
        1 => Just(Kind::Expiry),
        1 => Just(Kind::Conflict),
    ]
}

fn contexts() -> impl Strategy<Value = Context> {
    let dots = prop::collection::vec((0..REPLICAS, 1u64..12), 0..5);
    dots.prop_map(|dots| {
        let dot = |(at, n)| Dot {
            actor: actor(at),
            n,
        };
        dots.into_iter().map(dot).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn merging_keeps_its_laws(
        kind in kinds(),
        steps in steps(),
        cut in (0u64..40).prop_map(Wall),
        cleared in contexts(),
    ) {
        check_all(&World::run(kind, &steps), cut, &cleared);
    }

    #[test]
    fn rows_of_two_kinds_merge_to_the_later_kind(
        first in (kinds(), steps()),
        second in (kinds(), steps()),
    ) {
        let a = World::run(first.0, &first.1).states;
        let b = World::run(second.0, &second.1).states;
        for (a, b) in a.iter().zip(&b) {
            if std::mem::discriminant(a) != std::mem::discriminant(b) {
                assert_eq!(merged(a, b), merged(b, a));
            }
        }
    }

    #[test]
    fn contexts_join_as_sets_do(a in contexts(), b in contexts(), c in contexts(), retired in 0..REPLICAS) {
        let joined = |a: &Context, b: &Context| {
            let mut a = a.clone();
            a.join(b);
            a
        };
        let mut b = b;
        let Actor { node, incarnation } = actor(retired);
        b.retired.insert(node, incarnation);
        let ab = joined(&a, &b);
        assert_eq!(ab, joined(&b, &a));
        assert_eq!(joined(&ab, &c), joined(&a, &joined(&b, &c)));
        assert_eq!(joined(&a, &a), a);
        assert!(ab.includes(&a) && ab.includes(&b));
        for at in 0..REPLICAS {
            for n in 1..13 {
                let dot = Dot { actor: actor(at), n };
                assert_eq!(ab.covers(dot), a.covers(dot) || b.covers(dot));
            }
        }
    }
}
