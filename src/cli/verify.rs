//! `sterna verify`: do all replicas of every partition hold the same?
//!
//! It compares digests that the nodes compute; it reads no rows. It knows nothing of how differences
//! are repaired.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::time::Duration;

use clap::Args;
use indicatif::ProgressBar;
use serde_json::json;
use tokio::time::Instant;

use crate::model::{DIGEST_FANOUT, DIGEST_LEAVES, DIGEST_LEVELS};

use super::client::{Client, Error, KeyspaceEntry, NodeEntry, Status};
use super::options::{Connect, span};
use super::{Failure, Verdict};

/// Between two looks at the digests, while they differ.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Partitions that are walked down to the leaves; further ones are only named.
const WALKS_MAX: usize = 16;
/// Lines of nodes and partitions that are shown, and ranges of leaves of each, unless all are asked for.
const SHOWN_MAX: usize = 20;

/// Prove that all replicas in all regions hold the same.
///
/// Compares the digests of every partition on every node. While they differ it looks again, until
/// --wait is over: changes may be on their way. Exit code 0 if all are equal, 1 if not; then it names
/// the partitions, the ranges of leaves, and the nodes that disagree with the majority. A node that
/// cannot be reached is not equal.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  sterna verify
  sterna verify --wait 2m && echo converged
  sterna verify --wait 1ms --all")]
pub struct VerifyArgs {
    #[command(flatten)]
    pub(crate) connect: Connect,
    /// How long to wait for changes that are on their way
    #[arg(long, default_value = "30s", value_parser = span, value_name = "TIME")]
    pub wait: Duration,
    /// Name all nodes, partitions and leaves that differ, and not just a screenful of them
    #[arg(long)]
    pub all: bool,
    /// Write one JSON object
    #[arg(long)]
    pub json: bool,
}

type Partition = (String, u32);

/// What all nodes said at one look.
#[derive(Default)]
struct Look {
    /// Root by node, of every partition.
    roots: BTreeMap<Partition, BTreeMap<String, String>>,
    unreachable: BTreeMap<String, String>,
}

/// A node's disagreement with the majority.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize)]
struct Difference {
    keyspace: String,
    partition: u32,
    node: String,
    /// One of those it is compared with.
    majority: String,
    /// First and last leaf of each range that differs; nothing if it was not walked.
    leaves: Vec<(u16, u16)>,
}

impl VerifyArgs {
    /// Runs the command.
    pub async fn run(&self, out: &mut dyn Write) -> Result<Verdict, Failure> {
        let client = self.connect.client()?;
        let status = client.status().await?;
        let until = Instant::now() + self.wait;
        let mut look = look(&client, &status.nodes).await;
        // On a terminal only.
        let waiting = ProgressBar::new_spinner();
        while !look.is_equal(&status) && Instant::now() + LOOK_EVERY < until {
            waiting.set_message(look.waits_for(&status, until - Instant::now()));
            tokio::time::sleep(LOOK_EVERY).await;
            look = self::look(&client, &status.nodes).await;
        }
        waiting.finish_and_clear();
        let differences = differences(&client, &status, &look).await;
        let missing = look.missing(&status);
        let verdict = if look.is_equal(&status) {
            Verdict::Good
        } else {
            Verdict::Bad
        };
        if self.json {
            let missing: Vec<_> = (missing.iter())
                .map(|((keyspace, partition), (held, wanted))| {
                    json!({"keyspace": keyspace, "partition": partition, "held": held, "wanted": wanted})
                })
                .collect();
            let report = json!({
                "equal": verdict == Verdict::Good,
                "partitions": look.roots.len(),
                "replicas": look.replicas(),
                "unreachable": look.unreachable,
                "missing": missing,
                "differences": differences,
            });
            writeln!(out, "{report}")?;
        } else {
            let lines = look.lines(&missing, &differences, self.shown_max());
            look.write(out, verdict, &lines, self.shown_max())?;
        }
        Ok(verdict)
    }
}

impl VerifyArgs {
    fn shown_max(&self) -> usize {
        if self.all { usize::MAX } else { SHOWN_MAX }
    }
}

async fn look(client: &Client, nodes: &[NodeEntry]) -> Look {
    let mut look = Look::default();
    let asked = nodes
        .iter()
        .map(|node| async move { (node, client.at(&node.http).digests().await) });
    for (node, told) in futures_util::future::join_all(asked).await {
        match told {
            Ok(digests) => {
                for entry in digests.partitions {
                    look.roots
                        .entry((entry.keyspace, entry.partition))
                        .or_default()
                        .insert(node.node.clone(), entry.root);
                }
            }
            Err(error) => {
                look.unreachable
                    .insert(node.node.clone(), error.to_string());
            }
        }
    }
    look
}

/// How many replicas of each partition of a keyspace the cluster has in all.
fn replicas_wanted(keyspace: &KeyspaceEntry, nodes: &[NodeEntry]) -> usize {
    let in_region = |region: &&String| nodes.iter().filter(|n| n.region == ***region).count();
    let regions = keyspace.regions.iter();
    regions
        .map(|region| in_region(&region).min(keyspace.replication))
        .sum()
}

impl Look {
    fn replicas(&self) -> usize {
        self.roots.values().map(BTreeMap::len).sum()
    }

    fn is_equal(&self, status: &Status) -> bool {
        self.unreachable.is_empty()
            && !self.roots.is_empty()
            && self.differing() == 0
            && self.missing(status).is_empty()
    }

    /// Partitions whose replicas do not agree.
    fn differing(&self) -> usize {
        let differ = |roots: &&BTreeMap<String, String>| {
            let mut values = roots.values();
            let first = values.next();
            values.any(|root| Some(root) != first)
        };
        self.roots.values().filter(differ).count()
    }

    /// What keeps the replicas from being equal, and how long that is waited for.
    fn waits_for(&self, status: &Status, left: Duration) -> String {
        let counts = [
            (self.unreachable.len(), "nodes that do not answer"),
            (self.differing(), "partitions that differ"),
            (self.missing(status).len(), "partitions that lack replicas"),
        ];
        let counts = counts.into_iter().filter(|(count, _)| *count > 0);
        let words: Vec<String> = counts.map(|(n, words)| format!("{words}: {n}")).collect();
        format!("{}; waiting {} s more", words.join(", "), left.as_secs())
    }

    /// Partitions that fewer nodes hold than should: (held, wanted).
    fn missing(&self, status: &Status) -> BTreeMap<Partition, (usize, usize)> {
        let mut missing = BTreeMap::new();
        for (partition, roots) in &self.roots {
            let keyspace = status.keyspaces.iter().find(|k| k.name == partition.0);
            let wanted = keyspace.map_or(0, |keyspace| replicas_wanted(keyspace, &status.nodes));
            if roots.len() < wanted {
                missing.insert(partition.clone(), (roots.len(), wanted));
            }
        }
        missing
    }

    /// What is to be said of each node and partition that is not as it should be.
    fn lines(
        &self,
        missing: &BTreeMap<Partition, (usize, usize)>,
        differences: &[Difference],
        ranges_max: usize,
    ) -> Vec<String> {
        let unreachable = self.unreachable.iter();
        let unreachable = unreachable.map(|(node, error)| format!("{node}: {error}"));
        let missing = missing
            .iter()
            .map(|((keyspace, partition), (held, wanted))| {
                format!("{keyspace}/{partition}: {held} replicas answer of {wanted}")
            });
        let differences = differences.iter().map(|difference| {
            let Difference {
                keyspace,
                partition,
                node,
                majority,
                leaves,
            } = difference;
            let leaves = shown(leaves, ranges_max);
            format!("{keyspace}/{partition}: {node} disagrees with {majority}{leaves}")
        });
        unreachable.chain(missing).chain(differences).collect()
    }

    fn write(
        &self,
        out: &mut dyn Write,
        verdict: Verdict,
        lines: &[String],
        lines_max: usize,
    ) -> Result<(), Failure> {
        let word = match verdict {
            Verdict::Good => "equal",
            Verdict::Bad => "NOT equal",
        };
        let (partitions, replicas) = (self.roots.len(), self.replicas());
        writeln!(out, "{word}: {partitions} partitions, {replicas} replicas")?;
        for line in lines.iter().take(lines_max) {
            writeln!(out, "  {line}")?;
        }
        if let Some(more) = lines.len().checked_sub(lines_max).filter(|more| *more > 0) {
            writeln!(out, "  and {more} more: --all names them")?;
        }
        Ok(())
    }
}

fn shown(leaves: &[(u16, u16)], ranges_max: usize) -> String {
    if leaves.is_empty() {
        return String::new();
    }
    let ranges = leaves.iter().map(|(first, last)| {
        if first == last {
            first.to_string()
        } else {
            format!("{first}-{last}")
        }
    });
    let ranges: Vec<String> = ranges.take(ranges_max).collect();
    let left = leaves.len() - ranges.len();
    let more = if left == 0 {
        String::new()
    } else {
        format!(" and {left} more ranges")
    };
    let ranges = ranges.join(", ");
    format!(" in leaves {ranges}{more} of {DIGEST_LEAVES}")
}

async fn differences(client: &Client, status: &Status, look: &Look) -> Vec<Difference> {
    let mut found = Vec::new();
    for ((keyspace, partition), roots) in &look.roots {
        let Some((majority, _)) = majority(roots) else {
            continue;
        };
        for (node, root) in roots {
            if Some(root) == roots.get(majority) {
                continue;
            }
            let address = |name: &str| status.nodes.iter().find(|n| n.node == name);
            let leaves = match (address(node), address(majority)) {
                (Some(a), Some(b)) if found.len() < WALKS_MAX => {
                    let clients = [client.at(&a.http), client.at(&b.http)];
                    walk(&clients, keyspace, *partition)
                        .await
                        .unwrap_or_default()
                }
                (_, _) => Vec::new(),
            };
            found.push(Difference {
                keyspace: keyspace.clone(),
                partition: *partition,
                node: node.clone(),
                majority: majority.to_owned(),
                leaves,
            });
        }
    }
    found
}

/// The first node that holds the most common root, and that root.
fn majority(roots: &BTreeMap<String, String>) -> Option<(&str, &str)> {
    let votes = |root: &str| roots.values().filter(|other| *other == root).count();
    let mut best: Option<(&str, &str)> = None;
    for (node, root) in roots {
        if best.is_none_or(|(_, held)| votes(root) > votes(held)) {
            best = Some((node, root));
        }
    }
    best
}

/// The ranges of leaves in which two nodes differ. What changes meanwhile may show or hide a range.
async fn walk(
    clients: &[Client; 2],
    keyspace: &str,
    partition: u32,
) -> Result<Vec<(u16, u16)>, Error> {
    let [a, b] = clients;
    let mut indices = BTreeSet::from([0u16]);
    for level in 0..DIGEST_LEVELS {
        let mut below = BTreeSet::new();
        for index in indices {
            let (mine, theirs) = tokio::try_join!(
                a.digest_children(keyspace, partition, level, index),
                b.digest_children(keyspace, partition, level, index),
            )?;
            for ((child, one), other) in (0..DIGEST_FANOUT).zip(mine).zip(theirs) {
                if one != other {
                    below.insert(index.saturating_mul(DIGEST_FANOUT).saturating_add(child));
                }
            }
        }
        indices = below;
    }
    Ok(ranges(indices))
}

fn ranges(leaves: BTreeSet<u16>) -> Vec<(u16, u16)> {
    let mut ranges: Vec<(u16, u16)> = Vec::new();
    for leaf in leaves {
        match ranges.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(leaf) => *last = leaf,
            Some(_) | None => ranges.push((leaf, leaf)),
        }
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::super::fake::Fake;
    use super::*;

    async fn check(fake: &Fake, as_json: bool) -> (Verdict, String) {
        let args = VerifyArgs {
            connect: Connect {
                endpoint: fake.address("eu-1"),
                timeout: None,
            },
            wait: Duration::from_millis(1),
            all: false,
            json: as_json,
        };
        let mut out = Vec::new();
        let verdict = args.run(&mut out).await.unwrap();
        (verdict, String::from_utf8(out).unwrap())
    }

    #[tokio::test]
    async fn equal_digests_are_equal() {
        let fake = Fake::start(&[("eu", 2), ("us", 2)]).await;
        let (verdict, text) = check(&fake, false).await;
        assert_eq!(
            (verdict, text.as_str()),
            (Verdict::Good, "equal: 2 partitions, 8 replicas\n")
        );
    }

    #[tokio::test]
    async fn a_difference_is_named_down_to_its_leaves() {
        let fake = Fake::start(&[("eu", 2), ("us", 2)]).await;
        let odd = BTreeSet::from([15, 16, 17, 4095]);
        fake.world().odd_leaves.insert("us-2".to_owned(), odd);
        let (verdict, text) = check(&fake, false).await;
        assert_eq!(verdict, Verdict::Bad);
        assert_eq!(
            text,
            "NOT equal: 2 partitions, 8 replicas\n  default/0: us-2 disagrees with eu-1 in leaves 15-17, 4095 of 4096\n"
        );
        let (_, text) = check(&fake, true).await;
        assert!(text.contains(r#""leaves":[[15,17],[4095,4095]]"#), "{text}");
    }

    #[test]
    fn a_screenful_is_shown_unless_all_are_asked_for() {
        let leaves: Vec<(u16, u16)> = (0..30).map(|n| (n * 2, n * 2)).collect();
        assert!(shown(&leaves, SHOWN_MAX).ends_with(" 36, 38 and 10 more ranges of 4096"));
        assert!(shown(&leaves, usize::MAX).ends_with(" 56, 58 of 4096"));
        let lines: Vec<String> = (0..25).map(|n| n.to_string()).collect();
        let mut out = Vec::new();
        let look = Look::default();
        look.write(&mut out, Verdict::Bad, &lines, SHOWN_MAX)
            .unwrap();
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text.lines().count(), 22, "{text}");
        assert!(text.ends_with("  and 5 more: --all names them\n"), "{text}");
    }

    #[tokio::test]
    async fn who_waits_is_told_for_what() {
        let fake = Fake::start(&[("eu", 2), ("us", 2)]).await;
        let odd = BTreeSet::from([15]);
        fake.world().odd_leaves.insert("us-2".to_owned(), odd);
        let connect = Connect {
            endpoint: fake.address("eu-1"),
            timeout: None,
        };
        let client = connect.client().unwrap();
        let status = client.status().await.unwrap();
        let look = look(&client, &status.nodes).await;
        assert_eq!(
            look.waits_for(&status, Duration::from_secs(7)),
            "partitions that differ: 1; waiting 7 s more"
        );
    }

    #[tokio::test]
    async fn a_node_that_cannot_be_reached_is_not_equal() {
        let fake = Fake::start(&[("eu", 2), ("us", 2)]).await;
        fake.stop("us-1");
        let (verdict, text) = check(&fake, false).await;
        assert_eq!(verdict, Verdict::Bad);
        assert!(text.contains("us-1: nothing listens"), "{text}");
    }
}
