//! Reading Avro's primitive values from a slice, with every bound checked.

use crate::model::reject::{Reject, RejectReason};

/// How many items of arrays and maps one payload may have beyond its length in bytes. Items of zero
/// bytes (nulls, empty records) would otherwise let ten bytes ask for 2^62 rounds.
pub(crate) const MAX_EMPTY_ITEMS: usize = 65_536;

/// The rest of a payload.
#[derive(Clone, Copy)]
pub(crate) struct Cursor<'a> {
    rest: &'a [u8],
    items_left: usize,
}

/// The bytes are not what the schema says. Without content, so that results stay in registers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Malformed;

impl From<Malformed> for Reject {
    #[cold]
    fn from(_: Malformed) -> Reject {
        Reject::whole(RejectReason::MalformedAvro)
    }
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(payload: &'a [u8]) -> Cursor<'a> {
        Cursor { rest: payload, items_left: payload.len() + MAX_EMPTY_ITEMS }
    }

    /// An error unless everything has been read.
    pub(crate) fn finish(&self) -> Result<(), Malformed> {
        if self.rest.is_empty() { Ok(()) } else { Err(Malformed) }
    }

    /// What has not been read.
    #[inline]
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    #[inline]
    pub(crate) fn byte(&mut self) -> Result<u8, Malformed> {
        let (first, rest) = self.rest.split_first().ok_or(Malformed)?;
        self.rest = rest;
        Ok(*first)
    }

    #[inline]
    pub(crate) fn take(&mut self, n: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.rest.split_at_checked(n).ok_or(Malformed)?;
        self.rest = rest;
        Ok(taken)
    }

    #[inline]
    pub(crate) fn long(&mut self) -> Result<i64, Malformed> {
        // Lengths, branches and small numbers are one byte: that is most of a record.
        if let Some((&first, rest)) = self.rest.split_first()
            && first < 0x80
        {
            self.rest = rest;
            return Ok(i64::from(first >> 1) ^ -i64::from(first & 1));
        }
        self.long_slow()
    }

    fn long_slow(&mut self) -> Result<i64, Malformed> {
        // Times and money are two to eight bytes.
        if let Some((number, length)) = self.word().varint() {
            self.advance(length);
            return Ok(number);
        }
        let mut raw = 0u64;
        for (i, &byte) in self.rest.iter().take(10).enumerate() {
            let bits = u64::from(byte & 0x7f);
            // The tenth byte has room for one bit only.
            if i == 9 && bits > 1 {
                return Err(Malformed);
            }
            raw |= bits << (7 * i);
            if byte < 0x80 {
                self.rest = &self.rest[i + 1..];
                return Ok((raw >> 1) as i64 ^ -((raw & 1) as i64));
            }
        }
        Err(Malformed)
    }

    pub(crate) fn int(&mut self) -> Result<i32, Malformed> {
        i32::try_from(self.long()?).map_err(|_| Malformed)
    }

    #[inline]
    pub(crate) fn boolean(&mut self) -> Result<bool, Malformed> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Malformed),
        }
    }

    pub(crate) fn float(&mut self) -> Result<f32, Malformed> {
        let bytes = self.take(4)?.first_chunk::<4>().ok_or(Malformed)?;
        Ok(f32::from_le_bytes(*bytes))
    }

    pub(crate) fn double(&mut self) -> Result<f64, Malformed> {
        let bytes = self.take(8)?.first_chunk::<8>().ok_or(Malformed)?;
        Ok(f64::from_le_bytes(*bytes))
    }

    /// Length and bytes of a `bytes` or `string`.
    #[inline]
    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let length = usize::try_from(self.long()?).map_err(|_| Malformed)?;
        self.take(length)
    }

    /// Index of a branch or symbol among `n`.
    #[inline]
    pub(crate) fn index(&mut self, n: usize) -> Result<usize, Malformed> {
        match usize::try_from(self.long()?) {
            Ok(index) if index < n => Ok(index),
            _ => Err(Malformed),
        }
    }

    /// The next eight bytes.
    #[inline]
    pub(crate) fn word(&self) -> Word {
        match self.rest.first_chunk::<8>() {
            Some(bytes) => Word(u64::from_le_bytes(*bytes)),
            None => Word::last(self.rest),
        }
    }

    /// How many bytes a map of texts takes if it is as it usually is: in one block, and with lengths of
    /// one byte each.
    pub(crate) fn short_texts(&self) -> Option<usize> {
        // Of items, twice; so many texts there are.
        let count = *self.rest.first()?;
        if count & 0x81 != 0 {
            return None;
        }
        let mut end = 1;
        if count == 0 {
            return Some(end);
        }
        for _ in 0..count {
            let length = *self.rest.get(end)?;
            if length & 0x81 != 0 {
                return None;
            }
            end += 1 + usize::from(length >> 1);
        }
        let is_last = *self.rest.get(end)? == 0;
        is_last.then_some(end + 1)
    }

    /// Moves over `n` bytes that have been looked at.
    #[inline]
    pub(crate) fn advance(&mut self, n: usize) {
        self.rest = &self.rest[n..];
    }

    /// Calls `item` for every item of an array or map. A block that states its size in bytes must
    /// have just that size.
    pub(crate) fn blocks<E: From<Malformed>>(
        &mut self,
        mut item: impl FnMut(&mut Cursor<'a>) -> Result<(), E>,
    ) -> Result<(), E> {
        loop {
            let count = self.long()?;
            if count == 0 {
                return Ok(());
            }
            let sized = if count < 0 { Some(self.block_size()?) } else { None };
            let before = self.rest.len();
            let items = usize::try_from(count.unsigned_abs()).map_err(|_| Malformed)?;
            self.items_left = self.items_left.checked_sub(items).ok_or(Malformed)?;
            for _ in 0..items {
                item(self)?;
            }
            if sized.is_some_and(|size| before - self.rest.len() != size) {
                return Err(Malformed.into());
            }
        }
    }

    fn block_size(&mut self) -> Result<usize, Malformed> {
        let size = usize::try_from(self.long()?).map_err(|_| Malformed)?;
        if size > self.rest.len() { Err(Malformed) } else { Ok(size) }
    }
}

/// Eight bytes, the first of them the lowest, to be looked at together. Behind the end of what is read
/// they are such that nothing there is as usual.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Word(u64);

impl Word {
    /// Of fewer bytes.
    #[cold]
    fn last(rest: &[u8]) -> Word {
        let mut bytes = [0xff; 8];
        bytes[..rest.len()].copy_from_slice(rest);
        Word(u64::from_le_bytes(bytes))
    }

    /// How many zero bytes it begins with.
    #[inline]
    pub(crate) fn absent(self) -> usize {
        (self.0.trailing_zeros() / 8) as usize
    }

    /// True if it begins with a text that has a length of one byte.
    #[inline]
    pub(crate) fn is_short_text(self) -> bool {
        // Neither longer nor negative.
        self.0 & 0x81 == 0
    }

    /// Where that text ends.
    #[inline]
    pub(crate) fn text_end(self) -> usize {
        1 + (self.0 as usize >> 1 & 0x3f)
    }

    /// True if it begins with such a text as the second branch of a union.
    #[inline]
    pub(crate) fn is_short_opt_text(self) -> bool {
        self.0 & 0x81ff == 2
    }

    /// Where that text ends.
    #[inline]
    pub(crate) fn opt_text_end(self) -> usize {
        2 + (self.0 as usize >> 9 & 0x3f)
    }

    /// The number that it begins with and its bytes, if these are so few that it is a 32-bit one.
    #[inline]
    pub(crate) fn short_int(self) -> Option<(i64, usize)> {
        self.varint().filter(|(_, length)| *length <= 4)
    }

    /// The number that it begins with as the second branch of a union, and of how many bytes that is.
    #[inline]
    pub(crate) fn opt_varint(self) -> Option<(i64, usize)> {
        if self.0 & 0xff != 2 {
            return None;
        }
        // What comes behind is not known.
        Word(self.0 >> 8 | 0xff << 56).varint()
    }

    /// The number that it begins with, and of how many bytes that is.
    #[inline]
    pub(crate) fn varint(self) -> Option<(i64, usize)> {
        let last = !self.0 & 0x8080_8080_8080_8080;
        if last == 0 {
            return None;
        }
        // The sevens of bits of all bytes move together.
        let bits = self.0 & (last ^ (last - 1)) & 0x7f7f_7f7f_7f7f_7f7f;
        let bits = (bits & 0x007f_007f_007f_007f) | (bits & 0x7f00_7f00_7f00_7f00) >> 1;
        let bits = (bits & 0x0000_3fff_0000_3fff) | (bits & 0x3fff_0000_3fff_0000) >> 2;
        let raw = (bits & 0x0fff_ffff) | (bits & 0x0fff_ffff_0000_0000) >> 4;
        Some(((raw >> 1) as i64 ^ -((raw & 1) as i64), last.trailing_zeros() as usize / 8 + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn longs() {
        let check = |bytes: &[u8], expected: Option<i64>| {
            assert_eq!(Cursor::new(bytes).long().ok(), expected, "{bytes:?}");
        };
        check(&[0], Some(0));
        check(&[1], Some(-1));
        check(&[0x7e], Some(63));
        check(&[0x80, 0x01], Some(64));
        check(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1], Some(i64::MIN));
        check(&[0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1], Some(i64::MAX));
        check(&[0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2], None);
        check(&[0x80; 11], None);
        check(&[0x80], None);
        check(&[], None);
        // All lengths, with something behind them and with nothing.
        for bits in 0..64 {
            for number in [1 << bits, (1_i64 << bits).wrapping_sub(1), -1 << bits] {
                let mut bytes = Vec::new();
                super::super::write::long(number, &mut bytes);
                check(&bytes, Some(number));
                let length = bytes.len();
                bytes.extend([0xff; 8]);
                let mut cursor = Cursor::new(&bytes);
                assert_eq!(cursor.long(), Ok(number), "{number}");
                assert_eq!(cursor.rest().len(), bytes.len() - length, "{number}");
            }
        }
    }

    #[test]
    fn empty_items_are_bounded() {
        // One block of 2^62 nulls, then nothing.
        let mut bytes = Vec::new();
        super::super::write::long(1 << 62, &mut bytes);
        assert!(Cursor::new(&bytes).blocks(|_| Ok::<(), Malformed>(())).is_err());
        // A block whose stated size is wrong.
        let mut bytes = Vec::new();
        for part in [-1, 2, 0, 0] {
            super::super::write::long(part, &mut bytes);
        }
        assert!(Cursor::new(&bytes).blocks(|c| c.long().map(drop)).is_err());
    }

    #[test]
    fn maps_of_short_texts() {
        let check = |bytes: &[u8], expected: Option<usize>| {
            assert_eq!(Cursor::new(bytes).short_texts(), expected, "{bytes:?}");
        };
        check(b"", None);
        check(b"\0", Some(1));
        check(b"\0\x07", Some(1));
        check(b"\x02\x02a\x04bc\0\x07", Some(7));
        check(b"\x04\x02a\x04bc\0\x02d\0", Some(10));
        // Cut short; in two blocks; in a block that states its size; with a long text.
        check(b"\x02\x02a\x04bc", None);
        check(b"\x02\x02a\x04bc\x02\x02d\x02e\0", None);
        check(b"\x01\x0a\x02a\x04bc\0", None);
        check(&[&b"\x02\x02a\x80\x01"[..], &[b'x'; 64], b"\0"].concat(), None);
    }

    #[test]
    fn words_are_as_their_values() {
        let word = |bytes: &[u8]| Cursor::new(bytes).word();
        assert_eq!(word(b"").absent(), 0);
        assert_eq!(word(b"\0\0\x02").absent(), 2);
        assert_eq!(word(&[0; 9]).absent(), 8);
        assert!(word(b"\x04ab").is_short_text() && word(b"\x04ab").text_end() == 3);
        assert!(word(b"\x7e").is_short_text() && word(b"\x7e").text_end() == 64);
        assert!(!word(b"\x80\x01").is_short_text() && !word(b"\x03").is_short_text());
        assert!(word(b"\x02\x04ab").is_short_opt_text());
        assert_eq!(word(b"\x02\x04ab").opt_text_end(), 4);
        for other in [&b"\x02"[..], b"\0\x04ab", b"\x04\x04ab", b"\x02\x03", b"\x02\x80\x01"] {
            assert!(!word(other).is_short_opt_text(), "{other:?}");
        }
        // A number may not end where the word does not reach.
        assert_eq!(word(&[2, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 1]).opt_varint(), None);
        assert_eq!(word(&[2, 0x80, 1]).opt_varint(), Some((64, 2)));
        assert_eq!(word(&[0, 0x80, 1]).opt_varint(), None);
        assert_eq!(word(&[0xff, 0xff, 0xff, 0x7f]).short_int(), Some((-(1 << 27), 4)));
        assert_eq!(word(&[0x80, 0x80, 0x80, 0x80, 1]).short_int(), None);
    }
}
