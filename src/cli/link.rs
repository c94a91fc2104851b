//! `sterna link`: cut, heal and shape the links between the regions of a dev cluster.

use std::collections::BTreeSet;
use std::io::Write;

use clap::{Args, Subcommand};
use serde_json::json;

use super::client::{Client, LinkChange, LinkEntry};
use super::options::Connect;
use super::table::{or_dash, write};
use super::{Failure, Verdict};

/// Cut, heal and shape the links between the regions of a dev cluster.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  sterna link show
  sterna link cut us-east eu-west          one link
  sterna link cut us-east                  all links of a region
  sterna link cut us-east eu-west ap-northeast   all links among three regions
  sterna link heal                         all links
  sterna link set us-east eu-west --rtt 150 --loss 0.01")]
pub struct LinkArgs {
    #[command(flatten)]
    pub(crate) connect: Connect,
    /// Write the links as JSON
    #[arg(long, global = true)]
    pub json: bool,
    /// What to do
    #[command(subcommand)]
    pub deed: LinkDeed,
}

/// What to do with links. After it, all links are shown.
#[derive(Subcommand, Clone, Debug)]
pub enum LinkDeed {
    /// Let nothing pass
    Cut {
        /// One region: all its links. Several: the links among them. `*` stands for all others
        #[arg(required = true)]
        regions: Vec<String>,
    },
    /// Let everything pass again; without regions, on all links
    Heal {
        /// One region: all its links. Several: the links among them
        regions: Vec<String>,
    },
    /// Change what a link does to datagrams
    Set {
        /// One region: all its links. Several: the links among them
        #[arg(required = true)]
        regions: Vec<String>,
        /// Round-trip time in milliseconds
        #[arg(long, value_name = "MS")]
        rtt: Option<f64>,
        /// Jitter in milliseconds
        #[arg(long, value_name = "MS")]
        jitter: Option<f64>,
        /// Chance of loss, 0 to 1
        #[arg(long, value_name = "P")]
        loss: Option<f64>,
        /// Bandwidth in megabits a second
        #[arg(long, value_name = "MBIT")]
        bandwidth: Option<f64>,
    },
    /// Show the links
    Show,
}

impl LinkArgs {
    /// Runs the command.
    pub async fn run(&self, out: &mut dyn Write) -> Result<Verdict, Failure> {
        let client = self.connect.client()?;
        let links = links(&client).await?;
        if let Some((pairs, change)) = self.deed.changes(&links)? {
            refuse_strangers(&pairs, &links)?;
            for (a, b) in pairs {
                client.change_link(&a, &b, change).await?;
            }
        }
        self.show(out, self::links(&client).await?)
    }

    fn show(&self, out: &mut dyn Write, links: Vec<LinkEntry>) -> Result<Verdict, Failure> {
        if self.json {
            writeln!(out, "{}", json!({ "links": links }))?;
            return Ok(Verdict::Good);
        }
        write(
            out,
            &[
                "a",
                "b",
                ">rtt ms",
                ">jitter ms",
                ">loss",
                ">mbit/s",
                "state",
            ],
            links.into_iter().map(|link| {
                vec![
                    link.a,
                    link.b,
                    link.rtt_ms.to_string(),
                    link.jitter_ms.to_string(),
                    link.loss.to_string(),
                    or_dash(link.bandwidth_mbit),
                    if link.cut { "CUT" } else { "up" }.to_owned(),
                ]
            }),
        )?;
        Ok(Verdict::Good)
    }
}

async fn links(client: &Client) -> Result<Vec<LinkEntry>, Failure> {
    client.links().await?.ok_or_else(|| {
        Failure::usage(
            "this cluster's links are real: only those of a `sterna dev` cluster can be shaped",
        )
    })
}

type Pairs = Vec<(String, String)>;

impl LinkDeed {
    /// Which pairs to change, and how; nothing if only to show.
    fn changes(&self, links: &[LinkEntry]) -> Result<Option<(Pairs, LinkChange)>, Failure> {
        let cut = |is_cut| LinkChange {
            cut: Some(is_cut),
            ..LinkChange::default()
        };
        match self {
            Self::Show => Ok(None),
            Self::Cut { regions } => Ok(Some((pairs(regions), cut(true)))),
            Self::Heal { regions } if regions.is_empty() => {
                let all = links.iter().map(|link| (link.a.clone(), link.b.clone()));
                Ok(Some((all.collect(), cut(false))))
            }
            Self::Heal { regions } => Ok(Some((pairs(regions), cut(false)))),
            Self::Set {
                regions,
                rtt,
                jitter,
                loss,
                bandwidth,
            } => {
                let change = LinkChange {
                    cut: None,
                    rtt_ms: *rtt,
                    jitter_ms: *jitter,
                    loss: *loss,
                    bandwidth_mbit: *bandwidth,
                };
                if change == LinkChange::default() {
                    return Err(Failure::usage(
                        "say what to set: --rtt, --jitter, --loss or --bandwidth",
                    ));
                }
                Ok(Some((pairs(regions), change)))
            }
        }
    }
}

/// Refuses names that are no region's, before any link is changed.
fn refuse_strangers(pairs: &Pairs, links: &[LinkEntry]) -> Result<(), Failure> {
    let known: BTreeSet<&str> = links
        .iter()
        .flat_map(|link| [link.a.as_str(), link.b.as_str()])
        .collect();
    let mut names = pairs.iter().flat_map(|(a, b)| [a.as_str(), b.as_str()]);
    match names.find(|name| *name != "*" && !known.contains(name)) {
        None => Ok(()),
        Some(name) if known.is_empty() => Err(Failure::usage(format!(
            "no region `{name}`: there are no links in this cluster"
        ))),
        Some(name) => {
            let known: Vec<&str> = known.into_iter().collect();
            let known = known.join(", ");
            Err(Failure::usage(format!(
                "no region `{name}` has links: use {known}"
            )))
        }
    }
}

/// One region, or one and `*`: all its links. Several: all pairs among them.
fn pairs(regions: &[String]) -> Pairs {
    match regions {
        [] => Vec::new(),
        [only] => vec![(only.clone(), "*".to_owned())],
        [first, rest @ ..] => {
            let mut pairs: Pairs = rest.iter().map(|b| (first.clone(), b.clone())).collect();
            if rest.len() > 1 {
                pairs.extend(self::pairs(rest));
            }
            pairs
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fake::Fake;
    use super::*;

    async fn cut_links(fake: &Fake, deed: LinkDeed) -> Vec<String> {
        let args = LinkArgs {
            connect: Connect {
                endpoint: fake.address("a-1"),
                timeout: None,
            },
            json: true,
            deed,
        };
        args.run(&mut Vec::new()).await.unwrap();
        let world = fake.world();
        let cut = world.links.iter().filter(|link| link["cut"] == true);
        cut.map(|link| {
            format!(
                "{}{}",
                link["a"].as_str().unwrap(),
                link["b"].as_str().unwrap()
            )
        })
        .collect()
    }

    fn names(words: &str) -> Vec<String> {
        words.split_whitespace().map(str::to_owned).collect()
    }

    #[tokio::test]
    async fn links_are_cut_and_healed_by_one_region_by_pair_and_among_several() {
        let fake = Fake::start(&[("a", 1), ("b", 1), ("c", 1), ("d", 1)]).await;
        fake.world().is_dev = true;
        let cut = |words| LinkDeed::Cut {
            regions: names(words),
        };
        let heal = |words| LinkDeed::Heal {
            regions: names(words),
        };
        assert_eq!(cut_links(&fake, cut("a b")).await, ["ab"]);
        assert_eq!(cut_links(&fake, heal("a *")).await, Vec::<String>::new());
        assert_eq!(cut_links(&fake, cut("c")).await, ["ac", "bc", "cd"]);
        assert_eq!(cut_links(&fake, heal("")).await, Vec::<String>::new());
        assert_eq!(cut_links(&fake, cut("a b d")).await, ["ab", "ad", "bd"]);
    }

    #[tokio::test]
    async fn a_name_that_is_no_region_is_refused_with_those_that_are() {
        let fake = Fake::start(&[("a", 1), ("b", 1)]).await;
        fake.world().is_dev = true;
        let args = LinkArgs {
            connect: Connect {
                endpoint: fake.address("a-1"),
                timeout: None,
            },
            json: false,
            deed: LinkDeed::Cut {
                regions: names("a mars"),
            },
        };
        let error = args.run(&mut Vec::new()).await.unwrap_err().to_string();
        assert!(
            error.contains("`mars`") && error.contains("a, b"),
            "{error}"
        );
        assert!(fake.world().links.iter().all(|link| link["cut"] != true));
    }

    #[tokio::test]
    async fn a_cluster_with_real_links_says_so() {
        let fake = Fake::start(&[("a", 1)]).await;
        let args = LinkArgs {
            connect: Connect {
                endpoint: fake.address("a-1"),
                timeout: None,
            },
            json: false,
            deed: LinkDeed::Show,
        };
        let error = args.run(&mut Vec::new()).await.unwrap_err().to_string();
        assert!(error.contains("sterna dev"), "{error}");
    }
}
