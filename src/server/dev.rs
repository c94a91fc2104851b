//! The links and clocks of a development cluster over HTTP. On any other cluster these routes do not exist.

use axum::body::Body;
use axum::response::Response;
use serde::{Deserialize, Serialize};

use crate::node::Clock;

use super::body::BodyLimit;
use super::json::json;
use super::links::{LinkChange, LinkControl, LinkState, NoLink};
use super::node::Node;
use super::path::decode_name;
use super::problem::{Code, Problem};
use super::shared::Shared;

/// Longest body of a change: it has five short fields.
const BODY_BYTES_MAX: usize = 4 << 10;

#[derive(Serialize)]
struct Links {
    links: Vec<LinkState>,
}

/// All links.
pub(super) fn links<N: Node>(shared: &Shared<N>) -> Result<Response, Problem> {
    let links = control(shared)?.links();
    Ok(json(&Links { links }))
}

/// Changes one link, or all links of region `a` if `b` is `*`.
pub(super) async fn change<N: Node>(
    shared: &Shared<N>,
    path: [&str; 2],
    body: Body,
) -> Result<Response, Problem> {
    let control = control(shared)?;
    let [a, b] = path;
    let (a, b) = (decode_name(a)?, decode_name(b)?);
    let limit = BodyLimit {
        bytes_max: BODY_BYTES_MAX,
        what: "link change",
    };
    let received = limit.read(body, &shared.budget).await?;
    let change = LinkChange::parse(&received.bytes)?;
    if b != "*" {
        let link = control.change(&a, &b, change);
        return link.map(|link| json(&link)).map_err(no_link);
    }
    let links = control.links().into_iter();
    let links: Result<Vec<_>, _> = links
        .filter(|link| link.a == a || link.b == a)
        .map(|link| control.change(&link.a, &link.b, change))
        .collect();
    let links = links.map_err(no_link)?;
    if links.is_empty() {
        return Err(no_link(NoLink));
    }
    Ok(json(&Links { links }))
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ClockChange {
    offset_ms: i32,
}

/// Puts the wall clock of this process off.
pub(super) async fn clock<N: Node>(shared: &Shared<N>, body: Body) -> Result<Response, Problem> {
    control(shared)?;
    let limit = BodyLimit {
        bytes_max: BODY_BYTES_MAX,
        what: "clock change",
    };
    let body = limit.read(body, &shared.budget).await?;
    let change: ClockChange = serde_json::from_slice(&body.bytes).map_err(|error| {
        Problem::new(
            Code::BadBody,
            format!("the body is no clock change: {error}"),
        )
    })?;
    Clock::set_wall_offset(i64::from(change.offset_ms) * 1_000);
    tracing::warn!(offset_ms = change.offset_ms, "the wall clock was put off");
    Ok(json(&change))
}

fn control<N>(shared: &Shared<N>) -> Result<&dyn LinkControl, Problem> {
    shared.links.as_deref().ok_or_else(|| {
        Problem::new(
            Code::NoRoute,
            "this is no development cluster: links can be changed under `sterna dev` only",
        )
    })
}

fn no_link(error: NoLink) -> Problem {
    Problem::new(
        Code::NoLink,
        format!("{error}: GET /v1/dev/links lists those that there are"),
    )
}
