//! Who answers a request: the hot path for one key, the router for everything else.
//!
//! A key's path is matched by hand, before the router: the router would decode it as UTF-8, copy its
//! parameters, and box a handler and its future, all for two routes that need none of it.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use axum::response::{IntoResponse, Response};
use hyper::body::Incoming;
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;

use super::node::Node;
use super::path::{KeyPath, Kind};
use super::problem::Problem;
use super::routes::router;
use super::shared::Shared;
use super::target::Target;
use super::wishes::Wishes;
use super::{counter, key, map, set};

/// Answers requests of all connections.
#[derive(Debug)]
pub(super) struct Door<N> {
    /// What they share.
    pub(super) shared: Arc<Shared<N>>,
    router: TowerToHyperService<Router>,
}

impl<N: Node> Door<N> {
    /// A door to a node.
    pub(super) fn new(shared: Arc<Shared<N>>) -> Self {
        let router = TowerToHyperService::new(router(&shared));
        Self { shared, router }
    }

    /// Answers a request.
    pub(super) async fn answer(&self, request: Request<Incoming>) -> Response {
        match self.try_answer(request).await {
            Ok(response) => response,
            Err(problem) => problem.into_response(),
        }
    }

    async fn try_answer(&self, request: Request<Incoming>) -> Result<Response, Problem> {
        let wishes = Wishes::of(request.method(), request.headers())?;
        let (mut parts, body) = request.into_parts();
        if let Some(path) = KeyPath::of(parts.uri.path()) {
            let target = Target {
                shared: &self.shared,
                parts: &parts,
                path,
                wishes: &wishes,
            };
            return match path.kind {
                Kind::Value => key::answer(target, body).await,
                Kind::Counter => Box::pin(counter::answer(target, body)).await,
                Kind::Set => Box::pin(set::answer(target, body)).await,
                Kind::Map => Box::pin(map::answer(target, body)).await,
            };
        }
        parts.extensions.insert(wishes);
        let request = Request::from_parts(parts, Body::new(body));
        match self.router.call(request).await {
            Ok(response) => Ok(response),
            Err(never) => match never {},
        }
    }
}
