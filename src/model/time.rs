//! Times, lengths of time and slices as distinct types.
//!
//! Event time and processing time never convert into each other; their differences are [`Millis`].
//! Slices and windows are half-open and found by one floor function on the Euclidean remainder, so
//! that times before 1970 fall right, too.

use serde::{Deserialize, Serialize};
use std::fmt;

/// When something happened, by the producer: milliseconds since the epoch.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EventTime(i64);

/// When a machine of ours (or a broker) saw something: milliseconds since the epoch.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ProcessingTime(i64);

/// A length of time in milliseconds, the only duration in the core.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Millis(i64);

impl EventTime {
    /// The earliest time that can be said.
    pub const MIN: EventTime = EventTime(i64::MIN / 4);
    /// Later than every time that can occur.
    pub const MAX: EventTime = EventTime(i64::MAX / 4);

    /// Makes an event time from milliseconds since the epoch.
    pub const fn from_ms(ms: i64) -> EventTime {
        EventTime(ms)
    }

    /// Milliseconds since the epoch.
    pub const fn as_ms(self) -> i64 {
        self.0
    }

    /// Time from `earlier` to `self`; negative if `earlier` is the later one.
    pub const fn since(self, earlier: EventTime) -> Millis {
        Millis(self.0 - earlier.0)
    }

    /// `self` moved on by `by`.
    pub const fn plus(self, by: Millis) -> EventTime {
        EventTime(self.0.saturating_add(by.0))
    }

    /// `self` moved back by `by`.
    pub const fn minus(self, by: Millis) -> EventTime {
        EventTime(self.0.saturating_sub(by.0))
    }
}

impl ProcessingTime {
    /// Makes a processing time from milliseconds since the epoch.
    pub const fn from_ms(ms: i64) -> ProcessingTime {
        ProcessingTime(ms)
    }

    /// Milliseconds since the epoch.
    pub const fn as_ms(self) -> i64 {
        self.0
    }
}

impl Millis {
    /// No time at all.
    pub const ZERO: Millis = Millis(0);

    /// Makes a length of time from milliseconds.
    pub const fn from_ms(ms: i64) -> Millis {
        Millis(ms)
    }

    /// Makes a length of time from seconds.
    pub const fn from_secs(secs: i64) -> Millis {
        Millis(secs * 1_000)
    }

    /// Makes a length of time from minutes.
    pub const fn from_mins(mins: i64) -> Millis {
        Millis(mins * 60_000)
    }

    /// Makes a length of time from hours.
    pub const fn from_hours(hours: i64) -> Millis {
        Millis(hours * 3_600_000)
    }

    /// The length in milliseconds.
    pub const fn as_ms(self) -> i64 {
        self.0
    }

    /// The length in seconds.
    pub fn as_secs_f64(self) -> f64 {
        self.0 as f64 / 1_000.0
    }
}

impl fmt::Display for EventTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_millisecond(self.0) {
            Ok(at) => write!(f, "{at:.3}"),
            Err(_) => write!(f, "{} ms", self.0),
        }
    }
}

impl fmt::Display for ProcessingTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        EventTime(self.0).fmt(f)
    }
}

impl fmt::Display for Millis {
    /// Writes the length as configuration does: the largest unit that divides it (`90s`, `24h`).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")];
        for (ms, unit) in units {
            // One day is written `24h`: that is how windows are named.
            if self.0 != 0 && self.0 % ms == 0 && !(unit == "d" && self.0 < 2 * ms) {
                return write!(f, "{}{unit}", self.0 / ms);
            }
        }
        write!(f, "{}ms", self.0)
    }
}

/// The number of an aligned slice of event time, counted from the epoch.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Slice(i64);

impl Slice {
    /// Makes a slice from its number.
    pub const fn from_number(number: i64) -> Slice {
        Slice(number)
    }

    /// The slice's number.
    pub const fn number(self) -> i64 {
        self.0
    }

    /// The slice `by` places later.
    pub const fn plus(self, by: i64) -> Slice {
        Slice(self.0 + by)
    }
}

/// How event time is cut into slices: all of one length, aligned to the epoch, half-open.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SliceGrid {
    length_ms: i64,
    /// 2^64 divided by the length: to multiply by it is a fraction of a division.
    inverse: u64,
}

impl SliceGrid {
    /// Makes a grid.
    ///
    /// # Panics
    /// If `length` is not above zero; configuration checks that first.
    pub fn new(length: Millis) -> SliceGrid {
        assert!(length.0 > 0, "a slice needs a length above zero");
        SliceGrid { length_ms: length.0, inverse: u64::MAX / length.0.unsigned_abs() }
    }

    /// Length of one slice.
    pub const fn length(self) -> Millis {
        Millis(self.length_ms)
    }

    /// The slice that `at` falls into: start inclusive, end exclusive.
    ///
    /// ```
    /// use touchline::model::time::{EventTime, Millis, SliceGrid};
    /// let grid = SliceGrid::new(Millis::from_secs(10));
    /// assert_eq!(grid.slice(EventTime::from_ms(9_999)).number(), 0);
    /// assert_eq!(grid.slice(EventTime::from_ms(10_000)).number(), 1);
    /// assert_eq!(grid.slice(EventTime::from_ms(-1)).number(), -1);
    /// ```
    pub const fn slice(self, at: EventTime) -> Slice {
        if at.0 < 0 {
            return Slice(at.0.div_euclid(self.length_ms));
        }
        // The inverse is too small by less than two, and so is the product by less than two slices:
        // what is cut off may be one slice too many, and never more.
        let number = ((at.0 as u128 * self.inverse as u128) >> 64) as i64;
        let is_short = at.0 - number * self.length_ms >= self.length_ms;
        Slice(number + is_short as i64)
    }

    /// First moment of `slice`.
    pub const fn start(self, slice: Slice) -> EventTime {
        EventTime(slice.0 * self.length_ms)
    }

    /// First moment after `slice`.
    pub const fn end(self, slice: Slice) -> EventTime {
        EventTime((slice.0 + 1) * self.length_ms)
    }

    /// How many slices make up `length`.
    pub const fn count(self, length: Millis) -> i64 {
        length.0 / self.length_ms
    }
}

/// The first moment of the window of `length`, aligned to the epoch, that `at` falls into.
pub const fn aligned_start(at: EventTime, length: Millis) -> EventTime {
    EventTime(at.0.div_euclid(length.0) * length.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_written_as_configured() {
        let check = |ms: i64, expected: &str| assert_eq!(Millis(ms).to_string(), expected);
        check(10_000, "10s");
        check(90_000, "90s");
        check(60_000, "1m");
        check(3_600_000, "1h");
        check(86_400_000, "24h");
        check(7 * 86_400_000, "7d");
        check(1_500, "1500ms");
        check(0, "0ms");
    }

    #[test]
    fn slices_are_half_open_on_both_sides_of_the_epoch() {
        let grid = SliceGrid::new(Millis::from_secs(10));
        for number in [-3i64, -1, 0, 5] {
            let slice = Slice(number);
            assert_eq!(grid.slice(grid.start(slice)), slice);
            assert_eq!(grid.slice(grid.end(slice).minus(Millis(1))), slice);
            assert_eq!(grid.slice(grid.end(slice)), slice.plus(1));
        }
        assert_eq!(aligned_start(EventTime(-1), Millis(60_000)), EventTime(-60_000));
    }

    #[test]
    fn slices_are_as_by_division() {
        let lengths = [1, 2, 3, 7, 1_000, 10_000, 86_400_000, i64::MAX / 2, i64::MAX];
        for length in lengths {
            let grid = SliceGrid::new(Millis(length));
            let check = |at: i64| {
                let expected = Slice(at.div_euclid(length));
                assert_eq!(grid.slice(EventTime(at)), expected, "{at} by {length}");
            };
            for near in [0, 1_767_225_600_000, EventTime::MAX.as_ms(), i64::MAX / 3, i64::MAX] {
                // Around the bound of a slice, and where rounding would show.
                let bound = near - near % length;
                for at in [near, near - 1, -near, bound, bound.saturating_sub(1), -bound] {
                    check(at);
                }
            }
        }
    }
}
