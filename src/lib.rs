//! Sterna: a multi-region, geo-replicated key-value store. `ARCHITECTURE.md` is the map.

pub mod bench;
pub mod cli;
pub mod coding;
pub mod digest;
pub mod history;
pub mod hlc;
#[cfg(test)]
mod hostile;
pub mod metrics;
pub mod model;
pub mod net;
pub mod node;
pub mod placement;
pub mod protocol;
pub mod server;
pub mod sim;
pub mod storage;
pub mod workload;
