//! The forms of a file of records, and JSON objects whose fields keep their order.

use std::fmt;
use std::path::Path;

use clap::ValueEnum;
use serde::de::{MapAccess, Visitor};
use serde::ser::SerializeMap as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use super::super::Failure;

/// The form of a file of records.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum, Serialize, Deserialize)]
pub enum Format {
    /// One JSON object a line.
    Ndjson,
    /// Comma-separated, quoted where needed (RFC 4180), the first record names the columns.
    Csv,
    /// Tab-separated without any quoting, the first record names the columns.
    Tsv,
}

impl Format {
    /// The form that was asked for, or that the name of the file says.
    pub(super) fn of(asked: Option<Self>, path: &Path) -> Result<Self, Failure> {
        let extension = path.extension().and_then(|text| text.to_str());
        let by_name = match extension {
            Some("ndjson" | "jsonl" | "json") => Some(Self::Ndjson),
            Some("csv") => Some(Self::Csv),
            Some("tsv" | "tab") => Some(Self::Tsv),
            Some(_) | None => None,
        };
        asked.or(by_name).ok_or_else(|| {
            Failure::usage(format!(
                "the name of {} does not say its form: give --format ndjson, csv or tsv",
                path.display()
            ))
        })
    }
}

/// A JSON object whose fields keep the order in which they were written.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct Ordered(pub(super) Vec<(String, Value)>);

impl Serialize for Ordered {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

struct OrderedVisitor;

impl<'de> Visitor<'de> for OrderedVisitor {
    type Value = Ordered;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Ordered, A::Error> {
        let mut fields = Vec::new();
        while let Some(field) = map.next_entry()? {
            fields.push(field);
        }
        Ok(Ordered(fields))
    }
}

impl<'de> Deserialize<'de> for Ordered {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(OrderedVisitor)
    }
}
