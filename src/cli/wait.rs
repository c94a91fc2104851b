//! `sterna wait`: until another region has what a session has seen.

use std::io::Write;

use clap::Args;

use super::options::Connect;
use super::{Failure, Verdict};

/// Wait until another region has what a session has seen.
///
/// Afterwards whoever reads there, at a quorum, finds it, also without the session's token. Exit code 0 once
/// it is so, 1 if it was not in time (--timeout, 10s if it is not given).
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  sterna wait --region eu-west --session AQID...
  sterna wait --session AQID... --timeout 30s && echo everywhere")]
pub struct WaitArgs {
    #[command(flatten)]
    pub(crate) connect: Connect,
    /// The region, or `all`
    #[arg(long, default_value = "all", value_name = "NAME")]
    pub region: String,
    /// The session's token: what a command with --session said last on the error stream, or `session` in JSON
    #[arg(long, value_name = "TOKEN")]
    pub session: String,
}

impl WaitArgs {
    /// Runs the command.
    pub async fn run(&self, out: &mut dyn Write) -> Result<Verdict, Failure> {
        let client = self.connect.client()?;
        let client = client.with_header("sterna-session", Some(&self.session))?;
        match client.wait(&self.region).await {
            Ok(()) => {
                writeln!(out, "reached")?;
                Ok(Verdict::Good)
            }
            Err(error) if error.is_code("not_yet") => Err(Failure::No(error.to_string())),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Failure;
    use super::super::fake::{Fake, run};

    #[tokio::test]
    async fn a_region_is_waited_for_and_may_be_late() {
        let fake = Fake::start(&[("eu", 1)]).await;
        let words = "wait --region eu --session seen-0";
        assert_eq!(run(&fake, words).await.unwrap(), "reached\n");
        assert_eq!(fake.asked("sterna-session"), ["seen-0"]);
        fake.world().faults.push_back("not_yet");
        let error = run(&fake, words).await.unwrap_err();
        assert!(matches!(error, Failure::No(_)), "{error}");
    }
}
