//! Bytes of any kind never make a type of this room panic, neither when they are read nor when what they spell
//! is used.

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::super::{
    Condition, Context, Denial, Gate, LogItem, Part, Position, Row, RowKey, Selection, Session,
    Share, Siblings, Summary, Version, Wall, Wanted, Write, WriteOp, counter_value,
};
use super::{actor, stamp};

/// What is understood can be said again, and is then the same.
fn check<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(bytes: &[u8]) -> Option<T> {
    let value: T = postcard::from_bytes(bytes).ok()?;
    let again = postcard::to_stdvec(&value).unwrap();
    assert_eq!(postcard::from_bytes::<T>(&again).unwrap(), value);
    Some(value)
}

fn use_row(row: &Row, other: &Row) {
    let context = Context::from_iter(other.dots());
    let mut merged = row.clone();
    merged.merge(other);
    merged.absorb(row, |dot| context.covers(dot));
    drop(row.unknown(|dot| context.covers(dot)));
    merged.clear(&context);
    merged.compact(&context);
    merged.expire(row.next_expiry().unwrap_or(Wall(5)));
    assert!(merged.summary().dots().count() < 1000 && merged.size() < 1 << 20);
    let _ = (merged.is_cleared_by(&context), merged.is_tombstone());
    if let (Row::Share(share), Row::Once(once)) = (row, other) {
        let shares: BTreeMap<_, &Share> = once.applied.keys().map(|d| (d.actor, share)).collect();
        counter_value(&shares, [once].into_iter());
    }
}

/// Small numbers, so that lengths, variants and dots often fit.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(prop_oneof![4 => 0u8..4, 1 => any::<u8>()], 0..120)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2048, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn bytes_are_no_harm(bytes in bytes()) {
        check::<Context>(&bytes);
        check::<Position>(&bytes);
        check::<Siblings>(&bytes);
        check::<Version>(&bytes);
        check::<Summary>(&bytes);
        check::<RowKey>(&bytes);
        check::<LogItem>(&bytes);
        check::<Write>(&bytes);
        check::<WriteOp>(&bytes);
        check::<Condition>(&bytes);
        check::<Denial>(&bytes);
        check::<Selection>(&bytes);
        check::<Wanted>(&bytes);
        check::<Gate>(&bytes);
        check::<Session>(&bytes);
        drop(Part::of(&Bytes::from(bytes)));
    }

    #[test]
    fn rows_of_any_bytes_can_be_used(kind in 0u8..8, first in bytes(), second in bytes()) {
        let read = |bytes: &[u8]| check::<Row>(&[&[kind], bytes].concat());
        let rows: Vec<Row> = [read(&first), read(&second)].into_iter().flatten().collect();
        for row in &rows {
            for other in &rows {
                use_row(row, other);
            }
        }
    }

    #[test]
    fn sessions_of_any_bytes_can_be_joined(first in bytes(), second in bytes()) {
        if let (Some(mut a), Some(b)) = (check::<Session>(&first), check::<Session>(&second)) {
            a.join(&b);
            let _ = (a.latest(), a.size());
        }
    }
}

#[test]
fn a_number_at_its_end_is_no_harm() {
    let mut row = Siblings::default();
    let end = stamp(u64::MAX, actor(0), u64::MAX);
    row.put(super::version(end), &Context::default());
    row.remove(end, &row.context());
    assert!(row.versions().is_empty());
}
