//! `sterna ls`: a listing of a keyspace.

use std::io::Write;

use clap::Args;
use serde_json::json;

use super::client::Item;
use super::options::Connect;
use super::{Failure, Verdict};

/// Rows asked for at once.
const PAGE_ROWS: usize = 1000;

/// List the keys of a keyspace, in token order.
///
/// Reads at level `one` from the node that is asked. Goes through all pages unless --limit is given;
/// then the cursor of the next page is the last line on the error stream.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  sterna ls
  sterna ls --values --keyspace sessions
  sterna ls --limit 100 --json
  sterna ls --limit 100 --cursor AQID")]
pub struct LsArgs {
    #[command(flatten)]
    pub(crate) connect: Connect,
    /// The keyspace
    #[arg(long, short = 'k', default_value = "default", value_name = "NAME")]
    pub keyspace: String,
    /// Write one JSON object a line
    #[arg(long)]
    pub json: bool,
    /// List at most so many keys
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
    /// Go on where a listing with --limit stopped
    #[arg(long, value_name = "CURSOR")]
    pub cursor: Option<String>,
    /// List the values too, after a tab
    #[arg(long)]
    pub values: bool,
}

impl LsArgs {
    /// Runs the command.
    pub async fn run(&self, out: &mut dyn Write) -> Result<Verdict, Failure> {
        let client = self.connect.client()?;
        let mut cursor = self.cursor.clone();
        let mut left = self.limit.unwrap_or(usize::MAX);
        while left > 0 {
            let page = client
                .page(
                    &self.keyspace,
                    left.min(PAGE_ROWS),
                    cursor.as_deref(),
                    self.values,
                )
                .await?;
            for item in &page.items {
                self.write_item(out, item)?;
            }
            left = left.saturating_sub(page.items.len());
            cursor = page.next;
            if cursor.is_none() {
                return Ok(Verdict::Good);
            }
        }
        if let Some(cursor) = cursor {
            writeln!(std::io::stderr(), "more: --cursor {cursor}")?;
        }
        Ok(Verdict::Good)
    }

    fn write_item(&self, out: &mut dyn Write, item: &Item) -> Result<(), Failure> {
        if self.json {
            writeln!(out, "{}", json!(item))?;
            return Ok(());
        }
        out.write_all(&item.key.0)?;
        if let Some(value) = &item.value {
            out.write_all(b"\t")?;
            out.write_all(&value.0)?;
        }
        out.write_all(b"\n")?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::super::fake::{Fake, run};

    #[tokio::test]
    async fn short_pages_are_followed_but_not_one_that_leads_back() {
        let fake = Fake::start(&[("eu", 1)]).await;
        for n in 0..10 {
            fake.put("eu", "default", format!("k{n}").as_bytes(), Some(b"v"));
            let conflict = json!({"key": "k", "value": null, "region": "eu", "timestamp": "1.0",
                "winner_region": "us", "winner_timestamp": "2.0", "expires": "2026-01-01T00:00:00.000Z"});
            fake.world().conflicts.push(conflict);
        }
        fake.world().page_rows_max = Some(3);
        for line in ["ls", "conflicts --json"] {
            assert_eq!(run(&fake, line).await.unwrap().lines().count(), 10);
        }
        fake.world().page_rows_max = Some(0);
        for line in ["ls", "conflicts"] {
            let ended = tokio::time::timeout(Duration::from_secs(5), run(&fake, line)).await;
            let error = ended.expect("it ends").unwrap_err().to_string();
            assert!(error.contains("leads nowhere"), "{error}");
        }
    }
}
