//! How a development cluster does, for the one who started it: a view redrawn on a terminal, or a line now
//! and then.

use std::collections::BTreeMap;
use std::io::{self, Write};

use comfy_table::Table;
use comfy_table::presets::UTF8_FULL_CONDENSED;

use crate::model::{NodeId, Time};
use crate::node::Handle;
use crate::placement::{Region, Topology};

/// The view, which draws over itself.
#[derive(Debug, Default)]
pub(super) struct Live {
    lines: usize,
    drawn_at: Time,
    sent: BTreeMap<NodeId, u64>,
}

/// What is seen of a region: the sum or the worst of its nodes.
#[derive(Debug, Default)]
struct Sight {
    writes: u64,
    reads: u64,
    p50_ms: f64,
    p99_ms: f64,
    /// By region that changes come from.
    lag_ms: BTreeMap<String, Option<u64>>,
    /// By region that changes go to.
    backlog: BTreeMap<String, u64>,
    divergence: u64,
    up: usize,
    nodes: usize,
}

fn sight(topology: &Topology, region: &Region, handles: &[Handle]) -> Sight {
    let mut sight = Sight {
        nodes: region.nodes.len(),
        ..Sight::default()
    };
    for handle in handles
        .iter()
        .filter(|handle| region.nodes.iter().any(|node| node.id == handle.node()))
    {
        let (writes, reads, view) = (handle.recent_writes(), handle.recent_reads(), handle.view());
        sight.writes += writes.count;
        sight.reads += reads.count;
        sight.p50_ms = sight.p50_ms.max(writes.p50.as_secs_f64() * 1e3);
        sight.p99_ms = sight.p99_ms.max(writes.p99.as_secs_f64() * 1e3);
        sight.up += usize::from(handle.is_ready());
        for other in &view.regions {
            let name = topology
                .region(other.region)
                .map_or_else(String::new, |region| region.name.clone());
            let lag = sight.lag_ms.entry(name.clone()).or_default();
            *lag = (*lag).max(other.lag_ms);
            *sight.backlog.entry(name).or_default() += other.backlog;
            sight.divergence += other.divergence;
        }
    }
    sight
}

impl Live {
    /// Draws the view over the last one.
    pub(super) fn draw(
        &mut self,
        out: &mut dyn Write,
        now: Time,
        topology: &Topology,
        handles: &[Handle],
    ) -> io::Result<()> {
        let seconds = now.since(self.drawn_at).as_secs_f64().max(0.001);
        self.drawn_at = now;
        let sent: u64 = self.sent_since(handles);
        let mut table = Table::new();
        table.load_preset(UTF8_FULL_CONDENSED);
        table.set_header([
            "region",
            "nodes",
            "writes/s",
            "reads/s",
            "commit p50",
            "p99",
            "lag from",
            "backlog to",
            "diverged",
        ]);
        for region in &topology.regions {
            let sight = sight(topology, region, handles);
            let join = |parts: Vec<String>| parts.join("  ");
            let lag = sight.lag_ms.iter().map(|(name, lag)| {
                lag.map_or_else(|| format!("{name} ?"), |lag| format!("{name} {lag} ms"))
            });
            table.add_row([
                region.name.clone(),
                format!("{}/{}", sight.up, sight.nodes),
                rate(sight.writes, seconds),
                rate(sight.reads, seconds),
                format!("{:.1} ms", sight.p50_ms),
                format!("{:.1} ms", sight.p99_ms),
                join(lag.collect()),
                join(
                    sight
                        .backlog
                        .iter()
                        .map(|(name, n)| format!("{name} {n}"))
                        .collect(),
                ),
                sight.divergence.to_string(),
            ]);
        }
        let text = format!(
            "{table}\nbetween nodes {} KiB/s    Ctrl-C stops\n",
            rate(sent / 1024, seconds)
        );
        if self.lines > 0 {
            write!(out, "\x1b[{}A\x1b[J", self.lines)?;
        }
        self.lines = text.lines().count();
        out.write_all(text.as_bytes())
    }

    fn sent_since(&mut self, handles: &[Handle]) -> u64 {
        let mut sum = 0;
        for handle in handles {
            let total: u64 = handle
                .stats()
                .sent_bytes
                .iter()
                .map(|(_, bytes)| bytes)
                .sum();
            let before = self.sent.insert(handle.node(), total).unwrap_or(total);
            sum += total.saturating_sub(before);
        }
        sum
    }
}

#[expect(clippy::cast_precision_loss, reason = "a rate for people")]
fn rate(count: u64, seconds: f64) -> String {
    format!("{:.0}", count as f64 / seconds)
}

/// One line for logs.
pub(super) fn plain_line(
    out: &mut dyn Write,
    topology: &Topology,
    handles: &[Handle],
) -> io::Result<()> {
    for region in &topology.regions {
        let sight = sight(topology, region, handles);
        let lag = sight
            .lag_ms
            .values()
            .flatten()
            .max()
            .map_or_else(|| "?".to_owned(), u64::to_string);
        write!(
            out,
            "{} {}/{} up, {} writes p50 {:.1} ms p99 {:.1} ms, lag {lag} ms, backlog {}, diverged {}; ",
            region.name,
            sight.up,
            sight.nodes,
            sight.writes,
            sight.p50_ms,
            sight.p99_ms,
            sight.backlog.values().sum::<u64>(),
            sight.divergence,
        )?;
    }
    writeln!(out)
}
