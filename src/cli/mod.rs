//! The command line: one file a command; each writes to what it is given.

pub mod sim;
pub mod topology;
