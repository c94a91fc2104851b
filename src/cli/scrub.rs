//! `sterna scrub`: a node reads and checks everything on its disk.

use std::io::Write;

use clap::Args;

use super::options::Connect;
use super::{Failure, Verdict};

/// Have a node read and check everything on its disk now.
///
/// It does so by itself about once a day, slowly; this does not wait for the end. A node that finds damage stops, if
/// its peers can fill it again, and is refilled when it is started the next time. How far it is stands in the
/// counters of `sterna status --json`: scrub_running, scrub_passes_total, scrub_damaged_total.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  sterna scrub
  sterna scrub --endpoint 127.0.0.1:7201")]
pub struct ScrubArgs {
    #[command(flatten)]
    pub(crate) connect: Connect,
}

impl ScrubArgs {
    /// Runs the command.
    pub async fn run(&self, out: &mut dyn Write) -> Result<Verdict, Failure> {
        let before = self.connect.client()?.scrub().await?;
        let begun = if before.running {
            "a scrub is under way already"
        } else {
            "a scrub has begun"
        };
        writeln!(
            out,
            "{begun}; passes before: {}, damage met: {}",
            before.passes, before.damaged
        )?;
        Ok(Verdict::Good)
    }
}

#[cfg(test)]
mod tests {
    use super::super::fake::{Fake, run};

    #[tokio::test]
    async fn a_scrub_is_begun() {
        let fake = Fake::start(&[("eu", 1)]).await;
        let said = run(&fake, "scrub").await.unwrap();
        assert_eq!(said, "a scrub has begun; passes before: 2, damage met: 0\n");
    }
}
