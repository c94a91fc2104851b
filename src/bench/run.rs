//! A run from beginning to end: sets up regions, workers, watchers and the beat, waits, and gathers.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::workload::{Mix, OP_ID_BYTES, Stream};

use super::ack_log::AckLog;
use super::lag::{self, Pair};
use super::pace::{self, Beat};
use super::report::{LagLine, Line, Report};
use super::tally::Tally;
use super::wire::Wire;
use super::worker::{Buffers, OwnKeys, Site, Worker};
use super::{BenchError, Plan, Spread, Until};

/// Workers connect during this time, before the first request is due.
const LEAD: Duration = Duration::from_millis(50);
/// A counted run in an open loop has no end by the clock; this is far beyond any.
const FAR: Duration = Duration::from_secs(30 * 24 * 3600);

/// Carries out a plan. Stops early, with what was measured until then, when `interrupt` resolves.
pub async fn run(plan: &Plan, interrupt: impl Future<Output = ()>) -> Result<Report, BenchError> {
    refuse(plan)?;
    let start = Instant::now() + LEAD;
    let measure_from = start + plan.warmup;
    let end = match plan.until {
        Until::Elapsed(span) => Some(measure_from + span),
        Until::Count(_) => None,
    };
    let stop = Arc::new(AtomicBool::new(false));
    let mut watchers = JoinSet::new();
    let (mut samplers, pairs) = match &plan.lag {
        Some(lag) => lag::start(plan, lag, start, &mut watchers),
        None => (BTreeMap::new(), Vec::new()),
    };
    let log = plan
        .ack_log
        .as_ref()
        .map(|log| AckLog::open(&log.path).map(|open| (Arc::new(open), log.run)));
    let log = log.transpose()?;
    let sites: Vec<Arc<Site>> = (plan.sites.iter())
        .map(|site| {
            let prefix = escaped(&plan.key_prefix);
            Arc::new(Site {
                path: format!("/v1/kv/{}/{prefix}", escaped(&plan.keyspace)),
                prefix: plan.key_prefix.clone(),
                beat: plan
                    .rate
                    .map(|rate| Arc::new(Beat::new(start, rate, plan.patience))),
                measure_from,
                end,
                left: match plan.until {
                    Until::Elapsed(_) => None,
                    Until::Count(count) => Some(AtomicU64::new(count)),
                },
                stop: Arc::clone(&stop),
                value_bytes: plan.workload.value_bytes,
                tallies: Mutex::new(BTreeMap::new()),
                sampler: samplers.remove(&site.region),
                ack_log: log.clone(),
                unlogged: AtomicU64::new(0),
                region: site.region.clone(),
            })
        })
        .collect();

    let mut workers = JoinSet::new();
    let mut beat_keeper = JoinSet::new();
    hire(plan, &sites, &mut workers);
    let beats: Vec<Arc<Beat>> = sites.iter().filter_map(|site| site.beat.clone()).collect();
    if !beats.is_empty() {
        let (end, stop) = (end.unwrap_or(start + FAR), Arc::clone(&stop));
        beat_keeper.spawn_blocking(move || pace::keep(&beats, end, &stop));
    }
    wait(&mut workers, interrupt, &stop).await?;
    let took = Instant::now().saturating_duration_since(measure_from);
    stop.store(true, Ordering::Relaxed);
    while let Some(ended) = beat_keeper.join_next().await {
        ended?;
    }
    let lines = sites.iter().flat_map(|site| lines(site, took)).collect();
    let unlogged = sites
        .iter()
        .map(|site| site.unlogged.load(Ordering::Relaxed))
        .sum();
    // With the sites go the samplers: watchers finish what waits, and end.
    drop(sites);
    while let Some(ended) = watchers.join_next().await {
        ended?;
    }
    Ok(Report {
        seconds: took.as_secs_f64(),
        lines,
        lags: pairs.iter().map(|pair| lag_line(pair)).collect(),
        unlogged,
    })
}

fn refuse(plan: &Plan) -> Result<(), BenchError> {
    let refuse = |words: &str| Err(BenchError::Plan(words.to_owned()));
    if plan.sites.is_empty() || plan.sites.iter().any(|site| site.nodes.is_empty()) {
        return refuse("there is no node to talk to: see `sterna status`");
    }
    if plan.workload.value_bytes < OP_ID_BYTES {
        return refuse(
            "values must have at least 16 bytes: they begin with the number of the write",
        );
    }
    if plan.rate.is_some_and(|rate| !(0.001..=1e6).contains(&rate)) {
        return refuse("the rate must be between 0.001 and 1000000 a second");
    }
    if plan.patience.is_some() && plan.rate.is_none() {
        return refuse("only arrivals of an open loop can be given up: add --rate");
    }
    if plan.ack_log.is_some() && plan.workload.mix != Mix::Write {
        return refuse("an ack log is of writes: use --workload write");
    }
    if plan.ack_log.is_some() && plan.lag.is_some() {
        return refuse("lag and ack log cannot be had in one run: leave out --lag or --ack-log");
    }
    Ok(())
}

fn escaped(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

fn hire(plan: &Plan, sites: &[Arc<Site>], workers: &mut JoinSet<()>) {
    let mut id = 0;
    for (site, place) in sites.iter().zip(&plan.sites) {
        for n in 0..usize::from(plan.concurrency.max(1)) {
            let first = match plan.spread {
                Spread::First => 0,
                Spread::All => n,
            };
            let seed = plan
                .seed
                .wrapping_mul(0x9e37_79b9_7f4a_7c15)
                .wrapping_add(id);
            workers.spawn(
                Worker {
                    site: Arc::clone(site),
                    id,
                    wire: Wire::new(place.nodes.clone(), first, plan.level, plan.timeout)
                        .stubborn(plan.patience.is_some()),
                    stream: Stream::new(&plan.workload, seed),
                    keys: OwnKeys::default(),
                    buffers: Buffers::default(),
                }
                .run(),
            );
            id += 1;
        }
    }
}

/// Waits for all workers. When `interrupt` resolves, tells them to stop; in an open loop the beat ends
/// too, so none of them waits for an arrival.
async fn wait(
    workers: &mut JoinSet<()>,
    interrupt: impl Future<Output = ()>,
    stop: &AtomicBool,
) -> Result<(), BenchError> {
    let mut interrupt = std::pin::pin!(interrupt);
    let mut is_interrupted = false;
    loop {
        tokio::select! {
            ended = workers.join_next() => match ended {
                Some(ended) => ended?,
                None => return Ok(()),
            },
            () = &mut interrupt, if !is_interrupted => {
                is_interrupted = true;
                stop.store(true, Ordering::Relaxed);
            }
        }
    }
}

fn lines(site: &Site, took: Duration) -> Vec<Line> {
    let tallies = site.tallies.lock().unwrap_or_else(PoisonError::into_inner);
    let unsent = site.beat.as_ref().map_or(0, |beat| beat.unsent());
    let line = |(kind, tally): (_, &Tally)| Line::new(&site.region, kind, tally, took, unsent);
    tallies
        .iter()
        .map(|(kind, tally)| line((*kind, tally)))
        .collect()
}

fn lag_line(pair: &Pair) -> LagLine {
    LagLine::new(&pair.from, &pair.to, pair.one_way, &pair.tally())
}
