//! What every request shares: the node, the names of the topology, metrics and the bytes in flight; and
//! how an operation's outcome becomes an answer.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use bytes::{Bytes, BytesMut};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use crate::metrics::{Fate, Metrics, Op};
use crate::model::{
    Condition, Denial, Gate, KeyspaceId, Level, NodeId, RegionId, Row, RowKey, Selection, Stamp,
    Wall, Write, WriteOp,
};
use crate::placement::{MergePolicy, Topology};
use crate::protocol::{Operation, Outcome, Refusal, Request, Unavailable, Unknown, Written};

use super::budget::Budget;
use super::links::LinkControl;
use super::node::Node;
use super::path::decode_name;
use super::problem::{Code, Problem, Tag};
use super::token::Tokens;
use super::wishes::{Wish, Wishes};

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
    /// What bodies and answers may hold.
    pub(super) budget: Budget,
}

/// The names of a topology, looked up once and for all.
#[derive(Debug)]
pub(super) struct Names {
    /// What sessions are written and read by.
    pub(super) tokens: Tokens,
    keyspaces: BTreeMap<String, KeyspaceFacts>,
    origins: BTreeMap<NodeId, HeaderValue>,
}

/// What the door must know of a keyspace.
#[derive(Debug)]
pub(super) struct KeyspaceFacts {
    /// Its id.
    pub(super) id: KeyspaceId,
    /// How concurrent writes of it merge.
    pub(super) merge: MergePolicy,
    /// The level of requests that name none.
    level: Level,
    /// The names of its regions, for people.
    regions: String,
}

/// A request's keyspace and wishes.
#[derive(Clone, Debug)]
pub(super) struct Asked<'a> {
    /// The keyspace.
    pub(super) keyspace: &'a KeyspaceFacts,
    /// The level, if it names one.
    pub(super) level: Option<Level>,
    /// How long it may take.
    pub(super) timeout: Duration,
    /// What must be here before it is answered.
    pub(super) gate: Gate,
}

/// What the words of a refusal must know of a write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum About {
    /// Sent again, it comes to the same.
    Repeatable,
    /// It wants that there is no value.
    NoValue,
    /// It adds to counters, under an operation id.
    AddsOnce,
    /// It adds to counters as often as it is sent.
    Adds,
}

impl About {
    fn of(write: &Write) -> Self {
        let has_id = match &write.op {
            WriteOp::Add { id, .. } => Some(id.is_some()),
            WriteOp::Fields { add, id, .. } if !add.is_empty() => Some(id.is_some()),
            WriteOp::Put(_)
            | WriteOp::PutSibling { .. }
            | WriteOp::Delete
            | WriteOp::DeleteSiblings { .. }
            | WriteOp::Reset { .. }
            | WriteOp::Members { .. }
            | WriteOp::Fields { .. }
            | WriteOp::Clear { .. } => None,
        };
        match (has_id, write.condition) {
            (Some(true), _) => Self::AddsOnce,
            (Some(false), _) => Self::Adds,
            (None, Some(Condition::Absent)) => Self::NoValue,
            (None, Some(Condition::State(_)) | None) => Self::Repeatable,
        }
    }

    /// The problem in words that are right for this write.
    fn words(self, problem: Problem, outcome: &Outcome) -> Problem {
        let message = match (outcome, self) {
            (Outcome::Unknown(reason), Self::AddsOnce) => format!(
                "{}; send it again only with the same Idempotency-Key",
                unknown_words(*reason)
            ),
            (Outcome::Unknown(reason), Self::Adds) => format!(
                "{}; sent again it may count twice: read first, and give additions an Idempotency-Key",
                unknown_words(*reason)
            ),
            (Outcome::Denied(Denial::Condition(_)), Self::NoValue) => {
                "nothing was written: there is a value already; read it and decide again".to_owned()
            }
            _ => return problem,
        };
        Problem {
            message: message.into(),
            ..problem
        }
    }
}

impl Asked<'_> {
    /// The level that it is carried out at.
    pub(super) fn level(&self) -> Level {
        self.level.unwrap_or(self.keyspace.level)
    }
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
            budget: Budget::new(bytes_in_flight_max),
        }
    }

    /// The keyspace of a path's segment, with a request's wishes; those that are not `taken` are refused.
    pub(super) fn asked(
        &self,
        segment: &str,
        wishes: &Wishes,
        taken: &[Wish],
    ) -> Result<Asked<'_>, Problem> {
        let keyspace = self.names.keyspace(&decode_name(segment)?)?;
        wishes.take_only(taken)?;
        let gate = self.gate(wishes)?;
        let mut timeout = wishes.timeout(keyspace.level);
        if taken.contains(&Wish::Wait) && !gate.is_open() {
            timeout += Duration::from_micros(gate.wait_micros);
        }
        Ok(Asked {
            keyspace,
            level: wishes.level,
            timeout,
            gate,
        })
    }

    /// What must be here before a request is answered.
    pub(super) fn gate(&self, wishes: &Wishes) -> Result<Gate, Problem> {
        let wait = wishes.wait()?;
        let mut gate = Gate {
            behind: wishes.behind()?,
            ..Gate::default()
        };
        if let Some(value) = wishes.given(Wish::Session) {
            gate.session = self.names.tokens.decode(value)?;
            let limit = self.node.topology().limits.max_offset;
            if gate.session.latest() > after(self.node.now(), limit).0 {
                return Err(session_ahead());
            }
        }
        if let Some(staleness) = wishes.staleness()? {
            let micros = u64::try_from(staleness.as_micros()).unwrap_or(u64::MAX);
            gate.fresh_as_of = Some(Wall(self.node.now().0.saturating_sub(micros)));
        }
        if !gate.is_open() {
            gate.wait_micros = u64::try_from(wait.as_micros()).unwrap_or(u64::MAX);
        }
        Ok(gate)
    }

    /// When something ends that lives for so long from now on.
    pub(super) fn expiry(&self, ttl: Option<Duration>) -> Option<Wall> {
        ttl.map(|ttl| after(self.node.now(), ttl))
    }

    /// A node that has enough to do does not read a body first.
    pub(super) fn admit(&self) -> Result<(), Problem> {
        if self.node.is_full() {
            return Err(unavailable(Unavailable::Overloaded));
        }
        Ok(())
    }

    /// Takes room for so many bytes in flight, or refuses at once: waiting would only hold more.
    pub(super) fn reserve(&self, bytes: usize) -> Result<OwnedSemaphorePermit, Problem> {
        self.budget.reserve(bytes)
    }

    /// Bytes in flight now.
    pub(super) fn bytes_in_flight(&self) -> usize {
        self.budget.used()
    }

    /// Carries out an operation and counts it.
    pub(super) async fn call(&self, op: Op, operation: Operation, asked: &Asked<'_>) -> Outcome {
        let start = Instant::now();
        let request = Request {
            operation,
            level: asked.level,
            gate: asked.gate.clone(),
        };
        let outcome = self.node.call(request, asked.timeout).await;
        self.metrics.observe(op, fate(&outcome), start.elapsed());
        if matches!(outcome, Outcome::Written(_)) && asked.level() == Level::UnsafeOne {
            self.metrics.on_unsafe_write();
        }
        outcome
    }

    /// Carries out a write, stamped above and carrying what its session has seen.
    pub(super) async fn write(
        &self,
        op: Op,
        mut write: Write,
        asked: &Asked<'_>,
    ) -> Result<Written, Problem> {
        let about = About::of(&write);
        let session = &asked.gate.session;
        if !session.is_empty() {
            write.after = Some(Box::new(session.clone()));
        }
        let outcome = self
            .call(op, Operation::Write(Box::new(write)), asked)
            .await;
        let Outcome::Written(written) = outcome else {
            let problem = self.problem(&outcome, asked);
            return Err(about.words(problem, &outcome));
        };
        Ok(written)
    }

    /// Reads parts of a key: its rows, and the subkey to go on after.
    pub(super) async fn select(
        &self,
        op: Op,
        selection: Selection,
        asked: &Asked<'_>,
    ) -> Result<(Vec<(RowKey, Row)>, Option<Bytes>), Problem> {
        let outcome = self.call(op, Operation::Select { selection }, asked).await;
        let Outcome::Selected { rows, next } = outcome else {
            return Err(self.problem(&outcome, asked));
        };
        Ok((rows, next))
    }

    /// What a client is told of an outcome that is not the one its operation succeeds with.
    pub(super) fn problem(&self, outcome: &Outcome, asked: &Asked<'_>) -> Problem {
        match outcome {
            Outcome::Refused(refusal) => self.refused(*refusal, asked),
            Outcome::Denied(denial) => self.denied(denial, asked),
            Outcome::Written(_)
            | Outcome::Read(_)
            | Outcome::Selected { .. }
            | Outcome::Counted(_)
            | Outcome::Reached
            | Outcome::Page { .. }
            | Outcome::NotYet
            | Outcome::Unavailable(_)
            | Outcome::Unknown(_) => of_any(outcome),
        }
    }

    fn denied(&self, denial: &Denial, asked: &Asked<'_>) -> Problem {
        let limits = &self.node.topology().limits;
        match denial {
            Denial::Condition(present) => {
                let present = present.as_ref().filter(|present| !present.is_tombstone);
                Problem {
                    present: present.map(|present| Tag(present.state)),
                    ..Problem::new(
                        Code::ConditionFailed,
                        "nothing was written: the value is not the one that the condition names; read it and decide again",
                    )
                }
            }
            Denial::Siblings => Problem::new(
                Code::TooManySiblings,
                format!(
                    "nothing was written: the key would have more than {} concurrent values, or more than 2 MiB of them; read it, \
                     and write with its Sterna-Context",
                    limits.siblings_max
                ),
            ),
            Denial::CounterRange => Problem::new(
                Code::CounterRange,
                "nothing was added: it would carry a node's share of the counter out of -9223372036854775808 to 9223372036854775807; add less",
            ),
            Denial::Parts => self.too_many_parts(),
            Denial::Size => Problem::new(
                Code::ValueSize,
                format!(
                    "nothing was written: a name is 1 to {} bytes, a value at most {}",
                    limits.key_bytes_max, limits.value_bytes_max
                ),
            ),
            Denial::Ahead if asked.gate.session.is_empty() => Problem::new(
                Code::Unavailable,
                "nothing was written: the clocks of the nodes are too far apart; try again",
            ),
            Denial::Ahead => session_ahead(),
        }
    }

    /// One write names too many members or fields.
    pub(super) fn too_many_parts(&self) -> Problem {
        let parts_max = self.node.topology().limits.parts_max;
        Problem::new(
            Code::TooManyParts,
            format!("one request changes at most {parts_max} members or fields: split it"),
        )
    }

    fn refused(&self, refusal: Refusal, asked: &Asked<'_>) -> Problem {
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

    /// Puts the headers of a version that was read or written, and of its row's state.
    pub(super) fn put_version(&self, headers: &mut HeaderMap, version: Stamp, state: u64) {
        let mut text = BytesMut::with_capacity(64);
        let mut put = |name: HeaderName, words: fmt::Arguments<'_>| {
            // Digits, dots and quotes: always a header value.
            if text.write_fmt(words).is_ok()
                && let Ok(value) = HeaderValue::from_maybe_shared(text.split().freeze())
            {
                headers.insert(name, value);
            }
        };
        put(TIMESTAMP.clone(), format_args!("{}", version.timestamp));
        put(header::ETAG, format_args!("\"{}\"", Tag(state)));
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
                merge: keyspace.merge,
                level: keyspace.consistency,
                regions: regions.join(", "),
            };
            (keyspace.name.clone(), facts)
        });
        Self {
            tokens: Tokens::of(topology),
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

/// A time and a span later; saturates.
fn after(now: Wall, span: Duration) -> Wall {
    let micros = u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
    Wall(now.0.saturating_add(micros))
}

/// How an outcome is counted.
pub(super) fn fate(outcome: &Outcome) -> Fate {
    match outcome {
        Outcome::Written(_)
        | Outcome::Read(_)
        | Outcome::Selected { .. }
        | Outcome::Counted(_)
        | Outcome::Reached
        | Outcome::Page { .. } => Fate::Ok,
        Outcome::Refused(_) | Outcome::Denied(_) => Fate::Refused,
        Outcome::NotYet => Fate::Unavailable,
        Outcome::Unavailable(Unavailable::Overloaded) => Fate::Overloaded,
        Outcome::Unavailable(
            Unavailable::Replicas
            | Unavailable::Deadline
            | Unavailable::Stopping
            | Unavailable::Disk,
        ) => Fate::Unavailable,
        Outcome::Unknown(_) => Fate::Unknown,
    }
}

/// What a client is told of an outcome that has nothing to do with a keyspace.
pub(super) fn of_any(outcome: &Outcome) -> Problem {
    match outcome {
        Outcome::NotYet => not_yet(),
        Outcome::Unavailable(reason) => unavailable(*reason),
        Outcome::Unknown(reason) => unknown(*reason),
        Outcome::Written(_)
        | Outcome::Read(_)
        | Outcome::Selected { .. }
        | Outcome::Counted(_)
        | Outcome::Reached
        | Outcome::Page { .. }
        | Outcome::Refused(_)
        | Outcome::Denied(_) => Problem::new(
            Code::Broken,
            "the node answered another operation: report this as a defect",
        ),
    }
}

/// What the request must have seen did not come in time.
pub(super) fn not_yet() -> Problem {
    Problem::new(
        Code::NotYet,
        "what this request must have seen is not here yet: try again, wait longer, or ask the region that wrote it",
    )
}

fn session_ahead() -> Problem {
    Problem::new(
        Code::BadSession,
        "the session is further ahead than the clocks of this cluster may differ: start a new one, without Sterna-Session",
    )
}

fn unavailable(reason: Unavailable) -> Problem {
    let (code, words) = match reason {
        Unavailable::Replicas => (
            Code::Unavailable,
            "nothing happened: too few replicas are up and have caught up for this level; try again, or a weaker level",
        ),
        Unavailable::Deadline => (
            Code::Unavailable,
            "nothing happened: the time was over first; try again, or with a longer Sterna-Timeout",
        ),
        Unavailable::Stopping => (
            Code::Unavailable,
            "nothing happened: this node is stopping; ask another node of the region",
        ),
        Unavailable::Disk => (
            Code::Unavailable,
            "nothing happened: the node's disk is nearly full, and takes only deletes; make room, or ask another node of the region",
        ),
        Unavailable::Overloaded => (
            Code::Overloaded,
            "nothing happened: too many requests are in flight at this node; try again in a second, or elsewhere",
        ),
    };
    Problem::new(code, words)
}

fn unknown(reason: Unknown) -> Problem {
    let words = format!("{}; read the key, or write again", unknown_words(reason));
    Problem::new(Code::UnknownOutcome, words)
}

fn unknown_words(reason: Unknown) -> &'static str {
    match reason {
        Unknown::Acknowledgements => {
            "the write may be seen later: too few replicas acknowledged it in time"
        }
        Unknown::Coordinator => "the write may be seen later: the coordinator was lost",
    }
}
