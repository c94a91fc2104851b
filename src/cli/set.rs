//! `sterna set`: members that every region adds and removes.

use std::io::Write;

use clap::{Args, Subcommand};
use serde_json::json;

use super::client::Members;
use super::key::Spot;
use super::options::{Freshness, Lifetime, SessionArgs};
use super::{Failure, Verdict};

/// Members asked for at once.
const PAGE_MEMBERS: usize = 1000;

/// Add, remove, or list the members of a set.
///
/// Of an add and a remove of one member at the same time in two regions, the add wins: a remove takes away
/// what its node observes.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  sterna set add cart:7 milk tea
  sterna set add online user:1 --ttl 30s
  sterna set has cart:7 milk && echo yes
  sterna set remove cart:7 tea
  sterna set members cart:7
  sterna set size cart:7
  sterna set clear cart:7")]
pub struct SetArgs {
    #[command(subcommand)]
    deed: Deed,
}

#[derive(Subcommand, Clone, Debug)]
enum Deed {
    /// Add members
    Add {
        #[command(flatten)]
        spot: Spot,
        #[command(flatten)]
        session: SessionArgs,
        #[command(flatten)]
        life: Lifetime,
        /// The members
        #[arg(value_name = "MEMBER", required = true)]
        members: Vec<String>,
    },
    /// Remove members, as far as the node observes them
    Remove {
        #[command(flatten)]
        spot: Spot,
        #[command(flatten)]
        session: SessionArgs,
        /// The members
        #[arg(value_name = "MEMBER", required = true)]
        members: Vec<String>,
    },
    /// Say whether a member is there; exit code 1 if not
    Has {
        #[command(flatten)]
        spot: Spot,
        #[command(flatten)]
        fresh: Freshness,
        /// The member
        #[arg(value_name = "MEMBER")]
        member: String,
    },
    /// List the members, one a line, in the order of their bytes
    #[command(visible_aliases = ["list", "get"])]
    Members {
        #[command(flatten)]
        spot: Spot,
        #[command(flatten)]
        fresh: Freshness,
    },
    /// Say how many members there are, as one replica counts them
    Size {
        #[command(flatten)]
        spot: Spot,
        #[command(flatten)]
        fresh: Freshness,
    },
    /// Delete the whole set, as far as the node observes it
    Clear {
        #[command(flatten)]
        spot: Spot,
        #[command(flatten)]
        session: SessionArgs,
    },
}

impl SetArgs {
    /// Runs the command.
    pub async fn run(&self, out: &mut dyn Write) -> Result<Verdict, Failure> {
        match &self.deed {
            Deed::Add {
                spot,
                session,
                life,
                members,
            } => {
                let client = life.of(session.of(spot.client()?)?)?;
                let change = Members {
                    add: spot.names(members)?,
                    remove: Vec::new(),
                };
                let key = spot.key()?;
                let stamp = client.set_change(spot.keyspace(), &key, &change);
                spot.wrote(out, &stamp.await?, session)
            }
            Deed::Remove {
                spot,
                session,
                members,
            } => {
                let client = session.of(spot.client()?)?;
                let change = Members {
                    add: Vec::new(),
                    remove: spot.names(members)?,
                };
                let key = spot.key()?;
                let stamp = client.set_change(spot.keyspace(), &key, &change);
                spot.wrote(out, &stamp.await?, session)
            }
            Deed::Has {
                spot,
                fresh,
                member,
            } => has(out, spot, fresh, member).await,
            Deed::Members { spot, fresh } => members(out, spot, fresh).await,
            Deed::Size { spot, fresh } => size(out, "set", spot, fresh).await,
            Deed::Clear { spot, session } => {
                let client = session.of(spot.client()?)?;
                let key = spot.key()?;
                let stamp = client.clear("set", spot.keyspace(), &key);
                spot.wrote(out, &stamp.await?, session)
            }
        }
    }
}

async fn has(
    out: &mut dyn Write,
    spot: &Spot,
    fresh: &Freshness,
    member: &str,
) -> Result<Verdict, Failure> {
    let (client, member) = (fresh.of(spot.client()?)?, spot.name(member)?);
    let key = spot.key()?;
    let told = client.set_has(spot.keyspace(), &key, &member);
    let told = told.await?;
    if spot.json {
        let whole = json!({"is_member": told.answer, "session": told.session});
        writeln!(out, "{whole}")?;
    } else {
        writeln!(out, "{}", told.answer)?;
    }
    fresh.session.tell(told.session.as_ref())?;
    Ok(if told.answer {
        Verdict::Good
    } else {
        Verdict::Bad
    })
}

async fn members(out: &mut dyn Write, spot: &Spot, fresh: &Freshness) -> Result<Verdict, Failure> {
    let (client, key) = (fresh.of(spot.client()?)?, spot.key()?);
    let mut after = None;
    loop {
        let page = client.set_page(spot.keyspace(), &key, PAGE_MEMBERS, after.as_deref());
        let page = page.await?;
        for member in page.answer.members {
            if spot.json {
                writeln!(out, "{}", json!({ "member": member }))?;
            } else {
                out.write_all(&member.0)?;
                out.write_all(b"\n")?;
            }
        }
        after = page.answer.next;
        if after.is_none() {
            fresh.session.tell(page.session.as_ref())?;
            return Ok(Verdict::Good);
        }
    }
}

/// Says how many members or fields (`kind` is `set` or `map`) there are.
pub(super) async fn size(
    out: &mut dyn Write,
    kind: &str,
    spot: &Spot,
    fresh: &Freshness,
) -> Result<Verdict, Failure> {
    let client = fresh.of(spot.client()?)?;
    let key = spot.key()?;
    let told = client.size(kind, spot.keyspace(), &key).await?;
    if spot.json {
        let whole = json!({"size": told.answer, "session": told.session});
        writeln!(out, "{whole}")?;
    } else {
        writeln!(out, "{}", told.answer)?;
    }
    fresh.session.tell(told.session.as_ref())?;
    Ok(Verdict::Good)
}

#[cfg(test)]
mod tests {
    use super::super::fake::{Fake, run};

    #[tokio::test]
    async fn members_are_added_listed_and_removed() {
        let fake = Fake::start(&[("eu", 1)]).await;
        for (words, wanted) in [
            ("set members cart", ""),
            ("set add cart tea milk --ttl 1d", ""),
            ("set members cart", "milk\ntea\n"),
            ("set has cart milk", "true\n"),
            ("set remove cart milk", ""),
            ("set has cart milk", "false\n"),
            ("set size cart", "1\n"),
            ("set add --hex 63617274 ff", ""),
            (
                "set members cart --json",
                "{\"member\":\"tea\"}\n{\"member\":{\"b64\":\"/w==\"}}\n",
            ),
            ("set clear cart", ""),
            ("set size cart", "0\n"),
        ] {
            assert_eq!(run(&fake, words).await.unwrap(), wanted, "{words}");
        }
        assert_eq!(fake.asked("sterna-ttl"), ["86400000ms"]);
    }

    #[tokio::test]
    async fn all_pages_of_a_set_are_listed() {
        let fake = Fake::start(&[("eu", 1)]).await;
        let names: Vec<String> = (0..2_500).map(|n| format!("m{n}")).collect();
        for some in names.chunks(1_000) {
            let words = format!("set add many {}", some.join(" "));
            run(&fake, &words).await.unwrap();
        }
        let listed = run(&fake, "set members many").await.unwrap();
        assert_eq!(listed.lines().count(), 2_500);
    }
}
