//! Nodes as processes of the real program, with their files in a folder of their own.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use sterna::cli::client::Client;
use sterna::placement::Topology;
use tempfile::TempDir;

use super::patience::until;

/// The program under test.
pub(crate) fn sterna() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sterna"));
    command
        .env_remove("STERNA_ENDPOINT")
        .env_remove("STERNA_LOG");
    command
}

/// Both outputs of a command, for the words of a failed test.
pub(crate) fn words(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    format!("{}\n{}", text(&output.stdout), text(&output.stderr))
}

/// A folder with a topology file, certificates, data and logs, and the processes that run on it.
pub(crate) struct Site {
    pub(crate) topology: Topology,
    dir: TempDir,
    pub(crate) running: BTreeMap<String, Child>,
}

impl Site {
    /// Writes the file and makes the certificates.
    pub(crate) fn new(text: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let site = Self {
            topology: Topology::parse("topology.toml", text).unwrap(),
            dir,
            running: BTreeMap::new(),
        };
        fs::write(site.file(), text).unwrap();
        site.certify(&site.file(), &site.path("certs"));
        site
    }

    /// A path in the folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The topology file.
    pub(crate) fn file(&self) -> PathBuf {
        self.path("topology.toml")
    }

    /// Makes certificates for all nodes of a topology file, and the folder's CA if there is none.
    pub(crate) fn certify(&self, file: &Path, certs: &Path) {
        let mut init = sterna();
        init.args(["cert", "init", "--cluster", &self.topology.cluster])
            .arg("--certs")
            .arg(certs);
        let mut nodes = sterna();
        nodes
            .args(["cert", "node", "--certs"])
            .arg(certs)
            .arg("--topology")
            .arg(file);
        let is_new = !certs.join("ca.pem").exists();
        for command in is_new.then_some(&mut init).into_iter().chain([&mut nodes]) {
            let output = command.output().unwrap();
            assert!(output.status.success(), "{}", words(&output));
        }
    }

    /// Runs a command until it is killed; what it says is added to the node's log.
    pub(crate) fn spawn(&mut self, name: &str, mut command: Command) {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log_path(name))
            .unwrap();
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let before = self.running.insert(name.to_owned(), child);
        assert!(before.is_none(), "{name} runs already");
    }

    pub(crate) fn log_path(&self, name: &str) -> PathBuf {
        self.path(&format!("{name}.log"))
    }

    /// host:port of a node's HTTP endpoint.
    pub(crate) fn endpoint(&self, node: &str) -> String {
        self.topology.node_named(node).unwrap().http.clone()
    }

    /// A client of a node.
    pub(crate) fn client(&self, node: &str) -> Client {
        Client::new(&self.endpoint(node)).unwrap()
    }

    /// Waits until a node is ready and hears so many peers.
    pub(crate) async fn ready(&self, node: &str, peers: usize) {
        let client = self.client(node);
        until(&format!("{node} is ready"), async || {
            client.status().await.is_ok_and(|status| {
                status.ready && status.peers.iter().filter(|peer| peer.up).count() == peers
            })
        })
        .await;
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        for (name, mut child) in std::mem::take(&mut self.running) {
            if child.kill().is_ok() {
                drop(child.wait());
            }
            if std::thread::panicking() {
                let log = fs::read_to_string(self.log_path(&name));
                println!("-- {name}:\n{}", log.unwrap_or_default());
            }
        }
    }
}
