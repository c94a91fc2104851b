//! Nodes in this process: sockets, emulated links, HTTP endpoints. `dev` starts all nodes of a topology,
//! `serve` one.

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::net::TcpListener;

use crate::model::{NodeId, RegionId};
use crate::net::{Identity, bind, direct};
use crate::node::{Handle, Node, NodeConfig};
use crate::placement::Topology;
use crate::server::{LinkControl, Options, serve};
use crate::sim::wan::Wan;

/// Why a node of this process did not start.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// An address is taken, or is none.
    #[error(
        "listen on {address} for node {node}: {error}; is another cluster running on these ports?"
    )]
    Listen {
        /// The node.
        node: String,
        /// The address.
        address: String,
        /// Why.
        error: io::Error,
    },
    /// The node did not start.
    #[error("start node {node}: {error}")]
    Node {
        /// The node.
        node: String,
        /// Why.
        error: Box<crate::node::StartError>,
    },
    /// The data folder was not closed well; the next start treats it as a crash.
    #[error("close the data folder of {node}: {error}")]
    Close {
        /// The node.
        node: String,
        /// Why.
        error: crate::storage::Error,
    },
}

/// How to start a node.
#[derive(Debug)]
pub(super) struct Start<'a> {
    pub(super) topology: &'a Arc<Topology>,
    pub(super) node: NodeId,
    pub(super) data: PathBuf,
    /// Whether it may begin empty if its data is damaged and nobody else has it.
    pub(super) may_start_empty: bool,
    pub(super) identity: Identity,
    /// Emulated links, if any.
    pub(super) wan: Option<&'a Wan>,
    /// Links that may be changed over HTTP.
    pub(super) links: Option<Arc<dyn LinkControl>>,
}

/// A node with its HTTP endpoint.
#[derive(Debug)]
pub(super) struct Running {
    name: String,
    node: Node,
}

impl Running {
    pub(super) fn handle(&self) -> Handle {
        self.node.handle()
    }

    /// Stops taking requests, finishes what is in flight, closes the data folder.
    pub(super) async fn stop(self) -> Result<(), ClusterError> {
        let node = self.name;
        self.node
            .stop()
            .await
            .map_err(|error| ClusterError::Close { node, error })
    }
}

/// Starts a node and its HTTP endpoint.
pub(super) async fn start(start: Start<'_>) -> Result<Running, ClusterError> {
    let topology = start.topology;
    let (Some(spec), Some(region)) = (topology.node(start.node), topology.region_of(start.node))
    else {
        let error = Box::new(crate::node::StartError::NoNode);
        return Err(ClusterError::Node {
            node: String::new(),
            error,
        });
    };
    let name = spec.name.clone();
    let listen = |address: &str, error: io::Error| ClusterError::Listen {
        node: name.clone(),
        address: address.to_owned(),
        error,
    };
    let http = TcpListener::bind(&spec.http)
        .await
        .map_err(|error| listen(&spec.http, error))?;
    let address = resolve(&spec.peer).map_err(|error| listen(&spec.peer, error))?;
    let udp = bind(address).map_err(|error| listen(&spec.peer, error))?;
    let socket = match start.wan {
        Some(wan) => wan.socket(udp, region.id, regions_by_address(topology)),
        None => direct(udp),
    };
    let config = NodeConfig {
        topology: Arc::clone(topology),
        node: start.node,
        data: start.data,
        may_start_empty: start.may_start_empty,
        identity: start.identity,
        socket: socket.map_err(|error| listen(&spec.peer, error))?,
    };
    let node = Node::start(config)
        .await
        .map_err(|error| ClusterError::Node {
            node: name.clone(),
            error: Box::new(error),
        })?;
    let options = Options {
        links: start.links,
        ..Options::default()
    };
    let (handle, stop) = (node.handle(), node.tasks().stopping());
    node.tasks().spawn(async move {
        if let Err(error) = serve(http, handle, options, stop).await {
            tracing::error!(%error, "the HTTP endpoint ended");
        }
    });
    Ok(Running { name, node })
}

fn resolve(address: &str) -> io::Result<SocketAddr> {
    let first = address.to_socket_addrs()?.next();
    first.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the name has no address"))
}

fn regions_by_address(topology: &Topology) -> BTreeMap<SocketAddr, RegionId> {
    let mut regions = BTreeMap::new();
    for region in &topology.regions {
        let addresses = region
            .nodes
            .iter()
            .filter_map(|node| resolve(&node.peer).ok());
        regions.extend(addresses.map(|address| (address, region.id)));
    }
    regions
}

/// A WAN with the links of a topology.
pub(super) fn wan(topology: &Topology, seed: u64) -> Wan {
    let wan = Wan::new(seed);
    for link in &topology.links {
        wan.set(link.between.0, link.between.1, link.shape);
    }
    wan
}

/// The folder of a node's data.
pub(super) fn data_folder(root: &Path, node: &str) -> PathBuf {
    root.join(node)
}
