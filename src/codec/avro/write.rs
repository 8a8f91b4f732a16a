//! Writing Avro's primitive values.

use compact_str::CompactString;
use std::collections::BTreeMap;

pub(crate) fn long(value: i64, out: &mut Vec<u8>) {
    let mut raw = ((value << 1) ^ (value >> 63)) as u64;
    while raw >= 0x80 {
        out.push(raw as u8 | 0x80);
        raw >>= 7;
    }
    out.push(raw as u8);
}

pub(crate) fn bytes(value: &[u8], out: &mut Vec<u8>) {
    // A slice is never longer than i64::MAX.
    long(value.len() as i64, out);
    out.extend_from_slice(value);
}

/// What can be written as a field of one of our records; the schema files fix the types.
pub(crate) trait AvroWrite {
    fn avro(&self, out: &mut Vec<u8>);
}

impl AvroWrite for bool {
    fn avro(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }
}

impl AvroWrite for i32 {
    fn avro(&self, out: &mut Vec<u8>) {
        long(i64::from(*self), out);
    }
}

impl AvroWrite for u32 {
    fn avro(&self, out: &mut Vec<u8>) {
        long(i64::from(*self), out);
    }
}

impl AvroWrite for i64 {
    fn avro(&self, out: &mut Vec<u8>) {
        long(*self, out);
    }
}

/// Sums of money are `long` in the schemas: beyond ±2^63 minor units they saturate.
impl AvroWrite for i128 {
    fn avro(&self, out: &mut Vec<u8>) {
        let nearest = if *self < 0 { i64::MIN } else { i64::MAX };
        long(i64::try_from(*self).unwrap_or(nearest), out);
    }
}

impl AvroWrite for f64 {
    fn avro(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.to_le_bytes());
    }
}

impl AvroWrite for str {
    fn avro(&self, out: &mut Vec<u8>) {
        bytes(self.as_bytes(), out);
    }
}

impl AvroWrite for String {
    fn avro(&self, out: &mut Vec<u8>) {
        self.as_str().avro(out);
    }
}

impl AvroWrite for CompactString {
    fn avro(&self, out: &mut Vec<u8>) {
        self.as_str().avro(out);
    }
}

impl AvroWrite for crate::model::time::EventTime {
    fn avro(&self, out: &mut Vec<u8>) {
        long(self.as_ms(), out);
    }
}

/// Null is the first branch in every schema of ours.
impl<T: AvroWrite> AvroWrite for Option<T> {
    fn avro(&self, out: &mut Vec<u8>) {
        match self {
            None => out.push(0),
            Some(value) => {
                out.push(2);
                value.avro(out);
            }
        }
    }
}

impl<T: AvroWrite> AvroWrite for Vec<T> {
    fn avro(&self, out: &mut Vec<u8>) {
        if !self.is_empty() {
            long(self.len() as i64, out);
            for item in self {
                item.avro(out);
            }
        }
        out.push(0);
    }
}

impl<T: AvroWrite> AvroWrite for BTreeMap<CompactString, T> {
    fn avro(&self, out: &mut Vec<u8>) {
        if !self.is_empty() {
            long(self.len() as i64, out);
            for (key, value) in self {
                key.avro(out);
                value.avro(out);
            }
        }
        out.push(0);
    }
}
