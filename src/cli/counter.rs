//! `sterna counter`: a number that every region adds to.

use std::io::Write;

use clap::{Args, Subcommand};
use serde_json::json;

use super::key::Spot;
use super::options::{Freshness, SessionArgs};
use super::{Failure, Verdict};

/// Read, add to, or reset a counter.
///
/// Additions in all regions are summed up. One that is tried again with the same --idempotency-key is
/// counted once, also at another node. A reset takes off what the node observes, and no more.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  sterna counter add likes:7 1
  sterna counter add stock:7 -3 --idempotency-key order-4711
  sterna counter get likes:7
  sterna counter reset likes:7")]
pub struct CounterArgs {
    #[command(subcommand)]
    deed: Deed,
}

#[derive(Subcommand, Clone, Debug)]
enum Deed {
    /// Print the value; 0 if nobody has added to it
    Get {
        #[command(flatten)]
        spot: Spot,
        #[command(flatten)]
        fresh: Freshness,
    },
    /// Add a whole number, perhaps negative
    Add {
        #[command(flatten)]
        spot: Spot,
        #[command(flatten)]
        session: SessionArgs,
        /// A name for this addition, 1 to 255 visible characters: tried again under it, it counts once
        #[arg(long, value_name = "ID")]
        idempotency_key: Option<String>,
        /// What to add: a whole number such as 3 or -3
        #[arg(value_name = "N", allow_negative_numbers = true)]
        delta: i64,
    },
    /// Take off what the node observes
    Reset {
        #[command(flatten)]
        spot: Spot,
        #[command(flatten)]
        session: SessionArgs,
    },
}

impl CounterArgs {
    /// Runs the command.
    pub async fn run(&self, out: &mut dyn Write) -> Result<Verdict, Failure> {
        match &self.deed {
            Deed::Get { spot, fresh } => {
                let client = fresh.of(spot.client()?)?;
                let key = spot.key()?;
                let told = client.counter(spot.keyspace(), &key).await?;
                if spot.json {
                    let (value, session) = (told.answer, json!(told.session));
                    writeln!(out, "{{\"session\":{session},\"value\":{value}}}")?;
                } else {
                    writeln!(out, "{}", told.answer)?;
                }
                fresh.session.tell(told.session.as_ref())?;
                Ok(Verdict::Good)
            }
            Deed::Add {
                spot,
                session,
                idempotency_key,
                delta,
            } => {
                let client = session.of(spot.client()?)?;
                let client = client.with_header("idempotency-key", idempotency_key.as_ref())?;
                let key = spot.key()?;
                let stamp = client.counter_add(spot.keyspace(), &key, *delta);
                spot.wrote(out, &stamp.await?, session)
            }
            Deed::Reset { spot, session } => {
                let client = session.of(spot.client()?)?;
                let key = spot.key()?;
                let stamp = client.clear("counter", spot.keyspace(), &key);
                spot.wrote(out, &stamp.await?, session)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fake::{Fake, run};

    #[tokio::test]
    async fn a_counter_is_added_to_and_reset() {
        let fake = Fake::start(&[("eu", 1)]).await;
        for (words, wanted) in [
            ("counter get likes", "0\n"),
            ("counter add likes 5", ""),
            ("counter add likes -2 --idempotency-key a", ""),
            ("counter add likes -2 --idempotency-key a", ""),
            ("counter get likes", "3\n"),
            (
                "counter get likes --json",
                "{\"session\":\"seen-3\",\"value\":3}\n",
            ),
            ("counter get --hex 6c696b6573", "3\n"),
            ("counter reset likes", ""),
            ("counter get likes", "0\n"),
            ("counter add many 9223372036854775807", ""),
            ("counter get many", "18446744073709551614\n"),
        ] {
            assert_eq!(run(&fake, words).await.unwrap(), wanted, "{words}");
        }
        let error = run(&fake, "counter add likes 1 --idempotency-key \u{e9}").await;
        assert!(error.is_err());
    }
}
