//! The command line: each command is a set of arguments with a `run` that writes to a given output.

mod bench;
pub mod client;
mod failure;
#[cfg(test)]
mod fake;
mod kv;
mod link;
mod options;
mod status;
mod table;
mod transfer;
mod verify;

pub use bench::{BenchArgs, Spread};
pub use failure::{Failure, Verdict};
pub use kv::{DeleteArgs, GetArgs, KeyArgs, LsArgs, PutArgs};
pub use link::{LinkArgs, LinkDeed};
pub use options::{Connect, Scope};
pub use status::{RegionsArgs, StatusArgs};
pub use transfer::{ExportArgs, Format, ImportArgs};
pub use verify::VerifyArgs;
