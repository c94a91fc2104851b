//! `sterna sim`: runs the simulator over seeds and says which fail.
//!
//! It reads no clock: how much time has passed is asked of the caller.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use super::failure::Verdict;
use crate::sim::{self, Kind, Options, Outcomes, Plan, PlanError, Report, Tally, Violation};

/// Lines of a trace that are kept.
const TRACE_LINES_MAX: usize = 200_000;
/// Seeds between two lines of progress.
const PROGRESS_EVERY: u64 = 100;

/// Run a simulated cluster under faults, from a seed. The same seed is the same run.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sterna sim --seeds 1000
  sterna sim --seed 7 --trace              one run again, with its events
  sterna sim --seed 7 --history history.jsonl && sterna chaos --check history.jsonl
  sterna sim --seed 7 --shrink small.txt   leave out of a run that fails what it does not need
  sterna sim --scenario small.txt          run that again")]
pub struct SimArgs {
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// How many seeds, counting up from the first.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    pub seeds: u64,
    /// How many run at once.
    #[arg(long, default_value = "2")]
    pub jobs: NonZeroUsize,
    /// Print the events of each run (the last 200000 lines).
    #[arg(long)]
    pub trace: bool,
    /// Write the history of the first seed to a file, one JSON event a line (docs/history.md).
    #[arg(long, value_name = "FILE")]
    pub history: Option<PathBuf>,
    /// Run a scenario out of a file.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["seed", "seeds"])]
    pub scenario: Option<PathBuf>,
    /// Write a smaller scenario that fails as the seed, or the scenario, does.
    #[arg(long, value_name = "FILE", conflicts_with = "seeds")]
    pub shrink: Option<PathBuf>,
    /// Make at most so many runs to shrink.
    #[arg(long, value_name = "RUNS", default_value_t = 400)]
    pub shrink_runs: u64,
}

/// Why the simulator could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum SimError {
    /// Nobody could be told.
    #[error("write what the simulator found: {0}")]
    Output(#[from] io::Error),
    /// A file could not be read or written.
    #[error("{deed} {path}: {source}")]
    File {
        /// What was tried.
        deed: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is no scenario.
    #[error("{path}: {source}")]
    Scenario {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: PlanError,
    },
}

#[derive(Debug, Default)]
struct Sum {
    seeds: u64,
    failed: Vec<u64>,
    virtual_micros: u64,
    rest_micros_max: u64,
    outcomes: Outcomes,
    tally: Tally,
}

/// From so many seeds on, a path that none of them took fails the run.
const COVERED_SEEDS: u64 = 1_000;

impl SimArgs {
    /// Runs the command. `elapsed` says how much time has passed since some fixed start.
    ///
    /// # Errors
    /// `out` or the history cannot be written to, or a scenario cannot be read or written.
    pub fn run(
        &self,
        elapsed: &(dyn Fn() -> Duration + Sync),
        out: &mut dyn Write,
    ) -> Result<Verdict, SimError> {
        sim::name_seeds_in_panics();
        if let Some(file) = &self.shrink {
            return self.shrink(file, out);
        }
        let start = elapsed();
        if let Some(file) = &self.scenario {
            let mut sum = Sum::default();
            let report = sim::run_plan(&read(file)?, None, self.trace_lines());
            write_report(out, &report)?;
            sum.add(&report);
            write_sum(out, &sum, elapsed().saturating_sub(start))?;
            return Ok(sum.verdict());
        }
        Ok(self.run_seeds(start, elapsed, out)?)
    }

    fn trace_lines(&self) -> usize {
        if self.trace { TRACE_LINES_MAX } else { 0 }
    }

    fn shrink(&self, file: &Path, out: &mut dyn Write) -> Result<Verdict, SimError> {
        let plan = match &self.scenario {
            Some(scenario) => read(scenario)?,
            None => Plan::of_seed(self.seed),
        };
        let Some(shrunk) = sim::shrink(&plan, None, self.shrink_runs) else {
            writeln!(out, "nothing to shrink: this run is clean")?;
            return Ok(Verdict::Bad);
        };
        let Violation { check, words, .. } = &shrunk.violation;
        let text = shrunk.plan.to_text().map_err(|source| SimError::Scenario {
            path: file.to_owned(),
            source,
        })?;
        let found: String = words.chars().take(WORDS_MAX).collect();
        let text = format!("# Found by {check}: {}\n{text}", found.replace('\n', " "));
        std::fs::write(file, text).map_err(|source| SimError::File {
            deed: "write",
            path: file.to_owned(),
            source,
        })?;
        let (runs, file) = (shrunk.runs, file.display());
        writeln!(out, "shrunk by {runs} runs to {file}: {check}: {words}")?;
        Ok(Verdict::Good)
    }

    fn run_seeds(
        &self,
        start: Duration,
        elapsed: &(dyn Fn() -> Duration + Sync),
        out: &mut dyn Write,
    ) -> io::Result<Verdict> {
        let next = AtomicU64::new(0);
        let trace_lines = self.trace_lines();
        let mut sum = Sum::default();
        std::thread::scope(|scope| {
            let (sender, receiver) = sync_channel::<io::Result<Report>>(self.jobs.get());
            for _ in 0..self.jobs.get() {
                let (sender, next) = (sender.clone(), &next);
                scope.spawn(move || {
                    loop {
                        let place = next.fetch_add(1, Ordering::Relaxed);
                        if self.seeds <= place {
                            break;
                        }
                        let options = Options {
                            seed: self.seed.wrapping_add(place),
                            bug: None,
                            trace_lines,
                        };
                        let report = match self.history.as_ref().filter(|_| place == 0) {
                            Some(file) => recorded(&options, file),
                            None => Ok(sim::run(&options)),
                        };
                        // Nobody listens any more: the output is gone.
                        if sender.send(report).is_err() {
                            break;
                        }
                    }
                });
            }
            drop(sender);
            for report in receiver {
                let report = report?;
                write_report(out, &report)?;
                sum.add(&report);
                if sum.seeds % PROGRESS_EVERY == 0 && sum.seeds < self.seeds {
                    let rate = rate(sum.seeds, elapsed().saturating_sub(start));
                    let (done, all, bad) = (sum.seeds, self.seeds, sum.failed.len());
                    writeln!(
                        out,
                        "{done} of {all} seeds, {bad} failed, {rate:.1} seeds/s"
                    )?;
                }
            }
            Ok::<(), io::Error>(())
        })?;
        write_sum(out, &sum, elapsed().saturating_sub(start))?;
        Ok(sum.verdict())
    }
}

/// Runs a seed and writes its history.
fn recorded(options: &Options, file: &Path) -> io::Result<Report> {
    let (report, lines) = sim::run_with_history(options);
    std::fs::write(file, lines.join("\n") + "\n")?;
    Ok(report)
}

/// Words of a violation that a scenario carries, in letters.
const WORDS_MAX: usize = 600;

fn read(file: &Path) -> Result<Plan, SimError> {
    let text = std::fs::read_to_string(file).map_err(|source| SimError::File {
        deed: "read",
        path: file.to_owned(),
        source,
    })?;
    Plan::parse(&text).map_err(|source| SimError::Scenario {
        path: file.to_owned(),
        source,
    })
}

impl Sum {
    fn add(&mut self, report: &Report) {
        self.seeds += 1;
        if report.violation.is_some() {
            self.failed.push(report.seed);
        }
        self.virtual_micros += report.virtual_micros;
        self.rest_micros_max = self.rest_micros_max.max(report.rest_micros);
        self.outcomes.ok += report.outcomes.ok;
        self.outcomes.failed += report.outcomes.failed;
        self.outcomes.unknown += report.outcomes.unknown;
        self.tally.add(&report.tally);
    }

    /// Paths that no seed took, if there were enough of them.
    fn missed(&self) -> Vec<&'static str> {
        let paths = self.tally.all_paths().into_iter();
        let missed = paths.filter(|(_, count)| *count == 0 && COVERED_SEEDS <= self.seeds);
        missed.map(|(path, _)| path).collect()
    }

    fn verdict(&self) -> Verdict {
        if self.failed.is_empty() && self.missed().is_empty() {
            Verdict::Good
        } else {
            Verdict::Bad
        }
    }
}

fn write_report(out: &mut dyn Write, report: &Report) -> io::Result<()> {
    for line in &report.lines {
        writeln!(out, "{line}")?;
    }
    if let Some(violation) = &report.violation {
        let seed = report.seed;
        let (check, words) = (violation.check, &violation.words);
        let at = Duration::from_micros(violation.at).as_secs_f64();
        writeln!(
            out,
            "seed {seed} failed: {check}: {words} (at {at:.6} s); replay with `sterna sim --seed {seed} --trace`"
        )?;
    }
    Ok(())
}

/// Seconds of a day.
const DAY: f64 = 86_400.0;

fn write_sum(out: &mut dyn Write, sum: &Sum, took: Duration) -> io::Result<()> {
    let simulated = Duration::from_micros(sum.virtual_micros);
    let rest = Duration::from_micros(sum.rest_micros_max).as_secs_f64();
    writeln!(
        out,
        "{} seeds in {:.1} s ({:.1} seeds/s), {} failed; {:.0} s ({:.3} cluster-days) simulated, at rest after at most {rest:.1} s",
        sum.seeds,
        took.as_secs_f64(),
        rate(sum.seeds, took),
        sum.failed.len(),
        simulated.as_secs_f64(),
        simulated.as_secs_f64() / DAY,
    )?;
    let Outcomes {
        ok,
        failed,
        unknown,
    } = sum.outcomes;
    writeln!(
        out,
        "operations: {ok} OK, {failed} FAILED, {unknown} UNKNOWN"
    )?;
    writeln!(out, "faults:")?;
    for kind in Kind::ALL {
        let count = sum.tally.faults.get(&kind).copied().unwrap_or(0);
        writeln!(out, "  {:<6} {:>9}  {}", kind.id(), count, kind.words())?;
    }
    write_counts(out, "reports:", &sum.tally.reports)?;
    write_counts(out, "counters:", &sum.tally.counters)?;
    writeln!(out, "sometimes:")?;
    for (path, count) in sum.tally.all_paths() {
        writeln!(out, "  {count:>9}  {path}")?;
    }
    for path in sum.missed() {
        writeln!(out, "never taken: {path}")?;
    }
    if !sum.failed.is_empty() {
        writeln!(out, "failed seeds: {:?}", sum.failed)?;
    }
    Ok(())
}

fn write_counts(
    out: &mut dyn Write,
    title: &str,
    counts: &BTreeMap<&'static str, u64>,
) -> io::Result<()> {
    if !counts.is_empty() {
        writeln!(out, "{title}")?;
    }
    for (name, count) in counts {
        writeln!(out, "  {count:>9}  {name}")?;
    }
    Ok(())
}

fn rate(seeds: u64, took: Duration) -> f64 {
    let seeds = u32::try_from(seeds).unwrap_or(u32::MAX);
    f64::from(seeds) / took.as_secs_f64().max(0.001)
}
