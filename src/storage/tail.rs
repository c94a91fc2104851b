//! A small file beside the engine that names the last batch which was durable.
//!
//! It is written over after each commit, and not synced: so it is never ahead of the engine, and after a power cut
//! it may be behind. If it names a batch that the engine does not have, the engine has lost the end of its journal.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use xxhash_rust::xxh3::xxh3_64;

use super::Error;

const NAME: &str = "tail";
const VERSION: u8 = 1;
const BYTES: usize = 25;

/// A batch that was durable.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Tail {
    /// The life of the node that wrote it.
    pub incarnation: u64,
    /// Its number; zero if this engine has none yet.
    pub number: u64,
}

impl Tail {
    /// What is written: version, incarnation, number, and a checksum of them.
    pub(super) fn to_bytes(self) -> [u8; BYTES] {
        let mut out = [0; BYTES];
        let fields = std::iter::once(VERSION)
            .chain(self.incarnation.to_be_bytes())
            .chain(self.number.to_be_bytes());
        for (to, byte) in out.iter_mut().zip(fields) {
            *to = byte;
        }
        let sum = out.first_chunk::<17>().map_or(0, |head| xxh3_64(head));
        if let Some(end) = out.last_chunk_mut::<8>() {
            *end = sum.to_be_bytes();
        }
        out
    }

    /// What was written; nothing if it is torn or of another version.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let (head, sum) = bytes.split_first_chunk::<17>()?;
        let sum: [u8; 8] = sum.try_into().ok()?;
        let [VERSION, fields @ ..] = head else {
            return None;
        };
        if u64::from_be_bytes(sum) != xxh3_64(head) {
            return None;
        }
        let (incarnation, number) = fields.split_first_chunk::<8>()?;
        Some(Self {
            incarnation: u64::from_be_bytes(*incarnation),
            number: u64::from_be_bytes(number.try_into().ok()?),
        })
    }
}

/// The file.
#[derive(Debug)]
pub(super) struct TailFile {
    file: File,
    found: Option<Tail>,
}

impl TailFile {
    /// Opens the file of a data folder, or makes it.
    pub(super) fn open(data: &Path) -> Result<Self, Error> {
        let path = data.join(NAME);
        let open = || -> io::Result<Self> {
            let mut options = OpenOptions::new();
            let mut file = options
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(&path)?;
            let mut bytes = Vec::new();
            file.by_ref().take(4096).read_to_end(&mut bytes)?;
            let found = Tail::parse(&bytes);
            if found.is_none() && !bytes.is_empty() {
                tracing::warn!(file = %path.display(), "the note of the last batch is torn: it says nothing");
                file.set_len(0)?;
            }
            Ok(Self { file, found })
        };
        open().map_err(|cause| Error::File {
            deed: "open the note of the last batch",
            path: path.clone(),
            cause,
        })
    }

    /// What it said when it was opened.
    pub(super) fn found(&self) -> Option<Tail> {
        self.found
    }

    /// Says that no batch of this engine was durable yet, durably: the engine is about to begin anew.
    pub(super) fn begin(&mut self) -> io::Result<()> {
        let tail = Tail {
            number: 0,
            ..self.found.unwrap_or_default()
        };
        self.file.write_all_at(&tail.to_bytes(), 0)?;
        self.found = Some(tail);
        self.file.sync_all()
    }

    /// Names a batch that is durable.
    pub(super) fn write(&self, tail: Tail) -> io::Result<()> {
        self.file.write_all_at(&tail.to_bytes(), 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tail_comes_back_and_a_torn_one_does_not() {
        let tail = Tail {
            incarnation: 0x0102_0304_0506,
            number: 77,
        };
        let bytes = tail.to_bytes();
        assert_eq!(Tail::parse(&bytes), Some(tail));
        for at in 0..bytes.len() {
            let mut torn = bytes;
            torn[at] ^= 1;
            assert_eq!(Tail::parse(&torn), None);
            assert_eq!(Tail::parse(&bytes[..at]), None);
        }
    }
}
