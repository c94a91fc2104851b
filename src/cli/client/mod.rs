//! A client of the HTTP contract: one method for each endpoint, keep-alive connections, one error.
//!
//! It does not retry and does not choose nodes: those who call it decide that. Plain HTTP only; where
//! a cluster is reached through TLS, the proxy that ends it stands beside this client.

mod collections;
mod error;
mod forms;
mod wire;

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, StatusCode};
use hyper_util::client::legacy::Client as Pool;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::model::Level;

pub use error::{Error, Fate, fate_of};
pub use forms::{
    ConflictEntry, ConflictPage, FieldEntry, FieldPage, Fields, MemberPage, Members, Read, Several,
    Sibling, Told,
};
pub use wire::{
    Blob, Digests, Found, Item, ItemResult, KeyspaceEntry, LinkChange, LinkEntry, NodeEntry, Page,
    PairEntry, PeerEntry, Problem, Put, Regions, RootEntry, ScrubEntry, Stamp, Status,
};

/// Bytes of a path segment that need no escape.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// Longest answer read, in bytes: a page of large values is held in memory once.
const ANSWER_BYTES_MAX: usize = 256 << 20;
/// For a connection to be made: a node that is down must not stop a look at the others.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(3);
/// The server's greatest time for a request; used where the request names none.
const SERVER_TIME_MAX: Duration = Duration::from_secs(60);
/// Beyond the server's time for the request: for the way there and back.
const GRACE: Duration = Duration::from_secs(5);

/// A client of one node; cheap to clone. Clones share their connections.
#[derive(Clone, Debug)]
pub struct Client {
    pool: Pool<HttpConnector, Full<Bytes>>,
    authority: String,
    level: Option<Level>,
    timeout: Option<Duration>,
    wishes: HeaderMap,
}

/// host:port of an endpoint given as `http://host:port`, `host:port`, with or without a last slash.
pub fn authority_of(endpoint: &str) -> Result<String, Error> {
    let refuse = || Error::Endpoint(endpoint.to_owned());
    let rest = endpoint.strip_prefix("http://").unwrap_or(endpoint);
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let authority: hyper::http::uri::Authority = rest.parse().ok().ok_or_else(refuse)?;
    match authority.port_u16() {
        Some(_) => Ok(rest.to_owned()),
        None => Err(refuse()),
    }
}

/// A key or a name as one segment of a path.
pub fn segment(bytes: &[u8]) -> String {
    percent_encode(bytes, SEGMENT).to_string()
}

struct Reply {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Client {
    /// A client of the node at `endpoint`; connects at the first request.
    pub fn new(endpoint: &str) -> Result<Self, Error> {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(CONNECT_TIME_MAX));
        Ok(Self {
            pool: Pool::builder(TokioExecutor::new()).build(connector),
            authority: authority_of(endpoint)?,
            level: None,
            timeout: None,
            wishes: HeaderMap::new(),
        })
    }

    /// The same client, of the node at this host:port.
    #[must_use]
    pub fn at(&self, authority: &str) -> Self {
        Self {
            authority: authority.to_owned(),
            ..self.clone()
        }
    }

    /// Asks for this level with every read and write; nothing means the keyspace's.
    #[must_use]
    pub fn with_level(self, level: Option<Level>) -> Self {
        Self { level, ..self }
    }

    /// Gives the server this long for every request; nothing means its default.
    #[must_use]
    pub fn with_timeout(self, timeout: Option<Duration>) -> Self {
        Self { timeout, ..self }
    }

    /// Sends this header with every request; nothing means that it is left out.
    pub fn with_header(
        mut self,
        name: &'static str,
        value: Option<impl AsRef<str>>,
    ) -> Result<Self, Error> {
        if let Some(value) = value {
            let text = value.as_ref();
            let is_visible = text.bytes().all(|byte| byte.is_ascii_graphic());
            let value = HeaderValue::from_str(text).ok().filter(|_| is_visible);
            let value = value.ok_or_else(|| Error::Header(text.to_owned()))?;
            self.wishes.insert(HeaderName::from_static(name), value);
        }
        Ok(self)
    }

    /// host:port of the node.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// Reads a key; nothing if it is absent. Where siblings stand, it is refused: see [`Client::read`].
    pub async fn get(&self, keyspace: &str, key: &[u8]) -> Result<Option<Found>, Error> {
        match self.read(keyspace, key, Several::All).await? {
            Read::One(found) => Ok(Some(found)),
            Read::Absent(_) => Ok(None),
            Read::Several(..) => Err(self.foreign("several values where one was looked for")),
        }
    }

    /// Reads a key and whatever stands there.
    pub async fn read(&self, keyspace: &str, key: &[u8], several: Several) -> Result<Read, Error> {
        let path = key_path(keyspace, key)
            + match several {
                Several::All => "",
                Several::Winner => "?siblings=winner",
            };
        let reply = self.send(Method::GET, &path, Bytes::new()).await?;
        let stamp = stamp(&reply.headers);
        if reply.status == StatusCode::MULTIPLE_CHOICES {
            let body: forms::SiblingsBody = self.parsed(&reply.body)?;
            return Ok(Read::Several(body.siblings, stamp));
        }
        match self.checked(reply) {
            Ok(reply) => Ok(Read::One(Found {
                stamp,
                value: reply.body,
            })),
            Err(error) if error.is_code("absent") => Ok(Read::Absent(stamp)),
            Err(error) => Err(error),
        }
    }

    /// Writes a key.
    pub async fn put(&self, keyspace: &str, key: &[u8], value: Bytes) -> Result<Stamp, Error> {
        let path = key_path(keyspace, key);
        let reply = self.send(Method::PUT, &path, value).await?;
        Ok(stamp(&self.checked(reply)?.headers))
    }

    /// Deletes a key, whether it is there or not.
    pub async fn delete(&self, keyspace: &str, key: &[u8]) -> Result<Stamp, Error> {
        let path = key_path(keyspace, key);
        let reply = self.send(Method::DELETE, &path, Bytes::new()).await?;
        Ok(stamp(&self.checked(reply)?.headers))
    }

    /// A page of a keyspace, in token order.
    pub async fn page(
        &self,
        keyspace: &str,
        limit: usize,
        cursor: Option<&str>,
        values: bool,
    ) -> Result<Page, Error> {
        let mut path = format!(
            "/v1/kv/{}?limit={limit}&values={values}",
            segment(keyspace.as_bytes())
        );
        if let Some(cursor) = cursor {
            path.push_str("&cursor=");
            path.push_str(&segment(cursor.as_bytes()));
        }
        let page: Page = self.ask(&path).await?;
        self.leads_on(cursor, page.next.as_deref())?;
        Ok(page)
    }

    /// Writes up to 1000 keys, each on its own; one result for each, in order.
    pub async fn put_batch(&self, keyspace: &str, items: &[Put]) -> Result<Vec<ItemResult>, Error> {
        let path = format!("/v1/batch/{}/put", segment(keyspace.as_bytes()));
        self.batch(&path, &serde_json::json!({ "items": items }), items.len())
            .await
    }

    /// Reads up to 1000 keys, each on its own; one result for each, in order.
    pub async fn get_batch(&self, keyspace: &str, keys: &[Blob]) -> Result<Vec<ItemResult>, Error> {
        let path = format!("/v1/batch/{}/get", segment(keyspace.as_bytes()));
        self.batch(&path, &serde_json::json!({ "keys": keys }), keys.len())
            .await
    }

    /// What the node says of itself and its cluster.
    pub async fn status(&self) -> Result<Status, Error> {
        self.ask("/v1/status").await
    }

    /// What the node says of the other regions.
    pub async fn regions(&self) -> Result<Regions, Error> {
        self.ask("/v1/regions").await
    }

    /// The root digests of the partitions that the node holds.
    pub async fn digests(&self) -> Result<Digests, Error> {
        self.ask("/v1/digests").await
    }

    /// The hashes below one node of a partition's digest tree.
    pub async fn digest_children(
        &self,
        keyspace: &str,
        partition: u32,
        level: u8,
        index: u16,
    ) -> Result<Vec<String>, Error> {
        let keyspace = segment(keyspace.as_bytes());
        let path = format!("/v1/digests/{keyspace}/{partition}/{level}/{index}");
        Ok(self.ask::<wire::Children>(&path).await?.children)
    }

    /// Has the node read and check everything on its disk.
    pub async fn scrub(&self) -> Result<ScrubEntry, Error> {
        let reply = self.send(Method::POST, "/v1/scrub", Bytes::new()).await?;
        self.parsed(&self.checked(reply)?.body)
    }

    /// The links of a dev cluster; nothing if the cluster is not one.
    pub async fn links(&self) -> Result<Option<Vec<LinkEntry>>, Error> {
        match self.ask::<wire::Links>("/v1/dev/links").await {
            Ok(links) => Ok(Some(links.links)),
            Err(Error::Server { status: 404, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Changes the link between two regions of a dev cluster; `b` may be `*`.
    pub async fn change_link(&self, a: &str, b: &str, change: LinkChange) -> Result<(), Error> {
        let (a, b) = (
            segment(a.as_bytes()),
            if b == "*" {
                b.to_owned()
            } else {
                segment(b.as_bytes())
            },
        );
        let reply = self
            .send(
                Method::POST,
                &format!("/v1/dev/links/{a}/{b}"),
                self.json(&change)?,
            )
            .await?;
        self.checked(reply).map(|_| ())
    }

    /// Puts the wall clock of a node of a development cluster off by so many milliseconds.
    pub async fn set_clock_offset(&self, offset_ms: i32) -> Result<(), Error> {
        let body = self.json(&serde_json::json!({ "offset_ms": offset_ms }))?;
        let reply = self.send(Method::POST, "/v1/dev/clock", body).await?;
        self.checked(reply).map(|_| ())
    }

    async fn ask<T: DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        let reply = self.send(Method::GET, path, Bytes::new()).await?;
        self.parsed(&self.checked(reply)?.body)
    }

    async fn batch<T: Serialize + Sync>(
        &self,
        path: &str,
        body: &T,
        count: usize,
    ) -> Result<Vec<ItemResult>, Error> {
        let reply = self.send(Method::POST, path, self.json(body)?).await?;
        let results: wire::Results = self.parsed(&self.checked(reply)?.body)?;
        if results.results.len() == count {
            Ok(results.results)
        } else {
            Err(self.foreign("a batch with another number of results"))
        }
    }

    fn json<T: Serialize>(&self, body: &T) -> Result<Bytes, Error> {
        serde_json::to_vec(body)
            .map(Bytes::from)
            .map_err(|error| self.foreign(&error.to_string()))
    }

    fn parsed<T: DeserializeOwned>(&self, body: &[u8]) -> Result<T, Error> {
        serde_json::from_slice(body).map_err(|error| self.foreign(&error.to_string()))
    }

    /// Pages may be empty, so only this tells one that leads on from one that would be asked for without end.
    fn leads_on(&self, cursor: Option<&str>, next: Option<&str>) -> Result<(), Error> {
        if next.is_some() && next == cursor {
            return Err(self.foreign("a page that leads nowhere"));
        }
        Ok(())
    }

    fn foreign(&self, what: &str) -> Error {
        Error::Foreign {
            authority: self.authority.clone(),
            what: what.to_owned(),
        }
    }

    fn checked(&self, reply: Reply) -> Result<Reply, Error> {
        if reply.status.is_success() {
            return Ok(reply);
        }
        let problem: wire::ProblemBody = serde_json::from_slice(&reply.body)
            .map_err(|error| self.foreign(&format!("status {}: {error}", reply.status)))?;
        Err(Error::Server {
            status: reply.status.as_u16(),
            code: problem.error.code,
            message: problem.error.message,
        })
    }

    async fn send(&self, method: Method, path: &str, body: Bytes) -> Result<Reply, Error> {
        let after = self.timeout.unwrap_or(SERVER_TIME_MAX) + GRACE;
        match tokio::time::timeout(after, self.exchange(method, path, body)).await {
            Ok(reply) => reply,
            Err(_) => Err(Error::Silent {
                authority: self.authority.clone(),
                after,
            }),
        }
    }

    async fn exchange(&self, method: Method, path: &str, body: Bytes) -> Result<Reply, Error> {
        let mut request = Request::builder()
            .method(&method)
            .uri(format!("http://{}{path}", self.authority));
        if method == Method::POST {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        if let Some(level) = self.level {
            request = request.header("sterna-consistency", level.to_string());
        }
        if let Some(timeout) = self.timeout {
            request = request.header(
                "sterna-timeout",
                format!("{}ms", timeout.as_millis().max(1)),
            );
        }
        let mut request = request
            .body(Full::new(body))
            .ok()
            .ok_or_else(|| Error::Endpoint(self.authority.clone()))?;
        let wishes = self.wishes.iter();
        let wishes = wishes.map(|(name, value)| (name.clone(), value.clone()));
        request.headers_mut().extend(wishes);
        let response = self
            .pool
            .request(request)
            .await
            .map_err(|error| Error::of_connection(&self.authority, &error))?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, ANSWER_BYTES_MAX)
            .collect()
            .await
            .map_err(|error| Error::Broken {
                authority: self.authority.clone(),
                cause: error::deepest(error.as_ref()).to_string(),
            })?;
        Ok(Reply {
            status: head.status,
            headers: head.headers,
            body: body.to_bytes(),
        })
    }
}

fn key_path(keyspace: &str, key: &[u8]) -> String {
    path_of("kv", keyspace, key)
}

/// The path of what stands under a key: `kind` is `kv`, `counter`, `set` or `map`.
fn path_of(kind: &str, keyspace: &str, key: &[u8]) -> String {
    let keyspace = segment(keyspace.as_bytes());
    format!("/v1/{kind}/{keyspace}/{}", segment(key))
}

fn stamp(headers: &HeaderMap) -> Stamp {
    let given = |name: &str| {
        let value = headers.get(name)?.to_str().ok()?;
        Some(value.to_owned())
    };
    let text = |name: &str| given(name).unwrap_or_default();
    Stamp {
        timestamp: text("sterna-timestamp"),
        region: text("sterna-region"),
        etag: text("etag").trim_matches('"').to_owned(),
        expires: given("sterna-expires"),
        context: given("sterna-context"),
        condition: given("sterna-condition"),
        session: given("sterna-session"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_read_with_and_without_scheme() {
        for good in ["http://a:1", "a:1", "http://a:1/"] {
            assert_eq!(authority_of(good).unwrap(), "a:1");
        }
        for bad in ["", "a", "https://a:1", "http://a:1/x", "a:b"] {
            assert!(authority_of(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn keys_are_one_segment() {
        assert_eq!(segment(b"a/b?c \xff"), "a%2Fb%3Fc%20%FF");
    }
}
