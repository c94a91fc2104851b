//! How a command line names a key, and how a command that changed one says so.

use std::io::Write;

use bytes::Bytes;
use clap::Args;
use serde_json::json;

use super::client::{Blob, Client, Stamp};
use super::options::{SessionArgs, Target, bytes_of, from_hex};
use super::{Failure, Verdict};

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

impl KeyArgs {
    /// The key's bytes.
    pub(super) fn bytes(&self) -> Result<Vec<u8>, Failure> {
        match (&self.key, &self.key_hex) {
            (Some(key), None) => Ok(key.clone().into_bytes()),
            (None, Some(hex)) => from_hex(hex),
            (Some(_), Some(_)) | (None, None) => {
                Err(Failure::usage("give the key once: KEY or --key-hex HEX"))
            }
        }
    }

    pub(super) fn shown(&self) -> String {
        let hex = self.key_hex.as_ref().map(|hex| format!("0x{hex}"));
        self.key.clone().or(hex).unwrap_or_default()
    }
}

/// The key of a counter, set or map.
#[derive(Args, Clone, Debug)]
pub(super) struct Spot {
    #[command(flatten)]
    target: Target,
    /// Key, members and fields are written as hex digits, for those that are not text
    #[arg(long)]
    hex: bool,
    /// Write JSON, an object a line
    #[arg(long)]
    pub(super) json: bool,
    /// The key
    #[arg(value_name = "KEY")]
    key: String,
}

impl Spot {
    /// A client that asks for the level; nothing is sent yet.
    pub(super) fn client(&self) -> Result<Client, Failure> {
        Ok(self.target.client()?)
    }

    pub(super) fn keyspace(&self) -> &str {
        &self.target.keyspace
    }

    pub(super) fn key(&self) -> Result<Bytes, Failure> {
        self.name(&self.key)
    }

    /// A key, member or field as the command line writes it.
    pub(super) fn name(&self, text: &str) -> Result<Bytes, Failure> {
        bytes_of(text, self.hex)
    }

    /// Several of them.
    pub(super) fn names(&self, texts: &[String]) -> Result<Vec<Blob>, Failure> {
        let names = texts.iter().map(|text| self.name(text).map(Blob));
        names.collect()
    }

    /// That there is no such part of the key.
    pub(super) fn lacks(&self, what: &str) -> Failure {
        let (key, keyspace) = (&self.key, self.keyspace());
        Failure::No(format!("no {what} in `{key}` of keyspace `{keyspace}`"))
    }

    /// Says what a write came to.
    pub(super) fn wrote(
        &self,
        out: &mut dyn Write,
        stamp: &Stamp,
        session: &SessionArgs,
    ) -> Result<Verdict, Failure> {
        write_stamp(out, self.json, stamp, session)
    }
}

/// Says what a write came to: as JSON, or nothing but what its writer must know. A condition that held while
/// another coordinator was writing is not a plain yes.
pub(super) fn write_stamp(
    out: &mut dyn Write,
    as_json: bool,
    stamp: &Stamp,
    session: &SessionArgs,
) -> Result<Verdict, Failure> {
    if as_json {
        writeln!(out, "{}", json!(stamp))?;
    }
    session.tell(stamp.session.as_ref())?;
    if stamp.condition.as_deref() == Some("merged") {
        let words = "merged: another coordinator was writing; read again before you rely on it";
        writeln!(std::io::stderr(), "{words}")?;
        return Ok(Verdict::Bad);
    }
    Ok(Verdict::Good)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_that_was_merged_is_no_plain_yes() {
        for (condition, verdict) in [
            (None, Verdict::Good),
            (Some("serialized"), Verdict::Good),
            (Some("merged"), Verdict::Bad),
        ] {
            for as_json in [false, true] {
                let stamp = Stamp {
                    condition: condition.map(str::to_owned),
                    ..Stamp::default()
                };
                let told = write_stamp(&mut Vec::new(), as_json, &stamp, &SessionArgs::default());
                assert_eq!(told.unwrap(), verdict, "{condition:?}");
            }
        }
    }
}
