//! Human units: lengths of time, sizes, starting points.

use crate::model::time::{EventTime, Millis};

/// What a length of time looks like, for messages.
pub(super) const DURATION: &str =
    "a whole number and a unit: ms, s, m, h or d, such as `500ms`, `30s`, `5m`, `24h`, `7d`";
/// Longer times are refused, so that sums of some of them cannot overflow.
const LONGEST_MS: i64 = 36_500 * 86_400_000;
/// What a size looks like, for messages.
pub(super) const SIZE: &str =
    "a whole number and a unit: B, KiB, MiB or GiB, such as `512KiB`, `64MiB`";
/// What a starting point looks like, for messages.
pub(super) const START: &str = "`earliest`, `latest` or a time such as `2026-01-31T00:00:00Z`";

/// Where a source is read from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Start {
    /// The oldest record that the topic retains.
    Earliest,
    /// What comes from now on.
    Latest,
    /// The first record whose Kafka timestamp is at or after this time.
    Time(EventTime),
}

fn number_and_unit(text: &str) -> Option<(i64, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    Some((number.parse().ok()?, unit.trim_start_matches(' ')))
}

/// Reads a length of time as configuration writes it, for flags of the command line.
///
/// # Errors
/// What is accepted instead.
pub fn parse_duration(text: &str) -> Result<Millis, String> {
    duration(text).ok_or_else(|| format!("expected {DURATION}"))
}

/// Reads `30s`, `5m`, `24h`, `7d`, `500ms`.
pub(super) fn duration(text: &str) -> Option<Millis> {
    let (number, unit) = number_and_unit(text)?;
    let ms = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    number.checked_mul(ms).filter(|ms| *ms <= LONGEST_MS).map(Millis::from_ms)
}

/// Reads `512KiB`, `64MiB`, `100B`.
pub(super) fn size(text: &str) -> Option<u64> {
    let (number, unit) = number_and_unit(text)?;
    let bytes: i64 = match unit {
        "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    number.checked_mul(bytes).and_then(|n| u64::try_from(n).ok())
}

/// Writes a size in the largest unit that divides it.
pub(super) fn size_text(bytes: u64) -> String {
    for (shift, unit) in [(30, "GiB"), (20, "MiB"), (10, "KiB")] {
        if bytes > 0 && bytes.trailing_zeros() >= shift {
            return format!("{}{unit}", bytes >> shift);
        }
    }
    format!("{bytes}B")
}

/// Reads a starting point.
pub(super) fn start(text: &str) -> Option<Start> {
    match text {
        "earliest" => Some(Start::Earliest),
        "latest" => Some(Start::Latest),
        _ => {
            let at: jiff::Timestamp = text.parse().ok()?;
            Some(Start::Time(EventTime::from_ms(at.as_millisecond())))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time() {
        let check = |text: &str, ms: Option<i64>| {
            assert_eq!(duration(text), ms.map(Millis::from_ms), "{text}");
        };
        check("500ms", Some(500));
        check("30s", Some(30_000));
        check("5m", Some(300_000));
        check("24h", Some(86_400_000));
        check("7d", Some(604_800_000));
        check("7 d", Some(604_800_000));
        check("0s", Some(0));
        check("30", None);
        check("30sec", None);
        check("-5s", None);
        check("s", None);
        check("", None);
        check("36500d", Some(LONGEST_MS));
        check("36501d", None);
        check("99999999999999d", None);
    }

    #[test]
    fn sizes() {
        let check = |text: &str, bytes: Option<u64>| assert_eq!(size(text), bytes, "{text}");
        check("64MiB", Some(64 << 20));
        check("1KiB", Some(1024));
        check("17B", Some(17));
        check("64MB", None);
        check("64", None);
        assert_eq!(size_text(64 << 20), "64MiB");
        assert_eq!(size_text(1025), "1025B");
    }

    #[test]
    fn starting_points() {
        let check = |text: &str, expected: Option<Start>| assert_eq!(start(text), expected);
        check("earliest", Some(Start::Earliest));
        check("1970-01-01T00:00:01Z", Some(Start::Time(EventTime::from_ms(1_000))));
        check("yesterday", None);
        check("2026-01-31", None);
    }
}
