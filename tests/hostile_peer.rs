//! A node of the cluster gone bad: it has a valid certificate and sends what no sound node sends, while a client writes and
//! reads. The others stay up, stay within their memory, answer right, and say in their logs what was wrong.
#![cfg(test)]

#[path = "hostile_peer/caller.rs"]
mod caller;
#[path = "bed/lives.rs"]
mod lives;
#[path = "bed/patience.rs"]
mod patience;
#[path = "bed/process.rs"]
mod process;
#[path = "messages/samples.rs"]
mod samples;
#[path = "bed/topology.rs"]
mod topology;
#[path = "messages/words.rs"]
mod words;

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use sterna::cli::client::Client;
use sterna::coding::encode;
use sterna::model::{
    Actor, Dot, Incarnation, KeyspaceId, LogItem, NodeId, Row, RowKey, Stamp, Timestamp, Version,
};
use sterna::protocol::{Append, Message};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use caller::{Caller, LANES, closed, frame, packed};
use patience::until;
use process::Site;
use topology::{KEYSPACE, topology};

/// What a node may take beside what it took before the attack, in KiB: the limit of received messages, a frame for each lane
/// with what it is unpacked to, and what the allocator keeps.
const MEMORY_KIB_MAX: u64 = 600 << 10;

/// A cluster of three of which the one that dials the others goes bad; the other two run.
struct Bad {
    site: Site,
    names: Vec<String>,
    client: Client,
    caller: Caller,
}

impl Bad {
    async fn new(cluster: &str) -> Self {
        let mut site = Site::new(&topology(cluster, &[("eu", 3)], "", ""));
        let mut names: Vec<String> = (1..=3).map(|n| format!("eu-{n}")).collect();
        names.sort_by_key(|name| NodeId::of(name));
        for name in &names {
            site.start(name);
        }
        for name in &names {
            site.ready(name, 2).await;
        }
        // From here on somebody else speaks in its name.
        site.kill(&[&names[0]]);
        let victim = &names[1];
        let client = site.client(victim);
        let peer = site.topology.node_named(victim).unwrap().peer.clone();
        let caller = Caller::new(&site.path("certs"), &names[0], &peer);
        Self {
            site,
            names,
            client,
            caller,
        }
    }

    fn victim(&self) -> &str {
        &self.names[1]
    }

    /// The most memory that the victim ever took, in KiB.
    fn memory(&self) -> u64 {
        let id = self.site.running[self.victim()].id();
        let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap();
        let line = status
            .lines()
            .find(|line| line.starts_with("VmHWM:"))
            .unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    async fn said(&self, words: &str) {
        until(&format!("the log says `{words}`"), async || {
            self.site.log(self.victim()).contains(words)
        })
        .await;
    }

    /// Both nodes are up, hear each other, never panicked, and stop when they are asked to.
    async fn end(mut self, before: u64) {
        for name in &self.names[1..] {
            let client = self.site.client(name);
            until(&format!("{name} is well"), async || {
                let status = client.status().await;
                status.is_ok_and(|status| status.ready && status.peers.iter().any(|peer| peer.up))
            })
            .await;
            let log = self.site.log(name);
            assert!(!log.contains("panic"), "{log}");
        }
        // What was slow because a node was up and silent is fast again.
        let start = Instant::now();
        for n in 0..50u32 {
            let key = n.to_be_bytes();
            self.client
                .put(KEYSPACE, &key, Bytes::from_static(b"after"))
                .await
                .unwrap();
            let found = self.client.get(KEYSPACE, &key).await.unwrap().unwrap();
            assert_eq!(found.value, Bytes::from_static(b"after"));
        }
        assert!(
            start.elapsed() < Duration::from_secs(10),
            "{:?}",
            start.elapsed()
        );
        let grown = self.memory() - before;
        println!("{grown} KiB more");
        assert!(grown < MEMORY_KIB_MAX, "{grown} KiB more than before");
        let victim = self.victim().to_owned();
        assert!(self.site.terminate(&victim).await.success());
    }
}

/// A client that writes and reads what it wrote, as long as it is let.
struct Steady {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU32>,
    failed: Arc<AtomicU32>,
    task: JoinHandle<()>,
}

impl Steady {
    fn start(client: Client) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (done, failed) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
        let counts = (Arc::clone(&stop), Arc::clone(&done), Arc::clone(&failed));
        let work = async move {
            let (stop, done, failed) = counts;
            let mut n = 0u32;
            while !stop.load(Ordering::SeqCst) {
                n += 1;
                let (key, value) = (format!("steady {}", n % 50), Bytes::from(n.to_string()));
                if client
                    .put(KEYSPACE, key.as_bytes(), value.clone())
                    .await
                    .is_err()
                {
                    failed.fetch_add(1, Ordering::SeqCst);
                    continue;
                }
                match client.get(KEYSPACE, key.as_bytes()).await {
                    Ok(found) => assert_eq!(found.unwrap().value, value, "{key}"),
                    Err(_) => drop(failed.fetch_add(1, Ordering::SeqCst)),
                }
                done.fetch_add(1, Ordering::SeqCst);
            }
        };
        #[expect(
            clippy::disallowed_methods,
            reason = "the test waits for it, by its handle"
        )]
        let task = tokio::spawn(work);
        Self {
            stop,
            done,
            failed,
            task,
        }
    }

    async fn finish(self) {
        self.stop.store(true, Ordering::SeqCst);
        self.task.await.unwrap();
        let done = self.done.load(Ordering::SeqCst);
        let failed = self.failed.load(Ordering::SeqCst);
        println!("{done} writes and reads, {failed} failed");
        let is_borne = failed * 10 <= done;
        assert!(done > 0 && is_borne, "{failed} of {done} failed");
    }
}

fn message(message: &Message) -> Vec<u8> {
    encode(1, message).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_frame_closes_the_session_with_words() {
    let bad = Bad::new("frames").await;
    let before = bad.memory();
    let steady = Steady::start(bad.client.clone());
    let tiny = message(&Message::CannotRead { id: 1 }).repeat(5_000_000);
    let none = message(&Message::Rows {
        id: 1,
        rows: vec![None; 15_000_000],
    });
    let zeros = vec![0; 40 << 20];
    let length = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap();
    let attacks: Vec<(&str, Vec<u8>)> = vec![
        ("garbled", frame(&[1, 0xee, 0xff])),
        ("version 9", frame(&[9, 9, 9])),
        ("beyond the limit", vec![0xff, 0xff, 0xff, 0xff, 0]),
        ("beyond the limit", vec![0x01, 0x00, 0x40, 0x01, 0]),
        ("unknown flags", vec![1, 0, 0, 0, 0x80, 1]),
        ("an empty frame", frame(&[])),
        ("does not unpack", packed(&zeros, 100)),
        ("beyond the limit", packed(&zeros, u32::MAX)),
        ("does not unpack", vec![5, 0, 0, 0, 1, 200, 0, 0, 0, 77]),
        (
            "more messages than it may have",
            packed(&tiny, length(&tiny)),
        ),
        ("more memory than they may", packed(&none, length(&none))),
        // A list of as many elements as there can be, and none of them there.
        (
            "garbled",
            frame(&[
                1, 9, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01,
            ]),
        ),
    ];
    for (words, bytes) in &attacks {
        for lane in [0, 4] {
            let said = bad.caller.provoke(lane, bytes).await;
            let said = said.unwrap_or_else(|| panic!("left open, not closed with `{words}`"));
            assert!(said.contains(words), "{said}");
        }
        bad.said(words).await;
    }
    steady.finish().await;
    bad.end(before).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_that_no_node_opens_hold_nothing_up() {
    let bad = Bad::new("streams").await;
    let before = bad.memory();
    let steady = Steady::start(bad.client.clone());
    for tags in [&[0, 1, 2, 3, 3][..], &[0, 1, 2, 3, 200]] {
        let (connection, _lanes) = bad.caller.lanes(tags).await;
        let said = closed(&connection, Duration::from_secs(10)).await.unwrap();
        assert!(said.contains("second lane"), "{said}");
    }
    bad.said("second lane").await;
    // Not more streams than lanes, and none in both directions.
    let (connection, mut lanes) = bad.caller.lanes(&LANES).await;
    let wait = Duration::from_millis(300);
    assert!(
        tokio::time::timeout(wait, connection.open_uni())
            .await
            .is_err()
    );
    assert!(
        tokio::time::timeout(wait, connection.open_bi())
            .await
            .is_err()
    );
    lanes[2].finish().unwrap();
    let said = closed(&connection, Duration::from_secs(10)).await.unwrap();
    assert!(said.contains("ended a stream"), "{said}");
    bad.said("ended a stream").await;

    // Many connections whose lanes are filled before all of them are open: what they may hold is bounded.
    let filler = vec![0; 1 << 20];
    let mut half = Vec::new();
    for _ in 0..30 {
        let (connection, mut lanes) = bad.caller.lanes(&LANES[..4]).await;
        for lane in &mut lanes {
            let fill = async {
                for _ in 0..8 {
                    lane.write_all(&filler).await?;
                }
                Ok::<_, quinn::WriteError>(())
            };
            drop(tokio::time::timeout(Duration::from_millis(200), fill).await);
        }
        half.push((connection, lanes));
    }
    for (connection, _) in &half {
        closed(connection, Duration::from_secs(30)).await.unwrap();
    }
    steady.finish().await;
    bad.end(before).await;
}

/// A piece of the bad node's log.
fn piece(bad: &Bad, from: u64, to: u64) -> Message {
    let actor = Actor {
        node: NodeId::of(&bad.names[0]),
        incarnation: Incarnation(5),
    };
    let item = |n: u64| {
        let key = RowKey::plain(KeyspaceId::of(KEYSPACE), Bytes::from(format!("bad {n}")));
        let stamp = Stamp {
            timestamp: Timestamp {
                micros: n,
                logical: 0,
            },
            dot: Dot { actor, n },
        };
        let row = Row::Register(Version::new(stamp, Some(Bytes::from_static(b"bad"))));
        LogItem { n, key, row }
    };
    let items: Vec<LogItem> = (from.saturating_add(1)..=to).take(20).map(item).collect();
    let key = RowKey::plain(KeyspaceId::of(KEYSPACE), Bytes::from_static(b"bad 1"));
    Message::Append(Append {
        partition: key.partition(bad.site.topology.partitions),
        actor,
        from,
        to,
        complete_from: Some(from),
        mark_micros: Some(to),
        items,
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sound_frames_at_the_wrong_time_are_borne() {
    let bad = Bad::new("replays").await;
    let before = bad.memory();
    let steady = Steady::start(bad.client.clone());
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut chance = fastrand::Rng::with_seed(seed);
    let mut recorded: Vec<Vec<u8>> = samples::samples()
        .iter()
        .map(|(_, sample)| frame(&message(sample)))
        .collect();
    for (from, to) in [
        (0, 3),
        (3, 6),
        (1, 2),
        (6, 5),
        (9, 12),
        (0, u64::MAX),
        (u64::MAX, u64::MAX),
        (u64::MAX - 3, u64::MAX),
    ] {
        recorded.push(frame(&message(&piece(&bad, from, to))));
    }
    for round in 0..8 {
        let (connection, mut lanes) = bad.caller.lanes(&LANES).await;
        chance.shuffle(&mut recorded);
        for bytes in &recorded {
            let lane = if round % 2 == 0 { chance.usize(..5) } else { 1 };
            let times = chance.usize(1..4);
            for _ in 0..times {
                // In two pieces: frames come as they like.
                let (head, tail) = bytes.split_at(chance.usize(..bytes.len()));
                if lanes[lane].write_all(head).await.is_err()
                    || lanes[lane].write_all(tail).await.is_err()
                {
                    break;
                }
            }
        }
        // One bit of what is sound is another, again and again.
        let mut flipped = chance.choice(&recorded).unwrap().clone();
        for _ in 0..200 {
            let at = chance.usize(5..flipped.len());
            flipped[at] ^= 1 << chance.u8(..8);
            if lanes[3].write_all(&flipped).await.is_err() {
                break;
            }
        }
        println!(
            "round {round}: {:?}",
            closed(&connection, Duration::from_millis(500)).await
        );
    }
    steady.finish().await;
    bad.end(before).await;
}
