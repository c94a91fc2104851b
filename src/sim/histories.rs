//! Histories of simulated runs, written as lines and judged by themselves.

use super::{Options, run_with_history};
use crate::history::History;
use crate::history::check::{Violation, judge};
use crate::placement::Topology;

const SEEDS: std::ops::RangeInclusive<u64> = 1..=6;

fn lines_of(seed: u64) -> Vec<String> {
    let options = Options {
        seed,
        bug: None,
        trace_lines: 0,
    };
    let (report, lines) = run_with_history(&options);
    assert_eq!(report.violation, None, "seed {seed}");
    lines
}

fn judge_lines(lines: &[String]) -> Result<(), Violation> {
    judge(&History::parse(&lines.join("\n")).unwrap())
}

#[test]
fn histories_of_the_simulator_are_good_by_themselves() {
    for seed in SEEDS {
        let lines = lines_of(seed);
        assert_eq!(judge_lines(&lines), Ok(()), "seed {seed}");
        assert!(lines.iter().any(|line| line.contains("\"type\":\"rest\"")));
    }
}

#[test]
fn lines_are_read_as_they_were_written() {
    let topology = Topology::parse("t.toml", include_str!("../../regions/local.toml")).unwrap();
    let lines = lines_of(3);
    let history = History::parse(&lines.join("\n")).unwrap();
    let again = History::parse(&history.to_lines(&topology).join("\n")).unwrap();
    assert_eq!(history.records().len(), again.records().len());
    for (one, two) in history.records().iter().zip(again.records()) {
        // The names are of another topology.
        let mut two = two.clone();
        (two.region, two.node) = (one.region, one.node);
        two.key.keyspace = one.key.keyspace;
        assert_eq!(*one, two);
    }
}
