//! FJ3: one byte of any file of a stopped store is flipped. What is read then is what was written, or there is an error,
//! or the store is set aside: never a wrong value, and never one that is missing without a word.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Lines, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use bytes::Bytes;

use super::{
    COUNT, Image, SPACE, TINY, chance, commit, factor, folder, open_with, options, put_bytes,
};
use crate::model::{Answer, PartitionId, Query, Row, RowKey, Wanted};
use crate::storage::fjall::Sizes;
use crate::storage::recover::{self, Refill};
use crate::storage::{Door, Fjall, journal};

/// A folder in which there is a file of every kind, and what it holds.
fn filled(data: &Path) -> BTreeMap<RowKey, Option<Bytes>> {
    let (mut door, _) = open_with(data, TINY);
    for round in 0..60_u8 {
        let changes: Vec<_> = (0..10)
            .map(|i| put_bytes(&format!("k{}", (round + i * 7) % 50), vec![round; 120]))
            .collect();
        commit(&mut door, &changes);
    }
    door.close().unwrap();
    // What comes now stays in the journal.
    let (mut door, _) = open_with(data, Sizes::default());
    for round in 0..10_u8 {
        commit(
            &mut door,
            &[put_bytes(&format!("j{round}"), vec![round; 60])],
        );
    }
    let values = super::values(&door);
    door.close().unwrap();
    values
}

/// What became of a flipped byte.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Outcome {
    Same,
    SetAside,
    Refused,
    /// Served what it could, and an error where it could not.
    Unreadable,
    /// A value was missing or old, and only reading everything shows it.
    ScrubOnly,
    /// A value was wrong.
    Wrong,
}

fn read(door: &Door<Fjall>, expected: &BTreeMap<RowKey, Option<Bytes>>) -> Outcome {
    let reader = door.reader();
    let mut outcome = Outcome::Same;
    for (key, value) in expected {
        match reader.answer(&Query::Rows(vec![key.clone()])) {
            Answer::Rows(rows) => {
                let found = rows.into_iter().next().unwrap();
                let found = found.map(|row| {
                    if let Row::Register(version) = row {
                        version.value
                    } else {
                        None
                    }
                });
                if found.as_ref() != Some(value) {
                    outcome = outcome.max(Outcome::ScrubOnly);
                }
            }
            Answer::Unreadable { .. } => outcome = outcome.max(Outcome::Unreadable),
            Answer::Log(_)
            | Answer::Digest { .. }
            | Answer::Leaf { .. }
            | Answer::Sums { .. }
            | Answer::Selected { .. }
            | Answer::Count(_)
            | Answer::Graves { .. }
            | Answer::Scan { .. } => panic!("another answer"),
        }
    }
    for index in 0..COUNT {
        let query = Query::Scan {
            partition: PartitionId {
                keyspace: SPACE,
                index,
            },
            wanted: Wanted::Values,
            after: None,
            rows_max: 1000,
            bytes_max: usize::MAX,
        };
        if let Answer::Scan { rows, .. } = reader.answer(&query) {
            let is_there = |key: &RowKey| expected.contains_key(key);
            assert!(
                rows.iter().all(|(key, _)| is_there(key)),
                "a row that nobody wrote"
            );
        }
    }
    if outcome == Outcome::ScrubOnly && reader.verify().is_ok() {
        return Outcome::Wrong;
    }
    outcome
}

/// Opens a store, and says what became of it.
fn open(data: &Path, expected: &BTreeMap<RowKey, Option<Bytes>>) -> Outcome {
    match recover::open(data, &options(1), Refill::Peers) {
        Ok((_, opened)) if opened.is_new => Outcome::SetAside,
        Ok((door, _)) => read(&door, expected),
        Err(_) => Outcome::Refused,
    }
}

const CHILD: &str = "STERNA_TEST_FLIPPED";

/// Opens each folder that it is told. A process of its own, because the engine may panic while it cleans up after a
/// panic, which ends the process: as every panic does in production.
#[test]
fn child() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    let whole = folder();
    let expected = filled(whole.path());
    for line in std::io::stdin().lines() {
        let outcome = open(Path::new(&line.unwrap()), &expected);
        println!("outcome {}", outcome as u8);
    }
}

/// The child, and another one if it dies.
struct Opener {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    deaths: usize,
}

impl Opener {
    fn start() -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "storage::tests::trust::fj3::child",
                "--nocapture",
            ])
            .env(CHILD, "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self {
            child,
            lines,
            deaths: 0,
        }
    }

    fn ask(&mut self, data: &Path) -> Option<Outcome> {
        let stdin = self.child.stdin.as_mut().unwrap();
        writeln!(stdin, "{}", data.display()).ok()?;
        loop {
            let line = self.lines.next()?.ok()?;
            let Some(outcome) = line.strip_prefix("outcome ") else {
                continue;
            };
            let all = [
                Outcome::Same,
                Outcome::SetAside,
                Outcome::Refused,
                Outcome::Unreadable,
                Outcome::ScrubOnly,
                Outcome::Wrong,
            ];
            return Some(all[outcome.parse::<usize>().unwrap()]);
        }
    }

    /// What becomes of a store: if the process dies of it, it is started again.
    fn open(&mut self, data: &Path) -> Outcome {
        for _ in 0..=recover::DEATHS_MAX {
            if let Some(outcome) = self.ask(data) {
                return outcome;
            }
            let is_noted = |note: &str| data.join(note).exists();
            assert!(
                is_noted("damage") || is_noted("opening"),
                "a death leaves a note"
            );
            self.child.wait().unwrap();
            let mut next = Self::start();
            next.deaths = self.deaths + 1;
            *self = next;
        }
        panic!("it dies of it again and again");
    }
}

impl Drop for Opener {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        self.child.wait().unwrap();
    }
}

fn flip(opener: &mut Opener, image: &Image, name: &Path, at: usize, bit: u8) -> Outcome {
    let mut image = image.clone();
    let (bytes, _) = image.0.get_mut(name).unwrap();
    bytes[at] ^= 1 << bit;
    let copy = folder();
    image.write(copy.path());
    opener.open(copy.path())
}

/// What kind of file it is.
fn kind(name: &Path) -> String {
    let text = name.to_str().unwrap();
    let file = name.file_name().unwrap().to_str().unwrap();
    if text.contains("tables") {
        return "table".to_owned();
    }
    if file.ends_with(".jnl") {
        return "journal".to_owned();
    }
    let number = file.strip_prefix('v').map(str::parse::<u64>);
    if number.is_some_and(|number| number.is_ok()) {
        return "manifest".to_owned();
    }
    file.to_owned()
}

#[test]
fn a_flipped_byte_is_never_believed() {
    let mut chance = chance();
    let whole = folder();
    filled(whole.path());
    let image = Image::of(whole.path());
    let mut table: BTreeMap<(String, Outcome), usize> = BTreeMap::new();
    let mut bad: Vec<(PathBuf, usize, Outcome)> = Vec::new();
    let flips_max = 12 * factor();
    let mut opener = Opener::start();
    for (name, (bytes, _)) in &image.0 {
        let all = bytes.len() <= flips_max;
        let picks: Vec<usize> = if all {
            (0..bytes.len()).collect()
        } else {
            (0..flips_max)
                .map(|_| chance.usize(..bytes.len()))
                .collect()
        };
        for at in picks {
            let outcome = flip(&mut opener, &image, name, at, chance.u8(..8));
            *table.entry((kind(name), outcome)).or_default() += 1;
            if outcome >= Outcome::ScrubOnly {
                bad.push((name.clone(), at, outcome));
            }
        }
    }
    for ((kind, outcome), count) in &table {
        println!("{kind:12} {outcome:?} {count}");
    }
    println!("the process died {} times", opener.deaths);
    assert!(bad.is_empty(), "{bad:?}");
}

/// The engine does not checksum the number of a batch, by which the newer of two values is told (seed
/// 9734228889946883282).
#[test]
fn a_flipped_number_of_a_batch_is_never_believed() {
    let whole = folder();
    filled(whole.path());
    let image = Image::of(whole.path());
    let name = image.journal();
    let numbers = journal::numbers_at(&whole.path().join(&name));
    let count = numbers.len();
    assert!(count > 10, "{count}");
    let mut opener = Opener::start();
    let mut outcomes: BTreeMap<Outcome, usize> = BTreeMap::new();
    for at in [0, 1, count / 2, count - 2, count - 1] {
        let at = usize::try_from(numbers[at]).unwrap();
        for bit in 0..64_u8 {
            let outcome = flip(
                &mut opener,
                &image,
                &name,
                at + usize::from(bit / 8),
                bit % 8,
            );
            assert!(
                outcome < Outcome::ScrubOnly,
                "byte {at}, bit {bit}: {outcome:?}"
            );
            *outcomes.entry(outcome).or_default() += 1;
        }
    }
    println!("{outcomes:?}");
    assert!(
        outcomes.get(&Outcome::SetAside) > Some(&100),
        "{outcomes:?}"
    );
}

/// A wrong length may make the engine ask for more memory than there is, which ends the process and leaves no mark.
#[test]
fn a_store_that_starts_die_of_is_set_aside() {
    for (deaths, is_new) in [
        (recover::DEATHS_MAX - 1, false),
        (recover::DEATHS_MAX, true),
    ] {
        let whole = folder();
        filled(whole.path());
        let note = whole.path().join("opening");
        std::fs::write(&note, deaths.to_string()).unwrap();
        let (_, opened) = recover::open(whole.path(), &options(1), Refill::Peers).unwrap();
        assert_eq!((opened.is_new, note.exists()), (is_new, false), "{deaths}");
    }
}
