//! What the fuzzer runs of this door. Each function takes any bytes, and panics only if something is wrong.

use std::fmt::Debug;
use std::sync::Arc;

use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::metrics::Metrics;
use crate::model::{Collection, KeyspaceId, Limits, NodeId, RegionId, RowKey};

use super::door::Door;
use super::links::LinkChange;
use super::page::Question;
use super::path::{KeyPath, decode_name, query_pairs};
use super::shared::Shared;
use super::target::object;
use super::tests::fake::Fake;
use super::token::Tokens;
use super::wishes::{Wish, Wishes};
use super::{batch, context, counter, cursor, listen, map, page, set};

const KEYSPACE: KeyspaceId = KeyspaceId(7);

fn key() -> RowKey {
    RowKey::plain(KEYSPACE, Bytes::from_static(b"cart"))
}

/// Bodies of requests: the first byte says of which.
pub fn bodies(bytes: &[u8]) {
    let Some((kind, body)) = bytes.split_first() else {
        return;
    };
    match kind % 6 {
        0 => again::<batch::GetForm>(body),
        1 => again::<batch::PutForm>(body),
        2 => again::<counter::AddForm>(body),
        3 => again::<set::ChangeForm>(body),
        4 => again::<map::ChangeForm>(body),
        _ => drop(LinkChange::parse(&Bytes::copy_from_slice(body))),
    }
}

/// What is understood can be said again, and is then the same.
fn again<T: DeserializeOwned + Serialize + PartialEq + Debug>(body: &[u8]) {
    let Ok(form) = object::<T>(body, "body") else {
        return;
    };
    let text = serde_json::to_vec(&form).unwrap_or_default();
    assert_eq!(object::<T>(&text, "body").ok(), Some(form));
}

/// The head of a request: a method and a target, then headers, a line each.
pub fn heads(bytes: &[u8]) {
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let first = lines.next().unwrap_or_default();
    let (method, target) = match first.iter().position(|byte| *byte == b' ') {
        Some(at) => first.split_at(at),
        None => (first, &[][..]),
    };
    let mut headers = HeaderMap::new();
    for line in lines.take(64) {
        let mut parts = line.splitn(2, |byte| *byte == b':');
        let name = HeaderName::from_bytes(parts.next().unwrap_or_default());
        let value = HeaderValue::from_bytes(parts.next().unwrap_or_default().trim_ascii());
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.append(name, value);
        }
    }
    let method = Method::from_bytes(method).unwrap_or(Method::PUT);
    if let Ok(wishes) = Wishes::of(&method, &headers) {
        read_wishes(&wishes);
    }
    if let Ok(uri) = Uri::try_from(target.trim_ascii()) {
        read_target(&uri);
    }
}

fn read_wishes(wishes: &Wishes) {
    drop(wishes.staleness());
    drop(wishes.ttl());
    drop(wishes.wait());
    drop(wishes.behind());
    drop(wishes.condition());
    drop(wishes.operation());
    if let Some(value) = wishes.given(Wish::Context) {
        drop(context::decode(&key(), value.as_bytes()));
    }
    if let Some(value) = wishes.given(Wish::Session) {
        drop(tokens().decode(value));
    }
}

fn read_target(uri: &Uri) {
    if let Some(path) = KeyPath::of(uri.path()) {
        drop(decode_name(path.keyspace));
        if let Ok(key) = path.key() {
            assert!(!key.is_empty());
        }
    }
    drop(query_pairs(uri));
    for collection in [Collection::Set, Collection::Map] {
        drop(Question::of(uri, &key(), collection));
    }
}

fn tokens() -> Tokens {
    let nodes = (0..30).map(|n| (NodeId(n * 7), RegionId(n / 3)));
    Tokens::of_nodes(nodes.collect())
}

/// The contents of a session token, as they stand behind the check, and the bytes as a whole token.
pub fn sessions(bytes: &[u8]) {
    let tokens = tokens();
    if let Ok(value) = HeaderValue::from_bytes(bytes) {
        drop(tokens.decode(&value));
    }
    let Some(session) = tokens
        .sealed(bytes)
        .and_then(|text| tokens.decode(&text).ok())
    else {
        return;
    };
    let latest = session.latest();
    let Some(text) = tokens.encode(&session) else {
        assert_eq!(latest, 0);
        return;
    };
    // A region that is only named asks for nothing; what is asked for is never forgotten.
    let back = tokens.decode(&text).ok().unwrap_or_default();
    for (region, seen) in &session.regions {
        for node in [seen.node, NodeId(u32::MAX)] {
            assert!(
                back.need(*region, node) >= session.need(*region, node),
                "{session:?}"
            );
        }
    }
    assert_eq!(back.latest(), latest);
}

/// The contents of a context token, as they stand behind the check, and the bytes as a whole token.
pub fn contexts(bytes: &[u8]) {
    drop(context::decode(&key(), bytes));
    let Ok(found) = context::decode(&key(), context::sealed(&key(), bytes).as_bytes()) else {
        return;
    };
    let text = context::encode(&key(), &found).ok().flatten();
    assert_eq!(text.is_none(), found.is_empty());
    if let Some(text) = text {
        assert_eq!(context::decode(&key(), text.as_bytes()).ok(), Some(found));
    }
}

/// Cursors of listings and of collections: their contents, and the bytes as a whole cursor.
pub fn cursors(bytes: &[u8]) {
    for collection in [Collection::Set, Collection::Map] {
        drop(page::decode(bytes, &key(), collection));
        let text = page::encode(bytes, &key(), collection);
        let back = page::decode(text.as_bytes(), &key(), collection);
        assert_eq!(back.ok().as_deref(), Some(bytes));
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        drop(cursor::Cursor::decode(text, KEYSPACE, 8));
    }
    let Ok(found) = cursor::Cursor::decode(&cursor::sealed(bytes), KEYSPACE, 8) else {
        return;
    };
    let text = found.clone().encode(KEYSPACE).ok().unwrap_or_default();
    assert_eq!(cursor::Cursor::decode(&text, KEYSPACE, 8).ok(), Some(found));
}

/// What a client sends on one connection, through the whole door, to a node in memory. Whatever it is, the door ends, and
/// every answer begins as one.
pub fn http(bytes: &[u8]) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build();
    let (Ok(runtime), Ok(metrics)) = (runtime, Metrics::new()) else {
        return;
    };
    let shared = Shared::new(Fake::new(Limits::default()), metrics, None, 64 << 20);
    let door = Door::new(Arc::new(shared));
    runtime.block_on(async {
        let (mut client, server) = tokio::io::duplex(64 << 10);
        let served = listen::serve_stream(server, &door);
        let spoken = async {
            drop(client.write_all(bytes).await);
            drop(client.shutdown().await);
            let mut answer = Vec::new();
            drop(client.read_to_end(&mut answer).await);
            answer
        };
        let ((), answer) = tokio::join!(served, spoken);
        assert!(
            answer.is_empty() || answer.starts_with(b"HTTP/1."),
            "{answer:?}"
        );
        assert_eq!(door.shared.bytes_in_flight(), 0);
    });
}

#[cfg(test)]
mod attacks {
    use super::*;
    use crate::hostile::Hostile;
    use crate::model::{Actor, Context, Dot, Incarnation, Seen, Session};

    fn texts(texts: &[&str]) -> Vec<Vec<u8>> {
        texts.iter().map(|text| text.as_bytes().to_vec()).collect()
    }

    fn bodies_of_all_kinds() -> Vec<Vec<u8>> {
        texts(&[
            "\0{\"keys\":[\"a\",\"b/ü\",{\"b64\":\"/w==\"}]}",
            "\u{1}{\"items\":[{\"key\":\"a\",\"value\":\"1\",\"ttl\":\"90s\"},{\"key\":{\"b64\":\"/w==\"},\"delete\":true},{\"key\":\"c\",\"value\":{\"b64\":\"AA==\"},\"context\":\"AAAA\"}]}",
            "\u{2}{\"add\":-3}",
            "\u{3}{\"add\":[\"a\",{\"b64\":\"/w==\"}],\"remove\":[\"c\"]}",
            "\u{4}{\"put\":{\"a\":\"1\"},\"add\":{\"n\":9223372036854775807},\"remove\":[\"c\"]}",
            "\u{4}{\"put\":[[\"a\",\"1\"],[{\"b64\":\"/w==\"},\"\"]],\"add\":[[\"n\",-1]]}",
            "\u{5}{\"cut\":true,\"rtt_ms\":80.5,\"jitter_ms\":0,\"loss\":1e-3,\"bandwidth_mbit\":null}",
        ])
    }

    fn requests() -> Vec<Vec<u8>> {
        let body = |line: &str, headers: &str, body: &str| {
            let length = body.len();
            format!("{line} HTTP/1.1\r\nhost: a\r\n{headers}content-length: {length}\r\n\r\n{body}")
        };
        let chunked = "PUT /v1/kv/default/k HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
        let several = [
            body(
                "PUT /v1/kv/default/k",
                "sterna-ttl: 90s\r\nsterna-consistency: all\r\n",
                "value",
            ),
            body(
                "GET /v1/kv/default/k",
                "sterna-timeout: 1500ms\r\nsterna-max-staleness: 2s\r\n",
                "",
            ),
            body(
                "DELETE /v1/kv/default/k",
                "if-match: \"00000000000000ff\"\r\n",
                "",
            ),
            body("GET /v1/kv/default?limit=3&values=true", "", ""),
        ];
        let mut all = vec![
            several.concat(),
            chunked.to_owned(),
            body("PUT /v1/kv/carts/%FF%2F", "if-none-match: *\r\n", "x"),
            body(
                "GET /v1/kv/carts/%FF%2F?siblings=winner",
                "accept: multipart/mixed\r\n",
                "",
            ),
            body(
                "POST /v1/counter/default/n",
                "idempotency-key: a1\r\n",
                "{\"add\":5}",
            ),
            body(
                "POST /v1/set/default/s",
                "",
                "{\"add\":[\"a\",\"b\"],\"remove\":[\"c\"]}",
            ),
            body("GET /v1/set/default/s?member=a", "", ""),
            body(
                "POST /v1/map/default/m",
                "",
                "{\"put\":{\"a\":\"1\"},\"add\":{\"n\":1}}",
            ),
            body("GET /v1/map/default/m?limit=2", "", ""),
            body("POST /v1/batch/default/get", "", "{\"keys\":[\"a\",\"k\"]}"),
            body(
                "POST /v1/batch/carts/put",
                "",
                "{\"items\":[{\"key\":\"a\",\"value\":\"1\"}]}",
            ),
            body("GET /v1/wait?region=eu", "sterna-session: AQAA\r\n", ""),
            body("GET /v1/conflicts/default?limit=1", "", ""),
            body("GET /v1/digests/default/3/0/0", "", ""),
            body("POST /v1/dev/links/us/eu", "", "{\"cut\":true}"),
        ];
        all.extend(
            ["/healthz", "/readyz", "/v1/status", "/v1/digests"]
                .map(|path| body(&format!("GET {path}"), "", "")),
        );
        all.into_iter().map(String::into_bytes).collect()
    }

    #[test]
    fn bodies_are_read_or_refused() {
        Hostile {
            name: "bodies",
            is_same: true,
            target: bodies,
            seeds: bodies_of_all_kinds(),
            memory: (16 << 10, 200),
        }
        .run();
    }

    #[test]
    fn heads_are_read_or_refused() {
        Hostile {
            name: "heads",
            is_same: true,
            target: heads,
            seeds: texts(&[
                "PUT /v1/kv/default/%00%2f%FFa+b\nsterna-consistency: each-quorum\nsterna-timeout: 2s\nsterna-ttl: 90s\nif-match: \"00000000000000ff\"\nidempotency-key: x",
                "GET /v1/set/default/cart?limit=3&after=AQAAAABt\nsterna-session: AQAA\nsterna-max-staleness: 7d\nsterna-wait: 0ms\nsterna-when-behind: refuse",
                "GET /v1/map/default/cart?field=%FF%2F&size=true\nsterna-context: AAAA",
                "DELETE /v1/counter/d%C3%BC/a?siblings=winner\nif-none-match: *",
            ]),
            memory: (32 << 10, 100),
        }
        .run();
    }

    #[test]
    fn session_tokens_are_read_or_refused() {
        let tokens = tokens();
        let mut session = Session::default();
        let mut seeds = Vec::new();
        for n in 0..10u32 {
            let micros = 1_764_000_000_123_456 + u64::from(n) * 77_777_777;
            let seen = Seen {
                node: NodeId(n * 21),
                micros,
                rest: u64::from(n % 2) * (micros - 5000),
            };
            session.regions.insert(RegionId(n), seen);
            seeds.extend(
                tokens
                    .encode(&session)
                    .map(|text| Tokens::opened(text.as_bytes())),
            );
        }
        Hostile {
            name: "sessions",
            is_same: true,
            target: sessions,
            seeds,
            memory: (16 << 10, 100),
        }
        .run();
    }

    #[test]
    fn context_tokens_are_read_or_refused() {
        let dot = |n: u32| Dot {
            actor: Actor {
                node: NodeId(n),
                incarnation: Incarnation(u64::from(n) << 40),
            },
            n: u64::from(n) + 1,
        };
        let seen: Context = (0..5).map(dot).collect();
        let retired = [(NodeId(9), Incarnation(300))].into();
        let seeds =
            [seen.clone(), Context { retired, ..seen }].map(|context| context::opened(&context));
        Hostile {
            name: "contexts",
            is_same: true,
            target: contexts,
            seeds: seeds.to_vec(),
            memory: (16 << 10, 400),
        }
        .run();
    }

    #[test]
    fn cursors_are_read_or_refused() {
        let row = RowKey::plain(KEYSPACE, Bytes::from_static(b"\xff/"));
        let after = cursor::Cursor {
            index: row.token.partition_index(8),
            after: Some(row),
        };
        let seeds = [cursor::Cursor::START, after].map(cursor::opened);
        Hostile {
            name: "cursors",
            is_same: true,
            target: cursors,
            seeds: seeds.to_vec(),
            memory: (8 << 10, 100),
        }
        .run();
    }

    #[test]
    fn a_connection_ends_whatever_is_sent() {
        Hostile {
            name: "http",
            is_same: true,
            target: http,
            seeds: requests(),
            memory: (1 << 20, 300),
        }
        .run();
    }
}
