//! The lives of nodes that run as processes of their own: started, killed, asked to stop, and what they said.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, ExitStatus};

use super::patience::until;
use super::process::{Site, sterna};

impl Site {
    /// Starts a node; does not wait until it is ready.
    pub(crate) fn start(&mut self, node: &str) {
        let command = self.serve(node, &self.file(), &self.path("certs"));
        self.spawn(node, command);
    }

    /// The command that runs a node.
    pub(crate) fn serve(&self, node: &str, file: &Path, certs: &Path) -> Command {
        let mut command = sterna();
        command
            .args(["serve", "--node", node, "--topology"])
            .arg(file)
            .arg("--certs")
            .arg(certs)
            .arg("--data")
            .arg(self.path(&format!("data-{node}")));
        command
    }

    /// All that a process has said.
    pub(crate) fn log(&self, name: &str) -> String {
        fs::read_to_string(self.log_path(name)).unwrap()
    }

    /// Kills the processes, all of them before any is waited for.
    pub(crate) fn kill(&mut self, names: &[&str]) {
        let mut children: Vec<Child> = names
            .iter()
            .map(|name| self.running.remove(*name).unwrap())
            .collect();
        for child in &mut children {
            child.kill().unwrap();
        }
        for mut child in children {
            child.wait().unwrap();
        }
    }

    /// Asks a process to stop, and waits until it has.
    pub(crate) async fn terminate(&mut self, name: &str) -> ExitStatus {
        let id = self.running[name].id();
        let asked = Command::new("sh")
            .args(["-c", &format!("kill -TERM {id}")])
            .status()
            .unwrap();
        assert!(asked.success());
        self.ended(name).await
    }

    /// Waits until a process has ended.
    pub(crate) async fn ended(&mut self, name: &str) -> ExitStatus {
        let mut child = self.running.remove(name).unwrap();
        let mut status = None;
        until(&format!("{name} ends"), async || {
            status = child.try_wait().unwrap();
            status.is_some()
        })
        .await;
        status.unwrap()
    }
}
