//! Listing what lost: versions that a concurrent one replaced without having seen them, in keyspaces that keep them.

use axum::http::Uri;
use axum::response::Response;
use serde::Serialize;

use crate::model::{Row, RowKey, Wall, Wanted};

use super::blob::Blob;
use super::json::json;
use super::list::{Listing, Query, gather};
use super::node::Node;
use super::problem::Problem;
use super::shared::{Asked, Shared};
use super::when::Utc;

#[derive(Serialize)]
struct Page<'a> {
    conflicts: Vec<ConflictForm<'a>>,
    next: Option<String>,
}

/// A version that lost, and to which; without a value it was a delete.
#[derive(Serialize)]
struct ConflictForm<'a> {
    key: Blob,
    value: Option<Blob>,
    region: &'a str,
    timestamp: String,
    winner_region: &'a str,
    winner_timestamp: String,
    expires: String,
}

/// Answers with one page, as a listing of keys does.
pub(super) async fn list<N: Node>(
    shared: &Shared<N>,
    uri: &Uri,
    asked: Asked<'_>,
) -> Result<Response, Problem> {
    let query = Query::of(uri, &asked, shared.node.topology().partitions, &[])?;
    let now = shared.node.now();
    let Listing {
        items,
        next,
        observed,
        room: _room,
    } = gather(shared, Wanted::Conflicts, query, &asked, |key, row| {
        form(shared, key, row, now)
    })
    .await?;
    let mut response = json(&Page {
        conflicts: items,
        next,
    });
    observed.put(response.headers_mut());
    Ok(response)
}

fn form<N: Node>(
    shared: &Shared<N>,
    key: RowKey,
    row: Row,
    now: Wall,
) -> Option<(ConflictForm<'_>, usize)> {
    let Row::Conflict(conflict) = row else {
        return None;
    };
    let loser = conflict.loser.filter(|_| conflict.expires > now)?;
    let bytes = key.key.len() + loser.value.as_ref().map_or(0, bytes::Bytes::len) + 64;
    let form = ConflictForm {
        key: Blob(key.key),
        value: loser.value.map(Blob),
        region: shared.names.origin_text(loser.dot.actor.node),
        timestamp: loser.timestamp.to_string(),
        winner_region: shared.names.origin_text(conflict.winner.dot.actor.node),
        winner_timestamp: conflict.winner.timestamp.to_string(),
        expires: Utc(conflict.expires).to_string(),
    };
    Some((form, bytes))
}
