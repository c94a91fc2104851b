//! Writes that depend on what is there, values that end, and versions that lost.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use serde_json::json;

use crate::model::{
    Conflict, Denial, Dot, KeyspaceId, NodeId, Part, Row, RowKey, Stamp, Timestamp, Version, Wall,
};
use crate::protocol::{Outcome, Written};

use super::client::Server;
use super::ledger::{actor, stamp};

const PATH: &str = "/v1/kv/default/k";

#[tokio::test]
async fn conditions_name_what_must_be_there() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let absent = [("If-None-Match", "*")];
    let made = client.ask("PUT", PATH, &absent, b"1").await;
    assert_eq!(
        (made.status, made.header("sterna-condition")),
        (204, Some("serialized"))
    );
    let tag = made.header("etag").unwrap().to_owned();
    let again = client.ask("PUT", PATH, &absent, b"2").await;
    assert_eq!(
        (again.status, again.code()),
        (412, "condition_failed".to_owned())
    );
    assert_eq!(again.header("etag"), Some(tag.as_str()));

    let same = [("If-Match", tag.as_str())];
    let changed = client.ask("PUT", PATH, &same, b"2").await;
    assert_eq!(changed.status, 204);
    let stale = client.ask("DELETE", PATH, &same, b"").await;
    assert_eq!(stale.status, 412);
    let tag = changed.header("etag").unwrap().to_owned();
    assert_eq!(stale.header("etag"), Some(tag.as_str()));
    let got = client.ask("GET", PATH, &[], b"").await;
    assert_eq!(
        (got.body.as_slice(), got.header("etag")),
        (&b"2"[..], Some(tag.as_str()))
    );
    let same = [("If-Match", tag.as_str())];
    assert_eq!(client.ask("DELETE", PATH, &same, b"").await.status, 204);
    let gone = client.ask("PUT", PATH, &same, b"3").await;
    assert_eq!((gone.status, gone.header("etag")), (412, None));
    assert_eq!(
        client
            .ask("PUT", PATH, &[], b"3")
            .await
            .header("sterna-condition"),
        None
    );
}

#[tokio::test]
async fn conditions_are_refused_where_nobody_looks_at_them() {
    let server = Server::start().await;
    for headers in [
        vec![("if-match", "*")],
        vec![("if-match", "W/\"0000000000000001\"")],
        vec![("if-match", "\"0000000000000001\", \"0000000000000002\"")],
        vec![("if-match", "\"1\"")],
        vec![("if-none-match", "\"0000000000000001\"")],
        vec![("if-none-match", "*"), ("if-match", "\"0000000000000001\"")],
    ] {
        let mut client = server.client().await;
        let answer = client.ask("PUT", PATH, &headers, b"v").await;
        let found = (answer.status, answer.code());
        assert_eq!(found, (400, "bad_header".to_owned()), "{headers:?}");
    }
    let unsafe_one = [("if-none-match", "*"), ("sterna-consistency", "unsafe-one")];
    let mut client = server.client().await;
    let answer = client.ask("PUT", PATH, &unsafe_one, b"v").await;
    assert_eq!(answer.code(), "bad_level");
}

#[tokio::test]
async fn a_condition_that_two_looked_at_is_told_as_merged() {
    let server = Server::start().await;
    server.fake.script(Outcome::Written(Written {
        node: NodeId::of("us-1"),
        timestamp: stamp(1).timestamp,
        summary: None,
        is_crossed: true,
    }));
    let absent = [("If-None-Match", "*")];
    let answer = server.client().await.ask("PUT", PATH, &absent, b"1").await;
    assert_eq!(answer.header("sterna-condition"), Some("merged"));
    for (denial, status, code) in [
        (Denial::Condition(None), 412, "condition_failed"),
        (Denial::Siblings, 409, "too_many_siblings"),
        (Denial::CounterRange, 409, "counter_range"),
        (Denial::Parts, 413, "too_many_parts"),
        (Denial::Size, 413, "value_size"),
        (Denial::Ahead, 503, "unavailable"),
    ] {
        server.fake.script(Outcome::Denied(denial.clone()));
        let answer = server.ask("PUT", PATH, b"v").await;
        assert_eq!(
            (answer.status, answer.code()),
            (status, code.to_owned()),
            "{denial:?}"
        );
    }
}

#[tokio::test]
async fn values_end() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let ttl = [("Sterna-TTL", "90s")];
    assert_eq!(client.ask("PUT", PATH, &ttl, b"v").await.status, 204);
    let member = "/v1/set/default/k";
    let field = "/v1/map/default/k";
    client.ask("POST", member, &ttl, b"{\"add\":[\"a\"]}").await;
    client
        .ask("POST", field, &ttl, b"{\"put\":{\"a\":\"1\"}}")
        .await;
    let (is_member, one) = (format!("{member}?member=a"), format!("{field}?field=a"));
    for path in [PATH, &is_member, &one] {
        let got = client.ask("GET", path, &[], b"").await;
        assert_eq!(
            got.header("sterna-expires"),
            Some("1970-01-01T00:01:31.000Z"),
            "{path}"
        );
    }
    let page = client.ask("GET", "/v1/kv/default", &[], b"").await.json();
    assert_eq!(page["items"][0]["expires"], "1970-01-01T00:01:31.000Z");

    server.fake.wall.store(91_000_000, Ordering::SeqCst);
    let gone = client.ask("GET", PATH, &[], b"").await;
    assert_eq!((gone.status, gone.header("sterna-expires")), (404, None));
    let page = client.ask("GET", "/v1/kv/default", &[], b"").await.json();
    assert_eq!(page["items"], json!([]));
    let set = client.ask("GET", &is_member, &[], b"").await;
    assert_eq!(set.json(), json!({"is_member": false}));
    assert_eq!(client.ask("GET", &one, &[], b"").await.status, 404);
    let batch = client
        .ask("POST", "/v1/batch/default/get", &[], b"{\"keys\":[\"k\"]}")
        .await;
    assert_eq!(batch.json()["results"][0]["status"], 404);
}

#[tokio::test]
async fn versions_that_lost_are_listed() {
    let server = Server::start().await;
    let key = |name: &str| RowKey::plain(KeyspaceId::of("default"), Bytes::from(name.to_owned()));
    let plant = |name: &str, n: u64, value: Option<&'static str>, expires: u64| {
        let dot = Dot { actor: actor(), n };
        let timestamp = Timestamp {
            micros: 500 + n,
            logical: 0,
        };
        let loser = Version::new(Stamp { timestamp, dot }, value.map(Bytes::from));
        let mut winner = stamp(n + 1);
        winner.dot.actor.node = NodeId::of("eu-1");
        let conflict = Conflict {
            stamp: stamp(n),
            winner,
            loser: Some(loser),
            expires: Wall(expires),
        };
        server.fake.plant(
            key(name).with(&Part::Conflict(dot)),
            Row::Conflict(conflict),
        );
    };
    plant("a", 1, Some("milk"), 2_000_000);
    plant("a", 2, None, 2_000_000);
    plant("b", 3, Some("old"), 1_000_000);
    server.ask("PUT", "/v1/kv/default/a", b"tea").await;
    let page = server.ask("GET", "/v1/conflicts/default", b"").await;
    let expected = |n: u64, value| {
        json!({
            "key": "a", "value": value, "region": "us", "timestamp": format!("{}.0", 500 + n),
            "winner_region": "eu", "winner_timestamp": format!("{}.2", 1_000_001 + n),
            "expires": "1970-01-01T00:00:02.000Z",
        })
    };
    let all =
        json!({"conflicts": [expected(1, json!("milk")), expected(2, json!(null))], "next": null});
    assert_eq!(page.json(), all);
    assert!(page.header("sterna-session").is_some());
    let first = server
        .ask("GET", "/v1/conflicts/default?limit=1", b"")
        .await
        .json();
    assert_eq!(first["conflicts"].as_array().unwrap().len(), 1);
    let next = format!(
        "/v1/conflicts/default?cursor={}",
        first["next"].as_str().unwrap()
    );
    let rest = server.ask("GET", &next, b"").await.json();
    assert_eq!(rest["conflicts"], json!([expected(2, json!(null))]));
    for query in ["values=true", "limit=0", "x=1"] {
        let path = format!("/v1/conflicts/default?{query}");
        assert_eq!(server.ask("GET", &path, b"").await.code(), "bad_query");
    }
}
