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
use crate::sim::{self, Options, Outcomes, Report, Tally};

/// Lines of a trace that are kept.
const TRACE_LINES_MAX: usize = 200_000;
/// Seeds between two lines of progress.
const PROGRESS_EVERY: u64 = 100;

/// Run a simulated cluster under faults, from a seed. The same seed is the same run.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sterna sim --seeds 100
  sterna sim --seed 7 --trace     one run again, with its events
  sterna sim --seed 7 --history history.jsonl && sterna chaos --check history.jsonl")]
pub struct SimArgs {
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// How many seeds, counting up from the first.
    #[arg(long, default_value_t = 1)]
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
}

#[derive(Debug, Default)]
struct Sum {
    seeds: u64,
    failed: Vec<u64>,
    virtual_micros: u64,
    rest_micros_max: u64,
    outcomes: Outcomes,
    tally: Tally,
    counters: BTreeMap<&'static str, u64>,
}

impl SimArgs {
    /// Runs the command. `elapsed` says how much time has passed since some fixed start.
    ///
    /// # Errors
    /// `out` or the history cannot be written to.
    pub fn run(
        &self,
        elapsed: &(dyn Fn() -> Duration + Sync),
        out: &mut dyn Write,
    ) -> io::Result<Verdict> {
        let start = elapsed();
        let next = AtomicU64::new(0);
        let trace_lines = if self.trace { TRACE_LINES_MAX } else { 0 };
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
        Ok(if sum.failed.is_empty() {
            Verdict::Good
        } else {
            Verdict::Bad
        })
    }
}

/// Runs a seed and writes its history.
fn recorded(options: &Options, file: &Path) -> io::Result<Report> {
    let (report, lines) = sim::run_with_history(options);
    std::fs::write(file, lines.join("\n") + "\n")?;
    Ok(report)
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
        for (name, count) in &report.counters {
            *self.counters.entry(name).or_default() += count;
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

fn write_sum(out: &mut dyn Write, sum: &Sum, took: Duration) -> io::Result<()> {
    let simulated = Duration::from_micros(sum.virtual_micros);
    let rest = Duration::from_micros(sum.rest_micros_max).as_secs_f64();
    writeln!(
        out,
        "{} seeds in {:.1} s ({:.1} seeds/s), {} failed; {:.0} s simulated, at rest after at most {rest:.1} s",
        sum.seeds,
        took.as_secs_f64(),
        rate(sum.seeds, took),
        sum.failed.len(),
        simulated.as_secs_f64(),
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
    for (kind, count) in &sum.tally.faults {
        writeln!(out, "  {:<6} {:>9}  {}", kind.id(), count, kind.words())?;
    }
    write_counts(out, "reports:", &sum.tally.reports)?;
    write_counts(out, "counters:", &sum.counters)?;
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
