//! Bodies and headers by chance: whatever comes, the door answers, and goes on.

use super::client::Server;

const BODIES: [&str; 4] = [
    "{\"add\":[\"a\",{\"b64\":\"/w==\"}],\"remove\":[\"b\"]}",
    "{\"put\":{\"a\":\"1\"},\"add\":{\"n\":-3},\"remove\":[\"x\"]}",
    "{\"put\":[[\"a\",{\"b64\":\"AA==\"}]],\"add\":[[\"n\",1]]}",
    "{\"items\":[{\"key\":\"k\",\"value\":\"v\",\"ttl\":\"9s\",\"context\":\"AAAA\"}]}",
];

#[tokio::test]
async fn random_bodies_are_answered() {
    let server = Server::start().await;
    let seed = 20_261_123;
    println!("seed {seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut client = server.client().await;
    for round in 0..600 {
        let mut body = BODIES[rng.usize(..BODIES.len())].as_bytes().to_vec();
        for _ in 0..rng.usize(..6) {
            let at = rng.usize(..body.len());
            match rng.u8(..3) {
                0 => body[at] = rng.u8(..),
                1 => body.truncate(at.max(1)),
                _ => body.insert(at, rng.u8(..)),
            }
        }
        let path = [
            "/v1/counter/default/k",
            "/v1/set/default/k",
            "/v1/map/default/k",
            "/v1/batch/carts/put",
            "/v1/batch/carts/get",
        ][rng.usize(..5)];
        let answer = client.ask("POST", path, &[], &body).await;
        let is_known = matches!(answer.status, 200 | 204 | 400 | 409 | 413);
        assert!(is_known, "round {round}: {path} {body:?}: {answer:?}");
    }
}

#[tokio::test]
async fn random_headers_are_answered() {
    let server = Server::start().await;
    let seed = 7;
    println!("seed {seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    let names = [
        "sterna-session",
        "sterna-context",
        "sterna-ttl",
        "sterna-max-staleness",
        "sterna-wait",
        "sterna-when-behind",
        "if-match",
        "if-none-match",
        "idempotency-key",
    ];
    for round in 0..400 {
        let length = rng.usize(..60);
        let value: String = (0..length).map(|_| rng.char('!'..='~')).collect();
        let name = names[rng.usize(..names.len())];
        let (method, body): (&str, &[u8]) = [("GET", b"" as &[u8]), ("PUT", b"v")][rng.usize(..2)];
        // A connection whose request's body was not read is closed.
        let mut client = server.client().await;
        let answer = client
            .ask(method, "/v1/kv/carts/k", &[(name, &value)], body)
            .await;
        let is_known = matches!(answer.status, 200 | 204 | 300 | 400 | 404 | 409);
        assert!(
            is_known,
            "round {round}: {method} {name}: {value}: {answer:?}"
        );
    }
}
