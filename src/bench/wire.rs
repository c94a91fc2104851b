//! One keep-alive HTTP/1.1 connection to one of a region's nodes, driven in the task that uses it.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{Connection, SendRequest, handshake};
use hyper::header::{HOST, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::model::{Level, Timestamp};

/// For a connection to be made.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(2);
/// Beyond the server's own time for a request.
const GRACE: Duration = Duration::from_secs(1);
/// Bytes of an error's body that are looked at.
const PROBLEM_BYTES_MAX: usize = 4096;
/// The first pause after a failure; each later one is twice as long.
const PAUSE_MIN: Duration = Duration::from_millis(5);
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_millis(320);

/// The code of a node that has too much to do.
const OVERLOADED: &str = "overloaded";
const CONSISTENCY: HeaderName = HeaderName::from_static("sterna-consistency");
const TIMEOUT: HeaderName = HeaderName::from_static("sterna-timeout");
const TIMESTAMP: HeaderName = HeaderName::from_static("sterna-timestamp");

type Driver = Connection<TokioIo<TcpStream>, Full<Bytes>>;

struct Open {
    sender: SendRequest<Full<Bytes>>,
    driver: Driver,
    headers: HeaderMap,
}

/// A connection that is made when it is needed, to the next node after a failure.
pub(super) struct Wire {
    nodes: Vec<String>,
    at: usize,
    level: Option<Level>,
    timeout: Duration,
    /// Whether it goes on at once, and with the same node, when that is overloaded.
    is_stubborn: bool,
    open: Option<Open>,
    failures: u32,
}

/// What became of a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Fate {
    /// Done. A read may have found nothing.
    Done {
        /// Whether the status was 404 `absent`.
        is_absent: bool,
        /// The version that was written or read.
        timestamp: Option<Timestamp>,
    },
    /// It may have happened, or may happen later.
    Unknown(String),
    /// It did not happen.
    Failed(String),
}

impl Wire {
    /// A wire to one of these nodes, the `first`-th (counted round) to begin with.
    pub(super) fn new(
        nodes: Vec<String>,
        first: usize,
        level: Option<Level>,
        timeout: Duration,
    ) -> Self {
        Self {
            at: first,
            nodes,
            level,
            timeout,
            is_stubborn: false,
            open: None,
            failures: 0,
        }
    }

    /// Goes on at once, and with the same node, when that is overloaded.
    pub(super) fn stubborn(self, is_stubborn: bool) -> Self {
        Self {
            is_stubborn,
            ..self
        }
    }

    /// Makes the connection now, so that the first request does not pay for it.
    pub(super) async fn warm(&mut self) {
        if let Err(code) = self.connect().await {
            tracing::debug!(code, "connect");
            self.give_up();
        }
    }

    /// How long to wait before the next request, after failures.
    pub(super) fn pause(&self) -> Option<Duration> {
        let doublings = self.failures.checked_sub(1)?.min(6);
        Some((PAUSE_MIN * 2u32.pow(doublings)).min(PAUSE_MAX))
    }

    /// Sends a request and reads its answer.
    pub(super) async fn call(&mut self, method: Method, uri: Uri, body: Bytes) -> Fate {
        if let Err(code) = self.connect().await {
            self.give_up();
            return Fate::Failed(code.to_owned());
        }
        let limit = self.timeout + GRACE;
        let answer = match &mut self.open {
            Some(open) => tokio::time::timeout(limit, open.exchange(method, uri, body)).await,
            None => return Fate::Failed("not_connected".to_owned()),
        };
        match answer {
            Ok(Some(fate)) => {
                // A node that cannot serve is a reason to try the next one.
                match &fate {
                    Fate::Done { .. } => self.failures = 0,
                    Fate::Failed(code) if self.is_stubborn && code == OVERLOADED => {
                        self.failures = 0;
                    }
                    Fate::Failed(_) | Fate::Unknown(_) => {
                        self.failures += 1;
                        if self.failures > 2 {
                            self.give_up();
                        }
                    }
                }
                fate
            }
            Ok(None) => {
                self.give_up();
                Fate::Unknown("connection_lost".to_owned())
            }
            Err(_) => {
                self.give_up();
                Fate::Unknown("no_answer".to_owned())
            }
        }
    }

    fn give_up(&mut self) {
        self.open = None;
        self.at = self.at.wrapping_add(1);
        self.failures += 1;
    }

    async fn connect(&mut self) -> Result<(), &'static str> {
        if self
            .open
            .as_ref()
            .is_some_and(|open| !open.sender.is_closed())
        {
            return Ok(());
        }
        self.open = None;
        let count = self.nodes.len().max(1);
        let Some(node) = self.nodes.get(self.at % count) else {
            return Err("no_node");
        };
        let connected = tokio::time::timeout(CONNECT_TIME_MAX, TcpStream::connect(node)).await;
        let Ok(Ok(stream)) = connected else {
            return Err("not_connected");
        };
        if stream.set_nodelay(true).is_err() {
            return Err("not_connected");
        }
        let Ok((sender, driver)) = handshake(TokioIo::new(stream)).await else {
            return Err("not_connected");
        };
        let headers = headers(node, self.level, self.timeout).ok_or("bad_host")?;
        self.open = Some(Open {
            sender,
            driver,
            headers,
        });
        Ok(())
    }
}

fn headers(node: &str, level: Option<Level>, timeout: Duration) -> Option<HeaderMap> {
    let mut headers = HeaderMap::with_capacity(4);
    headers.insert(HOST, HeaderValue::from_str(node).ok()?);
    let timeout = format!("{}ms", timeout.as_millis().max(1));
    headers.insert(TIMEOUT, HeaderValue::from_str(&timeout).ok()?);
    if let Some(level) = level {
        headers.insert(CONSISTENCY, HeaderValue::from_str(&level.to_string()).ok()?);
    }
    Some(headers)
}

impl Open {
    /// Nothing if the connection broke before the answer was complete.
    async fn exchange(&mut self, method: Method, uri: Uri, body: Bytes) -> Option<Fate> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = uri;
        request.headers_mut().clone_from(&self.headers);
        let Self { sender, driver, .. } = self;
        let exchange = async {
            sender.ready().await.ok()?;
            let response = sender.send_request(request).await.ok()?;
            read(response).await
        };
        drive(driver, exchange).await?
    }
}

async fn read(response: Response<Incoming>) -> Option<Fate> {
    let status = response.status();
    let timestamp = response.headers().get(TIMESTAMP).and_then(timestamp);
    let mut body = response.into_body();
    let mut problem = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.ok()?;
        if let Some(data) = frame.data_ref().filter(|_| !status.is_success()) {
            let room = PROBLEM_BYTES_MAX.saturating_sub(problem.len());
            problem.extend(data.iter().take(room));
        }
    }
    if status.is_success() {
        return Some(Fate::Done {
            is_absent: false,
            timestamp,
        });
    }
    let code = code(&problem).unwrap_or_else(|| format!("status_{}", status.as_u16()));
    Some(match code.as_str() {
        "absent" => Fate::Done {
            is_absent: true,
            timestamp,
        },
        "unknown_outcome" | "broken" => Fate::Unknown(code),
        _ => Fate::Failed(code),
    })
}

fn timestamp(value: &HeaderValue) -> Option<Timestamp> {
    let (micros, logical) = value.to_str().ok()?.split_once('.')?;
    Some(Timestamp {
        micros: micros.parse().ok()?,
        logical: logical.parse().ok()?,
    })
}

fn code(problem: &[u8]) -> Option<String> {
    let problem: serde_json::Value = serde_json::from_slice(problem).ok()?;
    Some(problem.get("error")?.get("code")?.as_str()?.to_owned())
}

/// Waits for `work`, which needs the connection to be driven meanwhile. Nothing if the connection ends
/// first.
async fn drive<T>(driver: &mut Driver, work: impl Future<Output = T>) -> Option<T> {
    let mut work = pin!(work);
    poll_fn(|context| {
        if let Poll::Ready(done) = work.as_mut().poll(context) {
            return Poll::Ready(Some(done));
        }
        let is_over = Pin::new(&mut *driver).poll(context).is_ready();
        match work.as_mut().poll(context) {
            Poll::Ready(done) => Poll::Ready(Some(done)),
            Poll::Pending if is_over => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}
