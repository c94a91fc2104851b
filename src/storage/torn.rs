//! The last batch of the engine's journal, if it was torn. It knows of the journal only that it is filled up
//! with zeros, and that a batch without an end is left out by the engine.

use std::fs::File;
use std::io::{self, ErrorKind, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use super::Error;
use super::damage::STORE;
use super::journal::{MARK, journals};

/// Bytes that are blanked: as many as the mark that ends each batch.
const END: u64 = MARK.len() as u64;

/// Blanks the end of the last batch in the journal that was in use.
pub(super) fn blank_end(data: &Path) -> Result<PathBuf, Error> {
    let store = data.join(STORE);
    let blank = || -> io::Result<PathBuf> {
        let path = journals(&store)?.pop().ok_or(ErrorKind::NotFound)?;
        let mut file = File::options().read(true).write(true).open(&path)?;
        let used = used(&mut file)?;
        let from = used.saturating_sub(END);
        file.seek(SeekFrom::Start(from))?;
        file.write_all(&[0; MARK.len()])?;
        file.sync_all()?;
        Ok(path)
    };
    blank().map_err(|cause| Error::File {
        deed: "blank the torn end of the journal in",
        path: store.clone(),
        cause,
    })
}

/// Where the zeros begin.
pub(super) fn used(file: &mut File) -> io::Result<u64> {
    let mut end = file.metadata()?.len();
    let mut piece = vec![0; 1 << 20];
    while end > 0 {
        let begin = end.saturating_sub(1 << 20);
        let length = usize::try_from(end - begin).unwrap_or(0);
        let piece = piece.get_mut(..length).unwrap_or_default();
        file.seek(SeekFrom::Start(begin))?;
        file.read_exact(piece)?;
        if let Some(at) = piece.iter().rposition(|byte| *byte != 0) {
            return Ok(begin + u64::try_from(at).unwrap_or(0) + 1);
        }
        end = begin;
    }
    Ok(0)
}
