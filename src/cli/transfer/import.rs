//! `sterna import`: a file of records into a keyspace.
//!
//! One thread reads, and deals the records out to lanes by the hash of their key, so that records of
//! one key are written in the order of the file. Each lane sends one batch at a time. What is done is
//! gathered in one place, which keeps the checkpoint.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::model::Token;

use super::super::client::{Blob, Client, Error, Put};
use super::super::options::{Target, span};
use super::super::table::scaled;
use super::super::{Failure, Verdict};
use super::checkpoint::{self, beside};
use super::done::Done;
use super::format::Format;
use super::send::{Parcel, Settled, send};
use super::source::{Columns, Defect, Record, Source};

/// Most records in one request of the contract.
const BATCH_MAX: u16 = 1000;
/// Bytes of one request, so that large values do not pass the contract's 32 MiB.
const BATCH_BYTES_MAX: usize = 4 << 20;
/// A lane's unfinished batch is sent when so many batches were sent by all lanes since it began: it
/// bounds how far apart records on their way may be.
const SPREAD_BATCHES: u64 = 8;
/// Errors shown at the end.
const SHOWN_MAX: usize = 20;
/// Between two checkpoints.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(1);

/// Write the records of a file into a keyspace.
///
/// Reads NDJSON, CSV (RFC 4180) or TSV (plain tabs, no quoting) as a stream, in constant memory. The
/// key is one column; the value is another, or the whole record as JSON. Records with the same key are
/// written in the order of the file. What fails is tried again, also a write with an unknown outcome:
/// it is the same key and value, so by last-writer-wins trying again is safe unless something else
/// writes the same keys meanwhile. In a keyspace of siblings each record stands beside what is there.
///
/// Progress is kept in FILE.sterna-import; after a stop, --resume goes on there. Bad records are
/// counted, listed in FILE.errors.ndjson, and make the exit code 1.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  sterna import users.ndjson --key id
  sterna import cities.csv --keyspace cities --key code --value name
  sterna import cities.csv --keyspace cities --key code --value name --resume
  sterna import backup.ndjson --key key --value value     what `sterna export` wrote")]
pub struct ImportArgs {
    #[command(flatten)]
    pub(crate) target: Target,
    /// The file
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// The column that holds the key
    #[arg(long, value_name = "COLUMN")]
    pub key: String,
    /// The column that holds the value (default: the whole record as JSON)
    #[arg(long, value_name = "COLUMN")]
    pub value: Option<String>,
    /// The form of the file (default: by its name)
    #[arg(long, value_enum)]
    pub format: Option<Format>,
    /// Batches on their way at once
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=1024), value_name = "N")]
    pub concurrency: u16,
    /// Records in a batch
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=i64::from(BATCH_MAX)), value_name = "N")]
    pub batch: u16,
    /// Go on where an earlier import of this file stopped
    #[arg(long)]
    pub resume: bool,
    /// Stop when the cluster has taken nothing for so long
    #[arg(long, default_value = "60s", value_parser = span, value_name = "TIME")]
    pub patience: Duration,
    /// Write the closing line as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Checkpoint {
    keyspace: String,
    file_bytes: u64,
    records: u64,
    bytes: u64,
    refused: u64,
}

/// What lanes and reader tell the one who keeps count.
enum News {
    Settled(Vec<Settled>),
    Bad {
        number: u64,
        bytes: u64,
        defect: Defect,
    },
    Stopped(Error),
    Unreadable(std::io::Error),
}

impl ImportArgs {
    /// Runs the command.
    pub async fn run(&self, out: &mut dyn Write) -> Result<Verdict, Failure> {
        let format = Format::of(self.format, &self.file)?;
        let columns = Columns {
            key: self.key.clone(),
            value: self.value.clone(),
        };
        let source = Source::open(&self.file, format, columns)?;
        let file_bytes = std::fs::metadata(&self.file)
            .map_err(Failure::file("open", &self.file))?
            .len();
        let start = self.start(file_bytes)?;
        let client = self.target.client()?;
        client.status().await?;
        let mut ledger = Ledger::new(&self.file, start, self.resume)?;
        let began = Instant::now();
        let outcome = self.pump(&client, source, &mut ledger).await;
        ledger.save()?;
        outcome.map_err(|error| ledger.stopped(&error))?;
        checkpoint::remove(&beside(&self.file, ".sterna-import"))?;
        ledger.close(out, began.elapsed(), self.json)
    }

    fn start(&self, file_bytes: u64) -> Result<Checkpoint, Failure> {
        let anew = Checkpoint {
            keyspace: self.target.keyspace.clone(),
            file_bytes,
            records: 0,
            bytes: 0,
            refused: 0,
        };
        if !self.resume {
            return Ok(anew);
        }
        let path = beside(&self.file, ".sterna-import");
        let Some(found) = checkpoint::load::<Checkpoint>(&path)? else {
            return Ok(anew);
        };
        if found.keyspace != anew.keyspace || found.file_bytes != file_bytes {
            return Err(Failure::usage(format!(
                "{} is of another keyspace, or the file has changed since: import without --resume",
                path.display()
            )));
        }
        Ok(found)
    }

    /// Moves everything from the source to the cluster.
    async fn pump(&self, client: &Client, source: Source, ledger: &mut Ledger) -> Result<(), Stop> {
        let lanes = usize::from(self.concurrency);
        let (news, mut heard) = mpsc::channel(lanes * 2);
        let mut tasks = JoinSet::new();
        let mut senders = Vec::with_capacity(lanes);
        for _ in 0..lanes {
            let (sender, receiver) = mpsc::channel::<Vec<Parcel>>(1);
            senders.push(sender);
            let (client, keyspace) = (client.clone(), self.target.keyspace.clone());
            tasks.spawn(lane(
                client,
                keyspace,
                receiver,
                news.clone(),
                self.patience,
            ));
        }
        let dealer = Dealer {
            lanes: senders,
            unfinished: (0..lanes).map(|_| Unfinished::default()).collect(),
            batch: usize::from(self.batch),
            sent: 0,
        };
        let skip = ledger.done.low();
        tasks.spawn_blocking(move || dealer.deal(source, skip, &news));
        let interrupt = tokio::signal::ctrl_c();
        tokio::pin!(interrupt);
        loop {
            tokio::select! {
                told = heard.recv() => match told {
                    Some(News::Settled(settled)) => ledger.settle(settled)?,
                    Some(News::Bad { number, bytes, defect }) => ledger.refuse(number, bytes, &defect)?,
                    Some(News::Stopped(error)) => return Err(Stop::Client(error)),
                    Some(News::Unreadable(error)) => {
                        return Err(Stop::Failure(Failure::file("read", &self.file)(error)));
                    }
                    None => return Ok(()),
                },
                _ = &mut interrupt => return Err(Stop::Interrupted),
            }
        }
    }
}

enum Stop {
    Client(Error),
    Failure(Failure),
    Interrupted,
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

async fn lane(
    client: Client,
    keyspace: String,
    mut batches: mpsc::Receiver<Vec<Parcel>>,
    news: mpsc::Sender<News>,
    patience: Duration,
) {
    while let Some(batch) = batches.recv().await {
        let (told, is_over) = match send(&client, &keyspace, batch, patience).await {
            Ok(settled) => (News::Settled(settled), false),
            Err(error) => (News::Stopped(error), true),
        };
        if news.send(told).await.is_err() || is_over {
            return;
        }
    }
}

#[derive(Default)]
struct Unfinished {
    parcels: Vec<Parcel>,
    keys: BTreeSet<Bytes>,
    size: usize,
    since: u64,
}

/// Reads records and deals them out to lanes.
struct Dealer {
    lanes: Vec<mpsc::Sender<Vec<Parcel>>>,
    unfinished: Vec<Unfinished>,
    batch: usize,
    /// Batches sent so far.
    sent: u64,
}

impl Dealer {
    fn deal(mut self, mut source: Source, skip: u64, news: &mpsc::Sender<News>) {
        loop {
            let is_heard = match source.next() {
                Ok(Some(record)) if record.number <= skip => true,
                Ok(Some(record)) => self.take(record, news),
                Ok(None) => break,
                Err(error) => {
                    // Whether anyone still listens makes no difference: this is the end either way.
                    drop(news.blocking_send(News::Unreadable(error)));
                    return;
                }
            };
            if !is_heard {
                return;
            }
        }
        for lane in 0..self.lanes.len() {
            if !self.flush(lane) {
                return;
            }
        }
    }

    /// False if nobody listens any more.
    fn take(&mut self, record: Record, news: &mpsc::Sender<News>) -> bool {
        let Record {
            number,
            bytes,
            content,
        } = record;
        let (key, value) = match content {
            Ok(content) => content,
            Err(defect) => {
                return news
                    .blocking_send(News::Bad {
                        number,
                        bytes,
                        defect,
                    })
                    .is_ok();
            }
        };
        let count = u16::try_from(self.lanes.len()).unwrap_or(u16::MAX);
        let lane = usize::from(Token::of(&key).partition_index(count));
        let size = key.len() + value.len();
        let is_full = self.unfinished.get(lane).is_some_and(|unfinished| {
            unfinished.keys.contains(&key) || unfinished.size + size > BATCH_BYTES_MAX
        });
        if is_full && !self.flush(lane) {
            return false;
        }
        let sent = self.sent;
        let Some(unfinished) = self.unfinished.get_mut(lane) else {
            return false;
        };
        if unfinished.parcels.is_empty() {
            unfinished.since = sent;
        }
        unfinished.size += size;
        unfinished.keys.insert(key.clone());
        let put = Put {
            key: Blob(key),
            value: Blob(value),
        };
        unfinished.parcels.push(Parcel { number, bytes, put });
        if unfinished.parcels.len() >= self.batch {
            return self.flush(lane) && self.flush_old();
        }
        true
    }

    /// Sends what has waited for long, so that the records on their way stay close together.
    fn flush_old(&mut self) -> bool {
        let lanes = self.lanes.len();
        let limit = SPREAD_BATCHES * u64::try_from(lanes).unwrap_or(u64::MAX);
        if !self.sent.is_multiple_of(u64::try_from(lanes).unwrap_or(1)) {
            return true;
        }
        let old: Vec<usize> = (self.unfinished.iter().enumerate())
            .filter(|(_, u)| !u.parcels.is_empty() && self.sent - u.since > limit)
            .map(|(lane, _)| lane)
            .collect();
        old.into_iter().all(|lane| self.flush(lane))
    }

    fn flush(&mut self, lane: usize) -> bool {
        let (Some(unfinished), Some(sender)) =
            (self.unfinished.get_mut(lane), self.lanes.get(lane))
        else {
            return false;
        };
        let Unfinished { parcels, .. } = std::mem::take(unfinished);
        if parcels.is_empty() {
            return true;
        }
        self.sent += 1;
        sender.blocking_send(parcels).is_ok()
    }
}

/// Counts what is done, keeps the checkpoint and the list of errors.
struct Ledger {
    path: PathBuf,
    start: Checkpoint,
    done: Done,
    written: u64,
    written_bytes: u64,
    refused: u64,
    errors: Option<BufWriter<File>>,
    shown: Vec<String>,
    saved: Instant,
    bar: ProgressBar,
}

impl Ledger {
    fn new(path: &Path, start: Checkpoint, resume: bool) -> Result<Self, Failure> {
        if !resume {
            checkpoint::remove(&beside(path, ".errors.ndjson"))?;
        }
        let bar = ProgressBar::new(start.file_bytes);
        let form = "{bar:30} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left {msg}";
        if let Ok(style) = ProgressStyle::with_template(form) {
            bar.set_style(style);
        }
        bar.set_position(start.bytes);
        Ok(Self {
            path: path.to_owned(),
            done: Done::from(start.records, start.bytes),
            written: 0,
            written_bytes: 0,
            refused: start.refused,
            errors: None,
            shown: Vec::new(),
            saved: Instant::now(),
            bar,
            start,
        })
    }

    fn settle(&mut self, settled: Vec<Settled>) -> Result<(), Failure> {
        for one in settled {
            match one.defect {
                Some(defect) => self.refuse(one.number, one.bytes, &defect)?,
                None => {
                    self.written += 1;
                    self.written_bytes += u64::try_from(one.size).unwrap_or(u64::MAX);
                    self.done.add(one.number, one.bytes);
                }
            }
        }
        self.bar.set_position(self.done.low_bytes());
        if self.saved.elapsed() > CHECKPOINT_EVERY {
            self.save()?;
        }
        Ok(())
    }

    fn refuse(&mut self, number: u64, bytes: u64, defect: &Defect) -> Result<(), Failure> {
        let Defect { reason, excerpt } = defect;
        let path = beside(&self.path, ".errors.ndjson");
        let mut file = match self.errors.take() {
            Some(file) => file,
            None => BufWriter::new(
                (OpenOptions::new().create(true).append(true).open(&path))
                    .map_err(Failure::file("open", &path))?,
            ),
        };
        let line = json!({"record": number, "error": reason, "begins": excerpt});
        writeln!(file, "{line}").map_err(Failure::file("write", &path))?;
        self.errors = Some(file);
        if self.shown.len() < SHOWN_MAX {
            self.shown.push(format!("  record {number}: {reason}"));
        }
        self.refused += 1;
        self.bar.set_message(format!("({} errors)", self.refused));
        self.done.add(number, bytes);
        Ok(())
    }

    fn save(&mut self) -> Result<(), Failure> {
        if let Some(file) = &mut self.errors {
            file.flush().map_err(Failure::file(
                "write",
                &beside(&self.path, ".errors.ndjson"),
            ))?;
        }
        let checkpoint = Checkpoint {
            records: self.done.low(),
            bytes: self.done.low_bytes(),
            refused: self.refused,
            ..self.start.clone()
        };
        checkpoint::save(&beside(&self.path, ".sterna-import"), &checkpoint)?;
        self.saved = Instant::now();
        Ok(())
    }

    fn stopped(&self, stop: &Stop) -> Failure {
        self.bar.finish_and_clear();
        let why = match stop {
            Stop::Client(error) => error.to_string(),
            Stop::Failure(failure) => failure.to_string(),
            Stop::Interrupted => "interrupted".to_owned(),
        };
        let low = self.done.low();
        Failure::Stopped(format!(
            "{why}\nrecords 1 to {low} are done: go on with --resume"
        ))
    }

    fn close(
        mut self,
        out: &mut dyn Write,
        took: Duration,
        as_json: bool,
    ) -> Result<Verdict, Failure> {
        self.bar.finish_and_clear();
        if let Some(file) = &mut self.errors {
            file.flush().map_err(Failure::file("write", &self.path))?;
        }
        let seconds = took.as_secs_f64().max(1e-6);
        let per_second = |count: u64| {
            let count = count as f64;
            count / seconds
        };
        let (records, bytes) = (per_second(self.written), per_second(self.written_bytes));
        if as_json {
            let line = json!({"written": self.written, "bytes": self.written_bytes, "errors": self.refused,
                "seconds": seconds, "records_per_second": records, "bytes_per_second": bytes});
            writeln!(out, "{line}")?;
        } else {
            for line in &self.shown {
                writeln!(out, "{line}")?;
            }
            writeln!(
                out,
                "{} records written, {} errors, {seconds:.1} s, {}records/s, {}B/s",
                self.written,
                self.refused,
                scaled(records),
                scaled(bytes),
            )?;
            if self.refused > 0 {
                writeln!(
                    out,
                    "errors are listed in {}",
                    beside(&self.path, ".errors.ndjson").display()
                )?;
            }
        }
        Ok(if self.refused == 0 {
            Verdict::Good
        } else {
            Verdict::Bad
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::fake::Fake;
    use super::*;

    fn args(fake: &Fake, file: &Path) -> ImportArgs {
        ImportArgs {
            target: Target::of(&fake.address("eu-1")),
            file: file.to_owned(),
            key: "id".to_owned(),
            value: None,
            format: None,
            concurrency: 4,
            batch: 7,
            resume: false,
            patience: Duration::from_secs(5),
            json: false,
        }
    }

    fn lines(count: u32) -> String {
        (0..count)
            .map(|n| format!("{{\"id\":\"k{}\",\"n\":{n}}}\n", n % 900))
            .collect()
    }

    #[tokio::test]
    async fn the_last_record_of_a_key_wins_and_faults_are_tried_again() {
        let fake = Fake::start(&[("eu", 1)]).await;
        fake.world()
            .faults
            .extend(["unavailable", "overloaded", "unknown_outcome"]);
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.ndjson");
        std::fs::write(&file, lines(1_000)).unwrap();
        let mut out = Vec::new();
        let verdict = args(&fake, &file).run(&mut out).await.unwrap();
        assert_eq!(verdict, Verdict::Good, "{}", String::from_utf8_lossy(&out));
        let rows = fake.rows("default");
        assert_eq!(rows.len(), 900);
        assert_eq!(rows[&b"k5"[..]], "{\"id\":\"k5\",\"n\":905}");
        assert!(!beside(&file, ".sterna-import").exists());
    }

    #[tokio::test]
    async fn bad_records_are_counted_listed_and_do_not_stop_the_rest() {
        let fake = Fake::start(&[("eu", 1)]).await;
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.csv");
        std::fs::write(&file, "id,v\na,1\n,2\nb\nc,3\n").unwrap();
        let mut out = Vec::new();
        assert_eq!(
            args(&fake, &file).run(&mut out).await.unwrap(),
            Verdict::Bad
        );
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains("2 records written, 2 errors"), "{text}");
        assert!(text.contains("record 2: the key is empty"), "{text}");
        let listed = std::fs::read_to_string(beside(&file, ".errors.ndjson")).unwrap();
        assert_eq!(listed.lines().count(), 2);
    }

    #[tokio::test]
    async fn an_import_resumes_where_its_checkpoint_says() {
        let fake = Fake::start(&[("eu", 1)]).await;
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.ndjson");
        std::fs::write(&file, lines(100)).unwrap();
        let checkpoint = Checkpoint {
            keyspace: "default".to_owned(),
            file_bytes: std::fs::metadata(&file).unwrap().len(),
            records: 60,
            bytes: 0,
            refused: 0,
        };
        checkpoint::save(&beside(&file, ".sterna-import"), &checkpoint).unwrap();
        let mut again = args(&fake, &file);
        again.resume = true;
        again.run(&mut Vec::new()).await.unwrap();
        assert_eq!(fake.rows("default").len(), 40);
    }

    #[tokio::test]
    async fn a_cluster_that_takes_nothing_stops_the_import_with_a_checkpoint() {
        let fake = Fake::start(&[("eu", 1)]).await;
        fake.world().faults.extend(["unavailable"; 500]);
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.ndjson");
        std::fs::write(&file, lines(10)).unwrap();
        let mut impatient = args(&fake, &file);
        impatient.patience = Duration::from_millis(1);
        let error = impatient
            .run(&mut Vec::new())
            .await
            .unwrap_err()
            .to_string();
        assert!(error.contains("--resume"), "{error}");
        assert!(beside(&file, ".sterna-import").exists());
    }
}
