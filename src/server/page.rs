//! What is asked of a collection: a page of it, one part, or its size; and where a page goes on.

use axum::http::Uri;
use axum::response::Response;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use serde::Serialize;
use xxhash_rust::xxh3::Xxh3;

use crate::metrics::Op;
use crate::model::{Collection, Context, Part, Row, RowKey, Selection};
use crate::protocol::{Operation, Outcome};

use super::json::json;
use super::node::Node;
use super::observed::Observed;
use super::path::query_bytes;
use super::problem::{Code, Problem};
use super::shared::{Asked, Shared};

/// Parts of a page if the client names no number.
const LIMIT: u32 = 100;
/// Most parts of a page.
const LIMIT_MAX: u32 = 10_000;
/// The version of a cursor's sent form: base64url of it, of four bytes of check, and of a subkey.
const VERSION: u8 = 1;
const CHECK_BYTES: usize = 4;

/// What a request asks of a collection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Question {
    /// A page of it.
    Page {
        /// At most so many parts.
        limit: u32,
        /// After this subkey.
        after: Option<Bytes>,
    },
    /// One member or field.
    One(Bytes),
    /// How many there are.
    Size,
}

#[derive(Serialize)]
struct SizeForm {
    size: u64,
}

/// The name of the parameter that names one part.
fn part_name(collection: Collection) -> &'static str {
    match collection {
        Collection::Set => "member",
        Collection::Map => "field",
    }
}

impl Question {
    /// Reads a query.
    pub(super) fn of(uri: &Uri, key: &RowKey, collection: Collection) -> Result<Self, Problem> {
        let (mut limit, mut after, mut single) = (None, None, None);
        for (name, value) in query_bytes(uri)? {
            match (name.as_str(), value.as_slice()) {
                ("limit", text) => limit = Some(limit_of(text)?),
                ("after", text) => after = Some(decode(text, key, collection)?),
                ("size", b"true") => single = Some((Self::Size, single.is_some())),
                ("size", _) => return Err(bad("size is asked for by size=true".to_owned())),
                (name, _) if name == part_name(collection) => {
                    single = Some((Self::One(Bytes::from(value)), single.is_some()));
                }
                (name, _) => {
                    return Err(bad(format!(
                        "no parameter `{name}`: this route takes limit and after, or {}, or size",
                        part_name(collection)
                    )));
                }
            }
        }
        match single {
            None => Ok(Self::Page {
                limit: limit.unwrap_or(LIMIT),
                after,
            }),
            Some((question, false)) if limit.is_none() && after.is_none() => Ok(question),
            Some(_) => Err(bad(format!(
                "ask for a page, or for one {}, or for the size: not for two at once",
                part_name(collection)
            ))),
        }
    }
}

/// Reads a page: its rows, and the cursor to go on with.
pub(super) async fn page<N: Node>(
    shared: &Shared<N>,
    op: Op,
    (key, collection): (&RowKey, Collection),
    (limit, after): (u32, Option<Bytes>),
    asked: &Asked<'_>,
) -> Result<(Vec<(RowKey, Row)>, Option<String>), Problem> {
    let bytes_max = shared.node.topology().limits.batch_bytes_max;
    let selection = Selection::Page {
        key: key.clone(),
        collection,
        after,
        upto: None,
        rows_max: limit,
        bytes_max: u32::try_from(bytes_max).unwrap_or(u32::MAX),
    };
    let (mut rows, next) = shared.select(op, selection, asked).await?;
    strip(&mut rows, collection);
    Ok((rows, next.map(|after| encode(&after, key, collection))))
}

/// Takes away what a clear among the rows covers, and has not been swept yet.
pub(super) fn strip(rows: &mut [(RowKey, Row)], collection: Collection) {
    let mut cleared: Vec<Context> = Vec::new();
    for (key, row) in rows.iter() {
        if let Row::Clear(clear) = row
            && key.part() == Some(Part::Clear(collection))
        {
            cleared.push(clear.cleared.clone());
        }
    }
    for cleared in cleared {
        for (_, row) in rows.iter_mut() {
            row.clear(&cleared);
        }
    }
}

/// Answers how many parts there are, as one replica counts them.
pub(super) async fn size<N: Node>(
    shared: &Shared<N>,
    op: Op,
    key: RowKey,
    collection: Collection,
    asked: &Asked<'_>,
) -> Result<Response, Problem> {
    let outcome = shared
        .call(op, Operation::Count { key, collection }, asked)
        .await;
    let Outcome::Counted(size) = outcome else {
        return Err(shared.problem(&outcome, asked));
    };
    let mut response = json(&SizeForm { size });
    Observed::of(&shared.names, asked).put(response.headers_mut());
    Ok(response)
}

fn limit_of(text: &[u8]) -> Result<u32, Problem> {
    let text = std::str::from_utf8(text).ok();
    let number = text.and_then(|text| text.parse().ok());
    number
        .filter(|number| (1..=LIMIT_MAX).contains(number))
        .ok_or_else(|| bad(format!("limit must be a number from 1 to {LIMIT_MAX}")))
}

fn bad(words: String) -> Problem {
    Problem::new(Code::BadQuery, words)
}

/// The cursor that goes on after a subkey.
pub(super) fn encode(after: &[u8], key: &RowKey, collection: Collection) -> String {
    let head = [&[VERSION], check(after, key, collection).as_slice()].concat();
    URL_SAFE_NO_PAD.encode([&head, after].concat())
}

/// Reads a cursor.
pub(super) fn decode(text: &[u8], key: &RowKey, collection: Collection) -> Result<Bytes, Problem> {
    let read = || {
        let raw = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (version, rest) = raw.split_first()?;
        let (found, after) = rest.split_first_chunk::<CHECK_BYTES>()?;
        let is_good = *version == VERSION && *found == check(after, key, collection);
        is_good.then(|| Bytes::copy_from_slice(after))
    };
    read().ok_or_else(|| {
        Problem::new(
            Code::BadCursor,
            "the cursor is not one of this collection: pass `next` of the page before, or none",
        )
    })
}

fn check(after: &[u8], key: &RowKey, collection: Collection) -> [u8; CHECK_BYTES] {
    let seed = u64::from(key.keyspace.0) << 8 | u64::from(collection == Collection::Map);
    let mut hasher = Xxh3::with_seed(seed);
    hasher.update(&key.token.0.to_be_bytes());
    hasher.update(after);
    let [a, b, c, d, ..] = hasher.digest().to_be_bytes();
    [a, b, c, d]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::KeyspaceId;

    fn key() -> RowKey {
        RowKey::plain(KeyspaceId(7), Bytes::from_static(b"cart"))
    }

    fn question(query: &str) -> Result<Question, Code> {
        let uri: Uri = format!("/v1/set/default/cart?{query}").parse().unwrap();
        Question::of(&uri, &key(), Collection::Set).map_err(|problem| problem.code)
    }

    #[test]
    fn one_thing_is_asked_at_a_time() {
        let page = |limit| Ok(Question::Page { limit, after: None });
        assert_eq!(question(""), page(100));
        assert_eq!(question("limit=3"), page(3));
        assert_eq!(question("size=true"), Ok(Question::Size));
        let member = Bytes::from_static(b"\xff/");
        assert_eq!(question("member=%FF%2F"), Ok(Question::One(member)));
        for query in [
            "limit=0",
            "limit=10001",
            "limit=%FF",
            "limit=1&limit=1",
            "size=yes",
            "size=true&limit=1",
            "size=true&member=a",
            "member=a&limit=1",
            "field=a",
            "member=%",
        ] {
            assert_eq!(question(query), Err(Code::BadQuery), "{query}");
        }
        assert_eq!(question("after="), Err(Code::BadCursor));
        assert_eq!(question("after=AQAAAABt"), Err(Code::BadCursor));
    }

    proptest! {
        #[test]
        fn cursors_are_of_one_collection(after in proptest::collection::vec(any::<u8>(), 0..40)) {
            let text = encode(&after, &key(), Collection::Set);
            prop_assert_eq!(decode(text.as_bytes(), &key(), Collection::Set).unwrap(), &after);
            prop_assert!(decode(text.as_bytes(), &key(), Collection::Map).is_err());
            let other = RowKey::plain(KeyspaceId(7), Bytes::from_static(b"car"));
            prop_assert!(decode(text.as_bytes(), &other, Collection::Set).is_err());
            drop(decode(&after, &key(), Collection::Set));
        }
    }
}
