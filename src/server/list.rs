//! Listing a keyspace page by page, in token order.

use axum::http::Uri;
use axum::response::Response;
use serde::Serialize;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use crate::metrics::Op;
use crate::model::{Level, Row, RowKey, Wall, Wanted};
use crate::protocol::{Operation, Outcome, Unavailable};

use super::blob::Blob;
use super::cursor::Cursor;
use super::json::json;
use super::node::Node;
use super::observed::Observed;
use super::path::query_pairs;
use super::problem::{Code, Problem, Tag};
use super::shared::{Asked, Shared};
use super::siblings::{live, winner};
use super::when::Utc;

/// Items of a page if the client names no number.
const LIMIT: u32 = 100;
/// Most items of a page.
const LIMIT_MAX: u32 = 10_000;
/// A page ends when its keys and values come to this: its JSON is at most some times as long.
const PAGE_BYTES_MAX: usize = 4 << 20;

#[derive(Serialize)]
struct Page<'a> {
    items: Vec<Item<'a>>,
    next: Option<String>,
}

/// A key; of several concurrent values the last written is shown, and how many there are.
#[derive(Serialize)]
struct Item<'a> {
    key: Blob,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<Blob>,
    timestamp: String,
    region: &'a str,
    etag: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sibling_count: Option<usize>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Values {
    Shown,
    LeftOut,
}

/// What every listing is asked.
pub(super) struct Query {
    limit: u32,
    cursor: Cursor,
    /// Parameters of its own, by name.
    own: Vec<(String, String)>,
}

/// A page as it was gathered.
pub(super) struct Listing<'a, T> {
    /// What is on it.
    pub(super) items: Vec<T>,
    /// Where it goes on, as a cursor.
    pub(super) next: Option<String>,
    /// What was seen.
    pub(super) observed: Observed<'a>,
    /// The memory that it takes, until it is let go.
    pub(super) room: OwnedSemaphorePermit,
}

/// Answers with one page. It may be shorter than its limit, even empty, and still have a `next`: when it
/// is full of bytes, or has been looked for long enough.
pub(super) async fn list<N: Node>(
    shared: &Shared<N>,
    uri: &Uri,
    asked: Asked<'_>,
) -> Result<Response, Problem> {
    let query = Query::of(uri, &asked, shared.node.topology().partitions, &["values"])?;
    let values = match query.own.first().map(|(_, value)| value.as_str()) {
        Some("true") => Values::Shown,
        None | Some("false") => Values::LeftOut,
        Some(_) => return Err(bad("values must be true or false".to_owned())),
    };
    let now = shared.node.now();
    let Listing {
        items,
        next,
        observed,
        room: _room,
    } = gather(shared, Wanted::Values, query, &asked, |key, row| {
        let item = Item::of(shared, key, &row, values, now)?;
        let bytes = item.size();
        Some((item, bytes))
    })
    .await?;
    let mut response = json(&Page { items, next });
    observed.put(response.headers_mut());
    Ok(response)
}

/// Gathers a page: `form` makes an item of a row, with its bytes, or leaves it out. More is asked for in the
/// first half of the time; the second is for what was asked last to come back. `next` is further on than the
/// page began, also if nothing was found.
pub(super) async fn gather<'a, N: Node, T>(
    shared: &'a Shared<N>,
    wanted: Wanted,
    query: Query,
    asked: &Asked<'_>,
    form: impl Fn(RowKey, Row) -> Option<(T, usize)>,
) -> Result<Listing<'a, T>, Problem> {
    let room = shared.reserve(PAGE_BYTES_MAX)?;
    let mut observed = Observed::of(&shared.names, asked);
    let limit = usize::try_from(query.limit).unwrap_or(usize::MAX);
    let (mut items, mut bytes) = (Vec::new(), 0);
    let mut next = Some(query.cursor);
    let (start, mut is_further) = (Instant::now(), false);
    while let Some(cursor) = next.clone() {
        let left = asked.timeout.saturating_sub(start.elapsed());
        let is_over = left <= asked.timeout / 2;
        if is_further && (items.len() >= limit || bytes >= PAGE_BYTES_MAX || is_over) {
            break;
        }
        let rows_max = u32::try_from(limit - items.len()).unwrap_or(LIMIT_MAX);
        let page = Asked {
            timeout: left,
            level: Some(Level::One),
            ..asked.clone()
        };
        let (rows, after) = match fetch(shared, wanted, page, cursor, rows_max).await {
            Ok(page) => page,
            // What was gathered, and the way that was made, is worth having; the next page meets the trouble first.
            Err(_) if is_further => break,
            Err(problem) => return Err(problem),
        };
        for (key, row) in rows {
            observed.row(&key, &row);
            if let Some((item, size)) = form(key, row) {
                bytes += size;
                items.push(item);
            }
        }
        next = after;
        is_further = true;
    }
    let next = next.map(|cursor| cursor.encode(asked.keyspace.id));
    Ok(Listing {
        items,
        next: next.transpose()?,
        observed,
        room,
    })
}

async fn fetch<N: Node>(
    shared: &Shared<N>,
    wanted: Wanted,
    asked: Asked<'_>,
    cursor: Cursor,
    rows_max: u32,
) -> Result<(Vec<(RowKey, Row)>, Option<Cursor>), Problem> {
    let bytes_max = shared.node.topology().limits.batch_bytes_max;
    let begun = cursor.clone();
    let operation = Operation::List {
        keyspace: asked.keyspace.id,
        wanted,
        index: cursor.index,
        after: cursor.after,
        rows_max,
        bytes_max: u32::try_from(bytes_max).unwrap_or(u32::MAX),
    };
    let outcome = shared.call(Op::List, operation, &asked).await;
    let Outcome::Page { rows, next } = outcome else {
        return Err(shared.problem(&outcome, &asked));
    };
    let next = next.map(|(index, after)| Cursor { index, after });
    if next.as_ref().is_some_and(|next| *next <= begun) {
        // Who went on from there would never come to an end.
        let outcome = Outcome::Unavailable(Unavailable::Replicas);
        return Err(shared.problem(&outcome, &asked));
    }
    Ok((rows, next))
}

impl Query {
    /// Reads a query; `own` are the parameters that this listing takes beside limit and cursor.
    pub(super) fn of(
        uri: &Uri,
        asked: &Asked<'_>,
        partitions: u16,
        own: &[&str],
    ) -> Result<Self, Problem> {
        if !matches!(asked.level, None | Some(Level::One)) {
            let words = "a listing reads at level one: leave out Sterna-Consistency";
            return Err(Problem::new(Code::BadLevel, words));
        }
        let mut query = Self {
            limit: LIMIT,
            cursor: Cursor::START,
            own: Vec::new(),
        };
        for (name, value) in query_pairs(uri)? {
            match (name.as_str(), value.as_str()) {
                ("limit", text) => query.limit = limit(text)?,
                ("cursor", text) => {
                    query.cursor = Cursor::decode(text, asked.keyspace.id, partitions)?;
                }
                (known, _) if own.contains(&known) => query.own.push((name, value)),
                (name, _) => {
                    let known = [&["limit", "cursor"], own].concat();
                    return Err(bad(format!(
                        "no parameter `{name}`: this listing takes {}",
                        known.join(", ")
                    )));
                }
            }
        }
        Ok(query)
    }
}

fn limit(text: &str) -> Result<u32, Problem> {
    let number = text.parse().ok();
    number
        .filter(|number| (1..=LIMIT_MAX).contains(number))
        .ok_or_else(|| bad(format!("limit must be a number from 1 to {LIMIT_MAX}")))
}

fn bad(words: String) -> Problem {
    Problem::new(Code::BadQuery, words)
}

impl<'a> Item<'a> {
    fn of<N: Node>(
        shared: &'a Shared<N>,
        key: RowKey,
        row: &Row,
        values: Values,
        now: Wall,
    ) -> Option<Self> {
        let version = winner(row, now)?;
        let count = match row {
            Row::Siblings(row) => live(row, now).len(),
            Row::Register(_)
            | Row::Share(_)
            | Row::Once(_)
            | Row::Clear(_)
            | Row::Expiry(_)
            | Row::Conflict(_) => 1,
        };
        let value = match values {
            Values::Shown => version.value.clone().map(Blob),
            Values::LeftOut => None,
        };
        Some(Self {
            key: Blob(key.key),
            value,
            timestamp: version.timestamp.to_string(),
            region: shared.names.origin_text(version.dot.actor.node),
            etag: Tag(row.summary().state).to_string(),
            expires: version.expires.map(|at| Utc(at).to_string()),
            sibling_count: (count > 1).then_some(count),
        })
    }

    fn size(&self) -> usize {
        self.key.0.len() + self.value.as_ref().map_or(0, |value| value.0.len()) + 96
    }
}
