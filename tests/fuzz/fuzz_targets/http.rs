//! What a client sends on one connection, through the whole HTTP door.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| sterna::server::fuzzing::http(bytes));
