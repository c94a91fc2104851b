//! Clusters of real nodes in this process: QUIC, TLS, disks. They test that the rooms fit together; the rules
//! have tests of their own.
#![cfg(test)]

#[path = "bed/local.rs"]
mod local;
#[path = "bed/patience.rs"]
mod patience;
#[path = "bed/topology.rs"]
mod topology;

use std::time::Duration;

use bytes::Bytes;
use sterna::cli::client::Client;
use sterna::model::{Level, Write, WriteOp};
use sterna::protocol::{Operation, Outcome, Refusal, Unavailable};
use tokio::net::TcpListener;
use tokio::time::{Instant, interval};

use local::{Cluster, key};
use patience::until;
use topology::topology;

/// An answer that waits for nobody.
const AT_ONCE: Duration = Duration::from_secs(1);

/// Three regions of one node each: the smallest cluster with a third region to go through.
async fn three(name: &str, limits: &str) -> Cluster {
    let regions = [("us", 1), ("eu", 1), ("ap", 1)];
    Cluster::start(&topology(name, &regions, limits, "")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_in_one_region_is_read_in_all() {
    let regions = [("us", 3), ("eu", 3), ("ap", 3)];
    let cluster = Cluster::start(&topology("all", &regions, "", "")).await;
    for (node, value) in [("us-1", "u"), ("eu-2", "e"), ("ap-3", "a")] {
        cluster.put(node, value, value).await;
        for other in ["us-3", "eu-1", "ap-2"] {
            cluster.seen(other, value, Some(value)).await;
        }
    }
    cluster.delete("us-2", "e").await;
    cluster.seen("eu-3", "e", None).await;
    cluster.put("us-1", "x", "each").await;
    let each = cluster
        .write("ap-1", "each", "1", Some(Level::EachQuorum))
        .await;
    assert!(matches!(each, Outcome::Written(_)), "{each:?}");
    let all = cluster.get("eu-2", "each", Level::All).await;
    assert_eq!(all, Some(Bytes::from("1")));
    cluster.equal().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_link_is_gone_round_through_the_third_region() {
    let cluster = three("cut", "").await;
    cluster.set_cut("us", "eu", true);
    for n in 0..20 {
        cluster.put("us-1", &format!("u{n}"), "u").await;
        cluster.put("eu-1", &format!("e{n}"), "e").await;
        cluster.put("ap-1", &format!("a{n}"), "a").await;
    }
    cluster.seen("eu-1", "u19", Some("u")).await;
    cluster.seen("us-1", "e19", Some("e")).await;
    until("the third region relays", async || {
        cluster.counter("ap-1", "relayed_appends_total") > 0
    })
    .await;
    cluster.equal().await;
    cluster.set_cut("us", "eu", false);
    cluster.put("us-1", "after", "1").await;
    cluster.ready().await;
    cluster.seen("eu-1", "after", Some("1")).await;
    cluster.equal().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_away_catches_up_by_the_log() {
    let mut cluster = three("away", "").await;
    cluster.put("eu-1", "before", "1").await;
    let actor = cluster.handle("eu-1").view().actor.clone();
    cluster.stop("eu-1").await;
    for n in 0..200 {
        cluster.put("us-1", &format!("k{n}"), "u").await;
    }
    cluster.start_node("eu-1").await;
    cluster.ready().await;
    cluster.seen("eu-1", "k199", Some("u")).await;
    cluster.equal().await;
    assert_ne!(cluster.handle("eu-1").view().actor, actor, "a new life");
    assert_eq!(cluster.counter("eu-1", "refills_total"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wiped_node_comes_back_as_another_and_is_refilled() {
    let regions = [("us", 3), ("eu", 3)];
    let mut cluster = Cluster::start(&topology("wiped", &regions, "", "")).await;
    for n in 0..100 {
        let node = ["us-1", "us-3", "eu-1"][n % 3];
        cluster.put(node, &format!("k{n}"), "v").await;
    }
    let actor = cluster.handle("us-3").view().actor.clone();
    cluster.stop("us-3").await;
    cluster.wipe("us-3");
    cluster.put("us-1", "meanwhile", "1").await;
    cluster.start_node("us-3").await;
    cluster.ready().await;
    assert_ne!(cluster.handle("us-3").view().actor, actor);
    cluster.equal().await;
    // Half of every quorum is now the one that was refilled.
    cluster.stop("us-1").await;
    until("us-2 misses us-1", async || !cluster.hears("us-2", "us-1")).await;
    for n in 0..100 {
        let found = cluster
            .get("us-2", &format!("k{n}"), Level::LocalQuorum)
            .await;
        assert_eq!(found, Some(Bytes::from("v")), "k{n}");
    }
    cluster.put("us-3", "again", "1").await;
    cluster.seen("eu-1", "again", Some("1")).await;
    cluster.equal().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_region_away_for_longer_than_the_log_is_reconciled_by_digest() {
    let limits = "log_bytes_max = 4096\nrecent_bytes_max = 1024\n";
    let cluster = three("trimmed", limits).await;
    cluster.put("eu-1", "before", "1").await;
    cluster.equal().await;
    cluster.set_cut("eu", "us", true);
    cluster.set_cut("eu", "ap", true);
    // Many times the log, over many rounds of upkeep.
    let until = Instant::now() + Duration::from_secs(3);
    let mut pace = interval(Duration::from_millis(5));
    let mut count = 0;
    while count < 400 || Instant::now() < until {
        pace.tick().await;
        cluster
            .put("us-1", &format!("k{}", count % 1000), vec![b'u'; 300])
            .await;
        count += 1;
    }
    cluster.delete("us-1", "before").await;
    cluster.put("eu-1", "own", "e").await;
    cluster.set_cut("eu", "us", false);
    cluster.set_cut("eu", "ap", false);
    cluster.ready().await;
    cluster.seen("eu-1", "k399", Some(UUU)).await;
    cluster.seen("us-1", "own", Some("e")).await;
    cluster.seen("eu-1", "before", None).await;
    cluster.equal().await;
    assert!(cluster.counter("eu-1", "refills_total") > 0);
}

/// 300 times `u`.
const UUU: &str = match std::str::from_utf8(&[b'u'; 300]) {
    Ok(text) => text,
    Err(_) => "",
};

#[tokio::test(flavor = "multi_thread")]
async fn levels_count_replicas_and_fail_at_once_without_them() {
    let regions = [("us", 3), ("eu", 3)];
    let mut cluster = Cluster::start(&topology("levels", &regions, "", "")).await;
    let check = async |cluster: &Cluster, node: &str, level, is_served: bool| {
        let begun = Instant::now();
        let write = cluster.write(node, "k", "v", Some(level)).await;
        let key = key("k");
        let read = cluster
            .call(node, Operation::Get { key }, Some(level))
            .await;
        if is_served {
            assert!(
                matches!(write, Outcome::Written(_)),
                "{node} {level}: {write:?}"
            );
            assert!(matches!(read, Outcome::Read(_)), "{node} {level}: {read:?}");
        } else {
            let failed = Outcome::Unavailable(Unavailable::Replicas);
            assert_eq!((write, read), (failed.clone(), failed), "{node} {level}");
            assert!(
                begun.elapsed() < AT_ONCE,
                "{node} {level}: {:?}",
                begun.elapsed()
            );
        }
    };
    let missed = async |cluster: &Cluster, gone: &str| {
        until(&format!("all miss {gone}"), async || {
            let others = ["us-1", "eu-1", "eu-2", "eu-3"];
            others.iter().all(|node| !cluster.hears(node, gone))
        })
        .await;
    };
    check(&cluster, "us-1", Level::All, true).await;
    cluster.stop("us-3").await;
    missed(&cluster, "us-3").await;
    for node in ["us-1", "eu-1"] {
        check(&cluster, node, Level::LocalQuorum, true).await;
        check(&cluster, node, Level::EachQuorum, true).await;
        check(&cluster, node, Level::All, false).await;
    }
    cluster.stop("us-2").await;
    missed(&cluster, "us-2").await;
    check(&cluster, "us-1", Level::LocalQuorum, false).await;
    check(&cluster, "eu-1", Level::LocalQuorum, true).await;
    check(&cluster, "eu-1", Level::EachQuorum, false).await;
    cluster.get("us-1", "k", Level::One).await;
    for node in ["us-2", "us-3"] {
        cluster.start_node(node).await;
    }
    cluster.ready().await;
    until("all replicas count again", async || {
        let all = cluster.write("us-2", "k", "w", Some(Level::All)).await;
        matches!(all, Outcome::Written(_))
    })
    .await;
    cluster.equal().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_repairs_what_it_finds_behind() {
    let cluster = Cluster::start(&topology("repair", &[("us", 3)], "", "")).await;
    cluster.set_cut("us-3", "us-", true);
    until("us-3 is missed", async || {
        !cluster.hears("us-1", "us-3") && !cluster.hears("us-2", "us-3")
    })
    .await;
    // The log is long and the link thin, so that a read overtakes it.
    for n in 0..200u8 {
        cluster
            .put("us-1", &format!("k{n}"), vec![n; 16 << 10])
            .await;
    }
    cluster.put("us-1", "last", "1").await;
    cluster.cap("us-3", "us-", 8_000_000);
    cluster.set_cut("us-3", "us-", false);
    until("a read at all replicas", async || {
        let get = Operation::Get { key: key("last") };
        let outcome = cluster.call("us-1", get, Some(Level::All)).await;
        matches!(outcome, Outcome::Read(Some(_)))
    })
    .await;
    until("a repair is counted", async || {
        let nodes = ["us-1", "us-2", "us-3"];
        nodes
            .iter()
            .any(|node| cluster.counter(node, "reads_repaired_total") > 0)
    })
    .await;
    cluster.equal().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_keyspace_of_another_region_is_refused_with_words() {
    let more =
        "[[keyspace]]\nname = \"home\"\nmerge = \"lww\"\nregions = [\"eu\"]\nreplication = 1\n";
    let regions = [("us", 1), ("eu", 2)];
    let cluster = Cluster::start(&topology("home", &regions, "", more)).await;
    let home = cluster.topology.keyspace_named("home").unwrap().id;
    let mut key = key("k");
    key.keyspace = home;
    let op = WriteOp::Put(Bytes::from("v"));
    let write = Operation::Write(Box::new(Write::new(key, op)));
    let outcome = cluster.call("us-1", write.clone(), None).await;
    assert_eq!(outcome, Outcome::Refused(Refusal::KeyspaceElsewhere));
    // Only one of the two holds it; the other passes it on.
    for node in ["eu-1", "eu-2"] {
        let outcome = cluster.call(node, write.clone(), None).await;
        assert!(
            matches!(outcome, Outcome::Written(_)),
            "{node}: {outcome:?}"
        );
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = Client::new(&listener.local_addr().unwrap().to_string()).unwrap();
    let options = sterna::server::Options::default();
    let stop = tokio_util::sync::CancellationToken::new();
    let serve = sterna::server::serve(listener, cluster.handle("us-1"), options, stop.clone());
    let ask = async {
        let error = client.get("home", b"k").await.unwrap_err();
        assert!(error.is_code("keyspace_elsewhere"), "{error}");
        assert!(error.to_string().contains("ask a node of eu"), "{error}");
        let error = client.get("nowhere", b"k").await.unwrap_err();
        assert!(error.is_code("no_keyspace"), "{error}");
        stop.cancel();
    };
    let (served, ()) = tokio::join!(serve, ask);
    served.unwrap();
}
