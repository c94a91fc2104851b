//! The engine's journals, looked at before the engine reads them. It puts no checksum over the head of a batch, and with it over
//! the number by which the newer of two values is told: so a number that is damaged may put old rows over newer ones.
//!
//! A journal is a row of batches, then zeros. A batch is a head (its tag, how many entries, its number), the entries, and
//! an end (its tag, a checksum of the entries, a mark); all integers are little-endian. This is the form of fjall 3.1.13.

use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use super::Error;

const HEAD: u8 = 1;
const ITEM: u8 = 2;
const END: u8 = 3;
const CLEAR: u8 = 4;
/// What an end ends with.
pub(super) const MARK: [u8; 4] = [b'F', b'J', b'L', 3];
/// The engine keeps the uppermost bit for itself.
const NUMBER_MAX: u64 = u64::MAX >> 1;
const BUFFER_BYTES: usize = 1 << 18;

/// Looks whether the numbers of batches rise, as they were given. What is not whole, or cannot be read, is left to the engine,
/// which stops there, or says so.
///
/// # Errors
/// They do not.
pub(super) fn check(store: &Path) -> Result<(), Error> {
    let mut last = None;
    for path in journals(store).unwrap_or_default() {
        let Ok(file) = File::open(&path) else {
            continue;
        };
        let mut reader = BufReader::with_capacity(BUFFER_BYTES, file);
        while let Ok(Some(number)) = batch(&mut reader) {
            if number > NUMBER_MAX || last.is_some_and(|last| number <= last) {
                return Err(Error::Corrupt {
                    what: "a batch of the engine's journal stands out of its order",
                });
            }
            last = Some(number);
        }
    }
    Ok(())
}

/// The journals of a store, the oldest first.
pub(super) fn journals(store: &Path) -> io::Result<Vec<PathBuf>> {
    let mut journals: Vec<(u64, PathBuf)> = Vec::new();
    for entry in fs::read_dir(store)? {
        let path = entry?.path();
        let number = path.extension().filter(|end| *end == "jnl");
        let number = number.and_then(|_| path.file_stem()?.to_str()?.parse().ok());
        journals.extend(number.map(|number| (number, path)));
    }
    journals.sort();
    Ok(journals.into_iter().map(|(_, path)| path).collect())
}

/// The number of the next batch, if there is a whole one.
fn batch(reader: &mut BufReader<File>) -> io::Result<Option<u64>> {
    let [HEAD] = bytes(reader)? else {
        return Ok(None);
    };
    let entries = u32::from_le_bytes(bytes(reader)?);
    let number = u64::from_le_bytes(bytes(reader)?);
    for _ in 0..entries {
        match bytes(reader)? {
            [ITEM] => skip_item(reader)?,
            [CLEAR] => skip(reader, 8)?,
            _ => return Ok(None),
        }
    }
    let is_end = bytes(reader)? == [END];
    skip(reader, 8)?;
    let is_whole = is_end && bytes(reader)? == MARK;
    Ok(is_whole.then_some(number))
}

/// Kind, compression, keyspace, and lengths of the key, of the value, and of the value as it is stored.
fn skip_item(reader: &mut BufReader<File>) -> io::Result<()> {
    skip(reader, 1 + 1 + 8)?;
    let key = u16::from_le_bytes(bytes(reader)?);
    skip(reader, 4)?;
    let stored = u32::from_le_bytes(bytes(reader)?);
    skip(reader, i64::from(key) + i64::from(stored))
}

fn skip(reader: &mut BufReader<File>, count: i64) -> io::Result<()> {
    reader.seek_relative(count)
}

fn bytes<const N: usize>(reader: &mut BufReader<File>) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    reader.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// Where the numbers of a journal's batches stand, for tests that damage them.
#[cfg(test)]
pub(super) fn numbers_at(journal: &Path) -> Vec<u64> {
    use std::io::Seek as _;

    let mut reader = BufReader::new(File::open(journal).unwrap());
    let mut found = Vec::new();
    loop {
        let at = reader.stream_position().unwrap();
        if !matches!(batch(&mut reader), Ok(Some(_))) {
            return found;
        }
        found.push(at + 1 + 4);
    }
}
