//! The list of acknowledged writes: one line each, `key TAB n TAB hash TAB timestamp`, appended as soon
//! as the acknowledgement is there.
//!
//! A line is in the hands of the operating system before the worker sends its next request, so it
//! outlives this process; the file is not fsynced, because it is the cluster that is put to the test.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use xxhash_rust::xxh3::xxh3_64;

use crate::model::Timestamp;

use super::BenchError;

/// The list, being written.
#[derive(Debug)]
pub(super) struct AckLog(Mutex<File>);

/// The last acknowledged write of a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Acked {
    /// Its number among the writes of its key; it stands in the value too.
    pub n: u64,
    /// The hash of the value.
    pub hash: u64,
}

impl Acked {
    /// The hash that stands in the list for a value.
    pub fn hash_of(value: &[u8]) -> u64 {
        xxh3_64(value)
    }
}

impl AckLog {
    pub(super) fn open(path: &Path) -> Result<Self, BenchError> {
        let file = OpenOptions::new().create(true).append(true).open(path);
        file.map(|file| Self(Mutex::new(file)))
            .map_err(|source| error("open", path, source))
    }

    pub(super) fn add(
        &self,
        key: &str,
        acked: Acked,
        timestamp: Option<Timestamp>,
    ) -> std::io::Result<()> {
        let Acked { n, hash } = acked;
        let timestamp = timestamp.unwrap_or_default();
        let line = format!("{key}\t{n}\t{hash:016x}\t{timestamp}\n");
        let mut file = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        file.write_all(line.as_bytes())
    }
}

/// Reads a list: the last acknowledged write of every key. A last line that is torn is left out.
pub fn read_ack_log(path: &Path) -> Result<BTreeMap<String, Acked>, BenchError> {
    let file = File::open(path).map_err(|source| error("open", path, source))?;
    let mut reader = BufReader::new(file);
    let mut last: BTreeMap<String, Acked> = BTreeMap::new();
    let mut line = String::new();
    loop {
        line.clear();
        let count = reader
            .read_line(&mut line)
            .map_err(|source| error("read", path, source))?;
        if count == 0 {
            return Ok(last);
        }
        let Some(whole) = line.strip_suffix('\n') else {
            continue;
        };
        let Some((key, acked)) = parsed(whole) else {
            let source = std::io::Error::other(format!("`{whole}` is not a line of an ack log"));
            return Err(error("read", path, source));
        };
        match last.get_mut(key) {
            Some(held) if held.n >= acked.n => {}
            Some(held) => *held = acked,
            None => drop(last.insert(key.to_owned(), acked)),
        }
    }
}

fn parsed(line: &str) -> Option<(&str, Acked)> {
    let mut fields = line.split('\t');
    let key = fields.next()?;
    let n = fields.next()?.parse().ok()?;
    let hash = u64::from_str_radix(fields.next()?, 16).ok()?;
    Some((key, Acked { n, hash }))
}

fn error(deed: &'static str, path: &Path, source: std::io::Error) -> BenchError {
    BenchError::AckLog {
        deed,
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_greatest_number_of_each_key_is_read_and_a_torn_line_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("acks");
        let log = AckLog::open(&path).unwrap();
        for (key, n) in [("a", 1), ("b", 7), ("a", 3), ("a", 2)] {
            log.add(key, Acked { n, hash: n * 2 }, None).unwrap();
        }
        log.0.lock().unwrap().write_all(b"c\t9\t00").unwrap();
        let read = read_ack_log(&path).unwrap();
        let wanted = [
            ("a", Acked { n: 3, hash: 6 }),
            ("b", Acked { n: 7, hash: 14 }),
        ];
        assert_eq!(
            read,
            wanted.map(|(key, acked)| (key.to_owned(), acked)).into()
        );
    }
}
