//! An operation of a history, sent over HTTP, and what its answer shows.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;

use crate::cli::client::{
    Blob, Client, Error, Fate, FieldEntry, Fields, Members, Read, Several, Stamp,
};
use crate::history::{
    Action, Ending, FieldSeen, Record, Seen, name_of, number_of, timestamp_of, told, value_of,
};
use crate::model::{Collection, Context, Dot, KeyspaceId, Level, Place, Summary};

/// Keyspaces of the cluster.
pub(super) const LWW: &str = "default";
pub(super) const SIBLINGS: &str = "siblings";

/// The server's time for a request.
const TIMEOUT: Duration = Duration::from_millis(2_000);
/// A client waits no longer than this.
const PATIENCE: Duration = Duration::from_millis(2_600);
/// A page of any collection here.
const PAGE: usize = 1_000;

/// What a request carries beside its record.
#[derive(Clone, Debug, Default)]
pub(super) struct Extras {
    /// Its session's token; empty for a new one, nothing if it has none.
    pub(super) session: Option<String>,
    /// The context of the read that it names.
    pub(super) context: Option<String>,
    /// Its time to live.
    pub(super) ttl: Option<Duration>,
    /// How old what it reads may be.
    pub(super) staleness: Option<Duration>,
    /// It must find nothing.
    pub(super) is_first: bool,
    /// Bytes of its value.
    pub(super) bytes: usize,
}

/// What came of a request.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) ending: Ending,
    pub(super) is_crossed: bool,
    pub(super) session: Option<String>,
    pub(super) context: Option<String>,
    /// The code of an error.
    pub(super) code: Option<String>,
    /// An answer that no client should get.
    pub(super) odd: Option<String>,
}

/// Answers that what is there does not allow it.
const DENIALS: [&str; 2] = ["condition_failed", "too_many_siblings"];

impl Answer {
    /// Whether what is there did not allow it.
    pub(super) fn is_denied(&self) -> bool {
        let code = self.code.as_deref();
        code.is_some_and(|code| DENIALS.contains(&code))
    }

    fn of(ending: Ending) -> Self {
        Self {
            ending,
            is_crossed: false,
            session: None,
            context: None,
            code: None,
            odd: None,
        }
    }

    fn with(ending: Ending, stamp: Stamp) -> Self {
        Self {
            is_crossed: stamp.condition.as_deref() == Some("merged"),
            session: stamp.session,
            context: stamp.context,
            ..Self::of(ending)
        }
    }
}

/// Sends an operation to a node and waits for its answer, but not for ever.
pub(super) async fn ask(client: &Client, record: &Record, extras: &Extras) -> Answer {
    let asked = async {
        let client = wishes(client, record, extras)?;
        send(&client, record, extras).await
    };
    match tokio::time::timeout(PATIENCE, asked).await {
        Err(_) => Answer::of(Ending::Unknown),
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => failed(&error),
    }
}

fn failed(error: &Error) -> Answer {
    let ending = match error.fate() {
        Fate::Unknown => Ending::Unknown,
        Fate::Failed => Ending::Failed,
        Fate::Refused if error.is_code("not_yet") => Ending::NotYet,
        Fate::Refused => Ending::Failed,
    };
    let mut answer = Answer::of(ending);
    if let Error::Server { code, .. } = error {
        answer.code = Some(code.clone());
    }
    if let Error::Foreign { .. } | Error::Header(_) | Error::Endpoint(_) = error {
        answer.odd = Some(error.to_string());
        answer.ending = Ending::Unknown;
    }
    answer
}

fn millis(span: Duration) -> String {
    format!("{}ms", span.as_millis().max(1))
}

fn wishes(client: &Client, record: &Record, extras: &Extras) -> Result<Client, Error> {
    let client = client.clone().with_timeout(Some(TIMEOUT));
    let client = client.with_level(Some(record.level).filter(|_| record.level != Level::UnsafeOne));
    let session = extras.session.as_ref().filter(|token| !token.is_empty());
    let id = match record.action {
        Action::Add { id: Some(id), .. } => Some(format!("add-{id}")),
        Action::Get
        | Action::Put(_)
        | Action::Delete
        | Action::PutSibling { .. }
        | Action::DeleteSiblings { .. }
        | Action::Count(_)
        | Action::Add { .. }
        | Action::Reset(_)
        | Action::List(_)
        | Action::Members { .. }
        | Action::Fields { .. }
        | Action::Clear(_) => None,
    };
    let state = record.wishes.condition.filter(|_| !extras.is_first);
    client
        .with_header("sterna-session", session)?
        .with_header("sterna-context", extras.context.as_ref())?
        .with_header("sterna-ttl", extras.ttl.map(millis))?
        .with_header("sterna-max-staleness", extras.staleness.map(millis))?
        .with_header("sterna-wait", extras.staleness.map(|_| "300ms"))?
        .with_header("idempotency-key", id)?
        .with_header("if-match", state.map(|state| format!("\"{state:016x}\"")))?
        .with_header("if-none-match", extras.is_first.then_some("*"))
}

fn keyspace_of(record: &Record) -> &'static str {
    if record.key.keyspace == KeyspaceId::of(SIBLINGS) {
        SIBLINGS
    } else {
        LWW
    }
}

fn names(numbers: &[u8]) -> Vec<Blob> {
    numbers
        .iter()
        .map(|number| Blob(name_of(*number)))
        .collect()
}

async fn send(client: &Client, record: &Record, extras: &Extras) -> Result<Answer, Error> {
    let (keyspace, key) = (keyspace_of(record), record.key.key.as_ref());
    let value = |token: u64| value_of(token, extras.bytes);
    let done = |stamp: Stamp| Answer::with(Ending::Done, stamp);
    Ok(match &record.action {
        Action::Get => {
            let read = client.read(keyspace, key, Several::All).await?;
            shown(read, keyspace == SIBLINGS)
        }
        Action::Put(token) => {
            let stamp = client.put(keyspace, key, value(*token)).await?;
            written(stamp, false)
        }
        Action::Delete => written(client.delete(keyspace, key).await?, true),
        Action::PutSibling { token, .. } => done(client.put(keyspace, key, value(*token)).await?),
        Action::DeleteSiblings { .. } => done(client.delete(keyspace, key).await?),
        Action::Count(Place::Key) => {
            let told = client.counter(keyspace, key).await?;
            let mut answer = Answer::of(Ending::Counted(Some(told.answer)));
            answer.session = told.session;
            answer
        }
        Action::Count(Place::Field(field)) => {
            let found = client.map_field(keyspace, key, field).await?;
            let count = found.and_then(|told| told.answer.counter);
            Answer::of(Ending::Counted(count))
        }
        Action::Add {
            place: Place::Key,
            delta,
            ..
        } => done(client.counter_add(keyspace, key, *delta).await?),
        Action::Add {
            place: Place::Field(field),
            delta,
            ..
        } => {
            let change = Fields {
                add: vec![(Blob(field.clone()), *delta)],
                ..Fields::default()
            };
            done(client.map_change(keyspace, key, &change).await?)
        }
        Action::Reset(Place::Key) => done(client.clear("counter", keyspace, key).await?),
        Action::Reset(Place::Field(field)) => {
            let change = Fields {
                remove: vec![Blob(field.clone())],
                ..Fields::default()
            };
            done(client.map_change(keyspace, key, &change).await?)
        }
        Action::List(Collection::Set) => members(client, keyspace, key).await?,
        Action::List(Collection::Map) => fields(client, keyspace, key).await?,
        Action::Members { add, remove } => {
            let change = Members {
                add: names(add),
                remove: names(remove),
            };
            done(client.set_change(keyspace, key, &change).await?)
        }
        Action::Fields { put, add, remove } => {
            let blob = |field: u8| Blob(name_of(field));
            let change = Fields {
                put: (put.iter())
                    .map(|(field, token)| (blob(*field), Blob(value(*token))))
                    .collect(),
                add: (add.iter()).map(|(field, n)| (blob(*field), *n)).collect(),
                remove: names(remove),
            };
            done(client.map_change(keyspace, key, &change).await?)
        }
        Action::Clear(Collection::Set) => done(client.clear("set", keyspace, key).await?),
        Action::Clear(Collection::Map) => done(client.clear("map", keyspace, key).await?),
    })
}

fn summary(stamp: &Stamp, is_tombstone: bool) -> Option<Summary> {
    let timestamp = timestamp_of(&stamp.timestamp)?;
    let state = u64::from_str_radix(&stamp.etag, 16).unwrap_or(0);
    Some(told(timestamp, Dot::NONE, state, is_tombstone))
}

fn written(stamp: Stamp, is_tombstone: bool) -> Answer {
    match summary(&stamp, is_tombstone) {
        Some(summary) => Answer::with(Ending::Written(summary), stamp),
        None => Answer {
            odd: Some(format!(
                "a write was answered without its version: {stamp:?}"
            )),
            ..Answer::of(Ending::Unknown)
        },
    }
}

fn token_in(value: &Bytes) -> Option<u64> {
    value
        .first_chunk::<8>()
        .map(|bytes| u64::from_be_bytes(*bytes))
}

fn shown(read: Read, is_siblings: bool) -> Answer {
    if is_siblings {
        let (tokens, stamp) = match read {
            Read::One(found) => (token_in(&found.value).into_iter().collect(), found.stamp),
            Read::Absent(stamp) => (BTreeSet::new(), stamp),
            Read::Several(all, stamp) => {
                let tokens = all.iter().filter_map(|sibling| token_in(&sibling.value.0));
                (tokens.collect(), stamp)
            }
        };
        return Answer::with(Ending::Siblings(tokens, Context::default()), stamp);
    }
    match read {
        Read::One(found) => {
            let Some(summary) = summary(&found.stamp, false) else {
                return Answer {
                    odd: Some(format!("a value without its version: {:?}", found.stamp)),
                    ..Answer::of(Ending::Unknown)
                };
            };
            let token = token_in(&found.value);
            Answer::with(Ending::Read(Some(Seen { summary, token })), found.stamp)
        }
        Read::Absent(stamp) => {
            let seen = summary(&stamp, true);
            let seen = seen.map(|summary| Seen {
                summary,
                token: None,
            });
            Answer::with(Ending::Read(seen), stamp)
        }
        Read::Several(..) => Answer {
            odd: Some("siblings in an lww keyspace".to_owned()),
            ..Answer::of(Ending::Unknown)
        },
    }
}

async fn members(client: &Client, keyspace: &str, key: &[u8]) -> Result<Answer, Error> {
    let mut members = BTreeSet::new();
    let mut after: Option<String> = None;
    loop {
        let told = client
            .set_page(keyspace, key, PAGE, after.as_deref())
            .await?;
        let numbers = told.answer.members.iter();
        members.extend(numbers.filter_map(|member| number_of(&member.0)));
        after = told.answer.next;
        if after.is_none() {
            let mut answer = Answer::of(Ending::Members(members));
            answer.session = told.session;
            return Ok(answer);
        }
    }
}

async fn fields(client: &Client, keyspace: &str, key: &[u8]) -> Result<Answer, Error> {
    let mut fields: BTreeMap<u8, FieldSeen> = BTreeMap::new();
    let mut after: Option<String> = None;
    loop {
        let told = client
            .map_page(keyspace, key, PAGE, after.as_deref())
            .await?;
        for entry in told.answer.fields {
            let FieldEntry {
                field,
                value,
                counter,
            } = entry;
            let Some(number) = number_of(&field.0) else {
                continue;
            };
            let seen = fields.entry(number).or_default();
            if let Some(value) = value {
                seen.token = token_in(&value.0);
            }
            if counter.is_some() {
                seen.count = counter;
            }
        }
        after = told.answer.next;
        if after.is_none() {
            let mut answer = Answer::of(Ending::Fields(fields));
            answer.session = told.session;
            return Ok(answer);
        }
    }
}
