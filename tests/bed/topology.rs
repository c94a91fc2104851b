//! Topology files for tests: regions of nodes on free ports of this machine. It starts nothing.

use std::fmt::Write as _;
use std::net::{TcpListener, UdpSocket};
use std::sync::atomic::{AtomicU32, Ordering};

/// The keyspace of every topology made here.
pub(crate) const KEYSPACE: &str = "default";

/// Short times, so that tests need not wait; long enough for a machine that does much else.
const LIMITS: &str = "heartbeat_every_ms = 100\nsilence_max_ms = 1500\nreconcile_every_ms = 500\nupkeep_every_ms = 200\n";

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A port that is free for TCP and for UDP, and is given once in this process. It lies below those that the
/// system gives to outgoing connections, so it stays free while a node that uses it is down.
pub(crate) fn free_port() -> u16 {
    let start = std::process::id().wrapping_mul(211);
    loop {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = 10_000 + start.wrapping_add(step) % 20_000;
        let port = u16::try_from(port).unwrap();
        let tcp = TcpListener::bind(("127.0.0.1", port));
        if tcp.is_ok() && UdpSocket::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// The text of a topology: regions with so many nodes each, named `<region>-1` and so on, a keyspace in all of
/// them, and links of a few milliseconds. `limits` are added to the usual ones of tests, `more` stands at the end.
pub(crate) fn topology(
    cluster: &str,
    regions: &[(&str, usize)],
    limits: &str,
    more: &str,
) -> String {
    let mut text =
        format!("cluster = \"{cluster}\"\npartitions = 4\n\n[limits]\n{LIMITS}{limits}\n");
    for (region, nodes) in regions {
        write!(text, "[[region]]\nname = \"{region}\"\n\n").unwrap();
        for number in 1..=*nodes {
            let (http, peer) = (free_port(), free_port());
            write!(
                text,
                "[[region.node]]\nid = \"{region}-{number}\"\nzone = \"{number}\"\n\
                 http = \"127.0.0.1:{http}\"\npeer = \"127.0.0.1:{peer}\"\n\n"
            )
            .unwrap();
        }
    }
    let replication = regions
        .iter()
        .map(|(_, nodes)| *nodes)
        .min()
        .unwrap()
        .min(3);
    write!(
        text,
        "[[keyspace]]\nname = \"{KEYSPACE}\"\nmerge = \"lww\"\nreplication = {replication}\n\n"
    )
    .unwrap();
    for (index, (a, _)) in regions.iter().enumerate() {
        for (b, _) in &regions[index + 1..] {
            write!(
                text,
                "[[link]]\nbetween = [\"{a}\", \"{b}\"]\nrtt_ms = 4\n\n"
            )
            .unwrap();
        }
    }
    text + more
}
