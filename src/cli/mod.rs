//! The command line: each command is a set of arguments with a `run` that writes to a given output.

mod cert;
mod cluster;
mod command;
mod dev;
mod links;
mod live;
mod serve;
mod topology;

pub use cert::{CertCommandError, cert_init, cert_node};
pub use cluster::ClusterError;
pub use command::{CertCommand, CertNodeArgs, Command, CommandError, TopologyCommand};
pub use dev::{DevArgs, DevError};
pub use serve::{ServeArgs, ServeError};
pub use topology::TopologyFileError;
