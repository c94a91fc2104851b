//! Siblings, counters, sets, maps, conflicts and sessions of the cluster in memory. One store for all regions,
//! without concurrency: what is tested is how its clients ask and what they show.

use std::collections::{BTreeMap, BTreeSet};

use axum::body::Body;
use axum::http::{HeaderMap, Method, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

use super::super::client::Blob;
use super::{World, ok, problem, respond};

type Key = (String, Vec<u8>);

#[derive(Default)]
pub(super) struct Types {
    /// By key: when each was written, and what.
    siblings: BTreeMap<Key, Vec<(u64, Bytes)>>,
    counters: BTreeMap<Key, i64>,
    sets: BTreeMap<Key, BTreeSet<Vec<u8>>>,
    registers: BTreeMap<Key, BTreeMap<Vec<u8>, Bytes>>,
    fields: BTreeMap<Key, BTreeMap<Vec<u8>, i64>>,
    ids: BTreeSet<String>,
}

pub(super) struct Asked<'a> {
    pub(super) method: &'a Method,
    pub(super) headers: &'a HeaderMap,
    pub(super) query: &'a BTreeMap<String, String>,
    pub(super) body: Bytes,
}

impl Asked<'_> {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    fn bytes(&self, name: &str) -> Option<Vec<u8>> {
        let text = self.query.get(name)?;
        Some(percent_decode_str(text).collect())
    }

    /// Where a page begins, and how long it is.
    fn page(&self) -> (usize, usize) {
        let number = |name: &str| self.query.get(name).and_then(|text| text.parse().ok());
        (
            number("after").or(number("cursor")).unwrap_or(0),
            number("limit").unwrap_or(100),
        )
    }

    fn cut(&self, name: &str, all: &[Value]) -> Response<Body> {
        cut(name, all, self.page())
    }
}

fn cut(name: &str, all: &[Value], (after, limit): (usize, usize)) -> Response<Body> {
    let items: Vec<&Value> = all.iter().skip(after).take(limit).collect();
    let next = (after + limit < all.len()).then(|| (after + limit).to_string());
    ok(&json!({name: items, "next": next}))
}

fn blob(bytes: &[u8]) -> Blob {
    Blob(Bytes::copy_from_slice(bytes))
}

fn bytes_of(value: &Value) -> Vec<u8> {
    let blob: Blob = serde_json::from_value(value.clone()).unwrap();
    blob.0.to_vec()
}

fn list(value: &Value) -> Vec<Value> {
    value.as_array().cloned().unwrap_or_default()
}

fn done() -> Response<Body> {
    respond(204, Bytes::new())
}

impl World {
    /// What stands under a key that is no plain value of the last writer.
    pub(super) fn typed(&mut self, kind: &str, key: Key, asked: &Asked<'_>) -> Response<Body> {
        if *asked.method != Method::GET {
            self.clock += 1;
        }
        let now = self.clock;
        match kind {
            "kv" => self.types.sibling(now, key, asked),
            "counter" => self.types.counter(key, asked),
            "set" => self.types.set(key, asked),
            _ => self.types.map(key, asked),
        }
    }

    pub(super) fn lost(&self, asked: &Asked<'_>) -> Response<Body> {
        let (after, limit) = asked.page();
        let limit = self.page_rows_max.map_or(limit, |max| max.min(limit));
        cut("conflicts", &self.conflicts, (after, limit))
    }
}

impl Types {
    fn sibling(&mut self, now: u64, key: Key, asked: &Asked<'_>) -> Response<Body> {
        let all = self.siblings.entry(key).or_default();
        let context = |all: &[(u64, Bytes)]| {
            let ids: Vec<String> = all.iter().map(|(id, _)| id.to_string()).collect();
            ids.join("-")
        };
        if *asked.method == Method::GET {
            let mut response = match &all[..] {
                [] => return problem("absent"),
                [(_, value)] => respond(200, value.clone()),
                [.., (_, value)] if asked.query.contains_key("siblings") => {
                    respond(200, value.clone())
                }
                several => {
                    let several: Vec<Value> = several.iter().map(|(at, value)| {
                        json!({"value": STANDARD.encode(value), "region": "eu", "timestamp": format!("{at}.0")})
                    }).collect();
                    respond(300, json!({"siblings": several}).to_string().into())
                }
            };
            let token = context(all).parse().unwrap();
            response.headers_mut().insert("sterna-context", token);
            return response;
        }
        let seen = asked.header("sterna-context");
        let is_delete = *asked.method == Method::DELETE;
        all.retain(|(id, _)| match seen {
            Some(seen) => !seen.split('-').any(|known| known == id.to_string()),
            None => !is_delete,
        });
        if !is_delete {
            all.push((now, asked.body.clone()));
        }
        done()
    }

    fn counter(&mut self, key: Key, asked: &Asked<'_>) -> Response<Body> {
        let is_new = self.is_new("counter", &key, asked);
        let value = self.counters.entry(key).or_default();
        match *asked.method {
            // Beyond 64 bits, as the sum of shares may be.
            Method::GET if *value == i64::MAX => {
                let body = format!("{{\"value\":{}}}", i128::from(i64::MAX) * 2);
                return respond(200, body.into());
            }
            Method::GET => return ok(&json!({ "value": value })),
            Method::DELETE => *value = 0,
            _ if is_new => *value += asked.json()["add"].as_i64().unwrap(),
            _ => {}
        }
        done()
    }

    /// Whether an operation is told for the first time.
    fn is_new(&mut self, kind: &str, key: &Key, asked: &Asked<'_>) -> bool {
        let id = asked.header("idempotency-key");
        id.is_none_or(|id| self.ids.insert(format!("{kind} {key:?} {id}")))
    }

    fn set(&mut self, key: Key, asked: &Asked<'_>) -> Response<Body> {
        let members = self.sets.entry(key).or_default();
        match *asked.method {
            Method::GET => {
                if let Some(member) = asked.bytes("member") {
                    return ok(&json!({"is_member": members.contains(&member)}));
                }
                if asked.query.contains_key("size") {
                    return ok(&json!({"size": members.len()}));
                }
                let all: Vec<Value> = members.iter().map(|name| json!(blob(name))).collect();
                return asked.cut("members", &all);
            }
            Method::DELETE => members.clear(),
            _ => {
                let change = asked.json();
                for name in list(&change["remove"]) {
                    members.remove(&bytes_of(&name));
                }
                members.extend(list(&change["add"]).iter().map(bytes_of));
            }
        }
        done()
    }

    fn map(&mut self, key: Key, asked: &Asked<'_>) -> Response<Body> {
        let is_new = self.is_new("map", &key, asked);
        let registers = self.registers.entry(key.clone()).or_default();
        let counters = self.fields.entry(key).or_default();
        if *asked.method == Method::GET {
            if let Some(name) = asked.bytes("field") {
                let mut entry = json!({"field": blob(&name)});
                if let Some(value) = registers.get(&name) {
                    entry["value"] = json!(Blob(value.clone()));
                }
                if let Some(n) = counters.get(&name) {
                    entry["counter"] = json!(n);
                }
                let is_there = registers.contains_key(&name) || counters.contains_key(&name);
                return if is_there {
                    ok(&entry)
                } else {
                    problem("absent")
                };
            }
            if asked.query.contains_key("size") {
                return ok(&json!({"size": registers.len() + counters.len()}));
            }
            let counters = counters
                .iter()
                .map(|(name, n)| json!({"field": blob(name), "counter": n}));
            let registers = registers
                .iter()
                .map(|(name, value)| json!({"field": blob(name), "value": Blob(value.clone())}));
            let all: Vec<Value> = counters.chain(registers).collect();
            return asked.cut("fields", &all);
        }
        if *asked.method == Method::DELETE {
            registers.clear();
            counters.clear();
            return done();
        }
        let change = asked.json();
        for name in list(&change["remove"]) {
            registers.remove(&bytes_of(&name));
            counters.remove(&bytes_of(&name));
        }
        for pair in list(&change["put"]) {
            registers.insert(bytes_of(&pair[0]), bytes_of(&pair[1]).into());
        }
        for pair in list(&change["add"]).iter().filter(|_| is_new) {
            *counters.entry(bytes_of(&pair[0])).or_default() += pair[1].as_i64().unwrap();
        }
        done()
    }
}
