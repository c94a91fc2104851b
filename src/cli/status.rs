//! `sterna status` and `sterna regions`: what the nodes say of themselves and of each other.

use std::collections::BTreeMap;
use std::io::Write;

use clap::Args;
use serde_json::json;

use super::client::{Client, PairEntry, Status};
use super::options::Connect;
use super::table::{or_dash, write};
use super::{Failure, Verdict};

/// Show the cluster as one node sees it; exit code 1 if that node is not ready.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  sterna status
  sterna status --endpoint http://eu1.example:7101 --json")]
pub struct StatusArgs {
    #[command(flatten)]
    pub(crate) connect: Connect,
    /// Write the node's answer as JSON
    #[arg(long)]
    pub json: bool,
}

/// Show lag, backlog and divergence between every pair of regions.
///
/// Asks every node that can be reached. Lag is how far behind the receiving region is, in milliseconds
/// (the greatest of its nodes); backlog counts changes that the other region has not acknowledged;
/// divergence counts rows that differed, beyond those on their way, in the last round of
/// reconciliation.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  sterna regions
  watch -n1 sterna regions")]
pub struct RegionsArgs {
    #[command(flatten)]
    pub(crate) connect: Connect,
    /// Write one JSON object
    #[arg(long)]
    pub json: bool,
}

impl StatusArgs {
    /// Runs the command.
    pub async fn run(&self, out: &mut dyn Write) -> Result<Verdict, Failure> {
        let status = self.connect.client()?.status().await?;
        if self.json {
            writeln!(out, "{}", json!(status))?;
            return Ok(verdict(&status));
        }
        writeln!(
            out,
            "cluster {}, seen from {} in {}: {}, {} of {} partitions serve, {} with a quorum, {} requests in flight\n",
            status.cluster,
            status.node,
            status.region,
            if status.ready { "ready" } else { "not ready" },
            status.serving,
            status.partitions,
            status.available,
            status.requests,
        )?;
        write(
            out,
            &["node", "region", "zone", "http", "state", ">backlog"],
            status.nodes.iter().map(|node| {
                let peer = status.peers.iter().find(|peer| peer.node == node.node);
                let state = match peer {
                    _ if node.node == status.node => "asked",
                    Some(peer) if peer.up => "up",
                    Some(_) => "down",
                    None => "?",
                };
                vec![
                    node.node.clone(),
                    node.region.clone(),
                    node.zone.clone(),
                    node.http.clone(),
                    state.to_owned(),
                    or_dash(peer.map(|peer| peer.backlog)),
                ]
            }),
        )?;
        writeln!(out)?;
        write(
            out,
            &["keyspace", "merge", ">replicas", "consistency", "regions"],
            status.keyspaces.iter().map(|keyspace| {
                vec![
                    keyspace.name.clone(),
                    keyspace.merge.clone(),
                    format!("{} a region", keyspace.replication),
                    keyspace.consistency.clone(),
                    keyspace.regions.join(" "),
                ]
            }),
        )?;
        Ok(verdict(&status))
    }
}

fn verdict(status: &Status) -> Verdict {
    if status.ready {
        Verdict::Good
    } else {
        Verdict::Bad
    }
}

#[derive(Default)]
struct Pair {
    lag_ms: Option<u64>,
    backlog: u64,
    divergence: u64,
}

impl RegionsArgs {
    /// Runs the command.
    pub async fn run(&self, out: &mut dyn Write) -> Result<Verdict, Failure> {
        let client = self.connect.client()?;
        let status = client.status().await?;
        let (pairs, silent) = gather(&client, &status).await;
        if self.json {
            let pairs: Vec<PairEntry> = (pairs.into_iter())
                .map(|((from, to), pair)| PairEntry {
                    from,
                    to,
                    lag_ms: pair.lag_ms,
                    backlog: pair.backlog,
                    divergence: pair.divergence,
                })
                .collect();
            let silent: Vec<&String> = silent.iter().map(|(node, _)| node).collect();
            writeln!(out, "{}", json!({"pairs": pairs, "unreachable": silent}))?;
        } else {
            write(
                out,
                &["from", "to", ">lag ms", ">backlog", ">divergence"],
                pairs.into_iter().map(|((from, to), pair)| {
                    let numbers = [
                        or_dash(pair.lag_ms),
                        pair.backlog.to_string(),
                        pair.divergence.to_string(),
                    ];
                    [from, to].into_iter().chain(numbers).collect()
                }),
            )?;
            for (node, error) in &silent {
                writeln!(out, "not asked: {node}: {error}")?;
            }
        }
        Ok(if silent.is_empty() {
            Verdict::Good
        } else {
            Verdict::Bad
        })
    }
}

/// Asks all nodes. Of a pair, lag and divergence are told by the receiving region, backlog by the sending.
async fn gather(
    client: &Client,
    status: &Status,
) -> (BTreeMap<(String, String), Pair>, Vec<(String, String)>) {
    let mut pairs: BTreeMap<(String, String), Pair> = BTreeMap::new();
    let mut silent = Vec::new();
    for node in &status.nodes {
        let told = match client.at(&node.http).regions().await {
            Ok(told) => told,
            Err(error) => {
                silent.push((node.node.clone(), error.to_string()));
                continue;
            }
        };
        for entry in told.pairs {
            let is_receiver = entry.to == told.region;
            let pair = pairs.entry((entry.from, entry.to)).or_default();
            if is_receiver {
                pair.lag_ms = pair.lag_ms.max(entry.lag_ms);
                pair.divergence += entry.divergence;
            } else {
                pair.backlog += entry.backlog;
            }
        }
    }
    (pairs, silent)
}

#[cfg(test)]
mod tests {
    use super::super::fake::Fake;
    use super::*;

    fn connect(fake: &Fake) -> Connect {
        Connect {
            endpoint: fake.address("eu-1"),
            timeout: None,
        }
    }

    #[tokio::test]
    async fn status_names_nodes_and_keyspaces() {
        let fake = Fake::start(&[("eu", 2), ("us", 1)]).await;
        let mut out = Vec::new();
        let args = StatusArgs {
            connect: connect(&fake),
            json: false,
        };
        args.run(&mut out).await.unwrap();
        let text = String::from_utf8(out).unwrap();
        for word in ["eu-1", "us-1", "asked", "up", "default", "lww"] {
            assert!(text.contains(word), "{text}");
        }
    }

    #[tokio::test]
    async fn regions_sum_what_the_nodes_of_a_region_say_and_name_the_silent() {
        let fake = Fake::start(&[("eu", 2), ("us", 2)]).await;
        let args = RegionsArgs {
            connect: connect(&fake),
            json: false,
        };
        let mut out = Vec::new();
        assert_eq!(args.run(&mut out).await.unwrap(), Verdict::Good);
        let text = String::from_utf8(out).unwrap();
        let line = text.lines().nth(1).unwrap();
        let words: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(words, ["eu", "us", "12", "14", "2"]);
        fake.stop("us-2");
        let mut out = Vec::new();
        assert_eq!(args.run(&mut out).await.unwrap(), Verdict::Bad);
        assert!(String::from_utf8(out).unwrap().contains("not asked: us-2"));
    }
}
