//! Counters drawn from seeds, against a list of increments.
//!
//! What must hold: a replica's value is the sum over the increments that its shares hold. One that a reset has
//! observed, which the replica knows of, counts nothing. Those of one operation id, as far as its row here names
//! them, count as one; and nothing, if a reset has observed any of them.

use std::collections::{BTreeMap, BTreeSet};

use fastrand::Rng;

use super::super::{Actor, Dot, Once, OpId, Share, Stamp, Tally, Wall, counter_value};
use super::{actor, each_seed, stamp};

const REPLICAS: usize = 3;
const IDS: u128 = 6;

/// Increments, by their places in the list of all.
type Set = u64;

/// A row of the counter.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Key {
    Share(Actor),
    Once(OpId),
}

/// A share, and which increments it holds and which of them it knows to be reset.
#[derive(Clone)]
struct Told {
    share: Share,
    added: Set,
    reset: Set,
}

struct Increment {
    actor: Actor,
    delta: i64,
    id: Option<OpId>,
}

#[derive(Clone, Default)]
struct Replica {
    shares: BTreeMap<Actor, Told>,
    onces: BTreeMap<OpId, (Once, Set)>,
    /// The logs it has, each with the row of every number.
    logs: BTreeMap<Actor, Vec<Key>>,
    /// Increments of shares that were collected.
    collected: Set,
    clock: u64,
}

#[derive(Default)]
struct World {
    replicas: Vec<Replica>,
    increments: Vec<Increment>,
    /// How far each log had been applied everywhere, and what must be before that counts.
    pending: Option<(BTreeMap<Actor, usize>, BTreeMap<Actor, usize>)>,
    stable: BTreeMap<Actor, usize>,
    may_collect: bool,
    /// Operations whose time is over.
    spent: BTreeSet<OpId>,
    trace: Vec<String>,
}

impl Replica {
    fn stamp(&mut self, at: usize, key: Key) -> Stamp {
        let latest = match key {
            Key::Share(actor) => self.shares.get(&actor).map(|told| told.share.stamp),
            Key::Once(id) => self.onces.get(&id).map(|(once, _)| once.stamp),
        };
        let latest = latest.map_or(0, |stamp| stamp.timestamp.micros);
        self.clock = self.clock.max(latest) + 1;
        let log = self.logs.entry(actor(at)).or_default();
        log.push(key);
        stamp(self.clock, actor(at), u64::try_from(log.len()).unwrap())
    }

    fn value(&self) -> i128 {
        let shares = self.shares.iter();
        let shares = shares.map(|(actor, told)| (*actor, &told.share)).collect();
        let onces = self.onces.values().map(|(once, _)| once);
        counter_value(&shares, onces.filter(|once| once.is_repeated()))
    }

    fn has(&self, log: Actor) -> usize {
        self.logs.get(&log).map_or(0, Vec::len)
    }

    fn take(&mut self, key: Key, from: &Self) {
        match key {
            Key::Share(actor) => {
                let Some(theirs) = from.shares.get(&actor) else {
                    return;
                };
                let Dot { actor: by, n } = theirs.share.stamp.dot;
                let is_known = usize::try_from(n).unwrap() <= self.has(by);
                if is_known && !self.shares.contains_key(&actor) {
                    return; // It was collected here.
                }
                let mine = self.shares.entry(actor).or_insert_with(|| theirs.clone());
                mine.share.merge(&theirs.share);
                mine.added |= theirs.added;
                mine.reset |= theirs.reset;
            }
            Key::Once(id) => {
                let Some(theirs) = from.onces.get(&id) else {
                    return;
                };
                let mine = self.onces.entry(id).or_insert_with(|| theirs.clone());
                mine.0.merge(&theirs.0);
                mine.1 |= theirs.1;
            }
        }
    }
}

impl World {
    fn add(&mut self, at: usize, delta: i64, id: Option<OpId>) {
        let replica = &mut self.replicas[at];
        let is_late = id.is_some_and(|id| self.spent.contains(&id));
        let known = id.and_then(|id| replica.onces.get(&id));
        let reach = |actor| Some(replica.shares.get(&actor)?.share.reach());
        let is_applied = known.is_some_and(|(once, _)| once.is_applied(reach));
        if is_late || is_applied || self.increments.len() == 64 {
            return;
        }
        let one: Set = 1 << self.increments.len();
        if let Some(id) = id {
            let stamp = replica.stamp(at, Key::Once(id));
            let fresh = Once {
                stamp,
                applied: BTreeMap::new(),
                gone: BTreeSet::new(),
                expires: Wall(u64::MAX),
                is_spent: false,
            };
            let (once, named) = replica.onces.entry(id).or_insert((fresh, 0));
            once.stamp = stamp;
            once.applied.insert(stamp.dot, delta);
            *named |= one;
        }
        let own = actor(at);
        let stamp = replica.stamp(at, Key::Share(own));
        let n = stamp.dot.n;
        let fresh = Tally {
            n,
            since: n,
            sum: delta,
        };
        let told = replica.shares.entry(own).or_insert(Told {
            share: Share {
                stamp,
                own: Tally::default(),
                reset: Tally::default(),
            },
            added: 0,
            reset: 0,
        });
        told.share.own = if told.share.is_reset() {
            fresh
        } else {
            Tally {
                n,
                since: told.share.own.since,
                sum: told.share.own.sum + delta,
            }
        };
        told.share.stamp = stamp;
        told.added |= one;
        self.increments.push(Increment {
            actor: own,
            delta,
            id,
        });
        self.trace.push(format!("add {at} {delta} {id:?}"));
    }

    fn reset(&mut self, at: usize) {
        let replica = &mut self.replicas[at];
        let actors: Vec<Actor> = replica.shares.keys().copied().collect();
        for actor in actors {
            if replica.shares[&actor].share.is_reset() {
                continue;
            }
            let stamp = replica.stamp(at, Key::Share(actor));
            let told = replica.shares.get_mut(&actor).unwrap();
            told.share.stamp = stamp;
            told.share.reset = told.share.own;
            told.reset |= told.added;
        }
        self.trace.push(format!("reset {at}"));
    }

    /// A piece of a log, of any length; its rows are those of the sender now.
    fn append(&mut self, from: usize, at: usize, rng: &mut Rng) {
        let sender = self.replicas[from].clone();
        let logs: Vec<Actor> = sender.logs.keys().copied().collect();
        let Some(log) = rng.choice(logs) else { return };
        let (here, there) = (self.replicas[at].has(log), sender.has(log));
        if from != at && here < there {
            // Only what is complete may be collected, and a piece from the middle is not.
            let least = if self.may_collect { there } else { here + 1 };
            let to = rng.usize(least..=there);
            self.trace.push(format!("append {from} {at} {log} ..{to}"));
            self.apply(at, &sender, log, to);
        }
    }

    fn apply(&mut self, at: usize, sender: &Replica, log: Actor, to: usize) {
        let here = self.replicas[at].has(log);
        let replica = &mut self.replicas[at];
        for index in here..to {
            let key = sender.logs[&log][index];
            // An entry that a later one of the same row has replaced is not sent.
            if !sender.logs[&log][index + 1..].contains(&key) {
                replica.take(key, sender);
            }
        }
        let news = &sender.logs[&log][here..to];
        replica.logs.entry(log).or_default().extend(news);
    }

    /// One row, without a log: no more than its own kind is known of it.
    fn repair(&mut self, from: usize, at: usize, rng: &mut Rng) {
        let sender = self.replicas[from].clone();
        let keys: Vec<Key> = sender.onces.keys().map(|id| Key::Once(*id)).collect();
        let Some(key) = rng.choice(keys) else { return };
        if from != at {
            self.replicas[at].take(key, &sender);
            self.trace.push(format!("repair {from} {at} {key:?}"));
        }
    }

    /// A share that is reset goes when all have it, in the two steps of a store, and when no operation in it may yet
    /// turn out to have been applied elsewhere: such operations go first, when they are spent. Those that were applied
    /// elsewhere too are told.
    fn collect(&mut self, at: usize) {
        let least = || -> BTreeMap<Actor, usize> {
            let actors = (0..REPLICAS).map(actor);
            let least = |log| self.replicas.iter().map(|r| r.has(log)).min().unwrap();
            actors.map(|log| (log, least(log))).collect()
        };
        let most = || -> BTreeMap<Actor, usize> {
            let actors = (0..REPLICAS).map(actor);
            let most = |log| self.replicas.iter().map(|r| r.has(log)).max().unwrap();
            actors.map(|log| (log, most(log))).collect()
        };
        let floor = least();
        match self.pending.take() {
            None => self.pending = Some((floor, most())),
            Some((before, wanted)) => {
                if wanted.iter().all(|(log, n)| floor[log] >= *n) {
                    self.stable = before;
                } else {
                    self.pending = Some((before, wanted));
                }
            }
        }
        let stable = self.stable.clone();
        let replica = &mut self.replicas[at];
        let value = replica.value();
        let is_stable = |dot: &Dot| {
            let n = usize::try_from(dot.n).unwrap();
            stable.get(&dot.actor).is_some_and(|floor| n <= *floor)
        };
        replica.onces.retain(|_, (once, _)| {
            let is_known = once.applied.keys().all(is_stable) && is_stable(&once.stamp.dot);
            !(once.is_spent && once.is_settled() && is_known)
        });
        let onces = &mut replica.onces;
        replica.shares.retain(|actor, told| {
            let share = &told.share;
            let upto = Dot {
                actor: *actor,
                n: share.reach(),
            };
            let names = |once: &&mut (Once, Set)| {
                let mut dots = once.0.applied.keys();
                dots.any(|dot| dot.actor == *actor && dot.n <= upto.n)
            };
            let mut named = onces.values_mut().filter(names);
            let is_known = is_stable(&share.stamp.dot) && is_stable(&upto);
            if !share.is_reset() || !is_known || named.any(|(once, _)| !once.is_repeated()) {
                return true;
            }
            for (once, _) in onces.values_mut() {
                once.forget(*actor, upto.n);
            }
            replica.collected |= told.added;
            false
        });
        assert_eq!(replica.value(), value, "collected: {:#?}", self.trace);
    }

    fn expected(&self, at: usize) -> i128 {
        let replica = &self.replicas[at];
        let before = (replica.collected, replica.collected);
        let (added, reset) = replica
            .shares
            .values()
            .fold(before, |(added, reset), told| {
                (added | told.added, reset | told.reset)
            });
        let mut value = 0;
        let mut counted: BTreeSet<OpId> = BTreeSet::new();
        for (index, increment) in self.increments.iter().enumerate() {
            let one: Set = 1 << index;
            if added & !reset & one == 0 {
                continue;
            }
            let once = increment
                .id
                .and_then(|id| Some((id, replica.onces.get(&id)?)));
            match once {
                Some((id, (_, named))) if named & one != 0 => {
                    if named & reset == 0 && counted.insert(id) {
                        value += i128::from(increment.delta);
                    }
                }
                _ => value += i128::from(increment.delta),
            }
        }
        value
    }

    fn check(&self, at: usize) {
        let trace = || format!("at {at}: {:#?}", self.trace);
        assert_eq!(self.replicas[at].value(), self.expected(at), "{}", trace());
    }

    /// Everybody hears of everything.
    fn meet(&mut self) {
        self.trace.push("meet".to_owned());
        for _round in 0..2 {
            for from in 0..REPLICAS {
                for at in (0..REPLICAS).filter(|at| *at != from) {
                    let sender = self.replicas[from].clone();
                    for log in (0..REPLICAS).map(actor) {
                        let to = sender.has(log);
                        if self.replicas[at].has(log) < to {
                            self.apply(at, &sender, log, to);
                            self.check(at);
                        }
                    }
                }
            }
        }
    }

    /// A cut of expiry that everybody has.
    fn spend(&mut self) {
        self.meet();
        for replica in &mut self.replicas {
            for (id, (once, _)) in &mut replica.onces {
                once.is_spent = true;
                self.spent.insert(*id);
            }
        }
    }

    fn settle(&mut self) {
        self.meet();
        for at in 0..REPLICAS {
            let value = self.replicas[at].value();
            assert_eq!(value, self.replicas[0].value(), "{:#?}", self.trace);
            let actors = self.increments.iter().map(|increment| increment.actor);
            let logs: BTreeSet<Actor> = actors.collect();
            assert!(logs.iter().all(|log| self.replicas[at].has(*log) > 0));
        }
    }
}

fn run(seed: u64, may_collect: bool) {
    let mut rng = Rng::with_seed(seed);
    let mut world = World {
        replicas: vec![Replica::default(); REPLICAS],
        may_collect,
        ..World::default()
    };
    for _step in 0..rng.u32(4..50) {
        let (at, from) = (rng.usize(0..REPLICAS), rng.usize(0..REPLICAS));
        match rng.u32(0..100) {
            0..15 => world.add(at, rng.i64(-9..10), None),
            15..35 => {
                // One id is one increment, whoever tries it.
                let id = rng.u128(0..IDS);
                world.add(at, i64::try_from(id).unwrap() + 10, Some(OpId(id)));
            }
            35..47 => world.reset(at),
            47..82 => world.append(from, at, &mut rng),
            82..88 => world.repair(from, at, &mut rng),
            88..92 if may_collect => world.meet(),
            92..94 if may_collect => world.spend(),
            _ if may_collect => world.collect(at),
            _ => {}
        }
        world.check(at);
    }
    world.settle();
}

#[test]
fn each_increment_counts_once_or_is_reset() {
    each_seed(5_000, |seed| run(seed, false));
}

#[test]
fn a_share_that_is_collected_is_not_missed() {
    each_seed(5_000, |seed| run(seed, true));
}

/// One operation, applied by two actors, of which a reset has seen the first.
fn half_reset() -> (Share, Share, Once) {
    let share = |node, reset| {
        let own = Tally {
            n: 2,
            since: 2,
            sum: 7,
        };
        Share {
            stamp: stamp(9, actor(node), 2),
            own,
            reset: if reset { own } else { Tally::default() },
        }
    };
    let dot = |node| Dot {
        actor: actor(node),
        n: 1,
    };
    let once = Once {
        stamp: stamp(5, actor(1), 1),
        applied: BTreeMap::from([(dot(0), 7), (dot(1), 7)]),
        gone: BTreeSet::new(),
        expires: Wall(9),
        is_spent: true,
    };
    (share(0, true), share(1, false), once)
}

#[test]
fn what_a_collected_share_said_is_kept_by_its_operations() {
    let (first, second, mut once) = half_reset();
    let both = BTreeMap::from([(actor(0), &first), (actor(1), &second)]);
    assert_eq!(counter_value(&both, [&once].into_iter()), 0);
    // A log that broke off before its share says nothing of it.
    let one = BTreeMap::from([(actor(1), &second)]);
    assert_eq!(counter_value(&one, [&once].into_iter()), 7);
    assert!(once.forget(actor(0), first.reach()));
    assert!(!once.forget(actor(0), first.reach()));
    assert_eq!(counter_value(&one, [&once].into_iter()), 0);
    assert!(!once.is_settled());
    assert!(once.forget(actor(1), second.reach()) && once.is_settled());
}

#[test]
fn a_share_that_begins_anew_has_forgotten_what_it_had() {
    let (mut first, second, once) = half_reset();
    first.own = Tally {
        n: 6,
        since: 6,
        sum: 1,
    };
    first.reset = Tally::default();
    let both = BTreeMap::from([(actor(0), &first), (actor(1), &second)]);
    assert_eq!(counter_value(&both, [&once].into_iter()), 1);
}

#[test]
fn an_operation_is_applied_where_its_share_is() {
    let (first, _, mut once) = half_reset();
    assert!(!once.is_applied(|_| None));
    assert!(!once.is_applied(|_| Some(0)));
    assert!(once.is_applied(|at| (at == actor(0)).then(|| first.reach())));
    once.forget(actor(0), first.reach());
    assert!(once.is_applied(|_| None));
}
