//! Messages between nodes: QUIC with mutual TLS, one connection for a pair of nodes, a stream for each lane.
//!
//! This room moves messages and decides nothing about them. It may drop any message (a full lane, a lost
//! connection) and never repeats one; on one lane of one connection messages keep their order. It knows no
//! store, no placement and no topology file: who the peers are is told to it.
//!
//! Invariant: [`NetEvent::Disconnected`] of a peer comes before its next [`NetEvent::Connected`], and no
//! message of a connection comes outside of the two (`session` stops the readers first).
//! Invariant: a lane that is full or slow never holds up another one (`transport` gives each its own window).

mod accept;
mod certs;
mod config;
mod dial;
mod frame;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod identity;
mod lane;
mod network;
mod peer;
mod session;
mod tls;
mod transport;

#[cfg(test)]
pub(crate) mod tests;

pub use certs::{CertError, Pem, make_ca, make_node};
pub use config::{NetConfig, NetEvent, NetStats, PeerInfo, Receipt};
pub use identity::{Identity, IdentityError, PeerName};
pub use network::{Network, StartError};
pub use transport::{bind, direct};
