//! How one stored event is packed: flags, time told from the one before, fingerprint, profile, and what
//! else there is.

use super::OwnValue;
use crate::journey::customer::Stored;
use crate::model::time::EventTime;

const HAS_ORIGINAL: u8 = 1;
const HAS_TAG: u8 = 2;
const HAS_VALUE: u8 = 4;
const RANK_SHIFT: u8 = 3;

/// Writes an event; its time is told from `before`.
pub(super) fn write(before: EventTime, event: &Stored, value: OwnValue, out: &mut Vec<u8>) {
    let flag = |is: bool, flag: u8| if is { flag } else { 0 };
    out.push(
        flag(event.original != 0, HAS_ORIGINAL)
            | flag(event.tag != 0, HAS_TAG)
            | flag(value != (0, 0), HAS_VALUE)
            | event.rank << RANK_SHIFT,
    );
    signed(event.time.since(before).as_ms(), out);
    out.extend_from_slice(&event.fingerprint.to_le_bytes());
    number(u64::from(event.profile), out);
    if event.original != 0 {
        signed(i64::from(event.original), out);
    }
    if event.tag != 0 {
        out.extend_from_slice(&event.tag.to_le_bytes());
    }
    if value != (0, 0) {
        number(u64::from(value.0), out);
        signed(value.1, out);
    }
}

pub(super) fn number(mut n: u64, out: &mut Vec<u8>) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

/// Small numbers of either sign are short.
pub(super) fn signed(n: i64, out: &mut Vec<u8>) {
    number(((n << 1) ^ (n >> 63)).cast_unsigned(), out);
}

/// Reads what [`write`] wrote, event by event.
pub(super) struct Reader<'a> {
    /// Time of the event before.
    pub(super) time: EventTime,
    pub(super) bytes: &'a [u8],
}

impl Reader<'_> {
    pub(super) fn new(before: EventTime, bytes: &[u8]) -> Reader<'_> {
        Reader { time: before, bytes }
    }

    #[inline]
    fn byte(&mut self) -> Option<u8> {
        let (byte, rest) = self.bytes.split_first()?;
        self.bytes = rest;
        Some(*byte)
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.bytes.split_first_chunk::<N>()?;
        self.bytes = rest;
        Some(*array)
    }

    #[inline]
    pub(super) fn number(&mut self) -> Option<u64> {
        let first = self.byte()?;
        if first < 0x80 {
            return Some(u64::from(first));
        }
        let (mut n, mut shift) = (u64::from(first & 0x7F), 7);
        loop {
            let byte = self.byte()?;
            n |= u64::from(byte & 0x7F) << shift;
            if byte < 0x80 {
                return Some(n);
            }
            shift += 7;
        }
    }

    #[inline]
    pub(super) fn signed(&mut self) -> Option<i64> {
        let n = self.number()?;
        Some((n >> 1).cast_signed() ^ -(n & 1).cast_signed())
    }
}

impl Iterator for Reader<'_> {
    type Item = (Stored, OwnValue);

    #[inline]
    fn next(&mut self) -> Option<(Stored, OwnValue)> {
        let flags = self.byte()?;
        let time = self.time.as_ms() + self.signed()?;
        self.time = EventTime::from_ms(time);
        let fingerprint = u64::from_le_bytes(self.array()?);
        let profile = self.number()? as u32;
        let original = if flags & HAS_ORIGINAL == 0 { 0 } else { self.signed()? as i32 };
        let tag = if flags & HAS_TAG == 0 { 0 } else { u32::from_le_bytes(self.array()?) };
        let value =
            if flags & HAS_VALUE == 0 { (0, 0) } else { (self.number()? as u32, self.signed()?) };
        let rank = flags >> RANK_SHIFT;
        let time = self.time;
        Some((Stored { time, fingerprint, original, profile, tag, rank }, value))
    }
}
