//! Certificates of peers, and PEM files.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| sterna::net::fuzzing::certificates(bytes));
