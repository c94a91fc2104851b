//! What a client cannot do to a node: too many connections, too many bytes, nonsense, silence; and how a
//! door closes.

use std::sync::atomic::Ordering;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::model::{Duration, Limits};

use super::super::{Bounds, Options};
use super::client::Server;

async fn bounded(bounds: Bounds) -> Server {
    let options = Options {
        bounds,
        ..Options::default()
    };
    Server::start_with(Limits::default(), options).await
}

#[tokio::test]
async fn connections_beyond_the_limit_are_told_so() {
    let server = bounded(Bounds {
        connections_max: 2,
        ..Bounds::default()
    })
    .await;
    let mut first = server.client().await;
    let mut second = server.client().await;
    assert_eq!(first.ask("GET", "/healthz", &[], b"").await.status, 200);
    assert_eq!(second.ask("GET", "/healthz", &[], b"").await.status, 200);
    let mut third = server.client().await;
    let refused = third.ask("GET", "/healthz", &[], b"").await;
    assert_eq!(
        (refused.status, refused.code()),
        (429, "overloaded".to_owned())
    );
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert_eq!(third.closed().await, b"");
    let metrics = first.ask("GET", "/metrics", &[], b"").await;
    assert!(metrics.text().contains("\nsterna_connections 2\n"));
    assert!(
        metrics
            .text()
            .contains("\nsterna_connections_refused_total 1\n")
    );

    // A place that is left can be taken: the close is done when the server has closed too.
    second.stream.get_mut().shutdown().await.unwrap();
    assert_eq!(second.closed().await, b"");
    let mut status = 429;
    while status == 429 {
        status = server.ask("GET", "/healthz", b"").await.status;
    }
    assert_eq!(status, 200);
}

#[tokio::test]
async fn a_full_node_refuses_what_it_would_have_to_read_and_answers_what_it_has_read() {
    let server = bounded(Bounds::default()).await;
    assert_eq!(
        server.ask("PUT", "/v1/kv/default/a", b"1").await.status,
        204
    );
    server.fake.is_full.store(true, Ordering::SeqCst);
    for (method, path, body) in [
        ("PUT", "/v1/kv/default/a", &b"2"[..]),
        ("POST", "/v1/counter/default/a", b"{\"add\": 1}"),
        ("POST", "/v1/set/default/a", b"{\"add\": [\"m\"]}"),
        ("POST", "/v1/batch/default/put", b"{\"items\": []}"),
    ] {
        let refused = server.ask(method, path, body).await;
        assert_eq!(
            (refused.status, refused.code()),
            (429, "overloaded".to_owned()),
            "{path}"
        );
        assert_eq!(refused.header("retry-after"), Some("1"));
    }
    assert!(
        server.fake.requests.lock().unwrap().len() == 1,
        "nothing reached the node"
    );
    // An answer that the node has worked for is given.
    assert_eq!(server.ask("GET", "/v1/kv/default/a", b"").await.status, 200);
    assert_eq!(server.ask("GET", "/healthz", b"").await.status, 200);
}

#[tokio::test]
async fn bytes_in_flight_are_bounded() {
    let server = bounded(Bounds {
        bytes_in_flight_max: 1_000_000,
        ..Bounds::default()
    })
    .await;
    let value = vec![1; 600_000];
    server.fake.is_held.store(true, Ordering::SeqCst);
    let mut held = server.client().await;
    let held = held.ask("PUT", "/v1/kv/default/a", &[], &value);
    let other = async {
        server.fake.entered.acquire().await.unwrap().forget();
        let refused = server.ask("PUT", "/v1/kv/default/b", &value).await;
        assert_eq!(
            (refused.status, refused.code()),
            (429, "overloaded".to_owned())
        );
        assert_eq!(refused.header("retry-after"), Some("1"));
        server.fake.is_held.store(false, Ordering::SeqCst);
        server.fake.gate.add_permits(1);
    };
    let (held, ()) = tokio::join!(held, other);
    assert_eq!(held.status, 204);

    // What was held is given back, of requests and of answers.
    let mut client = server.client().await;
    for _ in 0..5 {
        assert_eq!(
            client
                .ask("PUT", "/v1/kv/default/b", &[], &value)
                .await
                .status,
            204
        );
        assert_eq!(
            client.ask("GET", "/v1/kv/default/b", &[], b"").await.body,
            value
        );
    }
    let metrics = client.ask("GET", "/metrics", &[], b"").await;
    assert!(metrics.text().contains("\nsterna_bytes_in_flight 0\n"));
}

#[tokio::test]
async fn random_bytes_do_no_harm() {
    let server = Server::start().await;
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    for round in 0..60 {
        let mut bytes = vec![0; rng.usize(1..20_000)];
        rng.fill(&mut bytes);
        if round % 3 == 0 {
            bytes.splice(..0, b"PUT /v1/kv/default/k HTTP/1.1\r\n".iter().copied());
        }
        let mut client = server.client().await;
        client.send(&bytes).await;
        // The server may have closed first.
        drop(client.stream.get_mut().shutdown().await);
        client.closed().await;
    }
    assert_eq!(server.ask("GET", "/healthz", b"").await.status, 200);
}

#[tokio::test]
async fn heads_have_a_limit() {
    let server = Server::start().await;
    let path = format!("/v1/kv/default/{}", "%61".repeat(8192));
    assert_eq!(server.ask("PUT", &path, b"v").await.status, 204);
    let mut client = server.client().await;
    let long = "x".repeat(100_000);
    let answer = client.ask("GET", "/healthz", &[("x", &long)], b"").await;
    assert_eq!(answer.status, 431);
    let mut client = server.client().await;
    let many: Vec<_> = (0..100).map(|_| ("x", "y")).collect();
    let answer = client.ask("GET", "/healthz", &many, b"").await;
    assert_eq!(answer.status, 431);
}

#[tokio::test]
async fn silent_connections_are_closed() {
    let server = bounded(Bounds {
        idle_max: Duration::from_millis(100),
        ..Bounds::default()
    })
    .await;
    let mut idle = server.client().await;
    let mut half = server.client().await;
    half.send(b"GET /healthz HTTP/1.1\r\nhost:").await;
    let mut served = server.client().await;
    assert_eq!(served.ask("GET", "/healthz", &[], b"").await.status, 200);
    tokio::join!(idle.closed(), half.closed(), served.closed());
}

#[tokio::test]
async fn a_stopping_door_finishes_what_is_in_flight() {
    let server = Server::start().await;
    let mut idle = server.client().await;
    assert_eq!(idle.ask("GET", "/healthz", &[], b"").await.status, 200);
    server.fake.is_held.store(true, Ordering::SeqCst);
    let mut client = server.client().await;
    let held = client.ask("PUT", "/v1/kv/default/k", &[], b"v");
    let other = async {
        server.fake.entered.acquire().await.unwrap().forget();
        server.stop.cancel();
        assert_eq!(idle.closed().await, b"");
        while TcpStream::connect(server.address).await.is_ok() {}
        server.fake.gate.add_permits(1);
    };
    let (held, ()) = tokio::join!(held, other);
    assert_eq!(held.status, 204);
    assert_eq!(client.closed().await, b"");
    server.task.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_stopping_door_does_not_wait_for_ever() {
    let server = bounded(Bounds {
        stop_max: Duration::from_millis(50),
        ..Bounds::default()
    })
    .await;
    server.fake.is_held.store(true, Ordering::SeqCst);
    let mut client = server.client().await;
    client
        .send(b"GET /v1/kv/default/k HTTP/1.1\r\nhost: t\r\nsterna-timeout: 60s\r\n\r\n")
        .await;
    server.fake.entered.acquire().await.unwrap().forget();
    server.stop.cancel();
    server.task.await.unwrap().unwrap();
    assert_eq!(client.closed().await, b"");
}
