//! The network with real sockets and real certificates on the loopback interface.

pub(crate) mod harness;
mod hostile;
mod mortal;
mod refusals;
mod traffic;
