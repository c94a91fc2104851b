//! Options that many commands share, and the small forms they are written in.

use std::io::Write as _;
use std::time::Duration;

use bytes::Bytes;
use clap::{Args, ValueEnum};

use crate::model::Level;

use super::Failure;
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

/// Which rows of which cluster, and how surely.
#[derive(Args, Clone, Debug)]
pub struct Target {
    #[command(flatten)]
    pub(crate) connect: Connect,
    /// The keyspace
    #[arg(long, short = 'k', default_value = "default", value_name = "NAME")]
    pub keyspace: String,
    /// How many replicas must agree: one, local_quorum, each_quorum, all (default: the keyspace's)
    #[arg(long, value_name = "LEVEL")]
    pub consistency: Option<Level>,
}

impl Target {
    /// A client of the endpoint that asks for the level; nothing is sent yet.
    pub fn client(&self) -> Result<Client, Error> {
        Ok(self.connect.client()?.with_level(self.consistency))
    }

    /// The keyspace `default` of a node, for tests.
    #[cfg(test)]
    pub(crate) fn of(endpoint: &str) -> Self {
        Self {
            connect: Connect {
                endpoint: endpoint.to_owned(),
                timeout: None,
            },
            keyspace: "default".to_owned(),
            consistency: None,
        }
    }
}

/// Reads a session's token, and says the new one.
#[derive(Args, Clone, Debug, Default)]
pub struct SessionArgs {
    /// What was seen before, a token: `new` begins a session. The new token is the last line on the error
    /// stream, and `session` in JSON
    #[arg(long, value_name = "TOKEN")]
    pub session: Option<String>,
}

/// How new what is read must be.
#[derive(Args, Clone, Debug, Default)]
pub struct Freshness {
    #[command(flatten)]
    pub(crate) session: SessionArgs,
    /// Be no further behind any region than this: 500ms, 2s, 1m
    #[arg(long, value_parser = span, value_name = "TIME")]
    pub max_staleness: Option<Duration>,
    /// How long to wait for what the session has seen, or for --max-staleness (default: 1s)
    #[arg(long, value_parser = span, value_name = "TIME")]
    pub wait_for: Option<Duration>,
    /// If it is not here by then: ask a region that has it, or refuse
    #[arg(long, value_enum, value_name = "WHAT")]
    pub when_behind: Option<WhenBehind>,
}

/// What a node does that has not got what a read asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum WhenBehind {
    /// Ask a region that has it
    Forward,
    /// Answer `not_yet`
    Refuse,
}

/// How long what is written lives.
#[derive(Args, Clone, Debug, Default)]
pub struct Lifetime {
    /// From so long on it is gone: 500ms, 90s, 15m, 12h, 30d (default: the keyspace's)
    #[arg(long, value_parser = ttl, value_name = "TIME")]
    pub ttl: Option<Duration>,
}

impl SessionArgs {
    /// The client, in this session.
    pub(super) fn of(&self, client: Client) -> Result<Client, Error> {
        let token = self.session.as_ref().filter(|token| *token != "new");
        client.with_header("sterna-session", token)
    }

    /// Says the session's new token on the error stream, if there is a session.
    pub(super) fn tell(&self, token: Option<&String>) -> Result<(), Failure> {
        if let (Some(_), Some(token)) = (&self.session, token) {
            writeln!(std::io::stderr(), "session: {token}")?;
        }
        Ok(())
    }
}

impl Freshness {
    /// The client, asking for this.
    pub(super) fn of(&self, client: Client) -> Result<Client, Error> {
        let behind = self.when_behind.map(|what| match what {
            WhenBehind::Forward => "forward".to_owned(),
            WhenBehind::Refuse => "refuse".to_owned(),
        });
        let spans = [
            ("sterna-max-staleness", self.max_staleness),
            ("sterna-wait", self.wait_for),
        ];
        let mut client = self.session.of(client)?;
        for (name, span) in spans {
            client = client.with_header(name, span.map(in_ms).as_ref())?;
        }
        client.with_header("sterna-when-behind", behind.as_ref())
    }
}

impl Lifetime {
    /// The client, asking for this.
    pub(super) fn of(&self, client: Client) -> Result<Client, Error> {
        client.with_header("sterna-ttl", self.ttl.map(in_ms).as_ref())
    }
}

/// A span as headers have it; at least a millisecond.
fn in_ms(span: Duration) -> String {
    format!("{}ms", span.as_millis().max(1))
}

/// Reads a key, member or field: text, or hex digits.
pub(super) fn bytes_of(text: &str, is_hex: bool) -> Result<Bytes, Failure> {
    if is_hex {
        from_hex(text).map(Bytes::from)
    } else {
        Ok(Bytes::copy_from_slice(text.as_bytes()))
    }
}

/// Reads hex digits.
pub(super) fn from_hex(text: &str) -> Result<Vec<u8>, Failure> {
    let help = || {
        Failure::usage(format!(
            "`{text}` is not a name of bytes: write pairs of hex digits, as in 00ff"
        ))
    };
    let digits: Option<Vec<u8>> = text
        .chars()
        .map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
        .collect();
    let (pairs, rest) = digits.as_deref().ok_or_else(help)?.as_chunks::<2>();
    if pairs.is_empty() || !rest.is_empty() {
        return Err(help());
    }
    Ok(pairs.iter().map(|[high, low]| high << 4 | low).collect())
}

/// Reads a time to live: a span, in days too.
fn ttl(text: &str) -> Result<Duration, String> {
    match text.strip_suffix('d').map(str::parse::<u32>) {
        Some(Ok(days)) if days > 0 => Ok(Duration::from_hours(u64::from(days) * 24)),
        Some(_) => Err(format!(
            "`{text}` is not a time: write it as 90s, 15m, 12h or 30d"
        )),
        None => span(text),
    }
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

    #[test]
    fn a_time_to_live_may_be_in_days() {
        assert_eq!(ttl("30d"), Ok(Duration::from_hours(720)));
        assert_eq!(ttl("90s"), Ok(Duration::from_secs(90)));
        for bad in ["d", "0d", "1.5d", "-1d"] {
            assert!(ttl(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn names_of_bytes_are_pairs_of_hex_digits() {
        assert_eq!(from_hex("00fF").unwrap(), [0, 255]);
        for bad in ["", "0", "0g", "\u{665}\u{665}"] {
            assert!(from_hex(bad).is_err(), "{bad}");
        }
    }
}
