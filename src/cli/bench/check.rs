//! Reads every acknowledged write of an ack log back, from every region, and finds what was lost.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use serde_json::json;
use tokio::time::Instant;

use crate::bench::{Acked, Site, read_ack_log};
use crate::model::Level;
use crate::workload::op_of;

use super::super::client::{Blob, Client, Error, ItemResult};
use super::super::{Failure, Verdict};

/// Keys read at once.
const BATCH: usize = 500;
/// Between two rounds, while something is older than it should be.
const ROUND_EVERY: Duration = Duration::from_millis(500);
/// Losses shown without --json.
const SHOWN_MAX: usize = 20;

/// Where to look, and for how long.
pub(super) struct Scope<'a> {
    pub(super) keyspace: &'a str,
    pub(super) sites: &'a [Site],
    pub(super) wait: Duration,
}

/// A key that does not hold what was acknowledged.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
struct Loss {
    region: String,
    key: String,
    /// Number of the last acknowledged write.
    acknowledged: u64,
    /// What was found in its place.
    found: String,
}

/// Reads everything back. What is not there yet is looked for again until the wait is over.
pub(super) async fn run(
    client: &Client,
    path: &Path,
    scope: &Scope<'_>,
    as_json: bool,
    out: &mut dyn Write,
) -> Result<Verdict, Failure> {
    let acked = read_ack_log(path)?;
    let until = Instant::now() + scope.wait;
    let client = client.clone().with_level(Some(Level::LocalQuorum));
    let mut lost = Vec::new();
    for site in scope.sites {
        let mut left = acked.clone();
        loop {
            let losses = round(&client, site, scope.keyspace, &left).await;
            let keys: Vec<&String> = losses.iter().map(|loss| &loss.key).collect();
            left.retain(|key, _| keys.binary_search(&key).is_ok());
            if losses.is_empty() || Instant::now() >= until {
                lost.extend(losses);
                break;
            }
            tokio::time::sleep(ROUND_EVERY).await;
        }
    }
    let verdict = if lost.is_empty() {
        Verdict::Good
    } else {
        Verdict::Bad
    };
    let (keys, regions) = (acked.len(), scope.sites.len());
    let writes: u64 = acked.values().map(|acked| acked.n).sum();
    if as_json {
        writeln!(
            out,
            "{}",
            json!({"keys": keys, "writes": writes, "regions": regions, "lost": lost})
        )?;
        return Ok(verdict);
    }
    for loss in lost.iter().take(SHOWN_MAX) {
        let Loss {
            region,
            key,
            acknowledged,
            found,
        } = loss;
        writeln!(
            out,
            "LOST in {region}: {key}: write {acknowledged} was acknowledged, found {found}"
        )?;
    }
    writeln!(
        out,
        "{keys} keys with up to {writes} acknowledged writes, in {regions} regions: {} lost",
        lost.len()
    )?;
    Ok(verdict)
}

/// What is not as acknowledged in one region, in order of keys.
async fn round(
    client: &Client,
    site: &Site,
    keyspace: &str,
    acked: &BTreeMap<String, Acked>,
) -> Vec<Loss> {
    let all: Vec<(&String, Acked)> = acked.iter().map(|(key, acked)| (key, *acked)).collect();
    let mut losses = Vec::new();
    for part in all.chunks(BATCH) {
        let keys: Vec<Blob> = (part.iter())
            .map(|(key, _)| Blob(Bytes::copy_from_slice(key.as_bytes())))
            .collect();
        let read = read(client, site, keyspace, &keys).await;
        for (n, (key, acked)) in part.iter().enumerate() {
            let fault = match &read {
                Ok(results) => results.get(n).and_then(|result| fault(result, *acked)),
                Err(error) => Some(format!("an error: {error}")),
            };
            losses.extend(fault.map(|found| Loss {
                region: site.region.clone(),
                key: (*key).clone(),
                acknowledged: acked.n,
                found,
            }));
        }
    }
    losses
}

/// Reads from the first node that answers.
async fn read(
    client: &Client,
    site: &Site,
    keyspace: &str,
    keys: &[Blob],
) -> Result<Vec<ItemResult>, Error> {
    let mut last = Error::Endpoint(site.region.clone());
    for node in &site.nodes {
        match client.at(node).get_batch(keyspace, keys).await {
            Ok(results) => return Ok(results),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// What is wrong with a result; nothing if it holds the acknowledged write or a newer one.
fn fault(result: &ItemResult, acked: Acked) -> Option<String> {
    if let Some(problem) = &result.error {
        return Some(format!("an error: {} [{}]", problem.message, problem.code));
    }
    let Some(Blob(value)) = &result.value else {
        return Some("nothing".to_owned());
    };
    let Some(op) = op_of(value) else {
        return Some("a value that no bench wrote".to_owned());
    };
    if op.n < acked.n {
        return Some(format!("write {}", op.n));
    }
    let is_corrupt = op.n == acked.n && Acked::hash_of(value) != acked.hash;
    is_corrupt.then(|| "that write with another value".to_owned())
}
