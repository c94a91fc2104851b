//! A node: the loop in which machine, store and network meet, and the handle by which doors reach it.

mod clock;
mod disk;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod handle;
mod latency;
mod run;
mod start;
mod tasks;

pub use clock::Clock;
pub use handle::{Handle, NodeStats, PartitionDigest};
pub use latency::Recent;
pub use start::{Node, NodeConfig, StartError};
pub use tasks::Tasks;
