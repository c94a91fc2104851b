//! Topologies for this room's tests.

use std::fmt::Write as _;

use super::Topology;

/// Regions `r0`, `r1`, … with so many nodes each (`r0-0`, …; zones a, b, c in turn) and one keyspace.
pub(super) fn topology(nodes: &[usize], replication: u16, partitions: u16) -> Topology {
    let mut text = format!("cluster = \"test\"\npartitions = {partitions}\n");
    let mut port = 1000;
    for (region, count) in nodes.iter().enumerate() {
        writeln!(text, "[[region]]\nname = \"r{region}\"").unwrap();
        for node in 0..*count {
            let zone = ["a", "b", "c"][node % 3];
            writeln!(
                text,
                "[[region.node]]\nid = \"r{region}-{node}\"\nzone = \"{zone}\"\nhttp = \"127.0.0.1:{port}\"\n\
                 peer = \"127.0.0.1:{}\"",
                port + 1
            )
            .unwrap();
            port += 2;
        }
    }
    writeln!(
        text,
        "[[keyspace]]\nname = \"default\"\nmerge = \"lww\"\nreplication = {replication}"
    )
    .unwrap();
    Topology::parse("test.toml", &text).unwrap()
}
