//! The forms of a history's lines, as JSON has them. They are a promise to checkers of others: `docs/history.md` says
//! what they mean.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// One line.
#[derive(Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Line {
    /// The first.
    History(Head),
    /// A client asks.
    Invoke(Box<Invoke>),
    /// It is answered: OK.
    Ok(Done),
    /// FAILED: it never happened.
    Fail(Failed),
    /// UNKNOWN.
    Unknown(Unknown),
    /// From now on all replicas hold the same.
    Rest(Rest),
}

/// What goes for all lines.
#[derive(Serialize, Deserialize)]
pub(super) struct Head {
    pub(super) version: u32,
    pub(super) slack: u64,
}

/// What a client asks.
#[derive(Serialize, Deserialize)]
pub(super) struct Invoke {
    pub(super) op: u64,
    pub(super) process: usize,
    pub(super) time: u64,
    pub(super) region: String,
    pub(super) node: String,
    pub(super) keyspace: String,
    pub(super) key: Name,
    pub(super) level: String,
    pub(super) action: Deed,
    #[serde(default, skip_serializing_if = "is_false")]
    pub(super) session: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) expires: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) fresh_as_of: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) condition: Option<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn is_false(value: &bool) -> bool {
    !value
}

/// An answer.
#[derive(Serialize, Deserialize)]
pub(super) struct Done {
    pub(super) op: u64,
    pub(super) process: usize,
    pub(super) time: u64,
    pub(super) result: Answer,
    #[serde(default, skip_serializing_if = "is_false")]
    pub(super) crossed: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    pub(super) here: bool,
}

/// A refusal.
#[derive(Serialize, Deserialize)]
pub(super) struct Failed {
    pub(super) op: u64,
    pub(super) process: usize,
    pub(super) time: u64,
    #[serde(default, skip_serializing_if = "is_false")]
    pub(super) not_yet: bool,
}

/// Nobody knows.
#[derive(Serialize, Deserialize)]
pub(super) struct Unknown {
    pub(super) op: u64,
    pub(super) process: usize,
    pub(super) time: u64,
}

/// The end of changes.
#[derive(Serialize, Deserialize)]
pub(super) struct Rest {
    pub(super) time: u64,
}

/// Bytes: text if they are UTF-8.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum Name {
    Text(String),
    Bytes { b64: String },
}

impl Name {
    pub(super) fn of(bytes: &Bytes) -> Self {
        match str::from_utf8(bytes) {
            Ok(text) => Self::Text(text.to_owned()),
            Err(_) => Self::Bytes {
                b64: STANDARD.encode(bytes),
            },
        }
    }

    pub(super) fn bytes(self) -> Result<Bytes, String> {
        match self {
            Self::Text(text) => Ok(text.into()),
            Self::Bytes { b64 } => {
                let bytes = STANDARD.decode(b64);
                bytes.map(Bytes::from).map_err(|error| error.to_string())
            }
        }
    }
}

/// A set or a map.
#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    Set,
    Map,
}

/// What an operation does. Values are told by their tokens.
#[derive(Serialize, Deserialize)]
#[serde(tag = "f", rename_all = "snake_case")]
pub(super) enum Deed {
    Get,
    Put {
        value: u64,
    },
    Delete,
    PutSibling {
        value: u64,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        seen: Option<u64>,
    },
    DeleteSiblings {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        seen: Option<u64>,
    },
    Count {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        field: Option<u8>,
    },
    Add {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        field: Option<u8>,
        delta: i64,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        id: Option<u64>,
    },
    Reset {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        field: Option<u8>,
    },
    List {
        of: Kind,
    },
    Members {
        add: Vec<u8>,
        remove: Vec<u8>,
    },
    Fields {
        put: Vec<(u8, u64)>,
        add: Vec<(u8, i64)>,
        remove: Vec<u8>,
    },
    Clear {
        of: Kind,
    },
}

/// A version of a register.
#[derive(Serialize, Deserialize)]
pub(super) struct Stamp {
    /// `micros.logical`.
    pub(super) timestamp: String,
    /// 16 hex digits.
    pub(super) state: String,
    #[serde(default, skip_serializing_if = "is_false")]
    pub(super) tombstone: bool,
    /// Node, incarnation, number: where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) dot: Option<(u32, u64, u64)>,
}

/// What a field shows.
#[derive(Serialize, Deserialize)]
pub(super) struct Field {
    pub(super) field: u8,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) value: Option<u64>,
    /// As text: it may be beyond 64 bits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) count: Option<String>,
}

/// What was answered.
#[derive(Serialize, Deserialize)]
#[serde(tag = "f", rename_all = "snake_case")]
pub(super) enum Answer {
    Done,
    Written(Stamp),
    Nothing,
    Read {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        value: Option<u64>,
        #[serde(flatten)]
        stamp: Stamp,
    },
    Siblings {
        values: Vec<u64>,
    },
    Counted {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        count: Option<String>,
    },
    Members {
        members: Vec<u8>,
    },
    Fields {
        fields: Vec<Field>,
    },
}
