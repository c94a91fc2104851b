//! Bytes in JSON: a string where they are UTF-8, otherwise `{"b64": "…"}`. Both forms are read.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};

/// A key or a value.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Blob(pub(super) Bytes);

impl Serialize for Blob {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if let Ok(text) = std::str::from_utf8(&self.0) {
            return serializer.serialize_str(text);
        }
        let mut map = serializer.serialize_map(Some(1))?;
        map.serialize_entry("b64", &STANDARD.encode(&self.0))?;
        map.end()
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(BlobVisitor)
    }
}

struct BlobVisitor;

impl<'de> Visitor<'de> for BlobVisitor {
    type Value = Blob;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string, or {\"b64\": \"…\"} with standard base64")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Blob, E> {
        Ok(Blob(Bytes::copy_from_slice(text.as_bytes())))
    }

    fn visit_string<E: de::Error>(self, text: String) -> Result<Blob, E> {
        Ok(Blob(Bytes::from(text)))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Blob, A::Error> {
        match map.next_entry::<String, String>()? {
            Some((name, text)) if name == "b64" => {
                let bytes = STANDARD.decode(text).map_err(|error| {
                    de::Error::custom(format_args!("b64 is not standard base64: {error}"))
                })?;
                if map.next_key::<String>()?.is_some() {
                    return Err(de::Error::custom("nothing may stand beside b64"));
                }
                Ok(Blob(Bytes::from(bytes)))
            }
            Some(_) | None => Err(de::Error::custom("bytes as an object need the field b64")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_read_and_the_shorter_is_written() {
        for bytes in [&b""[..], b"a\0\"\n", "ü".as_bytes(), b"\xff\x00"] {
            let blob = Blob(Bytes::copy_from_slice(bytes));
            let text = serde_json::to_string(&blob).unwrap();
            assert_eq!(text.starts_with('"'), std::str::from_utf8(bytes).is_ok());
            assert_eq!(serde_json::from_str::<Blob>(&text).unwrap(), blob);
            let b64 = format!("{{\"b64\":\"{}\"}}", STANDARD.encode(bytes));
            assert_eq!(serde_json::from_str::<Blob>(&b64).unwrap(), blob);
        }
        for text in ["1", "null", "{}", "{\"b64\":\"%\"}", "{\"b\":\"\"}", "[]"] {
            assert!(serde_json::from_str::<Blob>(text).is_err(), "{text}");
        }
        let beside = "{\"b64\":\"\",\"x\":\"\"}";
        assert!(serde_json::from_str::<Blob>(beside).is_err());
    }
}
