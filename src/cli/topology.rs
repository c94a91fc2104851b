//! `sterna topology`: checks a topology file, and draws what it makes of it. It knows the file only; whether
//! the cluster runs, it does not ask.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::Path;

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{CellAlignment, Table};

use crate::model::{Duration, NodeId};
use crate::placement::{LinkShape, Placement, Region, Topology, TopologyError};

/// Why a topology file was not checked or drawn.
#[derive(Debug, thiserror::Error)]
pub enum TopologyFileError {
    /// The file cannot be read.
    #[error("read {file}: {error}")]
    Read {
        /// The file.
        file: String,
        /// Why.
        error: io::Error,
    },
    /// The file is wrong.
    #[error(transparent)]
    Wrong(#[from] TopologyError),
    /// The answer cannot be written.
    #[error("write the answer: {0}")]
    Write(#[from] io::Error),
}

/// Reads and checks a topology file.
pub(super) fn load(file: &Path) -> Result<Topology, TopologyFileError> {
    let name = file.display().to_string();
    match std::fs::read_to_string(file) {
        Ok(text) => Ok(Topology::parse(&name, &text)?),
        Err(error) => Err(TopologyFileError::Read { file: name, error }),
    }
}

/// `sterna topology check FILE`: one line if the file is right, and the first mistake if it is not.
pub(super) fn check(file: &Path, out: &mut dyn Write) -> Result<(), TopologyFileError> {
    let topology = load(file)?;
    writeln!(
        out,
        "{}: ok, cluster {}: {}, {}, {}, {}",
        file.display(),
        topology.cluster,
        count(topology.regions.len(), "region"),
        count(topology.nodes().count(), "node"),
        count(topology.keyspaces.len(), "keyspace"),
        count(usize::from(topology.partitions), "partition"),
    )?;
    Ok(())
}

/// `sterna topology show FILE`: regions with their nodes, keyspaces, links, and who holds what, as tables.
pub(super) fn show(file: &Path, out: &mut dyn Write) -> Result<(), TopologyFileError> {
    let topology = load(file)?;
    let placement = Placement::new(&topology);
    writeln!(
        out,
        "cluster {}, {} in every keyspace",
        topology.cluster,
        count(usize::from(topology.partitions), "partition")
    )?;
    writeln!(out, "\nNodes\n{}", nodes(&topology, &placement))?;
    writeln!(out, "\nKeyspaces\n{}", keyspaces(&topology))?;
    if topology.regions.len() > 1 {
        writeln!(out, "\nRound-trip times in ms\n{}", round_trips(&topology))?;
    }
    if !topology.links.is_empty() {
        writeln!(out, "\nLinks\n{}", links(&topology))?;
    }
    Ok(())
}

fn count(n: usize, thing: &str) -> String {
    let plural = if n == 1 { "" } else { "s" };
    format!("{n} {thing}{plural}")
}

fn table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_preset(UTF8_FULL_CONDENSED).set_header(header);
    table
}

fn align_right(table: &mut Table, columns: impl IntoIterator<Item = usize>) {
    for index in columns {
        if let Some(column) = table.column_mut(index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
}

/// Every node: where it is, and how many partitions it holds, and of those, is first in line for.
fn nodes(topology: &Topology, placement: &Placement) -> Table {
    let mut table = table([
        "region",
        "node",
        "zone",
        "http",
        "peer",
        "weight",
        "partitions",
        "first in line",
    ]);
    for region in &topology.regions {
        let mut region_name = region.name.as_str();
        for node in &region.nodes {
            let held = placement.partitions_of(node.id).len();
            table.add_row([
                region_name.to_owned(),
                node.name.clone(),
                node.zone.clone(),
                node.http.clone(),
                node.peer.clone(),
                node.weight.to_string(),
                held.to_string(),
                first_in_line(placement, region, node.id).to_string(),
            ]);
            region_name = "";
        }
    }
    align_right(&mut table, 5..8);
    table
}

fn first_in_line(placement: &Placement, region: &Region, node: NodeId) -> usize {
    let held = placement.partitions_of(node).iter();
    held.filter(|partition| placement.replicas(**partition, region.id).first() == Some(&node))
        .count()
}

fn keyspaces(topology: &Topology) -> Table {
    let mut table = table([
        "keyspace",
        "merge",
        "replication",
        "consistency",
        "ttl",
        "conflicts kept",
        "regions",
    ]);
    for keyspace in &topology.keyspaces {
        let homes = keyspace
            .regions
            .iter()
            .filter_map(|id| topology.region(*id));
        let homes: Vec<&str> = homes.map(|region| region.name.as_str()).collect();
        table.add_row([
            keyspace.name.clone(),
            keyspace.merge.to_string(),
            keyspace.replication.to_string(),
            keyspace.consistency.to_string(),
            keyspace.ttl.map_or_else(|| "-".to_owned(), span),
            keyspace.conflicts_kept.map_or_else(|| "-".to_owned(), span),
            homes.join(" "),
        ]);
    }
    align_right(&mut table, [2, 4, 5]);
    table
}

/// A span in the greatest unit that it is a whole number of.
fn span(span: Duration) -> String {
    let seconds = span.as_secs();
    let units = [(86_400, "d"), (3_600, "h"), (60, "m")];
    let whole = units
        .iter()
        .find(|(unit, _)| seconds >= *unit && seconds.is_multiple_of(*unit));
    whole.map_or_else(
        || format!("{seconds}s"),
        |(unit, name)| format!("{}{name}", seconds / unit),
    )
}

/// All pairs of regions; a dot where the file names no link.
fn round_trips(topology: &Topology) -> Table {
    let mut table = Table::new();
    let names = topology.regions.iter().map(|region| region.name.as_str());
    table
        .load_preset(UTF8_FULL_CONDENSED)
        .set_header(std::iter::once("").chain(names));
    for row in &topology.regions {
        let cells = topology
            .regions
            .iter()
            .map(|column| match topology.link(row.id, column.id) {
                Some(shape) => ms(shape.rtt),
                None if row.id == column.id => "-".to_owned(),
                None => ".".to_owned(),
            });
        table.add_row(std::iter::once(row.name.clone()).chain(cells));
    }
    align_right(&mut table, 1..=topology.regions.len());
    table
}

fn links(topology: &Topology) -> Table {
    let mut table = table([
        "link",
        "rtt ms",
        "jitter ms",
        "loss %",
        "reorder %",
        "Mbit/s",
    ]);
    for link in &topology.links {
        let name = |id| {
            topology
                .region(id)
                .map_or("?", |region| region.name.as_str())
        };
        let LinkShape {
            rtt,
            jitter,
            loss,
            reorder,
            bandwidth_bits,
        } = link.shape;
        table.add_row([
            format!("{} - {}", name(link.between.0), name(link.between.1)),
            ms(rtt),
            ms(jitter),
            percent(loss),
            percent(reorder),
            bandwidth_bits.map_or_else(|| "no cap".to_owned(), mbit),
        ]);
    }
    align_right(&mut table, 1..6);
    table
}

/// Milliseconds with no more digits than they need, down to a microsecond.
fn ms(span: Duration) -> String {
    thousandths(span.as_micros())
}

fn mbit(bits: u64) -> String {
    thousandths(u128::from(bits) / 1_000)
}

fn thousandths(n: u128) -> String {
    let mut text = (n / 1_000).to_string();
    let rest = n % 1_000;
    if rest > 0 {
        let digits = format!("{rest:03}");
        text.push('.');
        text.push_str(digits.trim_end_matches('0'));
    }
    text
}

fn percent(chance: f64) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail; the shortest digits after rounding away what binary adds.
    if write!(text, "{:.6}", chance * 100.0).is_ok() && text.contains('.') {
        text.truncate(text.trim_end_matches('0').trim_end_matches('.').len());
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::PathBuf;

    use super::*;

    fn regions_dir() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("regions")
    }

    fn run(
        command: impl Fn(&Path, &mut dyn Write) -> Result<(), TopologyFileError>,
        file: &Path,
    ) -> String {
        let mut out = Vec::new();
        command(file, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn every_file_in_regions_is_right_and_says_how_to_start_it() {
        let mut found = BTreeSet::new();
        for entry in std::fs::read_dir(regions_dir()).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            let text = std::fs::read_to_string(&path).unwrap();
            assert!(text.starts_with("# "), "{name}");
            let start = format!("# Start it: sterna dev --topology regions/{name}\n");
            assert!(text.contains(&start), "{name}");
            assert!(run(check, &path).contains(": ok, cluster "), "{name}");
            assert!(run(show, &path).contains("first in line"), "{name}");
            found.insert(name);
        }
        let wanted = [
            "global.toml",
            "local.toml",
            "one-region.toml",
            "single.toml",
        ];
        assert_eq!(found, BTreeSet::from(wanted.map(str::to_owned)));
    }

    #[test]
    fn ports_follow_region_and_node() {
        for (file, regions, nodes) in [
            ("local", 3, 3),
            ("single", 1, 1),
            ("one-region", 1, 3),
            ("global", 10, 3),
        ] {
            let topology = load(&regions_dir().join(format!("{file}.toml"))).unwrap();
            assert_eq!(topology.regions.len(), regions, "{file}");
            assert_eq!(topology.links.len(), regions * (regions - 1) / 2, "{file}");
            for (r, region) in topology.regions.iter().enumerate() {
                assert_eq!(region.nodes.len(), nodes, "{file}");
                for (n, node) in region.nodes.iter().enumerate() {
                    let port = 7000 + 100 * (r + 1) + n + 1;
                    assert_eq!(node.http, format!("127.0.0.1:{port}"));
                    assert_eq!(node.peer, format!("127.0.0.1:{}", port + 50));
                }
            }
        }
    }

    #[test]
    fn the_local_cluster_has_its_round_trips() {
        let topology = load(&regions_dir().join("local.toml")).unwrap();
        let names: Vec<&str> = topology
            .regions
            .iter()
            .map(|region| region.name.as_str())
            .collect();
        assert_eq!(names, ["us-east", "eu-west", "ap-northeast"]);
        let rtts: Vec<String> = topology
            .links
            .iter()
            .map(|link| ms(link.shape.rtt))
            .collect();
        assert_eq!(rtts, ["70.5", "152.4", "204.4"]);
        assert!(topology.node_named("ap-northeast-3").is_some());
    }

    #[test]
    fn check_counts() {
        let path = regions_dir().join("local.toml");
        let wanted = format!(
            "{}: ok, cluster local: 3 regions, 9 nodes, 2 keyspaces, 16 partitions\n",
            path.display()
        );
        assert_eq!(run(check, &path), wanted);
    }

    #[test]
    fn a_missing_file_and_a_wrong_file_are_named() {
        let error = check(Path::new("no/such.toml"), &mut Vec::new()).unwrap_err();
        assert!(error.to_string().starts_with("read no/such.toml: "));
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("wrong.toml");
        std::fs::write(&path, "cluster = \"x\"\npartitions = 0\n").unwrap();
        let error = show(&path, &mut Vec::new()).unwrap_err();
        let wanted = format!("{}:2: `partitions` is 0: use 1 to 4096", path.display());
        assert_eq!(error.to_string(), wanted);
    }

    #[test]
    fn show_draws_the_local_cluster() {
        let shown = run(show, &regions_dir().join("local.toml"));
        let has = |words: &[&str]| {
            let lines = shown.lines();
            lines
                .filter(|line| words.iter().all(|word| line.contains(word)))
                .count()
        };
        assert_eq!(
            has(&["us-east-1", "127.0.0.1:7101", "127.0.0.1:7151", "32"]),
            1
        );
        assert_eq!(has(&["ap-northeast ┆", "152.4", "204.4"]), 1);
        assert_eq!(has(&["us-east - eu-west", "70.5", "0.01", "1000"]), 1);
        assert_eq!(has(&["default", "lww", "local_quorum"]), 1);
        assert_eq!(has(&["│ siblings", "local_quorum"]), 1);
    }

    #[test]
    fn show_says_how_long_values_and_conflicts_are_kept() {
        let text = std::fs::read_to_string(regions_dir().join("single.toml")).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kept.toml");
        let more = "\n[[keyspace]]\nname = \"kept\"\nmerge = \"lww\"\nreplication = 1\n\
            ttl_s = 604800\nconflicts_kept_s = 5400\n";
        std::fs::write(&path, text + more).unwrap();
        let shown = run(show, &path);
        let line = shown.lines().find(|line| line.contains("│ kept")).unwrap();
        assert!(line.contains("7d"), "{shown}");
        assert!(shown.contains("90m"), "{shown}");
    }

    #[test]
    fn numbers_have_no_more_digits_than_they_need() {
        assert_eq!(ms(Duration::from_micros(70_500)), "70.5");
        assert_eq!(ms(Duration::from_millis(1)), "1");
        assert_eq!(ms(Duration::from_micros(1)), "0.001");
        assert_eq!(mbit(1_500_000), "1.5");
        assert_eq!(
            (percent(0.0001), percent(0.0), percent(1.0)),
            ("0.01".into(), "0".into(), "100".into())
        );
    }
}
