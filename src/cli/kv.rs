//! `sterna get`, `put`, `delete`: one plain value.

use std::io::{Read as _, Write};
use std::path::PathBuf;

use bytes::Bytes;
use clap::Args;
use serde_json::{Value, json};

use super::client::{Blob, Client, Error, Read, Several, Sibling, Stamp};
use super::key::{KeyArgs, write_stamp};
use super::options::{Freshness, Lifetime, SessionArgs, Target, from_hex};
use super::{Failure, Verdict, table};

/// Print the value of a key.
///
/// The value is written as it is, without a newline after it. If the key is absent, nothing is
/// written and the exit code is 1.
///
/// In a keyspace of siblings, several values may stand side by side. Then each is a line of a table, and the
/// exit code is 1, unless --json or --winner is given. A line on the error stream says the context, with
/// which `put` or `delete` replaces what was read.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  sterna get user:1
  sterna get user:1 --consistency each_quorum --json
  sterna get --key-hex 00ff --keyspace sessions > value.bin
  sterna get cart --keyspace siblings --winner
  sterna get user:1 --max-staleness 2s --when-behind refuse
  sterna get user:1 --session new")]
pub struct GetArgs {
    #[command(flatten)]
    pub(crate) target: Target,
    #[command(flatten)]
    pub(crate) fresh: Freshness,
    /// Write one JSON object with key, value (or siblings) and version
    #[arg(long)]
    pub json: bool,
    /// Of several siblings, only the last written
    #[arg(long)]
    pub winner: bool,
    #[command(flatten)]
    pub(crate) key: KeyArgs,
}

/// What must hold for a write to happen.
#[derive(Args, Clone, Debug, Default)]
pub struct Conditions {
    /// Only if the value is still this one: `etag` of `sterna get --json`. Exit code 1 if not
    #[arg(long, value_name = "ETAG")]
    pub if_match: Option<String>,
    /// Only if there is no value. Exit code 1 if there is one
    #[arg(long, conflicts_with = "if_match")]
    pub if_none_match: bool,
}

/// Write a key.
///
/// When it returns, the value is on disk on a quorum of the region's replicas, and on its way to the
/// other regions.
///
/// In a keyspace of siblings a write stands beside what is there, unless it brings the context of a read:
/// then it replaces what that read had seen.
///
/// With a condition, the exit code is 1 if it does not hold. It is 1 too, and the error stream says `merged`, if
/// the write was done while another coordinator was writing the key: read again before you rely on it.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  sterna put user:1 '{\"name\":\"Ada\"}'
  sterna put photo --file photo.jpg
  date | sterna put now -
  sterna put --key-hex 00ff value
  sterna put otp:7 4711 --ttl 90s
  sterna put lock:7 me --if-none-match --ttl 30s
  sterna put cart 'milk, tea' --keyspace siblings --context AQID...")]
pub struct PutArgs {
    #[command(flatten)]
    pub(crate) target: Target,
    #[command(flatten)]
    pub(crate) session: SessionArgs,
    #[command(flatten)]
    pub(crate) life: Lifetime,
    #[command(flatten)]
    pub(crate) conditions: Conditions,
    /// What was read, in a keyspace of siblings: this is replaced
    #[arg(long, value_name = "TOKEN")]
    pub context: Option<String>,
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
///
/// In a keyspace of siblings it deletes what the context's read had seen; without a context, what the node
/// sees.
///
/// With a condition, the exit code is 1 if it does not hold. It is 1 too, and the error stream says `merged`, if
/// the delete was done while another coordinator was writing the key: read again before you rely on it.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  sterna delete user:1
  sterna delete --key-hex 00ff --keyspace sessions
  sterna delete cart --keyspace siblings --context AQID...
  sterna delete lock:7 --if-match 5f3a9c0119ab4c7d")]
pub struct DeleteArgs {
    #[command(flatten)]
    pub(crate) target: Target,
    #[command(flatten)]
    pub(crate) session: SessionArgs,
    #[command(flatten)]
    pub(crate) conditions: Conditions,
    /// What was read, in a keyspace of siblings: this is deleted
    #[arg(long, value_name = "TOKEN")]
    pub context: Option<String>,
    /// Write one JSON object with the version
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub(crate) key: KeyArgs,
}

impl GetArgs {
    /// Runs the command.
    pub async fn run(&self, out: &mut dyn Write) -> Result<Verdict, Failure> {
        let key = self.key.bytes()?;
        let keyspace = &self.target.keyspace;
        let client = self.fresh.of(self.target.client()?)?;
        let several = if self.winner {
            Several::Winner
        } else {
            Several::All
        };
        match client.read(keyspace, &key, several).await? {
            Read::One(found) => {
                if self.json {
                    let value = ("value", json!(Blob(found.value)));
                    write_read(out, key, value, &found.stamp)?;
                } else {
                    out.write_all(&found.value)?;
                }
                self.tell(&found.stamp)?;
                Ok(Verdict::Good)
            }
            Read::Several(siblings, stamp) => {
                let verdict = if self.json {
                    write_read(out, key, ("siblings", json!(siblings)), &stamp)?;
                    Verdict::Good
                } else {
                    write_siblings(out, &siblings)?;
                    Verdict::Bad
                };
                self.tell(&stamp)?;
                Ok(verdict)
            }
            Read::Absent(stamp) => {
                self.tell(&stamp)?;
                Err(Failure::Absent {
                    keyspace: keyspace.clone(),
                    key: self.key.shown(),
                })
            }
        }
    }

    /// Says the tokens that the next request may need.
    fn tell(&self, stamp: &Stamp) -> Result<(), Failure> {
        if let (Some(context), false) = (&stamp.context, self.json) {
            writeln!(std::io::stderr(), "context: {context}")?;
        }
        self.fresh.session.tell(stamp.session.as_ref())
    }
}

/// One object: the key, what was found, and all that is known of the version.
fn write_read(
    out: &mut dyn Write,
    key: Vec<u8>,
    (name, found): (&str, Value),
    stamp: &Stamp,
) -> Result<(), Failure> {
    let mut whole = json!(stamp);
    if let Some(fields) = whole.as_object_mut() {
        fields.retain(|_, value| value.as_str() != Some(""));
        fields.insert("key".to_owned(), json!(Blob(key.into())));
        fields.insert(name.to_owned(), found);
    }
    writeln!(out, "{whole}")?;
    Ok(())
}

fn write_siblings(out: &mut dyn Write, siblings: &[Sibling]) -> Result<(), Failure> {
    let rows = siblings.iter().map(|sibling| {
        vec![
            sibling.region.clone(),
            sibling.timestamp.clone(),
            table::or_dash(sibling.expires.clone()),
            table::value(&sibling.value),
        ]
    });
    table::write(out, &["region", "timestamp", "expires", "value"], rows)
}

impl Conditions {
    /// The client, asking for this.
    fn of(&self, client: Client) -> Result<Client, Error> {
        let quoted = |etag: &String| format!("\"{}\"", etag.trim_matches('"'));
        let wanted = self.if_match.as_ref().map(quoted);
        let none = self.if_none_match.then_some("*");
        client
            .with_header("if-match", wanted)?
            .with_header("if-none-match", none)
    }
}

/// A condition that does not hold is a no, and not a failure.
fn or_no(error: Error) -> Failure {
    if error.is_code("condition_failed") {
        Failure::No(error.to_string())
    } else {
        Failure::Client(error)
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
        let client = self.life.of(self.session.of(self.target.client()?)?)?;
        let client = self.conditions.of(client)?;
        let client = client.with_header("sterna-context", self.context.as_ref())?;
        let stamp = client.put(&self.target.keyspace, &key, value).await;
        write_stamp(out, self.json, &stamp.map_err(or_no)?, &self.session)
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
        let client = self
            .conditions
            .of(self.session.of(self.target.client()?)?)?;
        let client = client.with_header("sterna-context", self.context.as_ref())?;
        let stamp = client.delete(&self.target.keyspace, &key).await;
        write_stamp(out, self.json, &stamp.map_err(or_no)?, &self.session)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::super::fake::{Fake, run};
    use super::super::ls::LsArgs;
    use super::*;

    #[derive(Parser)]
    enum Command {
        Get(GetArgs),
        Put(PutArgs),
        Delete(DeleteArgs),
        Ls(LsArgs),
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
        assert_eq!(run(&fake, "put a/b one").await.unwrap(), "");
        assert_eq!(run(&fake, "get a/b").await.unwrap(), "one");
        let shown = run(&fake, "get --key-hex 612f62 --json").await.unwrap();
        assert_eq!(
            shown.trim(),
            r#"{"etag":"1","key":"a/b","region":"eu","session":"seen-1","timestamp":"1.0","value":"one"}"#
        );
        run(&fake, "put --key-hex ff two").await.unwrap();
        let mut lines: Vec<String> = (run(&fake, "ls --values --json").await.unwrap().lines())
            .map(str::to_owned)
            .collect();
        lines.sort();
        assert_eq!(lines.len(), 2);
        assert!(lines[1].contains(r#"{"b64":"/w=="}"#), "{lines:?}");
        run(&fake, "delete a/b").await.unwrap();
        let gone = run(&fake, "get a/b").await.unwrap_err();
        assert_eq!(
            gone.to_string(),
            "no value `a/b` in keyspace `default` (counters, sets and maps are read by their own commands)"
        );
    }

    #[tokio::test]
    async fn a_listing_goes_through_all_pages() {
        let fake = Fake::start(&[("eu", 1)]).await;
        for n in 0..2_500 {
            fake.put("eu", "default", format!("k{n}").as_bytes(), Some(b"v"));
        }
        assert_eq!(run(&fake, "ls").await.unwrap().lines().count(), 2_500);
        assert_eq!(
            run(&fake, "ls --limit 1100").await.unwrap().lines().count(),
            1_100
        );
        assert_eq!(
            run(&fake, "ls --cursor 2499")
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

    #[tokio::test]
    async fn siblings_are_shown_with_the_context_that_replaces_them() {
        let fake = Fake::start(&[("eu", 1)]).await;
        run(&fake, "put cart milk -k siblings").await.unwrap();
        assert_eq!(run(&fake, "get cart -k siblings").await.unwrap(), "milk");
        run(&fake, "put cart tea -k siblings").await.unwrap();
        let table = run(&fake, "get cart -k siblings").await.unwrap();
        assert!(table.contains("milk") && table.contains("tea"), "{table}");
        let winner = run(&fake, "get cart -k siblings --winner").await;
        assert_eq!(winner.unwrap(), "tea");
        let whole = run(&fake, "get cart -k siblings --json").await.unwrap();
        let whole: Value = serde_json::from_str(&whole).unwrap();
        assert_eq!(whole["siblings"].as_array().unwrap().len(), 2, "{whole}");
        let context = whole["context"].as_str().unwrap();
        let words = format!("put cart both -k siblings --context {context}");
        run(&fake, &words).await.unwrap();
        assert_eq!(run(&fake, "get cart -k siblings").await.unwrap(), "both");
        run(&fake, "delete cart -k siblings").await.unwrap();
        run(&fake, "get cart -k siblings").await.unwrap_err();
    }

    #[tokio::test]
    async fn wishes_go_as_headers() {
        let fake = Fake::start(&[("eu", 1)]).await;
        let put = "put k v --ttl 90s --session new --if-match 5f --json";
        let told = run(&fake, put).await.unwrap();
        assert!(told.contains(r#""session":"seen-1""#), "{told}");
        run(&fake, "put k v --if-none-match").await.unwrap();
        run(
            &fake,
            "get k --session seen-1 --max-staleness 2s --wait-for 1m --when-behind refuse",
        )
        .await
        .unwrap();
        for (header, value) in [
            ("sterna-ttl", "90000ms"),
            ("sterna-session", "seen-1"),
            ("sterna-max-staleness", "2000ms"),
            ("sterna-wait", "60000ms"),
            ("sterna-when-behind", "refuse"),
            ("if-match", "\"5f\""),
            ("if-none-match", "*"),
        ] {
            assert_eq!(fake.asked(header), [value], "{header}");
        }
    }

    #[tokio::test]
    async fn a_condition_that_does_not_hold_is_a_no() {
        let fake = Fake::start(&[("eu", 1)]).await;
        fake.world().faults.push_back("condition_failed");
        let error = run(&fake, "put k v --if-none-match").await.unwrap_err();
        assert!(matches!(error, Failure::No(_)), "{error}");
    }
}
