//! Listings: every key once, in token order, page by page to the end.

use std::collections::BTreeSet;

use bytes::Bytes;

use crate::model::{KeyspaceId, OpId, Part, Place, RowKey, Token};
use crate::protocol::{Operation, Outcome, Unavailable};

use super::client::Server;
use super::fake::PARTITIONS;

/// Bytes of the longest key.
const KEY_BYTES_MAX: usize = 8 << 10;

#[tokio::test]
async fn pages_lead_through_every_key_once() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let mut keys = BTreeSet::new();
    for n in 0..50 {
        let path = format!("/v1/kv/default/key-{n}");
        assert_eq!(client.ask("PUT", &path, &[], b"v").await.status, 204);
        keys.insert(format!("key-{n}"));
    }
    client.ask("DELETE", "/v1/kv/default/key-7", &[], b"").await;
    keys.remove("key-7");
    client
        .ask("PUT", "/v1/kv/everywhere/other", &[], b"v")
        .await;

    for limit in [1, 3, 49, 100, 10_000] {
        let mut found: Vec<String> = Vec::new();
        let mut path = format!("/v1/kv/default?limit={limit}");
        loop {
            let page = client.ask("GET", &path, &[], b"").await;
            assert_eq!(page.status, 200, "{}", page.text());
            let page = page.json();
            let items = page["items"].as_array().unwrap();
            assert!(items.len() <= limit);
            for item in items {
                found.push(item["key"].as_str().unwrap().to_owned());
                assert_eq!((&item["region"], item.get("value")), (&"us".into(), None));
            }
            match page["next"].as_str() {
                Some(next) => path = format!("/v1/kv/default?limit={limit}&cursor={next}"),
                None => break,
            }
        }
        assert!(found.is_sorted_by_key(|key| Token::of(key.as_bytes())));
        assert_eq!(found.len(), keys.len());
        assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), keys);
    }
}

#[tokio::test]
async fn values_are_shown_when_asked_for() {
    let server = Server::start().await;
    server.ask("PUT", "/v1/kv/default/%FF", b"\xfe").await;
    let page = server
        .ask("GET", "/v1/kv/default?values=true", b"")
        .await
        .json();
    let item = &page["items"][0];
    assert_eq!(item["key"]["b64"], "/w==");
    assert_eq!(item["value"]["b64"], "/g==");
    assert_eq!(item["timestamp"], "1000001.2");
    assert!(page["next"].is_null());
    let empty = server.ask("GET", "/v1/kv/everywhere", b"").await;
    assert_eq!(empty.text(), "{\"items\":[],\"next\":null}");
}

#[tokio::test]
async fn trouble_on_the_way_shows_on_the_page_it_meets() {
    let server = Server::start().await;
    server.ask("PUT", "/v1/kv/default/k", b"v").await;
    server
        .fake
        .script(Outcome::Unavailable(Unavailable::Replicas));
    let failed = server.ask("GET", "/v1/kv/default", b"").await;
    assert_eq!(
        (failed.status, failed.code()),
        (503, "unavailable".to_owned())
    );
}

/// The longest name that a row can have; no client sees it, but a page may end at it.
fn longest() -> RowKey {
    let name = Bytes::from(vec![0xff; KEY_BYTES_MAX]);
    let place = Place::Field(name.clone());
    RowKey::plain(KeyspaceId::of("default"), name).with(&Part::Once(place, OpId(u128::MAX)))
}

fn page(next: (u16, Option<RowKey>)) -> Outcome {
    let rows = Vec::new();
    let next = Some(next);
    Outcome::Page { rows, next }
}

#[tokio::test]
async fn a_page_that_found_nothing_in_time_says_where_to_go_on() {
    let server = Server::start().await;
    let row = longest();
    let index = row.token.partition_index(PARTITIONS);
    for path in ["/v1/kv/default", "/v1/conflicts/default"] {
        server.fake.script(page((index, Some(row.clone()))));
        server
            .fake
            .script(Outcome::Unavailable(Unavailable::Deadline));
        let empty = server.ask("GET", path, b"").await;
        assert_eq!(empty.status, 200, "{}", empty.text());
        let empty = empty.json();
        let next = empty["next"].as_str().unwrap();
        server.fake.requests.lock().unwrap().clear();
        let rest = server
            .ask("GET", &format!("{path}?cursor={next}"), b"")
            .await;
        assert_eq!(rest.status, 200, "{}", rest.text());
        assert!(rest.json()["next"].is_null());
        let first = server.fake.requests.lock().unwrap().remove(0).operation;
        let Operation::List { after, .. } = first else {
            panic!("not a listing: {first:?}")
        };
        assert_eq!(after.as_ref(), Some(&row));
    }
}

#[tokio::test]
async fn nobody_is_sent_back_to_where_a_page_began() {
    let server = Server::start().await;
    for next in [(0, None), (3, None)] {
        server.fake.script(page((3, None)));
        server.fake.script(page(next));
        let short = server.ask("GET", "/v1/kv/default", b"").await.json();
        let next = short["next"].as_str().unwrap();
        server.fake.script(page((3, None)));
        let path = format!("/v1/kv/default?cursor={next}");
        let failed = server.ask("GET", &path, b"").await;
        assert_eq!(
            (failed.status, failed.code()),
            (503, "unavailable".to_owned())
        );
    }
}

#[tokio::test]
async fn what_a_listing_does_not_take_is_refused() {
    let server = Server::start().await;
    for (query, code) in [
        ("limit=0", "bad_query"),
        ("limit=10001", "bad_query"),
        ("limit=x", "bad_query"),
        ("limit=1&limit=1", "bad_query"),
        ("values=yes", "bad_query"),
        ("prefix=a", "bad_query"),
        ("limit=%", "bad_query"),
        ("cursor=!", "bad_cursor"),
        ("cursor=", "bad_cursor"),
        ("cursor=AQcAAA", "bad_cursor"),
    ] {
        let answer = server
            .ask("GET", &format!("/v1/kv/default?{query}"), b"")
            .await;
        assert_eq!(
            (answer.status, answer.code()),
            (400, code.to_owned()),
            "{query}"
        );
    }
    let mut client = server.client().await;
    let all = [("sterna-consistency", "all")];
    let answer = client.ask("GET", "/v1/kv/default", &all, b"").await;
    assert_eq!(answer.code(), "bad_level");
}
