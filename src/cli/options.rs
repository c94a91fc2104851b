//! Options that many commands share, and the small forms they are written in.

use std::time::Duration;

use clap::Args;

use crate::model::Level;

use super::client::{Client, Error};

/// Which cluster to talk to, and how long to wait.
#[derive(Args, Clone, Debug)]
pub struct Connect {
    /// HTTP endpoint of any node: http://host:port
    #[arg(
        long,
        global = true,
        env = "STERNA_ENDPOINT",
        default_value = "http://127.0.0.1:7101",
        value_name = "URL"
    )]
    pub endpoint: String,
    /// How long the node may take for one request: 1500ms, 2s, 1m (default: the server's)
    #[arg(long, global = true, value_parser = span, value_name = "TIME")]
    pub timeout: Option<Duration>,
}

impl Connect {
    /// A client of the endpoint; nothing is sent yet.
    pub fn client(&self) -> Result<Client, Error> {
        Ok(Client::new(&self.endpoint)?.with_timeout(self.timeout))
    }
}

/// Which rows, and how surely.
#[derive(Args, Clone, Debug)]
pub struct Scope {
    /// The keyspace
    #[arg(long, short = 'k', default_value = "default", value_name = "NAME")]
    pub keyspace: String,
    /// How many replicas must agree: one, local_quorum, each_quorum, all (default: the keyspace's)
    #[arg(long, value_name = "LEVEL")]
    pub consistency: Option<Level>,
}

/// Reads a span of time: `250us`, `1500ms`, `2s`, `5m`, `1h`; fractions as in `0.5s`.
pub(crate) fn span(text: &str) -> Result<Duration, String> {
    let help = || format!("`{text}` is not a time: write it as 1500ms, 2s, 5m or 1h");
    let digits = text
        .find(|c: char| c != '.' && !c.is_ascii_digit())
        .ok_or_else(help)?;
    let (number, unit) = text.split_at_checked(digits).ok_or_else(help)?;
    let number: f64 = number.parse().ok().ok_or_else(help)?;
    let seconds = match unit {
        "us" => number / 1e6,
        "ms" => number / 1e3,
        "s" => number,
        "m" => number * 60.0,
        "h" => number * 3_600.0,
        _ => return Err(help()),
    };
    Duration::try_from_secs_f64(seconds)
        .ok()
        .filter(|span| !span.is_zero())
        .ok_or_else(help)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_in_all_units() {
        assert_eq!(span("1500ms"), Ok(Duration::from_millis(1500)));
        assert_eq!(span("0.5s"), Ok(Duration::from_millis(500)));
        assert_eq!(span("2m"), Ok(Duration::from_mins(2)));
        for bad in ["", "5", "ms", "1.2.3s", "-1s", "0s", "1e3s", "3 s"] {
            assert!(span(bad).is_err(), "{bad}");
        }
    }
}
