//! Values of a `siblings` keyspace that were written concurrently, side by side in one answer.

use std::fmt::Write as _;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{BufMut as _, Bytes, BytesMut};
use serde::Serialize;

use crate::model::{Row, Siblings, Version, Wall};

use super::body::held;
use super::json::encode;
use super::node::Node;
use super::problem::Problem;
use super::shared::Shared;
use super::when::Utc;

/// One of several values.
#[derive(Serialize)]
pub(super) struct SiblingForm<'a> {
    /// In standard base64: siblings are for programs, which need not look at them one by one.
    value: String,
    region: &'a str,
    timestamp: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires: Option<String>,
}

#[derive(Serialize)]
struct Form<'a> {
    siblings: Vec<SiblingForm<'a>>,
}

/// The live versions, the last written first.
pub(super) fn live(row: &Siblings, now: Wall) -> Vec<&Version> {
    let versions = row.versions().iter();
    let mut live: Vec<_> = versions.filter(|version| version.is_live(now)).collect();
    live.sort_unstable_by_key(|version| std::cmp::Reverse(version.stamp()));
    live
}

/// The version that a client sees that wants one value.
pub(super) fn winner(row: &Row, now: Wall) -> Option<&Version> {
    match row {
        Row::Register(version) => version.is_live(now).then_some(version),
        Row::Siblings(row) => row.winner(now),
        Row::Share(_) | Row::Once(_) | Row::Clear(_) | Row::Expiry(_) | Row::Conflict(_) => None,
    }
}

/// Bytes of all values.
pub(super) fn size(versions: &[&Version]) -> usize {
    let values = versions.iter().filter_map(|version| version.value.as_ref());
    values.map(Bytes::len).sum()
}

/// The forms of versions for JSON.
pub(super) fn forms<'a, N: Node>(
    shared: &'a Shared<N>,
    versions: &[&Version],
) -> Vec<SiblingForm<'a>> {
    let form = |version: &&Version| SiblingForm {
        value: STANDARD.encode(version.value.as_deref().unwrap_or_default()),
        region: shared.names.origin_text(version.dot.actor.node),
        timestamp: version.timestamp.to_string(),
        expires: version.expires.map(|at| Utc(at).to_string()),
    };
    versions.iter().map(form).collect()
}

/// An answer of status 300 with all values, in JSON, or in parts if the client would rather have those.
pub(super) fn several<N: Node>(
    shared: &Shared<N>,
    headers: &HeaderMap,
    versions: &[&Version],
) -> Result<Response, Problem> {
    // Once as values, once as they are sent.
    let room = shared.reserve(size(versions).saturating_mul(2))?;
    let (body, kind) = if wants_parts(headers) {
        let boundary = format!("sterna-{:032x}", fastrand::u128(..));
        let kind = format!("multipart/mixed; boundary={boundary}");
        (
            parts(shared, versions, &boundary),
            HeaderValue::try_from(kind).ok(),
        )
    } else {
        let siblings = forms(shared, versions);
        let json = HeaderValue::from_static("application/json");
        (encode(&Form { siblings })?, Some(json))
    };
    let mut response = Response::new(Body::from(held(body, Some(room))));
    *response.status_mut() = StatusCode::MULTIPLE_CHOICES;
    if let Some(kind) = kind {
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
    }
    Ok(response)
}

fn wants_parts(headers: &HeaderMap) -> bool {
    let mut accepted = headers.get_all(header::ACCEPT).into_iter();
    accepted.any(|value| {
        let text = value.to_str().unwrap_or_default().to_ascii_lowercase();
        text.contains("multipart/mixed")
    })
}

fn parts<N: Node>(shared: &Shared<N>, versions: &[&Version], boundary: &str) -> Bytes {
    let mut out = BytesMut::with_capacity(size(versions) + versions.len() * 256 + 64);
    for version in versions {
        let region = shared.names.origin_text(version.dot.actor.node);
        let mut head = format!(
            "--{boundary}\r\nContent-Type: application/octet-stream\r\nSterna-Timestamp: {}\r\nSterna-Region: {region}\r\n",
            version.timestamp
        );
        if let Some(at) = version.expires {
            // Writing to a string cannot fail.
            head.write_fmt(format_args!("Sterna-Expires: {}\r\n", Utc(at)))
                .unwrap_or_default();
        }
        out.put_slice(head.as_bytes());
        out.put_slice(b"\r\n");
        out.put_slice(version.value.as_deref().unwrap_or_default());
        out.put_slice(b"\r\n");
    }
    out.put_slice(format!("--{boundary}--\r\n").as_bytes());
    out.freeze()
}
