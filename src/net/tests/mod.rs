//! The network with real sockets and real certificates on the loopback interface.

pub(crate) mod harness;
mod hostile;
mod refusals;
mod traffic;
