//! Every history of siblings of up to three actors and four operations, against the oracle. Which actor is which
//! means nothing but in ties of timestamps, so that the first operation is always the first actor's.

use super::super::{Context, Row, Siblings};
use super::oracle::{Oracle, Set};
use super::{actor, stamp, version};

const ACTORS: usize = 3;
const OPERATIONS: usize = 4;

#[derive(Clone, Copy, Debug)]
#[expect(
    dead_code,
    reason = "the fields are read where a failure tells of them"
)]
enum Step {
    /// With what the actor's own row holds.
    Put(usize),
    /// Without a context.
    PutBlind(usize),
    /// With one that was read before, perhaps elsewhere.
    PutOld(usize, usize),
    Remove(usize),
    Merge(usize, usize),
}

#[derive(Clone, Default)]
struct World {
    rows: [(Siblings, Set); ACTORS],
    read: Vec<(Context, Set)>,
    oracle: Oracle,
    steps: Vec<Step>,
}

impl World {
    fn put(mut self, at: usize, seen: &Context, replaces: Set, step: Step) -> Self {
        let n = u64::try_from(self.steps.len()).unwrap() + 1;
        let stamp = stamp(n, actor(at), n);
        let (row, known) = &mut self.rows[at];
        row.put(version(stamp), seen);
        *known |= replaces | self.oracle.add(stamp, replaces, true);
        self.after(at, step)
    }

    fn remove(mut self, at: usize) -> Self {
        let n = u64::try_from(self.steps.len()).unwrap() + 1;
        let stamp = stamp(n, actor(at), n);
        let (row, known) = &mut self.rows[at];
        row.remove(stamp, &row.context());
        *known |= self.oracle.add(stamp, *known, false);
        self.after(at, Step::Remove(at))
    }

    fn merge(mut self, from: usize, at: usize) -> Self {
        let (theirs, their_known) = self.rows[from].clone();
        let (row, known) = &mut self.rows[at];
        row.merge(&theirs);
        *known |= their_known;
        self.after(at, Step::Merge(from, at))
    }

    fn after(mut self, at: usize, step: Step) -> Self {
        self.steps.push(step);
        let (row, known) = &self.rows[at];
        self.oracle.check(row, *known, &|| self.trace());
        self.oracle.check_memory(row, *known, &|| self.trace());
        // Here stamps rise with the operations, so that the latest one is never hidden in a context.
        let latest = self.oracle.of(*known).map(|(_, event)| event.stamp).max();
        assert_eq!(row.latest(), latest, "latest: {}", self.trace());
        self.read.push((row.context(), *known));
        self
    }

    fn trace(&self) -> String {
        format!("{:?}", self.steps)
    }

    fn next(&self) -> Vec<Self> {
        let mut next = Vec::new();
        for at in 0..ACTORS {
            if self.steps.is_empty() && at > 0 {
                break;
            }
            let (row, known) = &self.rows[at];
            let put = |seen: &Context, replaces, step| self.clone().put(at, seen, replaces, step);
            next.push(put(&row.context(), *known, Step::Put(at)));
            next.push(put(&Context::default(), 0, Step::PutBlind(at)));
            for (place, (seen, replaces)) in self.read.iter().enumerate() {
                next.push(put(seen, *replaces, Step::PutOld(at, place)));
            }
            next.push(self.clone().remove(at));
            for from in (0..ACTORS).filter(|from| *from != at && self.rows[*from].1 != 0) {
                next.push(self.clone().merge(from, at));
            }
        }
        next
    }

    /// Whatever the order, all of it together is the frontier of everything.
    fn check_end(&self) {
        let known = self.rows.iter().fold(0, |all, (_, known)| all | known);
        let rows = || {
            self.rows
                .iter()
                .map(|(row, _)| Row::Siblings(row.clone()))
                .collect()
        };
        let [a, b, c]: [Row; ACTORS] = <Vec<Row>>::try_into(rows()).unwrap();
        let merged = |rows: [&Row; ACTORS]| {
            let mut all = rows[0].clone();
            all.merge(rows[1]);
            all.merge(rows[2]);
            all
        };
        let all = merged([&a, &b, &c]);
        for other in [[&c, &b, &a], [&b, &a, &c], [&b, &c, &a]] {
            assert_eq!(merged(other), all, "order: {}", self.trace());
        }
        let Row::Siblings(row) = &all else {
            panic!("another kind")
        };
        self.oracle.check(row, known, &|| self.trace());
        self.oracle.check_memory(row, known, &|| self.trace());
    }
}

fn walk(world: &World, left: usize, count: &mut usize) {
    world.check_end();
    *count += 1;
    if left > 0 {
        for next in world.next() {
            walk(&next, left - 1, count);
        }
    }
}

#[test]
fn every_small_history_shows_its_frontier() {
    let mut count = 0;
    walk(&World::default(), OPERATIONS, &mut count);
    assert!(count > 10_000, "{count}");
}
