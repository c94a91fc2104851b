//! Sessions from answer to request, staleness, and waiting for other regions.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use serde_json::json;

use crate::model::{
    Actor, Behind, Dot, Duration, Incarnation, KeyspaceId, NodeId, RegionId, Row, RowKey, Session,
    Stamp, Timestamp, Version, Wall,
};
use crate::protocol::{Operation, Outcome, Unavailable};

use super::client::Server;

const PATH: &str = "/v1/kv/default/k";

/// A version of the other region, whose writer had seen something else.
fn version(micros: u64, after: Option<Session>) -> Version {
    let timestamp = Timestamp { micros, logical: 0 };
    let actor = Actor {
        node: NodeId::of("eu-1"),
        incarnation: Incarnation(1),
    };
    let dot = Dot { actor, n: 1 };
    Version {
        after: after.map(Box::new),
        ..Version::new(Stamp { timestamp, dot }, Some(Bytes::from_static(b"v")))
    }
}

fn key(name: &'static str) -> RowKey {
    RowKey::plain(
        KeyspaceId::of("default"),
        Bytes::from_static(name.as_bytes()),
    )
}

#[tokio::test]
async fn what_was_seen_goes_from_answer_to_request() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let never = client.ask("GET", PATH, &[], b"").await;
    assert_eq!(never.header("sterna-session"), None);
    let put = client.ask("PUT", PATH, &[], b"v").await;
    let token = put.header("sterna-session").unwrap().to_owned();
    assert!(server.fake.request().gate.session.is_empty());

    let headers = [("Sterna-Session", token.as_str())];
    let got = client.ask("GET", PATH, &headers, b"").await;
    assert_eq!(got.header("sterna-session"), Some(token.as_str()));
    let gate = server.fake.request().gate;
    let (us, eu) = (RegionId::of("us"), RegionId::of("eu"));
    assert_eq!(gate.session.need(us, NodeId::of("us-1")), 1_000_001);
    assert_eq!(
        (gate.behind, gate.wait_micros),
        (Behind::Forward, 1_000_000)
    );
    let (_, timeout) = server.fake.calls.lock().unwrap().pop().unwrap();
    assert_eq!(timeout, Duration::from_secs(3));

    // A version of another region, and what its writer had seen, come along.
    let mut after = Session::default();
    let older = Timestamp {
        micros: 900_000,
        logical: 7,
    };
    after.observe(us, NodeId::of("us-1"), older);
    server
        .fake
        .plant(key("far"), Row::Register(version(950_000, Some(after))));
    let got = client.ask("GET", "/v1/kv/default/far", &[], b"").await;
    let far = got.header("sterna-session").unwrap().to_owned();
    let headers = [("Sterna-Session", far.as_str())];
    let put = client.ask("PUT", PATH, &headers, b"w").await;
    let request = server.fake.request();
    assert_eq!(request.gate.session.latest(), 950_000);
    assert!(request.gate.session.need(us, NodeId::of("us-1")) >= 900_000);
    let Operation::Write(write) = request.operation else {
        panic!("no write");
    };
    assert_eq!(write.after.as_deref(), Some(&request.gate.session));
    let (_, timeout) = server.fake.calls.lock().unwrap().pop().unwrap();
    assert_eq!(timeout, Duration::from_secs(2));
    let both = put.header("sterna-session").unwrap().to_owned();
    let headers = [("Sterna-Session", both.as_str())];
    client.ask("GET", "/v1/set/default/k", &headers, b"").await;
    let session = server.fake.request().gate.session;
    assert!(session.need(eu, NodeId::of("eu-1")) >= 950_000);
    assert_eq!(session.need(us, NodeId::of("us-1")), 1_000_002);
}

#[tokio::test]
async fn every_answer_of_data_carries_the_session() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.ask("PUT", PATH, &[], b"v").await;
    let counter = "/v1/counter/default/k";
    client.ask("POST", counter, &[], b"{\"add\":1}").await;
    client
        .ask("POST", "/v1/set/default/k", &[], b"{\"add\":[\"a\"]}")
        .await;
    client
        .ask("POST", "/v1/map/default/k", &[], b"{\"put\":{\"a\":\"1\"}}")
        .await;
    for (method, path, body) in [
        ("GET", PATH, ""),
        ("HEAD", PATH, ""),
        ("GET", "/v1/kv/default", ""),
        ("POST", "/v1/batch/default/get", "{\"keys\":[\"k\"]}"),
        ("GET", counter, ""),
        ("GET", "/v1/set/default/k", ""),
        ("GET", "/v1/set/default/k?member=a", ""),
        ("GET", "/v1/map/default/k", ""),
        ("GET", "/v1/map/default/k?field=a", ""),
        (
            "POST",
            "/v1/batch/default/put",
            "{\"items\":[{\"key\":\"k\",\"value\":\"\"}]}",
        ),
        ("DELETE", counter, ""),
        ("DELETE", "/v1/set/default/k", ""),
        ("DELETE", "/v1/map/default/k", ""),
        ("DELETE", PATH, ""),
        ("GET", PATH, ""),
    ] {
        let answer = client.ask(method, path, &[], body.as_bytes()).await;
        let token = answer.header("sterna-session");
        assert!(
            token.is_some_and(|token| token.len() < 28),
            "{method} {path}"
        );
    }
}

#[tokio::test]
async fn sessions_that_are_not_ours_are_refused() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let put = client.ask("PUT", PATH, &[], b"v").await;
    let token = put.header("sterna-session").unwrap().to_owned();
    for broken in [
        "",
        "x",
        "AQ",
        token.strip_prefix('A').unwrap(),
        &format!("{token}A"),
        "????",
    ] {
        for (method, path) in [("GET", PATH), ("PUT", PATH), ("GET", "/v1/wait")] {
            let headers = [("sterna-session", broken)];
            let mut client = server.client().await;
            let answer = client.ask(method, path, &headers, b"").await;
            let found = (answer.status, answer.code());
            assert_eq!(found, (400, "bad_session".to_owned()), "{method} {broken}");
            assert!(answer.text().contains("start a new one"));
        }
    }
    // Seen by a clock that is far behind the one that stamped it.
    server.fake.wall.store(500_000, Ordering::SeqCst);
    let headers = [("sterna-session", token.as_str())];
    let answer = client.ask("GET", PATH, &headers, b"").await;
    assert_eq!(
        (answer.status, answer.code()),
        (400, "bad_session".to_owned())
    );
    server.fake.wall.store(500_001, Ordering::SeqCst);
    assert_eq!(client.ask("GET", PATH, &headers, b"").await.status, 200);
}

#[tokio::test]
async fn staleness_and_patience_reach_the_node() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let headers = [
        ("sterna-max-staleness", "200ms"),
        ("sterna-wait", "1500ms"),
        ("sterna-when-behind", "refuse"),
        ("sterna-timeout", "1s"),
    ];
    client
        .ask("GET", "/v1/counter/default/k", &headers, b"")
        .await;
    let gate = server.fake.request().gate;
    assert_eq!(gate.fresh_as_of, Some(Wall(800_000)));
    assert_eq!((gate.behind, gate.wait_micros), (Behind::Refuse, 1_500_000));
    let (_, timeout) = server.fake.calls.lock().unwrap().pop().unwrap();
    assert_eq!(timeout, Duration::from_millis(2500));

    server.fake.script(Outcome::NotYet);
    let answer = client.ask("GET", PATH, &headers, b"").await;
    assert_eq!((answer.status, answer.code()), (425, "not_yet".to_owned()));
    // Without a session or a staleness there is nothing to wait for.
    client.ask("GET", PATH, &[("sterna-wait", "5s")], b"").await;
    assert!(server.fake.request().gate.is_open());
    let (_, timeout) = server.fake.calls.lock().unwrap().pop().unwrap();
    assert_eq!(timeout, Duration::from_secs(2));
}

#[tokio::test]
async fn a_wait_is_for_regions() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let put = client.ask("PUT", PATH, &[], b"v").await;
    let token = put.header("sterna-session").unwrap().to_owned();
    let headers = [("sterna-session", token.as_str()), ("sterna-timeout", "3s")];
    for (path, regions) in [
        ("/v1/wait", vec![]),
        ("/v1/wait?region=all", vec![]),
        ("/v1/wait?region=eu", vec![RegionId::of("eu")]),
    ] {
        let answer = client.ask("GET", path, &headers, b"").await;
        assert_eq!(
            (answer.status, answer.json()),
            (200, json!({"reached": true}))
        );
        assert_eq!(answer.header("sterna-session"), Some(token.as_str()));
        let request = server.fake.request();
        assert_eq!(request.operation, Operation::Wait { regions });
        assert_eq!(request.gate.session.latest(), 1_000_001);
        let (_, timeout) = server.fake.calls.lock().unwrap().pop().unwrap();
        assert_eq!(timeout, Duration::from_secs(3));
    }
    for (outcome, status, code) in [
        (Outcome::NotYet, 425, "not_yet"),
        (Outcome::Unavailable(Unavailable::Deadline), 425, "not_yet"),
        (
            Outcome::Unavailable(Unavailable::Stopping),
            503,
            "unavailable",
        ),
        (Outcome::Counted(1), 500, "broken"),
    ] {
        server.fake.script(outcome);
        let answer = client.ask("GET", "/v1/wait", &headers, b"").await;
        assert_eq!((answer.status, answer.code()), (status, code.to_owned()));
    }
    for query in ["region=mars", "region=eu&region=us", "to=eu"] {
        let path = format!("/v1/wait?{query}");
        assert_eq!(
            client.ask("GET", &path, &headers, b"").await.code(),
            "bad_query"
        );
    }
    let level = [
        ("sterna-session", token.as_str()),
        ("sterna-consistency", "all"),
    ];
    assert_eq!(
        client.ask("GET", "/v1/wait", &level, b"").await.code(),
        "bad_level"
    );
}
