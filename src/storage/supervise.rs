//! Running what may panic or hang inside the engine. In production a panic ends the process: then the panic hook leaves
//! the mark by which the next start knows what happened.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::panic;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, Once, mpsc};
use std::thread;

use crate::model::Duration;

use super::Error;
use super::damage::{Fate, mark};

/// The engine's own threads have this name.
const ENGINE_THREAD: &str = "fjall:worker";

/// Folders of the stores that are open in this process.
static OPEN: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

thread_local! {
    /// Of which folder, and in what sense, a panic of this thread speaks.
    static WATCHED: RefCell<Option<(PathBuf, Fate)>> = const { RefCell::new(None) };
}

/// A panic of this thread says from now on that something is wrong with a data folder.
pub(super) fn watch_thread(data: Option<&Path>, fate: Fate) {
    let Some(data) = data else {
        return;
    };
    install_hook();
    WATCHED.with_borrow_mut(|watched| *watched = Some((data.to_owned(), fate)));
}

/// A panic of one of the engine's own threads makes this folder suspect from now on.
pub(super) fn watch_engine(data: &Path) {
    install_hook();
    if let Ok(mut open) = OPEN.lock() {
        open.insert(data.to_owned());
    }
}

fn install_hook() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            note_panic(&info.to_string());
            before(info);
        }));
    });
}

fn note_panic(words: &str) {
    let watched = WATCHED.try_with(|watched| watched.borrow().clone());
    if let Ok(Some((data, fate))) = watched {
        return mark(&data, fate, words);
    }
    if thread::current().name() == Some(ENGINE_THREAD)
        && let Ok(open) = OPEN.try_lock()
    {
        for data in open.iter() {
            mark(data, Fate::Suspect, words);
        }
    }
}

/// Runs something on a thread of its own, where a panic is an error that speaks of damage.
///
/// # Errors
/// It failed, panicked, or did not end in time; then its thread is left behind.
pub(super) fn run<T: Send + 'static>(
    data: &Path,
    deed: &'static str,
    time_max: Duration,
    act: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let (sender, receiver) = mpsc::sync_channel(1);
    let watched = data.to_owned();
    let thread = thread::Builder::new()
        .name("sterna-open".to_owned())
        .spawn(move || {
            watch_thread(Some(&watched), Fate::Damaged);
            if sender.send(act()).is_err() {
                tracing::warn!(deed, "it ended after nobody waited any more");
            }
        })
        .map_err(Error::Thread)?;
    match receiver.recv_timeout(time_max) {
        Ok(result) => result,
        Err(mpsc::RecvTimeoutError::Timeout) => Err(Error::Hangs {
            deed,
            seconds: time_max.as_secs(),
        }),
        Err(mpsc::RecvTimeoutError::Disconnected) => {
            let words = match thread.join() {
                Ok(()) => String::new(),
                Err(panic) => panic_words(&*panic),
            };
            Err(Error::Panicked { deed, words })
        }
    }
}

fn panic_words(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_default()
}
