//! Many keys in one request.

use serde_json::json;

use crate::model::Limits;
use crate::protocol::{Outcome, Unavailable, Unknown};

use super::super::{Bounds, Options};
use super::client::Server;

const GET: &str = "/v1/batch/default/get";
const PUT: &str = "/v1/batch/default/put";

#[tokio::test]
async fn items_are_answered_in_the_order_asked() {
    let server = Server::start().await;
    let items = json!({"items": [
        {"key": "a", "value": "1"},
        {"key": {"b64": "/wA="}, "value": {"b64": "/v8="}},
        {"key": "gone", "value": "x"},
        {"key": "gone", "delete": true},
        {"key": {"b64": "Yg=="}, "value": ""},
    ]});
    let answer = server.ask("POST", PUT, items.to_string().as_bytes()).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let results = answer.json()["results"].as_array().unwrap().clone();
    assert_eq!(results.len(), 5);
    assert!(results.iter().all(|result| result["status"] == 204));
    assert_eq!(results[1]["key"], json!({"b64": "/wA="}));
    assert_eq!(results[4]["key"], json!("b"));
    assert!(results[0]["timestamp"].as_str().unwrap().ends_with(".2"));

    let keys = json!({"keys": ["gone", "b", {"b64": "/wA="}, "never", "a", ""]});
    let answer = server.ask("POST", GET, keys.to_string().as_bytes()).await;
    let results = answer.json()["results"].as_array().unwrap().clone();
    assert_eq!(results[0], json!({"key": "gone", "status": 404}));
    assert_eq!(
        (&results[1]["status"], &results[1]["value"]),
        (&json!(200), &json!(""))
    );
    assert_eq!(results[2]["value"], json!({"b64": "/v8="}));
    assert_eq!(results[3], json!({"key": "never", "status": 404}));
    assert_eq!(
        (&results[4]["value"], &results[4]["region"]),
        (&json!("1"), &json!("us"))
    );
    assert_eq!(results[4]["etag"].as_str().unwrap().len(), 16);
    assert_eq!(results[5]["error"]["code"], "key_size");
    assert_eq!(results[5]["status"], 400);
}

#[tokio::test]
async fn each_item_stands_alone() {
    let server = Server::start().await;
    server
        .fake
        .script(Outcome::Unavailable(Unavailable::Replicas));
    server.fake.script(Outcome::Unknown(Unknown::Coordinator));
    let items = json!({"items": [
        {"key": "a", "value": "1"}, {"key": "b", "value": "1"}, {"key": "c", "value": "1"},
    ]});
    let answer = server.ask("POST", PUT, items.to_string().as_bytes()).await;
    let results = answer.json()["results"].as_array().unwrap().clone();
    let codes: Vec<_> = results
        .iter()
        .map(|result| &result["error"]["code"])
        .collect();
    assert_eq!(codes[..2], ["unavailable", "unknown_outcome"]);
    assert_eq!(results[1]["status"], 503);
    assert_eq!(results[2]["status"], 204);
}

#[tokio::test]
async fn what_is_no_batch_is_refused() {
    let server = Server::start().await;
    let many: Vec<_> = (0..1001).map(|n| n.to_string()).collect();
    let many = json!({ "keys": many }).to_string();
    for (path, body, status, code) in [
        (GET, many.as_str(), 400, "bad_body"),
        (GET, "", 400, "bad_body"),
        (GET, "{\"keys\":[1]}", 400, "bad_body"),
        (GET, "{\"keys\":[],\"more\":1}", 400, "bad_body"),
        (PUT, "{\"items\":[{\"key\":\"a\"}]}", 400, "bad_body"),
        (
            PUT,
            "{\"items\":[{\"key\":\"a\",\"value\":\"\",\"delete\":true}]}",
            400,
            "bad_body",
        ),
        (
            PUT,
            "{\"items\":[{\"key\":\"a\",\"value\":\"\",\"more\":1}]}",
            400,
            "bad_body",
        ),
        ("/v1/batch/nowhere/get", "{\"keys\":[]}", 404, "no_keyspace"),
        ("/v1/batch/default/list", "{}", 404, "no_route"),
    ] {
        let answer = server.ask("POST", path, body.as_bytes()).await;
        assert_eq!(
            (answer.status, answer.code()),
            (status, code.to_owned()),
            "{path} {body:.40}"
        );
    }
    let mut client = server.client().await;
    let length = [("content-length", "33554433")];
    let head = format!(
        "POST {GET} HTTP/1.1\r\n{}: {}\r\n\r\n",
        length[0].0, length[0].1
    );
    client.send(head.as_bytes()).await;
    assert_eq!(client.answer("POST").await.code(), "value_size");
}

#[tokio::test]
async fn an_answer_is_full_when_the_node_is() {
    let options = Options {
        bounds: Bounds {
            bytes_in_flight_max: 1 << 20,
            ..Bounds::default()
        },
        ..Options::default()
    };
    let server = Server::start_with(Limits::default(), options).await;
    for key in ["a", "b", "c"] {
        let path = format!("/v1/kv/default/{key}");
        let put = server.ask("PUT", &path, &vec![b'x'; 400 << 10]).await;
        assert_eq!(put.status, 204);
    }
    let body = b"{\"keys\":[\"a\",\"b\",\"c\"]}";
    let answer = server.ask("POST", GET, body).await;
    let results = answer.json()["results"].as_array().unwrap().clone();
    let statuses: Vec<_> = results
        .iter()
        .map(|result| result["status"].as_u64())
        .collect();
    assert_eq!(statuses, [Some(200), Some(200), Some(429)]);
    assert_eq!(results[2]["error"]["code"], "overloaded");
}
