//! What a run came to, as a row of a table.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::Duration;

use crate::cli::{Failure, table};
use crate::model::RegionId;

use super::recorder::Counts;
use super::scenario::{Mix, Scenario};
use super::site::REGIONS;
use super::stage::Stage;

/// What a run came to.
#[derive(Debug)]
pub(super) struct Row {
    mix: String,
    counts: Counts,
    faults: BTreeMap<&'static str, u64>,
    away: Vec<Duration>,
    /// From healing until all replicas were equal.
    pub(super) converged: Option<Duration>,
    /// What is wrong.
    pub(super) found: Option<String>,
}

impl Row {
    pub(super) fn of(mix: &Mix) -> Self {
        Self {
            mix: mix.to_string(),
            counts: Counts::default(),
            faults: BTreeMap::new(),
            away: Vec::new(),
            converged: None,
            found: None,
        }
    }

    pub(super) fn fill(&mut self, stage: &Stage) {
        self.counts = stage.recorder.counts();
        self.faults = stage.faults();
        let regions = REGIONS.into_iter().map(RegionId::of);
        self.away = regions
            .map(|region| stage.recorder.away_max(region))
            .collect();
    }

    /// A sentence.
    pub(super) fn words(&self) -> String {
        match &self.found {
            None => format!("good, {}", counted(self.counts)),
            Some(found) => format!("NOT good: {found}"),
        }
    }
}

/// Operations, in words.
pub(super) fn counted(counts: Counts) -> String {
    let Counts {
        ok,
        denied,
        failed,
        unknown,
    } = counts;
    format!("{ok} OK, {denied} denied, {failed} FAILED, {unknown} UNKNOWN")
}

fn seconds(span: Duration) -> String {
    format!("{:.1}", span.as_secs_f64())
}

/// The table of all runs.
pub(super) fn table(out: &mut dyn Write, rows: &[Row]) -> Result<(), Failure> {
    let away = format!(">away s {}", REGIONS.join("/"));
    let headers = [
        "scenario", ">ops", ">OK", ">denied", ">FAILED", ">UNKNOWN", "faults", &away, ">equal s",
        "verdict",
    ];
    writeln!(out)?;
    let cells = rows.iter().map(|row| {
        let Counts {
            ok,
            denied,
            failed,
            unknown,
        } = row.counts;
        let faults = row.faults.iter();
        let faults: Vec<String> = faults.map(|(id, count)| format!("{count} {id}")).collect();
        let away: Vec<String> = row.away.iter().map(|span| seconds(*span)).collect();
        vec![
            row.mix.clone(),
            (ok + denied + failed + unknown).to_string(),
            ok.to_string(),
            denied.to_string(),
            failed.to_string(),
            unknown.to_string(),
            faults.join(", "),
            away.join("/"),
            table::or_dash(row.converged.map(seconds)),
            row.found.as_ref().map_or("good", |_| "NOT good").to_owned(),
        ]
    });
    table::write(out, &headers, cells)
}

/// The scenarios.
pub(super) fn list(out: &mut dyn Write) -> Result<(), Failure> {
    let rows = Scenario::ALL.map(|scenario| scenario.told().map(str::to_owned).to_vec());
    table::write(out, &["scenario", "fault", ""], rows)?;
    writeln!(out, "\nSeveral at once: --scenario kill+cut")?;
    Ok(())
}
