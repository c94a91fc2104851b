//! What a request wishes by its headers: how surely, and how long. Closed by default: a `Sterna-` header
//! that is not known is refused, so that a misspelt wish is never taken for none.

use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, header};

use crate::model::Level;

use super::problem::{Code, Problem};

/// Longest time a request may take.
const TIMEOUT_MAX: Duration = Duration::from_secs(60);
/// For levels that wait for nobody outside the region.
const TIMEOUT_NEAR: Duration = Duration::from_secs(2);
/// For levels that wait for other regions.
const TIMEOUT_FAR: Duration = Duration::from_secs(10);

/// The wishes of one request.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Wishes {
    /// The level; nothing means the keyspace's default.
    pub(super) level: Option<Level>,
    timeout: Option<Duration>,
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
                Some("consistency" | "timeout") => {
                    return Err(bad(format!(
                        "the header {name} is given twice: give it once"
                    )));
                }
                Some(_) => {
                    return Err(bad(format!(
                        "no header {name}: requests take Sterna-Consistency and Sterna-Timeout"
                    )));
                }
                None if is_condition(name) && !method.is_safe() => {
                    return Err(bad(format!(
                        "conditional writes are not supported: leave out {name}"
                    )));
                }
                None => {}
            }
        }
        Ok(wishes)
    }

    /// How long the request may take; `default` is the level if it names none.
    pub(super) fn timeout(&self, default: Level) -> Duration {
        self.timeout
            .unwrap_or_else(|| match self.level.unwrap_or(default) {
                Level::One | Level::LocalQuorum | Level::UnsafeOne => TIMEOUT_NEAR,
                Level::EachQuorum | Level::All => TIMEOUT_FAR,
            })
    }
}

/// A write must not happen when its condition is not looked at.
fn is_condition(name: &HeaderName) -> bool {
    *name == header::IF_MATCH
        || *name == header::IF_NONE_MATCH
        || *name == header::IF_UNMODIFIED_SINCE
        || *name == header::IF_MODIFIED_SINCE
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
    let number = |digits: &str| -> Option<u64> {
        let all = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        all.then(|| digits.parse().ok()).flatten()
    };
    let wished = if let Some(digits) = text.strip_suffix("ms") {
        number(digits).map(Duration::from_millis)
    } else {
        let digits = text.strip_suffix('s');
        digits.and_then(number).map(Duration::from_secs)
    };
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

    #[test]
    fn timeouts_are_milliseconds_or_seconds() {
        for (text, ms) in [("1500ms", 1500), ("2s", 2000), ("1ms", 1), ("60s", 60_000)] {
            let wished = wishes(&[("sterna-timeout", text)]).unwrap();
            assert_eq!(wished.timeout(Level::All), Duration::from_millis(ms));
        }
        for text in [
            "", "2", "s", "ms", "0s", "61s", "-1s", "+1s", "1.5s", "2 s", "2S",
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
        let twice = [("sterna-timeout", "1s"), ("sterna-timeout", "2s")];
        assert_eq!(wishes(&twice), Err(Code::BadHeader));
        assert_eq!(wishes(&[("if-match", "\"x\"")]), Err(Code::BadHeader));
        let quorum = [("sterna-consistency", "quorum")];
        assert_eq!(wishes(&quorum), Err(Code::BadLevel));
    }
}
