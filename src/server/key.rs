//! One key: read, write, delete. The hot path: no JSON, no router, few allocations.

use axum::body::Body;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use hyper::body::Incoming;

use crate::metrics::Op;
use crate::model::{Row, RowKey, Summary, Write, WriteOp};
use crate::protocol::{Operation, Outcome, Written};

use super::body::{BodyLimit, held};
use super::node::Node;
use super::path::{KeyPath, refuse_query};
use super::problem::{Code, Problem};
use super::shared::{Asked, Shared};
use super::wishes::Wishes;

/// Answers up to this size are not counted as bytes in flight: the number of connections bounds them.
const SMALL_BYTES: usize = 4 << 10;

/// Answers a request for one key.
pub(super) async fn answer<N: Node>(
    shared: &Shared<N>,
    parts: &Parts,
    path: KeyPath<'_>,
    wishes: Wishes,
    body: Incoming,
) -> Result<Response, Problem> {
    let asked = shared.asked(path.keyspace, wishes)?;
    refuse_query(&parts.uri)?;
    let key = Bytes::from(path.key()?.into_owned());
    let key = RowKey::plain(asked.keyspace.id, key);
    match parts.method {
        Method::GET | Method::HEAD => read(shared, key, asked).await,
        Method::PUT => {
            let limit = BodyLimit {
                bytes_max: shared.node.topology().limits.value_bytes_max,
                what: "value",
            };
            let _room = shared.reserve(limit.declared(&body)?)?;
            let value = limit.read(body).await?;
            write(shared, Op::Put, key, WriteOp::Put(value), asked).await
        }
        Method::DELETE => write(shared, Op::Delete, key, WriteOp::Delete, asked).await,
        _ => Ok(bad_method()),
    }
}

fn bad_method() -> Response {
    let words = "a key takes GET, HEAD, PUT and DELETE";
    let mut response = Problem::new(Code::BadMethod, words).into_response();
    let allowed = HeaderValue::from_static("GET, HEAD, PUT, DELETE");
    response.headers_mut().insert(header::ALLOW, allowed);
    response
}

async fn read<N: Node>(
    shared: &Shared<N>,
    key: RowKey,
    asked: Asked<'_>,
) -> Result<Response, Problem> {
    let outcome = shared.call(Op::Get, Operation::Get { key }, asked).await;
    let Outcome::Read(row) = outcome else {
        return Err(shared.problem(&outcome, asked));
    };
    let Some(row) = row else {
        return Ok(absent().into_response());
    };
    let summary = row.summary();
    let Some(value) = value_of(row) else {
        // The delete's own version: it tells a deleted key from one that was never seen here.
        let mut response = absent().into_response();
        shared.put_version(response.headers_mut(), &summary);
        return Ok(response);
    };
    let permit = if value.len() > SMALL_BYTES {
        Some(shared.reserve(value.len())?)
    } else {
        None
    };
    let mut response = respond(
        shared,
        StatusCode::OK,
        Body::from(held(value, permit)),
        &summary,
    );
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/octet-stream"),
    );
    Ok(response)
}

async fn write<N: Node>(
    shared: &Shared<N>,
    op: Op,
    key: RowKey,
    write: WriteOp,
    asked: Asked<'_>,
) -> Result<Response, Problem> {
    let operation = Operation::Write(Box::new(Write::new(key, write)));
    let outcome = shared.call(op, operation, asked).await;
    let Outcome::Written(Written {
        summary: Some(summary),
        ..
    }) = outcome
    else {
        return Err(shared.problem(&outcome, asked));
    };
    Ok(respond(
        shared,
        StatusCode::NO_CONTENT,
        Body::empty(),
        &summary,
    ))
}

fn respond<N: Node>(
    shared: &Shared<N>,
    status: StatusCode,
    body: Body,
    version: &Summary,
) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    // Room for date and length too, which are added when it is sent.
    *response.headers_mut() = HeaderMap::with_capacity(8);
    shared.put_version(response.headers_mut(), version);
    response
}

fn absent() -> Problem {
    Problem::new(
        Code::Absent,
        "there is no value under this key: write it first",
    )
}

/// The value that a client sees of a row.
pub(super) fn value_of(row: Row) -> Option<Bytes> {
    match row {
        Row::Register(version) => version.value,
        _ => None,
    }
}
