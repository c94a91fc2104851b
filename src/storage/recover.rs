//! Opening the store of a data folder, and what is done when it is found damaged: it is set aside if others hold all of
//! it, and refused in words if not.

use std::path::Path;

use crate::model::Duration;

use super::damage::{self, Fate};
use super::{Door, Error, Fjall, OpenOptions, Opened, supervise, torn};

/// How long opening may take: the journal is read, and the sums of all leaves.
const OPEN_MAX: Duration = Duration::from_mins(10);

/// How long reading everything may take, after a failure that may have been damage.
const VERIFY_MAX: Duration = Duration::from_hours(24);

/// What may be done about a damaged store.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Refill {
    /// Nothing by itself: of some partition nobody else has a replica.
    #[default]
    Nobody,
    /// Other nodes have replicas of every partition: they fill an empty store again.
    Peers,
    /// The operator has said that it may begin empty all the same.
    Forced,
}

/// Starts that may die of opening a store, without a word, before it is taken for damaged.
pub(super) const DEATHS_MAX: u32 = 3;

/// Opens a store.
pub(super) fn open(
    data: &Path,
    options: &OpenOptions,
    refill: Refill,
) -> Result<(Door<Fjall>, Opened), Error> {
    if damage::begin_opening(data) >= DEATHS_MAX {
        let words =
            format!("the process ended while it opened the store, {DEATHS_MAX} times in a row");
        damage::mark(data, Fate::Damaged, &words);
    }
    let opened = open_or_give_up(data, options, refill);
    damage::end_opening(data);
    opened
}

fn open_or_give_up(
    data: &Path,
    options: &OpenOptions,
    refill: Refill,
) -> Result<(Door<Fjall>, Opened), Error> {
    let found = match damage::read_mark(data) {
        Some(mark) if mark.fate == Fate::Damaged => Err(mark.words),
        Some(mark) => {
            tracing::warn!(
                folder = %data.display(),
                found = mark.words,
                "the store may be damaged: all of it is read before it is used"
            );
            whole(try_open(data, options).and_then(|opened| verify(data, opened)))?
        }
        None => whole(try_open(data, options))?,
    };
    let opened = match found {
        Ok(opened) => opened,
        Err(words) => {
            give_up(data, refill, &words)?;
            try_open(data, options)?
        }
    };
    damage::remove_mark(data)?;
    supervise::watch_engine(data);
    Ok(opened)
}

/// Tells damage, in words, from what worked; what is neither is passed on.
fn whole<T>(result: Result<T, Error>) -> Result<Result<T, String>, Error> {
    match result {
        Ok(opened) => Ok(Ok(opened)),
        Err(error) if error.fate() == Fate::Sound => Err(error),
        Err(error) => Ok(Err(error.to_string())),
    }
}

/// Opens what is there. The engine refuses a journal, or panics over it, whose last batch was written only in part when
/// the power went, if the part holds the batch's end: then that end is blanked, so that the engine leaves out the batch,
/// which nobody was told is durable. Should it have been, the tail says so.
fn try_open(data: &Path, options: &OpenOptions) -> Result<(Door<Fjall>, Opened), Error> {
    let error = match open_as_it_is(data, options) {
        Err(error) if is_torn(&error) => error,
        other => return other,
    };
    let Ok(journal) = torn::blank_end(data) else {
        return Err(error);
    };
    tracing::warn!(
        journal = %journal.display(),
        found = %error,
        "the journal may end in a batch that was not written as a whole: it is left out if it was not durable"
    );
    open_as_it_is(data, options)
}

/// Whether a torn batch may be behind it.
fn is_torn(error: &Error) -> bool {
    let Error::Engine { cause, .. } = error else {
        return matches!(error, Error::Panicked { .. });
    };
    matches!(cause, fjall::Error::JournalRecovery(_))
}

fn open_as_it_is(data: &Path, options: &OpenOptions) -> Result<(Door<Fjall>, Opened), Error> {
    let (folder, options) = (data.to_owned(), options.clone());
    supervise::run(data, "open the store", OPEN_MAX, move || {
        Door::open(Fjall::open(&folder)?, options)
    })
}

/// Reads everything.
fn verify(data: &Path, opened: (Door<Fjall>, Opened)) -> Result<(Door<Fjall>, Opened), Error> {
    supervise::run(data, "read all of the store", VERIFY_MAX, move || {
        opened.0.reader().verify()?;
        Ok(opened)
    })
}

/// Sets the store aside, or refuses.
fn give_up(data: &Path, refill: Refill, words: &str) -> Result<(), Error> {
    if refill == Refill::Nobody {
        // What was found at this start is found again, or not, as the disk will have it: so it is kept.
        damage::mark(data, Fate::Damaged, words);
        return Err(Error::Damaged {
            words: words.to_owned(),
            advice: format!(
                "no other node of its region holds all of its partitions, so it is not replaced by itself. Put back a whole copy of \
                 {folder}, or start once with --start-empty to set the store aside and begin without what only this \
                 node had. To use what can still be read, remove {folder}/damage",
                folder = data.display()
            ),
        });
    }
    let aside = damage::set_aside(data, words)?;
    tracing::error!(
        found = words,
        aside = %aside.display(),
        "the store is damaged: it was set aside, and this node begins empty and is refilled by its peers. Remove the \
         old one when nobody needs to look at it"
    );
    Ok(())
}
