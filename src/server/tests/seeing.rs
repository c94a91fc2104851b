//! What a node says of itself, and the links of a development cluster.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use serde_json::json;

use crate::model::Limits;

use super::super::{LinkChange, LinkControl, LinkState, NoLink, Options};
use super::client::Server;

#[tokio::test]
async fn health_and_readiness_are_told_apart() {
    let server = Server::start().await;
    assert_eq!(server.ask("GET", "/healthz", b"").await.text(), "ok\n");
    assert_eq!(server.ask("GET", "/readyz", b"").await.text(), "ready\n");
    server.fake.is_ready.store(false, Ordering::SeqCst);
    let ready = server.ask("GET", "/readyz", b"").await;
    assert_eq!(ready.status, 503);
    assert!(ready.text().contains("7 of 8 partitions"));
    assert_eq!(server.ask("GET", "/healthz", b"").await.status, 200);
    assert_eq!(server.ask("HEAD", "/healthz", b"").await.status, 200);
}

#[tokio::test]
async fn status_names_regions_nodes_and_counters() {
    let server = Server::start().await;
    let status = server.ask("GET", "/v1/status", b"").await.json();
    let expected = json!({
        "cluster": "test", "region": "us", "node": "us-1", "actor": "actor", "ready": true,
        "partitions": 8, "serving": 7, "available": 6, "requests": 1,
        "peers": [{"node": "eu-1", "region": "eu", "up": true, "backlog": 5}],
        "nodes": [
            {"node": "us-1", "region": "us", "zone": "a", "http": "127.0.0.1:1", "peer": "127.0.0.1:2"},
            {"node": "eu-1", "region": "eu", "zone": "a", "http": "127.0.0.1:1", "peer": "127.0.0.1:2"},
        ],
        "keyspaces": [
            {"name": "default", "merge": "lww", "regions": ["us", "eu"], "replication": 1, "consistency": "local_quorum"},
            {"name": "everywhere", "merge": "lww", "regions": ["us", "eu"], "replication": 1, "consistency": "all"},
            {"name": "europe", "merge": "lww", "regions": ["eu"], "replication": 1, "consistency": "local_quorum"},
            {"name": "carts", "merge": "siblings", "regions": ["us", "eu"], "replication": 1, "consistency": "local_quorum"},
        ],
        "counters": {"commits_total": 6, "reads_repaired_total": 3},
        "queues": {"requests_queued": 4},
        "sent_bytes": {"eu-1": 100}, "received_bytes": {"eu-1": 200},
    });
    assert_eq!(status, expected);
    let regions = server.ask("GET", "/v1/regions", b"").await.json();
    let expected = json!({"region": "us", "pairs": [
        {"from": "eu", "to": "us", "lag_ms": 41, "backlog": 0, "divergence": 2},
        {"from": "us", "to": "eu", "lag_ms": null, "backlog": 5, "divergence": 0},
    ]});
    assert_eq!(regions, expected);
}

#[tokio::test]
async fn digests_lead_from_the_root_down() {
    let server = Server::start().await;
    let digests = server.ask("GET", "/v1/digests", b"").await.json();
    let root = "00000000000000000000000000000abc";
    let expected = json!({"node": "us-1", "partitions": [
        {"keyspace": "default", "partition": 3, "root": root},
    ]});
    assert_eq!(digests, expected);
    let children = server
        .ask("GET", "/v1/digests/default/3/2/255", b"")
        .await
        .json();
    let children = children["children"].as_array().unwrap().clone();
    assert_eq!(children.len(), 16);
    assert_eq!(children[0], format!("{:032x}", 455));
    for path in [
        "4/0/0",
        "3/3/0",
        "3/2/256",
        "3/0/1",
        "x/0/0",
        "3/0/-1",
        "70000/0/0",
    ] {
        let answer = server
            .ask("GET", &format!("/v1/digests/default/{path}"), b"")
            .await;
        assert_eq!(
            (answer.status, answer.code()),
            (404, "no_partition".to_owned()),
            "{path}"
        );
    }
}

#[tokio::test]
async fn metrics_name_what_was_done() {
    let server = Server::start().await;
    server.ask("PUT", "/v1/kv/default/k", b"v").await;
    server.ask("GET", "/v1/kv/default/k", b"").await;
    server
        .ask(
            "POST",
            "/v1/batch/default/put",
            b"{\"items\":[{\"key\":\"k\",\"delete\":true}]}",
        )
        .await;
    let metrics = server.ask("GET", "/metrics", b"").await;
    let text = metrics.text();
    for line in [
        "sterna_request_seconds_count{op=\"put\",outcome=\"ok\"} 1",
        "sterna_request_seconds_count{op=\"get\",outcome=\"ok\"} 1",
        "sterna_request_seconds_count{op=\"delete\",outcome=\"ok\"} 1",
        "sterna_lag_seconds{from=\"eu\",to=\"us\"} 0.041",
        "sterna_backlog{to=\"eu\"} 5",
        "sterna_divergence_rows{from=\"eu\"} 2",
        "sterna_sent_bytes_total{peer=\"eu-1\"} 100",
        "sterna_received_bytes_total{peer=\"eu-1\"} 200",
        "sterna_peer_up{peer=\"eu-1\"} 1",
        "sterna_reads_repaired_total 3",
        "sterna_requests_queued 4",
        "sterna_commits_total 6",
        "sterna_ready 1",
        "sterna_bytes_in_flight 0",
    ] {
        assert!(text.lines().any(|have| have == line), "{line} in\n{text}");
    }
    assert!(text.contains("\nsterna_resident_bytes "));
}

#[derive(Debug)]
struct Links(Mutex<Vec<LinkState>>);

impl LinkControl for Links {
    fn links(&self) -> Vec<LinkState> {
        self.0.lock().unwrap().clone()
    }

    fn change(&self, a: &str, b: &str, change: LinkChange) -> Result<LinkState, NoLink> {
        let mut links = self.0.lock().unwrap();
        let link = links
            .iter_mut()
            .find(|link| (link.a == a && link.b == b) || (link.a == b && link.b == a))
            .ok_or(NoLink)?;
        link.cut = change.cut.unwrap_or(link.cut);
        link.rtt_ms = change.rtt_ms.unwrap_or(link.rtt_ms);
        link.bandwidth_mbit = change.bandwidth_mbit.unwrap_or(link.bandwidth_mbit);
        Ok(link.clone())
    }
}

fn link(a: &str, b: &str) -> LinkState {
    LinkState {
        a: a.to_owned(),
        b: b.to_owned(),
        rtt_ms: 80.0,
        jitter_ms: 0.0,
        loss: 0.0,
        bandwidth_mbit: Some(10.0),
        cut: false,
    }
}

#[tokio::test]
async fn links_are_seen_changed_and_cut() {
    let links = Links(Mutex::new(vec![
        link("us", "eu"),
        link("eu", "ap"),
        link("us", "ap"),
    ]));
    let options = Options {
        links: Some(Arc::new(links)),
        ..Options::default()
    };
    let server = Server::start_with(Limits::default(), options).await;
    let all = server.ask("GET", "/v1/dev/links", b"").await.json();
    assert_eq!(all["links"].as_array().unwrap().len(), 3);
    assert_eq!(all["links"][0]["rtt_ms"], 80.0);

    let change = b"{\"rtt_ms\":150,\"bandwidth_mbit\":null}";
    let changed = server
        .ask("POST", "/v1/dev/links/eu/us", change)
        .await
        .json();
    assert_eq!(
        (&changed["rtt_ms"], &changed["bandwidth_mbit"]),
        (&json!(150.0), &json!(null))
    );
    let cut = server
        .ask("POST", "/v1/dev/links/ap/*", b"{\"cut\":true}")
        .await
        .json();
    assert_eq!(cut["links"].as_array().unwrap().len(), 2);
    let all = server.ask("GET", "/v1/dev/links", b"").await.json();
    let cuts: Vec<_> = (0..3).map(|n| all["links"][n]["cut"] == true).collect();
    assert_eq!(cuts, [false, true, true]);

    for (path, body, code) in [
        ("us/mars", "{\"cut\":true}", "no_link"),
        ("mars/*", "{\"cut\":true}", "no_link"),
        ("us/eu", "{}", "bad_body"),
        ("us/eu", "{\"loss\":2}", "bad_body"),
        ("us/eu", "{\"rtt_ms\":-1}", "bad_body"),
        ("us/eu", "{\"bandwidth_mbit\":0}", "bad_body"),
        ("us/eu", "{\"speed\":0}", "bad_body"),
    ] {
        let answer = server
            .ask("POST", &format!("/v1/dev/links/{path}"), body.as_bytes())
            .await;
        assert_eq!(answer.code(), code, "{path} {body}");
    }
}

#[tokio::test]
async fn there_are_no_links_outside_of_dev() {
    let server = Server::start().await;
    assert_eq!(
        server.ask("GET", "/v1/dev/links", b"").await.code(),
        "no_route"
    );
    let cut = server
        .ask("POST", "/v1/dev/links/us/eu", b"{\"cut\":true}")
        .await;
    assert_eq!((cut.status, cut.code()), (404, "no_route".to_owned()));
}

#[tokio::test]
async fn a_scrub_is_begun_and_says_what_was_done_before() {
    let server = Server::start().await;
    let scrub = server.ask("POST", "/v1/scrub", b"").await.json();
    let expected = json!({"running": false, "passes": 2, "partitions_done": 0, "damaged": 0});
    assert_eq!(scrub, expected);
}
