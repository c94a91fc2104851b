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
use crate::model::{Row, RowKey, Stamp, Write, WriteOp};
use crate::placement::MergePolicy;
use crate::protocol::{Operation, Outcome, Unavailable, Written};

use super::blob::Blob;
use super::body::{BodyLimit, held};
use super::context;
use super::json::{encode, json_bytes};
use super::key::refuse_context;
use super::node::Node;
use super::observed::Observed;
use super::problem::{Code, Problem, ProblemForm, Tag};
use super::shared::{Asked, Shared};
use super::siblings::{self, SiblingForm, live, winner};
use super::target::object;
use super::when::Utc;
use super::wishes::{SPANS, long_span};

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
    /// How long the value lives, as in `Sterna-TTL`.
    #[serde(default)]
    ttl: Option<String>,
    /// What was read, as in `Sterna-Context`.
    #[serde(default)]
    context: Option<String>,
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
    expires: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    siblings: Option<Vec<SiblingForm<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    context: Option<String>,
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
    let asked = &asked;
    let mut outcomes = stream::iter(form.keys)
        .map(|key| async move {
            let row = RowKey::plain(asked.keyspace.id, key.0);
            let operation = Operation::Get { key: row.clone() };
            let outcome = call(shared, Op::Get, &row, operation, asked, start).await;
            (row, outcome)
        })
        .buffered(READS_AT_ONCE);
    let mut answer = Answer {
        room: None,
        observed: Observed::of(&shared.names, asked),
    };
    let mut results = Vec::new();
    while let Some((key, outcome)) = outcomes.next().await {
        let result = outcome.and_then(|outcome| answer.item(shared, &key, &outcome, asked));
        results.push(result.unwrap_or_else(|problem| ItemResult::failed(Blob(key.key), problem)));
    }
    let bytes = encode(&Results { results })?;
    let mut response = json_bytes(held(bytes, answer.room));
    answer.observed.put(response.headers_mut());
    Ok(response)
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
    let asked = &asked;
    let mut observed = Observed::of(&shared.names, asked);
    let mut results = BTreeMap::new();
    for wave in waves(shared, form.items, asked)? {
        let outcomes = stream::iter(wave)
            .map(|(index, write)| async move {
                let key = Blob(write.key.key.clone());
                (index, key, call_write(shared, write, asked, start).await)
            })
            .buffer_unordered(WRITES_AT_ONCE)
            .collect::<Vec<_>>()
            .await;
        for (index, key, outcome) in outcomes {
            let result = match outcome {
                Ok(written) => {
                    observed.written(&written);
                    ItemResult::written(shared, key, &written)
                }
                Err(problem) => ItemResult::failed(key, problem),
            };
            results.insert(index, result);
        }
    }
    let results: Vec<_> = results.into_values().collect();
    let mut response = json_bytes(encode(&Results { results })?);
    observed.put(response.headers_mut());
    Ok(response)
}

/// An item's place in the batch, and what to do.
type Item = (usize, Write);

/// Sorts items into waves: the first items of all keys, then the second ones, and so on.
fn waves<N: Node>(
    shared: &Shared<N>,
    items: Vec<PutItem>,
    asked: &Asked<'_>,
) -> Result<Vec<Vec<Item>>, Problem> {
    let mut seen: BTreeMap<Bytes, usize> = BTreeMap::new();
    let mut waves: Vec<Vec<Item>> = Vec::new();
    for (index, item) in items.into_iter().enumerate() {
        let wave = seen.entry(item.key.0.clone()).or_insert(0);
        let place = (index, item.write(shared, index, asked)?);
        match waves.get_mut(*wave) {
            Some(items) => items.push(place),
            None => waves.push(vec![place]),
        }
        *wave += 1;
    }
    Ok(waves)
}

impl PutItem {
    /// The write that it is.
    fn write<N: Node>(
        self,
        shared: &Shared<N>,
        index: usize,
        asked: &Asked<'_>,
    ) -> Result<Write, Problem> {
        let bad = |words: &str| Problem::new(Code::BadBody, format!("item {index} {words}"));
        let key = RowKey::plain(asked.keyspace.id, self.key.0);
        let ttl = self.ttl.as_deref().map(|text| {
            let words = || bad(&format!("has no time to live `{text}`: {SPANS}"));
            long_span(text).ok_or_else(words)
        });
        let ttl = ttl.transpose()?;
        let seen = match self.context {
            None => None,
            Some(text) => {
                refuse_context(asked)?;
                Some(context::decode(&key, text.as_bytes())?)
            }
        };
        let op = match (self.value, self.delete, asked.keyspace.merge) {
            (Some(value), None | Some(false), MergePolicy::Lww) => WriteOp::Put(value.0),
            (Some(Blob(value)), None | Some(false), MergePolicy::Siblings) => {
                WriteOp::PutSibling { value, seen }
            }
            (None, Some(true), _) if ttl.is_some() => {
                return Err(bad("is a delete, which has no ttl"));
            }
            (None, Some(true), MergePolicy::Lww) => WriteOp::Delete,
            (None, Some(true), MergePolicy::Siblings) => WriteOp::DeleteSiblings { seen },
            (Some(_), Some(true), _) | (None, None | Some(false), _) => {
                return Err(bad("must have either a value or \"delete\": true"));
            }
        };
        Ok(Write {
            expires: shared.expiry(ttl),
            ..Write::new(key, op)
        })
    }
}

/// The time that is left to an item of a batch; nothing if it is over.
fn left<'a>(key: &RowKey, asked: &Asked<'a>, start: Instant) -> Result<Option<Asked<'a>>, Problem> {
    if key.key.is_empty() {
        return Err(Problem::key_empty());
    }
    let left = asked.timeout.saturating_sub(start.elapsed());
    Ok((!left.is_zero()).then(|| Asked {
        timeout: left,
        ..asked.clone()
    }))
}

/// Carries out one read within the time that is left to the batch.
async fn call<N: Node>(
    shared: &Shared<N>,
    op: Op,
    key: &RowKey,
    operation: Operation,
    asked: &Asked<'_>,
    start: Instant,
) -> Result<Outcome, Problem> {
    match left(key, asked, start)? {
        Some(item) => Ok(shared.call(op, operation, &item).await),
        None => Ok(Outcome::Unavailable(Unavailable::Deadline)),
    }
}

/// Carries out one write within the time that is left to the batch.
async fn call_write<N: Node>(
    shared: &Shared<N>,
    write: Write,
    asked: &Asked<'_>,
    start: Instant,
) -> Result<Written, Problem> {
    let Some(item) = left(&write.key, asked, start)? else {
        return Err(shared.problem(&Outcome::Unavailable(Unavailable::Deadline), asked));
    };
    let op = if matches!(write.op, WriteOp::Delete | WriteOp::DeleteSiblings { .. }) {
        Op::Delete
    } else {
        Op::Put
    };
    shared.write(op, write, &item).await
}

/// The answer as it grows: the room that its values take, and what was seen.
struct Answer<'a> {
    room: Option<OwnedSemaphorePermit>,
    observed: Observed<'a>,
}

impl Answer<'_> {
    fn item<'a, N: Node>(
        &mut self,
        shared: &'a Shared<N>,
        key: &RowKey,
        outcome: &Outcome,
        asked: &Asked<'_>,
    ) -> Result<ItemResult<'a>, Problem> {
        let Outcome::Read(row) = outcome else {
            return Err(shared.problem(outcome, asked));
        };
        let blob = Blob(key.key.clone());
        let Some(row) = row else {
            return Ok(ItemResult::absent(blob));
        };
        self.observed.row(key, row);
        let now = shared.node.now();
        let mut result = ItemResult::absent(blob);
        let versions = match row {
            Row::Siblings(row) => {
                result.context = context::encode(key, &row.context())?;
                live(row, now)
            }
            Row::Register(_)
            | Row::Share(_)
            | Row::Once(_)
            | Row::Clear(_)
            | Row::Expiry(_)
            | Row::Conflict(_) => winner(row, now).into_iter().collect(),
        };
        let Some(version) = versions.first() else {
            return Ok(result);
        };
        self.take(shared, siblings::size(&versions))?;
        result.show(shared, version.stamp(), row.summary().state);
        if versions.len() == 1 {
            result.status = 200;
            result.value = version.value.clone().map(Blob);
            result.expires = version.expires.map(|at| Utc(at).to_string());
        } else {
            result.status = 300;
            result.siblings = Some(siblings::forms(shared, &versions));
        }
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

impl<'a> ItemResult<'a> {
    fn absent(key: Blob) -> Self {
        Self {
            key,
            status: 404,
            value: None,
            timestamp: None,
            region: None,
            etag: None,
            expires: None,
            siblings: None,
            context: None,
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

    fn written<N: Node>(shared: &'a Shared<N>, key: Blob, written: &Written) -> Self {
        let mut result = Self {
            status: 204,
            ..Self::absent(key)
        };
        if let Some(summary) = &written.summary {
            result.show(shared, summary.stamp(), summary.state);
        }
        result
    }

    fn show<N: Node>(&mut self, shared: &'a Shared<N>, version: Stamp, state: u64) {
        self.timestamp = Some(version.timestamp.to_string());
        self.region = Some(shared.names.origin_text(version.dot.actor.node));
        self.etag = Some(Tag(state).to_string());
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
    let room = shared.admit(limit.declared(&body)?.saturating_mul(2))?;
    let bytes = limit.read(body).await?;
    let form = object(&bytes, limit.what)?;
    Ok((form, room))
}

fn refuse_many(items: usize) -> Result<(), Problem> {
    if items > ITEMS_MAX {
        let words = format!("a batch has at most {ITEMS_MAX} items, not {items}: split it");
        return Err(Problem::new(Code::BadBody, words));
    }
    Ok(())
}
