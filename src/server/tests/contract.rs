//! The OpenAPI document and the documentation, held against the routes and codes of the door.

use std::collections::BTreeSet;

use serde_json::Value;

use super::super::problem::Code;
use super::super::routes::{OPENAPI, ROUTES, Verb};
use super::client::Server;

fn document() -> Value {
    serde_json::from_str(OPENAPI).unwrap()
}

fn name(verb: Verb) -> &'static str {
    match verb {
        Verb::Get => "get",
        Verb::Head => "head",
        Verb::Put => "put",
        Verb::Delete => "delete",
        Verb::Post => "post",
    }
}

#[test]
fn document_and_routes_name_each_other() {
    let document = document();
    let routes: BTreeSet<(String, String)> = ROUTES
        .iter()
        .map(|route| (route.path.to_owned(), name(route.verb).to_owned()))
        .collect();
    let mut documented = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for verb in item.as_object().unwrap().keys() {
            if verb != "parameters" {
                documented.insert((path.clone(), verb.clone()));
            }
        }
    }
    assert_eq!(routes, documented);
}

#[test]
fn document_and_codes_name_each_other() {
    let document = document();
    let codes: BTreeSet<&str> = Code::ALL.iter().map(|code| code.name()).collect();
    assert_eq!(codes.len(), Code::ALL.len());
    let listed = document["components"]["schemas"]["Code"]["enum"].as_array();
    let listed: BTreeSet<&str> = listed.unwrap().iter().filter_map(Value::as_str).collect();
    assert_eq!(codes, listed);

    let mut shown = BTreeSet::new();
    for (status, response) in document["components"]["responses"].as_object().unwrap() {
        let examples = &response["content"]["application/json"]["examples"];
        for (title, example) in examples.as_object().unwrap() {
            let code = example["value"]["error"]["code"].as_str().unwrap();
            let known = Code::ALL.iter().find(|known| known.name() == code).unwrap();
            let expected = if title == "key_empty" {
                400
            } else {
                known.status().as_u16()
            };
            assert_eq!(*status, expected.to_string(), "{title}");
            shown.insert(code);
        }
    }
    assert_eq!(codes, shown);
}

#[test]
fn document_names_every_header() {
    let document = document();
    let components = &document["components"];
    let parameters = components["parameters"].as_object().unwrap().values();
    let asked: BTreeSet<&str> = parameters
        .filter(|parameter| parameter["in"] == "header")
        .filter_map(|parameter| parameter["name"].as_str())
        .collect();
    for name in [
        "Sterna-Consistency",
        "Sterna-Timeout",
        "Sterna-Session",
        "Sterna-Max-Staleness",
        "Sterna-Wait",
        "Sterna-When-Behind",
        "Sterna-TTL",
        "Sterna-Context",
        "If-Match",
        "If-None-Match",
        "Idempotency-Key",
    ] {
        assert!(asked.contains(name), "{name}");
    }
    for name in [
        "Sterna-Timestamp",
        "Sterna-Region",
        "ETag",
        "Sterna-Session",
        "Sterna-Context",
        "Sterna-Expires",
        "Sterna-Condition",
    ] {
        assert!(components["headers"].get(name).is_some(), "{name}");
    }
}

#[test]
fn references_of_the_document_lead_somewhere() {
    fn walk<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
        match value {
            Value::Object(fields) => {
                found.extend(fields.get("$ref").and_then(Value::as_str));
                fields.values().for_each(|value| walk(value, found));
            }
            Value::Array(items) => items.iter().for_each(|value| walk(value, found)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    let document = document();
    let mut found = Vec::new();
    walk(&document, &mut found);
    assert!(found.len() > 50);
    for reference in found {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
}

#[test]
fn documentation_names_every_route_and_code() {
    let text = include_str!("../../../docs/api.md");
    for route in &ROUTES {
        assert!(text.contains(route.path), "{}", route.path);
    }
    for code in Code::ALL {
        let row = format!("| `{}` |", code.name());
        assert!(text.contains(&row), "{row}");
    }
}

#[tokio::test]
async fn every_route_is_reached() {
    let server = Server::start().await;
    let put = server.ask("PUT", "/v1/kv/default/k", b"v").await;
    let session = put.header("sterna-session").unwrap().to_owned();
    for route in &ROUTES {
        let path = route
            .path
            .replace("{keyspace}", "default")
            .replace("{key}", "k")
            .replace("{partition}", "3")
            .replace("{level}", "0")
            .replace("{index}", "0");
        let method = name(route.verb).to_ascii_uppercase();
        let body: &[u8] = match route.path {
            "/v1/counter/{keyspace}/{key}" => b"{\"add\":1}",
            "/v1/set/{keyspace}/{key}" => b"{\"add\":[\"a\"]}",
            "/v1/map/{keyspace}/{key}" => b"{\"put\":{\"a\":\"1\"}}",
            "/v1/batch/{keyspace}/get" => b"{\"keys\":[]}",
            "/v1/batch/{keyspace}/put" => b"{\"items\":[]}",
            _ => b"",
        };
        let session: &[_] = match route.path {
            "/v1/wait" => &[("sterna-session", session.as_str())],
            _ => &[],
        };
        let mut client = server.client().await;
        let answer = client.ask(&method, &path, session, body).await;
        let is_dev = route.path.starts_with("/v1/dev");
        let is_key = route.path.ends_with("{key}");
        let expected: &[u16] = match (is_dev, is_key) {
            (true, _) => &[404],
            (_, true) => &[200, 204, 404],
            _ => &[200],
        };
        assert!(
            expected.contains(&answer.status),
            "{method} {path}: {answer:?}"
        );
    }
    let served = server.ask("GET", "/openapi.json", b"").await;
    assert_eq!(served.text(), OPENAPI);
}
