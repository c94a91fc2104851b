//! `sterna chaos`: a cluster of real processes, clients of all kinds, faults, and the judgement of their history by the
//! checkers of the simulator.
//!
//! It knows the store from outside only: processes, HTTP, folders.

mod ask;
mod callers;
mod faults;
mod finish;
mod recorder;
mod report;
mod scenario;
mod site;
mod stage;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval};

use crate::history::{History, judge};
use crate::model::RegionId;

use super::options::span;
use super::{Failure, Verdict};

use callers::Caller;
use recorder::Recorder;
use report::Row;
use scenario::Scenario;
use site::{REGIONS, Site};
use stage::Stage;

pub use scenario::{Matrix, Mix};

/// Clients are alone for so long before anything goes wrong.
const CALM: Duration = Duration::from_secs(1);
/// Between two lines of progress.
const PROGRESS_EVERY: Duration = Duration::from_secs(5);
/// Between two looks at what was said.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// What expires may be off by so much: a paused node answers late, and clocks are off.
const SLACK: Duration = Duration::from_secs(12);

/// Break a cluster of real processes, and prove that it kept its promises.
///
/// Starts three regions of three nodes as processes of this program on this machine, lets clients of all data types
/// read and write over HTTP in all regions, and breaks things meanwhile: processes, links, clocks, disks, certificates.
/// Then it heals everything, waits until all replicas are equal, reads every key in every region, and judges the whole
/// history by the same rules as the simulator. Exit code 0 if every promise was kept, 1 if not; then it says where the
/// history and the logs of the nodes are.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  sterna chaos --list
  sterna chaos --scenario kill --seconds 60
  sterna chaos --scenario clock+cut+kill --seed 7
  sterna chaos --scenario kill-all --rounds 50
  sterna chaos --matrix long --seconds 60
  sterna chaos --check history.jsonl     (judge a history that was kept, or written by `sterna sim --history`)")]
pub struct ChaosArgs {
    /// What goes wrong; several names with + go wrong at the same time
    #[arg(long, value_name = "NAME[+NAME…]", conflicts_with_all = ["matrix", "list", "check"])]
    pub scenario: Vec<Mix>,
    /// Many scenarios, one after the other
    #[arg(long, value_enum, value_name = "WHICH")]
    pub matrix: Option<Matrix>,
    /// How long things go wrong in each run: 30, 60s, 5m
    #[arg(long, default_value = "30s", value_parser = seconds, value_name = "TIME")]
    pub seconds: Duration,
    /// Instead of a time: how often `kill-all` kills everything
    #[arg(long, value_name = "N")]
    pub rounds: Option<u32>,
    /// How many clients; every fourth goes from region to region with a session
    #[arg(long, default_value_t = 12)]
    pub clients: usize,
    /// All chance comes from it, but not what the machine makes of it [default: by chance]
    #[arg(long)]
    pub seed: Option<u64>,
    /// Where to keep data, logs and histories [default: a temporary folder, removed if all is well]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Keep logs and histories of good runs, too
    #[arg(long)]
    pub keep: bool,
    /// Judge the history in this file, and run nothing
    #[arg(long, value_name = "FILE")]
    pub check: Option<PathBuf>,
    /// Say which scenarios there are
    #[arg(long)]
    pub list: bool,
}

/// A number of seconds, or a time with its unit.
fn seconds(text: &str) -> Result<Duration, String> {
    text.parse()
        .map(Duration::from_secs)
        .or_else(|_| span(text))
}

impl ChaosArgs {
    /// Runs the command.
    ///
    /// # Errors
    /// The folder, the processes or the output cannot be used; what a run finds is no error.
    pub async fn run(&self, out: &mut dyn Write) -> Result<Verdict, Failure> {
        if self.list {
            report::list(out)?;
            return Ok(Verdict::Good);
        }
        if let Some(file) = &self.check {
            return check_file(file, out);
        }
        let mixes = match self.matrix {
            Some(matrix) => matrix.mixes(),
            None if self.scenario.is_empty() => {
                return Err(Failure::usage(
                    "say what is to go wrong: --scenario NAME or --matrix short; --list names all",
                ));
            }
            None => self.scenario.clone(),
        };
        let seed = self.seed.unwrap_or_else(|| fastrand::u64(0..1 << 32));
        let root = self.data.clone().unwrap_or_else(|| {
            std::env::temp_dir().join(format!("sterna-chaos-{}", std::process::id()))
        });
        let mut rows = Vec::new();
        for (n, mix) in (0..).zip(mixes) {
            let dir = root.join(format!("{mix}-{seed}-{n}"));
            writeln!(out, "{mix}: seed {seed}, in {}", dir.display())?;
            let row = self.run_mix(&mix, seed, &dir, out).await?;
            writeln!(out, "{mix}: {}", row.words())?;
            if row.found.is_some() {
                let dir = dir.display();
                writeln!(out, "  history: {dir}/history.jsonl, logs: {dir}/*.log")?;
                writeln!(out, "  again: sterna chaos --scenario {mix} --seed {seed}")?;
            } else if !self.keep
                && let Err(error) = std::fs::remove_dir_all(&dir)
            {
                writeln!(out, "  {} is left: {error}", dir.display())?;
            }
            rows.push(row);
        }
        if self.data.is_none() && rows.iter().all(|row| row.found.is_none()) && !self.keep {
            // It is empty.
            if let Err(error) = std::fs::remove_dir(&root) {
                tracing::debug!(%error, "remove the folder of all runs");
            }
        }
        report::table(out, &rows)?;
        Ok(if rows.iter().all(|row| row.found.is_none()) {
            Verdict::Good
        } else {
            Verdict::Bad
        })
    }

    /// One run from start to judgement.
    async fn run_mix(
        &self,
        mix: &Mix,
        seed: u64,
        dir: &Path,
        out: &mut dyn Write,
    ) -> Result<Row, Failure> {
        if dir.exists() {
            let dir = dir.display();
            return Err(Failure::usage(format!(
                "{dir} exists already: move it away, or choose another --data or --seed"
            )));
        }
        let site = Site::make(dir, seed).map_err(Failure::usage)?;
        if mix.0.contains(&Scenario::DiskFull) {
            site.mount(faults::SMALL).map_err(Failure::usage)?;
        }
        site.start_all(faults::READY_MAX)
            .await
            .map_err(Failure::usage)?;
        let stage = Arc::new(Stage::new(site, Recorder::new(SLACK), mix.0.clone()));
        let mut row = Row::of(mix);
        let mut found = self.break_things(&stage, mix, seed, out).await?;
        if found.is_empty() {
            match heal(&stage).await {
                Ok(took) => row.converged = Some(took),
                Err(words) => found.push(words),
            }
        }
        tell(&stage, out)?;
        stage.site.end();
        found.extend(stage.recorder.take_odd().into_iter().take(3));
        let history = stage.recorder.history();
        if let Err(violation) = judge(&history) {
            found.push(format!("{}: {}", violation.check, violation.words));
        }
        let lines = history.to_lines(&stage.site.topology);
        std::fs::write(dir.join("history.jsonl"), lines.join("\n") + "\n")?;
        row.fill(&stage);
        row.found = (!found.is_empty()).then(|| found.join("; "));
        Ok(row)
    }

    /// Clients go on while things go wrong. Gives what did not go as it must.
    async fn break_things(
        &self,
        stage: &Arc<Stage>,
        mix: &Mix,
        seed: u64,
        out: &mut dyn Write,
    ) -> Result<Vec<String>, Failure> {
        let mut chance = fastrand::Rng::with_seed(seed);
        let mut callers = JoinSet::new();
        for number in 0..self.clients {
            let caller = Caller::new(Arc::clone(stage), number, chance.u64(..));
            callers.spawn(caller.run());
        }
        stage.recorder.begin(REGIONS.into_iter().map(RegionId::of));
        tokio::time::sleep(CALM).await;
        let mut acts = JoinSet::new();
        for scenario in mix.0.clone() {
            let (stage, rng) = (Arc::clone(stage), fastrand::Rng::with_seed(chance.u64(..)));
            let rounds = self.rounds;
            acts.spawn(async move { faults::act(&stage, scenario, rounds, rng).await });
        }
        let until = Instant::now() + self.seconds;
        let mut looks = interval(LOOK_EVERY);
        let mut progress = Instant::now() + PROGRESS_EVERY;
        let mut found = Vec::new();
        loop {
            looks.tick().await;
            tell(stage, out)?;
            if progress <= Instant::now() {
                progress += PROGRESS_EVERY;
                let counts = stage.recorder.counts();
                let words = report::counted(counts);
                stage.say(&words);
            }
            if self.rounds.is_none() && until <= Instant::now() {
                stage.healing.cancel();
            }
            while let Some(ended) = acts.try_join_next() {
                match ended {
                    Ok(Ok(())) => {}
                    Ok(Err(words)) => found.push(words),
                    Err(error) => found.push(format!("a scenario ended: {error}")),
                }
            }
            if !found.is_empty() {
                stage.healing.cancel();
            }
            if acts.is_empty() {
                break;
            }
        }
        stage.healing.cancel();
        stage.recorder.finish();
        stage.closing.cancel();
        while let Some(ended) = callers.join_next().await {
            if let Err(error) = ended {
                found.push(format!("a client ended: {error}"));
            }
        }
        Ok(found)
    }
}

/// Heals everything and looks at what is left; says how long it took until all replicas were equal.
async fn heal(stage: &Arc<Stage>) -> Result<Duration, String> {
    let begun = Instant::now();
    finish::heal(stage).await?;
    finish::equal(stage).await?;
    let took = begun.elapsed();
    finish::rest(stage).await?;
    finish::read_all(stage).await?;
    Ok(took)
}

/// Prints what was said.
fn tell(stage: &Stage, out: &mut dyn Write) -> Result<(), Failure> {
    for line in stage.take_said() {
        writeln!(out, "{line}")?;
    }
    out.flush()?;
    Ok(())
}

/// Judges a history in a file.
fn check_file(file: &Path, out: &mut dyn Write) -> Result<Verdict, Failure> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| Failure::usage(format!("read {}: {error}", file.display())))?;
    let history = History::parse(&text)
        .map_err(|error| Failure::usage(format!("{}: {error}", file.display())))?;
    let count = history.records().len();
    match judge(&history) {
        Ok(()) => {
            let rest = match history.rest() {
                Some(_) => "",
                None => "; it never came to rest, so that what is left was not judged",
            };
            writeln!(out, "good: {count} operations{rest}")?;
            Ok(Verdict::Good)
        }
        Err(violation) => {
            writeln!(out, "NOT good: {}: {}", violation.check, violation.words)?;
            Ok(Verdict::Bad)
        }
    }
}
