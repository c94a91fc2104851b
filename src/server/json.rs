//! Answers in JSON.

use axum::body::Body;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::Serialize;

use super::problem::{Code, Problem};

/// An answer of status 200 whose body is this value.
pub(super) fn json<T: Serialize>(value: &T) -> Response {
    match encode(value) {
        Ok(bytes) => json_bytes(bytes),
        Err(problem) => problem.into_response(),
    }
}

/// The JSON of a value.
pub(super) fn encode<T: Serialize>(value: &T) -> Result<Bytes, Problem> {
    serde_json::to_vec(value)
        .map(Bytes::from)
        .map_err(|error| Problem::new(Code::Broken, format!("encode the answer: {error}")))
}

/// An answer of status 200 whose body is this JSON.
pub(super) fn json_bytes(bytes: Bytes) -> Response {
    with_type(Body::from(bytes), "application/json")
}

/// An answer of status 200 with a content type.
pub(super) fn with_type(body: Body, content_type: &'static str) -> Response {
    let mut response = Response::new(body);
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
