//! What a client has read of a key in a `siblings` keyspace, as it gives it back when it writes: the
//! `Sterna-Context` token. To clients it is opaque.
//!
//! The sent form is base64url without padding of 8 bytes of check over keyspace, key and the rest, a version byte,
//! and the context. The check tells another key's token, or a broken one, from a good one; it is no seal: a
//! forged context can replace values of its own key, which a client may do anyway; what it claims of changes that nobody
//! can have seen is cut off by the coordinator.

use axum::http::HeaderValue;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use xxhash_rust::xxh3::{Xxh3, xxh3_64_with_seed};

use crate::coding;
use crate::model::{Context, RowKey};

use super::problem::{Code, Problem};

/// The version of the sent form.
const VERSION: u8 = 1;
/// Before the context.
const CHECK_BYTES: usize = 8;

/// The token of what was read of a key; nothing if that is nothing.
pub(super) fn encode(key: &RowKey, context: &Context) -> Result<Option<String>, Problem> {
    if context.is_empty() {
        return Ok(None);
    }
    let form = coding::encode(VERSION, context)
        .map_err(|error| Problem::new(Code::Broken, format!("encode the context: {error}")))?;
    let mut raw = check(key, &form).to_vec();
    raw.extend_from_slice(&form);
    Ok(Some(URL_SAFE_NO_PAD.encode(raw)))
}

/// The same as a header.
pub(super) fn header(key: &RowKey, context: &Context) -> Result<Option<HeaderValue>, Problem> {
    let text = encode(key, context)?;
    Ok(text.and_then(|text| HeaderValue::from_maybe_shared(Bytes::from(text)).ok()))
}

/// Reads the token of a key.
pub(super) fn decode(key: &RowKey, text: &[u8]) -> Result<Context, Problem> {
    read(key, text).ok_or_else(|| {
        Problem::new(
            Code::BadContext,
            "the context is damaged or of another key: give back the Sterna-Context of its last read, or none",
        )
    })
}

fn read(key: &RowKey, text: &[u8]) -> Option<Context> {
    let raw = URL_SAFE_NO_PAD.decode(text).ok()?;
    let (found, form) = raw.split_first_chunk::<CHECK_BYTES>()?;
    if *found != check(key, form) {
        return None;
    }
    coding::decode(VERSION, form).ok()
}

/// The token of a key whose contents, behind the check, are these bytes.
#[cfg(any(test, fuzzing))]
pub(super) fn sealed(key: &RowKey, form: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode([&check(key, form)[..], form].concat())
}

/// The contents of a token.
#[cfg(test)]
pub(super) fn opened(context: &Context) -> Vec<u8> {
    coding::encode(VERSION, context).unwrap()
}

fn check(key: &RowKey, form: &[u8]) -> [u8; CHECK_BYTES] {
    let mut hasher = Xxh3::with_seed(u64::from(key.keyspace.0));
    hasher.update(&key.key);
    xxh3_64_with_seed(form, hasher.digest()).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::{Actor, Dot, Incarnation, KeyspaceId, NodeId};

    fn key() -> RowKey {
        RowKey::plain(KeyspaceId(7), Bytes::from_static(b"cart"))
    }

    fn contexts() -> impl Strategy<Value = Context> {
        let dot = (any::<u32>(), any::<u64>(), 1..u64::MAX).prop_map(|(node, incarnation, n)| {
            let actor = Actor {
                node: NodeId(node),
                incarnation: Incarnation(incarnation),
            };
            Dot { actor, n }
        });
        let retired = (any::<u32>(), any::<u64>());
        let retired = retired.prop_map(|(node, life)| (NodeId(node), Incarnation(life)));
        let seen = proptest::collection::vec(dot, 0..8);
        (
            seen,
            proptest::collection::btree_map(any::<u32>(), retired, 0..3),
        )
            .prop_map(|(seen, retired)| Context {
                retired: retired.into_values().collect(),
                ..seen.into_iter().collect()
            })
    }

    proptest! {
        #[test]
        fn contexts_come_back_for_their_key_only(context in contexts()) {
            let Some(text) = encode(&key(), &context).unwrap() else {
                prop_assert!(context.is_empty());
                return Ok(());
            };
            prop_assert_eq!(read(&key(), text.as_bytes()), Some(context));
            for (keyspace, name) in [(8, "cart"), (7, "car"), (7, "cart ")] {
                let other = RowKey::plain(KeyspaceId(keyspace), Bytes::from(name));
                prop_assert_eq!(decode(&other, text.as_bytes()).unwrap_err().code, Code::BadContext);
            }
        }

        #[test]
        fn what_is_changed_on_the_way_is_refused(context in contexts(), at in 0..1000usize, to in any::<u8>()) {
            let Some(text) = encode(&key(), &context).unwrap() else { return Ok(()) };
            let mut bytes = text.into_bytes();
            let at = at % bytes.len();
            let is_same = bytes[at] == to;
            bytes[at] = to;
            prop_assert_eq!(read(&key(), &bytes).is_some(), is_same);
            prop_assert!(read(&key(), &bytes[..at]).is_none());
        }

        #[test]
        fn any_bytes_are_a_context_or_none(form in proptest::collection::vec(any::<u8>(), 0..80)) {
            read(&key(), &form);
            let mut form = form;
            form.insert(0, VERSION);
            let raw = [&check(&key(), &form)[..], &form].concat();
            read(&key(), URL_SAFE_NO_PAD.encode(raw).as_bytes());
        }
    }
}
