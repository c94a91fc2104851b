//! Golden bytes of what nodes say to each other. A test that fails here means: nodes of this version and of the
//! one before would not understand each other. Give the new form a new version byte. `UPDATE=1` writes the file.
#![cfg(test)]

#[path = "messages/samples.rs"]
mod samples;
#[path = "messages/words.rs"]
mod words;

use std::path::PathBuf;

use proptest::prelude::*;
use samples::samples;
use sterna::coding::{decode, encode};
use sterna::protocol::Message;

/// The version byte of messages.
const VERSION: u8 = 1;
/// Variants of [`Message`].
const VARIANTS: u8 = 25;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    text.as_bytes().chunks(2).map(byte).collect()
}

#[test]
fn sent_bytes_never_change() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/messages-v1.txt");
    let present: String = samples()
        .iter()
        .map(|(name, message)| format!("{name}: {}\n", hex(&encode(VERSION, message).unwrap())))
        .collect();
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &present).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap();
    assert_eq!(present, golden, "messages have another form than before");
    for ((name, message), line) in samples().iter().zip(golden.lines()) {
        let (_, bytes) = line.split_once(": ").unwrap();
        let read: Message = decode(VERSION, &unhex(bytes)).unwrap();
        assert_eq!(read, *message, "{name}");
    }
}

#[test]
fn every_kind_of_message_is_among_the_samples() {
    // The first byte after the version tells the kind.
    let mut kinds: Vec<u8> = samples()
        .iter()
        .map(|(_, message)| encode(VERSION, message).unwrap()[1])
        .collect();
    kinds.sort_unstable();
    kinds.dedup();
    assert_eq!(kinds, (0..VARIANTS).collect::<Vec<u8>>());
    // The kind after the last is none, so there is no variant without a sample.
    let beyond = decode::<Message>(VERSION, &[VERSION, VARIANTS, 0, 0, 0, 0, 0, 0, 0, 0]);
    let words = beyond.unwrap_err().to_string();
    let known = decode::<Message>(VERSION, &[VERSION, 0])
        .unwrap_err()
        .to_string();
    assert_ne!(words, known, "kind {VARIANTS} is one: give it a sample");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes_are_no_harm(kind in 0..VARIANTS, bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        drop(decode::<Message>(VERSION, &bytes));
        let begun = [&[VERSION, kind], bytes.as_slice()].concat();
        drop(decode::<Message>(VERSION, &begun));
    }

    #[test]
    fn changed_bytes_are_no_harm(
        pick in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let samples = samples();
        let mut bytes = encode(VERSION, &pick.get(&samples).1).unwrap();
        for (place, byte) in changes {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        // Whatever is understood can be said again, and is then the same.
        if let Ok(message) = decode::<Message>(VERSION, &bytes) {
            let again = encode(VERSION, &message).unwrap();
            prop_assert_eq!(decode::<Message>(VERSION, &again).unwrap(), message);
        }
        bytes.truncate(cut.index(bytes.len()));
        drop(decode::<Message>(VERSION, &bytes));
    }
}
