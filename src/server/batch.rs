//! Many keys in one request. Each item stands alone: a batch is not a transaction, and is answered with
//! 200 once it was understood, whatever became of its items.

use std::collections::BTreeMap;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream::{self, StreamExt};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use crate::metrics::Op;
use crate::model::{Row, RowKey, Summary, Write, WriteOp};
use crate::protocol::{Operation, Outcome, Unavailable, Written};

use super::blob::Blob;
use super::body::{BodyLimit, held};
use super::json::{encode, json_bytes};
use super::key::value_of;
use super::node::Node;
use super::problem::{Code, Problem, ProblemForm};
use super::shared::{Asked, Shared, Tag};

/// Most items of a batch.
const ITEMS_MAX: usize = 1000;
/// Longest body of a request, and most bytes of values in an answer.
const BODY_BYTES_MAX: usize = 32 << 20;
/// Reads of one batch at a time: bounds the values that are in memory before they are counted.
const READS_AT_ONCE: usize = 32;
/// Writes of one batch at a time: enough to fill a group commit.
const WRITES_AT_ONCE: usize = 256;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GetForm {
    keys: Vec<Blob>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PutForm {
    items: Vec<PutItem>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PutItem {
    key: Blob,
    #[serde(default)]
    value: Option<Blob>,
    #[serde(default)]
    delete: Option<bool>,
}

#[derive(Serialize)]
struct Results<T> {
    results: Vec<T>,
}

/// What became of one item; fields that do not apply are left out.
#[derive(Serialize)]
struct ItemResult<'a> {
    key: Blob,
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<Blob>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timestamp: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    region: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    etag: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<ProblemForm>,
}

/// Reads many keys.
pub(super) async fn get<N: Node>(
    shared: &Shared<N>,
    asked: Asked<'_>,
    body: Body,
) -> Result<Response, Problem> {
    let (form, _room) = read_form::<GetForm, N>(shared, body).await?;
    refuse_many(form.keys.len())?;
    let start = Instant::now();
    let mut outcomes = stream::iter(form.keys)
        .map(|key| async move {
            let operation = Operation::Get {
                key: RowKey::plain(asked.keyspace.id, key.0.clone()),
            };
            let outcome = call(shared, Op::Get, &key, operation, asked, start).await;
            (key, outcome)
        })
        .buffered(READS_AT_ONCE);
    let mut answer = Answer::default();
    let mut results = Vec::new();
    while let Some((key, outcome)) = outcomes.next().await {
        let result = outcome.and_then(|outcome| answer.item(shared, &key, outcome, asked));
        results.push(result.unwrap_or_else(|problem| ItemResult::failed(key, problem)));
    }
    let bytes = encode(&Results { results })?;
    Ok(json_bytes(held(bytes, answer.room)))
}

/// Writes many keys. Items of one key are carried out in their order, others at once.
pub(super) async fn put<N: Node>(
    shared: &Shared<N>,
    asked: Asked<'_>,
    body: Body,
) -> Result<Response, Problem> {
    let (form, _room) = read_form::<PutForm, N>(shared, body).await?;
    refuse_many(form.items.len())?;
    let start = Instant::now();
    let mut results = BTreeMap::new();
    for wave in waves(form.items)? {
        let outcomes = stream::iter(wave)
            .map(|(index, key, write)| async move {
                let op = if write == WriteOp::Delete {
                    Op::Delete
                } else {
                    Op::Put
                };
                let row = RowKey::plain(asked.keyspace.id, key.0.clone());
                let operation = Operation::Write(Box::new(Write::new(row, write)));
                let outcome = call(shared, op, &key, operation, asked, start).await;
                (index, key, outcome)
            })
            .buffer_unordered(WRITES_AT_ONCE)
            .collect::<Vec<_>>()
            .await;
        for (index, key, outcome) in outcomes {
            results.insert(index, written(shared, key, outcome, asked));
        }
    }
    let results: Vec<_> = results.into_values().collect();
    encode(&Results { results }).map(json_bytes)
}

/// An item's place in the batch, its key, and what to do.
type Item = (usize, Blob, WriteOp);

/// Sorts items into waves: the first items of all keys, then the second ones, and so on.
fn waves(items: Vec<PutItem>) -> Result<Vec<Vec<Item>>, Problem> {
    let mut seen: BTreeMap<Bytes, usize> = BTreeMap::new();
    let mut waves: Vec<Vec<Item>> = Vec::new();
    for (index, item) in items.into_iter().enumerate() {
        let write = match (item.value, item.delete) {
            (Some(value), None | Some(false)) => WriteOp::Put(value.0),
            (None, Some(true)) => WriteOp::Delete,
            (Some(_), Some(true)) | (None, None | Some(false)) => {
                let words = format!("item {index} must have either a value or \"delete\": true");
                return Err(Problem::new(Code::BadBody, words));
            }
        };
        let wave = seen.entry(item.key.0.clone()).or_insert(0);
        let place = (index, item.key, write);
        match waves.get_mut(*wave) {
            Some(items) => items.push(place),
            None => waves.push(vec![place]),
        }
        *wave += 1;
    }
    Ok(waves)
}

/// Carries out one item within the time that is left to the batch.
async fn call<N: Node>(
    shared: &Shared<N>,
    op: Op,
    key: &Blob,
    operation: Operation,
    asked: Asked<'_>,
    start: Instant,
) -> Result<Outcome, Problem> {
    if key.0.is_empty() {
        return Err(Problem::key_empty());
    }
    let left = asked.timeout.saturating_sub(start.elapsed());
    if left.is_zero() {
        return Ok(Outcome::Unavailable(Unavailable::Deadline));
    }
    let item = Asked {
        timeout: left,
        ..asked
    };
    Ok(shared.call(op, operation, item).await)
}

/// The answer as it grows: the room that its values take.
#[derive(Default)]
struct Answer {
    room: Option<OwnedSemaphorePermit>,
}

impl Answer {
    fn item<'a, N: Node>(
        &mut self,
        shared: &'a Shared<N>,
        key: &Blob,
        outcome: Outcome,
        asked: Asked<'_>,
    ) -> Result<ItemResult<'a>, Problem> {
        let Outcome::Read(row) = outcome else {
            return Err(shared.problem(&outcome, asked));
        };
        let summary = row.as_ref().map(Row::summary);
        let (Some(value), Some(summary)) = (row.and_then(value_of), summary) else {
            return Ok(ItemResult::absent(key.clone()));
        };
        self.take(shared, value.len())?;
        let mut result = ItemResult::version(shared, key.clone(), 200, &summary);
        result.value = Some(Blob(value));
        Ok(result)
    }

    fn take<N: Node>(&mut self, shared: &Shared<N>, bytes: usize) -> Result<(), Problem> {
        let used = self
            .room
            .as_ref()
            .map_or(0, OwnedSemaphorePermit::num_permits);
        if used + bytes > BODY_BYTES_MAX {
            let words =
                "the answer is full: ask for the keys without a value again in another batch";
            return Err(Problem::new(Code::Overloaded, words));
        }
        let more = shared.reserve(bytes)?;
        match &mut self.room {
            Some(room) => room.merge(more),
            None => self.room = Some(more),
        }
        Ok(())
    }
}

fn written<'a, N: Node>(
    shared: &'a Shared<N>,
    key: Blob,
    outcome: Result<Outcome, Problem>,
    asked: Asked<'_>,
) -> ItemResult<'a> {
    match outcome {
        Ok(Outcome::Written(Written {
            summary: Some(summary),
            ..
        })) => ItemResult::version(shared, key, 204, &summary),
        Ok(outcome) => ItemResult::failed(key, shared.problem(&outcome, asked)),
        Err(problem) => ItemResult::failed(key, problem),
    }
}

impl<'a> ItemResult<'a> {
    fn absent(key: Blob) -> Self {
        Self {
            key,
            status: 404,
            value: None,
            timestamp: None,
            region: None,
            etag: None,
            error: None,
        }
    }

    fn failed(key: Blob, problem: Problem) -> Self {
        Self {
            status: problem.status.as_u16(),
            error: Some(problem.into_form()),
            ..Self::absent(key)
        }
    }

    fn version<N: Node>(shared: &'a Shared<N>, key: Blob, status: u16, version: &Summary) -> Self {
        Self {
            status,
            timestamp: Some(version.timestamp.to_string()),
            region: Some(shared.names.origin_text(version.dot.actor.node)),
            etag: Some(Tag(version.dot).to_string()),
            ..Self::absent(key)
        }
    }
}

async fn read_form<T: DeserializeOwned, N: Node>(
    shared: &Shared<N>,
    body: Body,
) -> Result<(T, OwnedSemaphorePermit), Problem> {
    let limit = BodyLimit {
        bytes_max: BODY_BYTES_MAX,
        what: "batch",
    };
    // Once as it came, once as the values in it.
    let room = shared.reserve(limit.declared(&body)?.saturating_mul(2))?;
    let bytes = limit.read(body).await?;
    let form = serde_json::from_slice(&bytes)
        .map_err(|error| Problem::new(Code::BadBody, format!("the body is no batch: {error}")))?;
    Ok((form, room))
}

fn refuse_many(items: usize) -> Result<(), Problem> {
    if items > ITEMS_MAX {
        let words = format!("a batch has at most {ITEMS_MAX} items, not {items}: split it");
        return Err(Problem::new(Code::BadBody, words));
    }
    Ok(())
}
