//! `sterna dev`: a whole cluster in one process, with nothing to prepare.

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use crate::model::Duration;
use crate::net::{CertError, Identity, IdentityError, PeerName, Pem, make_ca, make_node};
use crate::node::{Clock, Handle};
use crate::placement::Topology;

use super::cert::now;
use super::cluster::{ClusterError, Running, Start, data_folder, start, wan};
use super::links::Links;
use super::live::{Live, plain_line};
use super::topology::{TopologyFileError, load};

/// Between two looks of the live view.
const LIVE_EVERY: Duration = Duration::from_secs(1);
/// Between two plain lines where there is no terminal.
const PLAIN_EVERY: Duration = Duration::from_secs(10);
/// How often readiness is looked at while starting.
const READY_EVERY: Duration = Duration::from_millis(50);
/// Days that the certificates of a development cluster hold; they are made anew at every start.
const CERTIFICATE_DAYS: u32 = 30;

/// Start the whole cluster of a topology file in this process.
///
/// Disks, QUIC and TLS are real; the links between regions are emulated. Each node has its own data folder, sockets and certificate. Stop it with Ctrl-C; started again, it finds
/// its data.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  sterna dev
  sterna dev --topology regions/single.toml --data /tmp/sterna
  sterna dev --port-offset 10000 --data /tmp/second     (beside another: 17101 in place of 7101)
  curl -X PUT --data-binary hello http://127.0.0.1:7101/v1/kv/default/greeting
  sterna link cut us-east eu-west     (in another terminal)")]
pub struct DevArgs {
    /// The topology file
    #[arg(long, default_value = "regions/local.toml", value_name = "FILE")]
    pub topology: PathBuf,
    /// Where the nodes keep their data: a folder for each node in it [default: data/CLUSTER]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Added to every port of the file: where those are taken
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub port_offset: u16,
    /// Seed of the emulated links' chance
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Plain lines instead of the live view, also on a terminal
    #[arg(long)]
    pub plain: bool,
}

/// Why the cluster did not start.
#[derive(Debug, thiserror::Error)]
pub enum DevError {
    /// The topology file.
    #[error(transparent)]
    Topology(#[from] TopologyFileError),
    /// A port is moved to where there is none.
    #[error("--port-offset {by}: {address} has no port so far up; the last one is 65535")]
    PortOffset {
        /// How far.
        by: u16,
        /// What was moved.
        address: String,
    },
    /// A node.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// Certificates.
    #[error("make certificates: {0}")]
    Cert(#[from] CertError),
    /// Certificates, read back.
    #[error("make certificates: {0}")]
    Identity(#[from] IdentityError),
    /// The terminal, or a signal.
    #[error("write to the terminal: {0}")]
    Io(#[from] io::Error),
}

impl DevArgs {
    /// Runs the cluster until Ctrl-C or SIGTERM.
    pub async fn run(&self, out: &mut dyn Write) -> Result<(), DevError> {
        let mut topology = load(&self.topology)?;
        move_ports(&mut topology, self.port_offset)?;
        let topology = Arc::new(topology);
        let root = self
            .data
            .clone()
            .unwrap_or_else(|| Path::new("data").join(&topology.cluster));
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut nodes = self.start_all(&topology, &root).await?;
        greet(out, &topology, &root)?;
        let stopped = tokio::select! {
            result = watch(out, &topology, &nodes, self.plain) => result,
            _ = interrupt.recv() => Ok(()),
            _ = terminate.recv() => Ok(()),
        };
        writeln!(out, "\nstopping: finishing what is in flight")?;
        let mut stops = tokio::task::JoinSet::new();
        for node in nodes.drain(..) {
            stops.spawn(node.stop());
        }
        for result in stops.join_all().await {
            result?;
        }
        writeln!(out, "stopped; the data is in {}", root.display())?;
        stopped.map_err(DevError::from)
    }

    async fn start_all(
        &self,
        topology: &Arc<Topology>,
        root: &Path,
    ) -> Result<Vec<Running>, DevError> {
        let ca = make_ca(now(), &topology.cluster)?;
        let wan = wan(topology, self.seed);
        let links = Arc::new(Links::new(Arc::clone(topology), wan.clone()));
        let mut nodes = Vec::new();
        for region in &topology.regions {
            for node in &region.nodes {
                let name = PeerName {
                    cluster: topology.cluster.clone(),
                    region: region.name.clone(),
                    node: node.name.clone(),
                };
                let config = Start {
                    topology,
                    node: node.id,
                    data: data_folder(root, &node.name),
                    may_start_empty: false,
                    identity: identity(&ca, &name)?,
                    wan: Some(&wan),
                    links: Some(Arc::clone(&links) as _),
                };
                nodes.push(start(config).await?);
            }
        }
        Ok(nodes)
    }
}

/// Adds to the ports of all nodes.
fn move_ports(topology: &mut Topology, by: u16) -> Result<(), DevError> {
    let nodes = topology.regions.iter_mut();
    for node in nodes.flat_map(|region| &mut region.nodes) {
        for address in [&mut node.http, &mut node.peer] {
            let moved = address.rsplit_once(':').and_then(|(host, port)| {
                let port = port.parse::<u16>().ok()?.checked_add(by)?;
                Some(format!("{host}:{port}"))
            });
            *address = moved.ok_or_else(|| DevError::PortOffset {
                by,
                address: address.clone(),
            })?;
        }
    }
    Ok(())
}

fn identity(ca: &Pem, name: &PeerName) -> Result<Identity, DevError> {
    let pem = make_node(now(), ca, name, CERTIFICATE_DAYS)?;
    Ok(Identity::from_pem(
        &ca.certificate,
        &pem.certificate,
        &pem.key,
    )?)
}

fn greet(out: &mut dyn Write, topology: &Topology, root: &Path) -> io::Result<()> {
    let keyspace = topology
        .keyspaces
        .first()
        .map_or("default", |keyspace| keyspace.name.as_str());
    writeln!(
        out,
        "cluster {}: data in {}",
        topology.cluster,
        root.display()
    )?;
    for (index, region) in topology.regions.iter().enumerate() {
        let Some(node) = region.nodes.first() else {
            continue;
        };
        let what = if index == 0 {
            "-X PUT --data-binary hello "
        } else {
            ""
        };
        writeln!(
            out,
            "  {:<14} curl {what}http://{}/v1/kv/{keyspace}/greeting",
            region.name, node.http
        )?;
    }
    out.flush()
}

/// Says when all nodes are ready, and then how the cluster does.
async fn watch(
    out: &mut dyn Write,
    topology: &Topology,
    nodes: &[Running],
    is_plain: bool,
) -> io::Result<()> {
    let handles: Vec<Handle> = nodes.iter().map(Running::handle).collect();
    while !handles.iter().all(Handle::is_ready) {
        tokio::time::sleep(READY_EVERY).await;
    }
    writeln!(out, "ready")?;
    out.flush()?;
    let is_live = !is_plain && io::stdout().is_terminal();
    let mut live = Live::default();
    let clock = Clock::new();
    loop {
        tokio::time::sleep(if is_live { LIVE_EVERY } else { PLAIN_EVERY }).await;
        if is_live {
            let (_, width) = console::Term::stdout().size();
            live.draw(out, clock.time(), width.into(), topology, &handles)?;
        } else {
            plain_line(out, topology, &handles)?;
        }
        out.flush()?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = include_str!("../../regions/single.toml");

    #[test]
    fn ports_move_together_and_not_beyond_the_last() {
        let mut topology = Topology::parse("single.toml", TEXT).unwrap();
        move_ports(&mut topology, 10_000).unwrap();
        let node = &topology.regions[0].nodes[0];
        assert_eq!(
            (node.http.as_str(), node.peer.as_str()),
            ("127.0.0.1:17101", "127.0.0.1:17151")
        );
        let error = move_ports(&mut topology, 50_000).unwrap_err().to_string();
        assert!(
            error.contains("--port-offset 50000: 127.0.0.1:17101"),
            "{error}"
        );
    }
}
