//! A member of a set, or a field of a map, is there if it was added and nobody who had seen that removed it; it is
//! gone if each of its adds was observed by a removal; what nobody added is never there.

use std::collections::BTreeMap;

use crate::history::{Action, Ending, Record};
use crate::model::{Collection, RowKey};

use super::sights::{Sight, may_observe, observed};

/// What happened to one name.
#[derive(Debug, Default)]
struct Member<'a> {
    /// With the token of a field.
    adds: Vec<(&'a Record, Option<u64>)>,
    removals: Vec<&'a Record>,
}

/// A member, or a register of a field: key, of which, and name.
type Members<'a> = BTreeMap<(&'a RowKey, Kind, u8), Member<'a>>;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Kind {
    Set,
    Map,
}

/// Checks every view of a collection. Clocks, and so expiry, may be off by `slack` microseconds.
pub(super) fn check(records: &[Record], views: &[Sight], slack: u64) -> Result<(), String> {
    let members = gather(records);
    for view in views {
        let Some((kind, shown)) = shown(view) else {
            continue;
        };
        for name in shown.keys() {
            if !members.contains_key(&(&view.key, kind, *name)) {
                return Err(format!("{view}, but nobody added {name}"));
            }
        }
        let all = members.range((&view.key, kind, 0)..=(&view.key, kind, u8::MAX));
        for ((_, _, name), member) in all {
            member
                .check(view, shown.get(name).copied(), slack)
                .map_err(|words| format!("{view}: {name} {words}"))?;
        }
    }
    Ok(())
}

fn gather(records: &[Record]) -> Members<'_> {
    let mut members = Members::new();
    for record in records.iter().filter(|record| record.may_count()) {
        let key = &record.key;
        if let Action::Members { add, .. } = &record.action {
            for name in add {
                let member = members.entry((key, Kind::Set, *name)).or_default();
                member.adds.push((record, None));
            }
        }
        if let Action::Fields { put, .. } = &record.action {
            for (name, token) in put {
                let member = members.entry((key, Kind::Map, *name)).or_default();
                member.adds.push((record, Some(*token)));
            }
        }
    }
    for record in records.iter().filter(|record| record.may_count()) {
        for ((key, kind, name), member) in &mut members {
            if **key == record.key && removes(&record.action, *kind, *name) {
                member.removals.push(record);
            }
        }
    }
    members
}

fn removes(action: &Action, kind: Kind, name: u8) -> bool {
    match action {
        Action::Members { remove, .. } => kind == Kind::Set && remove.contains(&name),
        Action::Fields { remove, .. } => kind == Kind::Map && remove.contains(&name),
        Action::Clear(Collection::Set) => kind == Kind::Set,
        Action::Clear(Collection::Map) => kind == Kind::Map,
        Action::Get
        | Action::Put(_)
        | Action::Delete
        | Action::PutSibling { .. }
        | Action::DeleteSiblings { .. }
        | Action::Count(_)
        | Action::Add { .. }
        | Action::Reset(_)
        | Action::List(_) => false,
    }
}

/// The names that a view shows, with tokens of fields.
fn shown(view: &Sight) -> Option<(Kind, BTreeMap<u8, Option<u64>>)> {
    if let Ending::Members(names) = &view.ending {
        return Some((Kind::Set, names.iter().map(|name| (*name, None)).collect()));
    }
    if let Ending::Fields(fields) = &view.ending {
        let registers = fields
            .iter()
            .filter_map(|(name, field)| Some((*name, Some(field.token?))));
        return Some((Kind::Map, registers.collect()));
    }
    None
}

impl Member<'_> {
    fn check(&self, view: &Sight, shown: Option<Option<u64>>, slack: u64) -> Result<(), String> {
        let Some(token) = shown else {
            return match self
                .adds
                .iter()
                .find(|(add, _)| self.stays(view, add, slack))
            {
                Some((add, _)) => Err(format!("is missing: {add}")),
                None => Ok(()),
            };
        };
        let mut adds = self
            .adds
            .iter()
            .filter(|(_, of)| token.is_none() || *of == token);
        if adds.any(|(add, _)| !self.is_gone(view, add, slack)) {
            return Ok(());
        }
        Err("is there, though each add was removed, or never made".to_owned())
    }

    /// Whether an add must be seen.
    fn stays(&self, view: &Sight, add: &Record, slack: u64) -> bool {
        let is_live = add.wishes.expires.is_none_or(|at| view.ended + slack < at);
        // One coordinator's later add takes the place of an earlier one, and may expire.
        let expiring = self.adds.iter().map(|(other, _)| *other);
        let expiring =
            expiring.filter(|other| other.wishes.expires.is_some() && other.id != add.id);
        let mut removals = self.removals.iter().copied().chain(expiring);
        let may_be_removed =
            removals.any(|removal| view.may_know(removal) && may_observe(removal, add));
        view.knows(add) && is_live && !may_be_removed
    }

    /// Whether an add cannot be seen.
    fn is_gone(&self, view: &Sight, add: &Record, slack: u64) -> bool {
        let expires = add.wishes.expires;
        let has_expired = expires.is_some_and(|at| at + slack < view.invoked);
        let mut removals = self.removals.iter();
        let is_removed = removals.any(|removal| view.knows(removal) && observed(removal, add));
        has_expired || is_removed || !view.may_know(add)
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::record;
    use super::*;

    const SLACK: u64 = 10;

    fn change(add: &[u8], remove: &[u8], when: (u64, u64)) -> Record {
        let (add, remove) = (add.to_vec(), remove.to_vec());
        record("a", Action::Members { add, remove }, when, Ending::Done)
    }

    fn with(writes: &[Record], names: &[u8]) -> bool {
        let ending = Ending::Members(names.iter().copied().collect());
        let read = record("a", Action::List(Collection::Set), (100, 101), ending);
        let views = [Sight::of(&read).unwrap()];
        check(writes, &views, SLACK).is_ok()
    }

    #[test]
    fn what_was_added_is_there_and_nothing_else() {
        let writes = [change(&[1, 2], &[], (1, 2))];
        assert!(with(&writes, &[1, 2]));
        assert!(!with(&writes, &[1]));
        assert!(!with(&writes, &[1, 2, 3]));
    }

    #[test]
    fn what_was_removed_is_gone_unless_it_was_added_beside() {
        let removed = [change(&[1], &[], (1, 2)), change(&[], &[1], (3, 4))];
        assert!(with(&removed, &[]));
        assert!(!with(&removed, &[1]));
        let beside = [change(&[1], &[], (1, 5)), change(&[], &[1], (3, 4))];
        assert!(with(&beside, &[]) && with(&beside, &[1]));
        let after = [change(&[], &[1], (1, 2)), change(&[1], &[], (3, 4))];
        assert!(with(&after, &[1]) && !with(&after, &[]));
    }

    #[test]
    fn a_clear_removes_all() {
        let clear = record("a", Action::Clear(Collection::Set), (3, 4), Ending::Done);
        let writes = [change(&[1, 2], &[], (1, 2)), clear];
        assert!(with(&writes, &[]));
        assert!(!with(&writes, &[2]));
    }

    #[test]
    fn what_has_expired_is_gone() {
        let mut add = change(&[1], &[], (1, 2));
        add.wishes.expires = Some(50);
        assert!(with(&[add.clone()], &[]) && !with(&[add.clone()], &[1]));
        add.wishes.expires = Some(200);
        assert!(!with(&[add.clone()], &[]) && with(&[add], &[1]));
    }
}
