//! How a development cluster does, for the one who started it: a view redrawn on a terminal, or a line now
//! and then.

use std::collections::BTreeMap;
use std::io::{self, Write};

use comfy_table::Table;
use comfy_table::presets::{NOTHING, UTF8_FULL_CONDENSED};

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

impl Sight {
    fn worst_lag(&self) -> String {
        let lags = self.lag_ms.values().flatten();
        lags.max().map_or_else(|| "?".to_owned(), u64::to_string)
    }
}

impl Live {
    /// Draws the view over the last one, in lines of at most `width` characters, so that the terminal breaks
    /// none of them.
    pub(super) fn draw(
        &mut self,
        out: &mut dyn Write,
        now: Time,
        width: usize,
        topology: &Topology,
        handles: &[Handle],
    ) -> io::Result<()> {
        let seconds = now.since(self.drawn_at).as_secs_f64().max(0.001);
        self.drawn_at = now;
        let sent: u64 = self.sent_since(handles);
        let sights: Vec<(String, Sight)> = (topology.regions.iter())
            .map(|region| (region.name.clone(), sight(topology, region, handles)))
            .collect();
        let mut text = fitting(&sights, seconds, width);
        let sent = rate(sent / 1024, seconds);
        text.push_str(&cut(
            &format!("between nodes {sent} KiB/s    Ctrl-C stops"),
            width,
        ));
        text.push('\n');
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

/// The fullest of the tables whose lines are not longer than `width`; of none, the narrowest, cut.
fn fitting(sights: &[(String, Sight)], seconds: f64, width: usize) -> String {
    let whole = [full, brief].map(|form| form(sights, seconds).to_string());
    let is_fit = |text: &&String| text.lines().all(|line| line.chars().count() <= width);
    let text = whole.iter().find(is_fit).or(whole.last());
    let lines = text.into_iter().flat_map(|text| text.lines());
    lines.map(|line| cut(line, width) + "\n").collect()
}

fn cut(line: &str, width: usize) -> String {
    line.chars().take(width).collect()
}

/// Lag and backlog for each other region.
fn full(sights: &[(String, Sight)], seconds: f64) -> Table {
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
    for (region, sight) in sights {
        let lag = sight.lag_ms.iter().map(|(name, lag)| {
            lag.map_or_else(|| format!("{name} ?"), |lag| format!("{name} {lag} ms"))
        });
        let backlog = sight.backlog.iter().map(|(name, n)| format!("{name} {n}"));
        table.add_row([
            region.clone(),
            format!("{}/{}", sight.up, sight.nodes),
            rate(sight.writes, seconds),
            rate(sight.reads, seconds),
            format!("{:.1} ms", sight.p50_ms),
            format!("{:.1} ms", sight.p99_ms),
            lag.collect::<Vec<String>>().join("  "),
            backlog.collect::<Vec<String>>().join("  "),
            sight.divergence.to_string(),
        ]);
    }
    table
}

/// The worst lag, and the sum of the backlog.
fn brief(sights: &[(String, Sight)], seconds: f64) -> Table {
    let mut table = Table::new();
    table.load_preset(NOTHING);
    table.set_header([
        "region", "up", "writes/s", "reads/s", "p99 ms", "lag ms", "backlog", "diverged",
    ]);
    for (region, sight) in sights {
        table.add_row([
            region.clone(),
            format!("{}/{}", sight.up, sight.nodes),
            rate(sight.writes, seconds),
            rate(sight.reads, seconds),
            format!("{:.1}", sight.p99_ms),
            sight.worst_lag(),
            sight.backlog.values().sum::<u64>().to_string(),
            sight.divergence.to_string(),
        ]);
    }
    table
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
        let lag = sight.worst_lag();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_line_is_longer_than_the_terminal_is_wide() {
        let others = ["eu-central-1", "ap-northeast-1"];
        let sights: Vec<(String, Sight)> = (0..3)
            .map(|n| {
                let sight = Sight {
                    lag_ms: others.map(|name| (name.to_owned(), Some(120))).into(),
                    backlog: others.map(|name| (name.to_owned(), 4_000)).into(),
                    nodes: 3,
                    ..Sight::default()
                };
                (format!("us-east-{n}"), sight)
            })
            .collect();
        for width in [20, 60, 80, 120, 150, 200] {
            let text = fitting(&sights, 1.0, width);
            let longest = text.lines().map(|line| line.chars().count()).max();
            assert!(longest <= Some(width), "{width}:\n{text}");
            assert!(text.contains("us-east-2"), "{text}");
        }
        assert!(fitting(&sights, 1.0, 200).contains("ap-northeast-1 120 ms"));
        assert!(fitting(&sights, 1.0, 80).contains("8000"));
    }
}
