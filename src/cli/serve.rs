//! `sterna serve`: one node as its own process.

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use crate::model::Duration;
use crate::net::{Identity, IdentityError};
use crate::node::{Clock, Handle};
use crate::server::LinkControl;

use super::cluster::{ClusterError, Start, start, wan};
use super::links::Links;
use super::topology::{TopologyFileError, load};

/// How often readiness is looked at while starting.
const READY_EVERY: Duration = Duration::from_millis(50);

/// Run one node of a cluster.
///
/// It needs the cluster's topology file, its own certificate (`sterna cert init`, `sterna cert node`) and a
/// folder for its data. SIGTERM or Ctrl-C stop it so that nothing is lost.
#[derive(Args, Debug)]
#[command(after_help = "Example:
  sterna cert init --certs certs --cluster local
  sterna cert node --certs certs --topology regions/local.toml
  sterna serve --topology regions/local.toml --node us-east-1 --data data/us-east-1 --certs certs")]
pub struct ServeArgs {
    /// The topology file
    #[arg(long, value_name = "FILE")]
    pub topology: PathBuf,
    /// Which node of it this is
    #[arg(long, value_name = "ID")]
    pub node: String,
    /// The folder for its data
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
    /// The folder with ca.pem, ID.pem and ID.key
    #[arg(long, value_name = "DIR")]
    pub certs: PathBuf,
    /// If the data is damaged and no other node holds all of it, set it aside and begin empty: what only this node had is lost
    #[arg(long)]
    pub start_empty: bool,
    /// Shape what this node sends to other regions by the file's links, as if they were far away; they can be changed
    /// with `sterna link`, and only for what this node sends
    #[arg(long)]
    pub emulate_links: bool,
    /// Seed of the emulated links' chance
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Put this process's wall clock off by so many milliseconds, for tests of a development cluster
    #[arg(
        long,
        requires = "emulate_links",
        allow_hyphen_values = true,
        value_name = "MS",
        hide = true
    )]
    pub dev_clock_offset: Option<i32>,
}

/// Why the node did not start.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The topology file.
    #[error(transparent)]
    Topology(#[from] TopologyFileError),
    /// The node's name.
    #[error("{file} has no node `{node}`: it has {known}")]
    NoNode {
        /// The file.
        file: String,
        /// The name given.
        node: String,
        /// The names there are.
        known: String,
    },
    /// Its certificate.
    #[error("certificate: {0}")]
    Identity(#[from] IdentityError),
    /// The node.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// A signal or the output.
    #[error("{0}")]
    Io(#[from] io::Error),
}

impl ServeArgs {
    /// Runs the node until Ctrl-C or SIGTERM.
    pub async fn run(&self, out: &mut dyn Write) -> Result<(), ServeError> {
        let topology = Arc::new(load(&self.topology)?);
        let Some(node) = topology
            .node_named(&self.node)
            .map(|node| (node.id, node.http.clone()))
        else {
            let known: Vec<&str> = topology.nodes().map(|node| node.name.as_str()).collect();
            return Err(ServeError::NoNode {
                file: self.topology.display().to_string(),
                node: self.node.clone(),
                known: known.join(", "),
            });
        };
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        if let Some(millis) = self.dev_clock_offset {
            Clock::set_wall_offset(i64::from(millis) * 1_000);
        }
        let wan = self.emulate_links.then(|| wan(&topology, self.seed));
        let config = Start {
            topology: &topology,
            node: node.0,
            data: self.data.clone(),
            may_start_empty: self.start_empty,
            identity: Identity::load(&self.certs, &self.node)?,
            wan: wan.as_ref(),
            links: wan.as_ref().map(|wan| {
                let links = Links::new(Arc::clone(&topology), wan.clone());
                Arc::new(links) as Arc<dyn LinkControl>
            }),
        };
        let running = start(config).await?;
        writeln!(out, "{} serves http://{}", self.node, node.1)?;
        out.flush()?;
        let handle = running.handle();
        tokio::select! {
            result = announce(out, &handle) => result?,
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        writeln!(out, "stopping: finishing what is in flight")?;
        running.stop().await?;
        writeln!(out, "stopped")?;
        Ok(())
    }
}

/// Says `ready` once the node is, then waits for ever.
async fn announce(out: &mut dyn Write, handle: &Handle) -> io::Result<()> {
    while !handle.is_ready() {
        tokio::time::sleep(READY_EVERY).await;
    }
    writeln!(out, "ready")?;
    out.flush()?;
    std::future::pending().await
}
