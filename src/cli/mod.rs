//! The command line: each command is a set of arguments with a `run` that writes to a given output.

mod bench;
mod client;
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

pub use bench::BenchArgs;
pub use client::{Client, Error};
pub use failure::{Failure, Verdict};
pub use kv::{DeleteArgs, GetArgs, LsArgs, PutArgs};
pub use link::LinkArgs;
pub use options::{Connect, Scope};
pub use status::{RegionsArgs, StatusArgs};
pub use transfer::{ExportArgs, ImportArgs};
pub use verify::VerifyArgs;
