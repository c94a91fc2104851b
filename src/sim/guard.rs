//! Panics under simulation: each names its seed, and is caught where the build lets it be.

use std::cell::Cell;
use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};

thread_local! {
    static SEED: Cell<Option<u64>> = const { Cell::new(None) };
}

/// From now on whatever panics in a simulation says in which seed, before it says what. A program that ends at a
/// panic would not tell otherwise.
pub fn name_seeds_in_panics() {
    let before = take_hook();
    set_hook(Box::new(move |panic| {
        if let Some(seed) = SEED.get() {
            let words =
                format!("seed {seed} panics; replay with `sterna sim --seed {seed} --trace`\n");
            // Nobody is left to be told that this could not be written.
            drop(std::io::stderr().write_all(words.as_bytes()));
        }
        before(panic);
    }));
}

/// Runs a seed.
///
/// # Errors
/// It panicked, with these words.
pub(crate) fn named<T>(seed: u64, run: impl FnOnce() -> T) -> Result<T, String> {
    SEED.set(Some(seed));
    // Nothing of what a panic leaves behind is looked at.
    let result = catch_unwind(AssertUnwindSafe(run));
    SEED.set(None);
    result.map_err(|panic| {
        let words = panic.downcast_ref::<String>().cloned();
        let words = words.or_else(|| {
            panic
                .downcast_ref::<&str>()
                .map(|words| (*words).to_owned())
        });
        words.unwrap_or_else(|| "a panic without words".to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_caught() {
        assert_eq!(named(1, || 5), Ok(5));
        assert_eq!(
            named(1, || -> u8 { panic!("so {}", 2) }),
            Err("so 2".to_owned())
        );
    }
}
