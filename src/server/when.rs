//! Spans and times as clients write and read them: `90s`, and RFC 3339 in UTC. It reads no clock.

use std::fmt;
use std::time::Duration;

use crate::model::Wall;

const DAY_SECONDS: u64 = 86_400;

/// A span of whole milliseconds, seconds, minutes, hours or days, such as `500ms` or `7d`; nothing if it is none.
pub(super) fn span(text: &str) -> Option<Duration> {
    let end = text.bytes().position(|byte| !byte.is_ascii_digit())?;
    let (digits, unit) = text.split_at_checked(end)?;
    let number: u64 = digits.parse().ok()?;
    let seconds = match unit {
        "ms" => return Some(Duration::from_millis(number)),
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => DAY_SECONDS,
        _ => return None,
    };
    number.checked_mul(seconds).map(Duration::from_secs)
}

/// A time as RFC 3339 in UTC with milliseconds, such as `2026-11-23T06:38:27.042Z`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Utc(pub(super) Wall);

impl fmt::Display for Utc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.0 / 1000;
        let (seconds, millis) = (millis / 1000, millis % 1000);
        let (year, month, day) = date(seconds / DAY_SECONDS);
        let of_day = seconds % DAY_SECONDS;
        let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z"
        )
    }
}

/// Year, month and day of a number of days since 1970. Years are counted from March, so that the leap day comes
/// last, in eras of 400 years, which are all alike (Hinnant, "chrono-Compatible Low-Level Date Algorithms").
fn date(days: u64) -> (u64, u64, u64) {
    const ERA_DAYS: u64 = 146_097;
    let days = days + 719_468;
    let (era, day_of_era) = (days / ERA_DAYS, days % ERA_DAYS);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 {
        from_march + 3
    } else {
        from_march - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_have_a_unit() {
        for (text, millis) in [
            ("0ms", 0),
            ("500ms", 500),
            ("2s", 2_000),
            ("3m", 180_000),
            ("4h", 14_400_000),
            ("3650d", 315_360_000_000),
        ] {
            assert_eq!(span(text), Some(Duration::from_millis(millis)), "{text}");
        }
        for text in [
            "",
            "s",
            "5",
            "-1s",
            "+1s",
            "1.5s",
            "1 s",
            "1S",
            "1w",
            "é1s",
            "99999999999999999999s",
            "18446744073709551615d",
        ] {
            assert_eq!(span(text), None, "{text}");
        }
    }

    #[test]
    fn times_are_told_by_the_calendar() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00.007Z"),
            (951_782_400, "2000-02-29T00:00:00.007Z"),
            (1_709_251_199, "2024-02-29T23:59:59.007Z"),
            (1_709_251_200, "2024-03-01T00:00:00.007Z"),
            (4_107_542_400, "2100-03-01T00:00:00.007Z"),
            (1_764_000_000, "2025-11-24T16:00:00.007Z"),
        ] {
            let wall = Wall(seconds * 1_000_000 + 7_999);
            assert_eq!(Utc(wall).to_string(), text);
        }
        // No time, however far, is a panic.
        assert!(Utc(Wall(u64::MAX)).to_string().ends_with('Z'));
    }
}
