//! What every client asked, when, and how it ended: the records of a history.
//!
//! Checkers read them; they decide nothing. Values carry unique tokens, so that a value tells its write.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use bytes::Bytes;

use crate::model::{
    Collection, Context, Dot, Level, NodeId, Place, RegionId, Row, RowKey, Session, Summary,
    Timestamp, Version,
};

/// Timestamps are shown to people as seconds since then: microseconds since 1970. The simulator's time begins here.
pub(crate) const EPOCH_MICROS: u64 = 1_750_000_000_000_000;

/// What an operation does.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// Read a plain value, or its siblings.
    Get,
    /// Write the value that starts with this token.
    Put(u64),
    /// Delete.
    Delete,
    /// Write a value beside what was not seen.
    PutSibling {
        /// The value's token.
        token: u64,
        /// The read that was seen.
        seen: Option<u64>,
    },
    /// Delete the siblings that were seen.
    DeleteSiblings {
        /// The read that was seen.
        seen: Option<u64>,
    },
    /// Read a counter.
    Count(Place),
    /// Add to a counter.
    Add {
        /// Which.
        place: Place,
        /// What.
        delta: i64,
        /// The operation id: the first operation that tried it.
        id: Option<u64>,
    },
    /// Reset a counter.
    Reset(Place),
    /// Read a set or a map.
    List(Collection),
    /// Change members.
    Members {
        /// To add.
        add: Vec<u8>,
        /// To remove.
        remove: Vec<u8>,
    },
    /// Change fields.
    Fields {
        /// Registers to put, with their tokens.
        put: Vec<(u8, u64)>,
        /// Counters to add to.
        add: Vec<(u8, i64)>,
        /// Fields to remove.
        remove: Vec<u8>,
    },
    /// Delete a collection.
    Clear(Collection),
}

/// A version as a client saw it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Seen {
    /// Its summary.
    pub summary: Summary,
    /// The token of its value; nothing for a tombstone, or for a value without a token.
    pub token: Option<u64>,
}

/// What a field of a map showed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct FieldSeen {
    /// The token of its register, if there is one.
    pub token: Option<u64>,
    /// The value of its counter, if there is one.
    pub count: Option<i128>,
}

/// How an operation ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Ending {
    /// Not yet.
    Pending,
    /// OK: a register was written.
    Written(Summary),
    /// OK: something else was written.
    Done,
    /// OK: a register was read.
    Read(Option<Seen>),
    /// OK: the tokens of siblings, and the context.
    Siblings(BTreeSet<u64>, Context),
    /// OK: the value of a counter.
    Counted(Option<i128>),
    /// OK: members of a set.
    Members(BTreeSet<u8>),
    /// OK: fields of a map.
    Fields(BTreeMap<u8, FieldSeen>),
    /// Not here yet; nothing happened.
    NotYet,
    /// FAILED: never to be seen.
    Failed,
    /// UNKNOWN.
    Unknown,
}

impl Ending {
    /// What was written to a register.
    pub fn written(&self) -> Option<&Summary> {
        if let Self::Written(summary) = self {
            Some(summary)
        } else {
            None
        }
    }

    /// Whether it went well.
    pub fn is_ok(&self) -> bool {
        match self {
            Self::Written(_)
            | Self::Done
            | Self::Read(_)
            | Self::Siblings(..)
            | Self::Counted(_)
            | Self::Members(_)
            | Self::Fields(_) => true,
            Self::Pending | Self::NotYet | Self::Failed | Self::Unknown => false,
        }
    }
}

/// What an operation asked for beside its action, and what its answer said of that.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Wishes {
    /// When what is written expires, in virtual microseconds.
    pub expires: Option<u64>,
    /// The client goes from region to region and brings its session.
    pub session: Option<Session>,
    /// Everything stamped up to this time must be seen.
    pub fresh_as_of: Option<u64>,
    /// The state that the row must have.
    pub condition: Option<u64>,
    /// Its answer said that another coordinator was writing at the same time.
    pub is_crossed: bool,
    /// Its answer said that its own region did it.
    pub is_done_here: bool,
}

/// One operation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    /// Its place in the history.
    pub id: u64,
    /// Who asked.
    pub client: usize,
    /// The region of the node that was asked.
    pub region: RegionId,
    /// Which node was asked.
    pub node: NodeId,
    /// How surely.
    pub level: Level,
    /// Which row.
    pub key: RowKey,
    /// What for.
    pub action: Action,
    /// What else was asked for.
    pub wishes: Wishes,
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
            Action::Get | Action::Count(_) | Action::List(_) => false,
            Action::Put(_)
            | Action::Delete
            | Action::PutSibling { .. }
            | Action::DeleteSiblings { .. }
            | Action::Add { .. }
            | Action::Reset(_)
            | Action::Members { .. }
            | Action::Fields { .. }
            | Action::Clear(_) => true,
        }
    }

    /// Whether it went well.
    pub fn is_ok(&self) -> bool {
        self.ending.is_ok()
    }

    /// Whether it may have changed something, now or later.
    pub fn may_count(&self) -> bool {
        match self.ending {
            Ending::Failed | Ending::NotYet => false,
            Ending::Pending
            | Ending::Written(_)
            | Ending::Done
            | Ending::Read(_)
            | Ending::Siblings(..)
            | Ending::Counted(_)
            | Ending::Members(_)
            | Ending::Fields(_)
            | Ending::Unknown => true,
        }
    }

    /// Whether it takes away what is there, and so waits, in a session, for what that has seen. The rule of `Write::must_see_its_session`,
    /// said again: what judges a history knows nothing of what made it.
    fn takes_away(&self) -> bool {
        match &self.action {
            Action::DeleteSiblings { seen } => seen.is_none(),
            Action::Reset(_) | Action::Clear(_) => true,
            Action::Members { remove, .. } | Action::Fields { remove, .. } => !remove.is_empty(),
            Action::Get
            | Action::Count(_)
            | Action::List(_)
            | Action::Put(_)
            | Action::Delete
            | Action::PutSibling { .. }
            | Action::Add { .. } => false,
        }
    }

    /// Whether it spoke with a quorum of its region: what a gate may have sent elsewhere did not.
    pub fn is_regional(&self) -> bool {
        let is_gated = self.wishes.session.is_some() || self.wishes.fresh_as_of.is_some();
        // A condition is looked at in its own region only.
        let is_here = self.wishes.condition.is_some() || self.wishes.is_done_here;
        let may_be_sent_on = is_gated && !is_here && (!self.is_write() || self.takes_away());
        match self.level {
            Level::One => self.is_write() && !may_be_sent_on,
            Level::UnsafeOne => false,
            Level::LocalQuorum => !may_be_sent_on,
            // Of all regions a quorum has it, wherever it was done.
            Level::EachQuorum | Level::All => self.is_write() || !may_be_sent_on,
        }
    }

    /// Whether it speaks for all regions.
    pub fn is_everywhere(&self) -> bool {
        matches!(self.level, Level::EachQuorum | Level::All)
    }

    /// Whether it had ended well before `at`, with a quorum of its own region.
    pub fn has_ended_by(&self, at: u64) -> bool {
        self.is_ok() && self.is_regional() && self.ended.is_some_and(|ended| ended < at)
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
            wishes,
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
        if *wishes != Wishes::default() {
            write!(f, "{wishes:?}, ")?;
        }
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
            Ending::Siblings(tokens, _) => write!(f, "read {tokens:?}]"),
            Ending::Pending
            | Ending::Done
            | Ending::Counted(_)
            | Ending::Members(_)
            | Ending::Fields(_)
            | Ending::NotYet
            | Ending::Failed
            | Ending::Unknown => write!(f, "{ending:?}]"),
        }
    }
}

fn seconds(micros: u64) -> String {
    format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000)
}

/// A row's name, for people.
pub(crate) fn key_words(key: &RowKey) -> String {
    let part = match key.part() {
        Some(crate::model::Part::Plain) => String::new(),
        Some(part) => format!(" {part:?}"),
        None => format!(" {:?}", key.subkey),
    };
    let name = String::from_utf8_lossy(&key.key);
    format!("{:08x}/{name}{part}", key.keyspace.0)
}

/// A version, for people: when, by whom, which number; crossed if it is a tombstone.
pub(crate) fn version_words(summary: &Summary) -> String {
    let cross = if summary.is_tombstone { "+" } else { "" };
    let since = summary.timestamp.micros.saturating_sub(EPOCH_MICROS);
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
    match row {
        None => "nothing".to_owned(),
        Some(row @ Row::Register(_)) => version_words(&row.summary()),
        Some(row) => format!("{row:?}"),
    }
}

/// A value that carries a token, filled up to `bytes`.
pub(crate) fn value_of(token: u64, bytes: usize) -> Bytes {
    let mut value = token.to_be_bytes().to_vec();
    value.resize(bytes.max(value.len()), b'.');
    value.into()
}

/// The token of a value.
pub(crate) fn token_of(version: &Version) -> Option<u64> {
    let bytes = version.value.as_ref()?.first_chunk::<8>()?;
    Some(u64::from_be_bytes(*bytes))
}

/// The name of a member or field.
pub(crate) fn name_of(number: u8) -> Bytes {
    Bytes::from(vec![b'm', number])
}

/// The number in the name of a member or field.
pub(crate) fn number_of(name: &Bytes) -> Option<u8> {
    name.get(1).copied()
}

/// The field's counter.
pub(crate) fn place_of(field: u8) -> Place {
    Place::Field(name_of(field))
}

/// What a client is told of a version of a register. Over HTTP no dot is told: then it is that of no change, and of two
/// versions of one timestamp none counts as newer.
pub(crate) fn told(timestamp: Timestamp, dot: Dot, state: u64, is_tombstone: bool) -> Summary {
    Summary {
        timestamp,
        dot,
        is_tombstone,
        is_register: true,
        state,
        others: Box::default(),
    }
}

/// A register as a client sees it.
pub(crate) fn seen(row: &Row) -> Seen {
    let token = if let Row::Register(version) = row {
        token_of(version)
    } else {
        None
    };
    Seen {
        summary: row.summary(),
        token,
    }
}

/// All operations of a run, in the order they were invoked.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct History {
    records: Vec<Record>,
    rest: Option<u64>,
    slack: u64,
}

impl History {
    /// A history of these records, which are put in the order in which they were invoked.
    pub(super) fn of(mut records: Vec<Record>, rest: Option<u64>, slack: u64) -> Self {
        records.sort_by_key(|record| (record.invoked, record.id));
        Self {
            records,
            rest,
            slack,
        }
    }

    /// From now on all replicas hold the same, and nothing is written any more.
    pub fn set_rest(&mut self, now: u64) {
        self.rest = Some(now);
    }

    /// Since when all replicas held the same; nothing if it never came to that.
    pub fn rest(&self) -> Option<u64> {
        self.rest
    }

    /// Clocks may have been off by so many microseconds, there and back, and answers took a while.
    pub fn set_slack(&mut self, slack: u64) {
        self.slack = slack;
    }

    /// How far clocks may have been off.
    pub fn slack(&self) -> u64 {
        self.slack
    }

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
        if let Some(record) = self.record_mut(id) {
            record.ended = Some(now);
            record.ending = ending;
        }
    }

    /// Records that an operation was done in its own region.
    pub fn note_done_here(&mut self, id: u64) {
        if let Some(record) = self.record_mut(id) {
            record.wishes.is_done_here = true;
        }
    }

    /// Records that another coordinator was writing at the same time.
    pub fn cross(&mut self, id: u64) {
        if let Some(record) = self.record_mut(id) {
            record.wishes.is_crossed = true;
        }
    }

    /// An operation by its id.
    pub fn get(&self, id: u64) -> Option<&Record> {
        self.records.get(usize::try_from(id).ok()?)
    }

    /// The context that the read which an action names has shown.
    pub(crate) fn context_of(&self, action: &Action) -> Option<Context> {
        let (Action::PutSibling { seen, .. } | Action::DeleteSiblings { seen }) = action else {
            return None;
        };
        let read = self.get((*seen)?)?;
        if let Ending::Siblings(_, context) = &read.ending {
            return Some(context.clone());
        }
        // Nothing was there: nothing was seen, and that is a context too.
        Some(Context::default())
    }

    /// All operations.
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    fn record_mut(&mut self, id: u64) -> Option<&mut Record> {
        self.records.get_mut(usize::try_from(id).ok()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_tells_its_token() {
        use crate::model::{Actor, Dot, Incarnation, Stamp, Timestamp};
        let actor = Actor {
            node: NodeId(1),
            incarnation: Incarnation(1),
        };
        let stamp = Stamp {
            timestamp: Timestamp::ZERO,
            dot: Dot { actor, n: 1 },
        };
        let row = Row::Register(Version::new(stamp, Some(value_of(77, 20))));
        assert_eq!(seen(&row).token, Some(77));
    }

    /// A removal of a session waits for what that has seen, and may then be done in another region.
    #[test]
    fn what_a_gate_may_have_sent_elsewhere_is_not_regional() {
        let remove = Action::DeleteSiblings { seen: None };
        let named = Action::DeleteSiblings { seen: Some(1) };
        let session = Some(Session::default());
        for (action, session, condition, level, expected) in [
            (&remove, &session, None, Level::LocalQuorum, false),
            (&remove, &session, None, Level::One, false),
            (&remove, &session, None, Level::EachQuorum, true),
            (&remove, &session, Some(1), Level::LocalQuorum, true),
            (&remove, &None, None, Level::LocalQuorum, true),
            (&named, &session, None, Level::LocalQuorum, true),
            (&Action::Get, &session, None, Level::LocalQuorum, false),
            (&Action::Get, &None, None, Level::LocalQuorum, true),
        ] {
            let record = Record {
                id: 1,
                client: 1,
                region: RegionId(1),
                node: NodeId(1),
                level,
                key: RowKey::plain(crate::model::KeyspaceId(1), b"k".to_vec().into()),
                action: action.clone(),
                wishes: Wishes {
                    session: session.clone(),
                    condition,
                    ..Wishes::default()
                },
                invoked: 1,
                ended: Some(2),
                ending: Ending::Done,
            };
            assert_eq!(record.is_regional(), expected, "{record}");
        }
    }
}
