//! Paths and queries as bytes. Keys are any bytes, so they are decoded here and not by the router,
//! which only knows UTF-8.

use std::borrow::Cow;

use axum::http::Uri;
use percent_encoding::percent_decode_str;

use super::problem::{Code, Problem};

/// What of a key a path speaks of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// Its plain value.
    Value,
    /// Its counter.
    Counter,
    /// Its set.
    Set,
    /// Its map.
    Map,
}

/// A path of the form `/v1/kv/{keyspace}/{key}`, or `counter`, `set` or `map` for `kv`, still percent-encoded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct KeyPath<'a> {
    /// What of the key.
    pub(super) kind: Kind,
    /// The keyspace.
    pub(super) keyspace: &'a str,
    /// The key, which may hold a raw `/` and is then refused.
    pub(super) key: &'a str,
}

impl<'a> KeyPath<'a> {
    /// The parts of such a path; nothing if the path has another form.
    pub(super) fn of(path: &'a str) -> Option<Self> {
        let (kind, rest) = path.strip_prefix("/v1/")?.split_once('/')?;
        let kind = match kind {
            "kv" => Kind::Value,
            "counter" => Kind::Counter,
            "set" => Kind::Set,
            "map" => Kind::Map,
            _ => return None,
        };
        let (keyspace, key) = rest.split_once('/')?;
        Some(Self {
            kind,
            keyspace,
            key,
        })
    }

    /// The key's bytes.
    pub(super) fn key(self) -> Result<Cow<'a, [u8]>, Problem> {
        if self.key.contains('/') {
            return Err(Problem::new(
                Code::NoRoute,
                "the path has too many segments: write a / that belongs to the key as %2F",
            ));
        }
        let key = decode(self.key)?;
        if key.is_empty() {
            return Err(Problem::key_empty());
        }
        Ok(key)
    }
}

/// The bytes of a percent-encoded segment.
pub(super) fn decode(segment: &str) -> Result<Cow<'_, [u8]>, Problem> {
    let is_hex = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_hexdigit());
    let mut bytes = segment.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' && !(is_hex(bytes.next()) && is_hex(bytes.next())) {
            return Err(Problem::new(
                Code::BadKey,
                "a % in the path is not followed by two hex digits: write % itself as %25",
            ));
        }
    }
    Ok(Cow::from(percent_decode_str(segment)))
}

/// The text of a percent-encoded segment that must be UTF-8 (all names are).
pub(super) fn decode_name(segment: &str) -> Result<Cow<'_, str>, Problem> {
    let words = |_: std::str::Utf8Error| Problem::new(Code::BadKey, "a name is not UTF-8");
    match decode(segment)? {
        Cow::Borrowed(bytes) => std::str::from_utf8(bytes).map(Cow::Borrowed).map_err(words),
        Cow::Owned(bytes) => String::from_utf8(bytes)
            .map(Cow::Owned)
            .map_err(|error| words(error.utf8_error())),
    }
}

/// The pairs of a query, decoded; an empty query has none.
pub(super) fn query_pairs(uri: &Uri) -> Result<Vec<(String, String)>, Problem> {
    let text = |(name, value): (String, Vec<u8>)| {
        let words = |_| Problem::new(Code::BadQuery, format!("`{name}` is not UTF-8"));
        let value = String::from_utf8(value).map_err(words)?;
        Ok((name, value))
    };
    query_bytes(uri)?.into_iter().map(text).collect()
}

/// The same, with values of any bytes.
pub(super) fn query_bytes(uri: &Uri) -> Result<Vec<(String, Vec<u8>)>, Problem> {
    let query = uri.query().unwrap_or_default();
    let mut pairs: Vec<(String, Vec<u8>)> = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let name = decode_name(name).map_err(query_problem)?.into_owned();
        let value = decode(value).map_err(query_problem)?.into_owned();
        if pairs.iter().any(|(known, _)| *known == name) {
            let words = format!("the parameter `{name}` is given twice: give it once");
            return Err(Problem::new(Code::BadQuery, words));
        }
        pairs.push((name, value));
    }
    Ok(pairs)
}

fn query_problem(problem: Problem) -> Problem {
    Problem::new(Code::BadQuery, problem.message)
}

/// Refuses a query on a route that takes none.
pub(super) fn refuse_query(uri: &Uri) -> Result<(), Problem> {
    match uri.query() {
        None | Some("") => Ok(()),
        Some(_) => Err(Problem::new(
            Code::BadQuery,
            "this route takes no query parameters: leave out the ? (a ? in a key is written %3F)",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_any_bytes() {
        let path = KeyPath::of("/v1/kv/default/%00%2f%FFa+b").unwrap();
        assert_eq!((path.kind, path.keyspace), (Kind::Value, "default"));
        assert_eq!(path.key().unwrap().as_ref(), b"\0/\xffa+b");
    }

    #[test]
    fn broken_paths_are_refused() {
        for (path, code) in [
            ("/v1/kv/k/%", Code::BadKey),
            ("/v1/kv/k/%4", Code::BadKey),
            ("/v1/kv/k/a%zz", Code::BadKey),
            ("/v1/kv/k/%%41", Code::BadKey),
            ("/v1/kv/k/a/b", Code::NoRoute),
            ("/v1/kv/k/", Code::KeySize),
        ] {
            let key = KeyPath::of(path).unwrap().key();
            assert_eq!(key.unwrap_err().code, code, "{path}");
        }
        for path in ["/v1/kv/k", "/v1/kv", "/", "", "/v2/kv/a/b", "/v1/bag/a/b"] {
            assert_eq!(KeyPath::of(path), None, "{path}");
        }
    }
}
