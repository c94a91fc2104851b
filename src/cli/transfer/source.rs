//! Records out of a file, one by one: numbered from 1, each with a key and a value, or with what is
//! wrong with it. A bad record never stops the file.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use csv::ByteRecord;
use serde_json::Value;

use super::super::Failure;
use super::format::{Format, Ordered};

/// Longest line of NDJSON in bytes: twice the largest value a keyspace takes, as base64 and then some.
const LINE_BYTES_MAX: u64 = 48 << 20;
/// Bytes of a bad record kept for the list of errors.
const EXCERPT_BYTES: usize = 200;

/// What makes the key and the value of a record.
#[derive(Clone, Debug)]
pub(super) struct Columns {
    /// The column that holds the key.
    pub(super) key: String,
    /// The column that holds the value; nothing means the whole record as JSON.
    pub(super) value: Option<String>,
}

/// One record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Record {
    /// Its number in the file, from 1; the header is not counted.
    pub(super) number: u64,
    /// Bytes of the file up to its end.
    pub(super) bytes: u64,
    /// Key and value, or what is wrong.
    pub(super) content: Result<(Bytes, Bytes), Defect>,
}

/// What is wrong with a record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Defect {
    /// In words.
    pub(super) reason: String,
    /// How the record begins.
    pub(super) excerpt: String,
}

/// A file being read.
pub(super) struct Source {
    columns: Columns,
    number: u64,
    kind: Kind,
}

enum Kind {
    Lines {
        reader: BufReader<File>,
        bytes: u64,
        line: Vec<u8>,
    },
    Table(Box<Table>),
}

struct Table {
    reader: csv::Reader<File>,
    headers: Vec<String>,
    key: usize,
    value: Option<usize>,
    record: ByteRecord,
}

impl Source {
    /// Opens a file; for tables, reads the header and finds the columns in it.
    pub(super) fn open(path: &Path, format: Format, columns: Columns) -> Result<Self, Failure> {
        let file = File::open(path).map_err(Failure::file("open", path))?;
        let kind = match format {
            Format::Ndjson => Kind::Lines {
                reader: BufReader::with_capacity(256 << 10, file),
                bytes: 0,
                line: Vec::new(),
            },
            Format::Csv => Kind::Table(Box::new(Table::open(
                path,
                csv::ReaderBuilder::new(),
                file,
                &columns,
            )?)),
            Format::Tsv => {
                let mut builder = csv::ReaderBuilder::new();
                builder.delimiter(b'\t').quoting(false);
                Kind::Table(Box::new(Table::open(path, builder, file, &columns)?))
            }
        };
        Ok(Self {
            columns,
            number: 0,
            kind,
        })
    }

    /// The next record; nothing at the end of the file.
    pub(super) fn next(&mut self) -> std::io::Result<Option<Record>> {
        let (bytes, content) = match &mut self.kind {
            Kind::Lines {
                reader,
                bytes,
                line,
            } => {
                let Some(fits) = read_line(reader, bytes, line)? else {
                    return Ok(None);
                };
                let content = if fits {
                    json_record(line, &self.columns)
                } else {
                    Err(format!("the line is longer than {LINE_BYTES_MAX} bytes"))
                };
                (
                    *bytes,
                    content.map_err(|reason| Defect {
                        reason,
                        excerpt: excerpt(line),
                    }),
                )
            }
            Kind::Table(table) => {
                let content = match table.reader.read_byte_record(&mut table.record) {
                    Ok(false) => return Ok(None),
                    Ok(true) => table.row(),
                    Err(error) if error.is_io_error() => return Err(error.into()),
                    Err(error) => Err(error.to_string()),
                };
                let content = content.map_err(|reason| Defect {
                    reason,
                    excerpt: excerpt(table.record.as_slice()),
                });
                (table.reader.position().byte(), content)
            }
        };
        self.number += 1;
        Ok(Some(Record {
            number: self.number,
            bytes,
            content,
        }))
    }
}

/// Reads a line that is not blank into `line`, without its end. False if it was too long (it is read
/// over); nothing at the end of the file.
fn read_line(
    reader: &mut BufReader<File>,
    bytes: &mut u64,
    line: &mut Vec<u8>,
) -> std::io::Result<Option<bool>> {
    loop {
        line.clear();
        let count = reader
            .by_ref()
            .take(LINE_BYTES_MAX)
            .read_until(b'\n', line)?;
        if count == 0 {
            return Ok(None);
        }
        *bytes += u64::try_from(count).unwrap_or(u64::MAX);
        if line.ends_with(b"\n") || u64::try_from(count).is_ok_and(|n| n < LINE_BYTES_MAX) {
            let kept = line.trim_ascii_end().len();
            line.truncate(kept);
            if !line.trim_ascii_start().is_empty() {
                return Ok(Some(true));
            }
        } else {
            *bytes += u64::try_from(reader.skip_until(b'\n')?).unwrap_or(u64::MAX);
            return Ok(Some(false));
        }
    }
}

impl Table {
    fn open(
        path: &Path,
        mut builder: csv::ReaderBuilder,
        file: File,
        columns: &Columns,
    ) -> Result<Self, Failure> {
        let mut reader = builder
            .flexible(true)
            .buffer_capacity(256 << 10)
            .from_reader(file);
        let read = reader.headers().map_err(|error| {
            Failure::usage(format!(
                "{}: the first record does not name the columns: {error}",
                path.display()
            ))
        })?;
        let headers: Vec<String> = read.iter().map(str::to_owned).collect();
        let find = |name: &String| {
            headers
                .iter()
                .position(|header| header == name)
                .ok_or_else(|| {
                    let known = headers.join(", ");
                    Failure::usage(format!(
                        "{} has no column `{name}`: it has {known}",
                        path.display()
                    ))
                })
        };
        Ok(Self {
            key: find(&columns.key)?,
            value: columns.value.as_ref().map(find).transpose()?,
            reader,
            headers,
            record: ByteRecord::new(),
        })
    }

    fn row(&self) -> Result<(Bytes, Bytes), String> {
        let (found, wanted) = (self.record.len(), self.headers.len());
        if found != wanted {
            return Err(format!("{found} columns where the header has {wanted}"));
        }
        let key = self.record.get(self.key).unwrap_or_default();
        if key.is_empty() {
            return Err("the key is empty".to_owned());
        }
        let value = match self.value {
            Some(column) => Bytes::copy_from_slice(self.record.get(column).unwrap_or_default()),
            None => self.json()?,
        };
        Ok((Bytes::copy_from_slice(key), value))
    }

    fn json(&self) -> Result<Bytes, String> {
        let mut fields = Vec::with_capacity(self.headers.len());
        for (name, bytes) in self.headers.iter().zip(&self.record) {
            let text = str::from_utf8(bytes).map_err(|error| {
                format!("column `{name}` is not UTF-8 ({error}): import it with --value")
            })?;
            fields.push((name.clone(), Value::from(text)));
        }
        serde_json::to_vec(&Ordered(fields))
            .map(Bytes::from)
            .map_err(|error| error.to_string())
    }
}

fn json_record(line: &[u8], columns: &Columns) -> Result<(Bytes, Bytes), String> {
    let fields: Ordered =
        serde_json::from_slice(line).map_err(|error| format!("not a JSON object: {error}"))?;
    let field = |name: &str| {
        let found = fields.0.iter().find(|(field, _)| field == name);
        found
            .map(|(_, value)| value)
            .ok_or_else(|| format!("no column `{name}`"))
    };
    let key = match field(&columns.key)? {
        Value::String(text) => Bytes::copy_from_slice(text.as_bytes()),
        Value::Number(number) if !number.is_f64() => Bytes::from(number.to_string()),
        other @ (Value::Null
        | Value::Bool(_)
        | Value::Number(_)
        | Value::Array(_)
        | Value::Object(_)) => blob(other)?.ok_or("the key is neither text nor a whole number")?,
    };
    if key.is_empty() {
        return Err("the key is empty".to_owned());
    }
    let value = match &columns.value {
        None => Bytes::copy_from_slice(line.trim_ascii_start()),
        Some(name) => match field(name)? {
            Value::String(text) => Bytes::copy_from_slice(text.as_bytes()),
            other @ (Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::Array(_)
            | Value::Object(_)) => match blob(other)? {
                Some(bytes) => bytes,
                None => Bytes::from(other.to_string()),
            },
        },
    };
    Ok((key, value))
}

/// The bytes of `{"b64": "…"}`; nothing if the value is not that.
fn blob(value: &Value) -> Result<Option<Bytes>, String> {
    let fields = value.as_object().filter(|fields| fields.len() == 1);
    let Some(Value::String(text)) = fields.and_then(|fields| fields.get("b64")) else {
        return Ok(None);
    };
    let bytes = STANDARD
        .decode(text)
        .map_err(|error| format!("not base64: {error}"))?;
    Ok(Some(bytes.into()))
}

fn excerpt(bytes: &[u8]) -> String {
    let (begin, _) = bytes.split_at(bytes.len().min(EXCERPT_BYTES));
    String::from_utf8_lossy(begin).into_owned()
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn check(
        format: Format,
        text: &[u8],
        key: &str,
        value: Option<&str>,
    ) -> Vec<Result<(String, String), String>> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text).unwrap();
        let columns = Columns {
            key: key.to_owned(),
            value: value.map(str::to_owned),
        };
        let mut source = Source::open(file.path(), format, columns).unwrap();
        let mut found = Vec::new();
        let mut end = 0;
        while let Some(record) = source.next().unwrap() {
            assert_eq!(record.number, found.len() as u64 + 1);
            end = record.bytes;
            let text = |bytes: Bytes| String::from_utf8_lossy(&bytes).into_owned();
            found.push(
                record
                    .content
                    .map(|(k, v)| (text(k), text(v)))
                    .map_err(|d| d.reason),
            );
        }
        assert_eq!(end, text.len() as u64);
        found
    }

    fn good(key: &str, value: &str) -> Result<(String, String), String> {
        Ok((key.to_owned(), value.to_owned()))
    }

    #[test]
    fn ndjson_gives_the_line_itself_or_one_field() {
        let text = b"{\"id\":\"a\",\"n\": 1.50}\n\n{\"id\":7,\"v\":{\"b64\":\"/w==\"}}\r\n{\"id\":\"\"}\n{\"x\":1}\nnope";
        let whole = check(Format::Ndjson, text, "id", None);
        assert_eq!(whole[0], good("a", "{\"id\":\"a\",\"n\": 1.50}"));
        assert_eq!(whole[1], good("7", "{\"id\":7,\"v\":{\"b64\":\"/w==\"}}"));
        assert_eq!(whole[2], Err("the key is empty".to_owned()));
        assert_eq!(whole[3], Err("no column `id`".to_owned()));
        assert!(
            whole[4]
                .as_ref()
                .is_err_and(|reason| reason.starts_with("not a JSON object"))
        );
        let field = check(
            Format::Ndjson,
            b"{\"k\":\"a\",\"v\":{\"b64\":\"QUI=\"}}\n{\"k\":\"b\",\"v\":[1]}\n",
            "k",
            Some("v"),
        );
        assert_eq!(field, [good("a", "AB"), good("b", "[1]")]);
    }

    #[test]
    fn csv_is_quoted_and_tsv_is_not() {
        let csv = check(Format::Csv, b"id,t\n1,\"a,\"\"b\"\"\"\n2\n,x\n", "id", None);
        assert_eq!(csv[0], good("1", r#"{"id":"1","t":"a,\"b\""}"#));
        assert_eq!(csv[1], Err("1 columns where the header has 2".to_owned()));
        assert_eq!(csv[2], Err("the key is empty".to_owned()));
        let tsv = check(Format::Tsv, b"id\tt\n1\t\"a\n2\tb\"\n", "id", Some("t"));
        assert_eq!(tsv, [good("1", "\"a"), good("2", "b\"")]);
    }
}
