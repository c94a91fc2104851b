//! Siblings are exact (I10): none is lost, none is false. What a write had seen is told by the read that it names,
//! so that this knows nothing of dots and contexts.

use std::collections::{BTreeMap, BTreeSet};

use crate::history::{Action, Ending, Record};
use crate::model::RowKey;

use super::sights::{Sight, may_observe, observed};

/// What happened to one key.
#[derive(Debug, Default)]
struct Key<'a> {
    /// By token.
    puts: BTreeMap<u64, &'a Record>,
    /// Puts and deletes with the tokens that they had seen; nothing means a delete of what its coordinator saw.
    covers: Vec<(&'a Record, Option<BTreeSet<u64>>)>,
}

/// Checks every view of a key with siblings. Clocks, and so expiry, may be off by `slack` microseconds.
pub(super) fn check(records: &[Record], views: &[Sight], slack: u64) -> Result<(), String> {
    let keys = gather(records);
    let nothing = BTreeSet::new();
    for view in views {
        let Some(key) = keys.get(&view.key) else {
            continue;
        };
        let shown = if let Ending::Siblings(tokens, _) = &view.ending {
            tokens
        } else if view.ending == Ending::Read(None) {
            &nothing
        } else {
            continue;
        };
        key.check(view, shown, slack)
            .map_err(|words| format!("{view}: {words}"))?;
    }
    Ok(())
}

fn gather(records: &[Record]) -> BTreeMap<&RowKey, Key<'_>> {
    let by_id: BTreeMap<u64, &Record> = records.iter().map(|record| (record.id, record)).collect();
    let shown = |seen: &Option<u64>| -> BTreeSet<u64> {
        let read = seen.and_then(|id| by_id.get(&id));
        match read.map(|read| &read.ending) {
            Some(Ending::Siblings(tokens, _)) => tokens.clone(),
            _ => BTreeSet::new(),
        }
    };
    let mut keys: BTreeMap<&RowKey, Key<'_>> = BTreeMap::new();
    for record in records {
        if let Action::PutSibling { token, seen } = &record.action {
            let key = keys.entry(&record.key).or_default();
            key.puts.insert(*token, record);
            if record.may_count() {
                key.covers.push((record, Some(shown(seen))));
            }
        }
        if let Action::DeleteSiblings { seen } = &record.action
            && record.may_count()
        {
            let key = keys.entry(&record.key).or_default();
            let covered = seen.is_some().then(|| shown(seen));
            key.covers.push((record, covered));
        }
    }
    keys
}

impl Key<'_> {
    fn check(&self, view: &Sight, shown: &BTreeSet<u64>, slack: u64) -> Result<(), String> {
        for token in shown {
            let Some(put) = self.puts.get(token).filter(|put| view.may_know(put)) else {
                return Err(format!("{token} was not written, or had failed"));
            };
            let expires = put.wishes.expires;
            if expires.is_some_and(|at| at + slack < view.invoked) {
                return Err(format!("{token} has expired: {put}"));
            }
            if let Some(cover) = self.cover(view, put, *token, shown) {
                return Err(format!("{token} is false: {cover} had seen it"));
            }
        }
        for (token, put) in &self.puts {
            let is_live = put.wishes.expires.is_none_or(|at| view.ended + slack < at);
            if view.knows(put)
                && is_live
                && !shown.contains(token)
                && !self.may_be_covered(view, put, *token)
            {
                return Err(format!("{token} is lost: {put}"));
            }
        }
        Ok(())
    }

    /// A write that certainly took a value away.
    fn cover(
        &self,
        view: &Sight,
        put: &Record,
        token: u64,
        shown: &BTreeSet<u64>,
    ) -> Option<&Record> {
        let is_cover = |(cover, tokens): &&(&Record, Option<BTreeSet<u64>>)| match tokens {
            None => view.knows(cover) && observed(cover, put),
            Some(tokens) if tokens.contains(&token) => {
                let is_shown = matches!(&cover.action,
                    Action::PutSibling { token, .. } if shown.contains(token));
                is_shown || view.knows(cover)
            }
            Some(_) => false,
        };
        self.covers.iter().find(is_cover).map(|(cover, _)| *cover)
    }

    fn may_be_covered(&self, view: &Sight, put: &Record, token: u64) -> bool {
        let mut covers = self.covers.iter();
        covers.any(|(cover, tokens)| {
            view.may_know(cover)
                && match tokens {
                    None => may_observe(cover, put),
                    Some(tokens) => tokens.contains(&token),
                }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::record;
    use super::*;
    use crate::model::Context;

    const SLACK: u64 = 10;

    fn put(token: u64, seen: Option<u64>, when: (u64, u64)) -> Record {
        let action = Action::PutSibling { token, seen };
        record("a", action, when, Ending::Done)
    }

    fn read(tokens: &[u64], when: (u64, u64)) -> Record {
        let tokens = tokens.iter().copied().collect();
        let ending = Ending::Siblings(tokens, Context::default());
        record("a", Action::Get, when, ending)
    }

    fn is_good(records: &[Record]) -> bool {
        let views: Vec<Sight> = records.iter().filter_map(Sight::of).collect();
        check(records, &views, SLACK).is_ok()
    }

    #[test]
    fn a_lost_sibling_is_found() {
        let puts = [put(1, None, (1, 2)), put(2, None, (3, 4))];
        let with = |tokens: &[u64]| is_good(&[&puts[..], &[read(tokens, (5, 6))]].concat());
        assert!(with(&[1, 2]));
        assert!(!with(&[1]) && !with(&[2]) && !with(&[]) && !with(&[1, 2, 3]));
    }

    #[test]
    fn a_false_sibling_is_found() {
        // The id of a record is when it was invoked.
        let records = [
            put(1, None, (1, 2)),
            read(&[1], (3, 4)),
            put(2, Some(3), (5, 6)),
        ];
        let with = |tokens: &[u64]| is_good(&[&records[..], &[read(tokens, (7, 8))]].concat());
        assert!(with(&[2]));
        assert!(!with(&[1, 2]) && !with(&[1]));
    }

    #[test]
    fn a_delete_takes_what_it_had_seen() {
        let seen = Some(3);
        let delete = record("a", Action::DeleteSiblings { seen }, (7, 8), Ending::Done);
        let records = [
            put(1, None, (1, 2)),
            read(&[1], (3, 4)),
            put(2, None, (5, 6)),
            delete,
        ];
        let with = |tokens: &[u64]| is_good(&[&records[..], &[read(tokens, (9, 10))]].concat());
        assert!(with(&[2]));
        assert!(!with(&[1, 2]) && !with(&[]));
    }
}
