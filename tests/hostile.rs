//! A running node among strangers: noise at its ports, false certificates, and more than it can take.
#![cfg(test)]

#[path = "bed/lives.rs"]
mod lives;
#[path = "bed/patience.rs"]
mod patience;
#[path = "bed/process.rs"]
mod process;
#[path = "bed/topology.rs"]
mod topology;

use std::fs;

use bytes::Bytes;
use sterna::model::NodeId;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::task::JoinSet;

use patience::until;
use process::{Site, words};
use topology::{KEYSPACE, free_port, topology};

/// A node and its neighbour's place, which is empty.
async fn alone(cluster: &str) -> Site {
    let mut site = Site::new(&topology(cluster, &[("eu", 2)], "", ""));
    site.start("eu-1");
    until("eu-1 answers", async || {
        site.client("eu-1").status().await.is_ok()
    })
    .await;
    site
}

#[tokio::test]
async fn noise_at_its_ports_does_a_node_no_harm() {
    let mut site = Site::new(&topology("noise", &[("eu", 1)], "", ""));
    site.start("eu-1");
    site.ready("eu-1", 0).await;
    let client = site.client("eu-1");
    client
        .put(KEYSPACE, b"k", Bytes::from_static(b"v"))
        .await
        .unwrap();
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut chance = fastrand::Rng::with_seed(seed);
    let address = site.endpoint("eu-1");
    let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    for round in 0..200 {
        let mut bytes = vec![0; chance.usize(1..4000)];
        chance.fill(&mut bytes);
        udp.send_to(&bytes[..bytes.len().min(1400)], &address)
            .await
            .unwrap();
        // Some begin as QUIC packets of version 1 do.
        if round % 2 == 0 {
            let mut initial = vec![0xc0 | chance.u8(..16), 0, 0, 0, 1, 8];
            initial.extend_from_slice(&bytes);
            initial.resize(1200, 0);
            udp.send_to(&initial, &address).await.unwrap();
        }
        let mut stream = TcpStream::connect(&address).await.unwrap();
        if round % 3 == 0 {
            bytes.splice(..0, *b"PUT /v1/kv/default/");
        }
        // Whether it takes them all or closes before, it must not matter.
        if stream.write_all(&bytes).await.is_ok() && stream.shutdown().await.is_ok() {
            drop(stream.read_to_end(&mut Vec::new()).await);
        }
    }
    let found = client.get(KEYSPACE, b"k").await.unwrap().unwrap();
    assert_eq!(found.value, Bytes::from_static(b"v"));
    assert!(client.status().await.unwrap().ready);
    assert!(!site.log("eu-1").contains("panic"));
    assert!(site.terminate("eu-1").await.success());
}

/// Waits until a node's log has a line with these words.
async fn said(site: &Site, node: &str, words: &str) {
    until(&format!("{node} says `{words}`"), async || {
        site.log(node).contains(words)
    })
    .await;
}

#[tokio::test]
async fn certificates_of_others_are_refused_and_the_log_says_why() {
    let mut site = alone("certs").await;
    let text = fs::read_to_string(site.file()).unwrap();

    // The right names under another CA.
    site.certify(&site.file(), &site.path("other"));
    let command = site.serve("eu-2", &site.file(), &site.path("other"));
    site.spawn("other-ca", command);
    said(&site, "eu-1", "not valid under this cluster's CA").await;
    site.kill(&["other-ca"]);

    // The right CA, another region.
    let file = site.path("region.toml");
    let second = text.find("[[region.node]]\nid = \"eu-2\"").unwrap();
    let (before, after) = text.split_at(second);
    let after = after.replace("replication = 2", "replication = 1");
    let moved = format!("{before}[[region]]\nname = \"us\"\n\n{after}");
    fs::write(&file, moved).unwrap();
    site.certify(&file, &site.path("certs"));
    let command = site.serve("eu-2", &file, &site.path("certs"));
    site.spawn("other-region", command);
    said(&site, "eu-1", "names another region").await;
    site.kill(&["other-region"]);

    // The right CA and region, a node that nobody knows; it calls, for its id is the smaller one.
    let file = site.path("stranger.toml");
    let stranger = (0..)
        .map(|n: u32| format!("stranger-{n}"))
        .find(|name| NodeId::of(name) < NodeId::of("eu-1"))
        .unwrap();
    fs::write(&file, text.replace("\"eu-2\"", &format!("\"{stranger}\""))).unwrap();
    site.certify(&file, &site.path("certs"));
    let command = site.serve(&stranger, &file, &site.path("certs"));
    site.spawn("stranger", command);
    said(&site, "eu-1", "names a node that").await;
    site.kill(&["stranger"]);

    // Somebody else's certificate under one's own name: not even a start.
    for kind in ["pem", "key"] {
        let file = |node: &str| site.path("certs").join(format!("{node}.{kind}"));
        fs::copy(file("eu-1"), file("eu-2")).unwrap();
    }
    let output = site
        .serve("eu-2", &site.file(), &site.path("certs"))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", words(&output));
    assert!(
        words(&output).contains("the certificate is that of"),
        "{}",
        words(&output)
    );

    let status = site.client("eu-1").status().await.unwrap();
    assert!(status.peers.iter().all(|peer| !peer.up));
}

#[tokio::test]
async fn too_much_is_refused_with_words() {
    let limits = "requests_max = 4\nvalue_bytes_max = 1000\nkey_bytes_max = 100\n";
    let mut site = Site::new(&topology("limits", &[("eu", 1)], limits, ""));
    site.start("eu-1");
    site.ready("eu-1", 0).await;
    let client = site.client("eu-1");
    let put = async |key: usize, value: usize| {
        let (key, value) = (vec![b'k'; key], Bytes::from(vec![b'v'; value]));
        client.put(KEYSPACE, &key, value).await
    };
    put(100, 1000).await.unwrap();
    let error = put(1, 1001).await.unwrap_err();
    assert!(error.is_code("value_size"), "{error}");
    assert!(
        error.to_string().contains("longer than 1000 bytes"),
        "{error}"
    );
    let error = put(101, 1).await.unwrap_err();
    assert!(error.is_code("key_size"), "{error}");
    assert!(
        error.to_string().contains("longer than 100 bytes"),
        "{error}"
    );

    let mut puts = JoinSet::new();
    for n in 0..300u32 {
        let client = client.clone();
        puts.spawn(async move {
            let key = n.to_be_bytes();
            client.put(KEYSPACE, &key, Bytes::from_static(b"v")).await
        });
    }
    let results = puts.join_all().await;
    let refused: Vec<_> = results
        .iter()
        .filter_map(|put| put.as_ref().err())
        .collect();
    assert!(!refused.is_empty(), "all of 300 at once were taken");
    for error in &refused {
        assert!(error.is_code("overloaded"), "{error}");
        assert!(error.to_string().contains("try again"), "{error}");
    }
    assert!(refused.len() < results.len(), "none of 300 was taken");
    put(2, 2).await.unwrap();
}

#[tokio::test]
async fn an_address_that_is_taken_is_named() {
    let site = alone("taken").await;
    // Another cluster on the same HTTP port.
    let text = fs::read_to_string(site.file()).unwrap();
    let spec = site.topology.node_named("eu-1").unwrap();
    let other = text.replace(&spec.peer, &format!("127.0.0.1:{}", free_port()));
    let file = site.path("other.toml");
    fs::write(&file, other).unwrap();
    let output = site
        .serve("eu-1", &file, &site.path("certs"))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", words(&output));
    let said = words(&output);
    assert!(said.contains("is another cluster running"), "{said}");
    assert!(said.contains(&site.endpoint("eu-1")), "{said}");
}

/// Memory that a process takes now, in KiB.
fn memory(site: &Site, node: &str) -> u64 {
    let id = site.running[node].id();
    let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    line.unwrap()
        .split_whitespace()
        .nth(1)
        .unwrap()
        .parse()
        .unwrap()
}

/// Files that this process, and those that it starts, may have open.
fn files_max() -> usize {
    let limits = fs::read_to_string("/proc/self/limits").unwrap();
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"));
    let soft = line.unwrap().split_whitespace().nth(3).unwrap();
    soft.parse().unwrap_or(usize::MAX)
}

#[tokio::test]
async fn idle_connections_cost_little_and_end_somewhere() {
    const SEATS: usize = 10_000;
    let mut site = Site::new(&topology("idle", &[("eu", 1)], "", ""));
    site.start("eu-1");
    site.ready("eu-1", 0).await;
    let client = site.client("eu-1");
    client
        .put(KEYSPACE, b"k", Bytes::from_static(b"v"))
        .await
        .unwrap();
    let before = memory(&site, "eu-1");
    // As many as there may be, where the system allows that.
    let count = (SEATS + 50).min(files_max().saturating_sub(400));
    let mut idle = Vec::new();
    for _ in 0..count {
        idle.push(TcpStream::connect(site.endpoint("eu-1")).await.unwrap());
    }
    if count > SEATS {
        let mut answer = Vec::new();
        let last = idle.last_mut().unwrap();
        last.read_to_end(&mut answer).await.unwrap();
        assert!(answer.starts_with(b"HTTP/1.1 429 "), "{answer:?}");
    }
    // The client's own connection was there before.
    let found = client.get(KEYSPACE, b"k").await.unwrap().unwrap();
    assert_eq!(found.value, Bytes::from_static(b"v"));
    let grown = memory(&site, "eu-1").saturating_sub(before);
    println!("{count} connections, {grown} KiB more");
    let each = grown * 1024 / u64::try_from(count).unwrap();
    assert!(each < 24 << 10, "{each} bytes for an idle connection");
}
