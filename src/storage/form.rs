//! The stored forms of values: a version byte, a checksum over space, key and payload, and the payload in postcard.
//!
//! The key is part of the checksum, so that a record that is found in another's place is not believed.
//! Golden files in `tests/fixtures` hold the bytes.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use xxhash_rust::xxh3::Xxh3;

use crate::model::{
    Actor, Dot, Incarnation, KeyspaceId, NodeId, PartitionId, Row, RowKey, Timestamp, Token,
};

use super::{Error, Space};

const VERSION: u8 = 1;
const HEAD: usize = 9;

/// What the node knows of itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct LifeForm {
    /// Whose disk this is.
    pub(super) node: u32,
    /// The present incarnation.
    pub(super) incarnation: u64,
    /// Partitions of every keyspace, by which rows were counted into leaves.
    pub(super) partition_count: u16,
}

/// An actor's marks in a partition.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(super) struct MarksForm {
    pub(super) applied: u64,
    pub(super) complete: u64,
    pub(super) trimmed: u64,
    pub(super) swept: u64,
    pub(super) bytes: u64,
}

/// A partition's own record.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct PartitionForm {
    pub(super) is_serving: bool,
    pub(super) has_served: bool,
    /// Nodes, and up to which incarnation they are retired.
    pub(super) retired: BTreeMap<NodeId, Incarnation>,
}

/// A sweep that is not done: the part of the collection that was looked at last.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct SweepForm {
    pub(super) after: Bytes,
}

/// A row's name, where the partition is known.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct NameForm {
    key: Bytes,
    subkey: Bytes,
}

impl NameForm {
    pub(super) fn of(key: &RowKey) -> Self {
        Self {
            key: key.key.clone(),
            subkey: key.subkey.clone(),
        }
    }

    /// The row of a partition, of `count`.
    pub(super) fn into_key(self, partition: PartitionId, count: u16) -> RowKey {
        if self.key.is_empty() {
            return RowKey {
                subkey: self.subkey,
                ..RowKey::of_expiry(partition, count)
            };
        }
        let keyspace: KeyspaceId = partition.keyspace;
        RowKey {
            keyspace,
            token: Token::of(&self.key),
            key: self.key,
            subkey: self.subkey,
        }
    }
}

/// A row and the live log entries that name it, at most one for each actor. Only the row is ever sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct StoredRow {
    /// The state.
    pub(super) row: Row,
    /// The entries.
    pub(super) entries: Vec<(Actor, u64)>,
}

#[derive(Serialize, Deserialize)]
enum EntriesForm {
    /// One entry: the one whose dot the version carries.
    Own,
    List(Vec<(Actor, u64)>),
}

#[derive(Serialize, Deserialize)]
struct RowForm {
    row: Row,
    entries: EntriesForm,
}

fn own(row: &Row) -> Vec<(Actor, u64)> {
    let Dot { actor, n } = row.stamp().dot;
    vec![(actor, n)]
}

/// Seals a stored row.
pub(super) fn seal_row(key: &[u8], stored: StoredRow) -> Result<Bytes, Error> {
    let entries = if stored.entries == own(&stored.row) {
        EntriesForm::Own
    } else {
        EntriesForm::List(stored.entries)
    };
    let form = RowForm {
        row: stored.row,
        entries,
    };
    seal(Space::Rows, key, &form)
}

/// Opens a stored row.
pub(super) fn open_row(key: &[u8], value: &[u8]) -> Result<StoredRow, Error> {
    let form: RowForm = open(Space::Rows, key, value)?;
    let entries = match form.entries {
        EntriesForm::Own => own(&form.row),
        EntriesForm::List(list) => list,
    };
    Ok(StoredRow {
        row: form.row,
        entries,
    })
}

/// Opens a stored row and its name.
pub(super) fn open_named_row(key: &[u8], value: &[u8]) -> Result<(RowKey, StoredRow), Error> {
    let stored = open_row(key, value)?;
    let key = super::keys::parse_row(key).ok_or(Error::Corrupt {
        what: "the name of a row is damaged",
    })?;
    Ok((key, stored))
}

/// Seals a timestamp.
pub(super) fn seal_clock(bound: Timestamp) -> Result<Bytes, Error> {
    seal(Space::Meta, super::keys::CLOCK, &bound)
}

/// Seals a value under its key.
pub(super) fn seal<T: Serialize>(space: Space, key: &[u8], value: &T) -> Result<Bytes, Error> {
    let mut out = Vec::with_capacity(128);
    out.extend_from_slice(&[0; HEAD]);
    let mut out = postcard::to_extend(value, out).map_err(|_error| Error::Corrupt {
        what: "a record cannot be encoded",
    })?;
    let checksum = out
        .get(HEAD..)
        .map_or(0, |payload| checksum(space, key, payload));
    if let Some(head) = out.first_chunk_mut::<HEAD>() {
        let [version, sum @ ..] = head;
        *version = VERSION;
        *sum = checksum.to_be_bytes();
    }
    Ok(Bytes::from(out))
}

/// Opens the value of a key.
pub(super) fn open<T: DeserializeOwned>(
    space: Space,
    key: &[u8],
    value: &[u8],
) -> Result<T, Error> {
    match postcard::take_from_bytes(check(space, key, value)?) {
        Ok((value, [])) => Ok(value),
        Ok(_) | Err(_) => Err(Error::Corrupt {
            what: "a record cannot be decoded",
        }),
    }
}

/// Checks the value of a key against its checksum; gives the payload.
pub(super) fn check<'a>(space: Space, key: &[u8], value: &'a [u8]) -> Result<&'a [u8], Error> {
    let corrupt = |what| Error::Corrupt { what };
    let (head, payload) = value
        .split_first_chunk::<HEAD>()
        .ok_or(corrupt("a record is too short"))?;
    let [version, sum @ ..] = *head;
    if version != VERSION {
        return Err(corrupt("a record has an unknown version"));
    }
    if u64::from_be_bytes(sum) != checksum(space, key, payload) {
        return Err(corrupt("a record fails its checksum"));
    }
    Ok(payload)
}

fn checksum(space: Space, key: &[u8], payload: &[u8]) -> u64 {
    let mut hasher = Xxh3::with_seed(u64::from(space.tag()));
    hasher.update(&u64::try_from(key.len()).unwrap_or(u64::MAX).to_be_bytes());
    hasher.update(key);
    hasher.update(payload);
    hasher.digest()
}
