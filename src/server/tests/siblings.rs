//! Keys whose concurrent values stand side by side.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use crate::model::Limits;

use super::super::Options;
use super::client::Server;

const PATH: &str = "/v1/kv/carts/k";

#[tokio::test]
async fn concurrent_values_stand_side_by_side_until_a_context_covers_them() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let never = client.ask("GET", PATH, &[], b"").await;
    assert_eq!((never.status, never.header("sterna-context")), (404, None));
    assert_eq!(client.ask("PUT", PATH, &[], b"milk").await.status, 204);
    let one = client.ask("GET", PATH, &[], b"").await;
    assert_eq!((one.status, one.body.as_slice()), (200, &b"milk"[..]));
    let old = one.header("sterna-context").unwrap().to_owned();

    assert_eq!(client.ask("PUT", PATH, &[], b"\xff").await.status, 204);
    let two = client.ask("GET", PATH, &[], b"").await;
    assert_eq!(two.status, 300);
    assert_eq!(two.header("content-type"), Some("application/json"));
    assert!(two.header("etag").is_some() && two.header("sterna-session").is_some());
    let expected = json!({"siblings": [
        {"value": STANDARD.encode(b"\xff"), "region": "us", "timestamp": "1000002.2"},
        {"value": STANDARD.encode(b"milk"), "region": "us", "timestamp": "1000001.2"},
    ]});
    assert_eq!(two.json(), expected);
    let head = client.ask("HEAD", PATH, &[], b"").await;
    assert_eq!((head.status, head.body.len()), (300, 0));
    let winner = client
        .ask("GET", &format!("{PATH}?siblings=winner"), &[], b"")
        .await;
    assert_eq!((winner.status, winner.body.as_slice()), (200, &b"\xff"[..]));
    assert_eq!(
        winner.header("sterna-context"),
        two.header("sterna-context")
    );
    assert_eq!(winner.header("sterna-timestamp"), Some("1000002.2"));

    // The old context covers the first only.
    let context = [("sterna-context", old.as_str())];
    client.ask("PUT", PATH, &context, b"tea").await;
    let two = client.ask("GET", PATH, &[], b"").await;
    assert_eq!(two.json()["siblings"].as_array().unwrap().len(), 2);
    let context = two.header("sterna-context").unwrap().to_owned();
    let context = [("sterna-context", context.as_str())];
    assert_eq!(client.ask("PUT", PATH, &context, b"all").await.status, 204);
    let one = client.ask("GET", PATH, &[], b"").await;
    assert_eq!((one.status, one.body.as_slice()), (200, &b"all"[..]));

    // A delete by the old context leaves what is newer; one without covers what is there.
    assert_eq!(client.ask("DELETE", PATH, &context, b"").await.status, 204);
    assert_eq!(client.ask("GET", PATH, &[], b"").await.status, 200);
    assert_eq!(client.ask("DELETE", PATH, &[], b"").await.status, 204);
    let gone = client.ask("GET", PATH, &[], b"").await;
    assert_eq!((gone.status, gone.code()), (404, "absent".to_owned()));
    assert!(gone.header("sterna-context").is_some());
}

#[tokio::test]
async fn parts_are_sent_if_they_are_asked_for() {
    let server = Server::start().await;
    let mut client = server.client().await;
    for value in ["milk", "a\r\nb"] {
        client.ask("PUT", PATH, &[], value.as_bytes()).await;
    }
    let accept = [("Accept", "Multipart/Mixed")];
    let answer = client.ask("GET", PATH, &accept, b"").await;
    assert_eq!(answer.status, 300);
    let kind = answer.header("content-type").unwrap();
    let boundary = kind.strip_prefix("multipart/mixed; boundary=").unwrap();
    let part = |n, value| {
        format!(
            "--{boundary}\r\nContent-Type: application/octet-stream\r\nSterna-Timestamp: {n}.2\r\nSterna-Region: us\r\n\r\n{value}\r\n"
        )
    };
    let expected =
        part(1_000_002, "a\r\nb") + &part(1_000_001, "milk") + &format!("--{boundary}--\r\n");
    assert_eq!(answer.text(), expected);
}

#[tokio::test]
async fn contexts_of_other_keys_and_keyspaces_are_refused() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.ask("PUT", PATH, &[], b"v").await;
    let one = client.ask("GET", PATH, &[], b"").await;
    let context = one.header("sterna-context").unwrap().to_owned();
    let headers = [("sterna-context", context.as_str())];
    for (method, path) in [
        ("PUT", "/v1/kv/carts/other"),
        ("PUT", "/v1/kv/default/k"),
        ("DELETE", "/v1/kv/default/k"),
    ] {
        let mut client = server.client().await;
        let answer = client.ask(method, path, &headers, b"v").await;
        let found = (answer.status, answer.code());
        assert_eq!(found, (400, "bad_context".to_owned()), "{method} {path}");
    }
    for broken in ["", "!", &format!("A{context}"), &format!("{context}A")] {
        let headers = [("sterna-context", broken)];
        let mut client = server.client().await;
        let answer = client.ask("PUT", PATH, &headers, b"v").await;
        assert_eq!(answer.code(), "bad_context", "{broken}");
    }
    let query = client
        .ask("GET", &format!("{PATH}?siblings=none"), &[], b"")
        .await;
    assert_eq!(query.code(), "bad_query");
}

#[tokio::test]
async fn siblings_have_a_limit() {
    let limits = Limits {
        siblings_max: 3,
        ..Limits::default()
    };
    let server = Server::start_with(limits, Options::default()).await;
    for _ in 0..3 {
        assert_eq!(server.ask("PUT", PATH, b"v").await.status, 204);
    }
    let over = server.ask("PUT", PATH, b"v").await;
    assert_eq!(
        (over.status, over.code()),
        (409, "too_many_siblings".to_owned())
    );
    assert!(over.text().contains("3 concurrent values"));
    server.ask("GET", PATH, b"").await;
    let metrics = server.ask("GET", "/metrics", b"").await;
    assert!(
        metrics
            .text()
            .contains("\nsterna_siblings_bucket{le=\"4\"} 1\n")
    );
    assert!(metrics.text().contains("\nsterna_siblings_sum 3\n"));
}

#[tokio::test]
async fn listings_and_batches_show_siblings() {
    let server = Server::start().await;
    for value in ["milk", "tea"] {
        server.ask("PUT", PATH, value.as_bytes()).await;
    }
    let page = server
        .ask("GET", "/v1/kv/carts?values=true", b"")
        .await
        .json();
    let item = &page["items"][0];
    assert_eq!(
        (&item["value"], &item["sibling_count"]),
        (&json!("tea"), &json!(2))
    );

    let get = "/v1/batch/carts/get";
    let answer = server.ask("POST", get, b"{\"keys\":[\"k\"]}").await.json();
    let result = &answer["results"][0];
    assert_eq!(
        (&result["status"], result.get("value")),
        (&json!(300), None)
    );
    assert_eq!(result["siblings"][1]["value"], STANDARD.encode("milk"));
    let put = json!({"items": [
        {"key": "k", "value": "both", "context": result["context"], "ttl": "90s"},
        {"key": "k", "value": "more"},
        {"key": "gone", "delete": true},
    ]});
    let answer = server
        .ask("POST", "/v1/batch/carts/put", put.to_string().as_bytes())
        .await;
    assert!(answer.header("sterna-session").is_some());
    let statuses = answer.json()["results"].as_array().unwrap().clone();
    assert!(statuses.iter().all(|result| result["status"] == 204));
    let answer = server
        .ask("POST", get, b"{\"keys\":[\"k\",\"gone\"]}")
        .await
        .json();
    let siblings = &answer["results"][0]["siblings"];
    assert_eq!(siblings[1]["expires"], "1970-01-01T00:01:31.000Z");
    assert_eq!(siblings[1]["value"], STANDARD.encode("both"));
    assert_eq!(answer["results"][1]["status"], 404);

    for item in [
        json!({"key": "other", "value": "", "context": result["context"]}),
        json!({"key": "k", "value": "", "ttl": "soon"}),
        json!({"key": "k", "delete": true, "ttl": "1s"}),
    ] {
        let body = json!({ "items": [item] }).to_string();
        let answer = server
            .ask("POST", "/v1/batch/carts/put", body.as_bytes())
            .await;
        assert_eq!(answer.status, 400, "{body}");
    }
}
