//! What the fuzzer runs of this room. Each function takes any bytes, and panics only if something is wrong.

use std::fmt::Debug;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::model::{Remembered, Timestamp};

use super::form::{
    LifeForm, MarksForm, NameForm, PartitionForm, SweepForm, open, open_row, seal, seal_row, sealed,
};
use super::{Space, keys};

const KEY: &[u8] = b"\0\0\xca\xfe12345678key\0\x01sub";

/// A stored record: the first byte says of which kind; the rest are its contents behind a good checksum, and, once more, the
/// record as a whole.
pub fn records(bytes: &[u8]) {
    let Some((kind, contents)) = bytes.split_first() else {
        return;
    };
    match kind % 10 {
        0 => row(contents),
        1 => again::<NameForm>(Space::Log, contents),
        2 => again::<MarksForm>(Space::Meta, contents),
        3 => again::<PartitionForm>(Space::Meta, contents),
        4 => again::<u128>(Space::Meta, contents),
        5 => again::<LifeForm>(Space::Meta, contents),
        6 => again::<Timestamp>(Space::Meta, contents),
        7 => again::<SweepForm>(Space::Meta, contents),
        8 => again::<Remembered>(Space::Meta, contents),
        _ => again::<u64>(Space::Meta, contents),
    }
}

fn row(contents: &[u8]) {
    drop(open_row(KEY, contents));
    let Ok(stored) = open_row(KEY, &sealed(Space::Rows, KEY, contents)) else {
        return;
    };
    let once = seal_row(KEY, stored.clone());
    let back = once
        .as_ref()
        .ok()
        .and_then(|value| open_row(KEY, value).ok());
    assert!(back.as_ref() == Some(&stored), "{stored:?}\n{back:?}");
}

fn again<T: DeserializeOwned + Serialize + PartialEq + Debug>(space: Space, contents: &[u8]) {
    drop(open::<T>(space, KEY, contents));
    let Ok(form) = open::<T>(space, KEY, &sealed(space, KEY, contents)) else {
        return;
    };
    let value = seal(space, KEY, &form).ok();
    let back = value.and_then(|value| open::<T>(space, KEY, &value).ok());
    assert_eq!(back, Some(form));
}

/// A stored name.
pub fn names(bytes: &[u8]) {
    if let Some(key) = keys::parse_row(bytes) {
        assert_eq!(keys::row(&key), bytes);
        // Whatever a subkey says, it is a part or none.
        if let Some(part) = key.part() {
            assert_eq!(part.subkey(), key.subkey);
        }
    }
    drop(keys::parse_expiry(bytes));
    drop(keys::parse_repeated(bytes));
    drop(keys::parse_sweep(bytes));
    let _number: Option<u64> = keys::parse_number(bytes);
    let _dot = keys::parse_dot(bytes);
    let _actor = keys::parse_actor(bytes);
    let _leaf: Option<u16> = keys::parse_leaf(bytes);
}

#[cfg(test)]
mod attacks {
    use super::*;
    use crate::hostile::Hostile;

    /// The golden records: name, stored key, stored value.
    fn golden() -> Vec<(String, Vec<u8>, Vec<u8>)> {
        let hex = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
        let unhex = |text: &str| text.as_bytes().chunks(2).map(hex).collect();
        let lines = include_str!("../../tests/fixtures/storage-v1.txt").lines();
        lines
            .map(|line| {
                let (name, rest) = line.split_once(": ").unwrap();
                let (key, value) = rest.split_once(" = ").unwrap();
                (name.to_owned(), unhex(key), unhex(value))
            })
            .collect()
    }

    #[test]
    fn records_are_read_or_refused() {
        let kind = |name: &str| match name {
            "log entry" | "grave" => 1,
            "marks" => 2,
            "partition" => 3,
            "leaf" => 4,
            "life" => 5,
            "clock" => 6,
            "sweep" => 7,
            "remembered" => 8,
            "batch" | "expiry" | "repeated" => 9,
            _ => 0,
        };
        let seed =
            |(name, _, value): (String, Vec<u8>, Vec<u8>)| [&[kind(&name)], &value[9..]].concat();
        Hostile {
            name: "records",
            is_same: true,
            target: records,
            seeds: golden().into_iter().map(seed).collect(),
            memory: (8 << 20, 300),
        }
        .run();
    }

    #[test]
    fn names_are_read_or_refused() {
        Hostile {
            name: "names",
            is_same: true,
            target: names,
            seeds: golden().into_iter().map(|(_, key, _)| key).collect(),
            memory: (8 << 10, 10),
        }
        .run();
    }
}
