//! Cursors of pages.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| sterna::server::fuzzing::cursors(bytes));
