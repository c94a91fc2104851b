//! Waiting until what a session has seen is in other regions too.

use axum::http::Uri;
use axum::response::Response;
use serde::Serialize;
use tokio::time::Instant;

use crate::metrics::Op;
use crate::model::RegionId;
use crate::protocol::{Operation, Outcome, Request, Unavailable};

use super::json::json;
use super::node::Node;
use super::observed::put_session;
use super::path::query_pairs;
use super::problem::{Code, Problem};
use super::shared::{Shared, fate, not_yet, of_any};
use super::wishes::{Wish, Wishes};

#[derive(Serialize)]
struct ReachedForm {
    reached: bool,
}

/// Answers when a quorum of the regions has everything.
pub(super) async fn wait<N: Node>(
    shared: &Shared<N>,
    uri: &Uri,
    wishes: &Wishes,
) -> Result<Response, Problem> {
    wishes.take_only(&[Wish::Session])?;
    let regions = regions(shared, uri)?;
    if wishes.level.is_some() {
        let words = "a wait is for a quorum of each region: leave out Sterna-Consistency";
        return Err(Problem::new(Code::BadLevel, words));
    }
    if wishes.given(Wish::Session).is_none() {
        let words = "wait for what? give the Sterna-Session of what was written or read";
        return Err(Problem::new(Code::BadHeader, words));
    }
    let gate = shared.gate(wishes)?;
    let session = gate.session.clone();
    let start = Instant::now();
    let request = Request {
        operation: Operation::Wait { regions },
        level: None,
        gate,
    };
    let outcome = shared.node.call(request, wishes.timeout_far()).await;
    shared
        .metrics
        .observe(Op::Wait, fate(&outcome), start.elapsed());
    if outcome == Outcome::Unavailable(Unavailable::Deadline) {
        return Err(not_yet());
    }
    if outcome != Outcome::Reached {
        return Err(of_any(&outcome));
    }
    let mut response = json(&ReachedForm { reached: true });
    put_session(&shared.names, &session, response.headers_mut());
    Ok(response)
}

fn regions<N: Node>(shared: &Shared<N>, uri: &Uri) -> Result<Vec<RegionId>, Problem> {
    match query_pairs(uri)?.as_slice() {
        [] => Ok(Vec::new()),
        [(name, value)] if name == "region" && value == "all" => Ok(Vec::new()),
        [(name, value)] if name == "region" => {
            let regions = &shared.node.topology().regions;
            let found = regions.iter().find(|region| region.name == *value);
            let region = found.ok_or_else(|| {
                let known: Vec<&str> = regions.iter().map(|region| region.name.as_str()).collect();
                let words = format!(
                    "no region `{value}`: use all, or one of {}",
                    known.join(", ")
                );
                Problem::new(Code::BadQuery, words)
            })?;
            Ok(vec![region.id])
        }
        _ => Err(Problem::new(
            Code::BadQuery,
            "a wait takes only the parameter region",
        )),
    }
}
