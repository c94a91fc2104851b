//! The `sterna` binary: reads the command line, runs one command, turns its result into words and an exit code.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use clap::Parser;
use sterna::cli::Command;
use tracing_subscriber::EnvFilter;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Sterna: a multi-region, geo-replicated key-value store.
///
/// Every region takes writes at all times: a write commits in its own region, streams to the others over QUIC,
/// and merges. Start a whole cluster with `sterna dev`, and talk to it with the other commands or with curl.
#[derive(Parser, Debug)]
#[command(version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    // A cluster in one process would say everything nine times.
    let usual = if matches!(cli.command, Command::Dev(_)) {
        "sterna=warn,warn"
    } else {
        "sterna=info,warn"
    };
    let filter = EnvFilter::try_from_env("STERNA_LOG").unwrap_or_else(|_| EnvFilter::new(usual));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .init();
    let mut out = io::stdout();
    match cli.command.run(&mut out) {
        Ok(code) => code,
        Err(error) if error.is_enough() => ExitCode::SUCCESS,
        Err(error) => {
            // The error stream itself may be closed; then only the exit code is left to tell.
            if writeln!(io::stderr(), "sterna: {error}").is_err() {
                return ExitCode::from(3);
            }
            error.exit_code()
        }
    }
}
