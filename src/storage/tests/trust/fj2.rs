//! FJ2: the power goes while a batch is written: of what was not synced any part may be on the disk. What was durable is
//! there, the batch as a whole or not at all, and the store opens without a false alarm.

use std::path::Path;
use std::sync::mpsc;

use bytes::Bytes;

use super::{Image, TINY, chance, commit, factor, folder, open_with, put_bytes, values};
use crate::model::Duration;
use crate::storage::recover::{self, Refill};
use crate::storage::supervise;

/// Longer than the engine takes.
const OPEN_MAX: Duration = Duration::from_secs(60);

/// Pages of the journal that differ, of which the disk has any.
const PAGE: usize = 4096;

/// What the disk may hold of a batch that was being written.
fn project(before: &Image, after: &Image, chance: &mut fastrand::Rng) -> Image {
    let mut torn = before.clone();
    let name = after.journal();
    let Some((old, _)) = before.0.get(&name) else {
        return torn;
    };
    let (new, length) = &after.0[&name];
    let mut bytes = old.clone();
    bytes.resize(new.len(), 0);
    let unit = [PAGE, 512][chance.usize(..2)];
    let first = old.len() / unit;
    let kind = chance.u8(..4);
    let cut = chance.usize(old.len()..=new.len());
    for page in first..new.len().div_ceil(unit) {
        let (from, to) = (page * unit, ((page + 1) * unit).min(new.len()));
        let is_there = match kind {
            // Pages in any order, the last one, or all but one.
            0 => chance.bool(),
            1 => to == new.len(),
            2 => page != first + (cut % 7),
            // A prefix, to the byte.
            _ => true,
        };
        if is_there {
            bytes[from..to].copy_from_slice(&new[from..to]);
        }
    }
    if kind == 3 {
        bytes.truncate(cut);
    }
    torn.0.insert(name, (bytes, *length));
    torn
}

fn open(data: &Path) -> crate::storage::Door<crate::storage::Fjall> {
    let opened = recover::open(data, &super::options(1), Refill::Nobody);
    opened
        .unwrap_or_else(|error| panic!("a power cut is no damage: {error}"))
        .0
}

#[test]
fn a_power_cut_loses_nothing_that_was_durable_and_raises_no_alarm() {
    cut_power(&mut chance());
}

/// A torn entry whose two lengths differ: a debug assertion of the engine's, which is off where the program runs.
#[test]
fn a_torn_entry_is_left_out() {
    cut_power(&mut fastrand::Rng::with_seed(13_593_540_179_793_613_083));
}

fn cut_power(chance: &mut fastrand::Rng) {
    let live = folder();
    let (mut door, _) = open_with(live.path(), TINY);
    let (mut cuts, mut refused) = (0, 0);
    for round in 0..12 * factor() {
        let few: Vec<_> = (0..chance.usize(1..8))
            .map(|i| {
                put_bytes(
                    &format!("k{}", chance.u8(..40)),
                    vec![u8::try_from(i).unwrap(); chance.usize(1..300)],
                )
            })
            .collect();
        commit(&mut door, &few);
        let durable = values(&door);
        let before = Image::of(live.path());
        // Some batches are longer than pages, so that their middle may be missing.
        let size = [50, 3_000, 40_000][chance.usize(..3)];
        let next: Vec<_> = (0..chance.usize(1..6))
            .map(|i| put_bytes(&format!("n{i}"), vec![chance.u8(1..); size]))
            .collect();
        commit(&mut door, &next);
        let whole = values(&door);
        let after = Image::of(live.path());
        for _ in 0..4 {
            let torn = project(&before, &after, chance);
            let copy = folder();
            torn.write(copy.path());
            cuts += 1;
            {
                let other = folder();
                torn.write(other.path());
                let path = other.path().to_owned();
                let alone = supervise::run(other.path(), "open", OPEN_MAX, move || {
                    crate::storage::Fjall::open(&path).map(drop)
                });
                refused += usize::from(alone.is_err());
            }
            let door = open(copy.path());
            let found = values(&door);
            let is_new = |key: &crate::model::RowKey| found.get(key) != durable.get(key);
            let changed: Vec<&Bytes> = found
                .keys()
                .filter(|key| is_new(key))
                .map(|key| &key.key)
                .collect();
            assert!(
                found == durable || found == whole,
                "round {round}: half a batch: {changed:?}"
            );
            door.reader().verify().unwrap();
            drop(door);
            // And it stays so.
            assert!(values(&open(copy.path())) == found);
        }
    }
    println!("the engine alone refused {refused} of {cuts}");
}

#[test]
fn a_folder_that_is_copied_while_it_is_written_is_opened_or_refused() {
    let live = folder();
    let path = live.path().to_owned();
    let (begun, has_begun) = mpsc::channel();
    let (stop, stopped) = mpsc::channel::<()>();
    let writer = std::thread::spawn(move || {
        let (mut door, _) = open_with(&path, TINY);
        begun.send(()).unwrap();
        let mut n = 0_u64;
        while stopped.try_recv() == Err(mpsc::TryRecvError::Empty) {
            n += 1;
            let last = put_bytes("last", n.to_be_bytes().to_vec());
            let other = put_bytes(&format!("k{}", n % 50), vec![1; 200]);
            commit(&mut door, &[last, other]);
        }
    });
    has_begun.recv().unwrap();
    // No state that a power cut leaves: the files are of different moments, and the engine may remove some of them.
    let (mut refused, mut found_by_reading) = (0, 0);
    let rounds = 10 * factor();
    for _ in 0..rounds {
        let copy = folder();
        Image::of(live.path()).write(copy.path());
        match recover::open(copy.path(), &super::options(1), Refill::Nobody) {
            Ok((door, _)) => found_by_reading += usize::from(door.reader().verify().is_err()),
            Err(_) => refused += 1,
        }
    }
    println!(
        "of {rounds} copies {refused} were refused, {found_by_reading} found damaged by reading"
    );
    stop.send(()).unwrap();
    writer.join().unwrap();
}
