//! Storage: the one door through which every change of a row passes, and the log, digest and engine behind it.
//!
//! A change reads the row, stamps or merges, and puts row, log entry, position and digest change into *one* atomic
//! batch; a batch holds whatever was queued and costs one fsync. Readers see only what is durable.
//!
//! This room decides nothing about replication: it does not know peers, quorums, or why a change comes.
//!
//! Invariant: what is in a batch is on disk as a whole or not at all (the engine), and the digest in memory is
//! that of the rows in the last batch (the door).

mod append;
mod clear;
mod collect;
mod collection;
mod compare;
mod conflict;
mod counter;
mod damage;
mod door;
mod engine;
mod error;
mod expiry;
mod fjall;
mod form;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod journal;
mod keys;
mod load;
mod memory;
mod merge;
mod partition;
mod published;
mod questions;
mod queue;
mod raise;
mod reader;
mod recover;
mod ring;
mod rows;
mod scrub;
mod select;
mod spoil;
mod stage;
mod stats;
mod stood;
mod store;
mod supervise;
mod sweep;
mod tail;
#[cfg(test)]
mod tests;
mod torn;
mod verify;
mod write;
mod writer;

pub use door::{Door, OpenOptions, Opened, SWEEP_ROWS};
pub use engine::{Batch, Engine, Ops, Snapshot, Space};
pub use error::Error;
pub use fjall::{Fjall, FjallSnapshot};
pub use memory::{Memory, MemoryDisk, MemorySnapshot, Trouble};
pub use reader::Reader;
pub use recover::Refill;
pub use scrub::{Scrub, ScrubStats};
pub use stats::StoreStats;
pub use store::{Clock, Full, OnBroken, Store, StoreEvent, StoreOptions, abort};
pub use tail::Tail;
