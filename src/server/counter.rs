//! A key's counter: add, read, reset.

use axum::http::Method;
use axum::response::Response;
use hyper::body::Incoming;
use serde::{Deserialize, Serialize};

use crate::metrics::Op;
use crate::model::{self, Place, Selection, Write, WriteOp};

use super::body::BodyLimit;
use super::json::json;
use super::node::Node;
use super::observed::Observed;
use super::path::refuse_query;
use super::problem::Problem;
use super::target::{Target, bad_method};
use super::wishes::{OF_READS, Wish};

const BODY: BodyLimit = BodyLimit {
    bytes_max: 4 << 10,
    what: "change of a counter",
};

#[derive(Deserialize)]
#[cfg_attr(any(test, fuzzing), derive(Serialize, PartialEq, Debug))]
#[serde(deny_unknown_fields)]
pub(super) struct AddForm {
    add: i64,
}

/// The sum of all shares may lie beyond what one share can hold; it is a JSON number all the same.
#[derive(Serialize)]
struct ValueForm {
    value: i128,
}

/// Answers a request for a counter.
pub(super) async fn answer<N: Node>(
    at: Target<'_, N>,
    body: Incoming,
) -> Result<Response, Problem> {
    refuse_query(&at.parts.uri)?;
    match at.parts.method {
        Method::GET | Method::HEAD => read(&at).await,
        Method::POST => {
            let asked = at.asked(&[Wish::Session, Wish::Operation])?;
            let key = at.key(&asked)?;
            let id = at.wishes.operation()?;
            let (AddForm { add }, _room) = at.json(body, BODY).await?;
            let op = WriteOp::Add {
                place: Place::Key,
                delta: add,
                id,
            };
            let write = Write::new(key, op);
            let written = at.shared.write(Op::CounterWrite, write, &asked).await?;
            Ok(at.done(&written, &asked))
        }
        Method::DELETE => {
            let asked = at.asked(&[Wish::Session])?;
            let op = WriteOp::Reset { place: Place::Key };
            let write = Write::new(at.key(&asked)?, op);
            let written = at.shared.write(Op::CounterWrite, write, &asked).await?;
            Ok(at.done(&written, &asked))
        }
        _ => Ok(bad_method("GET, HEAD, POST, DELETE")),
    }
}

async fn read<N: Node>(at: &Target<'_, N>) -> Result<Response, Problem> {
    let asked = at.asked(OF_READS)?;
    let selection = Selection::Counter {
        key: at.key(&asked)?,
        place: Place::Key,
    };
    let (rows, _) = at.shared.select(Op::CounterRead, selection, &asked).await?;
    let mut observed = Observed::of(&at.shared.names, &asked);
    for (key, row) in &rows {
        observed.row(key, row);
    }
    let value = model::counter(&rows, &Place::Key).unwrap_or(0);
    let mut response = json(&ValueForm { value });
    observed.put(response.headers_mut());
    Ok(response)
}
