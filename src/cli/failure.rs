//! Why a command could not do what it was asked, and how a command that ran came out.
//!
//! It knows nothing of any command: `main` prints a [`Failure`] on the error stream and turns a
//! [`Verdict`] into the exit code.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::client;

/// How a command that ran came out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Exit code 0.
    Good,
    /// Exit code 1: the command did its work and the answer is no (not equal, errors counted, …).
    Bad,
}

impl From<Verdict> for ExitCode {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Good => Self::SUCCESS,
            Verdict::Bad => Self::from(1),
        }
    }
}

/// Why a command could not do its work. Its words go to the error stream; the exit code is 1.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The cluster could not be asked, or said no.
    #[error(transparent)]
    Client(#[from] client::Error),
    /// The key is not there.
    #[error(
        "no value `{key}` in keyspace `{keyspace}` (counters, sets and maps are read by their own commands)"
    )]
    Absent {
        /// The keyspace.
        keyspace: String,
        /// The key, as it was given.
        key: String,
    },
    /// What was asked about is not so; the words say what is.
    #[error("{0}")]
    No(String),
    /// The command line asks for something that makes no sense; the words say what to write.
    #[error("{0}")]
    Usage(String),
    /// A file could not be read or written.
    #[error("{deed} {path}: {source}")]
    File {
        /// What was tried: `open`, `read`, `write`.
        deed: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Standard output was closed or is full.
    #[error("write output: {0}")]
    Output(#[from] io::Error),
    /// The work stopped half-way; the words say how to go on.
    #[error("{0}")]
    Stopped(String),
}

impl Failure {
    /// For `map_err` on what touches a file.
    pub fn file(deed: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { deed, path, source }
    }

    /// For what makes no sense on the command line.
    pub fn usage(words: impl Into<String>) -> Self {
        Self::Usage(words.into())
    }
}
