//! What a request is aimed at: a key, or a part of one.

use axum::body::Body;
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use hyper::body::Incoming;
use serde::de::DeserializeOwned;
use tokio::sync::OwnedSemaphorePermit;

use crate::model::{RowKey, WriteOp};
use crate::protocol::Written;

use super::body::BodyLimit;
use super::node::Node;
use super::observed::Observed;
use super::path::KeyPath;
use super::problem::{Code, Problem};
use super::shared::{Asked, Shared};
use super::wishes::{Wish, Wishes};

/// Bytes of a body for names, and values in base64 or with escapes.
const PARTS_BYTES: usize = 1 << 20;

/// A request for a key, without its body.
pub(super) struct Target<'a, N> {
    /// The door.
    pub(super) shared: &'a Shared<N>,
    /// The request's head.
    pub(super) parts: &'a Parts,
    /// Its path.
    pub(super) path: KeyPath<'a>,
    /// Its wishes.
    pub(super) wishes: &'a Wishes,
}

impl<'a, N: Node> Target<'a, N> {
    /// Its keyspace and wishes; those that are not `taken` are refused.
    pub(super) fn asked(&self, taken: &[Wish]) -> Result<Asked<'a>, Problem> {
        self.shared.asked(self.path.keyspace, self.wishes, taken)
    }

    /// The key, as the row of its plain value.
    pub(super) fn key(&self, asked: &Asked<'_>) -> Result<RowKey, Problem> {
        let key = Bytes::from(self.path.key()?.into_owned());
        Ok(RowKey::plain(asked.keyspace.id, key))
    }

    /// Reads a body of JSON. The room that it takes is held until the permit goes.
    pub(super) async fn json<T: DeserializeOwned>(
        &self,
        body: Incoming,
        limit: BodyLimit,
    ) -> Result<(T, OwnedSemaphorePermit), Problem> {
        // Once as it came, once as the values in it.
        let room = self
            .shared
            .admit(limit.declared(&body)?.saturating_mul(2))?;
        let bytes = limit.read(body).await?;
        let form = object(&bytes, limit.what)?;
        Ok((form, room))
    }

    /// The limit of a body that changes members or fields: one value of the greatest size fits in any form.
    pub(super) fn parts_limit(&self, what: &'static str) -> BodyLimit {
        BodyLimit {
            bytes_max: 2 * self.shared.node.topology().limits.value_bytes_max + PARTS_BYTES,
            what,
        }
    }

    /// Refuses a write of too many parts, or of none, or of parts without a proper name.
    pub(super) fn refuse_parts(&self, op: &WriteOp) -> Result<(), Problem> {
        let parts = op.parts();
        if parts > self.shared.node.topology().limits.parts_max {
            return Err(self.shared.too_many_parts());
        }
        if parts == 0 {
            return Err(Problem::new(
                Code::BadBody,
                "the request changes nothing: name what to add, put or remove",
            ));
        }
        match op {
            WriteOp::Members { add, remove } => self.refuse_names(add.iter().chain(remove)),
            WriteOp::Fields {
                put, add, remove, ..
            } => {
                let put = put.iter().map(|(name, _)| name);
                let add = add.iter().map(|(name, _)| name);
                self.refuse_names(put.chain(add).chain(remove))
            }
            WriteOp::Put(_)
            | WriteOp::PutSibling { .. }
            | WriteOp::Delete
            | WriteOp::DeleteSiblings { .. }
            | WriteOp::Add { .. }
            | WriteOp::Reset { .. }
            | WriteOp::Clear { .. } => Ok(()),
        }
    }

    fn refuse_names<'b>(&self, mut names: impl Iterator<Item = &'b Bytes>) -> Result<(), Problem> {
        let bytes_max = self.shared.node.topology().limits.key_bytes_max;
        names.try_for_each(|name| match name.len() {
            0 => Err(Problem::name_empty()),
            bytes if bytes > bytes_max => Err(Problem::new(
                Code::KeySize,
                format!(
                    "the name of a member or field is longer than {bytes_max} bytes: shorten it"
                ),
            )),
            _ => Ok(()),
        })
    }

    /// The answer to a write that has nothing to show but its session.
    pub(super) fn done(&self, written: &Written, asked: &Asked<'_>) -> Response {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        let mut observed = Observed::of(&self.shared.names, asked);
        observed.written(written);
        observed.put(response.headers_mut());
        response
    }
}

/// The form in a body that must be a JSON object: forms would be read out of lists too.
pub(super) fn object<T: DeserializeOwned>(bytes: &[u8], what: &str) -> Result<T, Problem> {
    if bytes.trim_ascii_start().first() != Some(&b'{') {
        let words = format!("the body is no {what}: it must be a JSON object");
        return Err(Problem::new(Code::BadBody, words));
    }
    serde_json::from_slice(bytes)
        .map_err(|error| Problem::new(Code::BadBody, format!("the body is no {what}: {error}")))
}

/// There is nothing under the key.
pub(super) fn absent() -> Problem {
    Problem::new(
        Code::Absent,
        "there is no value under this key: write it first",
    )
}

/// The path takes only these methods.
pub(super) fn bad_method(allowed: &'static str) -> Response {
    let words = format!("this path takes {allowed}");
    let mut response = Problem::new(Code::BadMethod, words).into_response();
    let allowed = HeaderValue::from_static(allowed);
    response.headers_mut().insert(header::ALLOW, allowed);
    response
}
