//! Nodes as processes that are killed, or asked to stop, while clients write. `STERNA_CRASH_ROUNDS` sets how
//! often the whole region is killed.
#![cfg(test)]

#[path = "bed/errand.rs"]
mod errand;
#[path = "bed/lives.rs"]
mod lives;
#[path = "bed/patience.rs"]
mod patience;
#[path = "bed/process.rs"]
mod process;
#[path = "bed/topology.rs"]
mod topology;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use sterna::cli::client::{Client, Error, Fate};
use sterna::model::Level;
use tokio::task::JoinSet;
use tokio::time::interval;

use patience::until;
use process::{Site, words};
use topology::{KEYSPACE, topology};

const NODES: [&str; 3] = ["eu-1", "eu-2", "eu-3"];
const WRITERS: usize = 9;

/// Clients that write as fast as they are answered, and remember what was acknowledged.
struct Writers {
    tasks: JoinSet<Written>,
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicUsize>,
}

/// What one client knows.
#[derive(Default)]
struct Written {
    /// Acknowledged, by key: the last value.
    acknowledged: BTreeMap<String, u64>,
    /// Everything that was not, with what was said.
    failed: Vec<Error>,
}

impl Writers {
    /// Clients of these nodes; each writes new keys and one key again and again.
    fn start(site: &Site, nodes: &[&str], name: &str) -> Self {
        let (stop, acknowledged) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicUsize::new(0)),
        );
        let mut tasks = JoinSet::new();
        for writer in 0..WRITERS {
            let client = site.client(nodes[writer % nodes.len()]);
            let client = client.with_timeout(Some(Duration::from_secs(20)));
            let (stop, acknowledged) = (Arc::clone(&stop), Arc::clone(&acknowledged));
            tasks.spawn(write(
                client,
                format!("{name}-{writer}"),
                stop,
                acknowledged,
            ));
        }
        Self {
            tasks,
            stop,
            acknowledged,
        }
    }

    /// Waits for so many more acknowledgements.
    async fn more(&self, count: usize) {
        let wanted = self.acknowledged.load(Ordering::Relaxed) + count;
        until("writes are acknowledged", async || {
            self.acknowledged.load(Ordering::Relaxed) >= wanted
        })
        .await;
    }

    async fn stop(self) -> Written {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Written::default();
        for written in self.tasks.join_all().await {
            all.acknowledged.extend(written.acknowledged);
            all.failed.extend(written.failed);
        }
        all
    }
}

async fn write(
    client: Client,
    name: String,
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicUsize>,
) -> Written {
    let mut written = Written::default();
    let mut pace = interval(Duration::from_millis(2));
    let mut n = 0;
    while !stop.load(Ordering::Relaxed) {
        pace.tick().await;
        n += 1;
        let key = if n % 2 == 0 {
            name.clone()
        } else {
            format!("{name}-{n}")
        };
        let value = Bytes::from(n.to_string());
        match client.put(KEYSPACE, key.as_bytes(), value).await {
            Ok(_) => {
                written.acknowledged.insert(key, n);
                acknowledged.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => written.failed.push(error),
        }
    }
    written
}

/// Every acknowledged write is read, or a later one of the same key.
async fn check_all(client: &Client, acknowledged: &BTreeMap<String, u64>) {
    let client = client.clone().with_level(Some(Level::LocalQuorum));
    for (key, n) in acknowledged {
        let found = client.get(KEYSPACE, key.as_bytes()).await.unwrap();
        let found = found.unwrap_or_else(|| panic!("{key} is lost"));
        let value: u64 = std::str::from_utf8(&found.value).unwrap().parse().unwrap();
        assert!(value >= *n, "{key}: {value} was read, {n} was acknowledged");
    }
}

fn verify(site: &Site) {
    let output = site.run(NODES[1], &["verify", "--wait", "60s"]);
    assert!(output.status.success(), "{}", words(&output));
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_writes_outlive_the_death_of_all_nodes() {
    let rounds = std::env::var("STERNA_CRASH_ROUNDS");
    let rounds: usize = rounds.map_or(2, |text| text.parse().unwrap());
    let mut site = Site::new(&topology("crash", &[("eu", 3)], "", ""));
    let mut acknowledged = BTreeMap::new();
    for round in 0..=rounds {
        for node in NODES {
            site.start(node);
        }
        for node in NODES {
            site.ready(node, 2).await;
        }
        check_all(&site.client(NODES[round % 3]), &acknowledged).await;
        if round == rounds {
            break;
        }
        let writers = Writers::start(&site, &NODES, &format!("round {round}"));
        writers.more(300).await;
        site.kill(&NODES);
        acknowledged.extend(writers.stop().await.acknowledged);
    }
    verify(&site);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_death_of_one_node_is_not_noticed_by_clients_of_the_others() {
    let mut site = Site::new(&topology("one", &[("eu", 3)], "", ""));
    for node in NODES {
        site.start(node);
    }
    for node in NODES {
        site.ready(node, 2).await;
    }
    let writers = Writers::start(&site, &NODES[..2], "one");
    writers.more(100).await;
    site.kill(&[NODES[2]]);
    writers.more(200).await;
    let client = site.client(NODES[0]);
    until("the dead node is missed", async || {
        let status = client.status().await.unwrap();
        status.peers.iter().any(|peer| !peer.up)
    })
    .await;
    writers.more(100).await;
    site.start(NODES[2]);
    for node in NODES {
        site.ready(node, 2).await;
    }
    writers.more(100).await;
    let written = writers.stop().await;
    let failed: Vec<_> = (written.failed.iter())
        .map(|error| (error.fate(), error.to_string()))
        .collect();
    assert!(failed.is_empty(), "{failed:?}");
    check_all(&site.client(NODES[2]), &written.acknowledged).await;
    verify(&site);
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_stops_cleanly_and_a_new_life_begins() {
    let mut site = Site::new(&topology("term", &[("eu", 3)], "", ""));
    for node in NODES {
        site.start(node);
    }
    for node in NODES {
        site.ready(node, 2).await;
    }
    let actor = site.client(NODES[0]).status().await.unwrap().actor;
    let writers = Writers::start(&site, &NODES, "term");
    writers.more(100).await;
    let begun = tokio::time::Instant::now();
    let status = site.terminate(NODES[0]).await;
    assert!(status.success(), "{status}");
    assert!(begun.elapsed() < Duration::from_secs(15));
    writers.more(100).await;
    site.start(NODES[0]);
    site.ready(NODES[0], 2).await;
    let written = writers.stop().await;
    assert!(site.log(NODES[0]).contains("clean=true"));
    assert_ne!(site.client(NODES[0]).status().await.unwrap().actor, actor);
    // Those who spoke to the stopping node were told that it stops, or found nobody.
    let unknown: Vec<_> = (written.failed.iter())
        .filter(|error| matches!(error, Error::Server { .. }) && error.fate() == Fate::Unknown)
        .collect();
    assert!(unknown.is_empty(), "{unknown:?}");
    check_all(&site.client(NODES[0]), &written.acknowledged).await;
    verify(&site);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_is_ready_only_with_a_quorum_of_its_region() {
    let mut site = Site::new(&topology("quorum", &[("eu", 3)], "", ""));
    for node in NODES {
        site.start(node);
    }
    let client = site.client(NODES[0]);
    let is_ready = async |client: &Client| client.status().await.is_ok_and(|status| status.ready);
    until("the node is ready", async || is_ready(&client).await).await;
    client
        .put(KEYSPACE, b"k", Bytes::from("first"))
        .await
        .unwrap();
    site.kill(&NODES[1..]);
    until("it is alone", async || {
        let status = client.status().await.unwrap();
        assert_eq!(status.serving, status.partitions);
        status.available == 0
    })
    .await;
    assert!(!is_ready(&client).await);
    site.start(NODES[1]);
    until("it is again", async || is_ready(&client).await).await;
    client
        .put(KEYSPACE, b"k", Bytes::from("second"))
        .await
        .unwrap();
    // A new life says so no sooner than it can answer, too.
    let client = site.client(NODES[1]);
    until("the other is", async || is_ready(&client).await).await;
    let found = client.get(KEYSPACE, b"k").await.unwrap();
    assert_eq!(found.unwrap().value, "second");
}
