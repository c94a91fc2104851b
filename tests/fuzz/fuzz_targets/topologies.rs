//! Topology files.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| sterna::placement::fuzzing::topologies(bytes));
