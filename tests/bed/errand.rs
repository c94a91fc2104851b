//! Commands that are run against a node to their end.

use std::process::Output;

use super::process::{Site, sterna};

impl Site {
    /// Runs a command against a node to its end.
    pub(crate) fn run(&self, node: &str, args: &[&str]) -> Output {
        let endpoint = format!("http://{}", self.endpoint(node));
        sterna()
            .args(args)
            .env("STERNA_ENDPOINT", endpoint)
            .current_dir(self.path(""))
            .output()
            .unwrap()
    }
}
