//! The command line: each command is a set of arguments with a `run` that writes to a given output.

mod bench;
mod cert;
pub mod client;
mod cluster;
mod command;
mod dev;
mod failure;
#[cfg(test)]
mod fake;
mod kv;
mod link;
mod links;
mod live;
mod options;
mod serve;
mod sim;
mod status;
mod table;
mod topology;
mod transfer;
mod verify;

pub use bench::{BenchArgs, Spread};
pub use cert::{CertCommandError, cert_init, cert_node};
pub use cluster::ClusterError;
pub use command::{CertCommand, CertNodeArgs, Command, CommandError, TopologyCommand};
pub use dev::{DevArgs, DevError};
pub use failure::{Failure, Verdict};
pub use kv::{DeleteArgs, GetArgs, KeyArgs, LsArgs, PutArgs};
pub use link::{LinkArgs, LinkDeed};
pub use options::{Connect, Scope};
pub use serve::{ServeArgs, ServeError};
pub use sim::SimArgs;
pub use status::{RegionsArgs, StatusArgs};
pub use topology::TopologyFileError;
pub use transfer::{ExportArgs, Format, ImportArgs};
pub use verify::VerifyArgs;
