//! One key's plain value: read, write, delete. The hot path: no JSON, no router, few allocations.

use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use hyper::body::Incoming;

use crate::metrics::Op;
use crate::model::{Condition, Context, Level, Row, RowKey, Stamp, Version, Wall, Write, WriteOp};
use crate::placement::MergePolicy;
use crate::protocol::{Operation, Outcome};

use super::body::{BodyLimit, held};
use super::context;
use super::node::Node;
use super::observed::Observed;
use super::path::{query_pairs, refuse_query};
use super::problem::{Code, Problem};
use super::shared::{Asked, Shared};
use super::siblings;
use super::target::{Target, absent, bad_method};
use super::when::Utc;
use super::wishes::{OF_READS, Wish};

/// Answers up to this size are not counted as bytes in flight: the number of connections bounds them.
const SMALL_BYTES: usize = 4 << 10;

static CONDITION: HeaderName = HeaderName::from_static("sterna-condition");
static CONTEXT: HeaderName = HeaderName::from_static("sterna-context");
static EXPIRES: HeaderName = HeaderName::from_static("sterna-expires");

const OF_PUTS: &[Wish] = &[
    Wish::Session,
    Wish::Ttl,
    Wish::Context,
    Wish::Match,
    Wish::NoneMatch,
];
const OF_DELETES: &[Wish] = &[Wish::Session, Wish::Context, Wish::Match, Wish::NoneMatch];

/// Answers a request for one key.
pub(super) async fn answer<N: Node>(
    at: Target<'_, N>,
    body: Incoming,
) -> Result<Response, Problem> {
    match at.parts.method {
        Method::GET | Method::HEAD => {
            let wanted = wanted(&at)?;
            let asked = at.asked(OF_READS)?;
            read(&at, asked, wanted).await
        }
        Method::PUT => {
            refuse_query(&at.parts.uri)?;
            let asked = at.asked(OF_PUTS)?;
            let key = at.key(&asked)?;
            let limit = BodyLimit {
                bytes_max: at.shared.node.topology().limits.value_bytes_max,
                what: "value",
            };
            let _room = at.shared.admit(limit.declared(&body)?)?;
            let seen = seen(&at, &key, &asked)?;
            let ttl = at.wishes.ttl()?;
            let condition = condition(&at, &asked)?;
            let value = limit.read(body).await?;
            let op = match asked.keyspace.merge {
                MergePolicy::Lww => WriteOp::Put(value),
                MergePolicy::Siblings => WriteOp::PutSibling { value, seen },
            };
            let write = Write {
                expires: at.shared.expiry(ttl),
                condition,
                ..Write::new(key, op)
            };
            change(at.shared, Op::Put, write, asked).await
        }
        Method::DELETE => {
            refuse_query(&at.parts.uri)?;
            let asked = at.asked(OF_DELETES)?;
            let key = at.key(&asked)?;
            let op = match asked.keyspace.merge {
                MergePolicy::Lww => {
                    seen(&at, &key, &asked)?;
                    WriteOp::Delete
                }
                MergePolicy::Siblings => WriteOp::DeleteSiblings {
                    seen: seen(&at, &key, &asked)?,
                },
            };
            let write = Write {
                condition: condition(&at, &asked)?,
                ..Write::new(key, op)
            };
            change(at.shared, Op::Delete, write, asked).await
        }
        _ => Ok(bad_method("GET, HEAD, PUT, DELETE")),
    }
}

/// What to show of several values.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Several {
    All,
    Winner,
}

fn wanted<N: Node>(at: &Target<'_, N>) -> Result<Several, Problem> {
    if at.parts.uri.query().is_none() {
        return Ok(Several::All);
    }
    match query_pairs(&at.parts.uri)?.as_slice() {
        [] => Ok(Several::All),
        [(name, value)] if name == "siblings" && value == "winner" => Ok(Several::Winner),
        [(name, value)] if name == "siblings" && value == "all" => Ok(Several::All),
        _ => Err(Problem::new(
            Code::BadQuery,
            "a read takes only siblings=winner or siblings=all (a ? in a key is written %3F)",
        )),
    }
}

/// What the writer had read.
fn seen<N: Node>(
    at: &Target<'_, N>,
    key: &RowKey,
    asked: &Asked<'_>,
) -> Result<Option<Context>, Problem> {
    let Some(value) = at.wishes.given(Wish::Context) else {
        return Ok(None);
    };
    refuse_context(asked)?;
    context::decode(key, value.as_bytes()).map(Some)
}

/// Refuses a context where the last writer wins whatever it had seen.
pub(super) fn refuse_context(asked: &Asked<'_>) -> Result<(), Problem> {
    match asked.keyspace.merge {
        MergePolicy::Siblings => Ok(()),
        MergePolicy::Lww => Err(Problem::new(
            Code::BadContext,
            "this keyspace's merge policy is lww, where values have no context: leave it out, or use If-Match",
        )),
    }
}

fn condition<N: Node>(at: &Target<'_, N>, asked: &Asked<'_>) -> Result<Option<Condition>, Problem> {
    let condition = at.wishes.condition()?;
    if condition.is_some() && asked.level() == Level::UnsafeOne {
        return Err(Problem::new(
            Code::BadLevel,
            "a conditional write must read a quorum: use another level than unsafe-one",
        ));
    }
    Ok(condition)
}

async fn read<N: Node>(
    at: &Target<'_, N>,
    asked: Asked<'_>,
    wanted: Several,
) -> Result<Response, Problem> {
    let shared = at.shared;
    let key = at.key(&asked)?;
    // Only contexts need the key once more.
    let kept = (asked.keyspace.merge == MergePolicy::Siblings).then(|| key.clone());
    let outcome = shared.call(Op::Get, Operation::Get { key }, &asked).await;
    let Outcome::Read(row) = outcome else {
        return Err(shared.problem(&outcome, &asked));
    };
    let mut observed = Observed::of(&shared.names, &asked);
    let now = shared.node.now();
    let summary = row.as_ref().map(Row::summary);
    let mut response = match (row, summary, &kept) {
        (Some(Row::Register(version)), Some(summary), _) => {
            observed.version(&version);
            last(shared, version, summary.state, now)?
        }
        (Some(row @ Row::Siblings(_)), Some(summary), Some(key)) => {
            observed.row(key, &row);
            let found = Found {
                key,
                row: &row,
                stamp: summary.stamp(),
                state: summary.state,
            };
            found.respond(at, wanted, now)?
        }
        (_, _, _) => absent().into_response(),
    };
    observed.put(response.headers_mut());
    Ok(response)
}

/// The value of an `lww` keyspace. If there is none, the delete's own version tells a deleted key from one that
/// was never seen here.
fn last<N: Node>(
    shared: &Shared<N>,
    version: Version,
    state: u64,
    now: Wall,
) -> Result<Response, Problem> {
    if version.is_live(now) {
        return one(shared, version, state);
    }
    let mut response = absent().into_response();
    shared.put_version(response.headers_mut(), version.stamp(), state);
    Ok(response)
}

/// The row of a key in a `siblings` keyspace.
struct Found<'a> {
    key: &'a RowKey,
    row: &'a Row,
    stamp: Stamp,
    state: u64,
}

impl Found<'_> {
    fn respond<N: Node>(
        &self,
        at: &Target<'_, N>,
        wanted: Several,
        now: Wall,
    ) -> Result<Response, Problem> {
        let shared = at.shared;
        let Row::Siblings(row) = self.row else {
            return Ok(absent().into_response());
        };
        let live = siblings::live(row, now);
        shared.metrics.on_siblings(live.len());
        let mut response = match live.as_slice() {
            [] => {
                let mut response = absent().into_response();
                shared.put_version(response.headers_mut(), self.stamp, self.state);
                response
            }
            [only] => one(shared, (*only).clone(), self.state)?,
            [first, ..] if wanted == Several::Winner => one(shared, (*first).clone(), self.state)?,
            several @ [first, ..] => {
                let mut response = siblings::several(shared, &at.parts.headers, several)?;
                shared.put_version(response.headers_mut(), first.stamp(), self.state);
                response
            }
        };
        if let Some(token) = context::header(self.key, &row.context())? {
            response.headers_mut().insert(CONTEXT.clone(), token);
        }
        Ok(response)
    }
}

/// An answer with one value.
fn one<N: Node>(shared: &Shared<N>, version: Version, state: u64) -> Result<Response, Problem> {
    let stamp = version.stamp();
    let value = version.value.unwrap_or_default();
    let permit = if value.len() > SMALL_BYTES {
        Some(shared.reserve(value.len())?)
    } else {
        None
    };
    let mut response = Response::new(Body::from(held(value, permit)));
    let headers = response.headers_mut();
    // Room for date and length too, which are added when it is sent.
    *headers = HeaderMap::with_capacity(8);
    shared.put_version(headers, stamp, state);
    put_expires(headers, version.expires);
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/octet-stream"),
    );
    Ok(response)
}

/// Says when a value ends.
pub(super) fn put_expires(headers: &mut HeaderMap, expires: Option<Wall>) {
    let text = expires.map(|at| Bytes::from(Utc(at).to_string()));
    if let Some(Ok(value)) = text.map(HeaderValue::from_maybe_shared) {
        headers.insert(EXPIRES.clone(), value);
    }
}

async fn change<N: Node>(
    shared: &Shared<N>,
    op: Op,
    write: Write,
    asked: Asked<'_>,
) -> Result<Response, Problem> {
    let is_conditional = write.condition.is_some();
    let written = shared.write(op, write, &asked).await?;
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    *headers = HeaderMap::with_capacity(8);
    if let Some(summary) = &written.summary {
        shared.put_version(headers, summary.stamp(), summary.state);
    }
    if is_conditional {
        let words = if written.is_crossed {
            "merged"
        } else {
            "serialized"
        };
        headers.insert(CONDITION.clone(), HeaderValue::from_static(words));
    }
    let mut observed = Observed::of(&shared.names, &asked);
    observed.written(&written);
    observed.put(headers);
    Ok(response)
}
