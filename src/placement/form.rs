//! How a topology file is written, as serde reads it: names of fields, which of them may be left out, and
//! plain types, each with its place in the text. What the values mean and which of them are allowed,
//! `check` knows.

use serde::Deserialize;

/// A value and where it stands in the text.
pub(super) type At<T> = toml::Spanned<T>;

/// The whole file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(super) struct FileForm {
    pub(super) cluster: At<String>,
    pub(super) partitions: At<i64>,
    #[serde(default)]
    pub(super) limits: LimitsForm,
    #[serde(default)]
    pub(super) region: Vec<At<RegionForm>>,
    #[serde(default)]
    pub(super) keyspace: Vec<At<KeyspaceForm>>,
    #[serde(default)]
    pub(super) link: Vec<At<LinkForm>>,
}

/// `[limits]`.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(super) struct LimitsForm {
    pub(super) key_bytes_max: Option<At<i64>>,
    pub(super) value_bytes_max: Option<At<i64>>,
    pub(super) siblings_max: Option<At<i64>>,
    pub(super) parts_max: Option<At<i64>>,
    pub(super) operation_window_ms: Option<At<i64>>,
    pub(super) requests_max: Option<At<i64>>,
    pub(super) batch_bytes_max: Option<At<i64>>,
    pub(super) window_bytes_max: Option<At<i64>>,
    pub(super) recent_bytes_max: Option<At<i64>>,
    pub(super) log_bytes_max: Option<At<i64>>,
    pub(super) reconcile_bytes_per_second: Option<At<i64>>,
    pub(super) scrub_bytes_per_second: Option<At<i64>>,
    pub(super) scrub_every_ms: Option<At<i64>>,
    pub(super) disk_low_bytes: Option<At<i64>>,
    pub(super) disk_full_bytes: Option<At<i64>>,
    pub(super) max_offset_ms: Option<At<i64>>,
    pub(super) heartbeat_every_ms: Option<At<i64>>,
    pub(super) silence_max_ms: Option<At<i64>>,
    pub(super) reconcile_every_ms: Option<At<i64>>,
    pub(super) upkeep_every_ms: Option<At<i64>>,
}

/// `[[region]]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(super) struct RegionForm {
    pub(super) name: At<String>,
    #[serde(default)]
    pub(super) node: Vec<NodeForm>,
}

/// `[[region.node]]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(super) struct NodeForm {
    pub(super) id: At<String>,
    pub(super) zone: At<String>,
    pub(super) http: At<String>,
    pub(super) peer: At<String>,
    pub(super) weight: Option<At<i64>>,
}

/// `[[keyspace]]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(super) struct KeyspaceForm {
    pub(super) name: At<String>,
    pub(super) merge: At<String>,
    pub(super) regions: Option<At<Vec<At<String>>>>,
    pub(super) replication: Option<At<i64>>,
    pub(super) consistency: Option<At<String>>,
    pub(super) ttl_s: Option<At<i64>>,
    pub(super) conflicts_kept_s: Option<At<i64>>,
}

/// `[[link]]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(super) struct LinkForm {
    pub(super) between: At<Vec<At<String>>>,
    pub(super) rtt_ms: At<f64>,
    pub(super) jitter_ms: Option<At<f64>>,
    pub(super) loss: Option<At<f64>>,
    pub(super) reorder: Option<At<f64>>,
    pub(super) bandwidth_mbit: Option<At<f64>>,
}
