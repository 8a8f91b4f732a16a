//! What stands in a changelog topic: framed values of state entries, and the checkpoint record.
//!
//! | bytes | what |
//! | --- | --- |
//! | 1 | `0xC7` |
//! | 1 | version of the format |
//! | 1 | flags: bit 0 the payload is compressed (zstd), bit 1 it is a checkpoint record |
//! | 4 | crc32c of all other bytes, little endian |
//! | 4 | only if compressed: length of the payload before, little endian |
//! | rest | the payload |
//!
//! The payload of an entry is its value, opaque here; that of a checkpoint record is [`Checkpoint`] in
//! postcard; that of the identity record is a text. A tombstone is Kafka's own (no value at all) and
//! has no frame.
//! Deliberately absent: what entries mean (`engine::state` and the folds) and where they go.

use crate::model::ids::NextOffset;
use crate::model::time::EventTime;
use compact_str::CompactString;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::fmt;

/// Key of the checkpoint record: no key of an entry starts with 0.
pub const CHECKPOINT_KEY: &[u8] = &[0];
/// Key of the identity record, which goes with the first checkpoint: a changelog that was deleted and
/// created anew has none, or another one.
pub const IDENTITY_KEY: &[u8] = &[0, 1];
/// Version of the frame and of [`Checkpoint`].
pub const FORMAT_VERSION: u8 = 1;

const MAGIC: u8 = 0xc7;
const COMPRESSED: u8 = 1;
const CHECKPOINT: u8 = 2;
const HEAD_BYTES: usize = 7;
/// Smaller payloads are left to the producer, which compresses many of them at once.
const COMPRESS_FROM: usize = 4_096;
/// Level 1: entries are small, and the fold's thread pays.
const LEVEL: i32 = 1;
/// No entry comes near this; a length beyond it is damage.
const PAYLOAD_MAX: usize = 256 << 20;

/// Why a value of a changelog cannot be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CheckpointError {
    /// Too short, or nothing of ours.
    #[error("not a state record: check that nothing else writes to the changelog topic")]
    NotOurs,
    /// Written by another version.
    #[error("state record of format version {0}, this program reads {FORMAT_VERSION}")]
    Version(u8),
    /// The checksum is not that of the bytes.
    #[error("state record with a wrong checksum: the changelog topic is damaged")]
    Checksum,
    /// The checksum is right, and yet it cannot be read.
    #[error("state record that cannot be decoded")]
    Malformed,
}

/// Everything that recovery needs beside the entries.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Checkpoint {
    /// K: the first offset to fold again.
    pub next: NextOffset,
    /// The fold's clock.
    pub clock: Option<EventTime>,
    /// The fold's watermark.
    pub watermark: Option<EventTime>,
    /// Number of the last flush (`journey`); 0 for others.
    pub flush: u64,
    /// Number of the last side input applied; 0 if there was none.
    pub side_input: u64,
    /// Number of this checkpoint, from 1.
    pub number: u64,
    /// Generation of the state: changes with every reset.
    pub generation: u64,
    /// Identity of the changelog, as its identity record says.
    pub changelog: CompactString,
    /// Version of the fold that made the state.
    pub fold_version: u32,
    /// Fingerprint of the configuration that the state was made under.
    pub fingerprint: u128,
    /// Partitions of the input topic.
    pub input_partitions: i32,
}

/// Writes frames; keeps what compression needs from one to the next.
pub struct Framer {
    compressor: zstd::bulk::Compressor<'static>,
    scratch: Vec<u8>,
}

/// Reads frames; keeps what decompression needs from one to the next.
pub struct Unframer {
    decompressor: zstd::bulk::Decompressor<'static>,
}

impl fmt::Debug for Framer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Framer").finish_non_exhaustive()
    }
}

impl fmt::Debug for Unframer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unframer").finish_non_exhaustive()
    }
}

impl Default for Framer {
    fn default() -> Framer {
        let compressor = zstd::bulk::Compressor::new(LEVEL);
        Framer { compressor: compressor.expect("level 1 exists"), scratch: Vec::new() }
    }
}

impl Default for Unframer {
    fn default() -> Unframer {
        let decompressor = zstd::bulk::Decompressor::new();
        Unframer { decompressor: decompressor.expect("no dictionary, no failure") }
    }
}

impl Framer {
    /// Appends the frame of an entry's value to `out`.
    pub fn entry(&mut self, value: &[u8], out: &mut Vec<u8>) {
        self.frame(0, value, out);
    }

    /// Appends the frame of a checkpoint record to `out`.
    pub fn checkpoint(&mut self, checkpoint: &Checkpoint, out: &mut Vec<u8>) {
        let payload = postcard::to_stdvec(checkpoint).expect("it has no length that is unknown");
        self.frame(CHECKPOINT, &payload, out);
    }

    fn frame(&mut self, flags: u8, payload: &[u8], out: &mut Vec<u8>) {
        let start = out.len();
        let compressed = self.compress(payload);
        let flags = flags | if compressed { COMPRESSED } else { 0 };
        out.extend_from_slice(&[MAGIC, FORMAT_VERSION, flags, 0, 0, 0, 0]);
        if compressed {
            let length = u32::try_from(payload.len()).expect("payloads have a bound");
            out.extend_from_slice(&length.to_le_bytes());
            out.extend_from_slice(&self.scratch);
        } else {
            out.extend_from_slice(payload);
        }
        let sum = checksum(&out[start..]);
        out[start + 3..start + HEAD_BYTES].copy_from_slice(&sum.to_le_bytes());
    }

    /// True if `scratch` holds a smaller form of `payload`.
    fn compress(&mut self, payload: &[u8]) -> bool {
        if payload.len() < COMPRESS_FROM || payload.len() > PAYLOAD_MAX {
            return false;
        }
        self.scratch.clear();
        self.scratch.reserve(payload.len());
        // It fails if there is no room, that is, if it does not get smaller.
        self.compressor
            .compress_to_buffer(payload, &mut self.scratch)
            .is_ok_and(|length| length + 4 < payload.len())
    }
}

impl Unframer {
    /// Reads the value of an entry: a part of the frame, unless that is compressed.
    pub fn entry<'a>(&mut self, bytes: &'a [u8]) -> Result<Cow<'a, [u8]>, CheckpointError> {
        self.unframe(0, bytes)
    }

    /// Reads a checkpoint record.
    pub fn checkpoint(&mut self, bytes: &[u8]) -> Result<Checkpoint, CheckpointError> {
        let payload = self.unframe(CHECKPOINT, bytes)?;
        match postcard::take_from_bytes(&payload) {
            Ok((checkpoint, [])) => Ok(checkpoint),
            _ => Err(CheckpointError::Malformed),
        }
    }

    fn unframe<'a>(&mut self, kind: u8, bytes: &'a [u8]) -> Result<Cow<'a, [u8]>, CheckpointError> {
        let (head, body) = bytes.split_at_checked(HEAD_BYTES).ok_or(CheckpointError::NotOurs)?;
        let [MAGIC, version, flags, sum @ ..] = head else {
            return Err(CheckpointError::NotOurs);
        };
        if *version != FORMAT_VERSION {
            return Err(CheckpointError::Version(*version));
        }
        if checksum(bytes).to_le_bytes() != *sum {
            return Err(CheckpointError::Checksum);
        }
        if flags & !COMPRESSED != kind {
            return Err(CheckpointError::Malformed);
        }
        if flags & COMPRESSED == 0 {
            return Ok(Cow::Borrowed(body));
        }
        let (length, body) = body.split_first_chunk::<4>().ok_or(CheckpointError::Malformed)?;
        let length = u32::from_le_bytes(*length) as usize;
        if length > PAYLOAD_MAX {
            return Err(CheckpointError::Malformed);
        }
        match self.decompressor.decompress(body, length) {
            Ok(payload) if payload.len() == length => Ok(Cow::Owned(payload)),
            _ => Err(CheckpointError::Malformed),
        }
    }
}

/// The checksum of a frame: everything but the checksum itself.
fn checksum(frame: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&frame[..3]), &frame[HEAD_BYTES..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample() -> Checkpoint {
        Checkpoint {
            next: NextOffset::new(77),
            clock: Some(EventTime::from_ms(-5)),
            watermark: None,
            flush: 9,
            side_input: 2,
            number: 3,
            generation: u64::MAX,
            changelog: "GqvXbVYtQbCbFsHpNEAr2Q".into(),
            fold_version: 1,
            fingerprint: u128::MAX - 1,
            input_partitions: 16,
        }
    }

    #[test]
    fn a_checkpoint_reads_back_and_is_no_entry() {
        let mut bytes = b"before".to_vec();
        Framer::default().checkpoint(&sample(), &mut bytes);
        let mut reader = Unframer::default();
        assert_eq!(reader.checkpoint(&bytes[6..]), Ok(sample()));
        assert_eq!(reader.entry(&bytes[6..]), Err(CheckpointError::Malformed));
        bytes.clear();
        Framer::default().entry(b"value", &mut bytes);
        assert_eq!(bytes.len(), HEAD_BYTES + 5);
        assert_eq!(reader.checkpoint(&bytes), Err(CheckpointError::Malformed));
        bytes[1] = 9;
        assert_eq!(reader.entry(&bytes), Err(CheckpointError::Version(9)));
        assert_eq!(reader.entry(b"touchline"), Err(CheckpointError::NotOurs));
    }

    #[test]
    fn what_gets_smaller_is_compressed() {
        let (mut framer, mut reader) = (Framer::default(), Unframer::default());
        let mut check = |value: &[u8], compressed: bool| {
            let mut bytes = Vec::new();
            framer.entry(value, &mut bytes);
            assert_eq!(bytes[2] & COMPRESSED != 0, compressed, "{} bytes", value.len());
            assert!(bytes.len() <= HEAD_BYTES + value.len());
            assert_eq!(reader.entry(&bytes), Ok(Cow::Borrowed(value)));
        };
        check(&[7; COMPRESS_FROM - 1], false);
        check(&[7; COMPRESS_FROM], true);
        check(&[7; 1 << 20], true);
        let mut state = 1_u64;
        let noise: Vec<u8> = (0..2_000)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state as u8
            })
            .collect();
        check(&noise, false);
    }

    proptest! {
        #[test]
        fn damage_is_refused(
            value in prop_oneof![
                proptest::collection::vec(any::<u8>(), 0..300),
                proptest::collection::vec(0_u8..3, 0..3_000),
            ],
            at in any::<prop::sample::Index>(),
            flip in 1_u8..=255,
        ) {
            let mut good = Vec::new();
            Framer::default().entry(&value, &mut good);
            let mut reader = Unframer::default();
            prop_assert_eq!(reader.entry(&good), Ok(Cow::Borrowed(&value[..])));
            let at = at.index(good.len());
            prop_assert!(reader.entry(&good[..at]).is_err(), "cut at {}", at);
            let mut bad = good.clone();
            bad[at] ^= flip;
            prop_assert!(reader.entry(&bad).is_err(), "byte {}", at);
            good.push(flip);
            prop_assert!(reader.entry(&good).is_err(), "longer");
        }
    }
}
