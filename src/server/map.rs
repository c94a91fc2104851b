//! A key's map of registers and counters: change, look, delete.

use std::collections::BTreeSet;
use std::fmt;
use std::marker::PhantomData;

use axum::http::Method;
use axum::response::Response;
use bytes::Bytes;
use hyper::body::Incoming;
use serde::de::{self, Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize as DeserializeForm, Serialize};

use crate::metrics::Op;
use crate::model::{
    self, Collection, Context, FieldValue, Part, Place, RowKey, Selection, Write, WriteOp,
};

use super::blob::Blob;
use super::json::json;
use super::key::put_expires;
use super::node::Node;
use super::observed::Observed;
use super::page::{self, Question};
use super::path::refuse_query;
use super::problem::{Code, Problem};
use super::set::{Names, names};
use super::shared::Asked;
use super::siblings::winner;
use super::target::{PARTS_KEPT, Target, bad_method};
use super::wishes::{OF_READS, Wish};

#[derive(DeserializeForm)]
#[cfg_attr(any(test, fuzzing), derive(Serialize, PartialEq, Debug))]
#[serde(deny_unknown_fields)]
pub(super) struct ChangeForm {
    #[serde(default)]
    put: Pairs<Blob>,
    #[serde(default)]
    add: Pairs<i64>,
    #[serde(default)]
    remove: Names,
}

/// Fields with what is said of each: an object, or, for names of any bytes, a list of pairs.
/// Some are kept, as of [`Names`]; and whether there were more.
#[cfg_attr(any(test, fuzzing), derive(PartialEq, Debug))]
struct Pairs<T>(Vec<(Bytes, T)>, bool);

#[derive(Serialize)]
struct PageForm {
    fields: Vec<FieldForm>,
    next: Option<String>,
}

/// A field; a name may be a register and a counter at once.
#[derive(Serialize)]
struct FieldForm {
    field: Blob,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<Blob>,
    #[serde(skip_serializing_if = "Option::is_none")]
    counter: Option<i128>,
}

/// Answers a request for a map.
pub(super) async fn answer<N: Node>(
    at: Target<'_, N>,
    body: Incoming,
) -> Result<Response, Problem> {
    match at.parts.method {
        Method::GET | Method::HEAD => {
            let asked = at.asked(OF_READS)?;
            let key = at.key(&asked)?;
            match Question::of(&at.parts.uri, &key, Collection::Map)? {
                Question::Page { limit, after } => page(&at, &key, (limit, after), asked).await,
                Question::One(name) => field(&at, &key, name, asked).await,
                Question::Size => {
                    page::size(at.shared, Op::MapRead, key, Collection::Map, &asked).await
                }
            }
        }
        Method::POST => {
            refuse_query(&at.parts.uri)?;
            change(&at, body).await
        }
        Method::DELETE => {
            refuse_query(&at.parts.uri)?;
            let asked = at.asked(&[Wish::Session])?;
            let op = WriteOp::Clear {
                collection: Collection::Map,
                seen: Context::default(),
            };
            let write = Write::new(at.key(&asked)?, op);
            let written = at.shared.write(Op::MapWrite, write, &asked).await?;
            Ok(at.done(&written, &asked))
        }
        _ => Ok(bad_method("GET, HEAD, POST, DELETE")),
    }
}

async fn change<N: Node>(at: &Target<'_, N>, body: Incoming) -> Result<Response, Problem> {
    let asked = at.asked(&[Wish::Session, Wish::Ttl, Wish::Operation])?;
    let key = at.key(&asked)?;
    let ttl = at.wishes.ttl()?;
    let id = at.wishes.operation()?;
    let (form, _room) = at
        .json::<ChangeForm>(body, at.parts_limit("change of a map"))
        .await?;
    if ttl.is_some() && !form.add.0.is_empty() {
        let words = "counters never expire: leave out Sterna-TTL, or change registers and counters by two requests";
        return Err(Problem::new(Code::BadHeader, words));
    }
    if form.put.1 || form.add.1 || form.remove.is_cut() {
        return Err(at.shared.too_many_parts());
    }
    let remove = names(form.remove);
    refuse_twice(&form.put.0, &remove)?;
    refuse_twice(&form.add.0, &remove)?;
    let op = WriteOp::Fields {
        put: form
            .put
            .0
            .into_iter()
            .map(|(name, value)| (name, value.0))
            .collect(),
        // Without counters there is nothing to count once: the id would only make a read of it.
        id: id.filter(|_| !form.add.0.is_empty()),
        add: form.add.0,
        remove,
    };
    at.refuse_parts(&op)?;
    let write = Write {
        expires: at.shared.expiry(ttl),
        ..Write::new(key, op)
    };
    let written = at.shared.write(Op::MapWrite, write, &asked).await?;
    Ok(at.done(&written, &asked))
}

/// Refuses fields that are named twice: which of the two is meant nobody can say.
fn refuse_twice<T>(pairs: &[(Bytes, T)], remove: &[Bytes]) -> Result<(), Problem> {
    let mut known: BTreeSet<&Bytes> = remove.iter().collect();
    for (name, _) in pairs {
        if !known.insert(name) {
            let words = format!(
                "the field `{}` is named twice: name it once",
                name.escape_ascii()
            );
            return Err(Problem::new(Code::BadBody, words));
        }
    }
    Ok(())
}

async fn page<N: Node>(
    at: &Target<'_, N>,
    key: &RowKey,
    range: (u32, Option<Bytes>),
    asked: Asked<'_>,
) -> Result<Response, Problem> {
    let shared = at.shared;
    let limits = &shared.node.topology().limits;
    let _room = shared.reserve(limits.batch_bytes_max + limits.value_bytes_max)?;
    let (rows, next) =
        page::page(shared, Op::MapRead, (key, Collection::Map), range, &asked).await?;
    let mut observed = Observed::of(&shared.names, &asked);
    for (key, row) in &rows {
        observed.row(key, row);
    }
    let form = |(name, value): (Bytes, FieldValue)| {
        let (value, counter) = match value {
            FieldValue::Register(value) => (Some(Blob(value)), None),
            FieldValue::Counter(value) => (None, Some(value)),
        };
        FieldForm {
            field: Blob(name),
            value,
            counter,
        }
    };
    let fields = model::fields(&rows, shared.node.now());
    let mut response = json(&PageForm {
        fields: fields.into_iter().map(form).collect(),
        next,
    });
    observed.put(response.headers_mut());
    Ok(response)
}

/// One field: its register and its counter are asked for at the same time.
async fn field<N: Node>(
    at: &Target<'_, N>,
    key: &RowKey,
    name: Bytes,
    asked: Asked<'_>,
) -> Result<Response, Problem> {
    if name.is_empty() {
        return Err(Problem::new(
            Code::BadQuery,
            "the field is empty: give at least one byte",
        ));
    }
    let shared = at.shared;
    let register = key.with(&Part::Field(name.clone()));
    let clear = key.with(&Part::Clear(Collection::Map));
    let place = Place::Field(name.clone());
    let registers = Selection::Rows(vec![clear, register.clone()]);
    let counters = Selection::Counter {
        key: key.clone(),
        place: place.clone(),
    };
    let (registers, counters) = tokio::join!(
        shared.select(Op::MapRead, registers, &asked),
        shared.select(Op::MapRead, counters, &asked),
    );
    let ((mut registers, _), (counters, _)) = (registers?, counters?);
    page::strip(&mut registers, Collection::Map);
    let mut observed = Observed::of(&shared.names, &asked);
    for (key, row) in registers.iter().chain(&counters) {
        observed.row(key, row);
    }
    let row = registers.iter().find(|(key, _)| *key == register);
    let version = row.and_then(|(_, row)| winner(row, shared.node.now()));
    let value = version.and_then(|version| version.value.clone()).map(Blob);
    let counter = model::counter(&counters, &place);
    let mut response = if value.is_none() && counter.is_none() {
        axum::response::IntoResponse::into_response(no_field())
    } else {
        json(&FieldForm {
            field: Blob(name),
            value,
            counter,
        })
    };
    let headers = response.headers_mut();
    put_expires(headers, version.and_then(|version| version.expires));
    observed.put(headers);
    Ok(response)
}

fn no_field() -> Problem {
    Problem::new(
        Code::Absent,
        "there is no such field in this map: put or add it first",
    )
}

#[cfg(any(test, fuzzing))]
impl<T: Clone + Serialize> Serialize for Pairs<T> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let pair = |(name, value): &(Bytes, T)| (Blob(name.clone()), value.clone());
        serializer.collect_seq(self.0.iter().map(pair))
    }
}

impl<T> Default for Pairs<T> {
    fn default() -> Self {
        Self(Vec::new(), false)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Pairs<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PairsVisitor(PhantomData))
    }
}

struct PairsVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for PairsVisitor<T> {
    type Value = Pairs<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of fields, or a list of pairs [field, …]")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs<T>, A::Error> {
        let mut pairs = Vec::new();
        while pairs.len() < PARTS_KEPT
            && let Some((name, value)) = map.next_entry::<String, T>()?
        {
            pairs.push((Bytes::from(name), value));
        }
        let mut is_cut = false;
        while pairs.len() >= PARTS_KEPT && map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {
            is_cut = true;
        }
        Ok(Pairs(pairs, is_cut))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Pairs<T>, A::Error> {
        let mut pairs = Vec::new();
        while pairs.len() < PARTS_KEPT
            && let Some((Blob(name), value)) = seq.next_element::<(Blob, T)>()?
        {
            pairs.push((name, value));
        }
        let mut is_cut = false;
        while pairs.len() >= PARTS_KEPT && seq.next_element::<IgnoredAny>()?.is_some() {
            is_cut = true;
        }
        Ok(Pairs(pairs, is_cut))
    }

    fn visit_unit<E: de::Error>(self) -> Result<Pairs<T>, E> {
        Err(E::invalid_type(de::Unexpected::Unit, &self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_an_object_or_pairs() {
        let read = |text: &str| serde_json::from_str::<ChangeForm>(text);
        let form = read(r#"{"put":{"a":"1","b":{"b64":"/w=="}},"add":{"n":-3},"remove":["x"]}"#);
        let form = form.unwrap();
        assert_eq!(form.put.0.len(), 2);
        assert_eq!(form.put.0[1].1.0, &b"\xff"[..]);
        assert_eq!(form.add.0, [(Bytes::from_static(b"n"), -3)]);
        let form =
            read(r#"{"put":[["a","1"],[{"b64":"/w=="},""]],"add":[["n",9223372036854775807]]}"#);
        let form = form.unwrap();
        assert_eq!(form.put.0[1].0, &b"\xff"[..]);
        assert_eq!(form.add.0[0].1, i64::MAX);
        for text in [
            r#"{"add":{"n":1.0}}"#,
            r#"{"add":{"n":"1"}}"#,
            r#"{"add":{"n":9223372036854775808}}"#,
            r#"{"add":[["n"]]}"#,
            r#"{"add":[["n",1,2]]}"#,
            r#"{"add":["n",1]}"#,
            r#"{"put":null}"#,
            r#"{"put":{"a":1}}"#,
            r#"{"put":{"a":{"b64":"%"}}}"#,
            r#"{"set":{}}"#,
        ] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
