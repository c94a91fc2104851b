//! Heads of HTTP requests: paths, queries and headers.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| sterna::server::fuzzing::heads(bytes));
