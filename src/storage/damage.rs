//! What an error says of the data folder, the mark that is left in it for the next start, and setting a damaged store
//! aside. It does not know peers: whether others hold the data it is told.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use super::Error;

/// The mark, in the data folder.
const MARK: &str = "damage";
/// There while a store is being opened: how many starts have died of it, this one counted.
const OPENING: &str = "opening";
/// The store, in the data folder.
pub(super) const STORE: &str = "store";
/// Damaged stores that are kept for a look, beside the present one.
pub(super) const KEPT_MAX: usize = 3;

/// What an error says of the data.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fate {
    /// Some of it is wrong or gone.
    Damaged,
    /// It may be: all of it must be read before it is believed again.
    Suspect,
    /// Nothing: the machine, its settings or the operator are to be asked.
    Sound,
}

impl Error {
    /// Whether it says that some of the stored data is wrong or gone.
    pub fn is_damage(&self) -> bool {
        self.fate() == Fate::Damaged
    }

    /// What this error says of the data.
    pub(super) fn fate(&self) -> Fate {
        match self {
            Self::Corrupt { .. } | Self::Lost { .. } | Self::Panicked { .. } => Fate::Damaged,
            Self::Engine { deed, cause } => engine_fate(deed, cause),
            Self::Foreign { .. }
            | Self::InUse
            | Self::File { .. }
            | Self::Thread(_)
            | Self::Stopped
            | Self::Hangs { .. }
            | Self::Damaged { .. } => Fate::Sound,
        }
    }
}

/// The deed whose failure means that the disk did not keep what it was given.
pub(super) const COMMIT: &str = "commit to the database";

fn engine_fate(deed: &str, cause: &fjall::Error) -> Fate {
    if let Some(cause) = system_error(cause) {
        return io_fate(deed, cause);
    }
    match cause {
        fjall::Error::Storage(_)
        | fjall::Error::JournalRecovery(_)
        | fjall::Error::InvalidVersion(_)
        | fjall::Error::Decompress(_)
        | fjall::Error::InvalidTrailer
        | fjall::Error::InvalidTag(_)
        | fjall::Error::Unrecoverable => Fate::Damaged,
        fjall::Error::Locked => Fate::Sound,
        // An earlier failure of a flush or a compaction, which is not told: a full disk, or a block that is bad. And
        // what later engines may say.
        fjall::Error::Io(_) | fjall::Error::Poisoned | fjall::Error::KeyspaceDeleted | _ => {
            Fate::Suspect
        }
    }
}

/// The system's error behind the engine's, if it is one.
fn system_error(cause: &fjall::Error) -> Option<&io::Error> {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(cause);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<io::Error>() {
            return Some(found);
        }
        next = error.source();
    }
    None
}

fn io_fate(deed: &str, cause: &io::Error) -> Fate {
    let is_damage = [
        ErrorKind::NotFound,
        ErrorKind::UnexpectedEof,
        ErrorKind::InvalidData,
        ErrorKind::InvalidInput,
        ErrorKind::AlreadyExists,
        ErrorKind::IsADirectory,
        ErrorKind::NotADirectory,
    ]
    .contains(&cause.kind());
    if is_damage {
        return Fate::Damaged;
    }
    // After a failed sync the kernel may call pages clean that are not on the disk, and show them until the power goes.
    if deed == COMMIT && cause.raw_os_error() == Some(EIO) {
        return Fate::Damaged;
    }
    Fate::Sound
}

/// The system's number of an input or output error.
const EIO: i32 = 5;

/// What the mark says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Mark {
    /// Damaged or suspect.
    pub(super) fate: Fate,
    /// What was found, in words.
    pub(super) words: String,
}

/// Leaves a mark for the next start; keeps the first one that says damaged. It never fails: a disk that takes no
/// mark is met again by the next start.
pub(super) fn mark(data: &Path, fate: Fate, words: &str) {
    let first = match fate {
        Fate::Damaged => "damaged",
        Fate::Suspect => "suspect",
        Fate::Sound => return,
    };
    if read_mark(data).is_some_and(|mark| mark.fate == Fate::Damaged) {
        return;
    }
    let write = || -> io::Result<()> {
        let mut file = File::create(data.join(MARK))?;
        writeln!(file, "{first}\n{words}")?;
        file.sync_all()?;
        File::open(data)?.sync_all()
    };
    if let Err(error) = write() {
        tracing::error!(%error, "the damage cannot be noted in the data folder");
    }
}

/// The mark of an earlier life. One that cannot be read is as good as none.
pub(super) fn read_mark(data: &Path) -> Option<Mark> {
    let text = fs::read_to_string(data.join(MARK)).ok()?;
    let (first, words) = text.split_once('\n')?;
    let fate = match first {
        "damaged" => Fate::Damaged,
        "suspect" => Fate::Suspect,
        _ => return None,
    };
    let words = words.trim_end().to_owned();
    Some(Mark { fate, words })
}

/// Notes that a store is about to be opened, and says how many starts before this one died of it: a length that is wrong may
/// ask for more memory than there is, which ends the process and leaves no mark.
pub(super) fn begin_opening(data: &Path) -> u32 {
    let path = data.join(OPENING);
    let before = fs::read_to_string(&path).ok();
    let before = before.and_then(|text| text.trim().parse::<u32>().ok());
    let before = before.unwrap_or(0);
    if let Err(error) = fs::write(&path, before.saturating_add(1).to_string()) {
        tracing::debug!(%error, "that the store is being opened cannot be noted");
    }
    before
}

/// The store was opened, or refused.
pub(super) fn end_opening(data: &Path) {
    if let Err(error) = fs::remove_file(data.join(OPENING)) {
        tracing::debug!(%error, "nothing says that the store is being opened");
    }
}

/// Takes the mark away: what it speaks of is set aside, or was looked at.
pub(super) fn remove_mark(data: &Path) -> Result<(), Error> {
    let path = data.join(MARK);
    match fs::remove_file(&path) {
        Err(cause) if cause.kind() != ErrorKind::NotFound => Err(Error::File {
            deed: "remove the mark of damage",
            path,
            cause,
        }),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Damaged stores that were set aside before.
pub(super) fn kept(data: &Path) -> Vec<PathBuf> {
    let path = |n: usize| data.join(format!("{STORE}.damaged-{n}"));
    (1..100).map(path).filter(|path| path.exists()).collect()
}

/// Moves the damaged store aside, so that an empty one can be begun. What the tail says stays, so that the next
/// life is later than the last.
pub(super) fn set_aside(data: &Path, words: &str) -> Result<PathBuf, Error> {
    let kept = kept(data);
    if kept.len() >= KEPT_MAX {
        let names: Vec<String> = kept.iter().map(|path| path.display().to_string()).collect();
        return Err(Error::Damaged {
            words: words.to_owned(),
            advice: format!(
                "{} damaged stores were set aside before, so check the disk and the memory of this machine. When they \
                 are sound, remove those that nobody needs any more ({}), and start again",
                kept.len(),
                names.join(", ")
            ),
        });
    }
    let is_free = |path: &PathBuf| !kept.contains(path);
    let path = |n: usize| data.join(format!("{STORE}.damaged-{n}"));
    let Some(aside) = (1..100).map(path).find(is_free) else {
        return Err(Error::Stopped);
    };
    let store = data.join(STORE);
    let moved = match fs::rename(&store, &aside) {
        Err(cause) if cause.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    };
    moved.map_err(|cause| Error::File {
        deed: "set aside the damaged store",
        path: store,
        cause,
    })?;
    remove_mark(data)?;
    Ok(aside)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn engine(deed: &'static str, cause: fjall::Error) -> Fate {
        Error::Engine { deed, cause }.fate()
    }

    #[test]
    fn a_full_or_refused_disk_is_no_damage_and_a_bad_one_is() {
        let io = |number| fjall::Error::Io(io::Error::from_raw_os_error(number));
        // No space, no permission, read-only, quota, too many files.
        for number in [28, 13, 30, 122, 24] {
            assert_eq!(engine(COMMIT, io(number)), Fate::Sound, "{number}");
        }
        assert_eq!(engine(COMMIT, io(EIO)), Fate::Damaged);
        assert_eq!(engine("open the database", io(EIO)), Fate::Sound);
        assert_eq!(engine("open the database", io(2)), Fate::Damaged);
        assert_eq!(engine(COMMIT, fjall::Error::Poisoned), Fate::Suspect);
        assert_eq!(
            engine("open the database", fjall::Error::Locked),
            Fate::Sound
        );
    }

    #[test]
    fn a_mark_is_read_again_and_what_is_damaged_stays_so() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path();
        assert_eq!(read_mark(data), None);
        mark(data, Fate::Sound, "nothing");
        assert_eq!(read_mark(data), None);
        mark(data, Fate::Suspect, "a flush failed");
        assert_eq!(read_mark(data).unwrap().fate, Fate::Suspect);
        mark(data, Fate::Damaged, "a row is bad");
        mark(data, Fate::Suspect, "later");
        let found = read_mark(data).unwrap();
        assert_eq!(
            (found.fate, found.words.as_str()),
            (Fate::Damaged, "a row is bad")
        );
        remove_mark(data).unwrap();
        remove_mark(data).unwrap();
        assert_eq!(read_mark(data), None);
    }

    #[test]
    fn only_a_few_damaged_stores_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path();
        for n in 1..=KEPT_MAX {
            fs::create_dir(data.join(STORE)).unwrap();
            let aside = set_aside(data, "a row is bad").unwrap();
            assert_eq!(aside, data.join(format!("store.damaged-{n}")));
        }
        fs::create_dir(data.join(STORE)).unwrap();
        let error = set_aside(data, "a row is bad").unwrap_err().to_string();
        assert!(error.contains("a row is bad"), "{error}");
        assert!(error.contains("store.damaged-2"), "{error}");
        fs::remove_dir(data.join("store.damaged-2")).unwrap();
        assert_eq!(set_aside(data, "").unwrap(), data.join("store.damaged-2"));
    }
}
