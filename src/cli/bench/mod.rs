//! `sterna bench`: finds the nodes of a running cluster, puts load on it, and shows what was measured.

mod check;
mod show;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, UNIX_EPOCH};

use clap::{Args, ValueEnum};

use crate::bench::{self, AckLogPlan, BenchError, LagPlan, Plan, Site, Until};
use crate::workload::{Distribution, Mix, Spec};

use super::client::{Client, Status};
use super::options::{Target, span};
use super::{Failure, Verdict};

/// The server's time for a request, if --timeout is not given.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Put load on a running cluster, and measure latency, throughput and replication lag.
///
/// Clients in every region talk to that region's nodes. With --concurrency alone, each of so many
/// workers sends the next request when the last is answered (closed loop). With --rate, requests are
/// due at an even beat, and latency counts from when a request was due, so that a stall is not hidden
/// (open loop); --concurrency then is how many may be on their way.
///
/// With --lag, some writes are watched for in every other region: how long after the write was sent,
/// and after it was acknowledged, a read of level `one` finds it, and how much of that is beyond the
/// link's one-way delay.
///
/// With --ack-log, every acknowledged write is written down; --check-ack-log later reads them all back
/// from every region and finds what was lost. Errors do not stop a run: nodes may be killed meanwhile.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  sterna bench --duration 10s
  sterna bench --workload mixed:0.2 --distribution zipf --rate 2000 --duration 1m
  sterna bench --regions us-east --concurrency 64 --value-bytes 100 --json
  sterna bench --rate 500 --lag --rtt us-east:eu-west=70.5,us-east:ap-northeast=150
  sterna bench --ack-log acks.tsv --duration 1m   (kill -9 a node meanwhile)
  sterna bench --check-ack-log acks.tsv")]
pub struct BenchArgs {
    #[command(flatten)]
    pub(crate) target: Target,
    /// Regions to put load on: all, or names with commas between
    #[arg(long, default_value = "all", value_name = "NAMES")]
    pub regions: String,
    /// write, read, or mixed:0.2 (a fifth of writes)
    #[arg(long, default_value = "write")]
    pub workload: Mix,
    /// Workers in each region, with one connection each
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=4096), value_name = "N")]
    pub concurrency: u16,
    /// Requests a second in each region: an open loop
    #[arg(long, value_name = "R")]
    pub rate: Option<f64>,
    /// With --rate: a request that could not be sent for so long is given up, and refusals are not waited out:
    /// for more load than the cluster can take
    #[arg(long, value_parser = span, value_name = "TIME", requires = "rate")]
    pub patience: Option<Duration>,
    /// How long to measure
    #[arg(long, default_value = "30s", value_parser = span, value_name = "TIME", conflicts_with = "count")]
    pub duration: Duration,
    /// Operations to measure in each region, in place of --duration
    #[arg(long, value_name = "N")]
    pub count: Option<u64>,
    /// Load before measuring
    #[arg(long, default_value = "2s", value_parser = span, value_name = "TIME")]
    pub warmup: Duration,
    /// Bytes of each value, at least 16; they do not compress
    #[arg(long, default_value_t = 1024, value_name = "N")]
    pub value_bytes: usize,
    /// How many keys there are
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..), value_name = "N")]
    pub keys: u64,
    /// What keys begin with
    #[arg(long, default_value = "bench-", value_name = "TEXT")]
    pub key_prefix: String,
    /// How keys are chosen: uniform or zipf
    #[arg(long, default_value = "uniform")]
    pub distribution: Distribution,
    /// The same seed chooses the same operations and keys
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub seed: u64,
    /// Talk to the first node of each region, or to all
    #[arg(long, value_enum, default_value_t = Spread::All)]
    pub spread: Spread,
    /// Measure replication lag
    #[arg(long)]
    pub lag: bool,
    /// Watch at most so many writes a second in each region
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000), value_name = "N")]
    pub lag_samples: u32,
    /// Round-trip times in milliseconds, as a:b=70.5,a:c=150 (default: those of a dev cluster's links)
    #[arg(long, value_name = "PAIRS")]
    pub rtt: Option<String>,
    /// Append every acknowledged write to this file as a line
    #[arg(long, value_name = "FILE")]
    pub ack_log: Option<PathBuf>,
    /// Read everything in this file back from every region, in place of load
    #[arg(long, value_name = "FILE", conflicts_with = "ack_log")]
    pub check_ack_log: Option<PathBuf>,
    /// With --check-ack-log: how long to wait for changes that are on their way
    #[arg(long, default_value = "30s", value_parser = span, value_name = "TIME")]
    pub wait: Duration,
    /// Write one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Which nodes of a region are talked to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Spread {
    /// The first; others when it fails
    First,
    /// All, each by its share of the workers
    All,
}

impl From<BenchError> for Failure {
    fn from(error: BenchError) -> Self {
        match error {
            BenchError::Plan(words) => Self::Usage(words),
            BenchError::AckLog { deed, path, source } => Self::File { deed, path, source },
            BenchError::Worker(error) => {
                Self::Stopped(format!("a worker of the bench broke: {error}"))
            }
        }
    }
}

impl BenchArgs {
    /// Runs the command.
    pub async fn run(&self, out: &mut dyn Write) -> Result<Verdict, Failure> {
        let client = self.target.client()?;
        let status = client.status().await?;
        if let Some(path) = &self.check_ack_log {
            let scope = check::Scope {
                keyspace: &self.target.keyspace,
                sites: &sites(&status, "all")?,
                wait: self.wait,
            };
            return check::run(&client, path, &scope, self.json, out).await;
        }
        let plan = self.plan(&client, &status).await?;
        if !self.json {
            show::plan(&plan, out)?;
        }
        let interrupt = async {
            if tokio::signal::ctrl_c().await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        let report = bench::run(&plan, interrupt).await?;
        if self.json {
            show::json(&plan, &report, out)?;
        } else {
            show::tables(&report, out)?;
        }
        let is_useless = report.lines.iter().all(|line| line.ok == 0) || report.unlogged > 0;
        Ok(if is_useless {
            Verdict::Bad
        } else {
            Verdict::Good
        })
    }

    async fn plan(&self, client: &Client, status: &Status) -> Result<Plan, Failure> {
        let lag = if self.lag {
            Some(self.lag_plan(client, status).await?)
        } else {
            None
        };
        Ok(Plan {
            sites: sites(status, &self.regions)?,
            keyspace: self.target.keyspace.clone(),
            key_prefix: self.key_prefix.clone(),
            level: self.target.consistency,
            timeout: self.target.connect.timeout.unwrap_or(TIMEOUT),
            workload: Spec {
                mix: self.workload,
                keys: self.keys,
                distribution: self.distribution,
                value_bytes: self.value_bytes,
            },
            concurrency: self.concurrency,
            rate: self.rate,
            patience: self.patience,
            until: self
                .count
                .map_or(Until::Elapsed(self.duration), Until::Count),
            warmup: self.warmup,
            seed: self.seed,
            spread: match self.spread {
                Spread::First => bench::Spread::First,
                Spread::All => bench::Spread::All,
            },
            lag,
            ack_log: self.ack_log.clone().map(|path| AckLogPlan {
                path,
                run: run_name(),
            }),
        })
    }

    async fn lag_plan(&self, client: &Client, status: &Status) -> Result<LagPlan, Failure> {
        let known = match &self.rtt {
            Some(text) => pairs(text)?,
            None => (client.links().await?.unwrap_or_default().into_iter())
                .map(|link| ((link.a, link.b), link.rtt_ms))
                .collect(),
        };
        let mut one_way = BTreeMap::new();
        for ((a, b), rtt_ms) in known {
            let half = Duration::try_from_secs_f64(rtt_ms / 2e3)
                .map_err(|error| Failure::usage(format!("round-trip time {rtt_ms}: {error}")))?;
            one_way.insert((a.clone(), b.clone()), half);
            one_way.insert((b, a), half);
        }
        Ok(LagPlan {
            samples_per_second: self.lag_samples,
            watchers: sites(status, "all")?,
            one_way,
        })
    }
}

/// Microseconds since 1970: no two runs share it.
fn run_name() -> u64 {
    #[expect(
        clippy::disallowed_methods,
        reason = "a name for this run; nothing is timed by it"
    )]
    let now = std::time::SystemTime::now();
    let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// The nodes of the regions that are named.
fn sites(status: &Status, named: &str) -> Result<Vec<Site>, Failure> {
    let known = status.region_names();
    let wanted: Vec<String> = match named {
        "all" => known.clone(),
        names => names
            .split(',')
            .map(|name| name.trim().to_owned())
            .collect(),
    };
    if let Some(stranger) = wanted.iter().find(|name| !known.contains(name)) {
        let known = known.join(", ");
        return Err(Failure::usage(format!(
            "no region `{stranger}`: there are {known}"
        )));
    }
    let nodes = |region: &str| {
        let here = status.nodes.iter().filter(|node| node.region == region);
        here.map(|node| node.http.clone()).collect()
    };
    Ok((wanted.into_iter())
        .map(|region| Site {
            nodes: nodes(&region),
            region,
        })
        .collect())
}

/// Two regions, and milliseconds.
type Rtt = ((String, String), f64);

/// `a:b=70.5,a:c=150`
fn pairs(text: &str) -> Result<Vec<Rtt>, Failure> {
    let parse = |pair: &str| {
        let (names, rtt_ms) = pair.trim().split_once('=')?;
        let (a, b) = names.split_once(':')?;
        let rtt_ms: f64 = rtt_ms.parse().ok()?;
        (rtt_ms >= 0.0).then(|| ((a.to_owned(), b.to_owned()), rtt_ms))
    };
    let help = || {
        Failure::usage(format!(
            "`{text}` are not round-trip times: write a:b=70.5,a:c=150"
        ))
    };
    text.split(',')
        .map(|pair| parse(pair).ok_or_else(help))
        .collect()
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use serde_json::Value;

    use super::super::fake::Fake;
    use super::*;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        bench: BenchArgs,
    }

    async fn check(fake: &Fake, words: &str) -> Result<(Verdict, Value), Failure> {
        let endpoint = format!("--endpoint={}", fake.address("eu-1"));
        let mut line: Vec<&str> = vec!["bench", "--json", "--warmup=10ms", &endpoint];
        line.extend(words.split_whitespace());
        let mut out = Vec::new();
        let verdict = Command::parse_from(line).bench.run(&mut out).await?;
        Ok((verdict, serde_json::from_slice(&out).unwrap()))
    }

    #[tokio::test]
    async fn a_counted_closed_loop_does_exactly_so_many_operations_in_each_region() {
        let fake = Fake::start(&[("eu", 2), ("us", 1)]).await;
        let (verdict, report) = check(&fake, "--count 200 --concurrency 4 --workload mixed:0.5")
            .await
            .unwrap();
        assert_eq!(verdict, Verdict::Good);
        let mut ops = BTreeMap::new();
        for line in report["lines"].as_array().unwrap() {
            *ops.entry(line["region"].to_string()).or_insert(0) += line["ok"].as_u64().unwrap();
        }
        assert_eq!(ops.into_values().collect::<Vec<_>>(), [200, 200]);
    }

    #[tokio::test]
    async fn an_open_loop_keeps_its_rate() {
        let fake = Fake::start(&[("eu", 1)]).await;
        let (_, report) = check(&fake, "--rate 400 --duration 500ms").await.unwrap();
        let ok = report["lines"][0]["ok"].as_u64().unwrap();
        let unsent = report["lines"][0]["unsent"].as_u64().unwrap();
        assert!((198..=201).contains(&(ok + unsent)), "{report}");
    }

    #[tokio::test]
    async fn lag_is_measured_for_each_pair_and_beyond_the_links_delay() {
        let fake = Fake::start(&[("eu", 1), ("us", 1)]).await;
        fake.world().delay = Duration::from_millis(60);
        let words = "--rate 100 --duration 400ms --lag --lag-samples 50 --rtt eu:us=80";
        let (_, report) = check(&fake, words).await.unwrap();
        let lags = report["lags"].as_array().unwrap();
        assert_eq!(lags.len(), 2);
        for lag in lags {
            assert!(lag["samples"].as_u64().unwrap() > 0, "{lag}");
            assert_eq!(lag["one_way_micros"], 40_000);
            let p50 = lag["since_acked_micros"]["p50"].as_u64().unwrap();
            assert!(p50 >= 59_000, "{lag}");
            let beyond = lag["sent_beyond_micros"]["p50"].as_u64().unwrap();
            assert!(beyond >= 19_000, "{lag}");
        }
    }

    #[tokio::test]
    async fn a_lost_write_is_found_by_the_ack_log() {
        let fake = Fake::start(&[("eu", 1), ("us", 1)]).await;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("acks").display().to_string();
        let load = format!("--ack-log {path} --count 400 --concurrency 2");
        fake.world()
            .faults
            .extend(["unavailable", "unknown_outcome"]);
        let (_, report) = check(&fake, &load).await.unwrap();
        let failed: u64 = (report["lines"].as_array().unwrap().iter())
            .map(|line| line["failed"].as_u64().unwrap() + line["unknown"].as_u64().unwrap())
            .sum();
        assert!(failed <= 2, "{report}");
        let read_back = format!("--check-ack-log {path} --wait 1ms");
        let (verdict, found) = check(&fake, &read_back).await.unwrap();
        assert_eq!(verdict, Verdict::Good, "{found}");
        fake.lose();
        let (verdict, found) = check(&fake, &read_back).await.unwrap();
        assert_eq!(verdict, Verdict::Bad, "{found}");
        let lost = found["lost"].as_array().unwrap();
        assert_eq!(lost.len(), 4, "{found}");
        for what in ["nothing", "write "] {
            let is_so = |loss: &&Value| loss["found"].as_str().unwrap().starts_with(what);
            assert_eq!(lost.iter().filter(is_so).count(), 2, "{found}");
        }
    }

    #[tokio::test]
    async fn workers_go_on_with_another_node_when_theirs_is_gone() {
        let fake = Fake::start(&[("eu", 2)]).await;
        fake.stop("eu-2");
        let (_, report) = check(&fake, "--count 50 --concurrency 2").await.unwrap();
        let line = &report["lines"][0];
        assert!(line["ok"].as_u64().unwrap() >= 48, "{report}");
    }

    #[test]
    fn round_trip_times_are_read() {
        let read = pairs("a:b=70.5, a:c=150").unwrap();
        assert_eq!(read[1], (("a".to_owned(), "c".to_owned()), 150.0));
        assert!(pairs("a-b=3").is_err());
    }
}
