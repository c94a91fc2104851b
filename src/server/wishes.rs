//! What a request wishes by its headers. Closed by default: a `Sterna-` header that is not known, or that its
//! route does not take, is refused, so that a misspelt wish is never taken for none.
//!
//! Headers that few requests carry are kept as they came, and read by whoever needs them: a request without them
//! pays nothing.

use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, header};

use crate::model::{Behind, Condition, Level, OpId};

use super::problem::{Code, Problem};
use super::when::span;

/// Longest time a request may take, or wait.
const TIMEOUT_MAX: Duration = Duration::from_mins(1);
/// For levels that wait for nobody outside the region.
const TIMEOUT_NEAR: Duration = Duration::from_secs(2);
/// For levels that wait for other regions.
const TIMEOUT_FAR: Duration = Duration::from_secs(10);
/// How long a read waits for what it must have seen, if it does not say.
const WAIT: Duration = Duration::from_secs(1);
/// Longest time to live, and greatest staleness.
const SPAN_MAX: Duration = Duration::from_hours(24 * 3650);
/// Longest `Idempotency-Key`.
const OPERATION_BYTES_MAX: usize = 255;

/// A wish that few requests have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Wish {
    /// `Sterna-Session`.
    Session,
    /// `Sterna-Max-Staleness`.
    Staleness,
    /// `Sterna-Wait`.
    Wait,
    /// `Sterna-When-Behind`.
    Behind,
    /// `Sterna-TTL`.
    Ttl,
    /// `Sterna-Context`.
    Context,
    /// `If-Match`.
    Match,
    /// `If-None-Match`, of a write.
    NoneMatch,
    /// `Idempotency-Key`, of a write.
    Operation,
}

/// What reads take.
pub(super) const OF_READS: &[Wish] = &[Wish::Session, Wish::Staleness, Wish::Wait, Wish::Behind];

/// The wishes of one request.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Wishes {
    /// The level; nothing means the keyspace's default.
    pub(super) level: Option<Level>,
    timeout: Option<Duration>,
    rare: Vec<(Wish, HeaderValue)>,
}

impl Wish {
    fn of(name: &str) -> Option<Self> {
        Some(match name {
            "session" => Self::Session,
            "max-staleness" => Self::Staleness,
            "wait" => Self::Wait,
            "when-behind" => Self::Behind,
            "ttl" => Self::Ttl,
            "context" => Self::Context,
            _ => return None,
        })
    }

    /// Why a route does not take it.
    fn refusal(self) -> &'static str {
        match self {
            Self::Session => "this route takes no Sterna-Session: leave it out",
            Self::Staleness => "Sterna-Max-Staleness is for reads: leave it out",
            Self::Wait => "Sterna-Wait is for reads: leave it out",
            Self::Behind => "Sterna-When-Behind is for reads: leave it out",
            Self::Ttl => {
                "Sterna-TTL is for writing values, members and register fields, and counters never expire: leave it out"
            }
            Self::Context => "Sterna-Context is for writing plain values: leave it out",
            Self::Match | Self::NoneMatch => {
                "conditions are for writing single plain values: leave out If-Match and If-None-Match"
            }
            Self::Operation => {
                "Idempotency-Key is for adding to counters: leave it out; other writes may simply be repeated"
            }
        }
    }
}

impl Wishes {
    /// Reads a request's headers.
    pub(super) fn of(method: &Method, headers: &HeaderMap) -> Result<Self, Problem> {
        let mut wishes = Self::default();
        for (name, value) in headers {
            match name.as_str().strip_prefix("sterna-") {
                Some("consistency") if wishes.level.is_none() => {
                    wishes.level = Some(level(value)?);
                }
                Some("timeout") if wishes.timeout.is_none() => {
                    wishes.timeout = Some(timeout(value)?);
                }
                Some("consistency" | "timeout") => return Err(twice(name)),
                Some(rest) => match Wish::of(rest) {
                    Some(wish) => wishes.add(wish, name, value)?,
                    None => {
                        return Err(bad(format!(
                            "no header {name}: /openapi.json names those that a request may have"
                        )));
                    }
                },
                None if !method.is_safe() => {
                    if let Some(wish) = of_write(name)? {
                        wishes.add(wish, name, value)?;
                    }
                }
                None => {}
            }
        }
        Ok(wishes)
    }

    /// Refuses every rare wish but these.
    pub(super) fn take_only(&self, taken: &[Wish]) -> Result<(), Problem> {
        let other = self.rare.iter().find(|(wish, _)| !taken.contains(wish));
        other.map_or(Ok(()), |(wish, _)| {
            Err(Problem::new(Code::BadHeader, wish.refusal()))
        })
    }

    /// How long the request may take; `default` is the level if it names none.
    pub(super) fn timeout(&self, default: Level) -> Duration {
        self.timeout
            .unwrap_or_else(|| match self.level.unwrap_or(default) {
                Level::One | Level::LocalQuorum | Level::UnsafeOne => TIMEOUT_NEAR,
                Level::EachQuorum | Level::All => TIMEOUT_FAR,
            })
    }

    /// How long a wait for other regions may take.
    pub(super) fn timeout_far(&self) -> Duration {
        self.timeout.unwrap_or(TIMEOUT_FAR)
    }

    /// The header of a wish.
    pub(super) fn given(&self, wish: Wish) -> Option<&HeaderValue> {
        let found = self.rare.iter().find(|(given, _)| *given == wish);
        found.map(|(_, value)| value)
    }

    /// How stale an answer may be at most.
    pub(super) fn staleness(&self) -> Result<Option<Duration>, Problem> {
        self.span(Wish::Staleness, "Sterna-Max-Staleness")
    }

    /// How long what is written lives.
    pub(super) fn ttl(&self) -> Result<Option<Duration>, Problem> {
        self.span(Wish::Ttl, "Sterna-TTL")
    }

    /// How long a read may wait for what it must have seen.
    pub(super) fn wait(&self) -> Result<Duration, Problem> {
        let Some(value) = self.given(Wish::Wait) else {
            return Ok(WAIT);
        };
        let text = value.to_str().unwrap_or("?");
        let wished = span(text).filter(|wished| *wished <= TIMEOUT_MAX);
        wished.ok_or_else(|| {
            bad(format!(
                "Sterna-Wait is no time `{text}`: use 0ms to 60s, for example 500ms"
            ))
        })
    }

    /// What to do if what a read must have seen is not here in time.
    pub(super) fn behind(&self) -> Result<Behind, Problem> {
        match self.given(Wish::Behind).map(HeaderValue::as_bytes) {
            None | Some(b"forward") => Ok(Behind::Forward),
            Some(b"refuse") => Ok(Behind::Refuse),
            Some(_) => Err(bad("Sterna-When-Behind is `forward` or `refuse`".to_owned())),
        }
    }

    /// What a write depends on.
    pub(super) fn condition(&self) -> Result<Option<Condition>, Problem> {
        match (self.given(Wish::Match), self.given(Wish::NoneMatch)) {
            (None, None) => Ok(None),
            (Some(value), None) => tag(value).map(|state| Some(Condition::State(state))),
            (None, Some(value)) if value.as_bytes() == b"*" => Ok(Some(Condition::Absent)),
            (None, Some(_)) => Err(bad(
                "If-None-Match of a write must be *: write if there is no value".to_owned(),
            )),
            (Some(_), Some(_)) => Err(bad("give either If-Match or If-None-Match".to_owned())),
        }
    }

    /// The id of an operation that is to be counted once.
    pub(super) fn operation(&self) -> Result<Option<OpId>, Problem> {
        let Some(value) = self.given(Wish::Operation) else {
            return Ok(None);
        };
        let bytes = value.as_bytes();
        let is_visible = bytes.iter().all(u8::is_ascii_graphic);
        if !is_visible || !(1..=OPERATION_BYTES_MAX).contains(&bytes.len()) {
            return Err(bad(format!(
                "an Idempotency-Key is 1 to {OPERATION_BYTES_MAX} visible ASCII characters"
            )));
        }
        Ok(Some(OpId(xxhash_rust::xxh3::xxh3_128(bytes))))
    }

    fn add(&mut self, wish: Wish, name: &HeaderName, value: &HeaderValue) -> Result<(), Problem> {
        if self.given(wish).is_some() {
            return Err(twice(name));
        }
        self.rare.push((wish, value.clone()));
        Ok(())
    }

    fn span(&self, wish: Wish, name: &str) -> Result<Option<Duration>, Problem> {
        let Some(value) = self.given(wish) else {
            return Ok(None);
        };
        let text = value.to_str().unwrap_or("?");
        long_span(text)
            .map(Some)
            .ok_or_else(|| bad(format!("{name} is no time `{text}`: {SPANS}")))
    }
}

/// Which spans there are, in words.
pub(super) const SPANS: &str = "use 1ms to 3650d, for example 500ms, 90s, 15m, 12h or 7d";

/// A time to live or a staleness.
pub(super) fn long_span(text: &str) -> Option<Duration> {
    span(text).filter(|span| (Duration::from_millis(1)..=SPAN_MAX).contains(span))
}

/// What a header of a write that is not ours means. A write must not happen when its condition is not looked at.
fn of_write(name: &HeaderName) -> Result<Option<Wish>, Problem> {
    if *name == header::IF_MATCH {
        return Ok(Some(Wish::Match));
    }
    if *name == header::IF_NONE_MATCH {
        return Ok(Some(Wish::NoneMatch));
    }
    if *name == header::IF_UNMODIFIED_SINCE || *name == header::IF_MODIFIED_SINCE {
        return Err(bad(format!(
            "conditions by time are not supported: use If-Match with an ETag for {name}"
        )));
    }
    Ok((name.as_str() == "idempotency-key").then_some(Wish::Operation))
}

/// The state in a single strong tag.
fn tag(value: &HeaderValue) -> Result<u64, Problem> {
    let read = || {
        let text = value.to_str().ok()?;
        let digits = text.strip_prefix('"')?.strip_suffix('"')?;
        let is_hex = digits.len() == 16 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_hex
            .then(|| u64::from_str_radix(digits, 16).ok())
            .flatten()
    };
    read().ok_or_else(|| {
        bad("If-Match must be the one ETag of an earlier answer, with its quotes: no list, no weak tag, no *".to_owned())
    })
}

fn twice(name: &HeaderName) -> Problem {
    bad(format!("the header {name} is given twice: give it once"))
}

fn bad(words: String) -> Problem {
    Problem::new(Code::BadHeader, words)
}

fn level(value: &HeaderValue) -> Result<Level, Problem> {
    let text = value.to_str().unwrap_or("?");
    text.parse()
        .map_err(|words: String| Problem::new(Code::BadLevel, words))
}

fn timeout(value: &HeaderValue) -> Result<Duration, Problem> {
    let text = value.to_str().unwrap_or("?");
    let is_short = text.ends_with('s');
    let wished = span(text).filter(|_| is_short);
    wished
        .filter(|wished| (Duration::from_millis(1)..=TIMEOUT_MAX).contains(wished))
        .ok_or_else(|| {
            Problem::new(
                Code::BadTimeout,
                format!("no time `{text}`: use 1ms to 60s, for example 1500ms or 2s"),
            )
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wishes(pairs: &[(&'static str, &'static str)]) -> Result<Wishes, Code> {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_static(value));
        }
        Wishes::of(&Method::PUT, &headers).map_err(|problem| problem.code)
    }

    fn one(name: &'static str, value: &'static str) -> Wishes {
        wishes(&[(name, value)]).unwrap()
    }

    #[test]
    fn timeouts_are_milliseconds_or_seconds() {
        for (text, ms) in [("1500ms", 1500), ("2s", 2000), ("1ms", 1), ("60s", 60_000)] {
            let wished = wishes(&[("sterna-timeout", text)]).unwrap();
            assert_eq!(wished.timeout(Level::All), Duration::from_millis(ms));
            assert_eq!(wished.timeout_far(), Duration::from_millis(ms));
        }
        for text in [
            "", "2", "s", "ms", "0s", "61s", "-1s", "+1s", "1.5s", "2 s", "2S", "1m", "1d",
        ] {
            assert_eq!(
                wishes(&[("sterna-timeout", text)]),
                Err(Code::BadTimeout),
                "{text}"
            );
        }
    }

    #[test]
    fn default_timeout_follows_the_level() {
        let none = wishes(&[]).unwrap();
        assert_eq!(none.timeout(Level::LocalQuorum), TIMEOUT_NEAR);
        assert_eq!(none.timeout(Level::EachQuorum), TIMEOUT_FAR);
        let all = wishes(&[("sterna-consistency", "all")]).unwrap();
        assert_eq!(all.timeout(Level::LocalQuorum), TIMEOUT_FAR);
    }

    #[test]
    fn unknown_or_repeated_wishes_are_refused() {
        assert_eq!(
            wishes(&[("sterna-consistensy", "one")]),
            Err(Code::BadHeader)
        );
        for name in [
            "sterna-timeout",
            "sterna-session",
            "sterna-ttl",
            "if-match",
            "idempotency-key",
        ] {
            let twice = [(name, "1s"), (name, "2s")];
            assert_eq!(wishes(&twice), Err(Code::BadHeader), "{name}");
        }
        let date = [("if-unmodified-since", "Mon, 23 Nov 2026 06:38:27 GMT")];
        assert_eq!(wishes(&date), Err(Code::BadHeader));
        let quorum = [("sterna-consistency", "quorum")];
        assert_eq!(wishes(&quorum), Err(Code::BadLevel));
    }

    #[test]
    fn routes_take_only_what_they_know() {
        let ttl = one("sterna-ttl", "1s");
        assert!(ttl.take_only(&[Wish::Session, Wish::Ttl]).is_ok());
        let problem = ttl.take_only(OF_READS).unwrap_err();
        assert_eq!(problem.code, Code::BadHeader);
        assert!(problem.message.contains("counters never expire"));
    }

    #[test]
    fn spans_have_bounds() {
        let day = Duration::from_hours(24);
        assert_eq!(one("sterna-ttl", "3650d").ttl().unwrap(), Some(day * 3650));
        assert_eq!(
            one("sterna-max-staleness", "1ms").staleness().unwrap(),
            Some(Duration::from_millis(1))
        );
        for text in ["0s", "3651d", "1", "", "soon"] {
            assert!(one("sterna-ttl", text).ttl().is_err(), "{text}");
        }
        assert_eq!(wishes(&[]).unwrap().wait().unwrap(), WAIT);
        assert!(one("sterna-wait", "0ms").wait().unwrap().is_zero());
        assert!(one("sterna-wait", "61s").wait().is_err());
    }

    #[test]
    fn conditions_are_one_strong_tag_or_a_star() {
        let tag = one("if-match", "\"00000000000000ff\"").condition();
        assert_eq!(tag.unwrap(), Some(Condition::State(255)));
        let absent = one("if-none-match", "*").condition();
        assert_eq!(absent.unwrap(), Some(Condition::Absent));
        for (name, value) in [
            ("if-match", "*"),
            ("if-match", "00000000000000ff"),
            ("if-match", "W/\"00000000000000ff\""),
            ("if-match", "\"00000000000000ff\", \"00000000000000fe\""),
            ("if-match", "\"+0000000000000ff\""),
            ("if-match", "\"ff\""),
            ("if-none-match", "\"00000000000000ff\""),
        ] {
            let problem = one(name, value).condition().unwrap_err();
            assert_eq!(problem.code, Code::BadHeader, "{value}");
        }
        let both = [("if-match", "\"00000000000000ff\""), ("if-none-match", "*")];
        assert!(wishes(&both).unwrap().condition().is_err());
    }

    #[test]
    fn operations_are_named_by_visible_ascii() {
        assert!(one("idempotency-key", "a~!").operation().unwrap().is_some());
        for text in ["", "a b"] {
            assert!(one("idempotency-key", text).operation().is_err(), "{text}");
        }
        let mut headers = HeaderMap::new();
        headers.append("idempotency-key", HeaderValue::from_static("x"));
        assert!(
            Wishes::of(&Method::GET, &headers)
                .unwrap()
                .operation()
                .unwrap()
                .is_none()
        );
    }
}
