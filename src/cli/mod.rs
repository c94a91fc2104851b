//! The command line: each command is a set of arguments with a `run` that writes to a given output.

pub mod cert;
pub mod sim;
pub mod topology;
