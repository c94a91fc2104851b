//! Rules that a history must obey, one a file. They read records and nothing else: what the simulator knows beside
//! them is given to them in the same words as what clients read in the end.

mod agree;
mod answers;
mod condition;
mod counter;
mod deletes;
mod durable;
mod expiry;
mod graves;
mod honest;
mod reads;
#[cfg(test)]
pub(crate) mod samples;
mod session;
mod set;
mod siblings;
mod sights;

use std::collections::BTreeMap;

use crate::model::{RowKey, Summary};

use super::record::{Action, Ending, History, Record, Seen};

pub(crate) use graves::Graves;
pub(crate) use sights::Sight;

/// What a checker found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violation {
    /// Which checker.
    pub check: &'static str,
    /// When, in microseconds of the history's time.
    pub at: u64,
    /// What is wrong.
    pub words: String,
}

/// The greatest tombstone ever stamped for each row: what explains that a row is gone.
pub(crate) type Tombstones = BTreeMap<RowKey, Summary>;

/// What is left of each register in the end; keys that are not named were not looked at.
pub(crate) type Shown = BTreeMap<RowKey, Option<Seen>>;

/// What a history is checked against.
#[derive(Debug)]
pub(crate) struct Rest<'a> {
    /// What is left of registers.
    pub(crate) shown: &'a Shown,
    /// What explains that a register is gone.
    pub(crate) graves: Graves<'a>,
    /// What is left, as a reader sees it, key by key.
    pub(crate) views: Vec<Sight>,
    /// How far clocks may have been off, in microseconds.
    pub(crate) slack: u64,
}

/// Checks records against what is left in the end.
pub(crate) fn check(records: &[Record], rest: Rest<'_>) -> Result<(), (&'static str, String)> {
    let Rest {
        shown,
        graves,
        mut views,
        slack,
    } = rest;
    reads::check(records, &graves).map_err(|words| ("reads", words))?;
    honest::check(records, shown).map_err(|words| ("honest", words))?;
    durable::check(records, shown, &graves).map_err(|words| ("durable", words))?;
    deletes::check(records, shown).map_err(|words| ("deletes", words))?;
    deletes::check_replaced(records).map_err(|words| ("deletes", words))?;
    session::check(records, &graves).map_err(|words| ("session", words))?;
    expiry::check(records, slack).map_err(|words| ("expiry", words))?;
    condition::check(records).map_err(|words| ("condition", words))?;
    views.extend(records.iter().filter_map(Sight::of));
    counter::check(records, &views).map_err(|words| ("counter", words))?;
    set::check(records, &views, slack).map_err(|words| ("set", words))?;
    siblings::check(records, &views, slack).map_err(|words| ("siblings", words))
}

/// Every operation invoked from `since` on must have succeeded.
pub(crate) fn answers(records: &[Record], since: u64) -> Result<(), (&'static str, String)> {
    answers::check(records, since).map_err(|words| ("answers", words))
}

/// Judges a whole history by itself. Reads after its rest stand for what all replicas hold: they must agree, and
/// show every write that was acknowledged.
pub fn judge(history: &History) -> Result<(), Violation> {
    let records = history.records();
    let found = |(check, words): (&'static str, String)| Violation {
        check,
        at: records
            .iter()
            .filter_map(|record| record.ended)
            .max()
            .unwrap_or(0),
        words,
    };
    let rest = history.rest();
    let finals = rest.map(|at| records.iter().filter(move |record| at <= record.invoked));
    let finals: Vec<&Record> = finals.into_iter().flatten().collect();
    let slack = history.slack();
    agree::check(&finals).map_err(|words| found(("agree", words)))?;
    let rest = Rest {
        shown: &shown(&finals),
        graves: Graves::of(records, slack),
        views: finals
            .iter()
            .filter_map(|record| Sight::of_final(record))
            .collect(),
        slack,
    };
    check(records, rest).map_err(found)
}

/// What the last reads show of registers.
fn shown(finals: &[&Record]) -> Shown {
    let mut shown = Shown::new();
    for record in finals.iter().filter(|record| record.action == Action::Get) {
        if let Ending::Read(seen) = &record.ending {
            shown.insert(record.key.clone(), seen.clone());
        }
    }
    shown
}
