//! A node: the loop in which machine, store and network meet, and the handle by which doors reach it.

mod handle;

pub use handle::{Handle, NodeStats, PartitionDigest};
