//! Listing a keyspace page by page, in token order.

use axum::http::Uri;
use axum::response::Response;
use serde::Serialize;
use tokio::time::Instant;

use crate::metrics::Op;
use crate::model::{Level, Row, RowKey, Wanted};
use crate::protocol::{Operation, Outcome};

use super::blob::Blob;
use super::cursor::Cursor;
use super::json::json;
use super::key::value_of;
use super::node::Node;
use super::path::query_pairs;
use super::problem::{Code, Problem};
use super::shared::{Asked, Shared};

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

#[derive(Serialize)]
struct Item<'a> {
    key: Blob,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<Blob>,
    timestamp: String,
    region: &'a str,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Values {
    Shown,
    LeftOut,
}

struct Question {
    limit: u32,
    values: Values,
    cursor: Cursor,
}

/// Answers with one page. It may be shorter than its limit, even empty, and still have a `next`: when it
/// is full of bytes or its time is over.
pub(super) async fn list<N: Node>(
    shared: &Shared<N>,
    uri: &Uri,
    asked: Asked<'_>,
) -> Result<Response, Problem> {
    let partitions = shared.node.topology().partitions;
    let question = Question::of(uri, asked, partitions)?;
    let _room = shared.reserve(PAGE_BYTES_MAX)?;
    let limit = usize::try_from(question.limit).unwrap_or(usize::MAX);
    let mut items = Vec::new();
    let mut bytes = 0;
    let mut next = Some(question.cursor);
    let start = Instant::now();
    while let Some(cursor) = next.clone() {
        let left = asked.timeout.saturating_sub(start.elapsed());
        if items.len() >= limit || bytes >= PAGE_BYTES_MAX || left.is_zero() {
            break;
        }
        let rows_max = u32::try_from(limit - items.len()).unwrap_or(LIMIT_MAX);
        let page = Asked {
            timeout: left,
            ..asked
        };
        let (rows, after) = match fetch(shared, page, cursor, rows_max).await {
            Ok(page) => page,
            // What was gathered is worth having; the next page meets the trouble first.
            Err(_) if !items.is_empty() => break,
            Err(problem) => return Err(problem),
        };
        for (key, row) in rows.into_iter().filter(|(_, row)| !row.is_tombstone()) {
            let item = Item::of(shared, key, row, question.values);
            bytes += item.size();
            items.push(item);
        }
        next = after;
    }
    let next = next.map(|cursor| cursor.encode(asked.keyspace.id));
    Ok(json(&Page {
        items,
        next: next.transpose()?,
    }))
}

async fn fetch<N: Node>(
    shared: &Shared<N>,
    asked: Asked<'_>,
    cursor: Cursor,
    rows_max: u32,
) -> Result<(Vec<(RowKey, Row)>, Option<Cursor>), Problem> {
    let bytes_max = shared.node.topology().limits.batch_bytes_max;
    let operation = Operation::List {
        keyspace: asked.keyspace.id,
        wanted: Wanted::Values,
        index: cursor.index,
        after: cursor.after,
        rows_max,
        bytes_max: u32::try_from(bytes_max).unwrap_or(u32::MAX),
    };
    let asked = Asked {
        level: Some(Level::One),
        ..asked
    };
    let outcome = shared.call(Op::List, operation, asked).await;
    let Outcome::Page { rows, next } = outcome else {
        return Err(shared.problem(&outcome, asked));
    };
    Ok((rows, next.map(|(index, after)| Cursor { index, after })))
}

impl Question {
    fn of(uri: &Uri, asked: Asked<'_>, partitions: u16) -> Result<Self, Problem> {
        if !matches!(asked.level, None | Some(Level::One)) {
            let words = "a listing reads at level one: leave out Sterna-Consistency";
            return Err(Problem::new(Code::BadLevel, words));
        }
        let mut question = Self {
            limit: LIMIT,
            values: Values::LeftOut,
            cursor: Cursor::START,
        };
        for (name, value) in query_pairs(uri)? {
            match (name.as_str(), value.as_str()) {
                ("limit", text) => question.limit = limit(text)?,
                ("values", "true") => question.values = Values::Shown,
                ("values", "false") => question.values = Values::LeftOut,
                ("values", _) => return Err(bad("values must be true or false".to_owned())),
                ("cursor", text) => {
                    question.cursor = Cursor::decode(text, asked.keyspace.id, partitions)?;
                }
                (name, _) => {
                    return Err(bad(format!(
                        "no parameter `{name}`: a listing takes limit, cursor and values"
                    )));
                }
            }
        }
        Ok(question)
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
    fn of<N: Node>(shared: &'a Shared<N>, key: RowKey, row: Row, values: Values) -> Self {
        let summary = row.summary();
        let value = match values {
            Values::Shown => value_of(row).map(Blob),
            Values::LeftOut => None,
        };
        Self {
            key: Blob(key.key),
            value,
            timestamp: summary.timestamp.to_string(),
            region: shared.names.origin_text(summary.dot.actor.node),
        }
    }

    fn size(&self) -> usize {
        self.key.0.len() + self.value.as_ref().map_or(0, |value| value.0.len()) + 64
    }
}
