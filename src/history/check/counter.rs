//! A counter is the sum of its increments (I9): each that was acknowledged counts once, also one that was tried
//! several times with one id; of those whose fate is unknown some count; what a reset has observed does not.

use std::collections::{BTreeMap, BTreeSet};

use crate::history::place_of;
use crate::history::{Action, Ending, Record};
use crate::model::{Collection, Place, RowKey};

use super::sights::{Sight, may_observe, observed};

/// More open increments than this are only checked by their bounds.
const SUBSETS_MAX: usize = 24;

/// What happened to one counter.
#[derive(Debug, Default)]
struct Counter<'a> {
    /// By id: those without one have an id of their own.
    adds: BTreeMap<u64, (i64, Vec<&'a Record>)>,
    resets: Vec<&'a Record>,
}

type Counters<'a> = BTreeMap<(&'a RowKey, Place), Counter<'a>>;

/// Checks every view of a counter.
pub(super) fn check(records: &[Record], views: &[Sight]) -> Result<(), String> {
    let counters = gather(records);
    for view in views {
        for (place, value) in shown(view) {
            let Some(counter) = counters.get(&(&view.key, place.clone())) else {
                if value.is_some_and(|value| value != 0) {
                    return Err(format!("{view}, but nobody added to {place:?}"));
                }
                continue;
            };
            counter
                .check(view, value.unwrap_or(0))
                .map_err(|words| format!("{view}: {place:?} {words}"))?;
        }
    }
    Ok(())
}

fn gather(records: &[Record]) -> Counters<'_> {
    let mut counters = Counters::new();
    for record in records.iter().filter(|record| record.may_count()) {
        let mut count = |place: Place, id: u64, delta: i64| {
            let counter = counters.entry((&record.key, place)).or_default();
            let (_, tries) = counter.adds.entry(id).or_insert((delta, Vec::new()));
            tries.push(record);
        };
        if let Action::Add { place, delta, id } = &record.action {
            count(place.clone(), id.unwrap_or(record.id), *delta);
        }
        if let Action::Fields { add, .. } = &record.action {
            for (name, delta) in add {
                count(place_of(*name), record.id, *delta);
            }
        }
    }
    for record in records.iter().filter(|record| record.may_count()) {
        for ((key, place), counter) in &mut counters {
            if **key == record.key && resets(&record.action, place) {
                counter.resets.push(record);
            }
        }
    }
    counters
}

fn resets(action: &Action, place: &Place) -> bool {
    match action {
        Action::Reset(reset) => reset == place,
        Action::Fields { remove, .. } => remove.iter().any(|name| place_of(*name) == *place),
        Action::Clear(Collection::Map) => *place != Place::Key,
        Action::Clear(Collection::Set)
        | Action::Get
        | Action::Put(_)
        | Action::Delete
        | Action::PutSibling { .. }
        | Action::DeleteSiblings { .. }
        | Action::Count(_)
        | Action::Add { .. }
        | Action::List(_)
        | Action::Members { .. } => false,
    }
}

/// The counters that a view shows.
fn shown(view: &Sight) -> Vec<(Place, Option<i128>)> {
    if let (Ending::Counted(value), Action::Count(place)) = (&view.ending, &view.action) {
        return vec![(place.clone(), *value)];
    }
    if let Ending::Fields(fields) = &view.ending {
        let all = 0..=u8::MAX;
        let with_counter = all.filter_map(|name| Some((name, fields.get(&name)?.count?)));
        return with_counter
            .map(|(name, count)| (place_of(name), Some(count)))
            .collect();
    }
    Vec::new()
}

impl Counter<'_> {
    fn check(&self, view: &Sight, value: i128) -> Result<(), String> {
        let mut sum = 0i128;
        let mut open = Vec::new();
        for (delta, tries) in self.adds.values() {
            let delta = i128::from(*delta);
            if self.is_in(view, tries) {
                sum += delta;
            } else if !self.is_out(view, tries) {
                open.push(delta);
            }
        }
        if is_reachable(sum, &open, value) {
            return Ok(());
        }
        Err(format!(
            "is {value}, not {sum} and some of {open:?}, {} resets",
            self.resets.len()
        ))
    }

    /// Whether an increment certainly counts.
    fn is_in(&self, view: &Sight, tries: &[&Record]) -> bool {
        let is_known = tries.iter().any(|write| view.knows(write));
        let may_be_reset = self.resets.iter().any(|reset| {
            view.may_know(reset) && tries.iter().any(|write| may_observe(reset, write))
        });
        is_known && !may_be_reset
    }

    /// Whether an increment certainly does not count.
    fn is_out(&self, view: &Sight, tries: &[&Record]) -> bool {
        tries.iter().all(|write| {
            let mut resets = self.resets.iter();
            let is_reset = resets.any(|reset| view.knows(reset) && observed(reset, write));
            is_reset || !view.may_know(write)
        })
    }
}

/// Whether a sum and some of the open numbers make the value.
fn is_reachable(sum: i128, open: &[i128], value: i128) -> bool {
    let least: i128 = sum + open.iter().filter(|n| **n < 0).sum::<i128>();
    let most: i128 = sum + open.iter().filter(|n| **n > 0).sum::<i128>();
    if open.len() > SUBSETS_MAX {
        return (least..=most).contains(&value);
    }
    let mut reached: BTreeSet<i128> = [sum].into();
    for delta in open {
        let more: Vec<i128> = reached.iter().map(|n| n + delta).collect();
        reached.extend(more);
    }
    reached.contains(&value)
}

#[cfg(test)]
mod tests {
    use super::super::samples::{key, record};
    use super::*;

    fn add(delta: i64, id: Option<u64>, when: (u64, u64), ending: Ending) -> Record {
        let place = Place::Key;
        record("a", Action::Add { place, delta, id }, when, ending)
    }

    fn saw(value: i128, when: (u64, u64)) -> Record {
        let ending = Ending::Counted(Some(value));
        record("a", Action::Count(Place::Key), when, ending)
    }

    fn check_all(records: &[Record]) -> bool {
        let views: Vec<Sight> = records.iter().filter_map(Sight::of).collect();
        check(records, &views).is_ok()
    }

    #[test]
    fn acknowledged_increments_count_once() {
        let writes = [
            add(5, None, (1, 2), Ending::Done),
            add(7, None, (3, 4), Ending::Unknown),
            add(100, None, (5, 6), Ending::Failed),
        ];
        let with = |value| check_all(&[&writes[..], &[saw(value, (7, 8))]].concat());
        assert!(with(5) && with(12));
        assert!(!with(7) && !with(10) && !with(105) && !with(0));
    }

    #[test]
    fn tries_with_one_id_count_once() {
        let writes = [
            add(5, Some(1), (1, 2), Ending::Unknown),
            add(5, Some(1), (3, 4), Ending::Done),
        ];
        let with = |value| check_all(&[&writes[..], &[saw(value, (7, 8))]].concat());
        assert!(with(5));
        assert!(!with(10) && !with(0));
    }

    #[test]
    fn a_reset_takes_what_it_had_observed() {
        let reset = record("a", Action::Reset(Place::Key), (3, 4), Ending::Done);
        let before = add(5, None, (1, 2), Ending::Done);
        let beside = add(7, None, (2, 5), Ending::Done);
        let after = add(9, None, (6, 7), Ending::Done);
        let with = |value| {
            let records = [&before, &reset, &beside, &after].map(Clone::clone);
            check_all(&[&records[..], &[saw(value, (8, 9))]].concat())
        };
        assert!(with(9) && with(16));
        assert!(!with(14) && !with(21));
    }

    #[test]
    fn at_rest_every_region_counts() {
        let mut there = add(5, None, (1, 2), Ending::Done);
        there.region = crate::model::RegionId(2);
        assert!(check_all(&[there.clone(), saw(0, (3, 4))]));
        let view = |value| {
            let ending = Ending::Counted(Some(value));
            Sight::at_rest(key("a"), Action::Count(Place::Key), 9, ending)
        };
        assert!(check(&[there.clone()], &[view(5)]).is_ok());
        assert!(check(&[there], &[view(0)]).is_err());
    }
}
