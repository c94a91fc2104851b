//! The numbers of the last batches, in a ring of slots in every space, by which lost batches are noticed when a store
//! is opened.
//!
//! An engine's journal may end where it is damaged, and what comes after is then dropped in silence, though a space
//! that was flushed before still has it. So each batch writes its number into each space: a hole in one of them, or
//! spaces that end at different numbers, mean that marks may claim rows that are not there.

use super::Error;
use super::engine::{Batch, Snapshot, Space};
use super::form;
use super::keys::{self, is_batch};
use super::load::for_each;
use super::tail::Tail;

/// Batches whose numbers are kept in each space. A hole that is older is not noticed here, but by its leaf sums.
pub(super) const BATCHES_KEPT: u64 = 1 << 16;

/// Puts a batch's number into it.
pub(super) fn stage(batch: &mut Batch, number: u64) -> Result<(), Error> {
    let slot = u16::try_from(number % BATCHES_KEPT).unwrap_or(0);
    let key = keys::batch(slot);
    for space in Space::ALL {
        let value = form::seal(space, &key, &number)?;
        batch.put(space, key.clone(), value);
    }
    Ok(())
}

/// The number of the last batch; zero if there is none.
///
/// # Errors
/// A batch is missing: a hole among the numbers, spaces that end apart, or an end before what the tail names.
pub(super) fn load<S: Snapshot>(snapshot: &S, tail: Option<Tail>) -> Result<u64, Error> {
    let mut ends = Vec::new();
    for space in Space::ALL {
        ends.push(load_space(snapshot, space)?);
    }
    let last = ends.iter().copied().max().unwrap_or(0);
    for (space, end) in Space::ALL.into_iter().zip(ends) {
        if end != last {
            let what =
                format!("batches are missing: the {space} end at number {end}, others at {last}");
            return Err(Error::Lost { what });
        }
    }
    match tail {
        Some(tail) if tail.number > last => {
            let what = format!(
                "batches are missing: the last one is number {last}, and number {} was durable",
                tail.number
            );
            Err(Error::Lost { what })
        }
        Some(_) | None => Ok(last),
    }
}

fn load_space<S: Snapshot>(snapshot: &S, space: Space) -> Result<u64, Error> {
    let mut numbers = Vec::new();
    for_each(snapshot, space, &keys::batch_span(), |key, value| {
        // Other names may begin with the same byte.
        if is_batch(key) {
            numbers.push(form::open::<u64>(space, key, value)?);
        }
        Ok(())
    })?;
    numbers.sort_unstable();
    let last = numbers.last().copied().unwrap_or(0);
    let kept = last.min(BATCHES_KEPT);
    let expected = last - kept + 1..=last;
    if !numbers.iter().copied().eq(expected) {
        let what = format!("batches are missing among the last {kept} of the {space}");
        return Err(Error::Lost { what });
    }
    Ok(last)
}
