//! The forms of the HTTP contract, as the client reads and writes them. Fields that it does not use
//! are left out: a node may say more.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::de::Error as _;
use serde::ser::SerializeMap as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Bytes in JSON: a string if they are UTF-8, otherwise `{"b64": "…"}`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Blob(pub Bytes);

impl Serialize for Blob {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match str::from_utf8(&self.0) {
            Ok(text) => serializer.serialize_str(text),
            Err(_) => {
                let mut map = serializer.serialize_map(Some(1))?;
                map.serialize_entry("b64", &STANDARD.encode(&self.0))?;
                map.end()
            }
        }
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum BlobForm {
    Text(String),
    Base64 { b64: String },
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match BlobForm::deserialize(deserializer)? {
            BlobForm::Text(text) => Ok(Self(Bytes::from(text))),
            BlobForm::Base64 { b64 } => STANDARD
                .decode(b64)
                .map(|bytes| Self(Bytes::from(bytes)))
                .map_err(D::Error::custom),
        }
    }
}

/// Where the version that was read or written stands.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Stamp {
    /// `micros.logical`.
    pub timestamp: String,
    /// The region that the version came from.
    pub region: String,
    /// The state of the row.
    pub etag: String,
    /// From when on it is gone, as RFC 3339 has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires: Option<String>,
    /// What was read, to be given back with a write.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context: Option<String>,
    /// How a condition held: `serialized` or `merged`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub condition: Option<String>,
    /// What was seen, to be given back with the next request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
}

/// A value that was found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Found {
    /// The value.
    pub value: Bytes,
    /// Its version.
    pub stamp: Stamp,
}

/// One row of a page.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Item {
    /// The key.
    pub key: Blob,
    /// The value, if it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Blob>,
    /// `micros.logical`.
    #[serde(default)]
    pub timestamp: String,
    /// The region that the version came from.
    #[serde(default)]
    pub region: String,
    /// The state of the row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    /// From when on it is gone, as RFC 3339 has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<String>,
    /// How many values stand side by side, if there are several: the last written is shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sibling_count: Option<u64>,
}

/// A page of rows.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Page {
    /// The rows.
    pub items: Vec<Item>,
    /// Where to go on, if there is more.
    pub next: Option<String>,
}

/// An item of a batch of puts.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Put {
    /// The key.
    pub key: Blob,
    /// The value.
    pub value: Blob,
}

/// An error in a body.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Problem {
    /// Stable code.
    pub code: String,
    /// A sentence that says what to do.
    #[serde(default)]
    pub message: String,
}

/// What became of one item of a batch.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ItemResult {
    /// The key.
    pub key: Blob,
    /// An HTTP status.
    pub status: u16,
    /// The value, for a get that found one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Blob>,
    /// `micros.logical`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<String>,
    /// What went wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Problem>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct Results {
    pub(super) results: Vec<ItemResult>,
}

#[derive(Deserialize)]
pub(super) struct ProblemBody {
    pub(super) error: Problem,
}

/// A node, as `/v1/status` lists it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NodeEntry {
    /// Its name.
    pub node: String,
    /// Its region.
    pub region: String,
    /// Its zone.
    #[serde(default)]
    pub zone: String,
    /// host:port of its HTTP endpoint.
    pub http: String,
    /// host:port of its QUIC endpoint.
    #[serde(default)]
    pub peer: String,
}

/// A peer, as the node that was asked sees it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PeerEntry {
    /// Its name.
    pub node: String,
    /// Its region.
    #[serde(default)]
    pub region: String,
    /// Whether it is heard.
    pub up: bool,
    /// Changes of the asked node's own log that it has not got.
    #[serde(default)]
    pub backlog: u64,
}

/// A keyspace.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct KeyspaceEntry {
    /// Its name.
    pub name: String,
    /// How it merges.
    #[serde(default)]
    pub merge: String,
    /// The regions it lives in.
    #[serde(default)]
    pub regions: Vec<String>,
    /// Replicas in each region.
    #[serde(default)]
    pub replication: usize,
    /// The level of requests that name none.
    #[serde(default)]
    pub consistency: String,
}

/// `/v1/status`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Status {
    /// The cluster.
    pub cluster: String,
    /// The region of the node that was asked.
    pub region: String,
    /// The node that was asked.
    pub node: String,
    /// Its actor.
    #[serde(default)]
    pub actor: String,
    /// Whether it serves everything it holds.
    pub ready: bool,
    /// Partitions it holds.
    #[serde(default)]
    pub partitions: u64,
    /// Of them, those that serve.
    #[serde(default)]
    pub serving: u64,
    /// Of those, such of which a quorum of the node's region serves.
    #[serde(default)]
    pub available: u64,
    /// Requests in flight.
    #[serde(default)]
    pub requests: u64,
    /// Its peers.
    #[serde(default)]
    pub peers: Vec<PeerEntry>,
    /// All nodes of the cluster.
    #[serde(default)]
    pub nodes: Vec<NodeEntry>,
    /// All keyspaces of the cluster.
    #[serde(default)]
    pub keyspaces: Vec<KeyspaceEntry>,
    /// Counters since the start.
    #[serde(default)]
    pub counters: BTreeMap<String, u64>,
    /// Entries queued.
    #[serde(default)]
    pub queues: BTreeMap<String, u64>,
    /// Bytes of frames sent to each peer.
    #[serde(default)]
    pub sent_bytes: BTreeMap<String, u64>,
    /// Bytes of frames received from each peer.
    #[serde(default)]
    pub received_bytes: BTreeMap<String, u64>,
}

impl Status {
    /// The names of the regions, in the order in which their nodes are listed.
    pub fn region_names(&self) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        for node in &self.nodes {
            if !names.contains(&node.region) {
                names.push(node.region.clone());
            }
        }
        names
    }
}

/// The way from one region to another.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PairEntry {
    /// Where changes come from.
    pub from: String,
    /// Where they go.
    pub to: String,
    /// Lag in milliseconds, told by the receiving side.
    #[serde(default)]
    pub lag_ms: Option<u64>,
    /// Changes not yet acknowledged, told by the sending side.
    #[serde(default)]
    pub backlog: u64,
    /// Rows found different, told by the receiving side.
    #[serde(default)]
    pub divergence: u64,
}

/// `/v1/regions`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Regions {
    /// The region of the node that was asked.
    pub region: String,
    /// Two entries for each other region.
    pub pairs: Vec<PairEntry>,
}

/// The root digest of one partition.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RootEntry {
    /// The keyspace.
    pub keyspace: String,
    /// The partition.
    pub partition: u32,
    /// 32 hex digits.
    pub root: String,
}

/// `/v1/digests`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Digests {
    /// The node that was asked.
    pub node: String,
    /// The partitions it holds.
    pub partitions: Vec<RootEntry>,
}

/// What a scrub had done.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ScrubEntry {
    /// Whether one was under way.
    pub running: bool,
    /// Times that everything was read.
    pub passes: u64,
    /// Partitions of the present or last pass that are done.
    pub partitions_done: u64,
    /// Damage that was met since the start.
    pub damaged: u64,
}

#[derive(Serialize, Deserialize)]
pub(super) struct Children {
    pub(super) children: Vec<String>,
}

/// The link between two regions of a dev cluster.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct LinkEntry {
    /// One region.
    pub a: String,
    /// The other.
    pub b: String,
    /// Round-trip time in milliseconds.
    #[serde(default)]
    pub rtt_ms: f64,
    /// Jitter in milliseconds.
    #[serde(default)]
    pub jitter_ms: f64,
    /// Chance of loss, 0 to 1.
    #[serde(default)]
    pub loss: f64,
    /// Megabits a second; nothing means no cap.
    #[serde(default)]
    pub bandwidth_mbit: Option<f64>,
    /// Whether nothing passes.
    #[serde(default)]
    pub cut: bool,
}

#[derive(Serialize, Deserialize)]
pub(super) struct Links {
    pub(super) links: Vec<LinkEntry>,
}

/// What to change about a link; what is not named stays.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize)]
pub struct LinkChange {
    /// Cut or heal it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cut: Option<bool>,
    /// Round-trip time in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rtt_ms: Option<f64>,
    /// Jitter in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jitter_ms: Option<f64>,
    /// Chance of loss, 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loss: Option<f64>,
    /// Megabits a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bandwidth_mbit: Option<f64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_go_through_json_and_back() {
        for bytes in [&b"plain"[..], b"", b"\xff\x00", "z\u{fc}rich".as_bytes()] {
            let blob = Blob(Bytes::copy_from_slice(bytes));
            let text = serde_json::to_string(&blob).unwrap();
            assert_eq!(serde_json::from_str::<Blob>(&text).unwrap(), blob, "{text}");
        }
        assert_eq!(
            serde_json::to_string(&Blob(Bytes::from_static(b"\xff"))).unwrap(),
            r#"{"b64":"/w=="}"#
        );
    }
}
