//! `sterna get`, `put`, `delete`, `ls`: one key, or a listing of them.

use std::io::{Read as _, Write};
use std::path::PathBuf;

use bytes::Bytes;
use clap::Args;
use serde_json::json;

use super::client::{Client, Item, Stamp};
use super::options::{Connect, Scope};
use super::{Failure, Verdict};

/// Rows asked for at once by a listing.
const PAGE_ROWS: usize = 1000;

/// Which key.
#[derive(Args, Clone, Debug)]
pub struct KeyArgs {
    /// The key, as text
    #[arg(required_unless_present = "key_hex", value_name = "KEY")]
    pub key: Option<String>,
    /// The key as hex digits, for keys that are not text
    #[arg(long, value_name = "HEX")]
    pub key_hex: Option<String>,
}

/// Print the value of a key.
///
/// The value is written as it is, without a newline after it. If the key is absent, nothing is
/// written and the exit code is 1.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  sterna get user:1
  sterna get user:1 --consistency each_quorum --json
  sterna get --key-hex 00ff --keyspace sessions > value.bin")]
pub struct GetArgs {
    #[command(flatten)]
    #[expect(
        missing_docs,
        reason = "clap would take the words for this command's own"
    )]
    pub connect: Connect,
    #[command(flatten)]
    #[expect(
        missing_docs,
        reason = "clap would take the words for this command's own"
    )]
    pub scope: Scope,
    /// Write one JSON object with key, value and version
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    #[expect(
        missing_docs,
        reason = "clap would take the words for this command's own"
    )]
    pub key: KeyArgs,
}

/// Write a key.
///
/// When it returns, the value is on disk on a quorum of the region's replicas, and on its way to the
/// other regions.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  sterna put user:1 '{\"name\":\"Ada\"}'
  sterna put photo --file photo.jpg
  date | sterna put now -
  sterna put --key-hex 00ff value")]
pub struct PutArgs {
    #[command(flatten)]
    #[expect(
        missing_docs,
        reason = "clap would take the words for this command's own"
    )]
    pub connect: Connect,
    #[command(flatten)]
    #[expect(
        missing_docs,
        reason = "clap would take the words for this command's own"
    )]
    pub scope: Scope,
    /// Write one JSON object with the version
    #[arg(long)]
    pub json: bool,
    /// Take the value from a file
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// The key as hex digits, for keys that are not text; then VALUE is the only word
    #[arg(long, value_name = "HEX")]
    pub key_hex: Option<String>,
    /// KEY VALUE; `-` as value reads standard input
    #[arg(value_name = "KEY VALUE", num_args = 0..=2, allow_negative_numbers = true)]
    pub words: Vec<String>,
}

/// Delete a key, whether it is there or not.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  sterna delete user:1
  sterna delete --key-hex 00ff --keyspace sessions")]
pub struct DeleteArgs {
    #[command(flatten)]
    #[expect(
        missing_docs,
        reason = "clap would take the words for this command's own"
    )]
    pub connect: Connect,
    #[command(flatten)]
    #[expect(
        missing_docs,
        reason = "clap would take the words for this command's own"
    )]
    pub scope: Scope,
    /// Write one JSON object with the version
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    #[expect(
        missing_docs,
        reason = "clap would take the words for this command's own"
    )]
    pub key: KeyArgs,
}

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
    #[expect(
        missing_docs,
        reason = "clap would take the words for this command's own"
    )]
    pub connect: Connect,
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

impl KeyArgs {
    /// The key's bytes.
    fn bytes(&self) -> Result<Vec<u8>, Failure> {
        match (&self.key, &self.key_hex) {
            (Some(key), None) => Ok(key.clone().into_bytes()),
            (None, Some(hex)) => from_hex(hex),
            (Some(_), Some(_)) | (None, None) => {
                Err(Failure::usage("give the key once: KEY or --key-hex HEX"))
            }
        }
    }

    fn shown(&self) -> String {
        let hex = self.key_hex.as_ref().map(|hex| format!("0x{hex}"));
        self.key.clone().or(hex).unwrap_or_default()
    }
}

fn client(connect: &Connect, scope: &Scope) -> Result<Client, Failure> {
    Ok(connect.client()?.with_level(scope.consistency))
}

fn from_hex(text: &str) -> Result<Vec<u8>, Failure> {
    let help = || {
        Failure::usage(format!(
            "`{text}` is not a key: write pairs of hex digits, as in 00ff"
        ))
    };
    let digits: Option<Vec<u8>> = text
        .chars()
        .map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
        .collect();
    let (pairs, rest) = digits.as_deref().ok_or_else(help)?.as_chunks::<2>();
    if pairs.is_empty() || !rest.is_empty() {
        return Err(help());
    }
    Ok(pairs.iter().map(|[high, low]| high << 4 | low).collect())
}

impl GetArgs {
    /// Runs the command.
    pub async fn run(&self, out: &mut dyn Write) -> Result<Verdict, Failure> {
        let key = self.key.bytes()?;
        let keyspace = &self.scope.keyspace;
        let found = client(&self.connect, &self.scope)?
            .get(keyspace, &key)
            .await?;
        let Some(found) = found else {
            return Err(Failure::Absent {
                keyspace: keyspace.clone(),
                key: self.key.shown(),
            });
        };
        if self.json {
            let item = Item {
                key: super::client::Blob(key.into()),
                value: Some(super::client::Blob(found.value)),
                timestamp: found.stamp.timestamp,
                region: found.stamp.region,
            };
            writeln!(out, "{}", json!(item))?;
        } else {
            out.write_all(&found.value)?;
        }
        Ok(Verdict::Good)
    }
}

impl PutArgs {
    /// Runs the command.
    pub async fn run(&self, out: &mut dyn Write) -> Result<Verdict, Failure> {
        let (key, word) = self.parts()?;
        let value = match (word, &self.file) {
            (Some("-"), None) => {
                let mut bytes = Vec::new();
                std::io::stdin()
                    .read_to_end(&mut bytes)
                    .map_err(Failure::file("read", "standard input".as_ref()))?;
                Bytes::from(bytes)
            }
            (Some(word), None) => Bytes::copy_from_slice(word.as_bytes()),
            (None, Some(path)) => std::fs::read(path)
                .map_err(Failure::file("read", path))?
                .into(),
            (Some(_), Some(_)) | (None, None) => {
                return Err(Failure::usage(
                    "give the value once: VALUE, --file FILE, or - for standard input",
                ));
            }
        };
        let keyspace = &self.scope.keyspace;
        let stamp = client(&self.connect, &self.scope)?
            .put(keyspace, &key, value)
            .await?;
        write_stamp(out, self.json, &stamp)
    }

    fn parts(&self) -> Result<(Vec<u8>, Option<&str>), Failure> {
        let words: Vec<&str> = self.words.iter().map(String::as_str).collect();
        match (&self.key_hex, words.as_slice()) {
            (Some(hex), []) => Ok((from_hex(hex)?, None)),
            (Some(hex), [value]) => Ok((from_hex(hex)?, Some(value))),
            (None, [key]) => Ok((key.as_bytes().to_vec(), None)),
            (None, [key, value]) => Ok((key.as_bytes().to_vec(), Some(value))),
            (_, _) => Err(Failure::usage(
                "write `sterna put KEY VALUE` or `sterna put --key-hex HEX VALUE`",
            )),
        }
    }
}

impl DeleteArgs {
    /// Runs the command.
    pub async fn run(&self, out: &mut dyn Write) -> Result<Verdict, Failure> {
        let key = self.key.bytes()?;
        let keyspace = &self.scope.keyspace;
        let stamp = client(&self.connect, &self.scope)?
            .delete(keyspace, &key)
            .await?;
        write_stamp(out, self.json, &stamp)
    }
}

fn write_stamp(out: &mut dyn Write, as_json: bool, stamp: &Stamp) -> Result<Verdict, Failure> {
    if as_json {
        writeln!(out, "{}", json!(stamp))?;
    }
    Ok(Verdict::Good)
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
    use clap::Parser;

    use super::super::fake::Fake;
    use super::*;

    #[derive(Parser)]
    enum Command {
        Get(GetArgs),
        Put(PutArgs),
        Delete(DeleteArgs),
        Ls(LsArgs),
    }

    async fn check(fake: &Fake, words: &str) -> Result<String, Failure> {
        let endpoint = format!("--endpoint=http://{}", fake.address("eu-1"));
        let mut line: Vec<&str> = vec!["sterna"];
        line.extend(words.split(' '));
        line.push(&endpoint);
        let mut out = Vec::new();
        match Command::parse_from(line) {
            Command::Get(args) => args.run(&mut out).await?,
            Command::Put(args) => args.run(&mut out).await?,
            Command::Delete(args) => args.run(&mut out).await?,
            Command::Ls(args) => args.run(&mut out).await?,
        };
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn help_is_of_the_command_itself_and_shows_examples() {
        use clap::CommandFactory as _;
        let mut all = Command::command();
        all.clone().debug_assert();
        for name in ["get", "put", "delete", "ls"] {
            let help = all
                .find_subcommand_mut(name)
                .unwrap()
                .render_long_help()
                .to_string();
            assert!(help.contains("Examples:"), "{help}");
            assert!(!help.starts_with("Which"), "{help}");
        }
    }

    #[tokio::test]
    async fn a_key_is_put_got_listed_and_deleted() {
        let fake = Fake::start(&[("eu", 1)]).await;
        assert_eq!(check(&fake, "put a/b one").await.unwrap(), "");
        assert_eq!(check(&fake, "get a/b").await.unwrap(), "one");
        let shown = check(&fake, "get --key-hex 612f62 --json").await.unwrap();
        assert_eq!(
            shown.trim(),
            r#"{"key":"a/b","region":"eu","timestamp":"1.0","value":"one"}"#
        );
        check(&fake, "put --key-hex ff two").await.unwrap();
        let mut lines: Vec<String> = (check(&fake, "ls --values --json").await.unwrap().lines())
            .map(str::to_owned)
            .collect();
        lines.sort();
        assert_eq!(lines.len(), 2);
        assert!(lines[1].contains(r#"{"b64":"/w=="}"#), "{lines:?}");
        check(&fake, "delete a/b").await.unwrap();
        let gone = check(&fake, "get a/b").await.unwrap_err();
        assert_eq!(gone.to_string(), "no key `a/b` in keyspace `default`");
    }

    #[tokio::test]
    async fn a_listing_goes_through_all_pages() {
        let fake = Fake::start(&[("eu", 1)]).await;
        for n in 0..2_500 {
            fake.put("eu", "default", format!("k{n}").as_bytes(), Some(b"v"));
        }
        assert_eq!(check(&fake, "ls").await.unwrap().lines().count(), 2_500);
        assert_eq!(
            check(&fake, "ls --limit 1100")
                .await
                .unwrap()
                .lines()
                .count(),
            1_100
        );
        assert_eq!(
            check(&fake, "ls --cursor 2499")
                .await
                .unwrap()
                .lines()
                .count(),
            1
        );
    }

    #[tokio::test]
    async fn where_nobody_listens_the_words_name_sterna_dev() {
        let args = Command::parse_from(["sterna", "get", "k", "--endpoint", "127.0.0.1:1"]);
        let Command::Get(args) = args else { panic!() };
        let error = args.run(&mut Vec::new()).await.unwrap_err().to_string();
        assert!(error.contains("sterna dev"), "{error}");
    }
}
