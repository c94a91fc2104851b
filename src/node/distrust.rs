//! A mark beside the store: the data folder is an old copy, so it must not serve before it has caught up.
//!
//! It is a file and not a row, because it is set when nothing of the store may be trusted or written.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

/// The name of the file in the data folder.
const NAME: &str = "distrusted";

/// The mark.
#[derive(Debug)]
pub(super) struct Distrust {
    path: PathBuf,
    is_set: bool,
}

impl Distrust {
    /// Looks whether it stands.
    pub(super) fn look(data: &Path) -> Self {
        let path = data.join(NAME);
        let is_set = path.exists();
        Self { path, is_set }
    }

    pub(super) fn is_set(&self) -> bool {
        self.is_set
    }

    /// Sets it, on disk.
    pub(super) fn set(&mut self) {
        self.is_set = true;
        let made = File::create(&self.path).and_then(|file| file.sync_all());
        if let Err(error) = made.and_then(|()| sync_folder(&self.path)) {
            tracing::error!(%error, "the data folder could not be marked as distrusted: wipe it before the next start");
        }
    }

    /// Takes it away: everything has caught up.
    pub(super) fn clear(&mut self) {
        if !std::mem::take(&mut self.is_set) {
            return;
        }
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::warn!(%error, "the mark of distrust stays: the next start will catch up again");
        }
    }
}

fn sync_folder(path: &Path) -> io::Result<()> {
    path.parent()
        .map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_outlives_the_process_until_it_is_cleared() -> io::Result<()> {
        let folder = tempfile::tempdir()?;
        let mut distrust = Distrust::look(folder.path());
        assert!(!distrust.is_set());
        distrust.set();
        let mut again = Distrust::look(folder.path());
        assert!(again.is_set());
        again.clear();
        assert!(!Distrust::look(folder.path()).is_set());
        Ok(())
    }
}
