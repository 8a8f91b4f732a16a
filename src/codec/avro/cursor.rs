//! Reading Avro's primitive values from a slice, with every bound checked.

use crate::model::reject::{Reject, RejectReason};

/// How many items of arrays and maps one payload may have beyond its length in bytes. Items of zero
/// bytes (nulls, empty records) would otherwise let ten bytes ask for 2^62 rounds.
pub(crate) const MAX_EMPTY_ITEMS: usize = 65_536;

/// The rest of a payload.
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
        // Times and money are two to eight bytes: the sevens of bits of all of them move together.
        if let Some(bytes) = self.rest.first_chunk::<8>() {
            let bytes = u64::from_le_bytes(*bytes);
            let last = !bytes & 0x8080_8080_8080_8080;
            if last != 0 {
                let bits = bytes & (last ^ (last - 1)) & 0x7f7f_7f7f_7f7f_7f7f;
                let bits = (bits & 0x007f_007f_007f_007f) | (bits & 0x7f00_7f00_7f00_7f00) >> 1;
                let bits = (bits & 0x0000_3fff_0000_3fff) | (bits & 0x3fff_0000_3fff_0000) >> 2;
                let raw = (bits & 0x0fff_ffff) | (bits & 0x0fff_ffff_0000_0000) >> 4;
                self.rest = &self.rest[last.trailing_zeros() as usize / 8 + 1..];
                return Ok((raw >> 1) as i64 ^ -((raw & 1) as i64));
            }
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

    /// How many of the next eight bytes are zero before one is not.
    #[inline]
    pub(crate) fn zeros(&self) -> usize {
        match self.rest.first_chunk::<8>() {
            Some(bytes) => (u64::from_le_bytes(*bytes).trailing_zeros() / 8) as usize,
            None => usize::from(self.rest.first() == Some(&0)),
        }
    }

    /// Moves over `n` bytes that have been looked at.
    #[inline]
    pub(crate) fn advance(&mut self, n: usize) {
        self.rest = &self.rest[n..];
    }

    /// Calls `item` for every item of an array or map. A block that states its size in bytes must
    /// have just that size.
    pub(crate) fn blocks(
        &mut self,
        mut item: impl FnMut(&mut Cursor<'a>) -> Result<(), Reject>,
    ) -> Result<(), Reject> {
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
        assert!(Cursor::new(&bytes).blocks(|_| Ok(())).is_err());
        // A block whose stated size is wrong.
        let mut bytes = Vec::new();
        for part in [-1, 2, 0, 0] {
            super::super::write::long(part, &mut bytes);
        }
        assert!(Cursor::new(&bytes).blocks(|c| Ok(c.long().map(drop)?)).is_err());
    }
}
