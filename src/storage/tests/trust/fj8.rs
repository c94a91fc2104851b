//! FJ8: a process that is killed while it writes, opened and killed again, many times: it always opens, goes on writing,
//! and no death is taken for damage.

use super::{factor, folder};
use crate::storage::recover::{self, Refill};
use crate::storage::tests::crash::kill_after;

#[test]
fn a_store_that_is_killed_again_and_again_goes_on() {
    let folder = folder();
    let mut chance = super::chance();
    for round in 0..6 * factor() {
        kill_after(folder.path(), chance.usize(1..400));
        let opened = recover::open(folder.path(), &super::options(1), Refill::Nobody);
        let (door, opened) = opened.unwrap_or_else(|error| panic!("round {round}: {error}"));
        assert!(!opened.was_clean && !opened.is_new);
        door.reader().verify().unwrap();
    }
}
