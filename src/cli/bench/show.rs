//! Reports of the bench as tables and as JSON.

use std::io::Write;

use serde_json::{Value, json};

use crate::bench::{LagLine, Plan, Quantiles, Report, Until};

use super::super::Failure;
use super::super::table;

/// What is about to be done, in a line or two.
pub(super) fn plan(plan: &Plan, out: &mut dyn Write) -> Result<(), Failure> {
    let regions: Vec<String> = (plan.sites.iter())
        .map(|site| format!("{} ({} nodes)", site.region, site.nodes.len()))
        .collect();
    let pace = match plan.rate {
        Some(rate) => format!(
            "{rate} requests/s in each region, at most {} on their way",
            plan.concurrency
        ),
        None => format!("{} workers in each region", plan.concurrency),
    };
    let until = match plan.until {
        Until::Elapsed(span) => format!("for {span:?}"),
        Until::Count(count) => format!("{count} operations in each region"),
    };
    let mix = plan.workload.mix;
    let (keys, bytes) = (plan.workload.keys, plan.workload.value_bytes);
    writeln!(out, "{}", regions.join(", "))?;
    writeln!(
        out,
        "{mix}, {keys} keys, {bytes} bytes, {pace}, {until} after {:?}\n",
        plan.warmup
    )?;
    Ok(())
}

/// The report as one JSON object.
pub(super) fn json(plan: &Plan, report: &Report, out: &mut dyn Write) -> Result<(), Failure> {
    let mut value = json!(report);
    let seconds = match plan.until {
        Until::Elapsed(span) => json!({"seconds": span.as_secs_f64()}),
        Until::Count(count) => json!({"count": count}),
    };
    if let Value::Object(fields) = &mut value {
        fields.insert(
            "plan".to_owned(),
            json!({
                "workload": plan.workload.mix.to_string(),
                "keys": plan.workload.keys,
                "value_bytes": plan.workload.value_bytes,
                "concurrency": plan.concurrency,
                "rate": plan.rate,
                "until": seconds,
                "seed": plan.seed,
                "keyspace": plan.keyspace,
                "consistency": plan.level.map(|level| level.to_string()),
            }),
        );
    }
    writeln!(out, "{value}")?;
    Ok(())
}

/// The report as tables.
pub(super) fn tables(report: &Report, out: &mut dyn Write) -> Result<(), Failure> {
    table::write(
        out,
        &[
            "region",
            "kind",
            ">ok",
            ">unknown",
            ">failed",
            ">ops/s",
            ">p50 ms",
            ">p90 ms",
            ">p99 ms",
            ">p99.9 ms",
            ">max ms",
        ],
        report.lines.iter().map(|line| {
            let Quantiles {
                p50,
                p90,
                p99,
                p999,
                max,
            } = line.latency_micros;
            let mut row = vec![line.region.clone(), line.kind.to_owned()];
            row.extend([line.ok, line.unknown, line.failed].map(|count| count.to_string()));
            row.push(format!("{:.0}", line.ops_per_second));
            row.extend([p50, p90, p99, p999, max].map(millis));
            row
        }),
    )?;
    for line in &report.lines {
        let absent = Some(line.absent)
            .filter(|count| *count > 0)
            .map(|count| ("absent", count));
        let unsent = Some(line.unsent)
            .filter(|count| *count > 0)
            .map(|count| ("not sent in time", count));
        let errors = line
            .errors
            .iter()
            .map(|(code, count)| (code.as_str(), *count));
        for (what, count) in errors.chain(absent).chain(unsent) {
            writeln!(out, "{} {}: {what} {count}", line.region, line.kind)?;
        }
    }
    if !report.lags.is_empty() {
        lags(&report.lags, out)?;
    }
    if report.unlogged > 0 {
        writeln!(
            out,
            "{} acknowledgements could not be written down: the ack log is incomplete",
            report.unlogged
        )?;
    }
    Ok(())
}

fn lags(lags: &[LagLine], out: &mut dyn Write) -> Result<(), Failure> {
    let three = |q: Quantiles| [q.p50, q.p99, q.max].map(millis);
    let dashes = || ["-", "-", "-"].map(str::to_owned);
    let headers = [
        "from",
        "to",
        ">one way",
        ">seen",
        ">skipped",
        ">given up",
        ">p50 ms",
        ">p99 ms",
        ">max ms",
    ];
    writeln!(out, "\nlag from sending until visible")?;
    let row = |lag: &LagLine, quantiles: [String; 3]| {
        let mut row = vec![
            lag.from.clone(),
            lag.to.clone(),
            table::or_dash(lag.one_way_micros.map(millis)),
        ];
        row.extend([lag.samples, lag.skipped, lag.given_up].map(|count| count.to_string()));
        row.extend(quantiles);
        row
    };
    table::write(
        out,
        &headers,
        lags.iter()
            .map(|lag| row(lag, three(lag.since_sent_micros))),
    )?;
    writeln!(out, "\nlag from acknowledgement until visible")?;
    table::write(
        out,
        &headers,
        lags.iter()
            .map(|lag| row(lag, three(lag.since_acked_micros))),
    )?;
    writeln!(out, "\nlag from sending, beyond the one-way delay")?;
    let beyond = |lag: &LagLine| lag.sent_beyond_micros.map_or_else(dashes, three);
    table::write(out, &headers, lags.iter().map(|lag| row(lag, beyond(lag))))?;
    writeln!(out, "\nlag from acknowledgement, beyond the one-way delay")?;
    let beyond = |lag: &LagLine| lag.acked_beyond_micros.map_or_else(dashes, three);
    table::write(out, &headers, lags.iter().map(|lag| row(lag, beyond(lag))))
}

fn millis(micros: u64) -> String {
    format!("{:.2}", micros as f64 / 1e3)
}
