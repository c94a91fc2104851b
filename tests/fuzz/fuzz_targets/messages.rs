//! Messages between nodes.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| sterna::protocol::fuzzing::messages(bytes));
