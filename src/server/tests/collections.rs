//! Counters, sets and maps of a key, and how many bytes and parts they take.

use serde_json::{Value, json};

use crate::model::{Limits, OpId, WriteOp};
use crate::protocol::{Operation, Outcome, Refusal};

use super::super::Options;
use super::client::{Answer, Server};

async fn post(server: &Server, path: &str, body: Value) -> Answer {
    server.ask("POST", path, body.to_string().as_bytes()).await
}

async fn get(server: &Server, path: &str) -> Value {
    let answer = server.ask("GET", path, b"").await;
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    answer.json()
}

#[tokio::test]
async fn counters_count() {
    let server = Server::start().await;
    let path = "/v1/counter/default/visits";
    assert_eq!(get(&server, path).await, json!({"value": 0}));
    for add in [5, -3, 40] {
        let answer = post(&server, path, json!({"add": add})).await;
        assert_eq!((answer.status, answer.body.len()), (204, 0));
        assert!(answer.header("sterna-session").is_some());
    }
    assert_eq!(get(&server, path).await, json!({"value": 42}));
    // The key's value, set and map are other things.
    let value = server.ask("GET", "/v1/kv/default/visits", b"").await;
    assert_eq!(value.status, 404);
    assert_eq!(server.ask("DELETE", path, b"").await.status, 204);
    assert_eq!(get(&server, path).await, json!({"value": 0}));
    post(&server, path, json!({"add": i64::MAX})).await;
    let over = post(&server, path, json!({"add": 1})).await;
    assert_eq!(
        (over.status, over.code()),
        (409, "counter_range".to_owned())
    );
    let value = server.ask("GET", path, b"").await;
    assert_eq!(value.text(), "{\"value\":9223372036854775807}");
}

#[tokio::test]
async fn an_operation_is_counted_once() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let path = "/v1/counter/default/visits";
    for key in ["a", "a", "b", "a"] {
        let headers = [("Idempotency-Key", key)];
        let answer = client.ask("POST", path, &headers, b"{\"add\":1}").await;
        assert_eq!(answer.status, 204);
    }
    assert_eq!(get(&server, path).await, json!({"value": 2}));
    let map = "/v1/map/default/m";
    let headers = [("Idempotency-Key", "a")];
    for body in ["{\"add\":{\"n\":2}}", "{\"add\":[[\"n\",2]]}"] {
        let answer = client.ask("POST", map, &headers, body.as_bytes()).await;
        assert_eq!(answer.status, 204);
    }
    let Operation::Write(write) = server.fake.request().operation else {
        panic!("no write");
    };
    let WriteOp::Fields {
        id: Some(OpId(id)), ..
    } = write.op
    else {
        panic!("no id");
    };
    assert_eq!(id, xxhash_rust::xxh3::xxh3_128(b"a"));
    let field = get(&server, "/v1/map/default/m?field=n").await;
    assert_eq!(field, json!({"field": "n", "counter": 2}));
}

#[tokio::test]
async fn sets_hold_members_of_any_bytes() {
    let server = Server::start().await;
    let path = "/v1/set/default/tags";
    assert_eq!(
        get(&server, path).await,
        json!({"members": [], "next": null})
    );
    let add = json!({"add": ["b", "a", {"b64": "/w=="}, "b"], "remove": ["never"]});
    assert_eq!(post(&server, path, add).await.status, 204);
    let all = json!({"members": ["a", "b", {"b64": "/w=="}], "next": null});
    assert_eq!(get(&server, path).await, all);
    assert_eq!(
        get(&server, "/v1/set/default/tags?size=true").await,
        json!({"size": 3})
    );
    for (member, is_member) in [("a", true), ("%FF", true), ("c", false), ("never", false)] {
        let asked = format!("{path}?member={member}");
        assert_eq!(get(&server, &asked).await, json!({"is_member": is_member}));
    }
    assert_eq!(
        post(&server, path, json!({"remove": ["a"]})).await.status,
        204
    );
    let asked = format!("{path}?member=a");
    assert_eq!(get(&server, &asked).await, json!({"is_member": false}));
    assert_eq!(server.ask("DELETE", path, b"").await.status, 204);
    assert_eq!(
        get(&server, path).await,
        json!({"members": [], "next": null})
    );
    // What was cleared is not there, though its row may not be swept yet.
    let asked = format!("{path}?member=b");
    assert_eq!(get(&server, &asked).await, json!({"is_member": false}));
    assert_eq!(post(&server, path, json!({"add": ["b"]})).await.status, 204);
    assert_eq!(get(&server, path).await["members"], json!(["b"]));
}

#[tokio::test]
async fn pages_lead_through_every_member_once() {
    let server = Server::start().await;
    let path = "/v1/set/default/many";
    let names: Vec<String> = (0..57).map(|n| format!("member-{n:02}")).collect();
    assert_eq!(post(&server, path, json!({"add": names})).await.status, 204);
    post(&server, path, json!({"remove": ["member-07"]})).await;
    for limit in [1, 10, 56, 57] {
        let mut found = Vec::new();
        let mut asked = format!("{path}?limit={limit}");
        loop {
            let page = get(&server, &asked).await;
            let members = page["members"].as_array().unwrap();
            assert!(members.len() <= limit);
            found.extend(members.iter().map(|name| name.as_str().unwrap().to_owned()));
            match page["next"].as_str() {
                Some(next) => asked = format!("{path}?limit={limit}&after={next}"),
                None => break,
            }
        }
        let mut expected = names.clone();
        expected.remove(7);
        assert_eq!(found, expected);
    }
    let next = get(&server, &format!("{path}?limit=1")).await["next"].clone();
    let other = format!("/v1/set/default/other?after={}", next.as_str().unwrap());
    let other = server.ask("GET", &other, b"").await;
    assert_eq!((other.status, other.code()), (400, "bad_cursor".to_owned()));
}

#[tokio::test]
async fn maps_hold_registers_and_counters() {
    let server = Server::start().await;
    let path = "/v1/map/default/user";
    let change = json!({"put": {"name": "Ada", "both": "x"}, "add": {"visits": 2, "both": -1}});
    assert_eq!(post(&server, path, change).await.status, 204);
    let change = json!({"put": [[{"b64": "/w=="}, {"b64": "/v8="}]], "add": [["visits", 1]]});
    assert_eq!(post(&server, path, change).await.status, 204);
    let fields = json!({"fields": [
        {"field": "both", "counter": -1},
        {"field": "visits", "counter": 3},
        {"field": "both", "value": "x"},
        {"field": "name", "value": "Ada"},
        {"field": {"b64": "/w=="}, "value": {"b64": "/v8="}},
    ], "next": null});
    assert_eq!(get(&server, path).await, fields);
    assert_eq!(
        get(&server, "/v1/map/default/user?size=true").await,
        json!({"size": 5})
    );
    let both = get(&server, "/v1/map/default/user?field=both").await;
    assert_eq!(both, json!({"field": "both", "value": "x", "counter": -1}));
    let absent = server
        .ask("GET", "/v1/map/default/user?field=no", b"")
        .await;
    assert_eq!((absent.status, absent.code()), (404, "absent".to_owned()));

    assert_eq!(
        post(&server, path, json!({"remove": ["both"]}))
            .await
            .status,
        204
    );
    let gone = server
        .ask("GET", "/v1/map/default/user?field=both", b"")
        .await;
    assert_eq!(gone.status, 404);
    let page = get(&server, "/v1/map/default/user?limit=1").await;
    assert_eq!(page["fields"], json!([{"field": "visits", "counter": 3}]));
    let next = format!("{path}?after={}", page["next"].as_str().unwrap());
    assert_eq!(
        get(&server, &next).await["fields"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
    assert_eq!(server.ask("DELETE", path, b"").await.status, 204);
    assert_eq!(
        get(&server, path).await,
        json!({"fields": [], "next": null})
    );
}

#[tokio::test]
async fn what_is_no_change_is_refused() {
    let limits = Limits {
        parts_max: 3,
        key_bytes_max: 100,
        value_bytes_max: 1000,
        ..Limits::default()
    };
    let server = Server::start_with(limits, Options::default()).await;
    let long = format!("{{\"add\":[\"{}\"]}}", "x".repeat(2000 + (1 << 20)));
    let name = format!("{{\"add\":[\"{}\"]}}", "x".repeat(101));
    let name_of_field = format!("{{\"add\":{{\"{}\":1}}}}", "x".repeat(101));
    for (kind, body, status, code) in [
        ("counter", "", 400, "bad_body"),
        ("counter", "{}", 400, "bad_body"),
        ("counter", "[5]", 400, "bad_body"),
        ("counter", "{\"add\":1.5}", 400, "bad_body"),
        ("counter", "{\"add\":1e3}", 400, "bad_body"),
        ("counter", "{\"add\":\"1\"}", 400, "bad_body"),
        ("counter", "{\"add\":9223372036854775808}", 400, "bad_body"),
        ("counter", "{\"add\":1,\"id\":2}", 400, "bad_body"),
        ("set", "{}", 400, "bad_body"),
        ("set", "{\"add\":\"a\"}", 400, "bad_body"),
        ("set", "{\"add\":[1]}", 400, "bad_body"),
        ("set", "{\"put\":[]}", 400, "bad_body"),
        (
            "set",
            "{\"add\":[\"a\",\"b\"],\"remove\":[\"c\",\"d\"]}",
            413,
            "too_many_parts",
        ),
        ("set", long.as_str(), 413, "value_size"),
        ("set", "{\"add\":[\"a\",\"\"]}", 400, "key_size"),
        ("set", "{\"remove\":[\"\"]}", 400, "key_size"),
        ("set", name.as_str(), 413, "key_size"),
        ("map", "{\"put\":{\"\":\"1\"}}", 400, "key_size"),
        ("map", "{\"add\":{\"\":1}}", 400, "key_size"),
        ("map", name_of_field.as_str(), 413, "key_size"),
        ("map", "{}", 400, "bad_body"),
        ("map", "{\"add\":{\"n\":0.5}}", 400, "bad_body"),
        (
            "map",
            "{\"put\":{\"a\":\"1\",\"a\":\"2\"}}",
            400,
            "bad_body",
        ),
        (
            "map",
            "{\"put\":{\"a\":\"1\"},\"remove\":[\"a\"]}",
            400,
            "bad_body",
        ),
        ("map", "{\"add\":[[\"a\",1],[\"a\",2]]}", 400, "bad_body"),
        (
            "map",
            "{\"put\":{\"a\":\"\",\"b\":\"\"},\"add\":{\"c\":1,\"d\":1}}",
            413,
            "too_many_parts",
        ),
    ] {
        let answer = server
            .ask("POST", &format!("/v1/{kind}/default/k"), body.as_bytes())
            .await;
        let found = (answer.status, answer.code());
        assert_eq!(found, (status, code.to_owned()), "{kind} {body:.60}");
    }
    for (method, path, status, code) in [
        ("PUT", "/v1/counter/default/k", 405, "bad_method"),
        ("PUT", "/v1/set/default/k", 405, "bad_method"),
        ("PATCH", "/v1/map/default/k", 405, "bad_method"),
        ("GET", "/v1/counter/default/k?x=1", 400, "bad_query"),
        ("POST", "/v1/set/default/k?member=a", 400, "bad_query"),
        ("GET", "/v1/set/default/k?member=", 400, "bad_query"),
        ("GET", "/v1/set/default/k?field=a", 400, "bad_query"),
        ("GET", "/v1/set/default/k?after=AQ", 400, "bad_cursor"),
        ("GET", "/v1/map/default/k?field=", 400, "bad_query"),
        ("GET", "/v1/set/default/", 400, "key_size"),
        ("GET", "/v1/set/default/a/b", 404, "no_route"),
        ("GET", "/v1/map/nowhere/k", 404, "no_keyspace"),
        ("GET", "/v1/map/europe/k", 421, "keyspace_elsewhere"),
        ("GET", "/v1/map/default/%4", 400, "bad_key"),
    ] {
        let answer = server.ask(method, path, b"").await;
        let found = (answer.status, answer.code());
        assert_eq!(found, (status, code.to_owned()), "{method} {path}");
    }
    server.fake.script(Outcome::Refused(Refusal::Selection));
    let answer = server.ask("GET", "/v1/set/default/k", b"").await;
    assert_eq!(
        (answer.status, answer.code()),
        (400, "bad_query".to_owned())
    );
}

#[tokio::test]
async fn headers_that_a_route_does_not_take_are_refused() {
    let server = Server::start().await;
    for (method, path, body, header) in [
        (
            "POST",
            "/v1/counter/default/k",
            "{\"add\":1}",
            ("sterna-ttl", "1s"),
        ),
        (
            "POST",
            "/v1/map/default/k",
            "{\"add\":{\"n\":1}}",
            ("sterna-ttl", "1s"),
        ),
        (
            "POST",
            "/v1/set/default/k",
            "{\"add\":[\"a\"]}",
            ("idempotency-key", "x"),
        ),
        (
            "POST",
            "/v1/set/default/k",
            "{\"add\":[\"a\"]}",
            ("if-match", "\"0000000000000000\""),
        ),
        (
            "POST",
            "/v1/set/default/k",
            "{\"add\":[\"a\"]}",
            ("sterna-wait", "1s"),
        ),
        (
            "POST",
            "/v1/counter/default/k",
            "{\"add\":1}",
            ("idempotency-key", "a b"),
        ),
        (
            "POST",
            "/v1/batch/default/put",
            "{\"items\":[]}",
            ("idempotency-key", "x"),
        ),
        ("PUT", "/v1/kv/default/k", "v", ("idempotency-key", "x")),
        (
            "PUT",
            "/v1/kv/default/k",
            "v",
            ("sterna-max-staleness", "1s"),
        ),
        ("PUT", "/v1/kv/default/k", "v", ("sterna-ttl", "0s")),
        ("DELETE", "/v1/kv/default/k", "", ("sterna-ttl", "1s")),
        ("DELETE", "/v1/set/default/k", "", ("if-none-match", "*")),
        ("GET", "/v1/kv/default/k", "", ("sterna-context", "x")),
        (
            "GET",
            "/v1/kv/default/k",
            "",
            ("sterna-max-staleness", "soon"),
        ),
        ("GET", "/v1/kv/default/k", "", ("sterna-wait", "2m")),
        ("GET", "/v1/kv/default/k", "", ("sterna-when-behind", "cry")),
        ("GET", "/v1/status", "", ("sterna-session", "x")),
        ("GET", "/v1/wait", "", ("sterna-ttl", "1s")),
        ("GET", "/v1/wait", "", ("sterna-timeout", "1s")),
    ] {
        let mut client = server.client().await;
        let answer = client.ask(method, path, &[header], body.as_bytes()).await;
        let found = (answer.status, answer.code());
        assert_eq!(
            found,
            (400, "bad_header".to_owned()),
            "{method} {path} {header:?}"
        );
    }
}
