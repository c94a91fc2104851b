//! What the node's doors measure, and the text of `/metrics`.
//!
//! Names are `sterna_` and a word of the glossary. Two kinds meet here: what the doors count themselves
//! ([`Metrics`], kept between scrapes) and what node, disk and network count ([`Facts`], copied into a
//! fresh registry at each scrape). This file knows no socket, and decides nothing by what it counts.

use std::collections::BTreeMap;
use std::time::Duration;

use prometheus::{
    Encoder, Gauge, Histogram, HistogramOpts, IntCounter, IntGauge, Opts, Registry, TextEncoder,
};

use crate::model::{NodeId, RegionId};
use crate::node::NodeStats;
use crate::placement::Topology;
use crate::protocol::View;

/// Upper bounds of the latency buckets in seconds: from a commit in memory to the longest timeout.
const BUCKETS: [f64; 18] = [
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0, 30.0, 60.0,
];

/// Upper bounds of the buckets of siblings: none, one, and on to the limit.
const SIBLING_BUCKETS: [f64; 8] = [0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0];

/// What a client asked for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Op {
    /// One value was read.
    Get,
    /// One value was written.
    Put,
    /// One value was deleted.
    Delete,
    /// One page of rows was listed.
    List,
    /// A counter was read.
    CounterRead,
    /// A counter was added to, or reset.
    CounterWrite,
    /// A set was looked at.
    SetRead,
    /// A set was changed.
    SetWrite,
    /// A map was looked at.
    MapRead,
    /// A map was changed.
    MapWrite,
    /// Somebody waited for other regions.
    Wait,
}

/// How it ended.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Fate {
    /// OK.
    Ok,
    /// The caller's doing.
    Refused,
    /// FAILED: it did not happen.
    Unavailable,
    /// FAILED, because too much was in flight.
    Overloaded,
    /// UNKNOWN: it may be seen later.
    Unknown,
}

impl Op {
    /// All, in the order of the output.
    pub const ALL: [Self; 11] = [
        Self::Get,
        Self::Put,
        Self::Delete,
        Self::List,
        Self::CounterRead,
        Self::CounterWrite,
        Self::SetRead,
        Self::SetWrite,
        Self::MapRead,
        Self::MapWrite,
        Self::Wait,
    ];

    fn label(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Put => "put",
            Self::Delete => "delete",
            Self::List => "list",
            Self::CounterRead => "counter_read",
            Self::CounterWrite => "counter_write",
            Self::SetRead => "set_read",
            Self::SetWrite => "set_write",
            Self::MapRead => "map_read",
            Self::MapWrite => "map_write",
            Self::Wait => "wait",
        }
    }
}

impl Fate {
    /// All, in the order of the output.
    pub const ALL: [Self; 5] = [
        Self::Ok,
        Self::Refused,
        Self::Unavailable,
        Self::Overloaded,
        Self::Unknown,
    ];

    fn label(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Refused => "refused",
            Self::Unavailable => "unavailable",
            Self::Overloaded => "overloaded",
            Self::Unknown => "unknown",
        }
    }
}

/// What the doors count. Counting takes no lock and no memory: every series exists from the start.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    seconds: BTreeMap<(Op, Fate), Histogram>,
    siblings: Histogram,
    unsafe_writes: IntCounter,
    connections_refused: IntCounter,
    connections: IntGauge,
}

/// What node, disk and network count at the moment of a scrape.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// Names of regions and nodes.
    pub topology: &'a Topology,
    /// This node.
    pub node: NodeId,
    /// Whether it serves.
    pub is_ready: bool,
    /// What its machine sees.
    pub view: &'a View,
    /// What its disk and network count.
    pub stats: &'a NodeStats,
    /// Since the doors opened.
    pub uptime: Duration,
    /// Bytes of requests and answers in flight at the doors.
    pub bytes_in_flight: usize,
}

impl Metrics {
    /// All series at zero. It fails only if two series have one name.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let mut seconds = BTreeMap::new();
        for op in Op::ALL {
            for fate in Fate::ALL {
                let options = HistogramOpts::new(
                    "sterna_request_seconds",
                    "Time from a request's last byte to its outcome, by operation and outcome.",
                )
                .const_label("op", op.label())
                .const_label("outcome", fate.label())
                .buckets(BUCKETS.to_vec());
                let histogram = Histogram::with_opts(options)?;
                registry.register(Box::new(histogram.clone()))?;
                seconds.insert((op, fate), histogram);
            }
        }
        let options = HistogramOpts::new(
            "sterna_siblings",
            "Concurrent values that a read of a key in a siblings keyspace found.",
        );
        let siblings = Histogram::with_opts(options.buckets(SIBLING_BUCKETS.to_vec()))?;
        registry.register(Box::new(siblings.clone()))?;
        let counter = |name: &str, help: &str| -> Result<IntCounter, prometheus::Error> {
            let counter = IntCounter::new(name, help)?;
            registry.register(Box::new(counter.clone()))?;
            Ok(counter)
        };
        let unsafe_writes = counter(
            "sterna_unsafe_writes_total",
            "Writes acknowledged at level unsafe-one: on one disk only.",
        )?;
        let connections_refused = counter(
            "sterna_connections_refused_total",
            "HTTP connections refused because too many were open.",
        )?;
        let connections = IntGauge::new("sterna_connections", "Open HTTP connections.")?;
        registry.register(Box::new(connections.clone()))?;
        Ok(Self {
            registry,
            seconds,
            siblings,
            unsafe_writes,
            connections_refused,
            connections,
        })
    }

    /// Counts an operation that took this long.
    pub fn observe(&self, op: Op, fate: Fate, took: Duration) {
        if let Some(histogram) = self.seconds.get(&(op, fate)) {
            histogram.observe(took.as_secs_f64());
        }
    }

    /// Counts a read that found so many concurrent values.
    pub fn on_siblings(&self, count: usize) {
        self.siblings.observe(float(size(count)));
    }

    /// Counts a write that was acknowledged by one disk.
    pub fn on_unsafe_write(&self) {
        self.unsafe_writes.inc();
    }

    /// Counts a connection that was refused.
    pub fn on_connection_refused(&self) {
        self.connections_refused.inc();
    }

    /// Counts a connection that was opened.
    pub fn on_connection_opened(&self) {
        self.connections.inc();
    }

    /// Counts a connection that was closed.
    pub fn on_connection_closed(&self) {
        self.connections.dec();
    }

    /// The Prometheus text of everything.
    pub fn text(&self, facts: &Facts<'_>) -> Result<Vec<u8>, prometheus::Error> {
        let mut scrape = Scrape {
            registry: Registry::new(),
        };
        scrape.node(facts)?;
        scrape.regions(facts)?;
        scrape.peers(facts)?;
        scrape.named(facts);
        let mut text = Vec::new();
        let encoder = TextEncoder::new();
        encoder.encode(&self.registry.gather(), &mut text)?;
        encoder.encode(&scrape.registry.gather(), &mut text)?;
        Ok(text)
    }
}

/// One scrape: series that live only as long as their text is written.
struct Scrape {
    registry: Registry,
}

impl Scrape {
    fn gauge(
        &self,
        name: &str,
        help: &str,
        labels: &[(&str, &str)],
        value: f64,
    ) -> Result<(), prometheus::Error> {
        let gauge = Gauge::with_opts(labelled(name, help, labels))?;
        gauge.set(value);
        self.registry.register(Box::new(gauge))
    }

    fn count(
        &self,
        name: &str,
        help: &str,
        labels: &[(&str, &str)],
        value: u64,
    ) -> Result<(), prometheus::Error> {
        if !name.ends_with("_total") {
            return self.gauge(name, help, labels, float(value));
        }
        let counter = IntCounter::with_opts(labelled(name, help, labels))?;
        counter.inc_by(value);
        self.registry.register(Box::new(counter))
    }

    fn node(&mut self, facts: &Facts<'_>) -> Result<(), prometheus::Error> {
        let view = facts.view;
        let seconds = facts.uptime.as_secs_f64();
        self.gauge("sterna_uptime_seconds", "Since start.", &[], seconds)?;
        if let Some(bytes) = resident_bytes() {
            let help = "Memory of this process that is in RAM.";
            self.count("sterna_resident_bytes", help, &[], bytes)?;
        }
        let ready = u64::from(facts.is_ready);
        self.count(
            "sterna_ready",
            "1 if every partition serves, each with a quorum of this region.",
            &[],
            ready,
        )?;
        let help = "1 if this node's disk is slow: a neighbour takes its clients' writes.";
        self.count("sterna_slow", help, &[], u64::from(view.is_slow))?;
        for (name, help, value) in [
            ("sterna_partitions", "Partitions here.", view.partitions),
            (
                "sterna_serving_partitions",
                "Partitions here that serve.",
                view.serving,
            ),
            (
                "sterna_available_partitions",
                "Partitions here that serve, and of which a quorum of this region serves.",
                view.available,
            ),
            ("sterna_requests", "Requests in flight.", view.requests),
            (
                "sterna_bytes_in_flight",
                "Bytes of HTTP requests and answers in flight.",
                facts.bytes_in_flight,
            ),
        ] {
            self.gauge(name, help, &[], float(size(value)))?;
        }
        Ok(())
    }

    fn regions(&mut self, facts: &Facts<'_>) -> Result<(), prometheus::Error> {
        let here = facts
            .topology
            .regions
            .iter()
            .find(|region| region.nodes.iter().any(|node| node.id == facts.node))
            .map_or("unknown", |region| region.name.as_str());
        for seen in &facts.view.regions {
            let there = region_name(facts.topology, seen.region);
            if let Some(lag_ms) = seen.lag_ms {
                self.gauge(
                    "sterna_lag_seconds",
                    "Age of the oldest change of region `from` that may be missing here.",
                    &[("from", there), ("to", here)],
                    float(lag_ms) / 1000.0,
                )?;
            }
            self.count(
                "sterna_backlog",
                "Changes of this node that no quorum of region `to` is known to have.",
                &[("to", there)],
                seen.backlog,
            )?;
            self.count(
                "sterna_divergence_rows",
                "Rows that differed in the last reconciliation with region `from`.",
                &[("from", there)],
                seen.divergence,
            )?;
        }
        for (winner, loser, count) in &facts.view.lost {
            let labels = [
                ("winner", region_name(facts.topology, *winner)),
                ("loser", region_name(facts.topology, *loser)),
            ];
            self.count(
                "sterna_conflicts_total",
                "Versions of this node that lost to ones written without knowledge of them.",
                &labels,
                *count,
            )?;
        }
        Ok(())
    }

    fn peers(&mut self, facts: &Facts<'_>) -> Result<(), prometheus::Error> {
        for peer in &facts.view.peers {
            let labels = [("peer", node_name(facts.topology, peer.node))];
            let up = u64::from(peer.is_up);
            self.count("sterna_peer_up", "1 if heard.", &labels, up)?;
            let slow = u64::from(peer.is_slow);
            self.count("sterna_peer_slow", "1 if its disk is slow.", &labels, slow)?;
            let late = u64::from(peer.is_late);
            self.count("sterna_peer_late", "1 if it answers late.", &labels, late)?;
            let help = "Changes of this node that the peer has not got.";
            self.count("sterna_peer_backlog", help, &labels, peer.backlog)?;
        }
        for (name, help, bytes) in [
            (
                "sterna_sent_bytes_total",
                "Bytes of frames sent to a peer.",
                &facts.stats.sent_bytes,
            ),
            (
                "sterna_received_bytes_total",
                "Bytes of frames received from a peer.",
                &facts.stats.received_bytes,
            ),
        ] {
            for (peer, bytes) in bytes {
                let labels = [("peer", node_name(facts.topology, *peer))];
                self.count(name, help, &labels, *bytes)?;
            }
        }
        Ok(())
    }

    /// Counters and queues that other rooms name. A name that is not one, or is there twice, is left out
    /// rather than the whole scrape.
    fn named(&mut self, facts: &Facts<'_>) {
        let view = facts.view;
        let counters = view.counters.iter().map(|(name, value)| (*name, *value));
        let queues = view.queues.iter().map(|(name, held)| (*name, size(*held)));
        let values = facts.stats.values.iter().copied();
        for (name, value) in counters.chain(queues).chain(values) {
            let full = format!("sterna_{name}");
            if let Err(error) = self.count(&full, "As its name says.", &[], value) {
                tracing::debug!(metric = full, %error, "leave a metric out");
            }
        }
    }
}

fn labelled(name: &str, help: &str, labels: &[(&str, &str)]) -> Opts {
    labels
        .iter()
        .fold(Opts::new(name, help), |options, (label, value)| {
            options.const_label(*label, *value)
        })
}

fn region_name(topology: &Topology, id: RegionId) -> &str {
    let region = topology.regions.iter().find(|region| region.id == id);
    region.map_or("unknown", |region| region.name.as_str())
}

fn node_name(topology: &Topology, id: NodeId) -> &str {
    let mut nodes = topology.regions.iter().flat_map(|region| &region.nodes);
    let node = nodes.find(|node| node.id == id);
    node.map_or("unknown", |node| node.name.as_str())
}

/// Prometheus counts in doubles: exact up to 2^53, rounded above.
#[expect(
    clippy::cast_precision_loss,
    reason = "rounding above 2^53 is what Prometheus does itself"
)]
fn float(value: u64) -> f64 {
    value as f64
}

fn size(value: usize) -> u64 {
    u64::try_from(value).unwrap_or(u64::MAX)
}

/// Resident memory, as Linux tells it; nothing elsewhere.
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes: u64 = line?.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Limits;
    use crate::protocol::RegionView;

    #[test]
    fn text_has_what_doors_node_and_disk_count() {
        let metrics = Metrics::new().unwrap();
        metrics.observe(Op::Put, Fate::Ok, Duration::from_millis(3));
        metrics.on_unsafe_write();
        let topology = Topology {
            cluster: "c".to_owned(),
            partitions: 1,
            regions: Vec::new(),
            keyspaces: Vec::new(),
            links: Vec::new(),
            limits: Limits::default(),
        };
        let view = View {
            counters: vec![("reads_repaired_total", 7), ("not a name", 1)],
            queues: vec![("door_queue", 3)],
            regions: vec![RegionView {
                region: RegionId(1),
                lag_ms: Some(1500),
                backlog: 2,
                divergence: 0,
            }],
            ..View::default()
        };
        let stats = NodeStats {
            values: vec![("commits_total", 5), ("reads_repaired_total", 9)],
            ..NodeStats::default()
        };
        let facts = Facts {
            topology: &topology,
            node: NodeId(1),
            is_ready: true,
            view: &view,
            stats: &stats,
            uptime: Duration::from_secs(9),
            bytes_in_flight: 0,
        };
        let text = String::from_utf8(metrics.text(&facts).unwrap()).unwrap();
        for line in [
            "sterna_request_seconds_count{op=\"put\",outcome=\"ok\"} 1",
            "sterna_unsafe_writes_total 1",
            "sterna_uptime_seconds 9",
            "sterna_reads_repaired_total 7",
            "sterna_door_queue 3",
            "sterna_commits_total 5",
            "sterna_lag_seconds{from=\"unknown\",to=\"unknown\"} 1.5",
            "# TYPE sterna_commits_total counter",
            "# TYPE sterna_door_queue gauge",
        ] {
            assert!(text.lines().any(|have| have == line), "{line} in\n{text}");
        }
        assert!(!text.contains("not a name"));
    }
}
