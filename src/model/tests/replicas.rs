//! Replicas of one row of siblings as a store keeps them: logs that are applied in order, repairs that come
//! out of order, late messages, contexts that are forgotten and rows that are collected once that is safe.

use std::collections::BTreeMap;

use fastrand::Rng;

use super::super::{Actor, Context, Dot, Incarnation, Position, Reach, Row, Siblings};
use super::oracle::{Oracle, Set};
use super::{actor, stamp, version};

const REPLICAS: usize = 3;
const LATE_MAX: usize = 8;
const READ_MAX: usize = 6;

#[derive(Clone)]
struct Replica {
    actor: Actor,
    n: u64,
    row: Option<Siblings>,
    position: Position,
    /// What the position stands for.
    applied: Set,
    /// What the row tells of, be it through the log or not.
    known: Set,
    clock: u64,
}

impl Replica {
    fn dots_are_known(&self) -> impl Fn(Dot) -> bool + use<> {
        let position = self.position.clone();
        move |dot| position.covers(dot)
    }

    /// A row that came from elsewhere, as the door takes it in.
    fn take(&mut self, row: &Siblings, known: Set) {
        let is_known = self.dots_are_known();
        let latest = row.latest().map_or(0, |stamp| stamp.timestamp.micros);
        self.clock = self.clock.max(latest);
        let theirs = Row::Siblings(row.clone());
        let taken = match self.row.take() {
            Some(mine) => {
                let mut mine = Row::Siblings(mine);
                mine.absorb(&theirs, is_known);
                Some(mine)
            }
            None => theirs.unknown(is_known),
        };
        if let Some(Row::Siblings(row)) = taken {
            self.row = Some(row);
            self.known |= known;
        }
    }

    fn latest(&self) -> u64 {
        let latest = self.row.as_ref().and_then(Siblings::latest);
        latest.map_or(0, |stamp| stamp.timestamp.micros)
    }
}

/// A message on its way: a row, with a piece of log that names it or without.
#[derive(Clone)]
struct Letter {
    piece: Option<(Actor, u64, u64)>,
    row: Option<Siblings>,
    known: Set,
}

/// What every replica has applied, in two steps: see `collect`.
struct Pending {
    floor: Context,
    floor_set: Set,
    wanted: Set,
}

/// The world of one history.
pub(super) struct World {
    replicas: Vec<Replica>,
    oracle: Oracle,
    /// Contexts that clients read, and what they stand for.
    read: Vec<(Context, Set)>,
    late: Vec<Letter>,
    pending: Option<Pending>,
    stable: (Context, Set),
    may_forget: bool,
    pub(super) trace: Vec<String>,
}

impl World {
    /// Replicas that know of nothing. Those that may forget compact and collect.
    pub(super) fn new(may_forget: bool) -> Self {
        let replica = |index| Replica {
            actor: actor(index),
            n: 0,
            row: None,
            position: Position::default(),
            applied: 0,
            known: 0,
            clock: 0,
        };
        Self {
            replicas: (0..REPLICAS).map(replica).collect(),
            oracle: Oracle::default(),
            read: vec![(Context::default(), 0)],
            late: Vec::new(),
            pending: None,
            stable: (Context::default(), 0),
            may_forget,
            trace: Vec::new(),
        }
    }

    /// One step by chance.
    pub(super) fn step(&mut self, rng: &mut Rng) {
        let at = rng.usize(0..REPLICAS);
        match rng.u32(0..100) {
            0..18 => self.write(at, rng, true),
            18..26 => self.write(at, rng, false),
            26..34 => self.read(at),
            34..60 => {
                let from = rng.usize(0..REPLICAS);
                self.append(from, at, rng);
            }
            60..74 => {
                let from = rng.usize(0..REPLICAS);
                self.repair(from, at, rng);
            }
            74..78 => self.late(at, rng),
            78..80 => self.restart(at),
            80..88 if self.may_forget => {
                self.trace.push("meet".to_owned());
                self.meet();
                for at in (0..REPLICAS).cycle().take(rng.usize(0..3 * REPLICAS)) {
                    self.forget(at, rng);
                    self.late(at, rng);
                }
            }
            _ if self.may_forget => self.forget(at, rng),
            _ => self.read(at),
        }
        self.check(at);
    }

    fn write(&mut self, at: usize, rng: &mut Rng, is_put: bool) {
        if self.oracle.events.len() == 64 {
            return;
        }
        let replica = &mut self.replicas[at];
        replica.n += 1;
        replica.clock = replica.clock.max(replica.latest()) + rng.u64(1..20);
        let stamp = stamp(replica.clock, replica.actor, replica.n);
        if self.may_forget {
            let mut row = Row::Siblings(replica.row.take().unwrap_or_default());
            row.compact(&self.stable.0);
            let Row::Siblings(row) = row else {
                panic!("a row keeps its kind")
            };
            replica.row = Some(row);
        }
        let row = replica.row.get_or_insert_default();
        let own = (row.context(), replica.known);
        let (seen, replaces) = if rng.bool() {
            own
        } else {
            rng.choice(&self.read).unwrap().clone()
        };
        let one = self.oracle.add(stamp, replaces, is_put);
        if is_put {
            row.put(version(stamp), &seen);
        } else {
            row.remove(stamp, &seen);
        }
        replica.known |= replaces | one;
        replica.applied |= one;
        replica
            .position
            .raise(stamp.dot.actor, Reach::upto(stamp.dot.n));
        let kind = if is_put { "put" } else { "remove" };
        self.trace
            .push(format!("{kind} {at} {stamp:?} seen {seen:?}"));
    }

    fn read(&mut self, at: usize) {
        let replica = &self.replicas[at];
        if let Some(row) = &replica.row {
            self.trace.push(format!("read {at}"));
            self.read.push((row.context(), replica.known));
            if self.read.len() > READ_MAX {
                self.read.remove(0);
            }
        }
    }

    /// A piece of a random log, arriving at once, late, or both.
    fn append(&mut self, from: usize, at: usize, rng: &mut Rng) {
        let (sender, receiver) = (&self.replicas[from], &self.replicas[at]);
        let logs: Vec<Actor> = sender.position.reaches.keys().copied().collect();
        let Some(log) = rng.choice(logs) else { return };
        let start = receiver.position.reach(log).complete;
        let to = sender.position.reach(log).complete;
        if from != at && start < to {
            let letter = Letter {
                piece: Some((log, start, to)),
                row: sender.row.clone(),
                known: sender.known,
            };
            self.trace
                .push(format!("append {from} {at} {log} {start}..{to}"));
            self.send(at, &letter, rng);
        }
    }

    fn repair(&mut self, from: usize, at: usize, rng: &mut Rng) {
        let sender = &self.replicas[from];
        if from != at && sender.row.is_some() {
            let letter = Letter {
                piece: None,
                row: sender.row.clone(),
                known: sender.known,
            };
            self.trace.push(format!("repair {from} {at}"));
            self.send(at, &letter, rng);
        }
    }

    fn send(&mut self, at: usize, letter: &Letter, rng: &mut Rng) {
        if rng.u32(0..4) == 0 && self.late.len() < LATE_MAX {
            self.late.push(letter.clone());
        }
        if rng.u32(0..4) > 0 {
            self.deliver(at, letter);
        }
    }

    fn late(&mut self, at: usize, rng: &mut Rng) {
        if !self.late.is_empty() {
            let letter = self.late.swap_remove(rng.usize(0..self.late.len()));
            self.trace.push(format!("late {at} {:?}", letter.piece));
            self.deliver(at, &letter);
        }
    }

    fn deliver(&mut self, at: usize, letter: &Letter) {
        let replica = &mut self.replicas[at];
        if let Some((log, from, to)) = letter.piece {
            let here = replica.position.reach(log).complete;
            if here < from || to <= here {
                return;
            }
            if let Some(row) = &letter.row {
                replica.take(row, letter.known);
            }
            replica.position.raise(log, Reach::upto(to));
            let events = self.oracle.of(Set::MAX);
            let events =
                events.filter(|(_, event)| event.stamp.dot.actor == log && event.stamp.dot.n <= to);
            let applied = events.fold(0, |set, (one, _)| set | one);
            replica.applied |= applied;
            replica.known |= applied;
        } else if let Some(row) = &letter.row {
            replica.take(row, letter.known);
        }
    }

    /// A new life: another actor, whose numbers begin again.
    fn restart(&mut self, at: usize) {
        let replica = &mut self.replicas[at];
        replica.actor.incarnation = Incarnation(replica.actor.incarnation.0 + 1);
        replica.n = 0;
        self.trace.push(format!("restart {at}"));
    }

    /// What all have applied may be forgotten once everything that was written before that was known is applied
    /// everywhere too.
    fn forget(&mut self, at: usize, rng: &mut Rng) {
        let all = |set: fn(&Replica) -> Set| self.replicas.iter().map(set);
        let floor_set = all(|replica| replica.applied).fold(Set::MAX, |a, b| a & b);
        match self.pending.take() {
            Some(pending) if pending.wanted & !floor_set != 0 => self.pending = Some(pending),
            Some(pending) => self.stable = (pending.floor, pending.floor_set),
            None => {
                let wanted = all(|replica| replica.applied).fold(0, |a, b| a | b);
                let floor = self.floor();
                self.pending = Some(Pending {
                    floor,
                    floor_set,
                    wanted,
                });
            }
        }
        let (stable, stable_set) = &self.stable;
        let replica = &mut self.replicas[at];
        let Some(row) = replica.row.as_mut() else {
            return;
        };
        if rng.bool() {
            let before = Row::Siblings(row.clone()).summary().state;
            row.compact(stable);
            let after = Row::Siblings(row.clone()).summary().state;
            assert_eq!(before, after, "seen: {:?}", self.trace);
            self.trace.push(format!("compact {at} {stable_set:b}"));
        } else if row.versions().is_empty() && row.latest().is_some_and(|s| stable.covers(s.dot)) {
            replica.row = None;
            self.trace.push(format!("collect {at}"));
        }
    }

    fn floor(&self) -> Context {
        let mut least: BTreeMap<Actor, u64> = BTreeMap::new();
        for (log, reach) in &self.replicas[0].position.reaches {
            let others = self
                .replicas
                .iter()
                .map(|replica| replica.position.reach(*log).complete);
            least.insert(*log, others.min().unwrap_or(0).min(reach.complete));
        }
        least.retain(|_, n| *n > 0);
        Context {
            seen: least,
            retired: BTreeMap::new(),
        }
    }

    fn check(&self, at: usize) {
        let replica = &self.replicas[at];
        let trace = || format!("at {at}: {:#?}", self.trace);
        let row = replica.row.clone().unwrap_or_default();
        self.oracle.check(&row, replica.known, &trace);
        if !self.may_forget {
            self.oracle.check_memory(&row, replica.known, &trace);
        }
    }

    /// Everybody hears of everything.
    fn meet(&mut self) {
        for _round in 0..2 {
            for from in 0..REPLICAS {
                for at in (0..REPLICAS).filter(|at| *at != from) {
                    self.send_all(from, at);
                    self.check(at);
                }
            }
        }
    }

    /// When everybody has heard of everything, all show the same, and it is right.
    pub(super) fn settle(&mut self) {
        self.meet();
        let state = |replica: &Replica| {
            let row = replica.row.clone().unwrap_or_default();
            (row.versions().to_vec(), replica.known)
        };
        for replica in &self.replicas {
            assert_eq!(
                state(replica),
                state(&self.replicas[0]),
                "{:#?}",
                self.trace
            );
            let all = self.oracle.of(Set::MAX).fold(0, |set, (one, _)| set | one);
            assert_eq!(replica.known, all, "{:#?}", self.trace);
        }
        self.check_states();
    }

    /// Where the row is left on all, its summaries say so: those of deletes too.
    fn check_states(&self) {
        let rows = self
            .replicas
            .iter()
            .filter_map(|replica| replica.row.clone());
        let states: Vec<u64> = rows.map(|row| Row::Siblings(row).summary().state).collect();
        if states.len() == REPLICAS {
            assert!(
                states.windows(2).all(|two| two[0] == two[1]),
                "{:#?}",
                self.trace
            );
        }
    }

    fn send_all(&mut self, from: usize, at: usize) {
        let logs: Vec<Actor> = self.replicas[from]
            .position
            .reaches
            .keys()
            .copied()
            .collect();
        for log in logs {
            let sender = &self.replicas[from];
            let start = self.replicas[at].position.reach(log).complete;
            let to = sender.position.reach(log).complete;
            let letter = Letter {
                piece: Some((log, start, to)),
                row: sender.row.clone(),
                known: sender.known,
            };
            self.deliver(at, &letter);
        }
    }
}
