//! A history as lines of JSON, and back. What is written is read back as it was, but for contexts and sessions: of
//! these a history keeps only whether there was one.

use std::collections::BTreeMap;

use crate::model::{
    Actor, Collection, Context, Dot, Incarnation, KeyspaceId, NodeId, Place, RegionId, RowKey,
    Session, Summary, Timestamp,
};
use crate::placement::Topology;

use super::json::{
    Answer, Deed, Done, Failed, Field, Head, Invoke, Kind, Line, Name, Rest, Stamp, Unknown,
};
use super::record::{
    Action, Ending, FieldSeen, History, Record, Seen, Wishes, number_of, place_of, told,
};

/// The form of the lines.
const VERSION: u32 = 1;

/// Why text is no history.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum HistoryError {
    /// A line cannot be understood.
    #[error("line {line}: {why}")]
    Line {
        /// Which, from 1.
        line: usize,
        /// Why.
        why: String,
    },
    /// The form is another.
    #[error("the first line must be a `history` of version {VERSION}")]
    Head,
}

impl History {
    /// The lines: events in the order of their times. Ids are written as the names of the topology.
    pub fn to_lines(&self, topology: &Topology) -> Vec<String> {
        let head = Line::History(Head {
            version: VERSION,
            slack: self.slack(),
        });
        // At one time, what ends stands before what begins.
        let mut events: Vec<((u64, u8, u64), Line)> = Vec::new();
        for record in self.records() {
            let invoke = Line::Invoke(Box::new(invoke(record, topology)));
            events.push(((record.invoked, 2, record.id), invoke));
            if let Some((at, line)) = ended(record) {
                // An operation may end in the instant in which it began.
                let order = if at == record.invoked { 3 } else { 0 };
                events.push(((at, order, record.id), line));
            }
        }
        if let Some(time) = self.rest() {
            events.push(((time, 1, 0), Line::Rest(Rest { time })));
        }
        events.sort_by_key(|(order, _)| *order);
        let lines = events.into_iter().map(|(_, line)| line);
        let lines = [head].into_iter().chain(lines);
        lines
            .filter_map(|line| serde_json::to_string(&line).ok())
            .collect()
    }

    /// Reads lines.
    ///
    /// # Errors
    /// A line is no event, an answer has no question, or the form is another.
    pub fn parse(text: &str) -> Result<Self, HistoryError> {
        let mut reading = Reading::default();
        for (line, text) in (1..).zip(text.lines()) {
            let fail = |why: String| HistoryError::Line { line, why };
            let event: Line =
                serde_json::from_str(text).map_err(|error| fail(error.to_string()))?;
            if line > 1 {
                reading.take(event).map_err(fail)?;
            } else if let Line::History(head) = event
                && head.version == VERSION
            {
                reading.slack = head.slack;
            } else {
                return Err(HistoryError::Head);
            }
        }
        let records = reading.records.into_values().collect();
        Ok(Self::of(records, reading.rest, reading.slack))
    }
}

#[derive(Default)]
struct Reading {
    records: BTreeMap<u64, Record>,
    rest: Option<u64>,
    slack: u64,
}

impl Reading {
    fn take(&mut self, event: Line) -> Result<(), String> {
        match event {
            Line::History(_) => Err("a second head".to_owned()),
            Line::Invoke(invoke) => {
                let record = record(*invoke)?;
                match self.records.insert(record.id, record) {
                    None => Ok(()),
                    Some(old) => Err(format!("operation {} is invoked twice", old.id)),
                }
            }
            Line::Ok(done) => {
                let ending = ending(done.result)?;
                let wishes = &mut self.end(done.op, done.time, ending)?.wishes;
                wishes.is_crossed = done.crossed;
                wishes.is_done_here = done.here;
                Ok(())
            }
            Line::Fail(failed) => {
                let ending = if failed.not_yet {
                    Ending::NotYet
                } else {
                    Ending::Failed
                };
                self.end(failed.op, failed.time, ending).map(|_| ())
            }
            Line::Unknown(unknown) => self
                .end(unknown.op, unknown.time, Ending::Unknown)
                .map(|_| ()),
            Line::Rest(rest) => {
                self.rest = Some(rest.time);
                Ok(())
            }
        }
    }

    fn end(&mut self, op: u64, time: u64, ending: Ending) -> Result<&mut Record, String> {
        let record = self.records.get_mut(&op);
        let record = record.ok_or_else(|| format!("operation {op} ends, but never began"))?;
        record.ended = Some(time);
        record.ending = ending;
        Ok(record)
    }
}

fn invoke(record: &Record, topology: &Topology) -> Invoke {
    let region = topology.region(record.region);
    let node = topology.node(record.node);
    let keyspaces = topology.keyspaces.iter();
    let mut keyspaces = keyspaces.filter(|keyspace| keyspace.id == record.key.keyspace);
    Invoke {
        op: record.id,
        process: record.client,
        time: record.invoked,
        region: region.map_or_else(String::new, |region| region.name.clone()),
        node: node.map_or_else(String::new, |node| node.name.clone()),
        keyspace: keyspaces
            .next()
            .map_or_else(String::new, |keyspace| keyspace.name.clone()),
        key: Name::of(&record.key.key),
        level: record.level.to_string(),
        action: deed(&record.action),
        session: record.wishes.session.is_some(),
        expires: record.wishes.expires,
        fresh_as_of: record.wishes.fresh_as_of,
        condition: record.wishes.condition.map(|state| format!("{state:016x}")),
    }
}

fn record(invoke: Invoke) -> Result<Record, String> {
    let keyspace = KeyspaceId::of(&invoke.keyspace);
    Ok(Record {
        id: invoke.op,
        client: invoke.process,
        region: RegionId::of(&invoke.region),
        node: NodeId::of(&invoke.node),
        level: invoke.level.parse()?,
        key: RowKey::plain(keyspace, invoke.key.bytes()?),
        action: action(invoke.action),
        wishes: Wishes {
            expires: invoke.expires,
            session: invoke.session.then(Session::default),
            fresh_as_of: invoke.fresh_as_of,
            condition: invoke.condition.map(|text| hex(&text)).transpose()?,
            is_crossed: false,
            is_done_here: false,
        },
        invoked: invoke.time,
        ended: None,
        ending: Ending::Pending,
    })
}

fn hex(text: &str) -> Result<u64, String> {
    u64::from_str_radix(text, 16).map_err(|error| format!("state `{text}`: {error}"))
}

fn field_of(place: &Place) -> Option<u8> {
    match place {
        Place::Key => None,
        Place::Field(name) => number_of(name),
    }
}

fn place(field: Option<u8>) -> Place {
    field.map_or(Place::Key, place_of)
}

fn deed(action: &Action) -> Deed {
    match action.clone() {
        Action::Get => Deed::Get,
        Action::Put(value) => Deed::Put { value },
        Action::Delete => Deed::Delete,
        Action::PutSibling { token, seen } => Deed::PutSibling { value: token, seen },
        Action::DeleteSiblings { seen } => Deed::DeleteSiblings { seen },
        Action::Count(place) => Deed::Count {
            field: field_of(&place),
        },
        Action::Add { place, delta, id } => Deed::Add {
            field: field_of(&place),
            delta,
            id,
        },
        Action::Reset(place) => Deed::Reset {
            field: field_of(&place),
        },
        Action::List(collection) => Deed::List {
            of: kind(collection),
        },
        Action::Members { add, remove } => Deed::Members { add, remove },
        Action::Fields { put, add, remove } => Deed::Fields { put, add, remove },
        Action::Clear(collection) => Deed::Clear {
            of: kind(collection),
        },
    }
}

fn action(deed: Deed) -> Action {
    match deed {
        Deed::Get => Action::Get,
        Deed::Put { value } => Action::Put(value),
        Deed::Delete => Action::Delete,
        Deed::PutSibling { value, seen } => Action::PutSibling { token: value, seen },
        Deed::DeleteSiblings { seen } => Action::DeleteSiblings { seen },
        Deed::Count { field } => Action::Count(place(field)),
        Deed::Add { field, delta, id } => Action::Add {
            place: place(field),
            delta,
            id,
        },
        Deed::Reset { field } => Action::Reset(place(field)),
        Deed::List { of } => Action::List(collection(of)),
        Deed::Members { add, remove } => Action::Members { add, remove },
        Deed::Fields { put, add, remove } => Action::Fields { put, add, remove },
        Deed::Clear { of } => Action::Clear(collection(of)),
    }
}

fn kind(collection: Collection) -> Kind {
    match collection {
        Collection::Set => Kind::Set,
        Collection::Map => Kind::Map,
    }
}

fn collection(kind: Kind) -> Collection {
    match kind {
        Kind::Set => Collection::Set,
        Kind::Map => Collection::Map,
    }
}

fn ended(record: &Record) -> Option<(u64, Line)> {
    let time = record.ended?;
    let (op, process) = (record.id, record.client);
    let line = match answer(&record.ending) {
        Some(result) => Line::Ok(Done {
            op,
            process,
            time,
            result,
            crossed: record.wishes.is_crossed,
            here: record.wishes.is_done_here,
        }),
        None if record.ending == Ending::Pending => return None,
        None if record.ending == Ending::Unknown => Line::Unknown(Unknown { op, process, time }),
        None => Line::Fail(Failed {
            op,
            process,
            time,
            not_yet: record.ending == Ending::NotYet,
        }),
    };
    Some((time, line))
}

fn answer(ending: &Ending) -> Option<Answer> {
    Some(match ending {
        Ending::Pending | Ending::NotYet | Ending::Failed | Ending::Unknown => return None,
        Ending::Written(summary) => Answer::Written(stamp(summary)),
        Ending::Done => Answer::Done,
        Ending::Read(None) => Answer::Nothing,
        Ending::Read(Some(seen)) => Answer::Read {
            value: seen.token,
            stamp: stamp(&seen.summary),
        },
        Ending::Siblings(tokens, _) => Answer::Siblings {
            values: tokens.iter().copied().collect(),
        },
        Ending::Counted(count) => Answer::Counted {
            count: count.map(|count| count.to_string()),
        },
        Ending::Members(members) => Answer::Members {
            members: members.iter().copied().collect(),
        },
        Ending::Fields(fields) => Answer::Fields {
            fields: fields
                .iter()
                .map(|(field, seen)| Field {
                    field: *field,
                    value: seen.token,
                    count: seen.count.map(|count| count.to_string()),
                })
                .collect(),
        },
    })
}

fn ending(answer: Answer) -> Result<Ending, String> {
    Ok(match answer {
        Answer::Done => Ending::Done,
        Answer::Written(stamp) => Ending::Written(summary(&stamp)?),
        Answer::Nothing => Ending::Read(None),
        Answer::Read { value, stamp } => Ending::Read(Some(Seen {
            summary: summary(&stamp)?,
            token: value,
        })),
        Answer::Siblings { values } => {
            Ending::Siblings(values.into_iter().collect(), Context::default())
        }
        Answer::Counted { count } => Ending::Counted(count.map(|text| number(&text)).transpose()?),
        Answer::Members { members } => Ending::Members(members.into_iter().collect()),
        Answer::Fields { fields } => {
            let seen = |field: Field| {
                let count = field.count.map(|text| number(&text)).transpose()?;
                let token = field.value;
                Ok((field.field, FieldSeen { token, count }))
            };
            let fields: Result<_, String> = fields.into_iter().map(seen).collect();
            Ending::Fields(fields?)
        }
    })
}

fn number(text: &str) -> Result<i128, String> {
    text.parse()
        .map_err(|error| format!("count `{text}`: {error}"))
}

fn stamp(summary: &Summary) -> Stamp {
    let Dot { actor, n } = summary.dot;
    let Timestamp { micros, logical } = summary.timestamp;
    Stamp {
        timestamp: format!("{micros}.{logical}"),
        state: format!("{:016x}", summary.state),
        tombstone: summary.is_tombstone,
        dot: (n != 0).then_some((actor.node.0, actor.incarnation.0, n)),
    }
}

fn summary(stamp: &Stamp) -> Result<Summary, String> {
    let timestamp =
        timestamp_of(&stamp.timestamp).ok_or_else(|| format!("timestamp `{}`", stamp.timestamp))?;
    let dot = stamp.dot.map(|(node, incarnation, n)| Dot {
        actor: Actor {
            node: NodeId(node),
            incarnation: Incarnation(incarnation),
        },
        n,
    });
    let dot = dot.unwrap_or(Dot::NONE);
    Ok(told(timestamp, dot, hex(&stamp.state)?, stamp.tombstone))
}

/// Reads `micros.logical`.
pub(crate) fn timestamp_of(text: &str) -> Option<Timestamp> {
    let (micros, logical) = text.split_once('.')?;
    Some(Timestamp {
        micros: micros.parse().ok()?,
        logical: logical.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_history_is_refused_by_its_line() {
        let bad = |text: &str| History::parse(text).unwrap_err().to_string();
        let head = r#"{"type":"history","version":1,"slack":0}"#;
        assert!(bad(r#"{"type":"rest","time":1}"#).contains("version 1"));
        assert!(bad(&head.replace("\":1", "\":2")).contains("version 1"));
        assert!(bad(&format!("{head}\nx")).starts_with("line 2: "));
        let end = r#"{"type":"unknown","op":7,"process":1,"time":1}"#;
        assert!(bad(&format!("{head}\n{end}")).contains("never began"));
    }
}
