//! What can go wrong in this room. All of it is *broken* in the sense of our three fates: the node stops, and
//! the operator is told what to do. Refusals are not errors: they are effects of a change.

use std::io;
use std::path::PathBuf;

/// Why the store cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Stored bytes fail their checksum, or contradict each other.
    #[error(
        "{what}: the data folder is damaged. Move it aside and start again: the node comes back as a \
         new incarnation and is refilled by its peers"
    )]
    Corrupt {
        /// What was found.
        what: &'static str,
    },
    /// Batches that were durable are not there.
    #[error(
        "{what}: the data folder has lost acknowledged changes. Move it aside and start again: the node comes \
         back as a new incarnation and is refilled by its peers"
    )]
    Lost {
        /// What was found.
        what: String,
    },
    /// The folder was written by another node, or under another number of partitions.
    #[error(
        "{what}: this data folder is not this node's. Check the configured folder and topology"
    )]
    Foreign {
        /// What was found.
        what: &'static str,
    },
    /// Another process has the folder open.
    #[error("another process has this data folder open: stop it, or use another folder (--data)")]
    InUse,
    /// The engine failed.
    #[error(
        "cannot {deed}: {cause}. If this repeats after a restart, check the disk (space, errors); if it is \
         sound, move the data folder aside: the node comes back as a new incarnation and is refilled by its peers"
    )]
    Engine {
        /// What was tried.
        deed: &'static str,
        /// The engine's word.
        cause: fjall::Error,
    },
    /// A file operation failed.
    #[error("cannot {deed} {}: {cause}", .path.display())]
    File {
        /// What was tried.
        deed: &'static str,
        /// With what.
        path: PathBuf,
        /// The system's word.
        cause: io::Error,
    },
    /// The engine panicked over what it found.
    #[error("cannot {deed}: the engine panicked over what it found: {words}")]
    Panicked {
        /// What was tried.
        deed: &'static str,
        /// The panic's words.
        words: String,
    },
    /// What was tried has not ended.
    #[error("cannot {deed}: it has not ended after {seconds} s. Check the disk")]
    Hangs {
        /// What was tried.
        deed: &'static str,
        /// For so long.
        seconds: u64,
    },
    /// The store is damaged, and is not replaced by itself.
    #[error("the store is damaged ({words}): {advice}")]
    Damaged {
        /// What was found.
        words: String,
        /// What the operator may do.
        advice: String,
    },
    /// A thread could not be started.
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
    /// An earlier change or commit failed, so that what is staged cannot be trusted.
    #[error("an earlier failure has stopped this store")]
    Stopped,
}
