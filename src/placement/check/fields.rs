//! Checks of single fields, and where a mistake stands. What fields mean together, `check` knows.

use std::collections::BTreeMap;

use crate::model::{Duration, RegionId};

use super::super::form::At;
use super::super::topology::{Region, TopologyError};

/// A minute: no link takes longer, and a unit of another size was meant.
const RTT_MS_MAX: f64 = 60_000.0;
/// A terabit a second.
const BANDWIDTH_MBIT_MAX: f64 = 1_000_000.0;

/// The text that is checked.
pub(super) struct Source<'a> {
    /// The name of the file.
    pub(super) file: &'a str,
    /// All of it.
    pub(super) text: &'a str,
}

/// Names of one kind, by their 32-bit ids.
pub(super) struct Seen<'a> {
    kind: &'static str,
    names: BTreeMap<u32, &'a At<String>>,
}

impl Seen<'_> {
    /// None yet.
    pub(super) fn new(kind: &'static str) -> Self {
        Self {
            kind,
            names: BTreeMap::new(),
        }
    }
}

impl Source<'_> {
    /// The line, from 1, of a byte of the text.
    pub(super) fn line(&self, offset: usize) -> usize {
        let before = self.text.bytes().take(offset);
        before.filter(|byte| *byte == b'\n').count() + 1
    }

    /// A mistake at a byte of the text.
    pub(super) fn refuse(&self, offset: usize, message: impl Into<String>) -> TopologyError {
        TopologyError {
            file: self.file.to_owned(),
            line: self.line(offset),
            message: message.into(),
        }
    }

    /// A mistake that the parser of TOML or of forms found.
    pub(super) fn unreadable(&self, error: &toml::de::Error) -> TopologyError {
        let lines: Vec<&str> = error.message().lines().collect();
        // In the words of the file's author, not of this program's types.
        let mut message = lines
            .join(", ")
            .replace("expected i64", "expected a whole number")
            .replace("expected f64", "expected a number")
            .replace("expected a sequence", "expected a list");
        if message.starts_with("missing field") {
            message.push_str(": add it");
        }
        self.refuse(error.span().map_or(0, |span| span.start), message)
    }

    /// A name of a cluster, region, node, zone or keyspace.
    pub(super) fn name(&self, what: &str, at: &At<String>) -> Result<String, TopologyError> {
        let name = at.get_ref();
        let is_allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_');
        if (1..=63).contains(&name.len()) && name.bytes().all(is_allowed) {
            return Ok(name.clone());
        }
        Err(self.refuse(
            at.span().start,
            format!(
                "`{}` is not a name for a {what}: use 1 to 63 characters of a-z, 0-9, - and _",
                name.escape_debug()
            ),
        ))
    }

    /// Refuses a name that was seen before, and one whose id is the id of another.
    pub(super) fn unique<'n>(
        &self,
        seen: &mut Seen<'n>,
        id: u32,
        at: &'n At<String>,
    ) -> Result<(), TopologyError> {
        let Some(before) = seen.names.insert(id, at) else {
            return Ok(());
        };
        let kind = seen.kind;
        let name = at.get_ref();
        let line = self.line(before.span().start);
        let message = if before.get_ref() == name {
            format!("{kind} `{name}` is already named on line {line}: change or remove one")
        } else {
            format!(
                "{kind} `{name}` has the same 32-bit id as `{}` on line {line}: rename one of them",
                before.get_ref()
            )
        };
        Err(self.refuse(at.span().start, message))
    }

    /// A region that exists.
    pub(super) fn region(
        &self,
        at: &At<String>,
        regions: &[Region],
    ) -> Result<RegionId, TopologyError> {
        let wanted = at.get_ref();
        let found = regions.iter().find(|region| region.name == *wanted);
        found.map(|region| region.id).ok_or_else(|| {
            let names: Vec<&str> = regions.iter().map(|region| region.name.as_str()).collect();
            let message = format!(
                "no region `{}`: use one of {}",
                wanted.escape_debug(),
                names.join(", ")
            );
            self.refuse(at.span().start, message)
        })
    }

    /// A whole number from `min` to `max`.
    pub(super) fn whole<T: TryFrom<i64>>(
        &self,
        what: &str,
        at: &At<i64>,
        min: i64,
        max: i64,
    ) -> Result<T, TopologyError> {
        let value = *at.get_ref();
        let inside = Some(value).filter(|value| (min..=max).contains(value));
        inside
            .and_then(|value| T::try_from(value).ok())
            .ok_or_else(|| {
                self.refuse(
                    at.span().start,
                    format!("`{what}` is {value}: use {min} to {max}"),
                )
            })
    }

    /// Milliseconds of a link; none if absent.
    pub(super) fn millis(
        &self,
        what: &str,
        at: Option<&At<f64>>,
    ) -> Result<Duration, TopologyError> {
        let ms = self.number(what, at, RTT_MS_MAX)?.unwrap_or(0.0);
        Ok(Duration::try_from_secs_f64(ms / 1_000.0).unwrap_or_default())
    }

    /// A chance; none if absent.
    pub(super) fn chance(&self, what: &str, at: Option<&At<f64>>) -> Result<f64, TopologyError> {
        Ok(self.number(what, at, 1.0)?.unwrap_or(0.0))
    }

    /// Megabits a second, as bits a second; at least a kilobit.
    pub(super) fn bandwidth(
        &self,
        what: &str,
        at: Option<&At<f64>>,
    ) -> Result<Option<u64>, TopologyError> {
        let Some((at, mbit)) = at.zip(self.number(what, at, BANDWIDTH_MBIT_MAX)?) else {
            return Ok(None);
        };
        if mbit < 0.001 {
            return Err(self.refuse(
                at.span().start,
                format!("`{what}` is {mbit}: use at least 0.001, or leave it out for no cap"),
            ));
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "mbit is at least 0.001 and at most 1e6, so the bits are whole in u64"
        )]
        let bits = (mbit * 1e6).round() as u64;
        Ok(Some(bits))
    }

    /// host:port, where host is a DNS name, an IPv4 address or an IPv6 address in brackets; used only once.
    pub(super) fn address(
        &self,
        what: &str,
        at: &At<String>,
        addresses: &mut BTreeMap<String, usize>,
    ) -> Result<String, TopologyError> {
        let start = at.span().start;
        let text = at.get_ref();
        if !is_address(text) {
            let message = format!(
                "`{what}` is `{}`: write host:port, such as 127.0.0.1:7101 or node-1.example:7101",
                text.escape_debug()
            );
            return Err(self.refuse(start, message));
        }
        match addresses.insert(text.to_ascii_lowercase(), self.line(start)) {
            None => Ok(text.clone()),
            Some(line) => Err(self.refuse(
                start,
                format!("the address {text} is already used on line {line}: take another port"),
            )),
        }
    }

    /// A number from 0 to `max`, if there is one.
    fn number(
        &self,
        what: &str,
        at: Option<&At<f64>>,
        max: f64,
    ) -> Result<Option<f64>, TopologyError> {
        let Some(at) = at else {
            return Ok(None);
        };
        let value = *at.get_ref();
        if (0.0..=max).contains(&value) {
            return Ok(Some(value));
        }
        Err(self.refuse(
            at.span().start,
            format!("`{what}` is {value}: use 0 to {max}"),
        ))
    }
}

fn is_address(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else {
        return false;
    };
    let is_port = port.bytes().all(|byte| byte.is_ascii_digit())
        && port.parse::<u16>().is_ok_and(|port| port > 0);
    is_port && is_host(host)
}

fn is_host(host: &str) -> bool {
    if let Some(inner) = host.strip_prefix('[') {
        let inner = inner.strip_suffix(']').unwrap_or_default();
        return inner.parse::<core::net::Ipv6Addr>().is_ok();
    }
    if host
        .bytes()
        .all(|byte| byte.is_ascii_digit() || byte == b'.')
    {
        return host.parse::<core::net::Ipv4Addr>().is_ok();
    }
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    host.len() <= 253 && host.split('.').all(is_label)
}
