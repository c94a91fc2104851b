//! A small JSON file beside the data that says how far a transfer has come. It is replaced whole: a
//! crash leaves the old one or the new one.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::super::Failure;

/// A path with something after its name: `a.csv` and `.errors` give `a.csv.errors`.
pub(super) fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(ending);
    PathBuf::from(name)
}

/// Writes a checkpoint, and returns when it is on disk.
pub(super) fn save<T: Serialize>(path: &Path, checkpoint: &T) -> Result<(), Failure> {
    let text = serde_json::to_vec(checkpoint)
        .map_err(|error| Failure::file("write", path)(std::io::Error::other(error)))?;
    let draft = beside(path, ".new");
    let write = || {
        let mut file = File::create(&draft)?;
        file.write_all(&text)?;
        file.sync_data()?;
        fs::rename(&draft, path)
    };
    write().map_err(Failure::file("write", path))
}

/// Reads a checkpoint; nothing if there is none.
pub(super) fn load<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, Failure> {
    match fs::read(path) {
        Ok(text) => serde_json::from_slice(&text).map(Some).map_err(|error| {
            Failure::usage(format!(
                "{} is not a checkpoint ({error}): delete it to begin anew",
                path.display()
            ))
        }),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Failure::file("read", path)(error)),
    }
}

/// Deletes a checkpoint, if there is one.
pub(super) fn remove(path: &Path) -> Result<(), Failure> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(Failure::file("delete", path)(error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}
