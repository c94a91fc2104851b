//! The forms of siblings, collections and conflicts, as the client reads and writes them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use super::wire::{Blob, Found, Stamp};

/// What to answer where several values stand.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Several {
    /// All of them.
    All,
    /// The last written.
    Winner,
}

/// What stands under a key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Read {
    /// One value.
    One(Found),
    /// Values that were written at once.
    Several(Vec<Sibling>, Stamp),
    /// None; there may have been one.
    Absent(Stamp),
}

/// One of several values.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Sibling {
    /// The value; nodes send it in base64.
    #[serde(deserialize_with = "from_base64")]
    pub value: Blob,
    /// The region that it came from.
    #[serde(default)]
    pub region: String,
    /// `micros.logical`.
    #[serde(default)]
    pub timestamp: String,
    /// From when on it is gone, as RFC 3339 has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<String>,
}

fn from_base64<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Blob, D::Error> {
    let text = String::deserialize(deserializer)?;
    let bytes = STANDARD.decode(text).map_err(D::Error::custom)?;
    Ok(Blob(bytes.into()))
}

#[derive(Deserialize)]
pub(super) struct Value {
    pub(super) value: i128,
}

#[derive(Deserialize)]
pub(super) struct IsMember {
    pub(super) is_member: bool,
}

#[derive(Deserialize)]
pub(super) struct Size {
    pub(super) size: u64,
}

#[derive(Deserialize)]
pub(super) struct Reached {}

#[derive(Deserialize)]
pub(super) struct SiblingsBody {
    pub(super) siblings: Vec<Sibling>,
}

/// An answer and the session's new token.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Told<T> {
    /// The answer.
    pub answer: T,
    /// What was seen, to be given back with the next request.
    pub session: Option<String>,
}

impl<T> Told<T> {
    pub(super) fn map<U>(self, form: impl FnOnce(T) -> U) -> Told<U> {
        Told {
            answer: form(self.answer),
            session: self.session,
        }
    }
}

/// What to change in a set; what is in both lists is added.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Members {
    /// Members to add.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub add: Vec<Blob>,
    /// Members to remove, as far as they were observed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub remove: Vec<Blob>,
}

/// A page of a set.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
pub struct MemberPage {
    /// The members, in order.
    pub members: Vec<Blob>,
    /// Where to go on, if there is more.
    pub next: Option<String>,
}

/// What to change in a map.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Fields {
    /// Registers to set.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub put: Vec<(Blob, Blob)>,
    /// Counters to add to.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub add: Vec<(Blob, i64)>,
    /// Fields to remove, as far as they were observed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub remove: Vec<Blob>,
}

/// What stands under a field of a map; both, if the name stands for a register and a counter.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FieldEntry {
    /// The field.
    pub field: Blob,
    /// Its register.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Blob>,
    /// Its counter: a sum of shares of 64 bits each.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counter: Option<i128>,
}

/// A page of a map.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
pub struct FieldPage {
    /// The fields: counters, and then registers, each in order.
    pub fields: Vec<FieldEntry>,
    /// Where to go on, if there is more.
    pub next: Option<String>,
}

/// A version that lost to one written at the same time.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ConflictEntry {
    /// The key.
    pub key: Blob,
    /// The value that lost; nothing if it was a delete.
    pub value: Option<Blob>,
    /// The region that wrote it.
    pub region: String,
    /// When, `micros.logical`.
    pub timestamp: String,
    /// The region that won.
    pub winner_region: String,
    /// When, `micros.logical`.
    pub winner_timestamp: String,
    /// Until when it is kept, as RFC 3339 has it.
    #[serde(default)]
    pub expires: Option<String>,
}

/// A page of conflicts.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
pub struct ConflictPage {
    /// The versions that lost, in token order of their keys.
    pub conflicts: Vec<ConflictEntry>,
    /// Where to go on, if there is more.
    pub next: Option<String>,
}
