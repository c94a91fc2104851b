//! `sterna conflicts`: what lost to writes made at the same time.

use std::io::Write;

use bytes::Bytes;
use clap::Args;
use serde_json::json;

use super::client::{Client, ConflictEntry};
use super::key::write_stamp;
use super::options::{Connect, SessionArgs, bytes_of};
use super::{Failure, Verdict, table};

/// Conflicts asked for at once.
const PAGE_CONFLICTS: usize = 1000;

/// List what lost to writes made at the same time, or write it again.
///
/// In a keyspace where the last writer wins, the other of two writes made at the same time in two regions is
/// dropped. With `conflicts_kept_s` in the topology file it is kept aside for that long, and listed here.
/// With --replay, the last value that lost under a key is written again, as a new write, over what is there;
/// it stays in the list until its time is over.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  sterna conflicts default
  sterna conflicts default --json
  sterna conflicts default --replay user:1          says what it would write
  sterna conflicts default --replay user:1 --yes")]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a switch of the command line"
)]
pub struct ConflictsArgs {
    #[command(flatten)]
    pub(crate) connect: Connect,
    /// Write one JSON object a line
    #[arg(long)]
    pub json: bool,
    /// Write the last value that lost under this key again
    #[arg(long, value_name = "KEY")]
    pub replay: Option<String>,
    /// With --replay: the key is hex digits
    #[arg(long, requires = "replay")]
    pub hex: bool,
    /// With --replay: do it, and do not just say what would be written
    #[arg(long, requires = "replay")]
    pub yes: bool,
    /// The keyspace
    #[arg(value_name = "KEYSPACE", default_value = "default")]
    pub keyspace: String,
}

impl ConflictsArgs {
    /// Runs the command.
    pub async fn run(&self, out: &mut dyn Write) -> Result<Verdict, Failure> {
        let client = self.connect.client()?;
        match &self.replay {
            Some(key) => self.replay(out, &client, key).await,
            None => self.list(out, &client).await,
        }
    }

    async fn list(&self, out: &mut dyn Write, client: &Client) -> Result<Verdict, Failure> {
        let (mut rows, mut count) = (Vec::new(), 0_u64);
        self.each(client, |entry| {
            count += 1;
            if self.json {
                writeln!(out, "{}", json!(entry))?;
            } else {
                rows.push(row(&entry));
            }
            Ok(())
        })
        .await?;
        if !self.json {
            let headers = [
                "key",
                "value that lost",
                "written in",
                "at",
                "lost to",
                "at",
                "kept until",
            ];
            table::write(out, &headers, rows)?;
        }
        if count == 0 {
            let keyspace = &self.keyspace;
            let words = format!(
                "no conflicts are kept in `{keyspace}` (they are only counted where conflicts_kept_s is not set)"
            );
            writeln!(std::io::stderr(), "{words}")?;
        }
        Ok(Verdict::Good)
    }

    /// Goes through all pages.
    async fn each(
        &self,
        client: &Client,
        mut with: impl FnMut(ConflictEntry) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let mut cursor = None;
        loop {
            let page = client.conflicts(&self.keyspace, PAGE_CONFLICTS, cursor.as_deref());
            let page = page.await?;
            for entry in page.conflicts {
                with(entry)?;
            }
            cursor = page.next;
            if cursor.is_none() {
                return Ok(());
            }
        }
    }

    async fn replay(
        &self,
        out: &mut dyn Write,
        client: &Client,
        key: &str,
    ) -> Result<Verdict, Failure> {
        let key: Bytes = bytes_of(key, self.hex)?;
        let mut last: Option<ConflictEntry> = None;
        self.each(client, |entry| {
            let is_later = last.as_ref().is_none_or(|last| at(&entry) > at(last));
            if entry.key.0 == key && is_later {
                last = Some(entry);
            }
            Ok(())
        })
        .await?;
        let Some(last) = last else {
            let keyspace = &self.keyspace;
            let words = format!("nothing that lost is kept for this key in `{keyspace}`");
            return Err(Failure::No(words));
        };
        if !self.yes {
            let deed = match &last.value {
                Some(value) => format!("write {}", table::value(value)),
                None => "delete the key".to_owned(),
            };
            let (region, at) = (&last.region, &last.timestamp);
            return Err(Failure::usage(format!(
                "this would {deed}, as {region} did at {at}, over what is there now: add --yes to do it"
            )));
        }
        let (stamp, deed) = match last.value {
            Some(value) => {
                let deed = format!("wrote {}", table::value(&value));
                (client.put(&self.keyspace, &key, value.0).await?, deed)
            }
            None => {
                let deed = "deleted the key".to_owned();
                (client.delete(&self.keyspace, &key).await?, deed)
            }
        };
        if !self.json {
            writeln!(out, "{deed}; what lost stays in the list until it expires")?;
        }
        write_stamp(out, self.json, &stamp, &SessionArgs::default())
    }
}

/// The time as a pair that can be compared; odd forms come first.
fn at(entry: &ConflictEntry) -> (u64, u64) {
    let (micros, logical) = entry.timestamp.split_once('.').unwrap_or_default();
    (micros.parse().unwrap_or(0), logical.parse().unwrap_or(0))
}

fn row(entry: &ConflictEntry) -> Vec<String> {
    let value = entry.value.as_ref();
    vec![
        table::value(&entry.key),
        value.map_or_else(|| "(a delete)".to_owned(), table::value),
        entry.region.clone(),
        entry.timestamp.clone(),
        entry.winner_region.clone(),
        entry.winner_timestamp.clone(),
        table::or_dash(entry.expires.clone()),
    ]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::Failure;
    use super::super::fake::{Fake, run};

    fn lost(key: &str, value: Option<&str>, micros: u64) -> serde_json::Value {
        json!({"key": key, "value": value, "region": "us", "timestamp": format!("{micros}.0"),
            "winner_region": "eu", "winner_timestamp": "99.0", "expires": "2026-01-01T00:00:00.000Z"})
    }

    #[tokio::test]
    async fn conflicts_are_listed_and_the_last_is_replayed_when_it_is_meant() {
        let fake = Fake::start(&[("eu", 1)]).await;
        fake.world().conflicts = vec![
            lost("a", Some("newer"), 20),
            lost("a", Some("old"), 9),
            lost("b", None, 30),
        ];
        let table = run(&fake, "conflicts default").await.unwrap();
        assert_eq!(table.lines().count(), 4, "{table}");
        assert!(table.contains("newer") && table.contains("(a delete)"));
        let lines = run(&fake, "conflicts --json").await.unwrap();
        assert_eq!(lines.lines().count(), 3);
        let error = run(&fake, "conflicts --replay a").await.unwrap_err();
        let words = error.to_string();
        assert!(
            words.contains("write newer") && words.contains("--yes"),
            "{words}"
        );
        assert!(fake.rows("default").is_empty());
        let said = run(&fake, "conflicts --replay a --yes").await.unwrap();
        assert!(said.starts_with("wrote newer"), "{said}");
        assert_eq!(fake.rows("default")[&b"a"[..]], "newer");
        fake.put("eu", "default", b"b", Some(b"v"));
        run(&fake, "conflicts --replay --hex 62 --yes")
            .await
            .unwrap_err();
        run(&fake, "conflicts --replay 62 --hex --yes")
            .await
            .unwrap();
        assert_eq!(fake.rows("default").len(), 1);
        let error = run(&fake, "conflicts --replay c --yes").await.unwrap_err();
        assert!(matches!(error, Failure::No(_)), "{error}");
    }
}
