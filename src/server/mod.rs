//! The HTTP door of a node: the contract of `docs/api.md` over HTTP/1.1.
//!
//! It parses requests once, passes operations to the node, and turns outcomes into answers. It knows no
//! replica, no log and no disk. Everything that a client can make it hold is bounded: connections, bytes
//! in flight, heads, bodies, items, and the time each may take.

mod batch;
mod blob;
mod body;
mod budget;
mod conflicts;
mod context;
mod counter;
mod cursor;
mod dev;
mod door;
mod few;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod json;
mod key;
mod links;
mod list;
mod listen;
mod map;
mod node;
mod observed;
mod page;
mod path;
mod problem;
mod routes;
mod set;
mod shared;
mod siblings;
mod status;
mod target;
#[cfg(test)]
mod tests;
#[cfg(all(fuzzing, not(test)))]
mod tests;
mod token;
mod wait;
mod when;
mod wishes;

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;
use crate::node::Handle;

pub use links::{LinkChange, LinkControl, LinkState, NoLink};

/// What the door may be told.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The links of a development cluster; nothing anywhere else.
    pub links: Option<Arc<dyn LinkControl>>,
    /// Its limits.
    pub bounds: Bounds,
}

/// The door's limits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bounds {
    /// Open connections; further ones are answered with 429 and closed.
    pub connections_max: usize,
    /// Bytes of request bodies and of answers over 4 KiB in flight at one time, at most 4 GiB; further
    /// requests are answered with 429.
    pub bytes_in_flight_max: usize,
    /// How long a connection may take from one answer (or its start) to the end of the next request's
    /// head: idle connections and slow senders are closed after it.
    pub idle_max: Duration,
    /// How long a stopping door waits for what is in flight before it cuts connections.
    pub stop_max: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            connections_max: 10_000,
            bytes_in_flight_max: 256 << 20,
            idle_max: Duration::from_secs(60),
            stop_max: Duration::from_secs(5),
        }
    }
}

/// Why the door could not open.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Two metrics have one name.
    #[error("register metrics: {0}")]
    Metrics(#[from] prometheus::Error),
}

/// Serves HTTP until `stop`, then finishes what is in flight, within [`Bounds::stop_max`].
pub async fn serve(
    listener: TcpListener,
    node: Handle,
    options: Options,
    stop: CancellationToken,
) -> Result<(), Error> {
    serve_node(listener, node, options, stop).await
}

async fn serve_node<N: node::Node>(
    listener: TcpListener,
    node: N,
    options: Options,
    stop: CancellationToken,
) -> Result<(), Error> {
    let Options { links, bounds } = options;
    let shared = shared::Shared::new(node, Metrics::new()?, links, bounds.bytes_in_flight_max);
    let door = door::Door::new(Arc::new(shared));
    listen::listen(listener, door, bounds, stop).await;
    Ok(())
}
