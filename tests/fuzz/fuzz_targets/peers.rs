//! What peers say to a whole node in memory.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| sterna::node::fuzzing::peers(bytes));
