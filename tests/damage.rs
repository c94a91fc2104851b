//! Nodes whose data folders are damaged while they are stopped, or whose disk has no room: they never serve a wrong
//! value, and their peers fill them again. `STERNA_TRUST` sets how many bytes of each kind of file are flipped.
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

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use sterna::cli::client::{Client, Fate};
use sterna::model::Level;

use patience::until;
use process::{Site, words};
use topology::{KEYSPACE, topology};

const NODES: [&str; 3] = ["eu-1", "eu-2", "eu-3"];
/// The node whose folder is damaged.
const HURT: &str = "eu-2";
/// More than a memtable, so that there are tables.
const ROWS: usize = 30;
const ROW_BYTES: usize = 900 << 10;

async fn start_all(site: &mut Site) {
    for node in NODES {
        site.start(node);
    }
    for node in NODES {
        site.ready(node, 2).await;
    }
}

fn value(row: usize) -> Bytes {
    let mut bytes = vec![0; ROW_BYTES];
    fastrand::Rng::with_seed(u64::try_from(row).unwrap()).fill(&mut bytes);
    Bytes::from(bytes)
}

async fn fill(client: &Client) {
    for row in 0..ROWS {
        let key = format!("row-{row}");
        client
            .put(KEYSPACE, key.as_bytes(), value(row))
            .await
            .unwrap();
    }
}

/// What the node reads, by itself and at a quorum: the value, or an error, but never another.
async fn check(client: &Client, level: Level) {
    let client = client.clone().with_level(Some(level));
    for row in 0..ROWS {
        let key = format!("row-{row}");
        if let Ok(found) = client.get(KEYSPACE, key.as_bytes()).await {
            let found = found.unwrap_or_else(|| panic!("{key} is lost at {level:?}"));
            assert!(found.value == value(row), "{key} is wrong at {level:?}");
        }
    }
}

/// The files of a folder, by kind.
fn files(folder: &Path, kind: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if name.contains(".damaged-") {
            continue;
        }
        if path.is_dir() {
            found.extend(files(&path, kind));
            continue;
        }
        let is_table = path.parent().unwrap().ends_with("tables");
        let is_manifest = name.starts_with('v') && name != "version";
        let is_kind = match kind {
            "journal" => name.ends_with(".jnl"),
            "table" => is_table,
            "manifest" => is_manifest && !is_table,
            other => name == other,
        };
        if is_kind {
            found.push(path);
        }
    }
    found
}

/// Flips a bit of a byte that is not zero, somewhere in one of the files of a kind.
fn flip(data: &Path, kind: &str, chance: &mut fastrand::Rng) {
    let mut files = files(data, kind);
    files.sort();
    assert!(!files.is_empty(), "there is no {kind}");
    let path = &files[chance.usize(..files.len())];
    let bytes = fs::read(path).unwrap();
    let used = bytes
        .iter()
        .rposition(|byte| *byte != 0)
        .map_or(0, |at| at + 1);
    let at = chance.usize(..used);
    println!("flip {} at {at} of {used}", path.display());
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    let byte = bytes[at] ^ (1 << chance.u8(..8));
    file.write_all_at(&[byte], u64::try_from(at).unwrap())
        .unwrap();
}

/// Starts the damaged node and has it read everything. If it finds damage it stops, and is started again, as a supervisor
/// of processes would do.
async fn heal(site: &mut Site) {
    for _life in 0..4 {
        site.start(HURT);
        let client = site.client(HURT);
        let mut has_ended = false;
        until("the node is ready, or ends", async || {
            has_ended = site
                .running
                .get_mut(HURT)
                .unwrap()
                .try_wait()
                .unwrap()
                .is_some();
            has_ended || client.status().await.is_ok_and(|status| status.ready)
        })
        .await;
        if !has_ended {
            check(&client, Level::One).await;
            let _refused_or_begun = client.scrub().await;
            until("everything is read, or the node ends", async || {
                has_ended = site
                    .running
                    .get_mut(HURT)
                    .unwrap()
                    .try_wait()
                    .unwrap()
                    .is_some();
                let status = client.status().await;
                has_ended
                    || status
                        .is_ok_and(|status| status.counters.get("scrub_passes_total") >= Some(&1))
            })
            .await;
        }
        if !has_ended {
            return;
        }
        site.ended(HURT).await;
    }
    panic!("the node does not come back:\n{}", site.log(HURT));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_folder_is_never_believed_and_the_peers_heal_it() {
    let seed =
        std::env::var("STERNA_SEED").map_or_else(|_| fastrand::u64(..), |s| s.parse().unwrap());
    println!("seed {seed}");
    let mut chance = fastrand::Rng::with_seed(seed);
    let rounds = std::env::var("STERNA_TRUST").map_or(1, |text| text.parse().unwrap());
    let mut site = Site::new(&topology(
        "damage",
        &[("eu", 3)],
        "scrub_bytes_per_second = 1000000000\n",
        "",
    ));
    start_all(&mut site).await;
    fill(&site.client(NODES[0])).await;
    let data = site.path(&format!("data-{HURT}"));
    for round in 0..rounds {
        for kind in ["journal", "table", "manifest", "current", "version", "tail"] {
            println!("round {round}: {kind}");
            if chance.bool() {
                site.kill(&[HURT]);
            } else {
                assert!(site.terminate(HURT).await.success());
            }
            flip(&data, kind, &mut chance);
            heal(&mut site).await;
            site.ready(HURT, 2).await;
            for level in [Level::One, Level::LocalQuorum] {
                check(&site.client(HURT), level).await;
            }
            let output = site.run(NODES[0], &["verify", "--wait", "60s"]);
            assert!(output.status.success(), "{}", words(&output));
            // They would be refused after the third.
            for n in 1..=3 {
                let aside = data.join(format!("store.damaged-{n}"));
                if aside.exists() {
                    fs::remove_dir_all(aside).unwrap();
                }
            }
            // So that there are tables again.
            fill(&site.client(NODES[0])).await;
        }
    }
    assert!(site.log(HURT).contains("it was set aside"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_peers_refuses_a_damaged_folder_and_names_the_way_out() {
    let mut site = Site::new(&topology("alone", &[("eu", 1)], "", ""));
    site.start(NODES[0]);
    site.ready(NODES[0], 0).await;
    let client = site.client(NODES[0]);
    client.put(KEYSPACE, b"k", Bytes::from("v")).await.unwrap();
    assert!(site.terminate(NODES[0]).await.success());
    let data = site.path(&format!("data-{}", NODES[0]));
    fs::write(data.join("store/version"), b"nonsense").unwrap();
    for _ in 0..2 {
        site.start(NODES[0]);
        assert!(!site.ended(NODES[0]).await.success());
    }
    assert!(site.log(NODES[0]).contains("--start-empty"));
    let mut command = site.serve(NODES[0], &site.file(), &site.path("certs"));
    command.arg("--start-empty");
    site.spawn(NODES[0], command);
    site.ready(NODES[0], 0).await;
    assert!(client.get(KEYSPACE, b"k").await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_is_nearly_full_takes_deletes_only() {
    let limits = "disk_low_bytes = 1125899906842624\n";
    let mut site = Site::new(&topology("full", &[("eu", 3)], limits, ""));
    start_all(&mut site).await;
    let client = site.client(NODES[0]);
    until("writes are refused", async || {
        client.put(KEYSPACE, b"k", Bytes::from("v")).await.is_err()
    })
    .await;
    let error = client
        .put(KEYSPACE, b"k", Bytes::from("v"))
        .await
        .unwrap_err();
    assert_eq!(error.fate(), Fate::Failed);
    assert!(error.to_string().contains("disk is nearly full"), "{error}");
    client.delete(KEYSPACE, b"k").await.unwrap();
    client.get(KEYSPACE, b"k").await.unwrap();
    until("the node says so", async || {
        let status = client.status().await.unwrap();
        status.counters.contains_key("disk_free_bytes")
            && status.counters.get("no_room_total") >= Some(&1)
    })
    .await;
}
