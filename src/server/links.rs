//! Links of a development cluster: what a client may see and change of them. Who carries the datagrams
//! is not known here; the `dev` command gives an implementation.

use std::fmt::Debug;

use axum::body::Bytes;
use serde::{Deserialize, Deserializer, Serialize};

use super::problem::{Code, Problem};

/// Highest round-trip time or jitter of an emulated link, in milliseconds.
const DELAY_MS_MAX: f64 = 60_000.0;

/// The emulated links between the regions of a development cluster.
pub trait LinkControl: Send + Sync + Debug {
    /// All links, in the order of the topology.
    fn links(&self) -> Vec<LinkState>;

    /// Changes the link between two regions, named in either order, and says what it is then.
    fn change(&self, a: &str, b: &str, change: LinkChange) -> Result<LinkState, NoLink>;
}

/// There is no link between these regions.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("no link between these regions")]
pub struct NoLink;

/// A link as it is.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct LinkState {
    /// One region.
    pub a: String,
    /// The other.
    pub b: String,
    /// Round-trip time in milliseconds.
    pub rtt_ms: f64,
    /// Up to so many milliseconds are added to each datagram's way.
    pub jitter_ms: f64,
    /// Chance that a datagram is lost, 0 to 1.
    pub loss: f64,
    /// Megabits a second in each direction; nothing means no cap.
    pub bandwidth_mbit: Option<f64>,
    /// Whether nothing passes.
    pub cut: bool,
}

/// What to change of a link; what is nothing stays as it is. The server has checked the numbers.
#[derive(Clone, Copy, PartialEq, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinkChange {
    /// Cut it, or heal it.
    #[serde(default)]
    pub cut: Option<bool>,
    /// Round-trip time in milliseconds, 0 to 60000.
    #[serde(default)]
    pub rtt_ms: Option<f64>,
    /// Jitter in milliseconds, 0 to 60000.
    #[serde(default)]
    pub jitter_ms: Option<f64>,
    /// Loss, 0 to 1.
    #[serde(default)]
    pub loss: Option<f64>,
    /// Megabits a second, above 0; `Some(None)` lifts the cap.
    #[serde(default, deserialize_with = "present")]
    pub bandwidth_mbit: Option<Option<f64>>,
}

/// Tells `null` (no cap) from a field that is not there.
fn present<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Option<f64>>, D::Error> {
    Option::<f64>::deserialize(from).map(Some)
}

impl LinkChange {
    /// Reads and checks a request's body.
    pub(super) fn parse(body: &Bytes) -> Result<Self, Problem> {
        let change: Self = serde_json::from_slice(body).map_err(|error| {
            Problem::new(
                Code::BadBody,
                format!("the body is no link change: {error}"),
            )
        })?;
        if change == Self::default() {
            return Err(bad(
                "nothing to change: give cut, rtt_ms, jitter_ms, loss or bandwidth_mbit",
            ));
        }
        let within = |value: Option<f64>, max: f64| value.is_none_or(|n| (0.0..=max).contains(&n));
        if !within(change.rtt_ms, DELAY_MS_MAX) || !within(change.jitter_ms, DELAY_MS_MAX) {
            return Err(bad("rtt_ms and jitter_ms must lie between 0 and 60000"));
        }
        if !within(change.loss, 1.0) {
            return Err(bad("loss must lie between 0 and 1"));
        }
        if matches!(change.bandwidth_mbit, Some(Some(n)) if n <= 0.0) {
            return Err(bad(
                "bandwidth_mbit must be above 0, or null for no cap; to stop everything use cut",
            ));
        }
        Ok(change)
    }
}

fn bad(words: &'static str) -> Problem {
    Problem::new(Code::BadBody, words)
}
