//! A key's set: change, look, delete.

use std::collections::BTreeSet;

use axum::http::Method;
use axum::response::Response;
use bytes::Bytes;
use hyper::body::Incoming;
use serde::{Deserialize, Serialize};

use crate::metrics::Op;
use crate::model::{self, Collection, Context, Part, RowKey, Selection, Write, WriteOp};

use super::blob::Blob;
use super::few::Few;
use super::json::json;
use super::key::put_expires;
use super::node::Node;
use super::observed::Observed;
use super::page::{self, Question};
use super::path::refuse_query;
use super::problem::{Code, Problem};
use super::shared::Asked;
use super::siblings::winner;
use super::target::{PARTS_KEPT, Target, bad_method};
use super::wishes::{OF_READS, Wish};

#[derive(Deserialize)]
#[cfg_attr(any(test, fuzzing), derive(Serialize, PartialEq, Debug))]
#[serde(deny_unknown_fields)]
pub(super) struct ChangeForm {
    #[serde(default)]
    add: Names,
    #[serde(default)]
    remove: Names,
}

#[derive(Serialize)]
struct PageForm {
    members: Vec<Blob>,
    next: Option<String>,
}

#[derive(Serialize)]
struct MemberForm {
    is_member: bool,
}

/// Answers a request for a set.
pub(super) async fn answer<N: Node>(
    at: Target<'_, N>,
    body: Incoming,
) -> Result<Response, Problem> {
    match at.parts.method {
        Method::GET | Method::HEAD => {
            let asked = at.asked(OF_READS)?;
            let key = at.key(&asked)?;
            match Question::of(&at.parts.uri, &key, Collection::Set)? {
                Question::Page { limit, after } => page(&at, &key, (limit, after), asked).await,
                Question::One(member) => is_member(&at, key, member, asked).await,
                Question::Size => {
                    page::size(at.shared, Op::SetRead, key, Collection::Set, &asked).await
                }
            }
        }
        Method::POST => {
            refuse_query(&at.parts.uri)?;
            change(&at, body).await
        }
        Method::DELETE => {
            refuse_query(&at.parts.uri)?;
            let asked = at.asked(&[Wish::Session])?;
            let op = WriteOp::Clear {
                collection: Collection::Set,
                seen: Context::default(),
            };
            let write = Write::new(at.key(&asked)?, op);
            let written = at.shared.write(Op::SetWrite, write, &asked).await?;
            Ok(at.done(&written, &asked))
        }
        _ => Ok(bad_method("GET, HEAD, POST, DELETE")),
    }
}

async fn change<N: Node>(at: &Target<'_, N>, body: Incoming) -> Result<Response, Problem> {
    let asked = at.asked(&[Wish::Session, Wish::Ttl])?;
    let key = at.key(&asked)?;
    let ttl = at.wishes.ttl()?;
    let (form, _room) = at
        .json::<ChangeForm>(body, at.parts_limit("change of a set"))
        .await?;
    if form.add.is_cut() || form.remove.is_cut() {
        return Err(at.shared.too_many_parts());
    }
    let op = WriteOp::Members {
        add: names(form.add),
        remove: names(form.remove),
    };
    at.refuse_parts(&op)?;
    let write = Write {
        expires: at.shared.expiry(ttl),
        ..Write::new(key, op)
    };
    let written = at.shared.write(Op::SetWrite, write, &asked).await?;
    Ok(at.done(&written, &asked))
}

/// Names in a body: no topology allows a write of more parts.
pub(super) type Names = Few<Blob, PARTS_KEPT>;

/// Each name once.
pub(super) fn names(names: Names) -> Vec<Bytes> {
    let names: BTreeSet<Bytes> = names.items.into_iter().map(|name| name.0).collect();
    names.into_iter().collect()
}

async fn page<N: Node>(
    at: &Target<'_, N>,
    key: &RowKey,
    range: (u32, Option<Bytes>),
    asked: Asked<'_>,
) -> Result<Response, Problem> {
    let shared = at.shared;
    let _room = shared.reserve(shared.node.topology().limits.batch_bytes_max)?;
    let (rows, next) =
        page::page(shared, Op::SetRead, (key, Collection::Set), range, &asked).await?;
    let mut observed = Observed::of(&shared.names, &asked);
    for (key, row) in &rows {
        observed.row(key, row);
    }
    let members = model::members(&rows, shared.node.now());
    let mut response = json(&PageForm {
        members: members.into_iter().map(Blob).collect(),
        next,
    });
    observed.put(response.headers_mut());
    Ok(response)
}

async fn is_member<N: Node>(
    at: &Target<'_, N>,
    key: RowKey,
    member: Bytes,
    asked: Asked<'_>,
) -> Result<Response, Problem> {
    if member.is_empty() {
        return Err(Problem::new(
            Code::BadQuery,
            "the member is empty: give at least one byte",
        ));
    }
    let shared = at.shared;
    let member = key.with(&Part::Member(member));
    let clear = key.with(&Part::Clear(Collection::Set));
    let selection = Selection::Rows(vec![clear, member.clone()]);
    let (mut rows, _) = shared.select(Op::SetRead, selection, &asked).await?;
    page::strip(&mut rows, Collection::Set);
    let mut observed = Observed::of(&shared.names, &asked);
    for (key, row) in &rows {
        observed.row(key, row);
    }
    let now = shared.node.now();
    let row = rows.iter().find(|(key, _)| *key == member);
    let version = row.and_then(|(_, row)| winner(row, now));
    let mut response = json(&MemberForm {
        is_member: version.is_some(),
    });
    let headers = response.headers_mut();
    put_expires(headers, version.and_then(|version| version.expires));
    observed.put(headers);
    Ok(response)
}
