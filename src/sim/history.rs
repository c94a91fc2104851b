//! The history of a run: what every client asked, when, and how it ended.
//!
//! Checkers read it; it decides nothing. Values carry unique tokens, so that a value tells its write.

use std::fmt;

use bytes::Bytes;

use crate::model::{Level, NodeId, RegionId, Row, RowKey, Summary, Write, WriteOp};
use crate::protocol::Operation;

/// What an operation does.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// Read.
    Get,
    /// Write the value that starts with this token.
    Put(u64),
    /// Delete.
    Delete,
}

/// A version as a client saw it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Seen {
    /// Its summary.
    pub summary: Summary,
    /// The token of its value; nothing for a tombstone, or for a value without a token.
    pub token: Option<u64>,
}

/// How an operation ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Ending {
    /// Not yet.
    Pending,
    /// OK: written.
    Written(Summary),
    /// OK: read.
    Read(Option<Seen>),
    /// FAILED: never to be seen.
    Failed,
    /// UNKNOWN.
    Unknown,
}

/// One operation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    /// Its place in the history.
    pub id: u64,
    /// Who asked.
    pub client: usize,
    /// In which region.
    pub region: RegionId,
    /// Which node was asked.
    pub node: NodeId,
    /// How surely.
    pub level: Level,
    /// Which row.
    pub key: RowKey,
    /// What for.
    pub action: Action,
    /// When it was sent, in virtual microseconds.
    pub invoked: u64,
    /// When the answer came, or the client gave up.
    pub ended: Option<u64>,
    /// How it ended.
    pub ending: Ending,
}

impl Record {
    /// Whether it writes.
    pub fn is_write(&self) -> bool {
        match self.action {
            Action::Get => false,
            Action::Put(_) | Action::Delete => true,
        }
    }

    /// The operation as it is sent, its value filled up to `value_bytes`.
    pub fn operation(&self, value_bytes: usize) -> Operation {
        let key = self.key.clone();
        match self.action {
            Action::Get => Operation::Get { key },
            Action::Put(token) => {
                let op = WriteOp::Put(value_of(token, value_bytes));
                Operation::Write(Box::new(Write::new(key, op)))
            }
            Action::Delete => Operation::Write(Box::new(Write::new(key, WriteOp::Delete))),
        }
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            id,
            client,
            region,
            node,
            level,
            key,
            action,
            invoked,
            ended,
            ending,
        } = self;
        write!(
            f,
            "operation {id} [c{client} of {:08x} asks {:08x}, ",
            region.0, node.0
        )?;
        write!(f, "{level} {action:?} {}, ", key_words(key))?;
        write!(
            f,
            "{} to {}: ",
            seconds(*invoked),
            ended.map_or("-".to_owned(), seconds)
        )?;
        match ending {
            Ending::Written(summary) => write!(f, "wrote {}]", version_words(summary)),
            Ending::Read(Some(seen)) => {
                let token = seen.token.map_or("-".to_owned(), |token| token.to_string());
                write!(f, "read {token} = {}]", version_words(&seen.summary))
            }
            Ending::Read(None) => write!(f, "read nothing]"),
            Ending::Pending | Ending::Failed | Ending::Unknown => write!(f, "{ending:?}]"),
        }
    }
}

fn seconds(micros: u64) -> String {
    format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000)
}

/// A row's name, for people.
pub(crate) fn key_words(key: &RowKey) -> String {
    format!(
        "{:08x}/{}",
        key.keyspace.0,
        String::from_utf8_lossy(&key.key)
    )
}

/// A version, for people: when, by whom, which number; crossed if it is a tombstone.
pub(crate) fn version_words(summary: &Summary) -> String {
    let cross = if summary.is_tombstone { "+" } else { "" };
    let since = summary
        .timestamp
        .micros
        .saturating_sub(super::clock::EPOCH_MICROS);
    let (dot, logical) = (summary.dot, summary.timestamp.logical);
    format!(
        "{}.{logical}@{}:{}{cross}",
        seconds(since),
        dot.actor,
        dot.n
    )
}

/// A row, or none, for people.
pub(crate) fn row_words(row: Option<&Row>) -> String {
    row.map_or("nothing".to_owned(), |row| version_words(&row.summary()))
}

/// A value that carries a token, filled up to `bytes`.
pub(crate) fn value_of(token: u64, bytes: usize) -> Bytes {
    let mut value = token.to_be_bytes().to_vec();
    value.resize(bytes.max(value.len()), b'.');
    value.into()
}

/// A row as a client sees it.
pub(crate) fn seen(row: &Row) -> Seen {
    let summary = row.summary();
    let token = match row {
        Row::Register(version) => version
            .value
            .as_ref()
            .and_then(|value| value.first_chunk::<8>())
            .map(|bytes| u64::from_be_bytes(*bytes)),
        _ => None,
    };
    Seen { summary, token }
}

/// All operations of a run, in the order they were invoked.
#[derive(Debug, Default)]
pub struct History {
    records: Vec<Record>,
}

impl History {
    /// Records that an operation was invoked; the record's id is set to its place.
    pub fn invoke(&mut self, mut record: Record) -> u64 {
        let id = self.next_id();
        record.id = id;
        self.records.push(record);
        id
    }

    /// The id that the next operation gets.
    pub fn next_id(&self) -> u64 {
        u64::try_from(self.records.len()).unwrap_or(u64::MAX)
    }

    /// Records how an operation ended.
    pub fn end(&mut self, now: u64, id: u64, ending: Ending) {
        let record = usize::try_from(id)
            .ok()
            .and_then(|place| self.records.get_mut(place));
        if let Some(record) = record {
            record.ended = Some(now);
            record.ending = ending;
        }
    }

    /// An operation by its id.
    pub fn get(&self, id: u64) -> Option<&Record> {
        self.records.get(usize::try_from(id).ok()?)
    }

    /// All operations.
    pub fn records(&self) -> &[Record] {
        &self.records
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_tells_its_token() {
        use crate::model::{Actor, Dot, Incarnation, Timestamp, Version};
        let actor = Actor {
            node: NodeId(1),
            incarnation: Incarnation(1),
        };
        let row = Row::Register(Version {
            timestamp: Timestamp::ZERO,
            dot: Dot { actor, n: 1 },
            replaced: Timestamp::ZERO,
            expires: None,
            after: None,
            value: Some(value_of(77, 20)),
        });
        assert_eq!(seen(&row).token, Some(77));
    }
}
