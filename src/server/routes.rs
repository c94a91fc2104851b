//! The routes, in one table: the router is built from it, and the OpenAPI document is held against it.

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::http::Uri;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, on};
use bytes::Bytes;

use super::json::json_bytes;
use super::node::Node;
use super::path::refuse_query;
use super::problem::{Code, Problem};
use super::shared::Shared;
use super::wishes::{OF_READS, Wish, Wishes};
use super::{batch, conflicts, dev, list, status, wait};

/// The OpenAPI document.
pub(super) const OPENAPI: &str = include_str!("openapi.json");

/// A method that a route takes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Verb {
    /// GET; where the router answers it, HEAD too.
    Get,
    /// HEAD.
    Head,
    /// PUT.
    Put,
    /// DELETE.
    Delete,
    /// POST.
    Post,
}

/// What answers a route.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Endpoint {
    /// A key, or what is under it: answered before the router is asked, see [`super::door`].
    Key,
    /// [`list::list`].
    List,
    /// [`conflicts::list`].
    Conflicts,
    /// [`wait::wait`].
    Wait,
    /// [`batch::get`].
    BatchGet,
    /// [`batch::put`].
    BatchPut,
    /// [`status::health`].
    Health,
    /// [`status::ready`].
    Ready,
    /// [`status::status`].
    Status,
    /// [`status::regions`].
    Regions,
    /// [`status::digests`].
    Digests,
    /// [`status::digest_children`].
    DigestChildren,
    /// [`status::scrub`].
    Scrub,
    /// [`status::metrics`].
    Metrics,
    /// [`OPENAPI`].
    OpenApi,
    /// [`dev::links`].
    Links,
    /// [`dev::change`].
    ChangeLink,
    /// [`dev::clock`].
    Clock,
}

/// A line of the table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Route {
    /// The method.
    pub(super) verb: Verb,
    /// The path, with parameters in braces.
    pub(super) path: &'static str,
    /// What answers.
    pub(super) endpoint: Endpoint,
}

const fn route(verb: Verb, path: &'static str, endpoint: Endpoint) -> Route {
    Route {
        verb,
        path,
        endpoint,
    }
}

const KEY: &str = "/v1/kv/{keyspace}/{key}";
const COUNTER: &str = "/v1/counter/{keyspace}/{key}";
const SET: &str = "/v1/set/{keyspace}/{key}";
const MAP: &str = "/v1/map/{keyspace}/{key}";
const CHILDREN: &str = "/v1/digests/{keyspace}/{partition}/{level}/{index}";

/// All routes.
pub(super) const ROUTES: [Route; 33] = [
    route(Verb::Get, KEY, Endpoint::Key),
    route(Verb::Head, KEY, Endpoint::Key),
    route(Verb::Put, KEY, Endpoint::Key),
    route(Verb::Delete, KEY, Endpoint::Key),
    route(Verb::Get, COUNTER, Endpoint::Key),
    route(Verb::Head, COUNTER, Endpoint::Key),
    route(Verb::Post, COUNTER, Endpoint::Key),
    route(Verb::Delete, COUNTER, Endpoint::Key),
    route(Verb::Get, SET, Endpoint::Key),
    route(Verb::Head, SET, Endpoint::Key),
    route(Verb::Post, SET, Endpoint::Key),
    route(Verb::Delete, SET, Endpoint::Key),
    route(Verb::Get, MAP, Endpoint::Key),
    route(Verb::Head, MAP, Endpoint::Key),
    route(Verb::Post, MAP, Endpoint::Key),
    route(Verb::Delete, MAP, Endpoint::Key),
    route(Verb::Get, "/v1/kv/{keyspace}", Endpoint::List),
    route(Verb::Get, "/v1/conflicts/{keyspace}", Endpoint::Conflicts),
    route(Verb::Get, "/v1/wait", Endpoint::Wait),
    route(Verb::Post, "/v1/batch/{keyspace}/get", Endpoint::BatchGet),
    route(Verb::Post, "/v1/batch/{keyspace}/put", Endpoint::BatchPut),
    route(Verb::Get, "/healthz", Endpoint::Health),
    route(Verb::Get, "/readyz", Endpoint::Ready),
    route(Verb::Get, "/v1/status", Endpoint::Status),
    route(Verb::Get, "/v1/regions", Endpoint::Regions),
    route(Verb::Post, "/v1/scrub", Endpoint::Scrub),
    route(Verb::Get, "/v1/digests", Endpoint::Digests),
    route(Verb::Get, CHILDREN, Endpoint::DigestChildren),
    route(Verb::Get, "/metrics", Endpoint::Metrics),
    route(Verb::Get, "/openapi.json", Endpoint::OpenApi),
    route(Verb::Get, "/v1/dev/links", Endpoint::Links),
    route(Verb::Post, "/v1/dev/links/{a}/{b}", Endpoint::ChangeLink),
    route(Verb::Post, "/v1/dev/clock", Endpoint::Clock),
];

impl Verb {
    fn filter(self) -> MethodFilter {
        match self {
            Self::Get => MethodFilter::GET,
            Self::Head => MethodFilter::HEAD,
            Self::Put => MethodFilter::PUT,
            Self::Delete => MethodFilter::DELETE,
            Self::Post => MethodFilter::POST,
        }
    }
}

/// The router of all routes but those of one key.
pub(super) fn router<N: Node>(shared: &Arc<Shared<N>>) -> Router {
    let mut router = Router::new();
    for Route {
        verb,
        path,
        endpoint,
    } in ROUTES
    {
        if endpoint == Endpoint::Key {
            continue;
        }
        let shared = Arc::clone(shared);
        let handler = move |request: Request| {
            let shared = Arc::clone(&shared);
            async move {
                endpoint
                    .answer(&shared, request)
                    .await
                    .unwrap_or_else(IntoResponse::into_response)
            }
        };
        router = router.route(path, on(verb.filter(), handler));
    }
    router
        .method_not_allowed_fallback(async || {
            Problem::new(Code::BadMethod, "this path takes another method: see Allow")
        })
        .fallback(async || {
            Problem::new(
                Code::NoRoute,
                "no such path: /openapi.json lists those that there are",
            )
        })
}

impl Endpoint {
    /// Whether it reads or writes keys, and looks at its own wishes.
    fn is_of_data(self) -> bool {
        match self {
            Self::Key
            | Self::List
            | Self::Conflicts
            | Self::Wait
            | Self::BatchGet
            | Self::BatchPut => true,
            Self::Health
            | Self::Ready
            | Self::Status
            | Self::Regions
            | Self::Digests
            | Self::DigestChildren
            | Self::Scrub
            | Self::Metrics
            | Self::OpenApi
            | Self::Links
            | Self::ChangeLink
            | Self::Clock => false,
        }
    }

    async fn answer<N: Node>(
        self,
        shared: &Shared<N>,
        request: Request,
    ) -> Result<Response, Problem> {
        let (parts, body) = request.into_parts();
        let wishes: Wishes = parts.extensions.get().cloned().unwrap_or_default();
        let uri = &parts.uri;
        if !matches!(self, Self::List | Self::Conflicts | Self::Wait) {
            refuse_query(uri)?;
        }
        if !self.is_of_data() {
            wishes.take_only(&[])?;
        }
        match self {
            Self::Key => Err(Problem::new(Code::Broken, "keys are answered elsewhere")),
            Self::List => {
                let [keyspace] = tail(uri)?;
                list::list(shared, uri, shared.asked(keyspace, &wishes, OF_READS)?).await
            }
            Self::Conflicts => {
                let [keyspace] = tail(uri)?;
                conflicts::list(shared, uri, shared.asked(keyspace, &wishes, OF_READS)?).await
            }
            Self::Wait => wait::wait(shared, uri, &wishes).await,
            Self::BatchGet => {
                let [keyspace, _get] = tail(uri)?;
                batch::get(shared, shared.asked(keyspace, &wishes, OF_READS)?, body).await
            }
            Self::BatchPut => {
                let [keyspace, _put] = tail(uri)?;
                batch::put(
                    shared,
                    shared.asked(keyspace, &wishes, &[Wish::Session])?,
                    body,
                )
                .await
            }
            Self::Health => Ok(status::health()),
            Self::Ready => Ok(status::ready(shared)),
            Self::Status => Ok(status::status(shared)),
            Self::Regions => Ok(status::regions(shared)),
            Self::Digests => Ok(status::digests(shared).await),
            Self::DigestChildren => status::digest_children(shared, tail(uri)?).await,
            Self::Scrub => Ok(status::scrub(shared)),
            Self::Metrics => status::metrics(shared),
            Self::OpenApi => Ok(json_bytes(Bytes::from_static(OPENAPI.as_bytes()))),
            Self::Links => dev::links(shared),
            Self::ChangeLink => dev::change(shared, tail(uri)?, body).await,
            Self::Clock => dev::clock(shared, body).await,
        }
    }
}

/// The last segments of a path, still percent-encoded: the router has matched it, but would decode them
/// as UTF-8.
fn tail<const COUNT: usize>(uri: &Uri) -> Result<[&str; COUNT], Problem> {
    let mut found = [""; COUNT];
    let mut segments = uri.path().rsplit('/');
    for place in found.iter_mut().rev() {
        *place = segments
            .next()
            .ok_or_else(|| Problem::new(Code::NoRoute, "the path is too short"))?;
    }
    Ok(found)
}
