//! Starting a node, and stopping it so that nothing is lost.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};

use arc_swap::ArcSwap;
use quinn::AsyncUdpSocket;
use tokio::sync::mpsc;

use crate::model::NodeId;
use crate::net::{Identity, NetConfig, Network, PeerInfo};
use crate::placement::{Placement, Topology};
use crate::protocol::{Config, Machine};
use crate::storage::{OpenOptions, Refill, SWEEP_ROWS, Store, StoreOptions};

use super::clock::Clock;
use super::disk;
use super::handle::{Handle, Shared};
use super::latency::Latency;
use super::run::{Loop, State};
use super::tasks::Tasks;

/// What a node is made of.
#[derive(Debug)]
pub struct NodeConfig {
    /// The cluster.
    pub topology: Arc<Topology>,
    /// Which of its nodes this is.
    pub node: NodeId,
    /// Its data folder.
    pub data: PathBuf,
    /// If the data folder is damaged, begin empty though no other node has all that it held.
    pub may_start_empty: bool,
    /// Its certificate.
    pub identity: Identity,
    /// Its UDP socket, with whatever links are emulated before it.
    pub socket: Arc<dyn AsyncUdpSocket>,
}

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The topology does not name it.
    #[error("the topology has no such node: give one of the ids in the file")]
    NoNode,
    /// Its data folder cannot be used.
    #[error("open {data}: {error}")]
    Store {
        /// The folder.
        data: PathBuf,
        /// Why.
        error: crate::storage::Error,
    },
    /// The process is stopping already.
    #[error("the start was interrupted: the process is stopping")]
    Interrupted,
    /// Its network did not start.
    #[error("start the network: {0}")]
    Network(#[from] crate::net::StartError),
}

/// A running node.
#[derive(Debug)]
pub struct Node {
    handle: Handle,
    store: Arc<Store>,
    tasks: Tasks,
}

impl Node {
    /// Opens the data folder and joins the cluster. To be called inside a tokio runtime.
    pub async fn start(config: NodeConfig) -> Result<Self, StartError> {
        let topology = Arc::clone(&config.topology);
        let placement = Arc::new(Placement::new(&topology));
        let me = topology.node(config.node).ok_or(StartError::NoNode)?;
        let region = topology.region_of(config.node).ok_or(StartError::NoNode)?;
        let options = OpenOptions {
            node: config.node,
            partitions: placement.partitions_of(config.node).to_vec(),
            partition_count: topology.partitions,
            limits: topology.limits.clone(),
            conflicts_kept: topology.conflicts_kept(),
            wall: Clock::wall(),
            chance: fastrand::u64(..),
            sweep_rows: SWEEP_ROWS,
        };
        let data = config.data.clone();
        let clock = Clock::new();
        let mut options = StoreOptions::new(options, Arc::new(clock));
        options.refill = refill(&placement, config.node, config.may_start_empty);
        let opened = Tasks::blocking(move || Store::open(&data, options)).await;
        let (store, opened, store_events) = match opened {
            Some(Ok(opened)) => opened,
            Some(Err(error)) => {
                return Err(StartError::Store {
                    data: config.data,
                    error,
                });
            }
            None => return Err(StartError::Interrupted),
        };
        tracing::info!(
            node = me.name,
            region = region.name,
            actor = %opened.actor,
            clean = opened.was_clean,
            new = opened.is_new,
            "store is open"
        );
        let net_config = NetConfig::new(&topology.cluster, &region.name, &me.name);
        let peers = peers(&topology, config.node);
        let (network, net_events) =
            Network::start(net_config, config.socket, config.identity, peers)?;
        let machine_config = Config {
            node: config.node,
            actor: opened.actor,
            placement: Arc::clone(&placement),
            limits: topology.limits.clone(),
        };
        let machine = Machine::new(clock.now(), machine_config, opened.partitions);
        let free = disk::free_bytes(config.data.clone()).await;
        let shared = Arc::new(Shared {
            scrub: store.scrub(),
            disk_free: AtomicU64::new(free.unwrap_or(u64::MAX)),
            node: config.node,
            view: ArcSwap::from_pointee(machine.view(clock.now())),
            placement,
            clock,
            network,
            reader: store.reader(),
            store_stats: ArcSwap::from_pointee(store.stats()),
            is_stopping: AtomicBool::new(false),
            in_flight: AtomicUsize::new(0),
            writes: Latency::new(),
            reads: Latency::new(),
            topology: Arc::clone(&topology),
        });
        let (calls, receiver) = mpsc::channel(topology.limits.requests_max);
        let store = Arc::new(store);
        let turning = Loop {
            machine,
            store: Arc::clone(&store),
            store_events,
            net_events,
            calls: receiver,
            shared: Arc::clone(&shared),
            state: State::default(),
        };
        let tasks = Tasks::default();
        tasks.spawn(turning.run(tasks.stopping()));
        let watched = disk::watch(Arc::clone(&shared), config.data, tasks.stopping());
        tasks.spawn(watched);
        Ok(Self {
            handle: Handle { shared, calls },
            store,
            tasks,
        })
    }

    /// The way in.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Tasks that end with the node, the loop among them.
    pub fn tasks(&self) -> &Tasks {
        &self.tasks
    }

    /// Finishes what is in flight, says farewell to the peers, and marks the data folder as cleanly left.
    pub async fn stop(self) -> Result<(), crate::storage::Error> {
        self.tasks.stop().await;
        self.handle.shared.network.shutdown().await;
        // The loop has ended, so this is the last hold on the store.
        let Ok(store) = Arc::try_unwrap(self.store) else {
            return Err(crate::storage::Error::Stopped);
        };
        let closed = Tasks::blocking(move || store.close()).await;
        closed.unwrap_or(Err(crate::storage::Error::Stopped))
    }
}

/// Whether others can fill this node again. What was acknowledged here is on a quorum of this region, so another
/// replica in the region has it, unless there is none.
fn refill(placement: &Placement, me: NodeId, may_start_empty: bool) -> Refill {
    let Some(region) = placement.region_of(me) else {
        return Refill::Nobody;
    };
    let mut partitions = placement.partitions_of(me).iter();
    let has_others = partitions.all(|id| placement.replicas(*id, region).len() > 1);
    match (has_others, may_start_empty) {
        (true, _) => Refill::Peers,
        (false, true) => Refill::Forced,
        (false, false) => Refill::Nobody,
    }
}

fn peers(topology: &Topology, me: NodeId) -> BTreeMap<NodeId, PeerInfo> {
    let own = topology.region_of(me).map(|region| region.id);
    let mut peers = BTreeMap::new();
    for region in &topology.regions {
        for node in region.nodes.iter().filter(|node| node.id != me) {
            let info = PeerInfo {
                name: node.name.clone(),
                region: region.name.clone(),
                address: node.peer.clone(),
                is_remote: Some(region.id) != own,
            };
            peers.insert(node.id, info);
        }
    }
    peers
}
