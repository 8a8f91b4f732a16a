//! Numbers of the log that must not be mistaken for one another, and hashes as names.

use compact_str::CompactString;
use serde::{Deserialize, Serialize};
use std::fmt;

const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// A hash in hexadecimal, 32 digits.
///
/// ```
/// assert_eq!(touchline::model::ids::hex(0xf0), "000000000000000000000000000000f0");
/// ```
pub fn hex(hash: u128) -> CompactString {
    let mut digits = [0; 32];
    for (pair, byte) in digits.chunks_exact_mut(2).zip(hash.to_be_bytes()) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 0xF)];
    }
    CompactString::from_utf8(digits).expect("digits are ASCII")
}

/// Number of a partition of a topic.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PartitionId(i32);

/// Place of one record in its partition.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Offset(i64);

/// First offset that is not done yet: the only thing that can be committed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NextOffset(i64);

impl PartitionId {
    /// Makes a partition id from Kafka's number.
    pub const fn new(number: i32) -> PartitionId {
        PartitionId(number)
    }

    /// Kafka's number.
    pub const fn get(self) -> i32 {
        self.0
    }
}

impl Offset {
    /// Makes an offset from Kafka's number.
    pub const fn new(number: i64) -> Offset {
        Offset(number)
    }

    /// Kafka's number.
    pub const fn get(self) -> i64 {
        self.0
    }

    /// The offset after this one: the only place where one is added.
    pub const fn next(self) -> NextOffset {
        NextOffset(self.0 + 1)
    }
}

impl NextOffset {
    /// Makes a next offset from Kafka's number.
    pub const fn new(number: i64) -> NextOffset {
        NextOffset(number)
    }

    /// Kafka's number.
    pub const fn get(self) -> i64 {
        self.0
    }
}

macro_rules! display_number {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    )*};
}
display_number!(PartitionId, Offset, NextOffset);
