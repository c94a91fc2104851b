//! The load instrument: drives a running cluster over HTTP and measures latency, throughput and
//! replication lag.
//!
//! It shares its machine with the cluster as often as not, so it is cheap: one connection for each
//! worker, driven in the worker's own task, and no JSON but in errors. In an open loop latency counts
//! from when a request *should* have been sent, so that a stall of the cluster is not hidden by the
//! requests that were never sent during it. It does not find nodes and prints nothing: it is given a
//! [`Plan`] and gives a [`Report`].

mod ack_log;
mod lag;
mod pace;
mod report;
mod run;
mod tally;
mod wire;
mod worker;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::model::Level;
use crate::workload::Spec;

pub use ack_log::{Acked, read_ack_log};
pub use report::{LagLine, Line, Quantiles, Report};
pub use run::run;

/// What to do, to whom, for how long.
#[derive(Clone, PartialEq, Debug)]
pub struct Plan {
    /// The regions to load.
    pub sites: Vec<Site>,
    /// The keyspace.
    pub keyspace: String,
    /// What keys begin with.
    pub key_prefix: String,
    /// The level of every request; nothing means the keyspace's.
    pub level: Option<Level>,
    /// The server's time for every request.
    pub timeout: Duration,
    /// Operations, keys, values.
    pub workload: Spec,
    /// Workers in each region.
    pub concurrency: u16,
    /// Requests a second in each region (open loop); nothing means each worker sends the next request
    /// when the last is answered (closed loop).
    pub rate: Option<f64>,
    /// An arrival of an open loop that no worker was free to send for so long is given up, and a refusal as
    /// overloaded is followed by the next arrival at once: how a crowd of clients behaves that does not wait.
    pub patience: Option<Duration>,
    /// When it is over.
    pub until: Until,
    /// Load before anything is measured.
    pub warmup: Duration,
    /// For the choice of operations and keys.
    pub seed: u64,
    /// Which nodes of a region are talked to.
    pub spread: Spread,
    /// Whether and how replication lag is measured.
    pub lag: Option<LagPlan>,
    /// Where acknowledged writes are written down. Then each key has one writer, with increasing numbers.
    pub ack_log: Option<AckLogPlan>,
}

/// A region and the nodes through which it is talked to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Site {
    /// Its name.
    pub region: String,
    /// host:port of its nodes' HTTP endpoints.
    pub nodes: Vec<String>,
}

/// When a run is over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Until {
    /// After this time, warm-up left out.
    Elapsed(Duration),
    /// After so many operations in each region, those of the warm-up left out.
    Count(u64),
}

/// Which nodes of a region are talked to. A worker whose node fails goes on to the next in any case.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Spread {
    /// The first.
    First,
    /// All, each by its share of the workers.
    All,
}

/// How replication lag is measured.
#[derive(Clone, PartialEq, Debug)]
pub struct LagPlan {
    /// At most so many writes a second in each region are watched.
    pub samples_per_second: u32,
    /// The regions in which they are watched for.
    pub watchers: Vec<Site>,
    /// One-way delay from a region to another, where it is known.
    pub one_way: BTreeMap<(String, String), Duration>,
}

/// Where acknowledged writes are written down.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AckLogPlan {
    /// The file; it is appended to.
    pub path: PathBuf,
    /// Names this run in its keys, so that no two runs ever write the same key.
    pub run: u64,
}

/// Why a run could not be started or came to no result.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// A plan that makes no sense; the words say what to change.
    #[error("{0}")]
    Plan(String),
    /// The ack log could not be written or read.
    #[error("{deed} {path}: {source}")]
    AckLog {
        /// What was tried.
        deed: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A worker panicked: a defect of this instrument.
    #[error("a worker of the bench broke: {0}")]
    Worker(#[from] tokio::task::JoinError),
}
