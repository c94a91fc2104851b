//! One key: bytes in, bytes out, and every way to fail.

use crate::model::{Duration, Level, Limits};
use crate::protocol::{Outcome, Refusal, Unavailable, Unknown};

use super::super::Options;
use super::client::Server;

#[tokio::test]
async fn what_is_put_is_got_and_deleted() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let path = "/v1/kv/default/cart";
    assert_eq!(client.ask("GET", path, &[], b"").await.code(), "absent");

    let put = client.ask("PUT", path, &[], b"milk").await;
    assert_eq!((put.status, put.body.len()), (204, 0));
    let tag = put.header("etag").unwrap().to_owned();
    assert_eq!(tag.len(), 18);
    for answer in [put, client.ask("GET", path, &[], b"").await] {
        assert_eq!(answer.header("sterna-timestamp"), Some("1000001.2"));
        assert_eq!(answer.header("sterna-region"), Some("us"));
        assert_eq!(answer.header("etag"), Some(tag.as_str()));
    }
    let got = client.ask("GET", path, &[], b"").await;
    assert_eq!((got.status, got.body.as_slice()), (200, &b"milk"[..]));
    assert_eq!(got.header("content-type"), Some("application/octet-stream"));

    let head = client.ask("HEAD", path, &[], b"").await;
    assert_eq!(head.status, 200);
    assert_eq!(head.header("content-length"), Some("4"));
    assert_eq!(head.header("etag"), Some(tag.as_str()));

    assert_eq!(client.ask("DELETE", path, &[], b"").await.status, 204);
    let gone = client.ask("GET", path, &[], b"").await;
    assert_eq!((gone.status, gone.code()), (404, "absent".to_owned()));
    assert_eq!(gone.header("sterna-timestamp"), Some("1000002.2"));
    assert_eq!(client.ask("HEAD", path, &[], b"").await.status, 404);
    assert_eq!(client.ask("DELETE", path, &[], b"").await.status, 204);
}

#[tokio::test]
async fn keys_and_values_are_any_bytes() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let every: Vec<u8> = (0..=255).collect();
    let encoded: String = every.iter().map(|byte| format!("%{byte:02X}")).collect();
    for key in [
        "%00",
        "%2F",
        "%FF",
        "%2f%FF%00",
        "a+b",
        "%25",
        "~:@!$&'()*,;=",
        &encoded,
    ] {
        let path = format!("/v1/kv/default/{key}");
        let value = [every.as_slice(), key.as_bytes()].concat();
        assert_eq!(
            client.ask("PUT", &path, &[], &value).await.status,
            204,
            "{key}"
        );
        assert_eq!(
            client.ask("GET", &path, &[], b"").await.body,
            value,
            "{key}"
        );
    }
    // The same bytes, encoded otherwise, are the same key.
    let got = client
        .ask("GET", "/v1/kv/default/%61%2B%62", &[], b"")
        .await;
    assert!(got.body.ends_with(b"a+b"));
    let empty = client.ask("PUT", "/v1/kv/default/empty", &[], b"").await;
    assert_eq!(empty.status, 204);
    let got = client.ask("GET", "/v1/kv/default/empty", &[], b"").await;
    assert_eq!((got.status, got.body.len()), (200, 0));
}

#[tokio::test]
async fn values_end_at_the_limit() {
    let limits = Limits {
        value_bytes_max: 100_000,
        ..Limits::default()
    };
    let server = Server::start_with(limits, Options::default()).await;
    let path = "/v1/kv/default/k";
    let full = vec![7; 100_000];
    assert_eq!(server.ask("PUT", path, &full).await.status, 204);
    assert_eq!(server.ask("GET", path, b"").await.body, full);

    let over = server.ask("PUT", path, &vec![7; 100_001]).await;
    assert_eq!((over.status, over.code()), (413, "value_size".to_owned()));
    let huge = server.ask("PUT", path, &vec![7; 3_000_000]).await;
    assert_eq!((huge.status, huge.code()), (413, "value_size".to_owned()));

    for (chunks, status) in [(10, 204), (11, 413), (500, 413)] {
        let mut client = server.client().await;
        let head = format!("PUT {path} HTTP/1.1\r\nhost: t\r\ntransfer-encoding: chunked\r\n\r\n");
        client.send(head.as_bytes()).await;
        let chunk = [b"2710\r\n".as_slice(), &[8; 10_000], b"\r\n"].concat();
        for _ in 0..chunks {
            client.send(&chunk).await;
        }
        client.send(b"0\r\n\r\n").await;
        let answer = client.answer("PUT").await;
        assert_eq!(answer.status, status, "{chunks}");
        if status == 413 {
            assert_eq!(answer.code(), "value_size");
        }
    }
    assert_eq!(server.ask("GET", path, b"").await.body, vec![8; 100_000]);
}

#[tokio::test]
async fn a_refused_body_is_not_asked_for() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client
        .send(b"PUT /v1/kv/default/k HTTP/1.1\r\nhost: t\r\nexpect: 100-continue\r\ncontent-length: 9999999\r\n\r\n")
        .await;
    assert_eq!(client.answer("PUT").await.status, 413);
}

#[tokio::test]
async fn wishes_reach_the_node() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let mut ask = async |keyspace: &str, headers: &[(&str, &str)]| {
        let path = format!("/v1/kv/{keyspace}/k");
        let answer = client.ask("PUT", &path, headers, b"v").await;
        assert_eq!(answer.status, 204);
        server.fake.calls.lock().unwrap().pop().unwrap()
    };
    let seconds = Duration::from_secs;
    assert_eq!(ask("default", &[]).await, (None, seconds(2)));
    assert_eq!(ask("everywhere", &[]).await, (None, seconds(10)));
    let all = [("Sterna-Consistency", "all")];
    assert_eq!(ask("default", &all).await, (Some(Level::All), seconds(10)));
    let both = [
        ("sterna-consistency", "unsafe-one"),
        ("STERNA-TIMEOUT", "1500ms"),
    ];
    let expected = (Some(Level::UnsafeOne), Duration::from_millis(1500));
    assert_eq!(ask("default", &both).await, expected);
    let metrics = server.ask("GET", "/metrics", b"").await;
    assert!(metrics.text().contains("\nsterna_unsafe_writes_total 1\n"));
}

#[tokio::test]
async fn what_is_not_understood_is_refused() {
    let server = Server::start().await;
    let long = format!("/v1/kv/default/{}", "k".repeat(8193));
    for (method, path, header, status, code) in [
        ("GET", "/v1/kv/nowhere/k", None, 404, "no_keyspace"),
        ("GET", "/v1/kv/europe/k", None, 421, "keyspace_elsewhere"),
        ("GET", "/v1/kv/default/", None, 400, "key_size"),
        ("PUT", long.as_str(), None, 413, "key_size"),
        ("GET", "/v1/kv/default/%4", None, 400, "bad_key"),
        ("GET", "/v1/kv/%zz/k", None, 400, "bad_key"),
        ("GET", "/v1/kv/default/a/b", None, 404, "no_route"),
        ("GET", "/v1/kv/default/k?ttl=1", None, 400, "bad_query"),
        ("POST", "/v1/kv/default/k", None, 405, "bad_method"),
        ("PATCH", "/v1/status", None, 405, "bad_method"),
        ("GET", "/v1/nothing", None, 404, "no_route"),
        ("GET", "/v1/status?x", None, 400, "bad_query"),
        (
            "GET",
            "/v1/kv/default/k",
            Some(("sterna-consistency", "two")),
            400,
            "bad_level",
        ),
        (
            "GET",
            "/v1/kv/default/k",
            Some(("sterna-consistency", "unsafe-one")),
            400,
            "bad_level",
        ),
        (
            "GET",
            "/v1/kv/default/k",
            Some(("sterna-timeout", "1h")),
            400,
            "bad_timeout",
        ),
        (
            "GET",
            "/v1/kv/default/k",
            Some(("sterna-consistensy", "one")),
            400,
            "bad_header",
        ),
        (
            "GET",
            "/v1/status",
            Some(("sterna-timestamp", "1.1")),
            400,
            "bad_header",
        ),
        (
            "PUT",
            "/v1/kv/default/k",
            Some(("if-unmodified-since", "today")),
            400,
            "bad_header",
        ),
    ] {
        let mut client = server.client().await;
        let headers: Vec<_> = header.into_iter().collect();
        let answer = client.ask(method, path, &headers, b"").await;
        let found = (answer.status, answer.code());
        assert_eq!(
            found,
            (status, code.to_owned()),
            "{method} {path} {header:?}"
        );
        assert_eq!(answer.header("content-type"), Some("application/json"));
        if status == 405 {
            assert!(answer.header("allow").unwrap().contains("GET"));
        }
    }
    let elsewhere = server.ask("GET", "/v1/kv/europe/k", b"").await;
    assert!(elsewhere.text().contains("a node of eu"));
}

#[tokio::test]
async fn every_outcome_has_its_code() {
    let server = Server::start().await;
    for (outcome, status, code) in [
        (Outcome::Refused(Refusal::NoKeyspace), 404, "no_keyspace"),
        (
            Outcome::Refused(Refusal::KeyspaceElsewhere),
            421,
            "keyspace_elsewhere",
        ),
        (Outcome::Refused(Refusal::KeySize), 413, "key_size"),
        (Outcome::Refused(Refusal::ValueSize), 413, "value_size"),
        (Outcome::Refused(Refusal::Level), 400, "bad_level"),
        (
            Outcome::Unavailable(Unavailable::Replicas),
            503,
            "unavailable",
        ),
        (
            Outcome::Unavailable(Unavailable::Deadline),
            503,
            "unavailable",
        ),
        (
            Outcome::Unavailable(Unavailable::Stopping),
            503,
            "unavailable",
        ),
        (
            Outcome::Unavailable(Unavailable::Overloaded),
            429,
            "overloaded",
        ),
        (
            Outcome::Unknown(Unknown::Acknowledgements),
            503,
            "unknown_outcome",
        ),
        (
            Outcome::Unknown(Unknown::Coordinator),
            503,
            "unknown_outcome",
        ),
        (Outcome::Read(None), 500, "broken"),
    ] {
        server.fake.script(outcome.clone());
        let answer = server.ask("PUT", "/v1/kv/default/k", b"v").await;
        let found = (answer.status, answer.code());
        assert_eq!(found, (status, code.to_owned()), "{outcome:?}");
        let retry = answer.header("retry-after");
        assert_eq!(retry, (status == 429).then_some("1"), "{outcome:?}");
    }
}
