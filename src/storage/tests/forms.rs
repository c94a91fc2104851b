//! Golden bytes of what is stored. A test that fails here means: the disks of running clusters would not be
//! understood. Give the new form a new version byte.

use std::fs;
use std::path::Path;

use bytes::Bytes;
use proptest::prelude::*;

use crate::model::{
    Actor, Clear, Conflict, Context, Dot, Expiry, Incarnation, KeyspaceId, NodeId, Once,
    PartitionId, Position, Reach, Remembered, Row, RowKey, Share, Siblings, Tally, Timestamp,
    Version, Wall,
};
use crate::storage::form::{
    self, LifeForm, MarksForm, NameForm, PartitionForm, StoredRow, SweepForm, open_row, seal,
    seal_row,
};
use crate::storage::{Error, Space, keys};

fn actor() -> Actor {
    Actor {
        node: NodeId(0x0102_0304),
        incarnation: Incarnation(0x0a0b_0c0d_0e0f),
    }
}

fn partition() -> PartitionId {
    PartitionId {
        keyspace: KeyspaceId(0xcafe),
        index: 3,
    }
}

fn key() -> RowKey {
    RowKey {
        subkey: Bytes::from("sub"),
        ..RowKey::plain(KeyspaceId(0xcafe), Bytes::from_static(b"a\0key"))
    }
}

fn row(value: Option<&'static str>) -> Row {
    Row::Register(Version {
        timestamp: Timestamp {
            micros: 1_700_000_000_000_001,
            logical: 2,
        },
        dot: Dot {
            actor: actor(),
            n: 300,
        },
        replaced: Timestamp::ZERO,
        expires: None,
        after: None,
        value: value.map(Bytes::from),
    })
}

fn stored(value: Option<&'static str>, entries: &[u64]) -> StoredRow {
    let entries = entries.iter().map(|n| (actor(), *n)).collect();
    StoredRow {
        row: row(value),
        entries,
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Every kind of record: name, stored key, stored value.
fn records() -> Vec<(&'static str, Vec<u8>, Bytes)> {
    let row_key = keys::row(&key());
    let sealed = |stored| seal_row(&row_key, stored).unwrap();
    let mut records = vec![
        (
            "row",
            row_key.clone(),
            sealed(stored(Some("value"), &[300])),
        ),
        (
            "row with older entries",
            row_key.clone(),
            sealed(stored(Some("value"), &[7])),
        ),
        ("tombstone", row_key.clone(), sealed(stored(None, &[300]))),
    ];
    let log = keys::log(partition(), actor(), 300);
    let value = seal(Space::Log, &log, &NameForm::of(&key())).unwrap();
    records.push(("log entry", log, value));
    let grave = keys::grave(partition(), actor(), 300);
    let value = seal(Space::Meta, &grave, &NameForm::of(&key())).unwrap();
    records.push(("grave", grave, value));
    let marks = keys::marks(partition(), actor());
    let form = MarksForm {
        applied: 300,
        complete: 299,
        trimmed: 200,
        swept: 100,
        bytes: 70_000,
    };
    let value = seal(Space::Meta, &marks, &form).unwrap();
    records.push(("marks", marks, value));
    let own = keys::partition(partition());
    let value = seal(
        Space::Meta,
        &own,
        &PartitionForm {
            is_serving: true,
            has_served: true,
            retired: std::collections::BTreeMap::from([(NodeId(5), Incarnation(300))]),
        },
    )
    .unwrap();
    records.push(("partition", own, value));
    let leaf = keys::leaf(partition(), 4095);
    let value = seal(Space::Meta, &leaf, &(u128::MAX - 5)).unwrap();
    records.push(("leaf", leaf, value));
    let life = LifeForm {
        node: 7,
        incarnation: 8,
        partition_count: 16,
    };
    let value = seal(Space::Meta, keys::LIFE, &life).unwrap();
    records.push(("life", keys::LIFE.to_vec(), value));
    let bound = Timestamp {
        micros: 1_700_000_000_000_001,
        logical: 2,
    };
    records.push((
        "clock",
        keys::CLOCK.to_vec(),
        form::seal_clock(bound).unwrap(),
    ));
    let batch = keys::batch(513);
    let value = seal(Space::Meta, &batch, &8705u64).unwrap();
    records.push(("batch", batch, value));
    let sweep = keys::sweep(partition(), &key());
    let form = SweepForm {
        after: Bytes::from("mx"),
        again: true,
    };
    let value = seal(Space::Meta, &sweep, &form).unwrap();
    records.push(("sweep", sweep, value));
    let remembered = keys::remembered(partition(), NodeId(9));
    let told = Remembered {
        incarnation: Incarnation(8),
        position: Position {
            reaches: std::collections::BTreeMap::from([(actor(), Reach::upto(300))]),
            retired: std::collections::BTreeMap::from([(NodeId(9), Incarnation(7))]),
        },
    };
    let value = seal(Space::Meta, &remembered, &told).unwrap();
    records.push(("remembered", remembered, value));
    let expiry = keys::expiry(partition(), Wall(1_700_000_000_000_001), &key());
    let value = seal(Space::Meta, &expiry, &()).unwrap();
    records.push(("expiry", expiry, value));
    let repeated = keys::repeated(&key());
    let value = seal(Space::Meta, &repeated, &()).unwrap();
    records.push(("repeated", repeated, value));
    for (name, row) in other_rows() {
        let entries = vec![(actor(), 300)];
        let value = seal_row(&row_key, StoredRow { row, entries }).unwrap();
        records.push((name, row_key.clone(), value));
    }
    records
}

/// Rows of the other kinds.
fn other_rows() -> Vec<(&'static str, Row)> {
    let Row::Register(version) = row(Some("value")) else {
        panic!("no register");
    };
    let stamp = version.stamp();
    let other = Dot {
        actor: Actor {
            node: NodeId(9),
            ..actor()
        },
        n: 4,
    };
    let cleared: Context = [stamp.dot, other].into_iter().collect();
    let mut siblings = Siblings::default();
    siblings.put(version.clone(), &[other].into_iter().collect());
    let own = Tally {
        n: 300,
        since: 7,
        sum: -5,
    };
    let expires = Wall(1_700_000_000_000_002);
    vec![
        ("siblings", Row::Siblings(siblings)),
        (
            "share",
            Row::Share(Share {
                stamp,
                own,
                reset: Tally::default(),
            }),
        ),
        (
            "once",
            Row::Once(Once {
                stamp,
                applied: [(stamp.dot, -5)].into(),
                gone: std::collections::BTreeSet::new(),
                expires,
                is_spent: false,
            }),
        ),
        ("clear", Row::Clear(Clear { stamp, cleared })),
        (
            "cut",
            Row::Expiry(Expiry {
                stamp,
                upto: expires,
            }),
        ),
        (
            "conflict",
            Row::Conflict(Conflict {
                stamp,
                winner: stamp,
                loser: Some(version),
                expires,
            }),
        ),
    ]
}

#[test]
fn stored_bytes_never_change() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/storage-v1.txt");
    let written: String = records()
        .iter()
        .map(|(name, key, value)| format!("{name}: {} = {}\n", hex(key), hex(value)))
        .collect();
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&path, &written).unwrap();
    }
    let golden = fs::read_to_string(&path).unwrap();
    assert_eq!(written, golden);
}

#[test]
fn rows_come_back_with_their_entries() {
    let row_key = keys::row(&key());
    for stored in [
        stored(Some("value"), &[300]),
        stored(Some(""), &[]),
        stored(None, &[7]),
    ] {
        let sealed = seal_row(&row_key, stored.clone()).unwrap();
        assert_eq!(open_row(&row_key, &sealed).unwrap(), stored);
    }
}

#[test]
fn a_record_in_anothers_place_is_not_believed() {
    let row_key = keys::row(&key());
    let sealed = seal_row(&row_key, stored(Some("value"), &[300])).unwrap();
    let other = keys::row(&RowKey::plain(KeyspaceId(0xcafe), Bytes::from("b")));
    assert!(matches!(
        open_row(&other, &sealed),
        Err(Error::Corrupt { .. })
    ));
    let elsewhere: Result<NameForm, _> = form::open(Space::Log, &row_key, &sealed);
    assert!(elsewhere.is_err());
}

proptest! {
    #[test]
    fn a_flipped_bit_is_found_and_random_bytes_never_panic(
        at in 0usize..60,
        bit in 0u8..8,
        noise in proptest::collection::vec(any::<u8>(), 0..80),
    ) {
        let row_key = keys::row(&key());
        let mut sealed = seal_row(&row_key, stored(Some("value"), &[300])).unwrap().to_vec();
        let at = at % sealed.len();
        sealed[at] ^= 1 << bit;
        prop_assert!(open_row(&row_key, &sealed).is_err());
        prop_assert!(open_row(&row_key, &noise).is_err());
    }
}
