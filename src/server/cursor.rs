//! Where a listing goes on. To clients a cursor is opaque; a forged one can at worst list other rows of
//! the same keyspace.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::model::{KeyspaceId, RowKey, Token};

use super::problem::{Code, Problem};

/// The version of the sent form below.
const VERSION: u8 = 1;

/// A place in a keyspace, in the order of a listing. Any row may stand there, also one that no listing shows.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Cursor {
    /// Which partition to go on with.
    pub(super) index: u16,
    /// After this row of it.
    pub(super) after: Option<RowKey>,
}

/// The sent form: a version byte, then postcard of this, as base64url.
#[derive(Serialize, Deserialize)]
struct CursorV1 {
    keyspace: u32,
    index: u16,
    after: Option<(Bytes, Bytes)>,
}

impl Cursor {
    /// The first row of a keyspace.
    pub(super) const START: Self = Self {
        index: 0,
        after: None,
    };

    /// The sent form.
    pub(super) fn encode(self, keyspace: KeyspaceId) -> Result<String, Problem> {
        let form = CursorV1 {
            keyspace: keyspace.0,
            index: self.index,
            after: self.after.map(|row| (row.key, row.subkey)),
        };
        let bytes = postcard::to_extend(&form, vec![VERSION])
            .map_err(|error| Problem::new(Code::Broken, format!("encode cursor: {error}")))?;
        Ok(URL_SAFE_NO_PAD.encode(bytes))
    }

    /// Reads a sent form; `partitions` is the cluster's number of them.
    pub(super) fn decode(
        text: &str,
        keyspace: KeyspaceId,
        partitions: u16,
    ) -> Result<Self, Problem> {
        let bad = || {
            Problem::new(
                Code::BadCursor,
                "the cursor is not one of this keyspace: pass `next` of the page before, or none",
            )
        };
        let bytes = URL_SAFE_NO_PAD.decode(text).ok().ok_or_else(bad)?;
        let (&version, rest) = bytes.split_first().ok_or_else(bad)?;
        if version != VERSION {
            return Err(bad());
        }
        let (form, rest) = postcard::take_from_bytes::<CursorV1>(rest)
            .ok()
            .ok_or_else(bad)?;
        if !rest.is_empty() || form.keyspace != keyspace.0 || form.index >= partitions {
            return Err(bad());
        }
        let after = form.after.map(|(key, subkey)| RowKey {
            keyspace,
            token: Token::of(&key),
            key,
            subkey,
        });
        if after
            .as_ref()
            .is_some_and(|row| row.token.partition_index(partitions) != form.index)
        {
            return Err(bad());
        }
        Ok(Self {
            index: form.index,
            after,
        })
    }
}

/// The cursor whose contents, behind the version, are these bytes.
#[cfg(any(test, fuzzing))]
pub(super) fn sealed(form: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode([&[VERSION], form].concat())
}

/// The contents of a cursor.
#[cfg(test)]
pub(super) fn opened(cursor: Cursor) -> Vec<u8> {
    let text = cursor.encode(KeyspaceId(7)).unwrap();
    URL_SAFE_NO_PAD.decode(text).unwrap().split_off(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYSPACE: KeyspaceId = KeyspaceId(7);

    #[test]
    fn golden_form() {
        let start = Cursor::START.encode(KEYSPACE).unwrap();
        assert_eq!(start, "AQcAAA");
        let row = RowKey::plain(KEYSPACE, Bytes::from_static(b"\xff/"));
        let cursor = Cursor {
            index: row.token.partition_index(8),
            after: Some(row),
        };
        let text = cursor.clone().encode(KEYSPACE).unwrap();
        assert_eq!(Cursor::decode(&text, KEYSPACE, 8).unwrap(), cursor);
    }

    #[test]
    fn what_is_no_cursor_is_refused() {
        let start = Cursor::START.encode(KEYSPACE).unwrap();
        assert!(Cursor::decode(&start, KeyspaceId(8), 8).is_err());
        for text in ["", "!", "AQ", "AgcAAA", "AQcIAA", "AQcAAAA", "AQcAAQD_"] {
            let code = Cursor::decode(text, KEYSPACE, 8).unwrap_err().code;
            assert_eq!(code, Code::BadCursor, "{text}");
        }
        let mut rng = fastrand::Rng::with_seed(1);
        for _ in 0..10_000 {
            let mut bytes = vec![0; rng.usize(..24)];
            rng.fill(&mut bytes);
            if let Some(first) = bytes.first_mut() {
                *first = VERSION;
            }
            // Whatever it is, it is refused or understood, never a panic.
            drop(Cursor::decode(&URL_SAFE_NO_PAD.encode(bytes), KEYSPACE, 8));
        }
    }
}
