//! The commands, and how each is run.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};

use crate::net::PeerName;

use super::bench::BenchArgs;
use super::cert::{CertCommandError, cert_init, cert_node, now};
use super::chaos::ChaosArgs;
use super::conflicts::ConflictsArgs;
use super::counter::CounterArgs;
use super::dev::{DevArgs, DevError};
use super::failure::{Failure, Verdict};
use super::kv::{DeleteArgs, GetArgs, PutArgs};
use super::link::LinkArgs;
use super::ls::LsArgs;
use super::map::MapArgs;
use super::scrub::ScrubArgs;
use super::serve::{ServeArgs, ServeError};
use super::set::SetArgs;
use super::sim::{SimArgs, SimError};
use super::status::{RegionsArgs, StatusArgs};
use super::topology::{self, TopologyFileError};
use super::transfer::{ExportArgs, ImportArgs};
use super::verify::VerifyArgs;
use super::wait::WaitArgs;

/// What to do.
#[derive(Subcommand, Debug)]
#[expect(
    missing_docs,
    reason = "clap would take the words in place of those of the command's own arguments"
)]
pub enum Command {
    Dev(DevArgs),
    Serve(ServeArgs),
    Get(GetArgs),
    Put(PutArgs),
    Delete(DeleteArgs),
    Ls(LsArgs),
    Counter(CounterArgs),
    Set(SetArgs),
    Map(MapArgs),
    Conflicts(ConflictsArgs),
    Wait(WaitArgs),
    Status(StatusArgs),
    Regions(RegionsArgs),
    Link(LinkArgs),
    Verify(VerifyArgs),
    Scrub(ScrubArgs),
    Import(ImportArgs),
    Export(ExportArgs),
    Bench(BenchArgs),
    Sim(SimArgs),
    Chaos(ChaosArgs),
    /// Make the certificates of a cluster and its nodes
    #[command(subcommand)]
    Cert(CertCommand),
    /// Check or draw a topology file
    #[command(subcommand)]
    Topology(TopologyCommand),
}

/// What to do with certificates.
#[derive(Subcommand, Debug)]
pub enum CertCommand {
    /// Make a cluster's CA: ca.pem, and ca.key, which must stay secret
    Init {
        /// The folder
        #[arg(long, value_name = "DIR")]
        certs: PathBuf,
        /// The cluster's name, as in its topology file
        #[arg(long, value_name = "NAME")]
        cluster: String,
    },
    /// Make certificates of nodes, signed by the CA in the same folder
    Node(CertNodeArgs),
}

/// Whose certificates to make.
#[derive(Args, Debug)]
pub struct CertNodeArgs {
    /// The folder with ca.pem and ca.key
    #[arg(long, value_name = "DIR")]
    certs: PathBuf,
    /// The topology file, which names the cluster and the nodes' regions
    #[arg(long, value_name = "FILE")]
    topology: PathBuf,
    /// Which node [default: all of them]
    #[arg(long, value_name = "ID")]
    node: Option<String>,
    /// How many days the certificates hold
    #[arg(long, default_value_t = 365)]
    days: u32,
}

/// What to do with a topology file.
#[derive(Subcommand, Debug)]
pub enum TopologyCommand {
    /// Say whether a file is right; if not: file, line, and what to do
    Check {
        /// The file
        file: PathBuf,
    },
    /// Draw regions, links and placement
    Show {
        /// The file
        file: PathBuf,
    },
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// `dev`.
    #[error(transparent)]
    Dev(#[from] DevError),
    /// `serve`.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// `topology`.
    #[error(transparent)]
    Topology(#[from] TopologyFileError),
    /// `cert`.
    #[error(transparent)]
    Cert(#[from] CertCommandError),
    /// A node that the topology does not name.
    #[error("{file} has no node `{node}`")]
    NoNode {
        /// The file.
        file: String,
        /// The name given.
        node: String,
    },
    /// A command that talks to a cluster.
    #[error(transparent)]
    Client(#[from] Failure),
    /// `sim`.
    #[error(transparent)]
    Sim(#[from] SimError),
    /// The runtime.
    #[error("start the runtime: {0}")]
    Runtime(std::io::Error),
}

impl CommandError {
    /// Whether whoever read the output has seen enough of it, as `head` does: that is no error.
    pub fn is_enough(&self) -> bool {
        let closed = std::io::ErrorKind::BrokenPipe;
        let (Self::Client(Failure::Output(error)) | Self::Sim(SimError::Output(error))) = self
        else {
            return false;
        };
        error.kind() == closed
    }

    /// 1 where the answer is no (an absent key), 2 where there is none.
    pub fn exit_code(&self) -> ExitCode {
        let is_no = matches!(self, Self::Client(Failure::Absent { .. } | Failure::No(_)));
        ExitCode::from(if is_no { 1 } else { 2 })
    }
}

impl Command {
    /// Runs the command to its end; the exit code is its answer.
    pub fn run(self, out: &mut dyn Write) -> Result<ExitCode, CommandError> {
        match self {
            Self::Dev(args) => runtime()?.block_on(args.run(out))?,
            Self::Serve(args) => runtime()?.block_on(args.run(out))?,
            Self::Get(args) => return client(args.run(out)),
            Self::Put(args) => return client(args.run(out)),
            Self::Delete(args) => return client(args.run(out)),
            Self::Ls(args) => return client(args.run(out)),
            Self::Counter(args) => return client(args.run(out)),
            Self::Set(args) => return client(args.run(out)),
            Self::Map(args) => return client(args.run(out)),
            Self::Conflicts(args) => return client(args.run(out)),
            Self::Wait(args) => return client(args.run(out)),
            Self::Status(args) => return client(args.run(out)),
            Self::Regions(args) => return client(args.run(out)),
            Self::Link(args) => return client(args.run(out)),
            Self::Verify(args) => return client(args.run(out)),
            Self::Scrub(args) => return client(args.run(out)),
            Self::Import(args) => return client(args.run(out)),
            Self::Export(args) => return client(args.run(out)),
            Self::Bench(args) => return client(args.run(out)),
            Self::Chaos(args) => return client(args.run(out)),
            Self::Sim(args) => {
                let start = tokio::time::Instant::now();
                return Ok(args.run(&|| start.elapsed(), out)?.into());
            }
            Self::Cert(CertCommand::Init { certs, cluster }) => {
                cert_init(now(), &certs, &cluster, out)?;
            }
            Self::Cert(CertCommand::Node(args)) => args.run(out)?,
            Self::Topology(TopologyCommand::Check { file }) => topology::check(&file, out)?,
            Self::Topology(TopologyCommand::Show { file }) => topology::show(&file, out)?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn runtime() -> Result<tokio::runtime::Runtime, CommandError> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(CommandError::Runtime)
}

/// Runs a command that talks to a cluster; its verdict is the exit code.
fn client(run: impl Future<Output = Result<Verdict, Failure>>) -> Result<ExitCode, CommandError> {
    Ok(runtime()?.block_on(run)?.into())
}

impl CertNodeArgs {
    fn run(&self, out: &mut dyn Write) -> Result<(), CommandError> {
        let topology = topology::load(&self.topology)?;
        let mut made = 0;
        for region in &topology.regions {
            let wanted = |name: &str| self.node.as_ref().is_none_or(|node| node == name);
            for node in region.nodes.iter().filter(|node| wanted(&node.name)) {
                let name = PeerName {
                    cluster: topology.cluster.clone(),
                    region: region.name.clone(),
                    node: node.name.clone(),
                };
                cert_node(now(), &self.certs, &name, self.days, out)?;
                made += 1;
            }
        }
        match &self.node {
            Some(node) if made == 0 => Err(CommandError::NoNode {
                file: self.topology.display().to_string(),
                node: node.clone(),
            }),
            Some(_) | None => Ok(()),
        }
    }
}
