//! What every request shares: the node, the names of the topology, metrics and the bytes in flight; and
//! how an operation's outcome becomes an answer.

use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use bytes::BytesMut;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::metrics::{Fate, Metrics, Op};
use crate::model::{Dot, Gate, KeyspaceId, Level, NodeId, RegionId, Summary};
use crate::placement::Topology;
use crate::protocol::{Operation, Outcome, Refusal, Request, Unavailable, Unknown};

use super::links::LinkControl;
use super::node::Node;
use super::path::decode_name;
use super::problem::{Code, Problem};
use super::wishes::Wishes;

static TIMESTAMP: HeaderName = HeaderName::from_static("sterna-timestamp");
static REGION: HeaderName = HeaderName::from_static("sterna-region");

/// What every request shares.
#[derive(Debug)]
pub(super) struct Shared<N> {
    /// The node.
    pub(super) node: N,
    /// The names of its topology.
    pub(super) names: Names,
    /// What is counted.
    pub(super) metrics: Metrics,
    /// The links of a development cluster.
    pub(super) links: Option<Arc<dyn LinkControl>>,
    /// When the door opened.
    pub(super) opened: Instant,
    bytes: Arc<Semaphore>,
    bytes_in_flight_max: usize,
}

/// The names of a topology, looked up once and for all.
#[derive(Debug)]
pub(super) struct Names {
    keyspaces: BTreeMap<String, KeyspaceFacts>,
    origins: BTreeMap<NodeId, HeaderValue>,
}

/// What the door must know of a keyspace.
#[derive(Debug)]
pub(super) struct KeyspaceFacts {
    /// Its id.
    pub(super) id: KeyspaceId,
    /// The level of requests that name none.
    level: Level,
    /// The names of its regions, for people.
    regions: String,
}

/// A request's keyspace and wishes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked<'a> {
    /// The keyspace.
    pub(super) keyspace: &'a KeyspaceFacts,
    /// The level, if it names one.
    pub(super) level: Option<Level>,
    /// How long it may take.
    pub(super) timeout: Duration,
}

impl<N: Node> Shared<N> {
    /// Shares a node; `bytes_in_flight_max` bounds the bodies of all requests and answers together.
    pub(super) fn new(
        node: N,
        metrics: Metrics,
        links: Option<Arc<dyn LinkControl>>,
        bytes_in_flight_max: usize,
    ) -> Self {
        let names = Names::of(node.topology());
        Self {
            node,
            names,
            metrics,
            links,
            opened: Instant::now(),
            bytes: Arc::new(Semaphore::new(bytes_in_flight_max)),
            bytes_in_flight_max,
        }
    }

    /// The keyspace of a path's segment, with a request's wishes.
    pub(super) fn asked(&self, segment: &str, wishes: Wishes) -> Result<Asked<'_>, Problem> {
        let keyspace = self.names.keyspace(&decode_name(segment)?)?;
        Ok(Asked {
            keyspace,
            level: wishes.level,
            timeout: wishes.timeout(keyspace.level),
        })
    }

    /// Takes room for so many bytes in flight, or refuses at once: waiting would only hold more.
    pub(super) fn reserve(&self, bytes: usize) -> Result<OwnedSemaphorePermit, Problem> {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        Arc::clone(&self.bytes)
            .try_acquire_many_owned(bytes)
            .map_err(|_full| {
                Problem::new(
                    Code::Overloaded,
                    "too many bytes are in flight at this node: try again in a second, or elsewhere",
                )
            })
    }

    /// Bytes in flight now.
    pub(super) fn bytes_in_flight(&self) -> usize {
        self.bytes_in_flight_max
            .saturating_sub(self.bytes.available_permits())
    }

    /// Carries out an operation and counts it.
    pub(super) async fn call(&self, op: Op, operation: Operation, asked: Asked<'_>) -> Outcome {
        let start = Instant::now();
        let request = Request {
            operation,
            level: asked.level,
            gate: Gate::default(),
        };
        let outcome = self.node.call(request, asked.timeout).await;
        self.metrics.observe(op, fate(&outcome), start.elapsed());
        let level = asked.level.unwrap_or(asked.keyspace.level);
        if level == Level::UnsafeOne && matches!(outcome, Outcome::Written(_)) {
            self.metrics.on_unsafe_write();
        }
        outcome
    }

    /// What a client is told of an outcome that is not the one its operation succeeds with.
    pub(super) fn problem(&self, outcome: &Outcome, asked: Asked<'_>) -> Problem {
        match outcome {
            Outcome::Written(_)
            | Outcome::Read(_)
            | Outcome::Selected { .. }
            | Outcome::Counted(_)
            | Outcome::Reached
            | Outcome::Denied(_)
            | Outcome::NotYet
            | Outcome::Page { .. } => Problem::new(
                Code::Broken,
                "the node answered another operation: report this as a defect",
            ),
            Outcome::Refused(refusal) => self.refused(*refusal, asked),
            Outcome::Unavailable(reason) => unavailable(*reason),
            Outcome::Unknown(reason) => unknown(*reason),
        }
    }

    fn refused(&self, refusal: Refusal, asked: Asked<'_>) -> Problem {
        let limits = &self.node.topology().limits;
        match refusal {
            Refusal::NoKeyspace => Problem::new(
                Code::NoKeyspace,
                "the node does not know this keyspace: is its topology the newest?",
            ),
            Refusal::KeyspaceElsewhere => Problem::new(
                Code::KeyspaceElsewhere,
                format!(
                    "the keyspace does not live in this region: ask a node of {}",
                    asked.keyspace.regions
                ),
            ),
            Refusal::KeySize => Problem::new(
                Code::KeySize,
                format!(
                    "the key is longer than {} bytes: shorten it",
                    limits.key_bytes_max
                ),
            ),
            Refusal::ValueSize => Problem::new(
                Code::ValueSize,
                format!(
                    "the value is longer than {} bytes: send less, or split it",
                    limits.value_bytes_max
                ),
            ),
            Refusal::MergePolicy => Problem::new(
                Code::BadBody,
                "the keyspace's merge policy does not allow this operation",
            ),
            Refusal::Selection => Problem::new(
                Code::BadQuery,
                "the parts that were asked for are not of one key",
            ),
            Refusal::Level => Problem::new(
                Code::BadLevel,
                "the level is not for this operation: unsafe-one is for writes only",
            ),
        }
    }

    /// Puts the headers of a version that was read or written.
    pub(super) fn put_version(&self, headers: &mut HeaderMap, version: &Summary) {
        let mut text = BytesMut::with_capacity(96);
        let mut put = |name: HeaderName, words: fmt::Arguments<'_>| {
            // Digits, dots and quotes: always a header value.
            if text.write_fmt(words).is_ok()
                && let Ok(value) = HeaderValue::from_maybe_shared(text.split().freeze())
            {
                headers.insert(name, value);
            }
        };
        put(TIMESTAMP.clone(), format_args!("{}", version.timestamp));
        put(header::ETAG, format_args!("\"{}\"", Tag(version.dot)));
        headers.insert(REGION.clone(), self.names.origin(version.dot.actor.node));
    }
}

impl Names {
    fn of(topology: &Topology) -> Self {
        let origins = topology.regions.iter().flat_map(|region| {
            let name =
                HeaderValue::from_str(&region.name).unwrap_or_else(|_not_ascii| unknown_origin());
            region.nodes.iter().map(move |node| (node.id, name.clone()))
        });
        let keyspaces = topology.keyspaces.iter().map(|keyspace| {
            let regions: Vec<&str> = keyspace
                .regions
                .iter()
                .map(|id| region_name(topology, *id))
                .collect();
            let facts = KeyspaceFacts {
                id: keyspace.id,
                level: keyspace.consistency,
                regions: regions.join(", "),
            };
            (keyspace.name.clone(), facts)
        });
        Self {
            keyspaces: keyspaces.collect(),
            origins: origins.collect(),
        }
    }

    fn keyspace(&self, name: &str) -> Result<&KeyspaceFacts, Problem> {
        self.keyspaces.get(name).ok_or_else(|| {
            let known: Vec<&str> = self.keyspaces.keys().map(String::as_str).collect();
            Problem::new(
                Code::NoKeyspace,
                format!("no keyspace `{name}`: use one of {}", known.join(", ")),
            )
        })
    }

    /// The id of a keyspace by its name, decoded.
    pub(super) fn keyspace_id(&self, name: &str) -> Result<KeyspaceId, Problem> {
        self.keyspace(name).map(|facts| facts.id)
    }

    /// The region that a node is of; `unknown` if it has left.
    pub(super) fn origin(&self, node: NodeId) -> HeaderValue {
        let origin = self.origins.get(&node);
        origin.cloned().unwrap_or_else(unknown_origin)
    }

    /// The same as text.
    pub(super) fn origin_text(&self, node: NodeId) -> &str {
        let origin = self.origins.get(&node);
        origin
            .and_then(|name| name.to_str().ok())
            .unwrap_or("unknown")
    }
}

fn unknown_origin() -> HeaderValue {
    HeaderValue::from_static("unknown")
}

/// The name of a region of the topology.
pub(super) fn region_name(topology: &Topology, id: RegionId) -> &str {
    let region = topology.regions.iter().find(|region| region.id == id);
    region.map_or("unknown", |region| region.name.as_str())
}

/// A version's tag: which change of which life of which node made it.
pub(super) struct Tag(pub(super) Dot);

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Dot { actor, n } = self.0;
        write!(f, "{:08x}-{:x}-{n:x}", actor.node.0, actor.incarnation.0)
    }
}

fn fate(outcome: &Outcome) -> Fate {
    match outcome {
        Outcome::Written(_)
        | Outcome::Read(_)
        | Outcome::Selected { .. }
        | Outcome::Counted(_)
        | Outcome::Reached
        | Outcome::Page { .. } => Fate::Ok,
        Outcome::Refused(_) | Outcome::Denied(_) | Outcome::NotYet => Fate::Refused,
        Outcome::Unavailable(Unavailable::Overloaded) => Fate::Overloaded,
        Outcome::Unavailable(
            Unavailable::Replicas | Unavailable::Deadline | Unavailable::Stopping,
        ) => Fate::Unavailable,
        Outcome::Unknown(_) => Fate::Unknown,
    }
}

fn unavailable(reason: Unavailable) -> Problem {
    let (code, words) = match reason {
        Unavailable::Replicas => (
            Code::Unavailable,
            "nothing happened: too few replicas are up for this level; try again, or a weaker level",
        ),
        Unavailable::Deadline => (
            Code::Unavailable,
            "nothing happened: the time was over first; try again, or with a longer Sterna-Timeout",
        ),
        Unavailable::Stopping => (
            Code::Unavailable,
            "nothing happened: this node is stopping; ask another node of the region",
        ),
        Unavailable::Overloaded => (
            Code::Overloaded,
            "nothing happened: too many requests are in flight at this node; try again in a second, or elsewhere",
        ),
    };
    Problem::new(code, words)
}

fn unknown(reason: Unknown) -> Problem {
    let words = match reason {
        Unknown::Acknowledgements => {
            "the write may be seen later: too few replicas acknowledged it in time; read the key, or write again"
        }
        Unknown::Coordinator => {
            "the write may be seen later: the coordinator was lost; read the key, or write again"
        }
    };
    Problem::new(Code::UnknownOutcome, words)
}
