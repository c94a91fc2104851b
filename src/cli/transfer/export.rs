//! `sterna export`: a keyspace into a file, page by page, in token order.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Seek as _, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::super::client::{Client, Error, Fate, Item, Page};
use super::super::options::{Connect, span};
use super::super::table::scaled;
use super::super::{Failure, Verdict};
use super::checkpoint::{self, beside};
use super::format::{Format, Ordered};

/// Rows asked for at once.
const PAGE_ROWS: usize = 500;
/// Between two checkpoints.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(1);
/// Errors shown at the end.
const SHOWN_MAX: usize = 20;

/// Write all rows of a keyspace to a file.
///
/// Pages through the keyspace in token order, at level `one` of the node that is asked; what changes
/// meanwhile may or may not be in it. NDJSON lines are {"key":…,"value":…}, with {"b64":…} for bytes
/// that are not UTF-8; CSV and TSV have the columns key and value. With --records, values that are
/// JSON objects are written as they are, so that an import with whole records comes back as it was; CSV
/// and TSV then have the columns of the first record.
///
/// Progress is kept in FILE.sterna-export; after a stop, --resume goes on there. Rows that the form
/// cannot hold, and siblings but for the last written, are left out, counted, and make the exit code 1. Counters,
/// sets and maps are not exported. Values with a time to live are written without it: the error stream says how
/// many, for an import would keep them for ever.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  sterna export backup.ndjson
  sterna export - --keyspace users --records | jq .name
  sterna export cities.csv --keyspace cities --records
  sterna export backup.ndjson --resume")]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a switch of the command line"
)]
pub struct ExportArgs {
    #[command(flatten)]
    pub(crate) connect: Connect,
    /// The keyspace
    #[arg(long, short = 'k', default_value = "default", value_name = "NAME")]
    pub keyspace: String,
    /// The file; `-` for standard output
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// The form of the file (default: by its name; NDJSON on standard output)
    #[arg(long, value_enum)]
    pub format: Option<Format>,
    /// Write values that are JSON objects as they are
    #[arg(long)]
    pub records: bool,
    /// Go on where an earlier export to this file stopped
    #[arg(long)]
    pub resume: bool,
    /// Stop when the cluster has given nothing for so long
    #[arg(long, default_value = "60s", value_parser = span, value_name = "TIME")]
    pub patience: Duration,
    /// Write the closing line as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Checkpoint {
    keyspace: String,
    cursor: Option<String>,
    bytes: u64,
    rows: u64,
    skipped: u64,
    /// Rows that were written without their expiry.
    #[serde(default)]
    expiring: u64,
    header: Option<Vec<String>>,
}

impl ExportArgs {
    /// Runs the command.
    pub async fn run(&self, out: &mut dyn Write) -> Result<Verdict, Failure> {
        if self.file == Path::new("-") {
            if self.resume {
                return Err(Failure::usage(
                    "standard output cannot be resumed: name a file",
                ));
            }
            let mut encoder = self.encoder(self.format.unwrap_or(Format::Ndjson), None);
            let state = self.pump(out, &mut encoder, self.fresh(), None).await?;
            encoder.complain(&mut std::io::stderr(), state.skipped)?;
            complain_of_expiry(&mut std::io::stderr(), state.expiring)?;
            return Ok(verdict(&state));
        }
        let format = Format::of(self.format, &self.file)?;
        let (file, state) = self.open()?;
        let mut encoder = self.encoder(format, state.header.clone());
        let began = Instant::now();
        let mut file = BufWriter::with_capacity(256 << 10, file);
        let sync = file
            .get_ref()
            .try_clone()
            .map_err(Failure::file("open", &self.file))?;
        let state = self
            .pump(&mut file, &mut encoder, state, Some(&sync))
            .await?;
        checkpoint::remove(&beside(&self.file, ".sterna-export"))?;
        complain_of_expiry(&mut std::io::stderr(), state.expiring)?;
        let (rows, skipped, seconds) = (state.rows, state.skipped, began.elapsed().as_secs_f64());
        if self.json {
            let line = json!({"rows": rows, "bytes": state.bytes, "skipped": skipped, "expiring": state.expiring, "seconds": seconds});
            writeln!(out, "{line}")?;
        } else {
            for reason in &encoder.shown {
                writeln!(out, "  left out: {reason}")?;
            }
            let size = scaled(state.bytes as f64);
            writeln!(
                out,
                "{rows} rows written, {size}B, {skipped} left out, {seconds:.1} s"
            )?;
        }
        Ok(verdict(&state))
    }

    fn fresh(&self) -> Checkpoint {
        Checkpoint {
            keyspace: self.keyspace.clone(),
            ..Checkpoint::default()
        }
    }

    fn encoder(&self, format: Format, header: Option<Vec<String>>) -> Encoder {
        Encoder {
            format,
            records: self.records,
            header,
            shown: Vec::new(),
        }
    }

    /// The file, cut to where the checkpoint ends, and the checkpoint.
    fn open(&self) -> Result<(File, Checkpoint), Failure> {
        let path = beside(&self.file, ".sterna-export");
        let found = if self.resume {
            checkpoint::load::<Checkpoint>(&path)?
        } else {
            None
        };
        let state = found.unwrap_or_else(|| self.fresh());
        if state.keyspace != self.keyspace {
            return Err(Failure::usage(format!(
                "{} is of keyspace `{}`: export without --resume",
                path.display(),
                state.keyspace
            )));
        }
        let open = || {
            let mut file = OpenOptions::new()
                .create(true)
                .write(true)
                .truncate(false)
                .open(&self.file)?;
            file.set_len(state.bytes)?;
            file.seek(SeekFrom::End(0))?;
            Ok(file)
        };
        let file = open().map_err(Failure::file("open", &self.file))?;
        Ok((file, state))
    }

    async fn pump(
        &self,
        sink: &mut dyn Write,
        encoder: &mut Encoder,
        mut state: Checkpoint,
        file: Option<&File>,
    ) -> Result<Checkpoint, Failure> {
        let client = self.connect.client()?;
        let bar = if file.is_some() {
            ProgressBar::no_length()
        } else {
            ProgressBar::hidden()
        };
        if let Ok(style) = ProgressStyle::with_template("{pos} rows, {per_sec} {msg}") {
            bar.set_style(style);
        }
        let mut saved = Instant::now();
        let mut text = Vec::new();
        loop {
            let asked = page(&client, self, state.cursor.as_deref());
            let page = tokio::select! {
                page = asked => page.map_err(|error| stopped(file, &error.to_string()))?,
                _ = tokio::signal::ctrl_c() => return Err(stopped(file, "interrupted")),
            };
            text.clear();
            for item in &page.items {
                match encoder.encode(item, &mut text) {
                    Ok(()) => {
                        state.rows += 1;
                        state.expiring += u64::from(item.expires.is_some());
                        state.skipped += encoder.note_siblings(item);
                    }
                    Err(reason) => {
                        state.skipped += 1;
                        encoder.note(item, &reason);
                    }
                }
            }
            sink.write_all(&text)?;
            state.bytes += u64::try_from(text.len()).unwrap_or(u64::MAX);
            state.header.clone_from(&encoder.header);
            bar.set_position(state.rows);
            state.cursor = page.next;
            let is_over = state.cursor.is_none();
            if is_over || saved.elapsed() > CHECKPOINT_EVERY {
                sink.flush()?;
                if let Some(file) = file {
                    file.sync_data()
                        .map_err(Failure::file("write", &self.file))?;
                    checkpoint::save(&beside(&self.file, ".sterna-export"), &state)?;
                }
                saved = Instant::now();
            }
            if is_over {
                bar.finish_and_clear();
                return Ok(state);
            }
        }
    }
}

fn verdict(state: &Checkpoint) -> Verdict {
    if state.skipped == 0 {
        Verdict::Good
    } else {
        Verdict::Bad
    }
}

/// Says how many values were written as if they lived for ever.
fn complain_of_expiry(out: &mut dyn Write, expiring: u64) -> Result<(), Failure> {
    if expiring > 0 {
        writeln!(out, "{expiring} written without their expiry")?;
    }
    Ok(())
}

fn stopped(file: Option<&File>, why: &str) -> Failure {
    let how = if file.is_some() {
        "\ngo on with --resume"
    } else {
        ""
    };
    Failure::Stopped(format!("{why}{how}"))
}

/// A page, tried again while the cluster may yet give it.
async fn page(client: &Client, args: &ExportArgs, cursor: Option<&str>) -> Result<Page, Error> {
    let until = Instant::now() + args.patience;
    let mut pause = Duration::from_millis(50);
    loop {
        match client.page(&args.keyspace, PAGE_ROWS, cursor, true).await {
            Err(error) if error.fate() != Fate::Refused && Instant::now() < until => {
                tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64())).await;
                pause = (pause * 2).min(Duration::from_secs(3));
            }
            other => return other,
        }
    }
}

struct Encoder {
    format: Format,
    records: bool,
    header: Option<Vec<String>>,
    shown: Vec<String>,
}

impl Encoder {
    fn note(&mut self, item: &Item, reason: &str) {
        if self.shown.len() < SHOWN_MAX {
            self.shown
                .push(format!("key {}: {reason}", json!(item.key)));
        }
    }

    /// Notes that only the last of several values is written; says how many are not.
    fn note_siblings(&mut self, item: &Item) -> u64 {
        let others = item.sibling_count.unwrap_or(1).saturating_sub(1);
        if others > 0 {
            let all = others + 1;
            let words = format!("only the last of {all} siblings is written: see `sterna get`");
            self.note(item, &words);
        }
        others
    }

    /// Says what was left out, if anything was, beside the rows.
    fn complain(&self, out: &mut dyn Write, skipped: u64) -> Result<(), Failure> {
        for reason in &self.shown {
            writeln!(out, "left out: {reason}")?;
        }
        if skipped > 0 {
            writeln!(out, "{skipped} left out")?;
        }
        Ok(())
    }

    /// Appends a row, or says why it cannot be written; then nothing is appended.
    fn encode(&mut self, item: &Item, text: &mut Vec<u8>) -> Result<(), String> {
        let value = item
            .value
            .as_ref()
            .map(|blob| &blob.0[..])
            .unwrap_or_default();
        match (self.format, self.records) {
            (Format::Ndjson, false) => {
                let line = json!({"key": item.key, "value": item.value});
                text.extend_from_slice(line.to_string().as_bytes());
                text.push(b'\n');
                Ok(())
            }
            (Format::Ndjson, true) => {
                let fields = object(value)?;
                if value.contains(&b'\n') || value.contains(&b'\r') {
                    let line = serde_json::to_vec(&fields).map_err(|error| error.to_string())?;
                    text.extend_from_slice(&line);
                } else {
                    text.extend_from_slice(value);
                }
                text.push(b'\n');
                Ok(())
            }
            (Format::Csv | Format::Tsv, false) => {
                let names = || vec!["key".to_owned(), "value".to_owned()];
                self.row(names, &[&item.key.0, value], text)
            }
            (Format::Csv | Format::Tsv, true) => {
                let fields = object(value)?;
                let names = || fields.0.iter().map(|(name, _)| name.clone()).collect();
                let header = self.header.clone().unwrap_or_else(names);
                if let Some((name, _)) = fields.0.iter().find(|(name, _)| !header.contains(name)) {
                    return Err(format!("column `{name}` is not in the first record"));
                }
                let cells: Vec<String> = (header.iter())
                    .map(|name| fields.0.iter().find(|(field, _)| field == name))
                    .map(|found| found.map(|(_, value)| cell(value)).unwrap_or_default())
                    .collect();
                let cells: Vec<&[u8]> = cells.iter().map(String::as_bytes).collect();
                self.row(|| header, &cells, text)
            }
        }
    }

    fn row(
        &mut self,
        names: impl FnOnce() -> Vec<String>,
        cells: &[&[u8]],
        text: &mut Vec<u8>,
    ) -> Result<(), String> {
        let is_tsv = self.format == Format::Tsv;
        let breaks = |bytes: &[u8]| bytes.iter().any(|b| matches!(b, b'\t' | b'\n' | b'\r'));
        if is_tsv && cells.iter().any(|cell| breaks(cell)) {
            return Err("TSV cannot hold tabs or line ends".to_owned());
        }
        let mut builder = csv::WriterBuilder::new();
        if is_tsv {
            builder.delimiter(b'\t').quote_style(csv::QuoteStyle::Never);
        }
        let mut writer = builder.from_writer(Vec::new());
        if self.header.is_none() {
            let names = names();
            if is_tsv && names.iter().any(|name| breaks(name.as_bytes())) {
                return Err("TSV cannot hold tabs or line ends".to_owned());
            }
            writer
                .write_record(&names)
                .map_err(|error| error.to_string())?;
            self.header = Some(names);
        }
        writer
            .write_record(cells)
            .map_err(|error| error.to_string())?;
        let written = writer.into_inner().map_err(|error| error.to_string())?;
        text.extend_from_slice(&written);
        Ok(())
    }
}

fn object(value: &[u8]) -> Result<Ordered, String> {
    serde_json::from_slice(value)
        .map_err(|error| format!("the value is not a JSON object: {error}"))
}

fn cell(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other @ (Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
            other.to_string()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::fake::Fake;
    use super::super::super::options::Target;
    use super::super::import::ImportArgs;
    use super::*;

    fn args(fake: &Fake, file: &Path, records: bool) -> ExportArgs {
        ExportArgs {
            connect: Connect {
                endpoint: fake.address("eu-1"),
                timeout: None,
            },
            keyspace: "default".to_owned(),
            file: file.to_owned(),
            format: None,
            records,
            resume: false,
            patience: Duration::from_secs(5),
            json: false,
        }
    }

    fn import(fake: &Fake, file: &Path, key: &str, value: Option<&str>) -> ImportArgs {
        ImportArgs {
            target: Target::of(&fake.address("eu-1")),
            file: file.to_owned(),
            key: key.to_owned(),
            value: value.map(str::to_owned),
            format: None,
            concurrency: 8,
            batch: 50,
            resume: false,
            patience: Duration::from_secs(5),
            json: false,
        }
    }

    fn sorted(path: &Path) -> Vec<String> {
        let text = std::fs::read_to_string(path).unwrap();
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    }

    #[tokio::test]
    async fn records_come_back_as_they_were_imported() {
        let dir = tempfile::tempdir().unwrap();
        let rows =
            |sep: char| -> String { (0..1_200).map(|n| format!("z{n}{sep}v \"{n}\n")).collect() };
        let files = [
            (
                "a.ndjson",
                (0..1_200)
                    .map(|n| format!("{{\"z\":\"k{n}\", \"a\":{n}.50}}\n"))
                    .collect(),
            ),
            ("a.tsv", format!("z\ta\n{}", rows('\t'))),
            (
                "a.csv",
                format!(
                    "z,a\n{}",
                    rows(',').replace("v \"", "\"v, \"\"").replace('\n', "\"\n")
                ),
            ),
        ];
        for (name, text) in files {
            let fake = Fake::start(&[("eu", 1)]).await;
            let source = dir.path().join(name);
            std::fs::write(&source, &text).unwrap();
            import(&fake, &source, "z", None)
                .run(&mut Vec::new())
                .await
                .unwrap();
            let target = dir.path().join(format!("back-{name}"));
            let verdict = args(&fake, &target, true)
                .run(&mut Vec::new())
                .await
                .unwrap();
            assert_eq!(verdict, Verdict::Good);
            assert_eq!(sorted(&source), sorted(&target), "{name}");
        }
    }

    #[tokio::test]
    async fn bytes_come_back_through_an_export_of_keys_and_values() {
        let fake = Fake::start(&[("eu", 1)]).await;
        fake.put("eu", "default", b"\xff\x00", Some(b"\x00\xfe"));
        fake.put("eu", "default", b"text", Some(b"{\"b64\":\"QUI=\"}"));
        let before = fake.rows("default");
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("all.ndjson");
        args(&fake, &file, false)
            .run(&mut Vec::new())
            .await
            .unwrap();
        let other = Fake::start(&[("eu", 1)]).await;
        import(&other, &file, "key", Some("value"))
            .run(&mut Vec::new())
            .await
            .unwrap();
        assert_eq!(other.rows("default"), before);
    }

    #[tokio::test]
    async fn an_export_resumes_at_its_cursor_and_drops_what_came_after() {
        let fake = Fake::start(&[("eu", 1)]).await;
        for n in 0..10 {
            fake.put("eu", "default", format!("k{n}").as_bytes(), Some(b"v"));
        }
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.ndjson");
        let mut export = args(&fake, &file, false);
        export.run(&mut Vec::new()).await.unwrap();
        let whole = std::fs::read_to_string(&file).unwrap();
        let bytes: usize = whole.lines().take(4).map(|line| line.len() + 1).sum();
        let checkpoint = Checkpoint {
            cursor: Some("4".to_owned()),
            bytes: bytes as u64,
            rows: 4,
            ..export.fresh()
        };
        checkpoint::save(&beside(&file, ".sterna-export"), &checkpoint).unwrap();
        export.resume = true;
        export.run(&mut Vec::new()).await.unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), whole);
    }

    #[test]
    fn what_is_left_out_of_standard_output_is_said_beside_it() {
        let encoder = |shown: &[&str]| Encoder {
            format: Format::Tsv,
            records: false,
            header: None,
            shown: shown.iter().map(|&text| text.to_owned()).collect(),
        };
        let said = |shown: &[&str], skipped| {
            let mut out = Vec::new();
            encoder(shown).complain(&mut out, skipped).unwrap();
            String::from_utf8(out).unwrap()
        };
        assert_eq!(said(&[], 0), "");
        assert_eq!(
            said(&["key \"a\": a tab"], 30),
            "left out: key \"a\": a tab\n30 left out\n"
        );
        let mut out = Vec::new();
        complain_of_expiry(&mut out, 0).unwrap();
        complain_of_expiry(&mut out, 2).unwrap();
        assert_eq!(out, b"2 written without their expiry\n");
    }

    #[test]
    fn siblings_that_are_not_written_are_counted() {
        let mut encoder = Encoder {
            format: Format::Ndjson,
            records: false,
            header: None,
            shown: Vec::new(),
        };
        let item = |count: u64| {
            let item = json!({"key": "k", "value": "v", "sibling_count": count});
            serde_json::from_value::<Item>(item).unwrap()
        };
        assert_eq!(encoder.note_siblings(&item(1)), 0);
        assert_eq!(encoder.note_siblings(&item(3)), 2);
        assert_eq!(encoder.shown.len(), 1);
    }

    #[tokio::test]
    async fn what_a_form_cannot_hold_is_left_out_and_counted() {
        let fake = Fake::start(&[("eu", 1)]).await;
        fake.put("eu", "default", b"a", Some(b"one\ttwo"));
        fake.put("eu", "default", b"b", Some(b"three"));
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.tsv");
        let mut out = Vec::new();
        let verdict = args(&fake, &file, false).run(&mut out).await.unwrap();
        assert_eq!(verdict, Verdict::Bad);
        assert_eq!(
            std::fs::read_to_string(&file).unwrap(),
            "key\tvalue\nb\tthree\n"
        );
        assert!(
            String::from_utf8(out)
                .unwrap()
                .contains("left out: key \"a\"")
        );
    }
}
