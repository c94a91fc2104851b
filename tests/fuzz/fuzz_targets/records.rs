//! Stored rows, log entries and meta records.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| sterna::storage::fuzzing::records(bytes));
